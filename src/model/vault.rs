//! Vaults, and the stamps that every record carries.

use serde::{Deserialize, Serialize};

use crate::model::capabilities::Strategy;
use crate::model::ids::{Revision, VaultId};

/// Milliseconds since 1970-01-01T00:00:00Z. For people and records only: nothing is ordered by it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMs(pub i64);

/// Who made a record and who changed it last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamps {
    /// When it was made.
    pub created_at: UnixMs,
    /// By whom: the name of a token or person.
    pub created_by: String,
    /// When it was last changed by a person or a date.
    pub updated_at: UnixMs,
    /// By whom.
    pub updated_by: String,
}

impl Stamps {
    /// A new record's stamps.
    #[must_use]
    pub fn new(at: UnixMs, by: &str) -> Self {
        Self {
            created_at: at,
            created_by: by.to_owned(),
            updated_at: at,
            updated_by: by.to_owned(),
        }
    }

    /// Marks a change.
    pub fn touch(&mut self, at: UnixMs, by: &str) {
        self.updated_at = at;
        by.clone_into(&mut self.updated_by);
    }
}

/// What is done by itself about what somebody else changed on a token (promises R12). Only what a sync would put right, and
/// never a destroyed key that is back, other material, or a token that looks like an older image of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriftPolicy {
    /// It is told; people sync.
    #[default]
    Report,
    /// What became too permissive is put right at once.
    Restrict,
    /// All of it is.
    Enforce,
}

impl DriftPolicy {
    /// All, in the order of how much they do.
    pub const ALL: [Self; 3] = [Self::Report, Self::Restrict, Self::Enforce];

    /// The name in API, CLI and pages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Restrict => "restrict",
            Self::Enforce => "enforce",
        }
    }

    /// The policy of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.name() == name)
    }
}

/// A vault's `destruction_hold` that holds nothing.
pub const NO_HOLD: &str = "P0D";

/// Administrative boundary: templates, keys and keystores belong to exactly one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vault {
    /// Its id.
    pub id: VaultId,
    /// 1 to 100 characters; unique.
    pub name: String,
    /// At most 200 characters.
    pub description: String,
    /// Label of a recovery key outside of Lockstep, kept for clients of API v4.
    pub recovery_key_label: Option<String>,
    /// 32 random bytes that make fingerprints of one vault useless in another.
    pub salt: Vec<u8>,
    /// The weakest strategy by which keys of the vault are disabled anywhere.
    #[serde(default)]
    pub strategy: Strategy,
    /// Internal keystores that must hold a key's material before it is first activated; at least 1.
    #[serde(default = "one_copy")]
    pub min_copies: u32,
    /// ISO 8601 period in days for which a destroyed key is only disabled and can be brought back, `P0D` (not at all) to `P90D`.
    #[serde(default = "no_hold")]
    pub destruction_hold: String,
    /// What is done about drift.
    #[serde(default)]
    pub drift_policy: DriftPolicy,
    /// The ETag.
    pub revision: Revision,
    /// Who and when.
    pub stamps: Stamps,
}

fn no_hold() -> String {
    NO_HOLD.to_owned()
}

const fn one_copy() -> u32 {
    1
}
