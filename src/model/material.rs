//! Material in transit and in the repository: birth records, endorsements, envelopes; and what is signed of each.

use serde::{Deserialize, Serialize};

use crate::model::canonical::{Canonical, sha256};
use crate::model::ids::{Digest, Epoch, Generation, KeyVersionId, KeystoreId};
use crate::model::kek::KekNumber;
use crate::model::key::KeySpec;
use crate::model::keystore::{Route, Routes};
use crate::model::observed::Fingerprint;
use crate::model::vault::UnixMs;

/// Largest wrapped key we carry: an RSA-4096 PKCS#8 blob is 2.4 KiB.
pub const WRAPPED_BYTES_MAX: usize = 16 * 1024;

/// A statement with the Ed25519 signature (RFC 8032) of an agent's identity key over its canonical bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed<T> {
    /// What is said.
    pub body: T,
    /// The signer's public identity key, 32 bytes. Trusted only if `peers.toml` lists its SHA-256.
    pub signer: Vec<u8>,
    /// 64 bytes.
    pub signature: Vec<u8>,
}

impl<T> Signed<T> {
    /// SHA-256 of the signer's public key: what `peers.toml` lists.
    #[must_use]
    pub fn signer_digest(&self) -> Digest {
        sha256(&self.signer)
    }
}

/// Statements that are signed.
pub trait Statement {
    /// The bytes that a signature covers.
    fn canonical(&self) -> Vec<u8>;
}

/// Says which material a key version is. Made once, by the agent that generated it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BirthRecord {
    /// The key version.
    pub version: KeyVersionId,
    /// Algorithm and size.
    pub spec: KeySpec,
    /// Fingerprint of the material under `salt`.
    pub fingerprint: Fingerprint,
    /// The vault's salt.
    pub salt: Vec<u8>,
    /// Public part of a pair: SubjectPublicKeyInfo, DER.
    pub spki: Option<Vec<u8>>,
    /// SHA-256 of the repository blob.
    pub blob: Digest,
    /// The keystore that made it.
    pub keystore: KeystoreId,
    /// When, by that agent's clock. For people.
    pub at: UnixMs,
}

impl Statement for BirthRecord {
    fn canonical(&self) -> Vec<u8> {
        let canonical = Canonical::new("lockstep/birth/1").bytes(self.version.uuid().as_bytes());
        self.spec
            .write(canonical)
            .text(self.fingerprint.method.name())
            .bytes(&self.fingerprint.value.0)
            .bytes(&self.salt)
            .optional(self.spki.as_deref())
            .bytes(&self.blob.0)
            .bytes(self.keystore.uuid().as_bytes())
            .number(self.at.0.unsigned_abs())
            .finish()
    }
}

/// A key in the repository: wrapped by RFC 5649 under the KEK of one internal keystore, with its birth record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryCopy {
    /// The internal keystore whose KEK wraps it.
    pub keystore: KeystoreId,
    /// The wrapped key.
    pub blob: Vec<u8>,
    /// Which of that keystore's KEKs wraps it. Not signed: another number opens nothing.
    #[serde(default)]
    pub kek: KekNumber,
    /// Its birth record.
    pub birth: Signed<BirthRecord>,
}

/// Says that a public key is the transport key on a keystore's token, and how to wrap for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endorsement {
    /// The keystore.
    pub keystore: KeystoreId,
    /// The binding of its token.
    pub epoch: Epoch,
    /// RSA public key as SubjectPublicKeyInfo, DER; at least 3072 bits.
    pub spki: Vec<u8>,
    /// How keys may be wrapped for it.
    pub routes: Routes,
    /// When, by that agent's clock. For people.
    pub at: UnixMs,
}

impl Statement for Endorsement {
    fn canonical(&self) -> Vec<u8> {
        let routes = &self.routes;
        let hashes: Vec<&str> = routes.oaep_hashes.iter().map(|one| one.name()).collect();
        let wrappings: Vec<&str> = routes.wrappings.iter().map(|one| one.name()).collect();
        Canonical::new("lockstep/endorsement/2")
            .bytes(self.keystore.uuid().as_bytes())
            .number(self.epoch.0)
            .bytes(&self.spki)
            .text(&hashes.join(" "))
            .text(&wrappings.join(" "))
            .number(self.at.0.unsigned_abs())
            .finish()
    }
}

/// A key on its way to one keystore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// The key version.
    pub version: KeyVersionId,
    /// Algorithm and size.
    pub spec: KeySpec,
    /// Fingerprint of the material, from the birth record.
    pub fingerprint: Fingerprint,
    /// The vault's salt, from the birth record.
    pub salt: Vec<u8>,
    /// Public part of a pair, from the birth record.
    pub spki: Option<Vec<u8>>,
    /// The keystore that wrapped it.
    pub source: KeystoreId,
    /// The keystore it is for.
    pub target: KeystoreId,
    /// The generation of the intent it serves.
    pub generation: Generation,
    /// SHA-256 of the transport key's SPKI.
    pub transport: Digest,
    /// How it is wrapped.
    pub route: Route,
    /// The ephemeral key under RSA-OAEP; empty where the key itself is.
    pub wrapped_kek: Vec<u8>,
    /// The key, wrapped; for AES-CBC behind its initialization vector of 16 bytes.
    pub wrapped_key: Vec<u8>,
    /// When, by the source's clock. For people.
    pub at: UnixMs,
}

impl Statement for Envelope {
    fn canonical(&self) -> Vec<u8> {
        let canonical = Canonical::new("lockstep/envelope/2").bytes(self.version.uuid().as_bytes());
        self.spec
            .write(canonical)
            .text(self.fingerprint.method.name())
            .bytes(&self.fingerprint.value.0)
            .bytes(&self.salt)
            .optional(self.spki.as_deref())
            .bytes(self.source.uuid().as_bytes())
            .bytes(self.target.uuid().as_bytes())
            .number(self.generation.0)
            .bytes(&self.transport.0)
            .text(self.route.wrapping.name())
            .text(self.route.oaep_hash.name())
            .bytes(&self.wrapped_kek)
            .bytes(&self.wrapped_key)
            .number(self.at.0.unsigned_abs())
            .finish()
    }
}

/// The bytes that a fingerprint hashes in front of the key: facts-keypath.md 2. Class and key type are those read from the
/// token, so that the same bytes as another kind of key give another value.
#[must_use]
pub fn fingerprint_prefix(class: &str, key_type: u64, bits: u32, salt: &[u8]) -> Vec<u8> {
    Canonical::new("lockstep/fingerprint/1")
        .text(class)
        .number(key_type)
        .number(u64::from(bits))
        .bytes(salt)
        .finish()
}
