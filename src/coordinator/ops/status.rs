//! What each keystore has of a key: the view that API, console and CLI show.

use std::time::Duration;

use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::Call;
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::keys::KeyView;
use crate::coordinator::ops::templates::unfinished;
use crate::decide::status::{SyncDetail, SyncFlag, UkoStatus};
use crate::model::desired::Instance;
use crate::model::difference::{Difference, Seen, Status};
use crate::model::ids::{KeyId, KeystoreId};
use crate::model::keystore::Variant;
use crate::model::live::LastSeen;
use crate::model::observed::Proof;
use crate::model::vault::UnixMs;

/// One keystore's truth about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InKeystore {
    /// The keystore.
    pub keystore: KeystoreId,
    /// Its name.
    pub name: String,
    /// Internal or external.
    pub variant: Variant,
    /// Whether it is a target now.
    pub is_target: bool,
    /// The intent in force; none while the key was never wanted there.
    pub instance: Option<Instance>,
    /// In our words.
    pub status: Status,
    /// What the token holds, as last known in this session, else as last seen before.
    pub seen: Seen,
    /// API v4's `status`.
    pub uko_status: UkoStatus,
    /// API v4's `keystore_sync_flag`.
    pub sync_flag: SyncFlag,
    /// API v4's `keystore_sync_flag_detail`: the nearest value.
    pub sync_detail: SyncDetail,
    /// Why it is not as wanted.
    pub differences: Vec<Observed>,
    /// When the token was last looked at for this key.
    pub observed_at: Option<UnixMs>,
    /// When enabled or disabled was last proved.
    pub proved_at: Option<UnixMs>,
    /// How.
    pub proof: Option<Proof>,
    /// Since when a change of ours has been under way.
    pub pending_since: Option<UnixMs>,
    /// What was seen before this session: shown, never counted.
    pub last_seen: Option<LastSeen>,
    /// What went wrong, for the embedded error.
    pub error: Option<String>,
}

/// A difference with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The difference.
    pub difference: Difference,
    /// Since when it has been seen.
    pub since: Option<UnixMs>,
}

impl Ops {
    /// Waits until nothing of the key is on its way, at most so long, and answers with what is then known. An unreachable
    /// keystore is not waited for.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn key_wait(
        &self,
        _call: &Call,
        _id: KeyId,
        _timeout: Duration,
    ) -> Result<KeyView, OpsError> {
        Err(unfinished())
    }
}
