//! Keys on a token: those that are managed, those that are not, and those that were left to others.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

use crate::clock::Monotonic;
use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::{Call, Permission};
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::fleet::{FleetError, LiveKeystore};
use crate::coordinator::ops::lists::{Page, Paged};
use crate::coordinator::store::{AdoptedId, InstanceRow};
use crate::decide::found::{fits_pattern, found_keys};
use crate::model::adoption::{
    AdoptionRecord, Candidate, EXAMINE_KEYS_MAX, Examined, FoundKey, FoundState, Ignored,
};
use crate::model::finding::KeyFinding;
use crate::model::ids::{KeyId, KeystoreId};
use crate::model::key::{Algorithm, KeySpec};
use crate::model::keystore::KeystoreRecord;
use crate::model::material::{Signed, Statement as _};
use crate::model::observed::{Fingerprint, Observation};

/// Keys are examined no longer than this for one request; what is left is said to be left.
const EXAMINE_WITHIN: Duration = Duration::from_secs(45);

/// Which keys on a token.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoundQuery {
    /// In one of these states.
    pub states: Vec<FoundState>,
    /// Those that fit.
    pub select: Select,
    /// Whether to have the agent take fingerprints of those that are not managed.
    pub fingerprints: bool,
}

/// Some of the keys on a token; all of them where nothing is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Select {
    /// The one with this CKA_ID.
    pub cka_id: Option<Vec<u8>>,
    /// Those whose label fits, `*` for any characters.
    pub label: Option<String>,
    /// Those of this algorithm.
    pub algorithm: Option<Algorithm>,
}

impl Select {
    /// Whether a key on a token is meant.
    #[must_use]
    pub fn fits(&self, key: &FoundKey) -> bool {
        let algorithm = key.spec().ok().map(KeySpec::algorithm);
        self.fits_name(&key.cka_id, &key.label, algorithm)
    }

    /// Whether a key of that name and kind is meant.
    pub(crate) fn fits_name(
        &self,
        cka_id: &[u8],
        label: &str,
        algorithm: Option<Algorithm>,
    ) -> bool {
        let pattern = self.label.as_ref();
        self.cka_id.as_ref().is_none_or(|id| id == cka_id)
            && pattern.is_none_or(|pattern| fits_pattern(label, pattern))
            && self
                .algorithm
                .is_none_or(|wanted| algorithm == Some(wanted))
    }
}

/// A key on a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundView {
    /// Its objects; none: it is ignored and not there.
    pub key: FoundKey,
    /// Whose it is.
    pub state: FoundState,
    /// Its kind, as far as it is known.
    pub spec: Option<KeySpec>,
    /// Its fingerprint, where it was had.
    pub fingerprint: Option<Fingerprint>,
    /// Why it cannot be adopted as it is: a short code and a sentence.
    pub obstacle: Option<(String, String)>,
    /// What is weak about it.
    pub findings: Vec<KeyFinding>,
    /// The managed key and its label.
    pub managed: Option<(KeyId, String)>,
    /// Why it is ignored.
    pub ignored: Option<Ignored>,
}

/// The keys on a token that no intent of ours speaks of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Strangers {
    /// Nobody's.
    pub(crate) unmanaged: Vec<FoundKey>,
    /// Left to others; those that are not on the token too.
    pub(crate) ignored: Vec<(FoundKey, Ignored)>,
    /// Adopted ones of this keystore: its agent may not have scanned since.
    pub(crate) adopted: Vec<AdoptedId>,
}

impl Ops {
    /// Keys on a token, by label and CKA_ID, as last told in the live session.
    ///
    /// # Errors
    /// `NotFound`. An agent that gives no fingerprints is no error: there are none in the view then.
    pub async fn keystore_found(
        &self,
        call: &Call,
        id: KeystoreId,
        query: &FoundQuery,
        page: Page,
    ) -> Result<Paged<FoundView>, OpsError> {
        call.authorise(Permission::Read, None)?;
        let record = self.keystore_record(id).await?;
        let strangers = self.strangers(id, &self.fleet.live_keystore(id)).await?;
        let mut all = views(strangers, query);
        if query.states.contains(&FoundState::Managed) {
            let rows = self.store.keystore_instances(id).await?;
            all.extend(rows.iter().filter_map(|row| self.managed_view(row, query)));
        }
        all.sort_by(|a, b| (&a.key.label, &a.key.cka_id).cmp(&(&b.key.label, &b.key.cka_id)));
        let total = u64::try_from(all.len()).unwrap_or(u64::MAX);
        let offset = usize::try_from(page.offset).unwrap_or(usize::MAX);
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let mut items: Vec<FoundView> = all.into_iter().skip(offset).take(limit).collect();
        for item in &mut items {
            if let Some((key, label)) = &mut item.managed {
                *label = self.key_record(*key).await?.label.to_string();
            }
        }
        if query.fingerprints {
            self.add_fingerprints(&record, &mut items).await?;
        }
        Ok(Paged { total, items })
    }

    /// The keys on a token that no intent of ours speaks of.
    pub(crate) async fn strangers(
        &self,
        id: KeystoreId,
        live: &LiveKeystore,
    ) -> Result<Strangers, OpsError> {
        let mut found = Strangers {
            adopted: self.store.adopted(id).await?,
            ..Strangers::default()
        };
        let name = |cka_id: &[u8], label: &str| (cka_id.to_vec(), label.to_owned());
        let ignored = self.store.ignored(id).await?.into_iter();
        let mut ignored: BTreeMap<_, Ignored> = ignored
            .map(|one| (name(&one.cka_id, &one.label), one))
            .collect();
        let ours: BTreeSet<Vec<u8>> = found.adopted.iter().map(|one| one.cka_id.clone()).collect();
        for key in found_keys(&live.unmanaged) {
            if ours.contains(&key.cka_id) {
                continue;
            }
            match ignored.remove(&name(&key.cka_id, &key.label)) {
                Some(because) => found.ignored.push((key, because)),
                None => found.unmanaged.push(key),
            }
        }
        let gone = |one: Ignored| {
            let key = FoundKey {
                cka_id: one.cka_id.clone(),
                label: one.label.clone(),
                objects: Vec::new(),
            };
            (key, one)
        };
        found.ignored.extend(ignored.into_values().map(gone));
        Ok(found)
    }

    fn managed_view(&self, row: &InstanceRow, query: &FoundQuery) -> Option<FoundView> {
        let intent = &row.instance.intent;
        let report = self.fleet.live(intent.keystore, intent.version).report?;
        let Observation::Present(found) = report.observation else {
            return None;
        };
        let key = FoundKey::of(found.objects)?;
        query.select.fits(&key).then(|| FoundView {
            spec: Some(intent.object.spec),
            state: FoundState::Managed,
            fingerprint: found.fingerprint,
            obstacle: None,
            findings: key.findings(),
            managed: Some((row.key, String::new())),
            ignored: None,
            key,
        })
    }

    async fn add_fingerprints(
        &self,
        record: &KeystoreRecord,
        items: &mut [FoundView],
    ) -> Result<(), OpsError> {
        let salt = self.vault_record(record.vault).await?.salt;
        let mut asked: Vec<(&mut FoundView, Candidate)> = items
            .iter_mut()
            .filter(|item| item.state != FoundState::Managed)
            .filter_map(|item| {
                let candidate = candidate(&item.key)?;
                Some((item, candidate))
            })
            .collect();
        let candidates = asked.iter().map(|(_, candidate)| candidate.clone());
        let candidates: Vec<Candidate> = candidates.collect();
        match self.examine(record, &salt, candidates).await {
            Ok(examined) => {
                for ((item, _), examined) in asked.iter_mut().zip(examined) {
                    match examined {
                        Ok(known) => item.fingerprint = Some(known.body.fingerprint),
                        Err(why) => item.obstacle = Some(("no_fingerprint".to_owned(), why)),
                    }
                }
            }
            // The list is what was last told; that nobody can be asked now is shown by the keystore.
            Err(error) => tracing::info!(%error, keystore = %record.id, "no fingerprints"),
        }
        Ok(())
    }

    /// Has an agent examine keys and checks what it signed; one answer for each, in their order.
    ///
    /// # Errors
    /// Where the agent could not be asked, or says what is not its to say.
    pub(crate) async fn examine(
        &self,
        record: &KeystoreRecord,
        salt: &[u8],
        keys: Vec<Candidate>,
    ) -> Result<Vec<Result<Signed<AdoptionRecord>, String>>, OpsError> {
        let began = Monotonic::now();
        let mut all = Vec::with_capacity(keys.len());
        for batch in keys.chunks(EXAMINE_KEYS_MAX) {
            let left = EXAMINE_WITHIN.saturating_sub(began.elapsed());
            let asked = self.fleet.examine(record.id, salt.to_vec(), batch.to_vec());
            match tokio::time::timeout(left, asked).await {
                Ok(Ok(examined)) => {
                    for (key, examined) in batch.iter().zip(examined) {
                        all.push(said(record, salt, key, examined)?);
                    }
                }
                Ok(Err(error)) => return Err(OpsError::fleet(&record.name, error)),
                Err(_late) if all.is_empty() => {
                    return Err(OpsError::fleet(&record.name, FleetError::Late));
                }
                Err(_late) => break,
            }
        }
        let slow = || Err("the token is slow: ask again for fewer keys".to_owned());
        all.resize_with(keys.len(), slow);
        Ok(all)
    }
}

/// What to ask an agent about a key; none for one that could not be adopted anyway.
pub(crate) fn candidate(key: &FoundKey) -> Option<Candidate> {
    let spec = key.adoptable().ok()?;
    Some(Candidate {
        cka_id: key.cka_id.clone(),
        label: key.label.clone(),
        spec,
    })
}

fn views(strangers: Strangers, query: &FoundQuery) -> Vec<FoundView> {
    let of = |key: FoundKey, state, ignored| FoundView {
        state,
        spec: key.spec().ok(),
        fingerprint: None,
        obstacle: key
            .adoptable()
            .err()
            .filter(|_| !key.objects.is_empty())
            .map(|why| (why.code().to_owned(), why.to_string())),
        findings: key.findings(),
        managed: None,
        ignored,
        key,
    };
    let unmanaged = strangers
        .unmanaged
        .into_iter()
        .map(|key| of(key, FoundState::Unmanaged, None));
    let ignored = strangers
        .ignored
        .into_iter()
        .map(|(key, ignored)| of(key, FoundState::Ignored, Some(ignored)));
    unmanaged
        .chain(ignored)
        .filter(|view| query.states.contains(&view.state) && query.select.fits(&view.key))
        .collect()
}

/// What an agent said of one key, if it is its to say.
fn said(
    keystore: &KeystoreRecord,
    salt: &[u8],
    asked: &Candidate,
    examined: Examined,
) -> Result<Result<Signed<AdoptionRecord>, String>, OpsError> {
    let record = match examined {
        Examined::Known(record) => record,
        Examined::Unknown { why } => return Ok(Err(why)),
    };
    let body = &record.body;
    let is_signed = UnparsedPublicKey::new(&ED25519, &record.signer)
        .verify(&body.canonical(), &record.signature)
        .is_ok();
    let rules = [
        ("the keystore", body.keystore == keystore.id),
        ("the CKA_ID", body.cka_id == asked.cka_id),
        ("the label", body.label == asked.label),
        ("the key's kind", body.spec == asked.spec),
        ("the vault's salt", body.salt == salt),
        (
            "the signer's identity",
            record.signer_digest() == keystore.identity,
        ),
        ("the signature", is_signed),
    ];
    match rules.into_iter().find(|(_, holds)| !holds) {
        None => Ok(Ok(*record)),
        Some((what, _)) => Err(OpsError::refused(
            "adoption_record",
            format!(
                "the agent of keystore {:?} gave a record that is wrong about {what}: nothing was kept",
                keystore.name
            ),
        )),
    }
}
