//! What a bulk change would do: which keys, in which wave, what would be refused, and a digest of all of it.

use std::collections::{BTreeMap, BTreeSet};

use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::{Call, Permission};
use crate::coordinator::ops::bulk::{BulkNew, BulkScope, BulkTerms};
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::lists::Page;
use crate::coordinator::ops::plan::{Plan, Proposal};
use crate::coordinator::ops::rotate::not_rotatable;
use crate::coordinator::ops::status::Directory;
use crate::coordinator::store::KeyFilter;
use crate::decide::bulk::assign;
use crate::model::bulk::{BulkAction, BulkFilter, KEYS_MAX, WaveSize, Why};
use crate::model::canonical::Canonical;
use crate::model::ids::{Digest, KeyId};
use crate::model::key::ManagedKey;
use crate::model::lifecycle::ManagedState;

/// What it would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BulkPlan {
    /// The action.
    pub action: BulkAction,
    /// How it would be carried out.
    pub terms: BulkTerms,
    /// Key by key, in their order.
    pub keys: Vec<PlannedKey>,
    /// Of action, terms, and each key's digest: the same where the same would be done.
    pub digest: Digest,
}

/// What it would do to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedKey {
    /// The key.
    pub key: KeyId,
    /// Its label.
    pub label: String,
    /// Its state now.
    pub state: ManagedState,
    /// Number of its version now.
    pub version: u32,
    /// Its wave, from 1; 0: it would not be touched.
    pub wave: u32,
    /// Why it would not be touched.
    pub why: Option<Why>,
    /// Whether that is a refusal, and not just nothing to do.
    pub is_refused: bool,
    /// Keystores where something would be wanted.
    pub keystores: usize,
    /// Steps on tokens, as far as they are known.
    pub steps: usize,
    /// What waits for a keystore to come back, or would be refused there and is done elsewhere all the same.
    pub notes: Vec<String>,
    /// Of its revision and the very intents that would be written.
    pub digest: Digest,
}

impl Ops {
    /// What a bulk change would do. Changes nothing.
    ///
    /// # Errors
    /// `Invalid`, also where no key or more than 10,000 are meant; `NotFound` for a key that was named.
    pub async fn bulk_plan(&self, call: &Call, new: &BulkNew) -> Result<BulkPlan, OpsError> {
        call.authorise(Permission::Read, None)?;
        let terms = new.terms()?;
        let records = self.bulk_scope(&new.scope).await?;
        let mut keys = Vec::with_capacity(records.len());
        for key in &records {
            keys.push(self.bulk_planned(call, new.action, key).await?);
        }
        self.assign_waves(&terms.sizes, &records, &mut keys).await?;
        let mut digest = Canonical::new("lockstep/bulk/1")
            .text(new.action.name())
            .text(terms.stop_on.name())
            .number(u64::from(terms.confirm_within_s))
            .text(terms.late.name());
        for key in &mut keys {
            key.digest = Canonical::new("lockstep/bulk-key/1")
                .bytes(key.key.uuid().as_bytes())
                .number(u64::from(key.wave))
                .bytes(&key.digest.0)
                .digest();
            digest = digest.bytes(&key.digest.0);
        }
        Ok(BulkPlan {
            action: new.action,
            terms,
            keys,
            digest: digest.digest(),
        })
    }

    async fn bulk_scope(&self, scope: &BulkScope) -> Result<Vec<ManagedKey>, OpsError> {
        let (field, keys) = match scope {
            BulkScope::Filter(filter) => ("filter", self.fitting(filter).await?),
            BulkScope::Keys(ids) => {
                let known: BTreeSet<&KeyId> = ids.iter().collect();
                if known.len() < ids.len() {
                    let message = "a key is named twice";
                    return Err(OpsError::invalid("managed_keys", "duplicate", message));
                }
                let mut keys = Vec::new();
                for id in ids.iter().take(KEYS_MAX.saturating_add(1)) {
                    keys.push(self.key_record(*id).await?);
                }
                ("managed_keys", keys)
            }
        };
        if keys.is_empty() {
            return Err(OpsError::invalid(field, "no_keys", "no key is meant"));
        }
        if keys.len() > KEYS_MAX {
            let message = format!("more than {KEYS_MAX} keys: ask for fewer at once");
            return Err(OpsError::invalid(field, "too_many", message));
        }
        Ok(keys)
    }

    /// At most one more than may be.
    async fn fitting(&self, filter: &BulkFilter) -> Result<Vec<ManagedKey>, OpsError> {
        let mut states = filter.states.clone();
        if states.is_empty() {
            states.extend(ManagedState::ALL.iter().filter(|one| !one.is_destroyed()));
        }
        let filter = KeyFilter {
            vault: filter.vault,
            states,
            label: filter.label.clone(),
            template: filter.template,
            keystore: filter.keystore,
            sort: vec![("label".to_owned(), false)],
        };
        let (mut keys, mut page) = (Vec::new(), Page::LARGEST);
        loop {
            let found = self
                .store
                .key_list(filter.clone(), page.for_store())
                .await?;
            let is_last = found.items.len() < usize::try_from(page.limit).unwrap_or(usize::MAX);
            keys.extend(found.items);
            if is_last || keys.len() > KEYS_MAX {
                return Ok(keys);
            }
            page.offset = page.offset.saturating_add(page.limit);
        }
    }

    async fn bulk_planned(
        &self,
        call: &Call,
        action: BulkAction,
        key: &ManagedKey,
    ) -> Result<PlannedKey, OpsError> {
        let mut planned = PlannedKey {
            key: key.id,
            label: key.label.to_string(),
            state: key.state,
            version: key.version_number,
            wave: 0,
            why: None,
            is_refused: false,
            keystores: 0,
            steps: 0,
            notes: Vec::new(),
            digest: Digest([0; 32]),
        };
        let mut intents = Vec::new();
        match self.bulk_verdict(call, action, key).await {
            Ok(Verdict::Nothing(message)) => {
                planned.why = Some(why("nothing_to_do", message));
            }
            Ok(Verdict::Act(plan)) => {
                intents = plan.keystores.iter().map(|one| one.intent).collect();
                look_at(&mut planned, action, &plan);
            }
            Ok(Verdict::Rotate) => planned.keystores = key.targets.len(),
            Err(
                error
                @ (OpsError::Unavailable { .. } | OpsError::Full | OpsError::Forbidden { .. }),
            ) => {
                return Err(error);
            }
            Err(error) => {
                planned.is_refused = true;
                planned.why = Some(why(error.code(), error.to_string()));
            }
        }
        let mut digest = Canonical::new("lockstep/bulk-intents/1")
            .number(key.revision.0)
            .text(planned.why.as_ref().map_or("", |why| &why.code));
        for intent in intents {
            digest = digest.bytes(&intent.0);
        }
        planned.digest = digest.digest();
        Ok(planned)
    }

    async fn bulk_verdict(
        &self,
        call: &Call,
        action: BulkAction,
        key: &ManagedKey,
    ) -> Result<Verdict, OpsError> {
        if let Some(transition) = action.transition() {
            let after = key.state.after(transition);
            let after = after.map_err(|error| OpsError::transition(&error, key.revision))?;
            if after == key.state {
                let name = key.state.name().replace('_', " ");
                return Ok(Verdict::Nothing(format!("it is {name} already")));
            }
            let plan = self.key_plan(call, key.id, Proposal::Act(transition));
            return Ok(Verdict::Act(plan.await?));
        }
        let template = self.template_record(key.template).await?;
        match action {
            BulkAction::Rotate => match not_rotatable(key, &template) {
                Some(why) => Err(OpsError::refused("not_rotatable", why.to_string())),
                None => Ok(Verdict::Rotate),
            },
            BulkAction::UpdateFromTemplate => {
                let plan = self
                    .key_plan(call, key.id, Proposal::UpdateFromTemplate)
                    .await?;
                let is_aligned = !key.targets_by_hand && key.template_version == template.version;
                if plan.keystores.is_empty() && is_aligned {
                    return Ok(Verdict::Nothing("it follows its template".to_owned()));
                }
                Ok(Verdict::Act(plan))
            }
            BulkAction::Sync
            | BulkAction::Activate
            | BulkAction::Deactivate
            | BulkAction::Compromise
            | BulkAction::Destroy => {
                let plan = self.key_plan(call, key.id, Proposal::Sync).await?;
                if plan.keystores.is_empty() {
                    let nothing = "a sync would change nothing now";
                    return Ok(Verdict::Nothing(nothing.to_owned()));
                }
                Ok(Verdict::Act(plan))
            }
        }
    }

    /// Gives each key that is to change its wave.
    async fn assign_waves(
        &self,
        sizes: &[WaveSize],
        records: &[ManagedKey],
        keys: &mut [PlannedKey],
    ) -> Result<(), OpsError> {
        let mut groups = BTreeMap::new();
        let mut directory = Directory::default();
        let is_grouped = sizes.iter().any(|size| matches!(size, WaveSize::Group(_)));
        for target in records.iter().flat_map(|key| &key.targets) {
            if is_grouped && !groups.contains_key(target) {
                let record = directory.keystore(self, *target).await?;
                groups.insert(*target, record.map(|record| record.groups));
            }
        }
        let changing: Vec<usize> = keys
            .iter()
            .enumerate()
            .filter(|(_, key)| key.why.is_none())
            .map(|(place, _)| place)
            .collect();
        let targets = |place: usize| {
            let record = changing.get(place).and_then(|place| records.get(*place));
            record.map(|record| &record.targets)
        };
        let waves = assign(sizes, changing.len(), |place, group| {
            targets(place).is_some_and(|targets| {
                let is_in = |of: &Option<BTreeSet<String>>| {
                    of.as_ref()
                        .is_some_and(|of| of.iter().any(|one| one.as_str() == group))
                };
                !targets.is_empty()
                    && targets
                        .iter()
                        .all(|target| groups.get(target).is_some_and(is_in))
            })
        });
        for (place, wave) in changing.into_iter().zip(waves) {
            if let Some(key) = keys.get_mut(place) {
                key.wave = wave;
            }
        }
        Ok(())
    }
}

enum Verdict {
    Nothing(String),
    Act(Plan),
    Rotate,
}

fn why(code: &str, message: String) -> Why {
    Why {
        code: code.to_owned(),
        message,
    }
}

/// What the plan of one key says. What one keystore would refuse holds the key back, unless use is taken away, or what was wanted
/// before is carried out again: that is done wherever it can be.
fn look_at(planned: &mut PlannedKey, action: BulkAction, plan: &Plan) {
    let is_held_back = match action {
        BulkAction::Activate | BulkAction::Rotate | BulkAction::UpdateFromTemplate => true,
        BulkAction::Deactivate
        | BulkAction::Compromise
        | BulkAction::Destroy
        | BulkAction::Sync => false,
    };
    planned.keystores = plan.keystores.len();
    for one in &plan.keystores {
        planned.steps = planned.steps.saturating_add(one.steps.len());
        let Some(refused) = &one.refused else {
            continue;
        };
        let note = format!("{}: {refused}", one.name);
        if !one.is_later && is_held_back && planned.why.is_none() {
            planned.is_refused = true;
            planned.why = Some(why("keystore_would_refuse", note));
        } else {
            planned.notes.push(note);
        }
    }
}
