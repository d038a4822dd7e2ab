//! Adopting: keys that others made become managed ones, as they are. What does not fit as it is is refused, key by key.
//!
//! The way of it: the keys that were last told are chosen; their agent examines them and signs what it found; each becomes a
//! new managed key, or one more target of the one that has its material; records, intents and audit entries go in ONE commit.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::clock::{self, Monotonic};
use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::{Call, Permission};
use crate::coordinator::ops::commit::{AlsoNoted, Committed, Done, Draft};
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::fleet::FleetError;
use crate::coordinator::ops::found::{Select, Strangers, candidate};
use crate::coordinator::ops::ignore::no_such_key;
use crate::coordinator::ops::intents::Wish;
use crate::coordinator::ops::keys::{KeyNew, subject};
use crate::coordinator::ops::keystores;
use crate::coordinator::ops::material::no_copy;
use crate::coordinator::ops::vaults::check_description;
use crate::coordinator::store::Write;
use crate::decide::adoption::{Unjoinable, deactivated_usage, not_there, same_key, state_of};
use crate::decide::found::Unadoptable;
use crate::decide::status::KeyPhase;
use crate::model::adoption::{Adoption, AdoptionRecord, Candidate, FoundKey};
use crate::model::capabilities::Strategy;
use crate::model::desired::{Instance, Want};
use crate::model::finding::KeyFinding;
use crate::model::ids::{KeyId, KeystoreId};
use crate::model::key::{KeySpec, ManagedKey};
use crate::model::keystore::KeystoreRecord;
use crate::model::lifecycle::ManagedState;
use crate::model::live::Connection;
use crate::model::material::Signed;
use crate::model::observed::Fingerprint;
use crate::model::template::KeyTemplate;
use crate::model::text::hex;
use crate::model::vault::{Stamps, UnixMs, Vault};

/// Most keys that one request adopts: each costs the token a fingerprint, and all go in one commit.
pub const ADOPT_KEYS_MAX: usize = 500;

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
    fn of(key: &ManagedKey) -> Self {
        Self {
            id: key.id,
            label: key.label.to_string(),
            state: key.state,
            phase: None,
        }
    }
}

/// A request with what it is about.
struct Adopting<'a> {
    ops: &'a Ops,
    at: UnixMs,
    by: &'a str,
    new: &'a Adopt,
    keystore: &'a KeystoreRecord,
    vault: &'a Vault,
    template: &'a KeyTemplate,
    draft: Draft,
    /// Labels of new keys so far.
    labels: BTreeSet<String>,
    /// Keys that are on the keystore by this request.
    here: Vec<ManagedKey>,
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
        let mut is_second = false;
        loop {
            let mut adopting = Adopting {
                ops: self,
                at: clock::unix_ms(),
                by: &call.principal.name,
                new,
                keystore: &keystore,
                vault: &vault,
                template: &template,
                draft: Draft::new("keystore.adopt", keystores::subject(id), String::new()),
                labels: BTreeSet::new(),
                here: Vec::new(),
            };
            let outcomes = adopting.outcomes().await?;
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
                // Somebody adopted one of them meanwhile, or changed the key that one joins.
                Err(OpsError::Conflict { .. }) if !is_second => is_second = true,
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
            let key = self.key_record(row.key).await?;
            let outcome = managed(&adoption.record.body, &key);
            if new.select.fits_record(&adoption.record.body) {
                outcomes.push(outcome);
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

impl Select {
    fn fits_record(&self, record: &AdoptionRecord) -> bool {
        let label = self.label.as_ref();
        self.cka_id.as_ref().is_none_or(|id| *id == record.cka_id)
            && label.is_none_or(|p| crate::decide::found::fits_pattern(&record.label, p))
            && self
                .algorithm
                .is_none_or(|algorithm| record.spec.algorithm() == algorithm)
    }
}

fn managed(record: &AdoptionRecord, key: &ManagedKey) -> AdoptionOutcome {
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

impl Adopting<'_> {
    async fn outcomes(&mut self) -> Result<Vec<AdoptionOutcome>, OpsError> {
        let live = self.ops.fleet.live_keystore(self.keystore.id);
        let strangers = self.ops.strangers(self.keystore.id, &live).await?;
        if let Some(cka_id) = &self.new.select.cka_id
            && let Some(told) = self.named(cka_id, &strangers).await?
        {
            return Ok(vec![told]);
        }
        let mut keys = strangers.unmanaged;
        keys.retain(|key| self.new.select.fits(key));
        self.check_keys(&keys)?;
        let candidates: Vec<Candidate> = keys.iter().filter_map(candidate).collect();
        let examined = self
            .ops
            .examine(self.keystore, &self.vault.salt, candidates)
            .await?;
        let mut examined = examined.into_iter();
        let mut outcomes = Vec::with_capacity(keys.len());
        for key in keys {
            let record = match key.adoptable() {
                Err(why) => Err(unadoptable(&why)),
                Ok(_spec) => match examined.next() {
                    Some(Ok(record)) => Ok(record),
                    Some(Err(why)) => Err(unadoptable(&Unadoptable::NoFingerprint(why))),
                    None => Err(OpsError::refused("no_fingerprint", "it was not examined")),
                },
            };
            let fingerprint = record.as_ref().ok().map(|record| record.body.fingerprint);
            let result = match record {
                Ok(record) => self.adopt(record).await,
                Err(why) => Err(why),
            };
            outcomes.push(AdoptionOutcome {
                spec: key.spec().ok(),
                findings: key.findings(),
                fingerprint,
                result: self.settle(result)?,
                key,
            });
        }
        self.note();
        Ok(outcomes)
    }

    /// One key was named, and is not simply one that nobody manages.
    async fn named(
        &self,
        cka_id: &[u8],
        strangers: &Strangers,
    ) -> Result<Option<AdoptionOutcome>, OpsError> {
        if strangers.unmanaged.iter().any(|key| key.cka_id == cka_id) {
            return Ok(None);
        }
        if strangers
            .ignored
            .iter()
            .any(|(key, _)| key.cka_id == cka_id)
        {
            let why = "it is ignored: take it back first";
            return Err(OpsError::refused("ignored", why));
        }
        let Some(there) = strangers.adopted.iter().find(|one| one.cka_id == cka_id) else {
            return Err(no_such_key());
        };
        let key = self.ops.key_record(there.key).await?;
        let instances = self.ops.store.key_instances(key.id).await?;
        let record = instances.into_iter().find_map(|instance| {
            let is_it = instance.intent.keystore == self.keystore.id;
            instance.adoption.filter(|_| is_it)
        });
        Ok(record.map(|adoption| managed(&adoption.record.body, &key)))
    }

    fn check_keys(&self, keys: &[FoundKey]) -> Result<(), OpsError> {
        if keys.len() > 1 && self.new.label.is_some() {
            let message = "several keys are meant: a label can be given to one only";
            return Err(OpsError::invalid("label", "only_for_one", message));
        }
        if keys.len() > ADOPT_KEYS_MAX {
            let message = format!(
                "{} keys are meant, at most {ADOPT_KEYS_MAX} are adopted at once: say which",
                keys.len()
            );
            let field = "label_in_keystore";
            return Err(OpsError::invalid(field, "too_many", message));
        }
        Ok(())
    }

    /// A no to the one key that was named is an error; to one of several, an outcome. What is no answer about a key ends it all.
    fn settle(&self, result: Result<AdoptionResult, OpsError>) -> Result<AdoptionResult, OpsError> {
        match result {
            Ok(done) => Ok(done),
            Err(
                refused @ (OpsError::Refused { .. }
                | OpsError::Invalid { .. }
                | OpsError::Taken { .. }),
            ) if self.new.select.cka_id.is_none() => Ok(AdoptionResult::Refused(refused)),
            Err(error) => Err(error),
        }
    }

    async fn adopt(&mut self, record: Signed<AdoptionRecord>) -> Result<AdoptionResult, OpsError> {
        let body = &record.body;
        let ours = self.here.iter();
        let ours = ours.filter(|key| key.fingerprint == Some(body.fingerprint));
        if let Some(key) = ours.clone().next() {
            let why = format!(
                "the same key is adopted as {:?} under another CKA_ID of this keystore",
                key.label.as_str()
            );
            return Err(OpsError::refused("already_on_keystore", why));
        }
        let keys = self
            .ops
            .store
            .keys_of(self.vault.id, body.fingerprint)
            .await?;
        match same_key(body, &keys).map_err(|why| unjoinable(&why))? {
            Some(key) => self.join(key.clone(), record).await,
            None => self.make(record).await,
        }
    }

    /// One more target of a key that is managed.
    async fn join(
        &mut self,
        mut key: ManagedKey,
        record: Signed<AdoptionRecord>,
    ) -> Result<AdoptionResult, OpsError> {
        if self
            .new
            .label
            .as_ref()
            .is_some_and(|l| l != key.label.as_str())
        {
            let message = format!("the same key is managed as {:?}", key.label.as_str());
            return Err(OpsError::invalid("label", "managed_already", message));
        }
        let instances = self.ops.store.key_instances(key.id).await?;
        not_there(&record.body, &key, &instances).map_err(|why| unjoinable(&why))?;
        let expected = key.revision;
        key.revision = expected.next();
        key.stamps.touch(self.at, self.by);
        key.targets.insert(self.keystore.id);
        key.targets_by_hand = true;
        self.ops.check_targets(key.targets.len())?;
        let write = Write::KeyUpdate {
            record: Box::new(key.clone()),
            expected,
        };
        self.take(&key, record, write).await?;
        Ok(AdoptionResult::Joined(AdoptedKey::of(&key)))
    }

    /// A new managed key.
    async fn make(&mut self, record: Signed<AdoptionRecord>) -> Result<AdoptionResult, OpsError> {
        let body = &record.body;
        if body.spec != self.template.spec {
            let why = format!(
                "template {:?} is for {} keys, and this is {}",
                self.template.name, self.template.spec, body.spec
            );
            return Err(OpsError::refused("template_mismatch", why));
        }
        let label = self.new.label.clone().unwrap_or_else(|| body.label.clone());
        let new = KeyNew {
            vault: self.vault.id,
            template_name: self.template.name.clone(),
            label: Some(label),
            label_tags: Vec::new(),
            description: self.new.description.clone(),
        };
        let stamps = Stamps::new(self.at, self.by);
        let mut key = self.ops.draft_key(self.template, new, stamps)?;
        self.ops.check_label_free(&key).await?;
        if self.labels.contains(key.label.as_str()) {
            return Err(OpsError::Taken {
                field: "label".to_owned(),
                value: key.label.to_string(),
            });
        }
        key.state = state_of(body);
        key.deactivated_usage = deactivated_usage(body, self.template);
        if !body.usage.is_empty() {
            key.usage = body.usage;
        }
        key.fingerprint = Some(body.fingerprint);
        key.targets = [self.keystore.id].into();
        // The template's group is where keys are sent, and this one is where it was found.
        key.targets_by_hand = true;
        // Nobody knows since when it has been in use.
        key.activation_date = None;
        let write = Write::KeyInsert(Box::new(key.clone()));
        self.take(&key, record, write).await?;
        self.labels.insert(key.label.to_string());
        Ok(AdoptionResult::Adopted(AdoptedKey::of(&key)))
    }

    /// The writes that one adopted key takes.
    async fn take(
        &mut self,
        key: &ManagedKey,
        record: Signed<AdoptionRecord>,
        write: Write,
    ) -> Result<(), OpsError> {
        let copies = self.ops.store.copies(key.version).await?;
        let wish = Wish {
            keystore: self.keystore.id,
            is_target: true,
            want: key.state.want(true).unwrap_or(Want::Deactivated),
        };
        let adoption = Adoption {
            record,
            in_repository: !copies.is_empty(),
        };
        let intent = self
            .ops
            .intent_as(key, self.vault, wish, None, Some(&adoption))
            .await?;
        if copies.is_empty() && self.ops.strategy(&intent) == Strategy::Withdraw {
            let what = "keys are withdrawn from this keystore while they are deactivated";
            let why = "an adopted key could not be brought back; let it be flags or copy there";
            return Err(no_copy(what, why));
        }
        let body = &adoption.record.body;
        self.draft.also.push(AlsoNoted {
            action: "key.adopt",
            subject: subject(key.id),
            detail: format!(
                "{}: {} {:?} (CKA_ID {}) on {}, fingerprint {}",
                key.label,
                body.spec,
                body.label,
                hex(&body.cka_id),
                self.keystore.name,
                body.fingerprint.short()
            ),
            intents: vec![intent.digest()],
        });
        self.draft.writes.push(write);
        self.draft.writes.push(Write::InstancePut {
            key: key.id,
            instance: Box::new(Instance {
                intent,
                is_target: true,
                since: self.at,
                revision: key.revision,
                adoption: Some(Box::new(adoption)),
            }),
            expected: None,
        });
        self.here.push(key.clone());
        Ok(())
    }

    fn note(&mut self) {
        let keys = match self.here.len() {
            1 => "1 key".to_owned(),
            count => format!("{count} keys"),
        };
        self.draft.detail = format!("{}: {keys}", self.keystore.name);
        self.draft.wake = vec![self.keystore.id];
    }
}

fn unadoptable(why: &Unadoptable) -> OpsError {
    OpsError::refused(why.code(), why.to_string())
}

fn unjoinable(why: &Unjoinable) -> OpsError {
    OpsError::refused(why.code(), why.to_string())
}
