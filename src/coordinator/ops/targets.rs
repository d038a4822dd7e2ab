//! Targets of a key: where it is wanted.

use std::collections::BTreeSet;

use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::Call;
use crate::coordinator::ops::commit::Done;
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::keys::KeyView;
use crate::coordinator::ops::templates::unfinished;
use crate::model::ids::{KeyId, KeystoreId};

impl Ops {
    /// Makes exactly these keystores the key's targets, by hand: it no longer follows its template.
    ///
    /// # Errors
    /// `Invalid` for a keystore of another vault; `StateConflict` for a destroyed key; `EtagMismatch`.
    pub async fn key_targets_put(
        &self,
        _call: &Call,
        _id: KeyId,
        _targets: BTreeSet<KeystoreId>,
    ) -> Result<Done<KeyView>, OpsError> {
        Err(unfinished())
    }

    /// Adds one target by hand.
    ///
    /// # Errors
    /// As [`Ops::key_targets_put`].
    pub async fn key_assign(
        &self,
        _call: &Call,
        _id: KeyId,
        _keystore: KeystoreId,
    ) -> Result<Done<KeyView>, OpsError> {
        Err(unfinished())
    }

    /// Removes one target by hand: the key is disabled there, its material stays.
    ///
    /// # Errors
    /// As [`Ops::key_targets_put`].
    pub async fn key_unassign(
        &self,
        _call: &Call,
        _id: KeyId,
        _keystore: KeystoreId,
    ) -> Result<Done<KeyView>, OpsError> {
        Err(unfinished())
    }

    /// Takes targets afresh from the template's group. With `dry_run` nothing is stored and the key is shown as it would be.
    ///
    /// # Errors
    /// As [`Ops::key_targets_put`]; `Refused` with `template_archived`.
    pub async fn key_update_from_template(
        &self,
        _call: &Call,
        _id: KeyId,
        _dry_run: bool,
    ) -> Result<Done<KeyView>, OpsError> {
        Err(unfinished())
    }
}
