//! Key kinds, usage bits, and the plain words that protobuf has as enums.

use crate::model::capabilities::{Duplicates, FlagChange, Strategy, Unwrap};
use crate::model::desired::Want;
use crate::model::job::FailureKind;
use crate::model::key::{Algorithm, DeactivatedUsage, KeySpec, UsageSet};
use crate::model::keystore::{OaepHash, Variant, Wrapping};
use crate::model::observed::{FingerprintMethod, ObjectClass, ProofKind};
use crate::wire::invalid::{InvalidMessage, word};
use crate::wire::v1;

/// Both directions between one of our enums and the protobuf enum of the same name and variants.
macro_rules! words {
    ($name:ident: $($variant:ident),+) => {
        impl From<$name> for v1::$name {
            fn from(word: $name) -> Self {
                match word {
                    $($name::$variant => Self::$variant,)+
                }
            }
        }

        impl TryFrom<v1::$name> for $name {
            type Error = InvalidMessage;

            fn try_from(word: v1::$name) -> Result<Self, InvalidMessage> {
                match word {
                    v1::$name::Unspecified => Err(InvalidMessage::new("", "is not set")),
                    $(v1::$name::$variant => Ok(Self::$variant),)+
                }
            }
        }
    };
}

words!(Algorithm: Aes, Des, Ec, Hmac, Rsa);
words!(Want: Active, Deactivated, Destroyed);
words!(DeactivatedUsage: None, ProcessOnly);
words!(ObjectClass: Secret, Private, Public);
words!(FingerprintMethod: DigestKey, Spki);
words!(OaepHash: Sha1, Sha256);
words!(Wrapping: Rfc5649, CbcPad, Direct);
words!(Duplicates: Allowed, Refused, Overwrites);
words!(Unwrap: Honest, Staged, Impossible);
words!(FlagChange: Enforced, ReadBack, NotEnforced, Refused);
words!(Strategy: Flags, Copy, Withdraw);
words!(Variant: Internal, External);
words!(ProofKind: Tried, ReadBack);
words!(FailureKind: Retry, Restart, Refused, NeedsMaterial, WrongKey, LabelTaken, WrongPin, PinLocked, NoToken);

/// Words as protobuf has them in a list.
pub(crate) fn numbers_of<W: From<T> + Into<i32>, T>(words: Vec<T>) -> Vec<i32> {
    words.into_iter().map(|one| W::from(one).into()).collect()
}

/// A list of words in the order in which they were said: one that is said twice is refused, so that lists stay short.
pub(crate) fn words_once<W, T>(raw: &[i32], field: &str) -> Result<Vec<T>, InvalidMessage>
where
    W: TryFrom<i32>,
    T: TryFrom<W, Error = InvalidMessage> + PartialEq,
{
    let mut read = Vec::new();
    for number in raw {
        let one = word::<W, T>(*number, field)?;
        if read.contains(&one) {
            return Err(InvalidMessage::new(field, "says one twice"));
        }
        read.push(one);
    }
    Ok(read)
}

impl From<KeySpec> for v1::KeySpec {
    fn from(spec: KeySpec) -> Self {
        Self {
            algorithm: v1::Algorithm::from(spec.algorithm()).into(),
            bits: spec.bits(),
        }
    }
}

impl TryFrom<v1::KeySpec> for KeySpec {
    type Error = InvalidMessage;

    fn try_from(raw: v1::KeySpec) -> Result<Self, InvalidMessage> {
        let algorithm = word::<v1::Algorithm, _>(raw.algorithm, "algorithm")?;
        Self::new(algorithm, raw.bits)
            .map_err(|invalid| InvalidMessage::new("bits", invalid.to_string()))
    }
}

/// Usage bits in the order of `Usage::ALL`; bits that we do not know are refused.
pub(in crate::wire) fn usage(bits: u32, field: &str) -> Result<UsageSet, InvalidMessage> {
    u16::try_from(bits)
        .ok()
        .and_then(UsageSet::from_bits)
        .ok_or_else(|| InvalidMessage::new(field, format!("unknown usage bits in {bits:#x}")))
}
