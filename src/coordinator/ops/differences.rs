//! Differences over the whole estate.

use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::Call;
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::lists::{Page, Paged};
use crate::coordinator::ops::status::InKeystore;
use crate::coordinator::ops::templates::unfinished;
use crate::model::difference::Reason;
use crate::model::ids::{KeyId, KeystoreId, VaultId};

/// Which differences.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DifferenceQuery {
    /// Of keys of this vault.
    pub vault: Option<VaultId>,
    /// On this keystore.
    pub keystore: Option<KeystoreId>,
    /// With this reason.
    pub reason: Option<Reason>,
}

/// An instance that is not as wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DifferenceView {
    /// The key.
    pub key: KeyId,
    /// Its label.
    pub label: String,
    /// The keystore's truth, with the differences.
    pub in_keystore: InKeystore,
}

impl Ops {
    /// All instances that are not as wanted, by keystore name and label.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn difference_list(
        &self,
        _call: &Call,
        _query: DifferenceQuery,
        _page: Page,
    ) -> Result<Paged<DifferenceView>, OpsError> {
        Err(unfinished())
    }
}
