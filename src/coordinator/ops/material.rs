//! What cannot be done with a key whose material is in no repository: it stays where it is, and is never taken away for a
//! while.

use std::collections::BTreeSet;

use crate::coordinator::ops::Ops;
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::intents::instance_of;
use crate::coordinator::store::Write;
use crate::model::capabilities::Strategy;
use crate::model::desired::{Instance, Want};
use crate::model::ids::KeystoreId;
use crate::model::key::ManagedKey;
use crate::model::lifecycle::ManagedState;
use crate::model::observed::Observation;

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
    /// `Refused` with `no_repository_copy`.
    pub(crate) async fn check_material(
        &self,
        key: &ManagedKey,
        writes: &[Write],
    ) -> Result<(), OpsError> {
        let withdraws = writes.iter().any(|write| {
            if let Write::InstancePut { instance, .. } = write {
                instance.intent.want != Want::Destroyed
                    && self.strategy(&instance.intent) == Strategy::Withdraw
            } else {
                false
            }
        });
        if !withdraws || !self.store.copies(key.version).await?.is_empty() {
            return Ok(());
        }
        Err(no_copy(
            "the key would have to be withdrawn from a keystore, and could never be brought back",
            "its vault or that keystore demands it: let it be flags or copy there",
        ))
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
