//! Backups. POST /api/lockstep/v1/backup; the answer is the sealed store.

use serde::{Deserialize, Serialize};

/// POST …/backup
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupRequest {
    /// The public part of the recovery key that is to open it, as `lockstep recovery-key` printed it.
    pub recovery_key: String,
}
