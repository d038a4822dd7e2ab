//! Rotating a key: new material under the same name. One commit holds the new version, its repository copy, the intents that
//! give it out, and those that retire the version before; where the vault demands more copies than there are yet, the version is
//! kept as the coming one and given out when they are there.

use crate::coordinator::ops::access::{Call, Permission};
use crate::coordinator::ops::commit::Done;
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::keys::KeyView;
use crate::coordinator::ops::naming::Scheme;
use crate::coordinator::ops::status::Directory;
use crate::coordinator::ops::{Ops, dates};
use crate::coordinator::store::{KeyFilter, Page, Write};
use crate::model::ids::{KeyId, KeyVersionId};
use crate::model::key::ManagedKey;
use crate::model::lifecycle::ManagedState;
use crate::model::material::RepositoryCopy;
use crate::model::template::KeyTemplate;
use crate::model::text::Label;
use crate::model::vault::{UnixMs, Vault};
use crate::model::version::{KeyVersion, VERSIONS_MAX};

/// Why a key cannot be rotated now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotRotatable {
    /// Only an active key is in use.
    #[error("only an active key can be rotated")]
    State,
    /// The label says when the key was made.
    #[error(
        "its label is made from dates by the template's naming scheme, so a new version would need another key"
    )]
    Named,
    /// There are too many versions.
    #[error("a key has at most {VERSIONS_MAX} versions")]
    Versions,
}

impl Ops {
    /// Makes the next version of an active key on an internal keystore and gives it out to the key's targets; the version before
    /// is deactivated where the template says so. A key that others made is rotated to one that we make. While a version waits
    /// for its copies, asking again changes nothing.
    ///
    /// # Errors
    /// `StateConflict`; `EtagMismatch`; `Refused` with `not_rotatable`, `not_supported_by_token`, `no_common_wrapping` or, where
    /// the version before could only be withdrawn and nobody has it, `no_repository_copy`; `Taken` for the label of the new
    /// objects; what making a key may meet.
    pub async fn key_rotate(&self, call: &Call, id: KeyId) -> Result<Done<KeyView>, OpsError> {
        call.authorise(Permission::KeyGenerate, None)?;
        if let Some(earlier) = self.earlier(call).await? {
            return self.key_again(earlier).await;
        }
        let before = self.key_record(id).await?;
        call.check_revision(before.revision)?;
        let template = self.template_record(before.template).await?;
        check_rotatable(&before, &template)?;
        if before.coming.is_some() {
            let view = self.key_view(before, &mut Directory::default()).await?;
            return Ok(self.unchanged(call).done(view));
        }
        let vault = self.vault_record(before.vault).await?;
        let at = self.now();
        let (mut key, copy) = self.next_version(&before, &vault).await?;
        if vault.min_copies <= 1 {
            give_out(&mut key, &template, at)?;
        }
        let version = copy.birth.body.version;
        let drafted = self.change_draft(call, "key.rotate", &before, &mut key, Some(version));
        let mut draft = drafted.await?;
        // Behind the key's own write, which makes the version known.
        draft.writes.insert(1, Write::CopyInsert { version, copy });
        let internal = self.internal_keystores(vault.id).await?;
        draft.wake.extend(internal.iter().map(|record| record.id));
        match self.commit(call, draft).await {
            Ok(committed) if committed.earlier.is_some() => self.key_again(committed).await,
            Ok(committed) => {
                let view = self.key_view(key, &mut Directory::default()).await?;
                Ok(committed.done(view))
            }
            Err(OpsError::Conflict { .. }) => Err(OpsError::EtagMismatch {
                current: self.key_record(id).await?.revision,
            }),
            Err(error) => Err(error),
        }
    }

    /// Gives out the version that waited for its copies.
    ///
    /// # Errors
    /// `Refused` with `too_few_copies`; what every change may meet.
    pub(crate) async fn key_give_out(
        &self,
        call: &Call,
        id: KeyId,
    ) -> Result<Done<KeyView>, OpsError> {
        call.authorise(Permission::KeyGenerate, None)?;
        let key = self.key_record(id).await?;
        if let Some(coming) = &key.coming {
            self.check_copies(&key.as_version(coming)).await?;
        }
        let at = self.now();
        self.key_change(call, id, "key.rotate", |key, template| {
            give_out(key, template, at)
        })
        .await
    }

    /// The key with its next version as the coming one, and that version's material.
    async fn next_version(
        &self,
        before: &ManagedKey,
        vault: &Vault,
    ) -> Result<(ManagedKey, RepositoryCopy), OpsError> {
        let mut next = KeyVersion {
            id: KeyVersionId::from_uuid(self.entropy.uuid()),
            number: before.version_number.saturating_add(1),
            fingerprint: None,
            spki: None,
            in_use_since: None,
            is_retired: false,
        };
        let wanted = before.as_version(&next);
        check_object_label(&wanted)?;
        self.check_object_label_free(&wanted).await?;
        for target in &before.targets {
            if let Some(no_way) = self.no_way(&wanted, *target).await? {
                let record = self.store.keystore(*target).await?;
                let name = record.map_or_else(|| target.to_string(), |record| record.name);
                let reason = format!("keystore {name:?}: {}", no_way.reason);
                return Err(OpsError::refused(no_way.code, reason));
            }
        }
        let internal = self.internal_keystores(vault.id).await?;
        let copy = self.generate(vault, &internal, &wanted).await?;
        next.fingerprint = Some(copy.birth.body.fingerprint);
        next.spki.clone_from(&copy.birth.body.spki);
        let mut key = before.clone();
        key.coming = Some(Box::new(next));
        Ok((key, copy))
    }

    /// The objects of a version have a label of their own, which may be another key's.
    async fn check_object_label_free(&self, key: &ManagedKey) -> Result<(), OpsError> {
        let filter = KeyFilter {
            vault: Some(key.vault),
            label: Some(key.object_label()),
            ..KeyFilter::default()
        };
        let one = Page {
            limit: 1,
            offset: 0,
        };
        if self.store.key_list(filter, one).await?.total == 0 {
            return Ok(());
        }
        Err(OpsError::Taken {
            field: "label_in_keystore".to_owned(),
            value: key.object_label(),
        })
    }
}

/// Makes the coming version the one in use.
fn give_out(key: &mut ManagedKey, template: &KeyTemplate, at: UnixMs) -> Result<(), OpsError> {
    if let Some(next) = key.coming.take() {
        key.replace_version(*next, template.deactivate_on_rotation, at);
        dates::into_use(key, template, at)?;
    }
    Ok(())
}

/// Why a key cannot be rotated now, if it cannot.
pub(crate) fn not_rotatable(key: &ManagedKey, template: &KeyTemplate) -> Option<NotRotatable> {
    let scheme = template.naming_scheme.as_deref().map(Scheme::parse);
    let is_dated = matches!(scheme, Some(Ok(scheme)) if scheme.is_dated());
    if is_dated {
        Some(NotRotatable::Named)
    } else if key.version_number >= VERSIONS_MAX {
        Some(NotRotatable::Versions)
    } else if key.state == ManagedState::Active {
        None
    } else {
        Some(NotRotatable::State)
    }
}

fn check_rotatable(key: &ManagedKey, template: &KeyTemplate) -> Result<(), OpsError> {
    match not_rotatable(key, template) {
        None => Ok(()),
        Some(why @ NotRotatable::State) => Err(OpsError::StateConflict {
            state: key.state,
            allowed: key.state.allowed(),
            message: format!("cannot rotate a key that is {}: {why}", key.state.name()),
            current: Some(key.revision),
        }),
        Some(why @ (NotRotatable::Named | NotRotatable::Versions)) => {
            Err(OpsError::refused("not_rotatable", why.to_string()))
        }
    }
}

/// A label with the version behind it has to be a label still.
pub(crate) fn check_object_label(key: &ManagedKey) -> Result<(), OpsError> {
    match Label::new(key.object_label()) {
        Ok(_label) => Ok(()),
        Err(error) => {
            let message = format!("with its version behind it: {error}");
            Err(OpsError::invalid("label", "invalid_label", message))
        }
    }
}
