//! Situations to start from, and the checks that cases share.

use uuid::Uuid;

use crate::decide::difference::differences;
use crate::decide::status::status;
use crate::model::capabilities::Strategy;
use crate::model::desired::{Instance, Intent, ObjectPlan, Want};
use crate::model::difference::{CausedBy, HealedBy, Reason, Status};
use crate::model::ids::{Digest, Generation, KeyVersionId, KeystoreId, Revision};
use crate::model::key::{Algorithm, DeactivatedUsage, KeySpec};
use crate::model::keystore::Health;
use crate::model::live::{Connection, Live, Terms};
use crate::model::observed::{
    Fingerprint, FingerprintMethod, Found, ObjectClass, ObjectFacts, Observation, Proof, ProofKind,
};
use crate::model::protocol::{Progress, Report};
use crate::model::vault::UnixMs;

pub(crate) const LATE_MS: i64 = 60_000;

pub(crate) fn keystore(n: u128) -> KeystoreId {
    KeystoreId::from_uuid(Uuid::from_u128(n))
}

pub(crate) fn print(method: FingerprintMethod, byte: u8) -> Fingerprint {
    Fingerprint {
        method,
        value: Digest([byte; 32]),
    }
}

pub(crate) fn instance(algorithm: Algorithm, bits: u32, want: Want) -> Instance {
    let spec = KeySpec::new(algorithm, bits).unwrap();
    let version = KeyVersionId::from_uuid(Uuid::from_u128(7));
    Instance {
        intent: Intent {
            version,
            keystore: keystore(1),
            generation: Generation(5),
            want,
            object: ObjectPlan {
                cka_id: version.uuid().as_bytes().to_vec(),
                label: "K1".to_owned(),
                spec,
                usage: spec.default_usage(),
                deactivated_usage: DeactivatedUsage::None,
                salt: vec![1; 32],
                strategy: Strategy::Flags,
            },
            fingerprint: print(
                match spec.class() {
                    crate::model::key::KeyClass::Secret => FingerprintMethod::DigestKey,
                    crate::model::key::KeyClass::Pair => FingerprintMethod::Spki,
                },
                9,
            ),
        },
        is_target: true,
        since: UnixMs(1_000),
        revision: Revision(3),
        adoption: None,
    }
}

pub(crate) fn aes(want: Want) -> Instance {
    instance(Algorithm::Aes, 256, want)
}

pub(crate) fn ec(want: Want) -> Instance {
    instance(Algorithm::Ec, 256, want)
}

pub(crate) fn facts(instance: &Instance, class: ObjectClass) -> ObjectFacts {
    let is_public = class == ObjectClass::Public;
    ObjectFacts {
        handle: 1,
        class,
        key_type: Some(0x1f),
        cka_id: instance.intent.object.cka_id.clone(),
        label: instance.intent.object.label.clone(),
        usage: instance
            .intent
            .object
            .usage_under(instance.intent.want, class),
        sensitive: (!is_public).then_some(true),
        extractable: (!is_public).then_some(false),
        modifiable: Some(true),
        copyable: Some(true),
        bits: None,
        public_digest: None,
        fingerprint: None,
    }
}

/// Exactly as wanted.
pub(crate) fn right(instance: &Instance) -> Found {
    let classes = instance.intent.object.spec.class().objects();
    Found {
        objects: classes
            .iter()
            .map(|&class| facts(instance, class))
            .collect(),
        fingerprint: Some(instance.intent.fingerprint),
        same_label: Vec::new(),
        fingerprint_failure: None,
    }
}

pub(crate) fn observed(instance: &Instance) -> Observation {
    if instance.intent.want == Want::Destroyed {
        Observation::Absent {
            same_label: Vec::new(),
        }
    } else {
        Observation::Present(right(instance))
    }
}

pub(crate) fn live(instance: &Instance, observation: Observation) -> Live {
    Live {
        connection: Connection::Live,
        health: Some(Health::Ok),
        report: Some(Report {
            version: instance.intent.version,
            applied: Some(instance.intent.applied()),
            progress: Progress::Done,
            observation,
            proof: Some(Proof {
                kind: ProofKind::Tried,
                operation: "C_EncryptInit".to_owned(),
                answer: "CKR_OK".to_owned(),
            }),
            proof_age_ms: 10,
            look_age_ms: 10,
            strategy: Strategy::Flags,
        }),
        look_age_ms: 10,
        fresh_for_ms: 34_000,
        refused: None,
        material_failure: None,
        since: Vec::new(),
    }
}

pub(crate) fn good(instance: &Instance) -> Live {
    live(instance, observed(instance))
}

/// Status by name, and the reasons with whose doing and what heals.
pub(crate) fn check(
    instance: &Instance,
    live: &Live,
    expected: &str,
    reasons: &[(Reason, CausedBy, HealedBy)],
) {
    let told = status(instance, live, &Terms::default());
    let why: Vec<_> = differences(instance, live, &Terms::default(), UnixMs(2_000), LATE_MS)
        .into_iter()
        .map(|d| (d.reason, d.caused_by, d.healed_by))
        .collect();
    assert_eq!(
        (told.name(), why.as_slice()),
        (expected, reasons),
        "{told:?}"
    );
    let is_in_sync = matches!(told, Status::InSync(_));
    assert_eq!(
        is_in_sync,
        why.is_empty(),
        "in sync exactly when nothing differs"
    );
}

pub(crate) fn check_report(
    edit: impl FnOnce(&mut Report),
    expected: &str,
    reason: (Reason, CausedBy, HealedBy),
) {
    let instance = aes(Want::Active);
    let mut live = good(&instance);
    edit(live.report.as_mut().unwrap());
    check(&instance, &live, expected, &[reason]);
}

pub(crate) fn check_drift(instance: &Instance, found: Found, reasons: &[Reason]) {
    let live = live(instance, Observation::Present(found));
    let told: Vec<Reason> = differences(instance, &live, &Terms::default(), UnixMs(2_000), LATE_MS)
        .into_iter()
        .inspect(|d| assert_eq!(d.caused_by, CausedBy::OutOfBand))
        .map(|d| d.reason)
        .collect();
    assert_eq!(
        (
            status(instance, &live, &Terms::default()).name(),
            told.as_slice()
        ),
        ("drift", reasons)
    );
}

pub(crate) const UNREACHABLE: (Reason, CausedBy, HealedBy) =
    (Reason::Unreachable, CausedBy::Unknown, HealedBy::Waiting);
pub(crate) const PENDING: (Reason, CausedBy, HealedBy) =
    (Reason::Pending, CausedBy::PendingChange, HealedBy::Waiting);
pub(crate) const UNPROVED: (Reason, CausedBy, HealedBy) =
    (Reason::Unproved, CausedBy::PendingChange, HealedBy::Waiting);
