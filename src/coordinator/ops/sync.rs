//! Sync, look, prove.

use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::Call;
use crate::coordinator::ops::commit::Done;
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::keys::KeyView;
use crate::coordinator::ops::templates::unfinished;
use crate::model::ids::KeyId;

impl Ops {
    /// Pushes the wanted state again to every target that is not in sync. Does not change the key's ETag.
    ///
    /// # Errors
    /// `EtagMismatch`, and what every change may meet. A keystore that cannot be reached is no error: its truth is in the view.
    pub async fn key_sync(&self, _call: &Call, _id: KeyId) -> Result<Done<KeyView>, OpsError> {
        Err(unfinished())
    }

    /// Has every keystore of the key looked at now, and answers with what was seen.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn key_verify(&self, _call: &Call, _id: KeyId) -> Result<KeyView, OpsError> {
        Err(unfinished())
    }

    /// Has every keystore of the key try it now, and answers with what came of it.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn key_prove(&self, _call: &Call, _id: KeyId) -> Result<KeyView, OpsError> {
        Err(unfinished())
    }
}
