//! Values of every noun that travels.

use proptest::collection::{btree_set, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use uuid::Uuid;

use crate::model::canonical::sha256;
use crate::model::capabilities::Strategy as Way;
use crate::model::desired::{Applied, Intent, ObjectPlan, Want};
use crate::model::ids::{
    BootId, Digest, Epoch, Generation, KeyVersionId, KeystoreId, SessionNumber, Term,
};
use crate::model::job::{FailureKind, TokenFailure};
use crate::model::kek::{KekJob, KekNumber};
use crate::model::key::{Algorithm, DeactivatedUsage, KeySpec, UsageSet};
use crate::model::keystore::{Health, Marker, OaepHash, Route, Routes, TokenInfo, Wrapping};
use crate::model::material::{BirthRecord, Endorsement, Envelope, RepositoryCopy, Signed};
use crate::model::observed::{
    Fingerprint, FingerprintMethod, Found, ObjectClass, ObjectFacts, Observation, Proof, ProofKind,
};
use crate::model::protocol::{Cursor, Down, Progress, Refusal, Report, SessionRefusal, Up, UpBody};
use crate::model::vault::UnixMs;
use crate::wire::calls::{GenerateCall, ProveCall, RewrapCall};
use crate::wire::kek::{KekCall, Keks, RewrapCopyCall};

/// One value, the same in every run.
pub(crate) fn one<S: Strategy>(strategy: S) -> S::Value {
    let mut runner = TestRunner::deterministic();
    strategy.new_tree(&mut runner).unwrap().current()
}

fn uuid() -> impl Strategy<Value = Uuid> {
    any::<[u8; 16]>().prop_map(Uuid::from_bytes)
}

fn version() -> impl Strategy<Value = KeyVersionId> {
    uuid().prop_map(KeyVersionId::from_uuid)
}

pub(crate) fn keystore() -> impl Strategy<Value = KeystoreId> {
    uuid().prop_map(KeystoreId::from_uuid)
}

pub(crate) fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest)
}

pub(crate) fn words() -> impl Strategy<Value = String> {
    "[ -~äß\u{202e}]{0,30}"
}

pub(crate) fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=max)
}

pub(crate) fn usage() -> impl Strategy<Value = UsageSet> {
    (0u16..512).prop_map(|bits| UsageSet::from_bits(bits).unwrap())
}

pub(crate) fn spec() -> impl Strategy<Value = KeySpec> {
    let all = [
        (Algorithm::Aes, 256),
        (Algorithm::Des, 192),
        (Algorithm::Ec, 521),
        (Algorithm::Hmac, 160),
        (Algorithm::Rsa, 4096),
    ];
    select(all.to_vec()).prop_map(|(algorithm, bits)| KeySpec::new(algorithm, bits).unwrap())
}

pub(crate) fn fingerprint() -> impl Strategy<Value = Fingerprint> {
    let method = select(vec![FingerprintMethod::DigestKey, FingerprintMethod::Spki]);
    (method, digest()).prop_map(|(method, value)| Fingerprint { method, value })
}

fn want() -> impl Strategy<Value = Want> {
    select(vec![Want::Active, Want::Deactivated, Want::Destroyed])
}

fn object_plan() -> impl Strategy<Value = ObjectPlan> {
    let deactivated = select(vec![DeactivatedUsage::None, DeactivatedUsage::ProcessOnly]);
    (
        vec(any::<u8>(), 1..=64),
        words(),
        spec(),
        usage(),
        deactivated,
        bytes(64),
        select(Way::ALL.to_vec()),
    )
        .prop_map(
            |(cka_id, label, spec, usage, deactivated_usage, salt, strategy)| ObjectPlan {
                cka_id,
                label,
                spec,
                usage,
                deactivated_usage,
                salt,
                strategy,
            },
        )
}

pub(crate) fn intent() -> impl Strategy<Value = Intent> {
    (
        version(),
        keystore(),
        any::<u64>(),
        want(),
        object_plan(),
        fingerprint(),
    )
        .prop_map(
            |(version, keystore, generation, want, object, fingerprint)| Intent {
                version,
                keystore,
                generation: Generation(generation),
                want,
                object,
                fingerprint,
            },
        )
}

pub(crate) fn applied() -> impl Strategy<Value = Applied> {
    (any::<u64>(), want(), digest()).prop_map(|(generation, want, digest)| Applied {
        generation: Generation(generation),
        want,
        digest,
    })
}

pub(crate) fn signed<T: std::fmt::Debug>(
    body: impl Strategy<Value = T>,
) -> impl Strategy<Value = Signed<T>> {
    (body, vec(any::<u8>(), 32), vec(any::<u8>(), 64)).prop_map(|(body, signer, signature)| {
        Signed {
            body,
            signer,
            signature,
        }
    })
}

pub(crate) fn at() -> impl Strategy<Value = UnixMs> {
    (0..=i64::MAX).prop_map(UnixMs)
}

pub(crate) fn birth() -> impl Strategy<Value = Signed<BirthRecord>> {
    let body = (
        (version(), spec(), fingerprint(), bytes(64)),
        (of(bytes(600)), digest(), keystore(), at()),
    );
    signed(body.prop_map(
        |((version, spec, fingerprint, salt), (spki, blob, keystore, at))| BirthRecord {
            version,
            spec,
            fingerprint,
            salt,
            spki,
            blob,
            keystore,
            at,
        },
    ))
}

pub(crate) fn oaep_hashes() -> impl Strategy<Value = Vec<OaepHash>> {
    subsequence(OaepHash::ALL.to_vec(), 0..=OaepHash::ALL.len())
}

fn routes() -> impl Strategy<Value = Routes> {
    let wrappings = subsequence(Wrapping::ALL.to_vec(), 0..=Wrapping::ALL.len());
    (wrappings, oaep_hashes()).prop_map(|(wrappings, oaep_hashes)| Routes {
        wrappings,
        oaep_hashes,
    })
}

fn route() -> impl Strategy<Value = Route> {
    let (wrapping, hash) = (Wrapping::ALL.to_vec(), OaepHash::ALL.to_vec());
    (select(wrapping), select(hash)).prop_map(|(wrapping, oaep_hash)| Route {
        wrapping,
        oaep_hash,
    })
}

pub(crate) fn endorsement() -> impl Strategy<Value = Signed<Endorsement>> {
    let body = (keystore(), any::<u64>(), bytes(600), routes(), at());
    signed(
        body.prop_map(|(keystore, epoch, spki, routes, at)| Endorsement {
            keystore,
            epoch: Epoch(epoch),
            spki,
            routes,
            at,
        }),
    )
}

pub(crate) fn envelope() -> impl Strategy<Value = Signed<Envelope>> {
    let body = (
        (version(), spec(), fingerprint(), bytes(64), of(bytes(600))),
        (keystore(), keystore(), any::<u64>(), digest()),
        (route(), bytes(512), bytes(2500), at()),
    );
    signed(body.prop_map(
        |(
            (version, spec, fingerprint, salt, spki),
            (source, target, generation, transport),
            (route, wrapped_kek, wrapped_key, at),
        )| Envelope {
            version,
            spec,
            fingerprint,
            salt,
            spki,
            source,
            target,
            generation: Generation(generation),
            transport,
            route,
            wrapped_kek,
            wrapped_key,
            at,
        },
    ))
}

pub(crate) fn token_info() -> impl Strategy<Value = TokenInfo> {
    (
        (words(), words(), words(), words()),
        (words(), words(), words()),
    )
        .prop_map(
            |((label, serial, manufacturer, model), (hardware, firmware, library))| TokenInfo {
                label,
                serial,
                manufacturer,
                model,
                hardware,
                firmware,
                library,
            },
        )
}

fn marker() -> impl Strategy<Value = Marker> {
    (keystore(), any::<u64>()).prop_map(|(keystore, epoch)| Marker {
        keystore,
        epoch: Epoch(epoch),
    })
}

pub(crate) fn health() -> impl Strategy<Value = Health> {
    prop_oneof![
        Just(Health::Ok),
        Just(Health::Starting),
        (words(), words()).prop_map(|(label, serial)| Health::TokenNotFound { label, serial }),
        Just(Health::WrongPin),
        Just(Health::PinLocked),
        Just(Health::MarkerMissing),
        marker().prop_map(Health::BelongsTo),
        marker().prop_map(Health::OtherEpoch),
        Just(Health::JournalLost),
        words().prop_map(|detail| Health::JournalFailed { detail }),
        words().prop_map(|detail| Health::ModuleFailed { detail }),
    ]
}

pub(crate) fn facts() -> impl Strategy<Value = ObjectFacts> {
    let class = select(vec![
        ObjectClass::Secret,
        ObjectClass::Private,
        ObjectClass::Public,
    ]);
    (
        (any::<u64>(), class, of(any::<u64>()), bytes(80), words()),
        (
            usage(),
            proptest::array::uniform4(of(any::<bool>())),
            of(any::<u32>()),
            of(digest()),
            of(fingerprint()),
        ),
    )
        .prop_map(
            |(
                (handle, class, key_type, cka_id, label),
                (
                    usage,
                    [sensitive, extractable, modifiable, copyable],
                    bits,
                    public_digest,
                    fingerprint,
                ),
            )| ObjectFacts {
                handle,
                class,
                key_type,
                cka_id,
                label,
                usage,
                sensitive,
                extractable,
                modifiable,
                copyable,
                bits,
                public_digest,
                fingerprint,
            },
        )
}

fn found() -> impl Strategy<Value = Found> {
    (
        vec(facts(), 0..3),
        of(fingerprint()),
        vec(facts(), 0..3),
        of(words()),
    )
        .prop_map(
            |(objects, fingerprint, same_label, fingerprint_failure)| Found {
                objects,
                fingerprint,
                same_label,
                fingerprint_failure,
            },
        )
}

pub(crate) fn observation() -> impl Strategy<Value = Observation> {
    let leaf = prop_oneof![
        words().prop_map(|why| Observation::Unknown { why }),
        vec(facts(), 0..3).prop_map(|same_label| Observation::Absent { same_label }),
        found().prop_map(Observation::Present),
    ];
    leaf.prop_recursive(2, 3, 1, |inner| {
        inner.prop_map(|last| Observation::Suspected {
            last: Box::new(last),
        })
    })
}

pub(crate) fn failure() -> impl Strategy<Value = TokenFailure> {
    let kind = select(vec![
        FailureKind::Retry,
        FailureKind::Restart,
        FailureKind::Refused,
        FailureKind::NeedsMaterial,
        FailureKind::WrongKey,
        FailureKind::LabelTaken,
        FailureKind::WrongPin,
        FailureKind::PinLocked,
        FailureKind::NoToken,
    ]);
    (kind, words(), words(), words()).prop_map(|(kind, function, rv, detail)| TokenFailure {
        kind,
        function,
        rv,
        detail,
    })
}

fn progress() -> impl Strategy<Value = Progress> {
    prop_oneof![
        Just(Progress::Done),
        Just(Progress::Busy),
        Just(Progress::NeedsMaterial),
        failure().prop_map(Progress::Failed),
        words().prop_map(|why| Progress::Unknown { why }),
    ]
}

pub(crate) fn report() -> impl Strategy<Value = Report> {
    let kind = select(vec![ProofKind::Tried, ProofKind::ReadBack]);
    let proof = (kind, words(), words()).prop_map(|(kind, operation, answer)| Proof {
        kind,
        operation,
        answer,
    });
    (
        (version(), of(applied()), progress(), observation()),
        (
            of(proof),
            any::<u64>(),
            any::<u64>(),
            select(Way::ALL.to_vec()),
        ),
    )
        .prop_map(
            |(
                (version, applied, progress, observation),
                (proof, proof_age_ms, look_age_ms, strategy),
            )| {
                Report {
                    version,
                    applied,
                    progress,
                    observation,
                    proof,
                    proof_age_ms,
                    look_age_ms,
                    strategy,
                }
            },
        )
}

pub(crate) fn down() -> impl Strategy<Value = Down> {
    let cursor = (uuid(), any::<u64>()).prop_map(|(boot, seq)| Cursor {
        boot: BootId::from_uuid(boot),
        seq,
    });
    prop_oneof![
        (any::<u64>(), keystore(), of(cursor)).prop_map(|(term, keystore, cursor)| Down::Open {
            term: Term(term),
            keystore,
            cursor,
        }),
        (intent(), of(envelope())).prop_map(|(intent, envelope)| Down::Intent {
            intent: Box::new(intent),
            envelope: envelope.map(Box::new),
        }),
        of(version()).prop_map(|version| Down::Look { version }),
        digest().prop_map(|wanted| Down::Heartbeat { wanted }),
    ]
}

fn refusal() -> impl Strategy<Value = Refusal> {
    prop_oneof![
        applied().prop_map(Refusal::Stale),
        applied().prop_map(Refusal::Conflict),
        any::<u64>().prop_map(|last| Refusal::Jump {
            last: Generation(last)
        }),
        applied().prop_map(Refusal::Tombstone),
        keystore().prop_map(|wanted| Refusal::WrongKeystore { wanted }),
        words().prop_map(|reason| Refusal::Envelope { reason }),
        health().prop_map(Refusal::Unhealthy),
        words().prop_map(|detail| Refusal::Journal { detail }),
    ]
}

fn session_refusal() -> impl Strategy<Value = SessionRefusal> {
    prop_oneof![
        any::<u64>().prop_map(|highest| SessionRefusal::StaleTerm {
            highest: Term(highest)
        }),
        any::<u64>().prop_map(|term| SessionRefusal::TakenOver { term: Term(term) }),
        of(keystore()).prop_map(|actual| SessionRefusal::WrongKeystore { actual }),
        words().prop_map(|detail| SessionRefusal::Protocol { detail }),
    ]
}

pub(crate) fn up() -> impl Strategy<Value = Up> {
    let body = prop_oneof![
        (any::<u64>(), uuid(), any::<bool>()).prop_map(|(session, boot, full)| {
            UpBody::Accepted {
                session: SessionNumber(session),
                boot: BootId::from_uuid(boot),
                full,
            }
        }),
        session_refusal().prop_map(UpBody::Rejected),
        vec(report(), 0..4).prop_map(UpBody::Reports),
        vec(facts(), 0..4).prop_map(UpBody::Unmanaged),
        any::<u64>().prop_map(|scan_age_ms| UpBody::CaughtUp { scan_age_ms }),
        (version(), any::<u64>(), refusal()).prop_map(|(version, generation, refusal)| {
            UpBody::Refused {
                version,
                generation: Generation(generation),
                refusal,
            }
        }),
        health().prop_map(UpBody::Health),
        (digest(), any::<u64>()).prop_map(|(wanted, scan_age_ms)| UpBody::Heartbeat {
            wanted,
            scan_age_ms,
        }),
    ];
    (any::<u64>(), body).prop_map(|(seq, body)| Up { seq, body })
}

pub(crate) fn generate() -> impl Strategy<Value = GenerateCall> {
    (any::<u64>(), version(), spec(), bytes(64)).prop_map(|(session, version, spec, salt)| {
        GenerateCall {
            session: SessionNumber(session),
            version,
            spec,
            salt,
        }
    })
}

pub(crate) fn copy() -> impl Strategy<Value = RepositoryCopy> {
    (birth(), bytes(2500), kek()).prop_map(|(mut birth, blob, kek)| {
        birth.body.blob = sha256(&blob);
        RepositoryCopy {
            keystore: birth.body.keystore,
            blob,
            kek,
            birth,
        }
    })
}

pub(crate) fn rewrap() -> impl Strategy<Value = RewrapCall> {
    (
        any::<u64>(),
        bytes(2500),
        birth(),
        endorsement(),
        any::<u64>(),
        kek(),
    )
        .prop_map(
            |(session, blob, birth, target, generation, kek)| RewrapCall {
                session: SessionNumber(session),
                blob,
                birth,
                target,
                generation: Generation(generation),
                kek,
            },
        )
}

pub(crate) fn kek() -> impl Strategy<Value = KekNumber> {
    (1..=u32::MAX).prop_map(KekNumber::from_number)
}

pub(crate) fn kek_call() -> impl Strategy<Value = KekCall> {
    let job = prop_oneof![
        Just(KekJob::Look),
        kek().prop_map(KekJob::Make),
        kek().prop_map(KekJob::Destroy),
    ];
    (any::<u64>(), job).prop_map(|(session, job)| KekCall {
        session: SessionNumber(session),
        job,
    })
}

pub(crate) fn keks() -> impl Strategy<Value = Keks> {
    btree_set(kek(), 0..5).prop_map(|keks| Keks(keks.into_iter().collect()))
}

pub(crate) fn rewrap_copy() -> impl Strategy<Value = RewrapCopyCall> {
    (any::<u64>(), copy()).prop_map(|(session, copy)| RewrapCopyCall {
        session: SessionNumber(session),
        blob: copy.blob,
        kek: copy.kek,
        birth: copy.birth,
    })
}

pub(crate) fn prove() -> impl Strategy<Value = ProveCall> {
    (any::<u64>(), version()).prop_map(|(session, version)| ProveCall {
        session: SessionNumber(session),
        version,
    })
}
