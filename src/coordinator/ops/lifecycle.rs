//! Transitions of keys: each writes the intents of all keystores concerned in one commit.

use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::Call;
use crate::coordinator::ops::commit::Done;
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::keys::KeyView;
use crate::coordinator::ops::templates::unfinished;
use crate::model::ids::KeyId;
use crate::model::lifecycle::Action;

impl Ops {
    /// Activates, deactivates, compromises or destroys a key. Asking for the state already there changes nothing.
    ///
    /// # Errors
    /// `StateConflict` names the allowed actions; `EtagMismatch`; what every change may meet.
    pub async fn key_act(
        &self,
        _call: &Call,
        _id: KeyId,
        _action: Action,
    ) -> Result<Done<KeyView>, OpsError> {
        Err(unfinished())
    }

    /// Removes the record of a destroyed key. Unless forced, only when every keystore has confirmed.
    ///
    /// # Errors
    /// `StateConflict`; `Refused` with `destruction_unconfirmed`.
    pub async fn key_remove(
        &self,
        _call: &Call,
        _id: KeyId,
        _force: bool,
    ) -> Result<Done<()>, OpsError> {
        Err(unfinished())
    }
}
