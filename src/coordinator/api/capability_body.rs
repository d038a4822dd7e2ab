//! What a token can do, for answers.

use crate::coordinator::api::keystore_body::class;
use crate::model::capabilities::{Capabilities, KindCapabilities, UsageTrial};
use crate::model::regression::Regression;
use crate::rest::capabilities as rest;

/// What a token can do, for an answer.
pub(crate) fn body(found: &Capabilities, lost: &[Regression]) -> rest::Pkcs11Capabilities {
    rest::Pkcs11Capabilities {
        trials: found.trials,
        lost: lost.iter().map(ToString::to_string).collect(),
        rfc5649: found.rfc5649.map(|mechanism| format!("{mechanism:#x}")),
        cbc_pad: found.cbc_pad,
        oaep_hashes: found
            .oaep_hashes
            .iter()
            .map(|hash| hash.name().to_owned())
            .collect(),
        copyable: found.copyable,
        modifiable: found.modifiable,
        unextractable: found.unextractable,
        digest_key: found.digest_key,
        copy: found.copy,
        copy_fixed: found.copy_fixed,
        duplicates: found.duplicates,
        atomic_set: found.atomic_set,
        sessions: found.sessions,
        label_chars: found.label_chars,
        kinds: found
            .kinds
            .iter()
            .map(|kind| kind_body(found, kind))
            .collect(),
        mechanisms: found
            .mechanisms
            .iter()
            .map(|mechanism| format!("{mechanism:#x}"))
            .collect(),
    }
}

fn kind_body(found: &Capabilities, kind: &KindCapabilities) -> rest::KindCapabilities {
    let trial = |trial: &UsageTrial| rest::UsageTrial {
        class: class(trial.class).to_owned(),
        usage: trial.usage,
        change: trial.change,
        answer: trial.answer.clone(),
        strategy: found.strategy_of(kind, trial.class, trial.usage),
    };
    rest::KindCapabilities {
        algorithm: kind.algorithm,
        sizes: kind.sizes.clone(),
        unwrap: kind.unwrap,
        usages: kind.usages.iter().map(trial).collect(),
    }
}
