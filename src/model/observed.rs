//! What was seen on a token: facts of objects, fingerprints, proofs, observations.

use serde::{Deserialize, Serialize};

use crate::model::ids::Digest;
use crate::model::key::UsageSet;

/// Classes of objects that make up keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectClass {
    /// CKO_SECRET_KEY.
    Secret,
    /// CKO_PRIVATE_KEY.
    Private,
    /// CKO_PUBLIC_KEY.
    Public,
}

impl ObjectClass {
    /// The name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Secret => "secret key",
            Self::Private => "private key",
            Self::Public => "public key",
        }
    }
}

/// How a fingerprint was made. Only values of one method compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FingerprintMethod {
    /// C_DigestKey with SHA-256 over (domain, class, key type, length, vault salt, key).
    DigestKey,
    /// SHA-256 of the SubjectPublicKeyInfo; the private half is bound to it by a challenge.
    Spki,
}

impl FingerprintMethod {
    /// The name in digests, API and CLI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DigestKey => "digest-key",
            Self::Spki => "spki",
        }
    }
}

/// What tells one material from another without showing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The method is part of the value.
    pub method: FingerprintMethod,
    /// The value.
    pub value: Digest,
}

impl Fingerprint {
    /// What people are shown: the first 8 bytes.
    #[must_use]
    pub fn short(&self) -> String {
        let value = self.value.to_string();
        value.chars().take(16).collect()
    }
}

/// What one object on a token says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectFacts {
    /// The handle, valid for hints inside one run of the module host only: it may hint, never act.
    pub handle: u64,
    /// Its class.
    pub class: ObjectClass,
    /// CKA_KEY_TYPE as the raw number; `None` where the token did not tell.
    pub key_type: Option<u64>,
    /// CKA_ID.
    pub cka_id: Vec<u8>,
    /// CKA_LABEL, made printable.
    pub label: String,
    /// The usages that are on.
    pub usage: UsageSet,
    /// CKA_SENSITIVE; public keys have none.
    pub sensitive: Option<bool>,
    /// CKA_EXTRACTABLE; public keys have none.
    pub extractable: Option<bool>,
    /// CKA_MODIFIABLE: false bars every change of its attributes. `None` where the token did not tell.
    #[serde(default)]
    pub modifiable: Option<bool>,
    /// CKA_COPYABLE: false bars C_CopyObject. `None` where the token did not tell.
    #[serde(default)]
    pub copyable: Option<bool>,
    /// Size in bits where the token tells it (modulus, curve, value length).
    pub bits: Option<u32>,
    /// SHA-256 of the material that can be read openly (SPKI of a public key, modulus and exponent of an RSA private one).
    pub public_digest: Option<Digest>,
    /// The material itself, of a secret key that a look found under the label of an instance and another CKA_ID; made with
    /// that instance's vault salt. Nowhere else.
    #[serde(default)]
    pub fingerprint: Option<Fingerprint>,
}

impl ObjectFacts {
    /// Whether this object is seen to hold the material of that fingerprint.
    #[must_use]
    pub fn holds(&self, material: &Fingerprint) -> bool {
        match material.method {
            FingerprintMethod::DigestKey => self.fingerprint.as_ref() == Some(material),
            FingerprintMethod::Spki => self.public_digest == Some(material.value),
        }
    }
}

/// Proof that an instance is enabled or disabled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// How it was had.
    pub kind: ProofKind,
    /// The operation that was tried, such as `C_EncryptInit`; empty where none was.
    pub operation: String,
    /// What the token answered, such as `CKR_KEY_FUNCTION_NOT_PERMITTED`.
    pub answer: String,
}

/// How far a proof reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProofKind {
    /// The operation was tried: it worked (enabled), or was refused with the CKR known for it (disabled).
    Tried,
    /// Only the attributes were read back.
    ReadBack,
}

/// What was found under one CKA_ID.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// All objects of key classes with that CKA_ID; more than one of a class is a duplicate.
    pub objects: Vec<ObjectFacts>,
    /// Fingerprint of the material, where it could be had in this look or one before with the same objects.
    pub fingerprint: Option<Fingerprint>,
    /// Objects with the planned label and class under another CKA_ID: a rename of the id, or another's key.
    pub same_label: Vec<ObjectFacts>,
    /// Why no fingerprint could be had, for people.
    pub fingerprint_failure: Option<String>,
}

/// What is known of an instance on its token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Observation {
    /// Nothing is known, and why.
    Unknown {
        /// For people.
        why: String,
    },
    /// No object has the CKA_ID.
    Absent {
        /// Objects with the planned label under another CKA_ID.
        same_label: Vec<ObjectFacts>,
    },
    /// Something has it.
    Present(Found),
    /// It was there and one look missed it (or part of it); a second look decides (promises R13).
    Suspected {
        /// What was seen last for certain.
        last: Box<Observation>,
    },
}
