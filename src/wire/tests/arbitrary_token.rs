//! Values of what an agent says of itself, and what its token can do.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use crate::model::capabilities::{
    Capabilities, Duplicates, FlagChange, KindCapabilities, Unwrap, UsageTrial,
};
use crate::model::ids::Epoch;
use crate::model::key::Usage;
use crate::model::keystore::Variant;
use crate::model::observed::ObjectClass;
use crate::model::protocol::Description;
use crate::model::vault::UnixMs;
use crate::wire::tests::arbitrary::{
    digest, health, keystore, oaep_hashes, spec, token_info, words,
};

pub(crate) fn capabilities() -> impl Strategy<Value = Capabilities> {
    (
        (any::<u32>(), vec(any::<u64>(), 0..4), of(any::<u64>())),
        (
            oaep_hashes(),
            select(Duplicates::ALL.to_vec()),
            any::<[u32; 2]>(),
        ),
        (any::<[bool; 7]>(), of(any::<bool>())),
        vec(kind_capabilities(), 0..3),
    )
        .prop_map(
            |(
                (trials, mechanisms, rfc5649),
                (oaep_hashes, duplicates, [sessions, label_chars]),
                (
                    [
                        cbc_pad,
                        copyable,
                        modifiable,
                        digest_key,
                        copy,
                        copy_fixed,
                        atomic_set,
                    ],
                    unextractable,
                ),
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
                copy_fixed,
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

pub(crate) fn description() -> impl Strategy<Value = Description> {
    let variant = select(vec![Variant::Internal, Variant::External]);
    (
        (of(keystore()), any::<u64>(), words(), digest(), variant),
        (
            token_info(),
            (of(capabilities()), of(capabilities())),
            health(),
            any::<u64>(),
            any::<i64>(),
        ),
    )
        .prop_map(
            |(
                (keystore, epoch, version, identity, variant),
                (token, (capabilities, accepted), health, journal_records, clock),
            )| Description {
                keystore,
                epoch: Epoch(epoch),
                version,
                identity,
                variant,
                token,
                capabilities,
                accepted,
                health,
                journal_records,
                clock: UnixMs(clock),
            },
        )
}
