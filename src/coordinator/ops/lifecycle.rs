//! Transitions of keys: each writes the intents of all keystores concerned in one commit.

use crate::coordinator::ops::access::{Call, Permission};
use crate::coordinator::ops::commit::{Done, Draft};
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::keys::KeyView;
use crate::coordinator::ops::{Ops, dates};
use crate::coordinator::store::Write;
use crate::decide::status::Phase;
use crate::model::ids::KeyId;
use crate::model::lifecycle::Action;
use crate::model::version::Hold;

impl Ops {
    /// Activates, deactivates, compromises or destroys a key. Asking for the state already there changes nothing.
    ///
    /// # Errors
    /// `StateConflict` names the allowed actions; `EtagMismatch`; what every change may meet.
    pub async fn key_act(
        &self,
        call: &Call,
        id: KeyId,
        action: Action,
    ) -> Result<Done<KeyView>, OpsError> {
        let (permission, name) = match action {
            Action::Activate => (Permission::KeyActivate, "key.activate"),
            Action::Deactivate => (Permission::KeyDeactivate, "key.deactivate"),
            Action::Compromise => (Permission::KeyDeactivate, "key.compromise"),
            Action::Destroy => (Permission::KeyDestroy, "key.destroy"),
            Action::Remove => {
                return Err(OpsError::refused(
                    "not_a_transition",
                    "removing a record is asked for by deleting the key",
                ));
            }
        };
        call.authorise(permission, None)?;
        let hold = match action {
            Action::Destroy => self.hold_until(id).await?,
            Action::Activate | Action::Deactivate | Action::Compromise | Action::Remove => None,
        };
        self.key_change(call, id, name, |key, _template| {
            let from = key.state;
            key.state = from
                .after(action)
                .map_err(|forbidden| OpsError::transition(&forbidden, key.revision))?;
            if from != key.state
                && let Some(until) = hold.clone()
            {
                key.hold = Some(Hold { until, from });
            }
            Ok(())
        })
        .await
    }

    pub(crate) async fn hold_until(&self, id: KeyId) -> Result<Option<String>, OpsError> {
        let vault = self.key_record(id).await?.vault;
        let period = self.vault_record(vault).await?.destruction_hold;
        dates::hold_until(&period, self.now())
    }

    /// Takes back a destruction while it is held: the key is again what it was.
    ///
    /// # Errors
    /// `StateConflict` where none is held; `EtagMismatch`; what every change may meet.
    pub async fn key_cancel_destruction(
        &self,
        call: &Call,
        id: KeyId,
    ) -> Result<Done<KeyView>, OpsError> {
        call.authorise(Permission::KeyDestroy, None)?;
        self.key_change(call, id, "key.cancel_destruction", |key, _template| {
            let Some(hold) = key.hold.take() else {
                return Err(OpsError::StateConflict {
                    state: key.state,
                    allowed: key.state.allowed(),
                    message: "no destruction of the key is held".to_owned(),
                    current: Some(key.revision),
                });
            };
            key.state = hold.from;
            Ok(())
        })
        .await
    }

    /// Removes the record of a destroyed key. Unless forced, only when every keystore has confirmed.
    ///
    /// # Errors
    /// `StateConflict`; `Refused` with `destruction_unconfirmed`.
    pub async fn key_remove(
        &self,
        call: &Call,
        id: KeyId,
        force: bool,
    ) -> Result<Done<()>, OpsError> {
        call.authorise(Permission::KeyRemove, None)?;
        if let Some(earlier) = self.earlier(call).await? {
            return Ok(earlier.done(()));
        }
        let view = self.key(call, id).await?;
        let key = view.key;
        call.check_revision(key.revision)?;
        key.state
            .after(Action::Remove)
            .map_err(|forbidden| OpsError::transition(&forbidden, key.revision))?;
        if let Some(hold) = &key.hold {
            return Err(OpsError::refused(
                "destruction_held",
                format!(
                    "its destruction is held until {}: cancel it, or wait",
                    hold.until
                ),
            ));
        }
        if view.phase.phase != Phase::InStep && !force {
            return Err(OpsError::refused(
                "destruction_unconfirmed",
                format!(
                    "{} of {} keystores have confirmed that the key is gone; force=true removes the record all the same",
                    view.phase.confirmed, view.phase.total
                ),
            ));
        }
        let mut draft = Draft::new("key.remove", format!("key/{id}"), key.label.to_string());
        draft.status = 204;
        draft.writes.push(Write::KeyDelete {
            id,
            expected: key.revision,
        });
        draft.wake = view.keystores.iter().map(|row| row.keystore).collect();
        match self.commit(call, draft).await {
            Err(OpsError::Conflict { .. }) => Err(OpsError::EtagMismatch {
                current: self.key_record(id).await?.revision,
            }),
            committed => Ok(committed?.done(())),
        }
    }
}
