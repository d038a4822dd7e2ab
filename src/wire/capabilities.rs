//! What a token can do.

use crate::model::capabilities::{Capabilities, KindCapabilities, MECHANISMS_MAX, UsageTrial};
use crate::model::key::UsageSet;
use crate::wire::invalid::{InvalidMessage, list, text, word};
use crate::wire::key::{numbers_of, usage, words_once};
use crate::wire::limits::{KINDS_MAX, SIZES_MAX, TEXT_BYTES_MAX, USAGE_TRIALS_MAX};
use crate::wire::v1;

impl From<Capabilities> for v1::Capabilities {
    fn from(capabilities: Capabilities) -> Self {
        Self {
            trials: capabilities.trials,
            mechanisms: capabilities.mechanisms,
            rfc5649: capabilities.rfc5649,
            cbc_pad: capabilities.cbc_pad,
            oaep_hashes: numbers_of::<v1::OaepHash, _>(capabilities.oaep_hashes),
            copyable: capabilities.copyable,
            modifiable: capabilities.modifiable,
            unextractable: capabilities.unextractable,
            digest_key: capabilities.digest_key,
            copy: capabilities.copy,
            copy_fixed: capabilities.copy_fixed,
            duplicates: v1::Duplicates::from(capabilities.duplicates).into(),
            atomic_set: capabilities.atomic_set,
            sessions: capabilities.sessions,
            label_chars: capabilities.label_chars,
            kinds: capabilities.kinds.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::Capabilities> for Capabilities {
    type Error = InvalidMessage;

    fn try_from(raw: v1::Capabilities) -> Result<Self, InvalidMessage> {
        Ok(Self {
            trials: raw.trials,
            mechanisms: numbers(raw.mechanisms, MECHANISMS_MAX, "mechanisms")?,
            rfc5649: raw.rfc5649,
            cbc_pad: raw.cbc_pad,
            oaep_hashes: words_once::<v1::OaepHash, _>(&raw.oaep_hashes, "oaep_hashes")?,
            copyable: raw.copyable,
            modifiable: raw.modifiable,
            unextractable: raw.unextractable,
            digest_key: raw.digest_key,
            copy: raw.copy,
            copy_fixed: raw.copy_fixed,
            duplicates: word::<v1::Duplicates, _>(raw.duplicates, "duplicates")?,
            atomic_set: raw.atomic_set,
            sessions: raw.sessions,
            label_chars: raw.label_chars,
            kinds: list(raw.kinds, KINDS_MAX, "kinds")?,
        })
    }
}

impl From<KindCapabilities> for v1::KindCapabilities {
    fn from(kind: KindCapabilities) -> Self {
        Self {
            algorithm: v1::Algorithm::from(kind.algorithm).into(),
            sizes: kind.sizes,
            unwrap: v1::Unwrap::from(kind.unwrap).into(),
            usages: kind.usages.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::KindCapabilities> for KindCapabilities {
    type Error = InvalidMessage;

    fn try_from(raw: v1::KindCapabilities) -> Result<Self, InvalidMessage> {
        Ok(Self {
            algorithm: word::<v1::Algorithm, _>(raw.algorithm, "algorithm")?,
            sizes: numbers(raw.sizes, SIZES_MAX, "sizes")?,
            unwrap: word::<v1::Unwrap, _>(raw.unwrap, "unwrap")?,
            usages: list(raw.usages, USAGE_TRIALS_MAX, "usages")?,
        })
    }
}

impl From<UsageTrial> for v1::UsageTrial {
    fn from(trial: UsageTrial) -> Self {
        Self {
            class: v1::ObjectClass::from(trial.class).into(),
            usage: u32::from(UsageSet::of(&[trial.usage]).bits()),
            change: v1::FlagChange::from(trial.change).into(),
            answer: trial.answer,
        }
    }
}

impl TryFrom<v1::UsageTrial> for UsageTrial {
    type Error = InvalidMessage;

    fn try_from(raw: v1::UsageTrial) -> Result<Self, InvalidMessage> {
        let set = usage(raw.usage, "usage")?;
        let mut usages = set.iter();
        let (Some(usage), None) = (usages.next(), usages.next()) else {
            return Err(InvalidMessage::new("usage", "is not exactly one usage"));
        };
        Ok(Self {
            class: word::<v1::ObjectClass, _>(raw.class, "class")?,
            usage,
            change: word::<v1::FlagChange, _>(raw.change, "change")?,
            answer: text(raw.answer, TEXT_BYTES_MAX, "answer")?,
        })
    }
}

fn numbers<T>(raw: Vec<T>, most: usize, field: &str) -> Result<Vec<T>, InvalidMessage> {
    if raw.len() > most {
        return Err(InvalidMessage::new(
            field,
            format!("has more than {most} items"),
        ));
    }
    Ok(raw)
}
