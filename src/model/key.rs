//! Key kinds, usages, and the managed key as people know it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::model::canonical::Canonical;
use crate::model::ids::{KeyId, KeyVersionId, KeystoreId, Revision, TemplateId, VaultId};
use crate::model::lifecycle::ManagedState;
use crate::model::observed::{Fingerprint, ObjectClass};
use crate::model::text::Label;
use crate::model::vault::{Stamps, UnixMs};
use crate::model::version::{Acted, Hold, KeyVersion};

/// Algorithms that keys on PKCS#11 keystores can have (names of API v4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// AES, 128, 192 or 256 bits (FIPS 197).
    Aes,
    /// Three-key triple DES, 192 bits with parity; deprecated (SP 800-131A).
    Des,
    /// Elliptic curves P-256, P-384, P-521 (FIPS 186).
    Ec,
    /// Generic secret for HMAC, 160 to 512 bits (FIPS 198).
    Hmac,
    /// RSA, 2048 to 4096 bits.
    Rsa,
}

impl Algorithm {
    /// The name in API, CLI and store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes => "aes",
            Self::Des => "des",
            Self::Ec => "ec",
            Self::Hmac => "hmac",
            Self::Rsa => "rsa",
        }
    }

    /// The algorithm of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Aes, Self::Des, Self::Ec, Self::Hmac, Self::Rsa]
            .into_iter()
            .find(|a| a.name() == name)
    }
}

/// A secret key is one object; a pair is a private and a public one that live and die together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyClass {
    /// CKO_SECRET_KEY.
    Secret,
    /// CKO_PRIVATE_KEY and CKO_PUBLIC_KEY.
    Pair,
}

impl KeyClass {
    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Secret => "secret key",
            Self::Pair => "key pair",
        }
    }

    /// The classes of the objects that make up one instance.
    #[must_use]
    pub const fn objects(self) -> &'static [ObjectClass] {
        match self {
            Self::Secret => &[ObjectClass::Secret],
            Self::Pair => &[ObjectClass::Private, ObjectClass::Public],
        }
    }
}

/// An algorithm with a size it can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawSpec", into = "RawSpec")]
pub struct KeySpec {
    algorithm: Algorithm,
    bits: u32,
}

#[derive(Serialize, Deserialize)]
struct RawSpec {
    algorithm: Algorithm,
    bits: u32,
}

/// A size that the algorithm does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} keys have a size of {allowed} bits, not {bits}", algorithm.name())]
pub struct InvalidSpec {
    algorithm: Algorithm,
    bits: u32,
    allowed: &'static str,
}

impl KeySpec {
    /// Checks the size.
    ///
    /// # Errors
    /// [`InvalidSpec`] names the sizes there are.
    pub fn new(algorithm: Algorithm, bits: u32) -> Result<Self, InvalidSpec> {
        let (fits, allowed) = match algorithm {
            Algorithm::Aes => (matches!(bits, 128 | 192 | 256), "128, 192 or 256"),
            Algorithm::Des => (bits == 192, "192"),
            Algorithm::Ec => (matches!(bits, 256 | 384 | 521), "256, 384 or 521"),
            Algorithm::Hmac => (
                (160..=512).contains(&bits) && bits.is_multiple_of(8),
                "160 to 512 (whole bytes)",
            ),
            Algorithm::Rsa => (matches!(bits, 2048 | 3072 | 4096), "2048, 3072 or 4096"),
        };
        if fits {
            Ok(Self { algorithm, bits })
        } else {
            Err(InvalidSpec {
                algorithm,
                bits,
                allowed,
            })
        }
    }

    /// The algorithm.
    #[must_use]
    pub const fn algorithm(self) -> Algorithm {
        self.algorithm
    }

    /// Size in bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.bits
    }

    /// Secret or pair.
    #[must_use]
    pub const fn class(self) -> KeyClass {
        match self.algorithm {
            Algorithm::Aes | Algorithm::Des | Algorithm::Hmac => KeyClass::Secret,
            Algorithm::Ec | Algorithm::Rsa => KeyClass::Pair,
        }
    }

    /// What such a key may do when its template does not say.
    #[must_use]
    pub fn default_usage(self) -> UsageSet {
        match self.algorithm {
            Algorithm::Aes | Algorithm::Des => UsageSet::of(&[Usage::Encrypt, Usage::Decrypt]),
            Algorithm::Ec | Algorithm::Hmac | Algorithm::Rsa => {
                UsageSet::of(&[Usage::Sign, Usage::Verify])
            }
        }
    }

    /// What keys of the algorithm can do at all.
    #[must_use]
    pub fn possible_usage(self) -> UsageSet {
        match self.algorithm {
            Algorithm::Aes | Algorithm::Des => UsageSet::of(&Usage::ALL),
            Algorithm::Ec | Algorithm::Hmac => {
                UsageSet::of(&[Usage::Sign, Usage::Verify, Usage::Derive])
            }
            Algorithm::Rsa => UsageSet::of(&[
                Usage::Encrypt,
                Usage::Decrypt,
                Usage::Sign,
                Usage::SignRecover,
                Usage::Verify,
                Usage::VerifyRecover,
                Usage::Wrap,
                Usage::Unwrap,
            ]),
        }
    }

    /// Appends the kind to canonical bytes.
    #[must_use]
    pub fn write(self, canonical: Canonical) -> Canonical {
        canonical
            .text(self.algorithm.name())
            .number(u64::from(self.bits))
    }
}

impl TryFrom<RawSpec> for KeySpec {
    type Error = InvalidSpec;

    fn try_from(raw: RawSpec) -> Result<Self, InvalidSpec> {
        Self::new(raw.algorithm, raw.bits)
    }
}

impl From<KeySpec> for RawSpec {
    fn from(spec: KeySpec) -> Self {
        Self {
            algorithm: spec.algorithm,
            bits: spec.bits,
        }
    }
}

impl std::fmt::Display for KeySpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.algorithm.name().to_uppercase(), self.bits)
    }
}

/// What an object may be used for: the boolean usage attributes of PKCS#11 (v3.1, 4.7 to 4.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Usage {
    /// CKA_ENCRYPT: secret, public.
    Encrypt,
    /// CKA_DECRYPT: secret, private.
    Decrypt,
    /// CKA_SIGN: secret, private.
    Sign,
    /// CKA_SIGN_RECOVER: private. On by default on several tokens, so always named.
    SignRecover,
    /// CKA_VERIFY: secret, public.
    Verify,
    /// CKA_VERIFY_RECOVER: public.
    VerifyRecover,
    /// CKA_WRAP: secret, public.
    Wrap,
    /// CKA_UNWRAP: secret, private.
    Unwrap,
    /// CKA_DERIVE: all.
    Derive,
}

impl Usage {
    /// All of them, in the order of their bits.
    pub const ALL: [Self; 9] = [
        Self::Encrypt,
        Self::Decrypt,
        Self::Sign,
        Self::SignRecover,
        Self::Verify,
        Self::VerifyRecover,
        Self::Wrap,
        Self::Unwrap,
        Self::Derive,
    ];

    const fn bit(self) -> u16 {
        match self {
            Self::Encrypt => 1,
            Self::Decrypt => 2,
            Self::Sign => 4,
            Self::SignRecover => 8,
            Self::Verify => 16,
            Self::VerifyRecover => 32,
            Self::Wrap => 64,
            Self::Unwrap => 128,
            Self::Derive => 256,
        }
    }

    /// The name in API, CLI and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Encrypt => "encrypt",
            Self::Decrypt => "decrypt",
            Self::Sign => "sign",
            Self::SignRecover => "sign_recover",
            Self::Verify => "verify",
            Self::VerifyRecover => "verify_recover",
            Self::Wrap => "wrap",
            Self::Unwrap => "unwrap",
            Self::Derive => "derive",
        }
    }

    /// The usage of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|usage| usage.name() == name)
    }

    /// Whether objects of this class have the attribute at all.
    #[must_use]
    pub const fn is_of(self, class: ObjectClass) -> bool {
        match class {
            ObjectClass::Secret => !matches!(self, Self::SignRecover | Self::VerifyRecover),
            ObjectClass::Private => {
                matches!(
                    self,
                    Self::Decrypt | Self::Sign | Self::SignRecover | Self::Unwrap | Self::Derive
                )
            }
            ObjectClass::Public => {
                matches!(
                    self,
                    Self::Encrypt | Self::Verify | Self::VerifyRecover | Self::Wrap | Self::Derive
                )
            }
        }
    }
}

/// A set of usages.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UsageSet(u16);

impl UsageSet {
    /// No usage: what disabled means by default.
    pub const NONE: Self = Self(0);

    /// A set of these.
    #[must_use]
    pub fn of(usages: &[Usage]) -> Self {
        Self(usages.iter().fold(0, |bits, usage| bits | usage.bit()))
    }

    /// The set in a record or on the wire: bits in the order of [`Usage::ALL`]; unknown bits are refused.
    #[must_use]
    pub fn from_bits(bits: u16) -> Option<Self> {
        (bits < 512).then_some(Self(bits))
    }

    /// The bits of the set.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Whether the usage is in the set.
    #[must_use]
    pub const fn has(self, usage: Usage) -> bool {
        self.0 & usage.bit() != 0
    }

    /// The set with one more.
    #[must_use]
    pub const fn with(self, usage: Usage) -> Self {
        Self(self.0 | usage.bit())
    }

    /// Whether nothing is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether every usage of `other` is in this one.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The usages that are in it.
    pub fn iter(self) -> impl Iterator<Item = Usage> {
        Usage::ALL.into_iter().filter(move |&usage| self.has(usage))
    }

    /// What of the set an object of this class can carry: the private half of a pair signs, the public one verifies.
    #[must_use]
    pub fn for_class(self, class: ObjectClass) -> Self {
        Self(
            self.iter()
                .filter(|usage| usage.is_of(class))
                .fold(0, |bits, usage| bits | usage.bit()),
        )
    }

    /// The part that processes what was protected before: decrypt, verify, unwrap (SP 800-57 part 1, 7.3).
    #[must_use]
    pub const fn process_only(self) -> Self {
        Self(
            self.0
                & (Usage::Decrypt.bit()
                    | Usage::Verify.bit()
                    | Usage::VerifyRecover.bit()
                    | Usage::Unwrap.bit()),
        )
    }
}

impl std::fmt::Display for UsageSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let names: Vec<&str> = self.iter().map(Usage::name).collect();
        f.write_str(&names.join(","))
    }
}

impl std::fmt::Debug for UsageSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UsageSet({self})")
    }
}

/// What a deactivated key may still do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeactivatedUsage {
    /// Nothing.
    #[default]
    None,
    /// Decrypt, verify, unwrap: SP 800-57's deactivated state.
    ProcessOnly,
}

/// Usage that one key must not have at once (threats.md 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{} and {} on one key undo each other's protection; allow it with pkcs11_allow_mixed_usage", .0.name(), .1.name())]
pub struct MixedUsage(pub Usage, pub Usage);

/// Finds a forbidden mixture: wrap with decrypt, or sign with encrypt.
///
/// # Errors
/// [`MixedUsage`] names the two.
pub const fn check_mixture(usage: UsageSet) -> Result<(), MixedUsage> {
    if usage.has(Usage::Wrap) && usage.has(Usage::Decrypt) {
        return Err(MixedUsage(Usage::Wrap, Usage::Decrypt));
    }
    if usage.has(Usage::Sign) && usage.has(Usage::Encrypt) {
        return Err(MixedUsage(Usage::Sign, Usage::Encrypt));
    }
    Ok(())
}

/// The managed key: what people see under one label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagedKey {
    /// Its id, through all versions.
    pub id: KeyId,
    /// The vault it belongs to for ever.
    pub vault: VaultId,
    /// The template it was made from.
    pub template: TemplateId,
    /// The template's version that it was last aligned with.
    pub template_version: u64,
    /// Its name, which is also the CKA_LABEL of its objects.
    pub label: Label,
    /// What people wrote about it, at most 200 characters.
    pub description: String,
    /// The wanted state.
    pub state: ManagedState,
    /// Algorithm and size.
    pub spec: KeySpec,
    /// Usage while active.
    pub usage: UsageSet,
    /// Usage while deactivated.
    pub deactivated_usage: DeactivatedUsage,
    /// The version that is in use.
    pub version: KeyVersionId,
    /// Its number, from 1.
    pub version_number: u32,
    /// Fingerprint of the material, from the birth record; none before it exists.
    pub fingerprint: Option<Fingerprint>,
    /// Public part of a pair, SubjectPublicKeyInfo in DER (RFC 5280).
    pub spki: Option<Vec<u8>>,
    /// Values of the naming scheme's tags.
    pub label_tags: Vec<(String, String)>,
    /// Where it is wanted.
    pub targets: BTreeSet<KeystoreId>,
    /// Whether targets were set by hand and no longer follow the template.
    pub targets_by_hand: bool,
    /// `YYYY-MM-DD`: at its 00:00 UTC a pre-active key is activated.
    pub activation_date: Option<String>,
    /// `YYYY-MM-DD`: at its 00:00 UTC an active key is deactivated, or people are warned, as its template says.
    pub expiration_date: Option<String>,
    /// `YYYY-MM-DD`: at its 00:00 UTC an active key is rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_date: Option<String>,
    /// Which of the dates need nothing more.
    #[serde(default)]
    pub acted: Acted,
    /// Since when the version in use has been given out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_use_since: Option<UnixMs>,
    /// The versions before the one in use, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub past: Vec<KeyVersion>,
    /// A version that is made, and given out when enough internal keystores hold it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coming: Option<Box<KeyVersion>>,
    /// Of a destroyed key: until when its destruction is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// Grows with each change by a person or a date: the ETag.
    pub revision: Revision,
    /// Who and when.
    pub stamps: Stamps,
}
