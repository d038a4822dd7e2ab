//! What cannot be done with a key whose material is in no repository: it stays where it is, and is never taken away for a
//! while.

use std::collections::BTreeSet;

use crate::coordinator::ops::Ops;
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::intents::instance_of;
use crate::coordinator::store::Write;
use crate::decide::effects::effects;
use crate::model::capabilities::Strategy;
use crate::model::desired::{Instance, Intent, ObjectPlan, Want};
use crate::model::ids::KeystoreId;
use crate::model::key::ManagedKey;
use crate::model::keystore::KeystoreRecord;
use crate::model::lifecycle::ManagedState;
use crate::model::observed::Observation;
use crate::model::step::Step;
use crate::model::vault::Vault;

impl Ops {
    /// Refuses new targets of a key that cannot get there. Where it was before, it still is.
    ///
    /// # Errors
    /// `Refused` with `no_repository_copy`, and why there is none.
    pub(crate) async fn check_distributable(
        &self,
        key: &ManagedKey,
        targets: &BTreeSet<KeystoreId>,
    ) -> Result<(), OpsError> {
        if key.state.is_destroyed() || key.state == ManagedState::PreActivation {
            return Ok(());
        }
        let instances = self.store.key_instances(key.id).await?;
        let is_there = |id: &KeystoreId| instance_of(&instances, key.version, *id).is_some();
        let is_new = targets
            .difference(&key.targets)
            .any(|target| !is_there(target));
        if !is_new || !self.store.copies(key.version).await?.is_empty() {
            return Ok(());
        }
        Err(no_copy(
            "the key cannot be distributed",
            why_not(&instances),
        ))
    }

    /// Refuses intents that need material which nobody has: those that are carried out by withdrawing the key.
    ///
    /// # Errors
    /// `Refused` with `no_repository_copy`, and the ways out.
    pub(crate) async fn check_material(
        &self,
        key: &ManagedKey,
        writes: &[Write],
    ) -> Result<(), OpsError> {
        let intents = writes.iter().filter_map(|write| {
            if let Write::InstancePut { instance, .. } = write {
                Some(&instance.intent)
            } else {
                None
            }
        });
        let Some(intent) = intents
            .into_iter()
            .find(|intent| intent.want != Want::Destroyed && self.withdraws(intent))
        else {
            return Ok(());
        };
        if !self.store.copies(key.version).await?.is_empty() {
            return Ok(());
        }
        let record = self.keystore_record(intent.keystore).await?;
        let vault = self.vault_record(key.vault).await?;
        let what = format!(
            "the key would have to be withdrawn from {:?}, and could never be brought back",
            record.name
        );
        Err(no_copy(&what, &self.way_out(intent, &record, &vault)))
    }

    /// Whether an intent takes the key off its token, for a while at least: because its strategy is that, or because the
    /// object there bars the way of its strategy.
    fn withdraws(&self, intent: &Intent) -> bool {
        let strategy = self.strategy(intent);
        if strategy == Strategy::Withdraw {
            return true;
        }
        let report = self.fleet.live(intent.keystore, intent.version).report;
        let is_withdrawal = |step: &Step| matches!(step, Step::Withdraw { .. });
        report.is_some_and(|report| match &report.observation {
            Observation::Present(found) => {
                effects(intent, found, strategy).is_ok_and(|steps| steps.iter().any(is_withdrawal))
            }
            Observation::Absent { .. }
            | Observation::Unknown { .. }
            | Observation::Suspected { .. } => false,
        })
    }

    /// What somebody can do about a key that would have to be withdrawn and is in no repository.
    pub(crate) fn way_out(
        &self,
        intent: &Intent,
        record: &KeystoreRecord,
        vault: &Vault,
    ) -> String {
        let needed = {
            let weakest = ObjectPlan {
                strategy: Strategy::Flags,
                ..intent.object.clone()
            };
            let described = self.fleet.description(record.id);
            let can = described.as_ref().and_then(|it| it.capabilities.as_ref());
            can.map_or(Strategy::Flags, |can| can.strategy(&weakest))
        };
        let mut ways = Vec::new();
        if needed == Strategy::Withdraw {
            ways.push("its token bars the use of such keys by no flag and no copy".to_owned());
        } else {
            if vault.strategy > needed {
                ways.push(format!(
                    "vault {:?} demands {}: `lockstep vault update --strategy {}` would do",
                    vault.name,
                    vault.strategy.name(),
                    needed.name()
                ));
            }
            if let Some(pinned) = record.strategy.filter(|pinned| *pinned > needed) {
                ways.push(format!(
                    "keystore {:?} is pinned to {}: `lockstep keystore update --strategy auto` would do",
                    record.name,
                    pinned.name()
                ));
            }
        }
        ways.push("or replace it by a key that Lockstep makes, and destroy it".to_owned());
        ways.join("; ")
    }

    /// Whether an instance has gone from its token (or a half of it) and cannot be installed again.
    pub(crate) fn is_lost(&self, instance: &Instance) -> bool {
        let is_only_there = instance
            .adoption
            .as_ref()
            .is_some_and(|adoption| !adoption.in_repository);
        let live = self
            .fleet
            .live(instance.intent.keystore, instance.intent.version);
        let classes = instance.intent.object.spec.class().objects();
        is_only_there
            && instance.intent.want != Want::Destroyed
            && live.report.is_some_and(|report| match report.observation {
                Observation::Absent { .. } => true,
                Observation::Present(found) => !classes
                    .iter()
                    .all(|class| found.objects.iter().any(|facts| facts.class == *class)),
                Observation::Unknown { .. } | Observation::Suspected { .. } => false,
            })
    }
}

/// No repository copy: what cannot be done, and why there is none.
pub(crate) fn no_copy(what: &str, why: &str) -> OpsError {
    OpsError::refused(
        "no_repository_copy",
        format!("{what}: no internal keystore holds its material; {why}"),
    )
}

fn why_not(instances: &[Instance]) -> &'static str {
    let is_extractable = instances
        .iter()
        .filter_map(|instance| instance.adoption.as_ref())
        .any(|adoption| adoption.record.body.extractable);
    if is_extractable {
        "it was made outside of Lockstep; it is extractable, but bringing such a key into the repository is not built yet"
    } else {
        "it was made outside of Lockstep and is not extractable"
    }
}
