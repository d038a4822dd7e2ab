//! One request to adopt: key by key, what it becomes, and the writes that this takes.

use std::collections::BTreeSet;

use crate::coordinator::ops::Ops;
use crate::coordinator::ops::adopt::{
    ADOPT_KEYS_MAX, Adopt, AdoptedKey, AdoptionOutcome, AdoptionResult, managed,
};
use crate::coordinator::ops::commit::{AlsoNoted, Draft};
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::found::{Strangers, candidate};
use crate::coordinator::ops::ignore::no_such_key;
use crate::coordinator::ops::intents::Wish;
use crate::coordinator::ops::keys::{KeyNew, subject};
use crate::coordinator::ops::material::no_copy;
use crate::coordinator::store::Write;
use crate::decide::adoption::{
    Unjoinable, Unmanageable, deactivated_usage, manageable, not_there, same_key, state_of,
};
use crate::decide::found::Unadoptable;
use crate::model::adoption::{Adoption, AdoptionRecord, Candidate, FoundKey};
use crate::model::desired::{Instance, Intent, Want};
use crate::model::key::ManagedKey;
use crate::model::keystore::KeystoreRecord;
use crate::model::material::Signed;
use crate::model::template::KeyTemplate;
use crate::model::text::hex;
use crate::model::vault::{Stamps, UnixMs, Vault};

/// A request with what it is about.
pub(crate) struct Adopting<'a> {
    pub(crate) ops: &'a Ops,
    pub(crate) at: UnixMs,
    pub(crate) by: &'a str,
    pub(crate) new: &'a Adopt,
    pub(crate) keystore: &'a KeystoreRecord,
    pub(crate) vault: &'a Vault,
    pub(crate) template: &'a KeyTemplate,
    pub(crate) draft: Draft,
    /// Labels of new keys so far.
    pub(crate) labels: BTreeSet<String>,
    /// Keys that are on the keystore by this request.
    pub(crate) here: Vec<ManagedKey>,
}

impl Adopting<'_> {
    /// What comes of each key; the writes are in the draft.
    pub(crate) async fn outcomes(&mut self) -> Result<Vec<AdoptionOutcome>, OpsError> {
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
                Ok(record) => self.adopt(&key, record).await,
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

    async fn adopt(
        &mut self,
        found: &FoundKey,
        record: Signed<AdoptionRecord>,
    ) -> Result<AdoptionResult, OpsError> {
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
            Some(key) if key.fingerprint != Some(body.fingerprint) => {
                let number = key.version_with(body.fingerprint).unwrap_or_default();
                let why = format!(
                    "its material is version {number} of {:?}, which is in use with version {}",
                    key.label.as_str(),
                    key.version_number
                );
                Err(OpsError::refused("other_version", why))
            }
            Some(key) => self.join(key.clone(), found, record).await,
            None => self.make(found, record).await,
        }
    }

    /// One more target of a key that is managed.
    async fn join(
        &mut self,
        mut key: ManagedKey,
        found: &FoundKey,
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
        let is_it = |instance: &Instance| {
            instance.intent.keystore == self.keystore.id
                && instance.intent.object.cka_id == record.body.cka_id
        };
        if instances.iter().any(is_it) {
            // By whoever adopted it since the token's keys were read: then it is managed.
            return Err(OpsError::Conflict {
                what: subject(key.id),
            });
        }
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
        self.take(&key, found, record, write).await?;
        Ok(AdoptionResult::Joined(AdoptedKey::of(&key)))
    }

    /// A new managed key.
    async fn make(
        &mut self,
        found: &FoundKey,
        record: Signed<AdoptionRecord>,
    ) -> Result<AdoptionResult, OpsError> {
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
        if let Err(taken) = self.ops.check_label_free(&key).await {
            // By whoever adopted this very key since it was looked for: then it joins.
            let material = body.fingerprint;
            let now = self.ops.store.keys_of(self.vault.id, material).await?;
            return Err(match now.iter().find(|one| !one.state.is_destroyed()) {
                Some(one) => OpsError::Conflict {
                    what: subject(one.id),
                },
                None => taken,
            });
        }
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
        let alone = Write::MaterialAlone {
            vault: self.vault.id,
            material: body.fingerprint,
            key: key.id,
        };
        let write = Write::KeyInsert(Box::new(key.clone()));
        self.take(&key, found, record, write).await?;
        self.draft.writes.push(alone);
        self.labels.insert(key.label.to_string());
        Ok(AdoptionResult::Adopted(AdoptedKey::of(&key)))
    }

    /// The writes that one adopted key takes.
    async fn take(
        &mut self,
        key: &ManagedKey,
        found: &FoundKey,
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
        self.check_manageable(&intent, found, adoption.in_repository)?;
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

    fn check_manageable(
        &self,
        intent: &Intent,
        found: &FoundKey,
        in_repository: bool,
    ) -> Result<(), OpsError> {
        let strategy = self.ops.strategy(intent);
        let described = self.ops.fleet.description(self.keystore.id);
        let can = described.as_ref().and_then(|it| it.capabilities.as_ref());
        // What was not tried yet is not relied on.
        let can_copy_fixed = can.is_some_and(|can| can.copy_fixed);
        match manageable(
            intent,
            &found.objects,
            strategy,
            can_copy_fixed,
            in_repository,
        ) {
            Ok(()) => Ok(()),
            Err(Unmanageable::Withdrawn) => {
                let way_out = self.ops.way_out(intent, self.keystore, self.vault);
                Err(no_copy("it could never be disabled there", &way_out))
            }
            Err(why @ Unmanageable::WouldChange { .. }) => {
                Err(OpsError::refused("would_change", why.to_string()))
            }
            Err(why @ Unmanageable::NotModifiable(_)) => {
                Err(OpsError::refused("not_modifiable", why.to_string()))
            }
        }
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
