//! Targets of a key: where it is wanted.

use std::collections::BTreeSet;

use crate::coordinator::ops::access::{Call, Permission};
use crate::coordinator::ops::commit::Done;
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::intents::instance_of;
use crate::coordinator::ops::keys::KeyView;
use crate::coordinator::ops::status::Directory;
use crate::coordinator::ops::{Ops, dates};
use crate::model::ids::{KeyId, KeystoreId};
use crate::model::key::ManagedKey;
use crate::model::lifecycle::ManagedState;
use crate::model::template::KeyTemplate;

impl Ops {
    /// Makes exactly these keystores the key's targets, by hand: it no longer follows its template.
    ///
    /// # Errors
    /// `Invalid` for a keystore of another vault; `StateConflict` for a destroyed key; `EtagMismatch`; `Refused` with
    /// `no_repository_copy`, `not_supported_by_token` or `no_common_wrapping` for a new one that the key cannot get to.
    pub async fn key_targets_put(
        &self,
        call: &Call,
        id: KeyId,
        targets: BTreeSet<KeystoreId>,
    ) -> Result<Done<KeyView>, OpsError> {
        call.authorise(Permission::KeyDistribute, None)?;
        let key = self.key_record(id).await?;
        self.check_new_targets(&key, &targets).await?;
        self.check_distributable(&key, &targets).await?;
        self.key_change(call, id, "key.targets", |key, _template| {
            retarget(key, targets.clone(), true)
        })
        .await
    }

    /// Adds one target by hand.
    ///
    /// # Errors
    /// As [`Ops::key_targets_put`].
    pub async fn key_assign(
        &self,
        call: &Call,
        id: KeyId,
        keystore: KeystoreId,
    ) -> Result<Done<KeyView>, OpsError> {
        call.authorise(Permission::KeyDistribute, None)?;
        let key = self.key_record(id).await?;
        if !key.targets.contains(&keystore) {
            self.check_target(&key, keystore).await?;
        }
        self.check_targets(key.targets.len().saturating_add(1))?;
        self.check_distributable(&key, &[keystore].into()).await?;
        self.key_change(call, id, "key.assign", |key, _template| {
            let mut targets = key.targets.clone();
            targets.insert(keystore);
            retarget(key, targets, true)
        })
        .await
    }

    /// Removes one target by hand: the key is disabled there, its material stays.
    ///
    /// # Errors
    /// As [`Ops::key_targets_put`].
    pub async fn key_unassign(
        &self,
        call: &Call,
        id: KeyId,
        keystore: KeystoreId,
    ) -> Result<Done<KeyView>, OpsError> {
        call.authorise(Permission::KeyDistribute, None)?;
        self.key_change(call, id, "key.unassign", |key, _template| {
            let mut targets = key.targets.clone();
            targets.remove(&keystore);
            retarget(key, targets, true)
        })
        .await
    }

    /// Takes targets afresh from the template's group. With `dry_run` nothing is stored and the key is shown as it would be.
    ///
    /// # Errors
    /// As [`Ops::key_targets_put`]; `Refused` with `template_archived`.
    pub async fn key_update_from_template(
        &self,
        call: &Call,
        id: KeyId,
        dry_run: bool,
    ) -> Result<Done<KeyView>, OpsError> {
        call.authorise(Permission::KeyDistribute, None)?;
        let key = self.key_record(id).await?;
        let targets = self.template_targets(&key).await?;
        self.check_distributable(&key, &targets).await?;
        if dry_run {
            call.check_revision(key.revision)?;
            let mut would = key;
            let template = self.template_record(would.template).await?;
            retarget(&mut would, targets, false)?;
            align(&mut would, &template)?;
            let view = self.key_view(would, &mut Directory::default()).await?;
            return Ok(self.unchanged(call).done(view));
        }
        self.key_change(call, id, "key.update_from_template", |key, template| {
            retarget(key, targets.clone(), false)?;
            align(key, template)
        })
        .await
    }

    /// The keystores that carry the group of the key's template now.
    pub(crate) async fn template_targets(
        &self,
        key: &ManagedKey,
    ) -> Result<BTreeSet<KeystoreId>, OpsError> {
        let template = self.template_record(key.template).await?;
        if template.archived {
            return Err(OpsError::refused(
                "template_archived",
                format!("template {:?} is archived", template.name),
            ));
        }
        let records = self
            .keystore_records(Some(key.vault), Some(template.group))
            .await?;
        self.check_targets(records.len())?;
        Ok(records.iter().map(|record| record.id).collect())
    }

    /// Refuses targets that the key could not have.
    pub(crate) async fn check_new_targets(
        &self,
        key: &ManagedKey,
        targets: &BTreeSet<KeystoreId>,
    ) -> Result<(), OpsError> {
        self.check_targets(targets.len())?;
        for keystore in targets.difference(&key.targets) {
            self.check_target(key, *keystore).await?;
        }
        Ok(())
    }

    async fn check_target(&self, key: &ManagedKey, keystore: KeystoreId) -> Result<(), OpsError> {
        let name = match self.store.keystore(keystore).await? {
            Some(record) if record.vault == key.vault => record.name,
            Some(_) | None => {
                return Err(OpsError::invalid(
                    "keystores",
                    "not_found",
                    format!("the key's vault has no keystore {keystore}"),
                ));
            }
        };
        let instances = self.store.key_instances(key.id).await?;
        if instance_of(&instances, key.version, keystore).is_some() {
            // It was there before, and its material is there still.
            return Ok(());
        }
        match self.no_way(key, keystore).await? {
            None => Ok(()),
            Some(no_way) => Err(OpsError::refused(
                no_way.code,
                format!("keystore {name:?}: {}", no_way.reason),
            )),
        }
    }
}

/// Has a key follow its template's version of now: its rotations count from when the version in use was given out.
fn align(key: &mut ManagedKey, template: &KeyTemplate) -> Result<(), OpsError> {
    key.template_version = template.version;
    if let Some(since) = key.in_use_since {
        key.rotation_date = dates::rotation(template, since)?;
    }
    Ok(())
}

/// Sets the targets. A destroyed key has no say in it any more, and a compromised one goes nowhere new.
pub(crate) fn retarget(
    key: &mut ManagedKey,
    targets: BTreeSet<KeystoreId>,
    by_hand: bool,
) -> Result<(), OpsError> {
    let is_refused = match key.state {
        ManagedState::PreActivation | ManagedState::Active | ManagedState::Deactivated => false,
        ManagedState::Compromised => !targets.is_subset(&key.targets),
        ManagedState::Destroyed | ManagedState::DestroyedCompromised => true,
    };
    if is_refused {
        return Err(OpsError::StateConflict {
            state: key.state,
            allowed: key.state.allowed(),
            message: format!(
                "the targets of a key that is {} cannot be changed so",
                key.state.name()
            ),
            current: Some(key.revision),
        });
    }
    if key.targets != targets {
        key.targets = targets;
        key.targets_by_hand = by_hand;
    }
    if !by_hand {
        key.targets_by_hand = false;
    }
    Ok(())
}
