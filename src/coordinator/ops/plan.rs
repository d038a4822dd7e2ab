//! Plans: what an action would cause, keystore by keystore, before anybody confirms it.

use std::collections::BTreeSet;

use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::{Call, Permission};
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::intents::{self, Wish};
use crate::coordinator::ops::targets::retarget;
use crate::decide::effects::effects;
use crate::model::desired::{Instance, Want};
use crate::model::ids::{Digest, KeyId, KeystoreId};
use crate::model::key::ManagedKey;
use crate::model::lifecycle::{Action, ManagedState};
use crate::model::live::{Connection, Live};
use crate::model::observed::{Found, Observation};
use crate::model::step::Step;
use crate::model::vault::Vault;
use crate::model::version::Hold;

/// What is thought of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proposal {
    /// A transition.
    Act(Action),
    /// A sync.
    Sync,
    /// Targets taken afresh from the template.
    UpdateFromTemplate,
    /// Exactly these targets, by hand.
    Targets(BTreeSet<KeystoreId>),
}

/// What it would cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The key.
    pub key: KeyId,
    /// Its state afterwards.
    pub state: ManagedState,
    /// Keystore by keystore.
    pub keystores: Vec<PlannedKeystore>,
}

/// What it would cause on one keystore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedKeystore {
    /// The keystore.
    pub keystore: KeystoreId,
    /// Its name.
    pub name: String,
    /// Which version of the key.
    pub version: u32,
    /// What would be wanted there; none: nothing.
    pub want: Option<Want>,
    /// The steps on the token as last seen, for people.
    pub steps: Vec<String>,
    /// Why it would not go, or not now.
    pub refused: Option<String>,
    /// Whether that passes by itself: it is done when the keystore is back.
    pub is_later: bool,
    /// Digest of the intent that would be written.
    pub intent: Digest,
}

impl Ops {
    /// What a proposal would cause. Changes nothing.
    ///
    /// # Errors
    /// `NotFound`; `StateConflict` where the transition is not allowed.
    pub async fn key_plan(
        &self,
        call: &Call,
        id: KeyId,
        proposal: Proposal,
    ) -> Result<Plan, OpsError> {
        call.authorise(Permission::Read, None)?;
        let before = self.key_record(id).await?;
        let instances = self.store.key_instances(id).await?;
        let mut key = before.clone();
        let wishes = match proposal {
            Proposal::Act(action) => {
                key.state = before
                    .state
                    .after(action)
                    .map_err(|forbidden| OpsError::transition(&forbidden, before.revision))?;
                if action == Action::Destroy && before.state != key.state {
                    let (until, from) = (self.hold_until(id).await?, before.state);
                    key.hold = until.map(|until| Hold { until, from });
                }
                self.version_wishes(&key, &instances).await?
            }
            Proposal::Sync => self.sync_wishes(&key, &instances).await?,
            Proposal::UpdateFromTemplate => {
                let targets = self.template_targets(&before).await?;
                retarget(&mut key, targets, false)?;
                self.version_wishes(&key, &instances).await?
            }
            Proposal::Targets(targets) => {
                self.check_new_targets(&before, &targets).await?;
                retarget(&mut key, targets, true)?;
                self.version_wishes(&key, &instances).await?
            }
        };
        let vault = self.vault_record(key.vault).await?;
        let mut keystores = Vec::new();
        for of in wishes {
            for wish in of.wishes {
                keystores.push(self.planned(&of.key, &vault, wish, &instances).await?);
            }
        }
        keystores.sort_by(|a, b| a.name.cmp(&b.name).then(a.keystore.cmp(&b.keystore)));
        Ok(Plan {
            key: id,
            state: key.state,
            keystores,
        })
    }

    async fn planned(
        &self,
        key: &ManagedKey,
        vault: &Vault,
        wish: Wish,
        instances: &[Instance],
    ) -> Result<PlannedKeystore, OpsError> {
        let before = intents::instance_of(instances, key.version, wish.keystore);
        let record = self.store.keystore(wish.keystore).await?;
        let name = record.map_or_else(|| wish.keystore.to_string(), |record| record.name);
        let intent = self.intent(key, vault, wish, before).await?;
        let live = self.fleet.live(wish.keystore, key.version);
        let mut planned = PlannedKeystore {
            keystore: wish.keystore,
            name,
            version: key.version_number,
            want: Some(wish.want),
            steps: Vec::new(),
            refused: None,
            is_later: false,
            intent: intent.digest(),
        };
        let strategy = self.strategy(&intent);
        match found(&live, before.is_some()) {
            Err(why) => {
                planned.refused = Some(why);
                planned.is_later = true;
            }
            Ok(found) => match effects(&intent, &found, strategy) {
                Err(obstacle) => planned.refused = Some(obstacle.to_string()),
                Ok(steps) => {
                    planned.steps = steps.iter().map(Step::describe).collect();
                    if steps.iter().any(Step::needs_material) {
                        let without = self.without_material(key, wish.keystore).await?;
                        planned.is_later = matches!(without, Some((_, true)));
                        planned.refused = without.map(|(why, _)| why);
                    }
                }
            },
        }
        Ok(planned)
    }

    /// Why the material could not get there now, and whether that passes by itself.
    async fn without_material(
        &self,
        key: &ManagedKey,
        target: KeystoreId,
    ) -> Result<Option<(String, bool)>, OpsError> {
        if let Some(no_way) = self.no_way(key, target).await? {
            let why = format!("{}: {}", no_way.code, no_way.reason);
            return Ok(Some((why, false)));
        }
        let copies = self.store.copies(key.version).await?;
        if copies.is_empty() {
            let why = "no_repository_copy: the material is not in the repository";
            return Ok(Some((why.to_owned(), false)));
        }
        let mut why = None;
        for copy in &copies {
            match self.is_well(copy.keystore) {
                Ok(()) => return Ok(None),
                Err(ill) => {
                    why = Some((
                        format!("not now: the keystore with the material: {ill}"),
                        true,
                    ));
                }
            }
        }
        Ok(why)
    }
}

/// What is on the token as far as anybody knows; where the key never was, nothing of it.
fn found(live: &Live, was_there: bool) -> Result<Found, String> {
    match &live.connection {
        Connection::Never { why } | Connection::Down { why, .. } => {
            return Err(format!(
                "not now: {why}; it will be done when the keystore is back"
            ));
        }
        Connection::CatchingUp | Connection::Live => {}
    }
    let observation = live.report.as_ref().map(|report| &report.observation);
    match observation {
        None if !was_there => Ok(Found::default()),
        None => Err("not now: the keystore has not been looked at yet".to_owned()),
        Some(Observation::Unknown { why }) => Err(format!("not now: {why}")),
        Some(Observation::Suspected { .. }) => {
            Err("not now: a second look is under way".to_owned())
        }
        Some(Observation::Absent { same_label }) => Ok(Found {
            same_label: same_label.clone(),
            ..Found::default()
        }),
        Some(Observation::Present(found)) => Ok(found.clone()),
    }
}
