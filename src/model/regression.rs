//! Regressions: what a token could do and cannot any more, one by one, with what each means (design.md 7).

use std::collections::BTreeSet;
use std::fmt;

use crate::model::capabilities::{Capabilities, Duplicates, FlagChange, KindCapabilities, Unwrap};
use crate::model::key::{Algorithm, Usage, UsageSet};
use crate::model::keystore::OaepHash;
use crate::model::observed::ObjectClass;

/// One thing that a token could do by the report that was accepted last, and cannot by the latest. Closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Regression {
    /// RFC 5649 key wrapping.
    Rfc5649,
    /// AES-CBC-PAD key wrapping.
    CbcPad,
    /// RSA-OAEP with SHA-256.
    OaepSha256,
    /// CKA_COPYABLE=false is honoured.
    Copyable,
    /// CKA_MODIFIABLE=false is honoured.
    Modifiable,
    /// CKA_EXTRACTABLE=false is honoured.
    Extractable,
    /// Fingerprints of secret keys by C_DigestKey.
    DigestKey,
    /// C_CopyObject.
    Copy,
    /// C_CopyObject of what cannot be changed.
    CopyFixed,
    /// Attributes are set all or none.
    AtomicSet,
    /// A second key with one CKA_ID leaves the first.
    Duplicates,
    /// Labels of so many characters.
    Label(u32),
    /// Keys of an algorithm.
    Kind(Algorithm),
    /// Keys of one size, in bits.
    Size(Algorithm, u32),
    /// How keys of an algorithm are unwrapped.
    Unwrap {
        /// Of which.
        algorithm: Algorithm,
        /// Before.
        was: Unwrap,
        /// Now.
        is: Unwrap,
    },
    /// Usage attributes could be relied on to bar their operations.
    Flag {
        /// Of which keys.
        algorithm: Algorithm,
        /// On which object.
        class: ObjectClass,
        /// Which usages.
        usages: UsageSet,
        /// What switching them off does now.
        is: FlagChange,
    },
}

impl Regression {
    /// What follows from it for keys.
    const fn meaning(self) -> &'static str {
        match self {
            Self::Rfc5649 | Self::CbcPad | Self::OaepSha256 => {
                "keys get there by another wrapping, or not at all where none is left"
            }
            Self::Copyable => "whoever has the PIN can copy a disabled key to one that works",
            Self::Modifiable => "whoever has the PIN can change keys that were fixed",
            Self::Extractable => "whoever has the PIN can wrap the keys there and take them away",
            Self::DigestKey => "another secret key in the place of one would not be noticed",
            Self::Copy => "keys that were disabled by a copy have to be withdrawn instead",
            Self::CopyFixed => "keys that cannot be changed, made by others, cannot be disabled",
            Self::AtomicSet => "a change that fails half-way leaves a half: the next look tells",
            Self::Duplicates => "a key made with the id of another takes its place without a word",
            Self::Label(_) => "keys with longer labels cannot be installed there again",
            Self::Kind(_) | Self::Size(..) => {
                "such keys stay as they are and cannot be installed there again"
            }
            Self::Unwrap {
                is: Unwrap::Impossible,
                ..
            } => "such keys stay as they are and cannot be installed there again",
            Self::Unwrap { .. } => {
                "such keys are put right on a session object before they are installed"
            }
            Self::Flag {
                is: FlagChange::NotEnforced,
                ..
            } => "a key that is disabled by its flags can be used all the same",
            Self::Flag { .. } => {
                "keys are disabled by a copy, or withdrawn, instead of by their flags"
            }
        }
    }
}

impl Regression {
    /// What it could, in words.
    #[must_use]
    pub fn could(self) -> String {
        match self {
            Self::Unwrap { algorithm, was, .. } => {
                format!("unwrapping {} keys is {}", algorithm.name(), was.name())
            }
            Self::Flag {
                algorithm,
                class,
                usages,
                ..
            } => format!(
                "switching {usages} off on {} {}s bars it",
                algorithm.name(),
                class.name()
            ),
            Self::Rfc5649
            | Self::CbcPad
            | Self::OaepSha256
            | Self::Copyable
            | Self::Modifiable
            | Self::Extractable
            | Self::DigestKey
            | Self::Copy
            | Self::CopyFixed
            | Self::AtomicSet
            | Self::Duplicates
            | Self::Label(_)
            | Self::Kind(_)
            | Self::Size(..) => self.to_string(),
        }
    }

    /// What it does now, and what follows from it, in words.
    #[must_use]
    pub fn now(self) -> String {
        let now = match self {
            Self::Unwrap { is, .. } => is.name(),
            Self::Flag {
                is: FlagChange::NotEnforced,
                ..
            } => "accepted and not enforced",
            Self::Flag { is, .. } => is.name(),
            Self::Rfc5649
            | Self::CbcPad
            | Self::OaepSha256
            | Self::Copyable
            | Self::Modifiable
            | Self::Extractable
            | Self::DigestKey
            | Self::Copy
            | Self::CopyFixed
            | Self::AtomicSet
            | Self::Duplicates
            | Self::Label(_)
            | Self::Kind(_)
            | Self::Size(..) => "not any more",
        };
        format!("{now}: {}", self.meaning())
    }
}

impl fmt::Display for Regression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Rfc5649 => f.write_str("RFC 5649 key wrapping"),
            Self::CbcPad => f.write_str("AES-CBC-PAD key wrapping"),
            Self::OaepSha256 => f.write_str("RSA-OAEP with SHA-256"),
            Self::Copyable => f.write_str("CKA_COPYABLE is honoured"),
            Self::Modifiable => f.write_str("CKA_MODIFIABLE is honoured"),
            Self::Extractable => f.write_str("CKA_EXTRACTABLE is honoured"),
            Self::DigestKey => f.write_str("fingerprints by C_DigestKey"),
            Self::Copy => f.write_str("C_CopyObject"),
            Self::CopyFixed => f.write_str("C_CopyObject of what cannot be changed"),
            Self::AtomicSet => f.write_str("attributes are set all or none"),
            Self::Duplicates => f.write_str("a second key with one CKA_ID leaves the first"),
            Self::Label(chars) => write!(f, "labels of {chars} characters"),
            Self::Kind(algorithm) => write!(f, "{} keys", algorithm.name()),
            Self::Size(algorithm, bits) => write!(f, "{} keys of {bits} bits", algorithm.name()),
            Self::Unwrap { algorithm, was, is } => write!(
                f,
                "unwrapping {} keys is {} now, was {}",
                algorithm.name(),
                is.name(),
                was.name()
            ),
            Self::Flag {
                algorithm,
                class,
                usages,
                is,
            } => write!(
                f,
                "switching {} off on {} {}s is {} now",
                usages,
                algorithm.name(),
                class.name(),
                is.name()
            ),
        }
    }
}

impl Capabilities {
    /// What `self` could do and `now` cannot; nothing where the trials are other ones.
    #[must_use]
    pub fn regressions(&self, now: &Self) -> Vec<Regression> {
        if self.trials != now.trials {
            return Vec::new();
        }
        let sha256 = |of: &Self| of.oaep_hashes.contains(&OaepHash::Sha256);
        let keeps = |of: &Self| of.duplicates != Duplicates::Overwrites;
        let kept_in = |of: &Self| of.unextractable == Some(true);
        let abilities = [
            (
                Regression::Rfc5649,
                self.rfc5649.is_some(),
                now.rfc5649.is_some(),
            ),
            (Regression::CbcPad, self.cbc_pad, now.cbc_pad),
            (Regression::OaepSha256, sha256(self), sha256(now)),
            (Regression::Copyable, self.copyable, now.copyable),
            (Regression::Modifiable, self.modifiable, now.modifiable),
            (Regression::Extractable, kept_in(self), kept_in(now)),
            (Regression::DigestKey, self.digest_key, now.digest_key),
            (Regression::Copy, self.copy, now.copy),
            (Regression::CopyFixed, self.copy_fixed, now.copy_fixed),
            (Regression::AtomicSet, self.atomic_set, now.atomic_set),
            (Regression::Duplicates, keeps(self), keeps(now)),
            (
                Regression::Label(self.label_chars),
                true,
                now.label_chars >= self.label_chars,
            ),
        ];
        let of_all = abilities
            .into_iter()
            .filter_map(|(what, could, can)| (could && !can).then_some(what));
        let of_kinds = self
            .kinds
            .iter()
            .flat_map(|kind| kind.regressions(now.kind(kind.algorithm)));
        of_all.chain(of_kinds).collect()
    }
}

impl KindCapabilities {
    fn regressions(&self, now: Option<&Self>) -> Vec<Regression> {
        let algorithm = self.algorithm;
        let Some(now) = now else {
            return vec![Regression::Kind(algorithm)];
        };
        let sizes: BTreeSet<u32> = now.sizes.iter().copied().collect();
        let gone = self.sizes.iter().filter(|size| !sizes.contains(size));
        let mut lost: Vec<Regression> = gone
            .map(|size| Regression::Size(algorithm, *size))
            .collect();
        let (was, is) = (self.unwrap, now.unwrap);
        if was != Unwrap::Impossible && is != was && is != Unwrap::Honest {
            lost.push(Regression::Unwrap { algorithm, was, is });
        }
        for &class in &[
            ObjectClass::Secret,
            ObjectClass::Private,
            ObjectClass::Public,
        ] {
            for is in FlagChange::ALL.into_iter().filter(|is| !is.holds()) {
                let gone = |usage: &Usage| {
                    self.flag(class, *usage).holds() && now.flag(class, *usage) == is
                };
                let usages: Vec<Usage> = Usage::ALL.into_iter().filter(gone).collect();
                if !usages.is_empty() {
                    lost.push(Regression::Flag {
                        algorithm,
                        class,
                        usages: UsageSet::of(&usages),
                        is,
                    });
                }
            }
        }
        lost
    }
}
