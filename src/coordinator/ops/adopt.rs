//! Adopting: keys that others made become managed ones, as they are. What does not fit as it is is refused, key by key.
//!
//! The way of it: the keys that were last told are chosen; their agent examines them and signs what it found; each becomes a
//! new managed key, or one more target of the one that has its material; records, intents and audit entries go in ONE commit.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::clock::Monotonic;
use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::{Call, Permission};
use crate::coordinator::ops::adopting::Adopting;
use crate::coordinator::ops::commit::{Committed, Done, Draft};
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::fleet::FleetError;
use crate::coordinator::ops::found::Select;
use crate::coordinator::ops::keystores;
use crate::coordinator::ops::vaults::check_description;
use crate::decide::status::KeyPhase;
use crate::model::adoption::{AdoptionRecord, FoundKey};
use crate::model::finding::KeyFinding;
use crate::model::ids::{KeyId, KeystoreId};
use crate::model::key::{KeySpec, ManagedKey};
use crate::model::keystore::KeystoreRecord;
use crate::model::lifecycle::ManagedState;
use crate::model::live::Connection;
use crate::model::observed::Fingerprint;

/// Most keys that one request adopts: each costs the token a fingerprint, and all go in one commit.
pub const ADOPT_KEYS_MAX: usize = 500;

/// How often a request is thought through again that others were faster than: the same key may be adopted from several
/// keystores at once, and each time one of them is through.
const TRIES_MAX: u32 = 5;

/// What is to be adopted, and as what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Adopt {
    /// Which of the keys on the token.
    pub select: Select,
    /// The template of the vault that new keys belong to; it must be for keys of their kind.
    pub template_name: String,
    /// The managed key's label; none: the one on the token. For one key only.
    pub label: Option<String>,
    /// At most 200 characters.
    pub description: String,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdoptionView {
    /// The keystore's id.
    pub keystore: KeystoreId,
    /// Its name.
    pub name: String,
    /// Key by key.
    pub outcomes: Vec<AdoptionOutcome>,
}

/// What came of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdoptionOutcome {
    /// Its objects.
    pub key: FoundKey,
    /// Its kind.
    pub spec: Option<KeySpec>,
    /// Its fingerprint.
    pub fingerprint: Option<Fingerprint>,
    /// What is weak about it.
    pub findings: Vec<KeyFinding>,
    /// What it became.
    pub result: AdoptionResult,
}

/// What a found key became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdoptionResult {
    /// A new managed key.
    Adopted(AdoptedKey),
    /// One more target of a managed key.
    Joined(AdoptedKey),
    /// It was adopted before.
    Managed(AdoptedKey),
    /// Nothing, and why.
    Refused(OpsError),
}

/// The managed key that it became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdoptedKey {
    /// Its id.
    pub id: KeyId,
    /// Its label.
    pub label: String,
    /// Its state.
    pub state: ManagedState,
    /// How far it is; none in a dry run.
    pub phase: Option<KeyPhase>,
}

impl AdoptedKey {
    pub(crate) fn of(key: &ManagedKey) -> Self {
        Self {
            id: key.id,
            label: key.label.to_string(),
            state: key.state,
            phase: None,
        }
    }
}

impl Ops {
    /// Adopts keys on a token. With `dry_run` nothing is stored and all that would come of it is told.
    ///
    /// A key that was named by its CKA_ID and cannot be adopted is an error; of several, each has its own outcome.
    ///
    /// # Errors
    /// `Invalid` names the field; `AgentUnreachable`; `Refused` with the code of what stands in the way.
    pub async fn keystore_adopt(
        &self,
        call: &Call,
        id: KeystoreId,
        new: &Adopt,
        dry_run: bool,
        wait: Duration,
    ) -> Result<Done<AdoptionView>, OpsError> {
        // Before anything is read: who may not is not told what there is.
        call.authorise(Permission::KeyGenerate, None)?;
        let keystore = self.keystore_record(id).await?;
        call.authorise(Permission::KeyGenerate, Some(keystore.vault))?;
        call.authorise(Permission::KeyDistribute, Some(keystore.vault))?;
        if let Some(earlier) = self.earlier(call).await? {
            return self.adopted_again(&keystore, new, earlier).await;
        }
        check_description(&new.description)?;
        let vault = self.vault_record(keystore.vault).await?;
        let template = self.template_for(&vault, &new.template_name).await?;
        self.check_told(&keystore)?;
        let mut tries = 0;
        loop {
            tries += 1;
            let mut adopting = Adopting {
                ops: self,
                at: self.now(),
                by: &call.principal.name,
                new,
                keystore: &keystore,
                vault: &vault,
                template: &template,
                draft: Draft::new("keystore.adopt", keystores::subject(id), String::new()),
                labels: BTreeSet::new(),
                here: Vec::new(),
            };
            let outcomes = match adopting.outcomes().await {
                Err(OpsError::Conflict { .. }) if tries < TRIES_MAX => continue,
                outcomes => outcomes?,
            };
            let draft = adopting.draft;
            let view = AdoptionView {
                keystore: id,
                name: keystore.name.clone(),
                outcomes,
            };
            if dry_run || draft.writes.is_empty() {
                return Ok(self.unchanged(call).done(view));
            }
            match self.commit(call, draft).await {
                Ok(committed) if committed.earlier.is_some() => {
                    return self.adopted_again(&keystore, new, committed).await;
                }
                Ok(committed) => {
                    let view = self.adopted_wait(call, view, wait).await?;
                    return Ok(committed.done(view));
                }
                // Somebody adopted one of them meanwhile (or the same key elsewhere), or changed the key that one joins.
                Err(OpsError::Conflict { .. } | OpsError::Taken { .. }) if tries < TRIES_MAX => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The keys that a repeated request speaks of, as they are now.
    async fn adopted_again(
        &self,
        keystore: &KeystoreRecord,
        new: &Adopt,
        earlier: Committed,
    ) -> Result<Done<AdoptionView>, OpsError> {
        let mut outcomes = Vec::new();
        for row in self.store.keystore_instances(keystore.id).await? {
            let Some(adoption) = &row.instance.adoption else {
                continue;
            };
            let body = &adoption.record.body;
            let algorithm = Some(body.spec.algorithm());
            if new.select.fits_name(&body.cka_id, &body.label, algorithm) {
                let key = self.key_record(row.key).await?;
                outcomes.push(managed(body, &key));
            }
        }
        Ok(earlier.done(AdoptionView {
            keystore: keystore.id,
            name: keystore.name.clone(),
            outcomes,
        }))
    }

    /// Waits until what was adopted is confirmed, at most so long all together.
    async fn adopted_wait(
        &self,
        call: &Call,
        mut view: AdoptionView,
        wait: Duration,
    ) -> Result<AdoptionView, OpsError> {
        let began = Monotonic::now();
        for outcome in &mut view.outcomes {
            if let AdoptionResult::Adopted(key) | AdoptionResult::Joined(key) = &mut outcome.result
            {
                let left = wait.saturating_sub(began.elapsed());
                key.phase = Some(self.key_wait(call, key.id, left).await?.phase);
            }
        }
        Ok(view)
    }

    /// What is adopted must have been seen in this session.
    fn check_told(&self, keystore: &KeystoreRecord) -> Result<(), OpsError> {
        let unreachable = |why| OpsError::fleet(&keystore.name, FleetError::Unreachable { why });
        self.is_well(keystore.id).map_err(unreachable)?;
        match self.fleet.live_keystore(keystore.id).connection {
            Connection::Live => Ok(()),
            Connection::Never { .. } | Connection::Down { .. } | Connection::CatchingUp => Err(
                unreachable("the agent is still telling what is on its token".to_owned()),
            ),
        }
    }
}

/// The outcome of a key that was adopted before.
pub(crate) fn managed(record: &AdoptionRecord, key: &ManagedKey) -> AdoptionOutcome {
    AdoptionOutcome {
        key: FoundKey {
            cka_id: record.cka_id.clone(),
            label: record.label.clone(),
            objects: Vec::new(),
        },
        spec: Some(record.spec),
        fingerprint: Some(record.fingerprint),
        findings: Vec::new(),
        result: AdoptionResult::Managed(AdoptedKey::of(key)),
    }
}
