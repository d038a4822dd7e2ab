//! What a token can do, as its agent found by trying.

use serde::{Deserialize, Serialize};

use crate::model::capabilities::{Duplicates, FlagChange, Strategy, Unwrap};
use crate::model::key::{Algorithm, Usage};

/// What of a token was found to work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pkcs11Capabilities {
    /// Version of the trials.
    pub trials: u32,
    /// What the token could do once and cannot now, until that is accepted.
    pub lost: Vec<String>,
    /// The mechanism that is RFC 5649 there, such as `0x210a`; missing: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rfc5649: Option<String>,
    /// Whether AES-CBC-PAD unwraps keys.
    pub cbc_pad: bool,
    /// The hashes that RSA-OAEP takes, the best first: `sha256`, `sha1`.
    pub oaep_hashes: Vec<String>,
    /// Whether CKA_COPYABLE is honoured.
    pub copyable: bool,
    /// Whether CKA_MODIFIABLE is honoured.
    pub modifiable: bool,
    /// Whether CKA_EXTRACTABLE is honoured; missing: it could not be tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unextractable: Option<bool>,
    /// Whether fingerprints work on sensitive disabled keys.
    pub digest_key: bool,
    /// Whether C_CopyObject makes a second object.
    pub copy: bool,
    /// Whether it makes one of an object that cannot be changed.
    #[serde(default)]
    pub copy_fixed: bool,
    /// What a second object with the same CKA_ID does.
    pub duplicates: Duplicates,
    /// Whether attributes are set all or none.
    pub atomic_set: bool,
    /// PKCS#11 sessions that could be open at once.
    pub sessions: u32,
    /// Longest label that the token keeps exactly, characters; 0: not tried.
    #[serde(default)]
    pub label_chars: u32,
    /// By algorithm; one that is missing cannot be made there.
    pub kinds: Vec<KindCapabilities>,
    /// All mechanism numbers that the token lists.
    pub mechanisms: Vec<String>,
}

/// What works for keys of one algorithm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindCapabilities {
    /// Which.
    pub algorithm: Algorithm,
    /// Sizes in bits.
    pub sizes: Vec<u32>,
    /// How keys of the kind can be installed.
    pub unwrap: Unwrap,
    /// Usage by usage.
    pub usages: Vec<UsageTrial>,
}

/// What switching one usage off did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageTrial {
    /// `secret_key`, `private_key` or `public_key`.
    pub class: String,
    /// Which usage.
    pub usage: Usage,
    /// What came of it.
    pub change: FlagChange,
    /// What the operation answered then.
    pub answer: String,
    /// The weakest way to bar that usage there.
    pub strategy: Strategy,
}
