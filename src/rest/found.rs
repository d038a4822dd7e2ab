//! Keys found on tokens: listing, adopting, ignoring. Under /api/lockstep/v1/keystores/{id}/unmanaged.

use serde::{Deserialize, Serialize};

use crate::model::adoption::FoundState;
use crate::model::finding::Severity;
use crate::model::key::{Algorithm, Usage};
use crate::model::lifecycle::ManagedState;
use crate::rest::extension::KeyRef;
use crate::rest::list::PageInfo;
use crate::rest::managed_key::VerificationPattern;
use crate::rest::status::{KeystoreRef, Phase};

/// GET …/unmanaged
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundKeyList {
    /// Which part it is.
    #[serde(flatten)]
    pub page: PageInfo,
    /// Keys on the token as last told in the live session, by label and CKA_ID.
    pub found_keys: Vec<FoundKey>,
}

/// A key on a token: all objects that share a CKA_ID.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundKey {
    /// CKA_ID, lower-case hex.
    pub key_id_in_keystore: String,
    /// CKA_LABEL, made printable.
    pub label_in_keystore: String,
    /// `managed`, `unmanaged` or `ignored`.
    pub state: FoundState,
    /// Missing: not a kind that Lockstep manages, or the token does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<Algorithm>,
    /// Bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Usages that are on, of all its objects.
    pub usage: Vec<Usage>,
    /// CKA_SENSITIVE of what hides the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensitive: Option<bool>,
    /// CKA_EXTRACTABLE of what hides the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extractable: Option<bool>,
    /// Its fingerprint under the vault's salt, where it was asked for and could be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<VerificationPattern>,
    /// Why it cannot be adopted as it is, as far as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obstacle: Option<Obstacle>,
    /// What is weak about it.
    pub findings: Vec<Finding>,
    /// The managed key that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_key: Option<KeyRef>,
    /// Why it is ignored, since when and by whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignored: Option<IgnoredBecause>,
    /// Its objects; none: it is ignored and not on the token.
    pub objects: Vec<FoundObject>,
}

/// Why a key cannot be adopted, or was not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacle {
    /// For programs, such as `half_pair`.
    pub code: String,
    /// For people.
    pub message: String,
    /// The field of the request that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// What is weak about a key that others made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// For programs: `wrap_and_decrypt`, `sign_and_decrypt`, `not_sensitive` or `extractable`.
    pub code: String,
    /// How bad it is.
    pub severity: Severity,
    /// For people.
    pub message: String,
}

/// Why a key is ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnoredBecause {
    /// Why.
    pub reason: String,
    /// Since when.
    pub at: String,
    /// By whom.
    pub by: String,
}

/// One object of a key on a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundObject {
    /// `secret_key`, `private_key` or `public_key`.
    #[serde(rename = "type")]
    pub kind: String,
    /// CKA_KEY_TYPE, such as `0x1f`; missing: the token did not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_type: Option<String>,
    /// CKA_LABEL, made printable.
    pub label_in_keystore: String,
    /// Usages that are on.
    pub usage: Vec<Usage>,
    /// Bits, where the token tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
    /// CKA_SENSITIVE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sensitive: Option<bool>,
    /// CKA_EXTRACTABLE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extractable: Option<bool>,
}

/// POST …/unmanaged/adopt. Says which keys by `key_id_in_keystore`, or by `label_in_keystore` and `algorithm`, or by `all`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adopt {
    /// The template of the keystore's vault that new keys belong to; for keys of their kind.
    pub template_name: String,
    /// The one with this CKA_ID, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id_in_keystore: Option<String>,
    /// Those whose CKA_LABEL fits; `*` stands for any characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_in_keystore: Option<String>,
    /// Those of this algorithm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<Algorithm>,
    /// All that nobody manages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
    /// The managed key's label, where it is not to be the one on the token; for one key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What it is for, at most 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// The keystore.
    pub keystore: KeystoreRef,
    /// Whether nothing was changed, and this is what would have been.
    pub dry_run: bool,
    /// Key by key.
    pub results: Vec<AdoptedKey>,
}

/// What came of one key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptedKey {
    /// CKA_ID, lower-case hex.
    pub key_id_in_keystore: String,
    /// CKA_LABEL, made printable.
    pub label_in_keystore: String,
    /// What it became.
    pub result: AdoptResult,
    /// Its algorithm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<Algorithm>,
    /// Bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Its fingerprint under the vault's salt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<VerificationPattern>,
    /// What is weak about it.
    pub findings: Vec<Finding>,
    /// The managed key that it is; in a dry run of a new one its id is not the one that it will have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_key: Option<KeyRef>,
    /// That key's state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<ManagedState>,
    /// How far that key is, over all its keystores; missing in a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Obstacle>,
}

/// What a key became.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdoptResult {
    /// A new managed key.
    Adopted,
    /// One more target of a managed key with the same material.
    Joined,
    /// It was adopted before.
    Managed,
    /// Nothing.
    Refused,
}

impl AdoptResult {
    /// The name in API and CLI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Adopted => "adopted",
            Self::Joined => "joined",
            Self::Managed => "managed",
            Self::Refused => "refused",
        }
    }
}

/// POST …/unmanaged/ignore (with a reason) and …/unmanaged/unignore (without). Says which keys as [`Adopt`] does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ignore {
    /// The one with this CKA_ID, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id_in_keystore: Option<String>,
    /// Those whose CKA_LABEL fits; `*` stands for any characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_in_keystore: Option<String>,
    /// Those of this algorithm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<Algorithm>,
    /// All of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<bool>,
    /// Why, 1 to 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnoreDone {
    /// The keystore.
    pub keystore: KeystoreRef,
    /// The keys that it is about.
    pub keys: Vec<NamedKey>,
}

/// Names a key on a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedKey {
    /// CKA_ID, lower-case hex.
    pub key_id_in_keystore: String,
    /// CKA_LABEL, made printable.
    pub label_in_keystore: String,
}
