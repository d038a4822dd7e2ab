//! Values of what a token can do.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use crate::model::capabilities::{
    Capabilities, Duplicates, FlagChange, KindCapabilities, Unwrap, UsageTrial,
};
use crate::model::key::Usage;
use crate::model::observed::ObjectClass;
use crate::wire::tests::arbitrary::{oaep_hashes, spec, words};

pub(crate) fn capabilities() -> impl Strategy<Value = Capabilities> {
    (
        (any::<u32>(), vec(any::<u64>(), 0..4), of(any::<u64>())),
        (
            oaep_hashes(),
            select(Duplicates::ALL.to_vec()),
            any::<[u32; 2]>(),
        ),
        (any::<[bool; 6]>(), of(any::<bool>())),
        vec(kind_capabilities(), 0..3),
    )
        .prop_map(
            |(
                (trials, mechanisms, rfc5649),
                (oaep_hashes, duplicates, [sessions, label_chars]),
                ([cbc_pad, copyable, modifiable, digest_key, copy, atomic_set], unextractable),
                kinds,
            )| Capabilities {
                trials,
                mechanisms,
                rfc5649,
                cbc_pad,
                oaep_hashes,
                copyable,
                modifiable,
                unextractable,
                digest_key,
                copy,
                duplicates,
                atomic_set,
                sessions,
                label_chars,
                kinds,
            },
        )
}

const CLASSES: [ObjectClass; 3] = [
    ObjectClass::Secret,
    ObjectClass::Private,
    ObjectClass::Public,
];

fn kind_capabilities() -> impl Strategy<Value = KindCapabilities> {
    let trial = (
        select(CLASSES.to_vec()),
        select(Usage::ALL.to_vec()),
        select(FlagChange::ALL.to_vec()),
        words(),
    )
        .prop_map(|(class, usage, change, answer)| UsageTrial {
            class,
            usage,
            change,
            answer,
        });
    let sizes = vec(any::<u32>(), 0..4);
    (
        spec(),
        sizes,
        select(Unwrap::ALL.to_vec()),
        vec(trial, 0..4),
    )
        .prop_map(|(spec, sizes, unwrap, usages)| KindCapabilities {
            algorithm: spec.algorithm(),
            sizes,
            unwrap,
            usages,
        })
}
