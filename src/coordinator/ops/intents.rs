//! Intents: what a change of a key means for each keystore, as writes for one commit.

use crate::coordinator::ops::Ops;
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::strategies::demanded;
use crate::coordinator::store::Write;
use crate::model::adoption::Adoption;
use crate::model::desired::{Instance, Intent, ObjectPlan, Want};
use crate::model::ids::{Generation, KeyVersionId, KeystoreId};
use crate::model::key::{DeactivatedUsage, ManagedKey};
use crate::model::lifecycle::ManagedState;
use crate::model::vault::{UnixMs, Vault};

/// What is to be wanted on one keystore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) keystore: KeystoreId,
    pub(crate) is_target: bool,
    pub(crate) want: Want,
}

impl Ops {
    /// The intent that a wish makes. Its generation is above the store's and above the one that the agent said it applied:
    /// after a restore of the store the agent may be ahead (promises R1).
    pub(crate) async fn intent(
        &self,
        key: &ManagedKey,
        vault: &Vault,
        wish: Wish,
        before: Option<&Instance>,
    ) -> Result<Intent, OpsError> {
        let adoption = before.and_then(|instance| instance.adoption.as_deref());
        self.intent_as(key, vault, wish, before, adoption).await
    }

    /// As [`Ops::intent`]; an adopted instance keeps its CKA_ID, its label and, where it had one, its usage.
    pub(crate) async fn intent_as(
        &self,
        key: &ManagedKey,
        vault: &Vault,
        wish: Wish,
        before: Option<&Instance>,
        adoption: Option<&Adoption>,
    ) -> Result<Intent, OpsError> {
        let record = self.store.keystore(wish.keystore).await?;
        let mut strategy = demanded(record.as_ref(), vault);
        // Nothing is brought back to a keystore that is no target any more.
        if let Some(before) = before.filter(|_| !wish.is_target) {
            strategy = strategy.max(before.intent.object.strategy);
        }
        let fingerprint = key.fingerprint.ok_or_else(|| {
            OpsError::refused("no_material", "the key has no material to distribute")
        })?;
        let found = adoption.map(|adoption| &adoption.record.body);
        let stored = before.map(|instance| instance.intent.generation);
        let applied = self
            .fleet
            .live(wish.keystore, key.version)
            .report
            .and_then(|report| report.applied)
            .map(|applied| applied.generation);
        Ok(Intent {
            version: key.version,
            keystore: wish.keystore,
            generation: stored.max(applied).unwrap_or(Generation(0)).next(),
            want: wish.want,
            object: ObjectPlan {
                cka_id: found.map_or_else(
                    || key.version.uuid().as_bytes().to_vec(),
                    |found| found.cka_id.clone(),
                ),
                label: found.map_or_else(|| key.object_label(), |found| found.label.clone()),
                spec: key.spec,
                usage: found
                    .map(|found| found.usage)
                    .filter(|usage| !usage.is_empty())
                    .unwrap_or(key.usage),
                deactivated_usage: key.deactivated_usage,
                salt: vault.salt.clone(),
                strategy,
            },
            fingerprint,
        })
    }

    /// The instance that a wish makes, as a write conditional on the instance that was read.
    pub(crate) async fn instance_write(
        &self,
        key: &ManagedKey,
        vault: &Vault,
        wish: Wish,
        before: Option<&Instance>,
        at: UnixMs,
    ) -> Result<Write, OpsError> {
        Ok(Write::InstancePut {
            key: key.id,
            instance: Box::new(Instance {
                intent: self.intent(key, vault, wish, before).await?,
                is_target: wish.is_target,
                since: at,
                revision: key.revision,
                adoption: before.and_then(|instance| instance.adoption.clone()),
            }),
            expected: before.map(|instance| instance.intent.generation),
        })
    }
}

/// What is wanted of one version of a key.
#[derive(Debug)]
pub(crate) struct VersionWishes {
    /// The key as this version.
    pub(crate) key: ManagedKey,
    /// Where something else than now is wanted of it.
    pub(crate) wishes: Vec<Wish>,
}

impl Ops {
    /// The wishes of all versions, the one in use first. A version before it goes nowhere new where nothing could be done with
    /// it, or where nobody could send it.
    pub(crate) async fn version_wishes(
        &self,
        key: &ManagedKey,
        instances: &[Instance],
    ) -> Result<Vec<VersionWishes>, OpsError> {
        let mut all = Vec::with_capacity(key.past.len().saturating_add(1));
        for version in key.by_version() {
            let mut wishes = wishes(&version, instances);
            if version.version != key.version
                && wishes.iter().any(|wish| is_new(wish, &version, instances))
            {
                let is_useless = version.state != ManagedState::Active
                    && version.deactivated_usage == DeactivatedUsage::None;
                if is_useless || self.store.copies(version.version).await?.is_empty() {
                    wishes.retain(|wish| !is_new(wish, &version, instances));
                }
            }
            all.push(VersionWishes {
                key: version,
                wishes,
            });
        }
        Ok(all)
    }
}

fn is_new(wish: &Wish, key: &ManagedKey, instances: &[Instance]) -> bool {
    instance_of(instances, key.version, wish.keystore).is_none()
}

/// The instance of a version on a keystore.
pub(crate) fn instance_of(
    instances: &[Instance],
    version: KeyVersionId,
    keystore: KeystoreId,
) -> Option<&Instance> {
    instances
        .iter()
        .find(|instance| instance.intent.version == version && instance.intent.keystore == keystore)
}

/// What the version in use of a key in its state is wanted to be on its targets and on every keystore it ever was on, where that
/// is another thing than what is wanted there now.
fn wishes(key: &ManagedKey, instances: &[Instance]) -> Vec<Wish> {
    let known = |keystore| instance_of(instances, key.version, keystore);
    let past = instances
        .iter()
        .filter(|instance| instance.intent.version == key.version)
        .map(|instance| instance.intent.keystore)
        .filter(|keystore| !key.targets.contains(keystore));
    key.targets
        .iter()
        .copied()
        .chain(past)
        .filter_map(|keystore| {
            let is_target = key.targets.contains(&keystore);
            let before = known(keystore);
            // A key that is gone for good is wanted nowhere that it never was.
            if before.is_none() && key.state.is_destroyed() {
                return None;
            }
            let want = key.want(is_target)?;
            let is_new = before.is_none_or(|instance| {
                instance.intent.want != want
                    || instance.is_target != is_target
                    || (is_target
                        && instance.adoption.is_none()
                        && instance.intent.object.label != key.object_label())
            });
            is_new.then_some(Wish {
                keystore,
                is_target,
                want,
            })
        })
        .collect()
}
