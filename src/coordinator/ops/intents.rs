//! Intents: what a change of a key means for each keystore, as writes for one commit.

use crate::coordinator::ops::Ops;
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::strategies::demanded;
use crate::coordinator::store::Write;
use crate::model::adoption::Adoption;
use crate::model::desired::{Instance, Intent, ObjectPlan, Want};
use crate::model::ids::{Generation, KeystoreId};
use crate::model::key::ManagedKey;
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
                label: found.map_or_else(
                    || key.label.as_str().to_owned(),
                    |found| found.label.clone(),
                ),
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

/// What a key in its state is wanted to be on its targets and on every keystore it ever was on, where that is another thing
/// than what is wanted there now.
pub(crate) fn wishes(key: &ManagedKey, instances: &[Instance]) -> Vec<Wish> {
    let known = |keystore| {
        instances
            .iter()
            .find(|instance| instance.intent.keystore == keystore)
    };
    let past = instances
        .iter()
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
            let want = key.state.want(is_target)?;
            let is_new = before.is_none_or(|instance| {
                instance.intent.want != want
                    || instance.is_target != is_target
                    || (is_target
                        && instance.adoption.is_none()
                        && instance.intent.object.label != key.label.as_str())
            });
            is_new.then_some(Wish {
                keystore,
                is_target,
                want,
            })
        })
        .collect()
}
