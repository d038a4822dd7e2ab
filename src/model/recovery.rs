//! What shows that the store is older than what its agents know, and what an operator has decided about it (promises 2.6).

use serde::{Deserialize, Serialize};

use crate::model::desired::Applied;
use crate::model::ids::{Generation, KeyVersionId, KeystoreId, Revision, Term};
use crate::model::vault::UnixMs;

/// Most pieces of evidence that are kept: one is enough.
pub const EVIDENCE_MAX: usize = 20;

/// One thing that a store cannot have forgotten by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Evidence {
    /// The store was put here by `lockstep restore`.
    #[error("the store was restored from a backup")]
    Restored {
        /// When the backup was made.
        backup_at: UnixMs,
    },
    /// The agent has served a coordinator with a lease that this store never gave.
    #[error(
        "the agent has served a coordinator of term {served}, and this store has given none above {given}"
    )]
    HigherTerm {
        /// Which agent.
        keystore: KeystoreId,
        /// The highest term that it accepted.
        served: Term,
        /// The highest that this store has given.
        given: Term,
    },
    /// The agent holds a later intent than the store, or another one of the same number.
    #[error("the agent holds generation {}, {}, and the store generation {stored}", applied.generation, applied.want.name())]
    Ahead {
        /// Which agent.
        keystore: KeystoreId,
        /// Which key version.
        version: KeyVersionId,
        /// What it holds.
        applied: Applied,
        /// The number in the store.
        stored: Generation,
    },
    /// The agent keeps a key that the store does not know to be there.
    #[error("the agent keeps a key that the store does not know to be there")]
    Stranger {
        /// Which agent.
        keystore: KeystoreId,
        /// Which key version.
        version: KeyVersionId,
        /// What it holds.
        applied: Applied,
    },
}

/// The store was found to be older than its agents: nothing is enabled until an operator has looked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// +1 with each change.
    pub revision: Revision,
    /// When it was noticed.
    pub noticed_at: UnixMs,
    /// Why, at most [`EVIDENCE_MAX`].
    pub evidence: Vec<Evidence>,
}

/// A key that an agent keeps and the store does not know: an operator has seen it, and it is no news any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stranger {
    /// On which keystore.
    pub keystore: KeystoreId,
    /// Which key version: the CKA_ID of its objects, unless it was adopted.
    pub version: KeyVersionId,
    /// When an operator saw it.
    pub seen_at: UnixMs,
}

/// Whom to believe about keys that are active at agents and not in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Prefer {
    /// What restricts: such keys are deactivated.
    #[default]
    Restrict,
    /// The agents: such keys stay active.
    Agents,
}
