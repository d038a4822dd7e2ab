//! A store that is older than its agents. GET and POST /api/lockstep/v1/recovery.

use serde::{Deserialize, Serialize};

use crate::rest::extension::KeyRef;
use crate::rest::status::KeystoreRef;

/// GET …/recovery: what is known, and what going on would do. POST: what was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// Whether the store was found to be older than its agents: nothing is enabled then.
    pub is_behind: bool,
    /// When it was noticed; empty: it was not.
    pub noticed_at: String,
    /// What shows it, for people.
    pub evidence: Vec<Evidence>,
    /// Keys of which an agent holds a later state than the store.
    pub managed_keys: Vec<KeyRecovery>,
    /// Keys that agents keep and the store does not know.
    pub strangers: Vec<Stranger>,
    /// Keystores whose agents have not told all they know.
    pub missing_keystores: Vec<MissingKeystore>,
}

/// One thing that the store cannot have forgotten by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The keystore whose agent shows it; none: the store itself says so.
    pub keystore: Option<KeystoreRef>,
    /// For people.
    pub message: String,
}

/// One key, and what it becomes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecovery {
    /// The key.
    pub managed_key: KeyRef,
    /// Its state in the store.
    pub state: String,
    /// The state that it gets.
    pub becomes: String,
    /// The targets that it gets.
    pub target_keystores: Vec<KeystoreRef>,
    /// The agents that are ahead.
    pub ahead: Vec<Ahead>,
}

/// One agent that is ahead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ahead {
    /// The keystore's name.
    pub keystore_name: String,
    /// What the store wants there; empty: it does not know the key to be there.
    pub store: String,
    /// What the agent holds.
    pub agent: String,
    /// Number of the agent's intent.
    pub generation: u64,
}

/// One key that an agent keeps and the store does not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stranger {
    /// The keystore.
    pub keystore: KeystoreRef,
    /// Its key version: the CKA_ID of its objects, unless it was adopted.
    pub version: String,
    /// The label of its objects, where they were seen.
    pub label: String,
    /// What the agent holds.
    pub agent: String,
}

/// One keystore whose agent has not told all it knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingKeystore {
    /// The keystore.
    pub keystore: KeystoreRef,
    /// Why, for people.
    pub why: String,
}

/// POST …/recovery
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recover {
    /// Whom to believe about keys that are active at agents and not in the store.
    #[serde(default)]
    pub prefer: Prefer,
    /// Goes on although some agents have not told all they know.
    #[serde(default)]
    pub without_missing: bool,
}

/// Whom to believe about keys that are active at agents and not in the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Prefer {
    /// What restricts: they are deactivated.
    #[default]
    Restrict,
    /// The agents: they stay active.
    Agents,
}
