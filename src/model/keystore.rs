//! Keystores: one PKCS#11 token each, reached through exactly one agent.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::model::capabilities::Strategy;
use crate::model::ids::{Digest, Epoch, KeystoreId, Revision, VaultId};
use crate::model::key::KeyClass;
use crate::model::vault::Stamps;

/// Whether a keystore may make keys or only receives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variant {
    /// May generate keys and holds a wrapping key of the vault's repository.
    Internal,
    /// Only receives keys.
    External,
}

impl Variant {
    /// The name in API and CLI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Internal => "internal",
            Self::External => "external",
        }
    }
}

/// A keystore's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeystoreRecord {
    /// The id that the agent bound into its token's marker.
    pub id: KeystoreId,
    /// The vault it belongs to.
    pub vault: VaultId,
    /// 1 to 100 characters; unique in its vault.
    pub name: String,
    /// At most 200 characters.
    pub description: String,
    /// Where it stands, for people.
    pub location: String,
    /// Names of the groups it is in: how templates find their targets.
    pub groups: BTreeSet<String>,
    /// Internal or external.
    pub variant: Variant,
    /// `https://host:port` of its agent.
    pub endpoint: String,
    /// The URI name in its agent's certificate.
    pub agent_name: String,
    /// SHA-256 of the agent's identity key, as first seen: a later change is a difference, not an update.
    pub identity: Digest,
    /// The binding that was seen when it was added.
    pub epoch: Epoch,
    /// The weakest strategy by which keys are disabled there; none: whatever the token needs.
    #[serde(default)]
    pub strategy: Option<Strategy>,
    /// What the token said of itself when last described.
    pub token: TokenInfo,
    /// The ETag.
    pub revision: Revision,
    /// Who and when.
    pub stamps: Stamps,
}

/// What a token says of itself (CK_TOKEN_INFO, CK_INFO), trimmed of padding, made printable.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenInfo {
    /// Label of the token.
    pub label: String,
    /// Serial number; not unique among tokens.
    pub serial: String,
    /// Manufacturer.
    pub manufacturer: String,
    /// Model.
    pub model: String,
    /// Hardware version.
    pub hardware: String,
    /// Firmware version.
    pub firmware: String,
    /// Manufacturer, description and version of the library.
    pub library: String,
}

/// The private object on a token that says whose it is. Written once, when an operator binds the keystore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The keystore.
    pub keystore: KeystoreId,
    /// Which binding of it, from 1.
    pub epoch: Epoch,
}

/// Hash of RSA-OAEP (RFC 8017, 7.1), with MGF1 of the same hash and an empty label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OaepHash {
    /// SHA-1: all that SoftHSM2 takes. Safe here: OAEP does not rest on collisions.
    Sha1,
    /// SHA-256.
    Sha256,
}

impl OaepHash {
    /// All of them, the best first.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha1];

    /// The name in API and CLI, and in what is signed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
        }
    }
}

/// How a key is wrapped for a transport key, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wrapping {
    /// Under an ephemeral AES-256 key by RFC 5649, and that by RSA-OAEP.
    Rfc5649,
    /// Under an ephemeral AES-256 key by AES-CBC with PKCS#7 padding (CKM_AES_CBC_PAD), and that by RSA-OAEP. It does not
    /// protect integrity: the fingerprint does.
    CbcPad,
    /// By RSA-OAEP itself: secret keys only, private ones are too long.
    Direct,
}

impl Wrapping {
    /// All of them, the best first.
    pub const ALL: [Self; 3] = [Self::Rfc5649, Self::CbcPad, Self::Direct];

    /// The name in API and CLI, and in what is signed.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rfc5649 => "rfc5649",
            Self::CbcPad => "cbc_pad",
            Self::Direct => "direct_oaep",
        }
    }

    /// Whether keys of that class can be wrapped so.
    #[must_use]
    pub const fn takes(self, class: KeyClass) -> bool {
        match (self, class) {
            (Self::Rfc5649 | Self::CbcPad, _) | (Self::Direct, KeyClass::Secret) => true,
            (Self::Direct, KeyClass::Pair) => false,
        }
    }
}

/// How a key gets from one token to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// How it is wrapped.
    pub wrapping: Wrapping,
    /// The hash of RSA-OAEP.
    pub oaep_hash: OaepHash,
}

/// What a token's transport key takes, each list the best first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Routes {
    /// How keys may be wrapped for it.
    pub wrappings: Vec<Wrapping>,
    /// Hashes of RSA-OAEP.
    pub oaep_hashes: Vec<OaepHash>,
}

impl Routes {
    /// What is there for keys of a class, for people.
    #[must_use]
    pub fn told(&self, class: KeyClass) -> String {
        let wrappings = self.wrappings.iter().filter(|one| one.takes(class));
        let names: Vec<&str> = wrappings
            .map(|one| one.name())
            .chain(self.oaep_hashes.iter().map(|hash| hash.name()))
            .collect();
        if names.is_empty() {
            "nothing".to_owned()
        } else {
            names.join(", ")
        }
    }

    /// The best route for keys of a class between two tokens that have these.
    #[must_use]
    pub fn common(&self, theirs: &Self, class: KeyClass) -> Option<Route> {
        let both = |one: &&Wrapping| theirs.wrappings.contains(one) && one.takes(class);
        let hash = |one: &&OaepHash| theirs.oaep_hashes.contains(one);
        Some(Route {
            wrapping: *self.wrappings.iter().find(both)?,
            oaep_hash: *self.oaep_hashes.iter().find(hash)?,
        })
    }
}

/// How well an agent's token is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Health {
    /// Token open, marker ours.
    #[error("ok")]
    Ok,
    /// Not looked yet since the start.
    #[error("the token has not been opened yet")]
    Starting,
    /// No token of that label and serial.
    #[error("no token {label:?} with serial {serial:?}")]
    TokenNotFound {
        /// The wanted label.
        label: String,
        /// The wanted serial; empty: any.
        serial: String,
    },
    /// The PIN was refused; it is not tried again until it changes.
    #[error("the token refused the PIN; it is not tried again until the PIN file changes")]
    WrongPin,
    /// The token says that the PIN is locked, or that one try is left.
    #[error("the token's PIN is locked or has one try left; nothing was tried")]
    PinLocked,
    /// There is no marker: re-initialised, restored or swapped. Or never bound.
    #[error(
        "the token carries no marker of ours: it was re-initialised, restored or swapped, or never bound"
    )]
    MarkerMissing,
    /// The marker is another keystore's.
    #[error("the token belongs to keystore {}", .0.keystore)]
    BelongsTo(Marker),
    /// Our id and another binding.
    #[error("the token's marker is of another binding (epoch {})", .0.epoch)]
    OtherEpoch(Marker),
    /// A token with our id, and a journal that is empty: quarantine.
    #[error(
        "the journal is lost while the token carries our marker: quarantined until an operator looks"
    )]
    JournalLost,
    /// The journal cannot be written: nothing is changed on the token.
    #[error("the journal cannot be written ({detail}): nothing is changed on the token")]
    JournalFailed {
        /// The system's error.
        detail: String,
    },
    /// The module or its host failed; it is being started again.
    #[error("the PKCS#11 module failed ({detail}); it is being started again")]
    ModuleFailed {
        /// C_ function and CKR, or how the host ended.
        detail: String,
    },
}
