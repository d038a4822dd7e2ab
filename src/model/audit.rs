//! Audit entries: what was asked, by whom, and about what. Written in the transaction of the change itself.

use serde::{Deserialize, Serialize};

use crate::model::ids::{BulkId, Digest, OperationId};
use crate::model::vault::UnixMs;

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When, for people.
    pub at: UnixMs,
    /// The token's or person's name; `reconciler` for our own acts.
    pub actor: String,
    /// What, such as `key.activate`.
    pub action: String,
    /// About what, such as `key/<id>`.
    pub subject: String,
    /// The operation it belongs to.
    pub operation: OperationId,
    /// Digests of the intents that were written with it.
    pub intents: Vec<Digest>,
    /// For people.
    pub detail: String,
    /// The bulk change that it was a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bulk: Option<BulkId>,
}
