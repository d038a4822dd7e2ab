//! Rotating the wrapping key of an internal keystore: asked for here, carried out by `reconcile`, and how far it is.

use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::{Call, Permission};
use crate::coordinator::ops::commit::{Done, Draft};
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::store::Write;
use crate::model::ids::{KeystoreId, Revision};
use crate::model::kek::{KekRotation, RotationState};
use crate::model::keystore::{KeystoreRecord, Variant};
use crate::model::vault::UnixMs;

/// A keystore and the last rotation of its wrapping key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KekRotationView {
    /// The keystore.
    pub keystore: KeystoreRecord,
    /// The rotation; none was ever asked for where there is none.
    pub rotation: Option<KekRotation>,
    /// Copies that are still under an older wrapping key.
    pub left: u64,
    /// What it waits for, for people.
    pub waiting_for: Option<String>,
}

impl Ops {
    /// How far the last rotation of a keystore's wrapping key is.
    ///
    /// # Errors
    /// `NotFound`, and `not_internal`: an external keystore has no wrapping key.
    pub async fn kek_rotation(
        &self,
        call: &Call,
        id: KeystoreId,
    ) -> Result<KekRotationView, OpsError> {
        call.authorise(Permission::Read, None)?;
        let keystore = self.internal_keystore(id).await?;
        self.rotation_view(keystore).await
    }

    /// Asks for a new wrapping key; all copies of the keystore are wrapped under it, then the old one is destroyed. While one is
    /// under way, asking again changes nothing.
    ///
    /// # Errors
    /// `NotFound`, and `not_internal`: an external keystore has no wrapping key.
    pub async fn kek_rotate(
        &self,
        call: &Call,
        id: KeystoreId,
    ) -> Result<Done<KekRotationView>, OpsError> {
        let keystore = self.internal_keystore(id).await?;
        call.authorise(Permission::KeystoreWrite, Some(keystore.vault))?;
        if let Some(earlier) = self.earlier(call).await? {
            return Ok(earlier.done(self.rotation_view(keystore).await?));
        }
        let mut is_second = false;
        loop {
            let before = self.store.kek_rotation(id).await?;
            if before.as_ref().is_some_and(KekRotation::is_under_way) {
                self.fleet.wake(&[id]);
                let view = self.rotation_view(keystore).await?;
                return Ok(self.unchanged(call).done(view));
            }
            match self
                .commit(call, draft(id, before.as_ref(), self.now()))
                .await
            {
                Ok(committed) => {
                    let view = self.rotation_view(keystore).await?;
                    return Ok(committed.done(view));
                }
                Err(OpsError::Conflict { .. }) if !is_second => is_second = true,
                Err(error) => return Err(error),
            }
        }
    }

    async fn internal_keystore(&self, id: KeystoreId) -> Result<KeystoreRecord, OpsError> {
        let keystore = self.keystore_record(id).await?;
        match keystore.variant {
            Variant::Internal => Ok(keystore),
            Variant::External => Err(OpsError::refused(
                "not_internal",
                "an external keystore has no wrapping key",
            )),
        }
    }

    async fn rotation_view(&self, keystore: KeystoreRecord) -> Result<KekRotationView, OpsError> {
        let rotation = self.store.kek_rotation(keystore.id).await?;
        let demanded = rotation.as_ref().and_then(KekRotation::demanded);
        let left = match demanded {
            Some(to) => self.store.copies_below_count(keystore.id, to).await?,
            None => 0,
        };
        let waiting_for = rotation
            .as_ref()
            .filter(|rotation| rotation.is_under_way())
            .and_then(|rotation| {
                let unwell = self.is_well(keystore.id).err();
                unwell.or_else(|| rotation.trouble.clone())
            });
        Ok(KekRotationView {
            keystore,
            rotation,
            left,
            waiting_for,
        })
    }
}

fn draft(id: KeystoreId, before: Option<&KekRotation>, asked_at: UnixMs) -> Draft {
    let expected = before.map(|before| before.revision);
    let revision = expected.map_or(1, |revision| revision.0.saturating_add(1));
    let record = KekRotation {
        keystore: id,
        revision: Revision(revision),
        asked_at,
        state: RotationState::Asked,
        trouble: None,
    };
    let mut draft = Draft::new(
        "keystore.rotate_kek",
        format!("keystore/{id}"),
        "a new wrapping key was asked for".to_owned(),
    );
    draft.status = 202;
    draft
        .writes
        .push(Write::KekRotationPut { record, expected });
    draft.wake.push(id);
    draft
}
