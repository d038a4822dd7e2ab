//! Values of what is said about keys that others made.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::model::adoption::{AdoptionRecord, Candidate, Examined};
use crate::model::ids::SessionNumber;
use crate::model::material::Signed;
use crate::wire::adoption::{ExamineAnswer, ExamineCall};
use crate::wire::tests::arbitrary::{at, bytes, fingerprint, keystore, signed, spec, usage, words};

fn cka_id() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 1..=64)
}

fn candidate() -> impl Strategy<Value = Candidate> {
    (cka_id(), words(), spec()).prop_map(|(cka_id, label, spec)| Candidate {
        cka_id,
        label,
        spec,
    })
}

pub(crate) fn examine() -> impl Strategy<Value = ExamineCall> {
    (any::<u64>(), bytes(64), vec(candidate(), 0..4)).prop_map(|(session, salt, keys)| {
        ExamineCall {
            session: SessionNumber(session),
            salt,
            keys,
        }
    })
}

pub(crate) fn adoption() -> impl Strategy<Value = Signed<AdoptionRecord>> {
    let body = (
        (keystore(), cka_id(), words(), spec(), fingerprint()),
        (bytes(64), usage(), any::<[bool; 2]>(), at()),
    );
    signed(body.prop_map(
        |((keystore, cka_id, label, spec, fingerprint), (salt, usage, flags, at))| {
            let [sensitive, extractable] = flags;
            AdoptionRecord {
                keystore,
                cka_id,
                label,
                spec,
                fingerprint,
                salt,
                usage,
                sensitive,
                extractable,
                at,
            }
        },
    ))
}

pub(crate) fn examined() -> impl Strategy<Value = ExamineAnswer> {
    let one = prop_oneof![
        adoption().prop_map(|record| Examined::Known(Box::new(record))),
        words().prop_map(|why| Examined::Unknown { why }),
    ];
    vec(one, 0..4).prop_map(ExamineAnswer)
}
