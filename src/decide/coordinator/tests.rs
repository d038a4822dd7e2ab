//! Scripts: what comes in, what must go out.

use crate::decide::coordinator::{Input, Machine, Moment, Output};
use crate::model::capabilities::Strategy;
use crate::model::desired::{Instance, Intent, ObjectPlan, Want};
use crate::model::ids::{
    BootId, Digest, Generation, KeyVersionId, KeystoreId, Revision, SessionNumber, Term,
};
use crate::model::job::{FailureKind, TokenFailure};
use crate::model::key::{Algorithm, DeactivatedUsage, KeySpec, Usage, UsageSet};
use crate::model::keystore::{Health, OaepHash, Route, Wrapping};
use crate::model::live::Connection;
use crate::model::material::{Envelope, Signed};
use crate::model::observed::{Fingerprint, FingerprintMethod, Found, Observation};
use crate::model::protocol::{Down, Progress, Refusal, Report, SessionRefusal, Up, UpBody};
use crate::model::vault::UnixMs;

mod one_by_one;

const KEYSTORE: KeystoreId = KeystoreId::from_uuid(uuid::Uuid::from_u128(7));

fn version(n: u128) -> KeyVersionId {
    KeyVersionId::from_uuid(uuid::Uuid::from_u128(n))
}

fn instance(n: u128, generation: u64, want: Want) -> Instance {
    let fingerprint = Fingerprint {
        method: FingerprintMethod::DigestKey,
        value: Digest([1; 32]),
    };
    let object = ObjectPlan {
        cka_id: version(n).uuid().as_bytes().to_vec(),
        label: format!("key-{n}"),
        spec: KeySpec::new(Algorithm::Aes, 256).unwrap(),
        usage: UsageSet::of(&[Usage::Encrypt, Usage::Decrypt]),
        deactivated_usage: DeactivatedUsage::None,
        salt: vec![0; 32],
        strategy: Strategy::Flags,
    };
    let intent = Intent {
        version: version(n),
        keystore: KEYSTORE,
        generation: Generation(generation),
        want,
        object,
        fingerprint,
    };
    Instance {
        intent,
        is_target: true,
        since: UnixMs(0),
        revision: Revision(1),
        adoption: None,
    }
}

fn report(of: &Instance, progress: Progress, observation: Observation) -> Report {
    Report {
        version: of.intent.version,
        applied: Some(of.intent.applied()),
        progress,
        observation,
        proof: None,
        proof_age_ms: 0,
        look_age_ms: 0,
        strategy: Strategy::Flags,
    }
}

fn absent() -> Observation {
    Observation::Absent {
        same_label: Vec::new(),
    }
}

fn present() -> Observation {
    Observation::Present(Found::default())
}

fn envelope(of: &Instance) -> Box<Signed<Envelope>> {
    let intent = &of.intent;
    let body = Envelope {
        version: intent.version,
        spec: intent.object.spec,
        fingerprint: intent.fingerprint,
        salt: intent.object.salt.clone(),
        spki: None,
        source: KEYSTORE,
        target: KEYSTORE,
        generation: intent.generation,
        transport: Digest([0; 32]),
        route: Route {
            wrapping: Wrapping::Rfc5649,
            oaep_hash: OaepHash::Sha256,
        },
        wrapped_kek: vec![1],
        wrapped_key: vec![2],
        at: UnixMs(0),
    };
    Box::new(Signed {
        body,
        signer: vec![0; 32],
        signature: vec![0; 64],
    })
}

/// Drives a machine; time stands still unless told.
struct Play {
    machine: Machine,
    now_ms: u64,
    seq: u64,
}

impl Play {
    fn new() -> Self {
        Self {
            machine: Machine::new(KEYSTORE),
            now_ms: 0,
            seq: 0,
        }
    }

    /// A machine in a live session that wants these.
    fn live(desired: &[Instance]) -> Self {
        let mut play = Self::new();
        play.step(Input::Desired(desired.to_vec()));
        play.step(Input::Connected { term: Term(1) });
        play.up(accepted(true));
        play
    }

    fn step(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        let at = Moment {
            now_ms: self.now_ms,
            unix: UnixMs(1_000),
        };
        self.machine.step(at, input, &mut out);
        out
    }

    fn up(&mut self, body: UpBody) -> Vec<Output> {
        self.seq += 1;
        self.step(Input::Up(Box::new(Up {
            seq: self.seq,
            body,
        })))
    }

    fn caught_up(&mut self) -> Vec<Output> {
        self.up(UpBody::CaughtUp { scan_age_ms: 0 })
    }

    fn after(&mut self, ms: u64) -> Vec<Output> {
        self.now_ms += ms;
        self.step(Input::Tick)
    }
}

fn accepted(full: bool) -> UpBody {
    let boot = BootId::from_uuid(uuid::Uuid::from_u128(9));
    UpBody::Accepted {
        session: SessionNumber(1),
        boot,
        full,
    }
}

/// The acts among outputs, in short.
fn acts(outputs: &[Output]) -> Vec<String> {
    let mut acts = Vec::new();
    for output in outputs {
        match output {
            Output::Send(down) => match &**down {
                Down::Intent { intent, envelope } => acts.push(format!(
                    "intent {} {} {}{}",
                    intent.version.uuid().as_u128(),
                    intent.generation,
                    intent.want.name(),
                    if envelope.is_some() {
                        " with envelope"
                    } else {
                        ""
                    }
                )),
                Down::Open { .. } => acts.push("open".to_owned()),
                Down::Look { .. } => acts.push("look".to_owned()),
                Down::Heartbeat { .. } => {}
            },
            Output::Evidence(evidence) => acts.push(format!("evidence: {evidence}")),
            Output::FetchMaterial { version, .. } => {
                acts.push(format!("fetch {}", version.uuid().as_u128()));
            }
            Output::RaiseLease { highest, .. } => acts.push(format!("raise above {highest}")),
            Output::Close { .. } => acts.push("close".to_owned()),
            Output::Changed(_) => {}
        }
    }
    acts
}

fn check(outputs: &[Output], expected: &[&str]) {
    assert_eq!(acts(outputs), expected);
}

#[test]
fn nothing_is_sent_before_the_agent_has_said_what_is_there() {
    let mut play = Play::new();
    check(
        &play.step(Input::Desired(vec![instance(1, 1, Want::Active)])),
        &[],
    );
    check(&play.step(Input::Connected { term: Term(1) }), &["open"]);
    check(&play.up(accepted(true)), &[]);
    check(&play.caught_up(), &["fetch 1"]);
}

#[test]
fn what_restricts_goes_first() {
    let wants = [
        instance(1, 1, Want::Active),
        instance(2, 2, Want::Deactivated),
        instance(3, 3, Want::Destroyed),
    ];
    let mut play = Play::live(&wants);
    let known = [report(
        &instance(2, 1, Want::Active),
        Progress::Done,
        present(),
    )];
    play.up(UpBody::Reports(known.to_vec()));
    check(
        &play.caught_up(),
        &["intent 3 3 destroyed", "intent 2 2 deactivated", "fetch 1"],
    );
}

#[test]
fn material_travels_with_the_intent_and_its_lack_does_not_keep_the_intent_back() {
    let wanted = instance(1, 4, Want::Active);
    let mut play = Play::live(std::slice::from_ref(&wanted));
    check(&play.caught_up(), &["fetch 1"]);
    let (version, generation) = (wanted.intent.version, wanted.intent.generation);
    let failed = Input::Material {
        version,
        generation,
        envelope: Err("down".to_owned()),
    };
    check(&play.step(failed), &["intent 1 4 active"]);
    assert_eq!(
        play.machine.live(version, 0).material_failure.as_deref(),
        Some("down")
    );
    let needs = report(&wanted, Progress::NeedsMaterial, absent());
    play.up(UpBody::Reports(vec![needs]));
    check(&play.after(60_000), &["fetch 1"]);
    let envelope = Ok(envelope(&wanted));
    let had = play.step(Input::Material {
        version,
        generation,
        envelope,
    });
    check(&had, &["intent 1 4 active with envelope"]);
    assert_eq!(play.machine.live(version, 0).material_failure, None);
}

#[test]
fn a_source_that_was_away_is_asked_again_soon_and_then_ever_slower() {
    let wanted = instance(1, 4, Want::Active);
    let mut play = Play::live(std::slice::from_ref(&wanted));
    check(&play.caught_up(), &["fetch 1"]);
    let failed = || Input::Material {
        version: wanted.intent.version,
        generation: wanted.intent.generation,
        envelope: Err("down".to_owned()),
    };
    check(&play.step(failed()), &["intent 1 4 active"]);
    let needs = report(&wanted, Progress::NeedsMaterial, absent());
    check(&play.up(UpBody::Reports(vec![needs])), &["fetch 1"]);
    for pause_ms in [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
        check(&play.step(failed()), &[]);
        check(&play.after(pause_ms - 1), &[]);
        check(&play.after(1), &["fetch 1"]);
    }
    // Unless it is known to be back.
    assert!(play.machine.forget_missing_material());
    check(&play.after(0), &[]);
    check(&play.step(failed()), &[]);
    assert!(play.machine.forget_missing_material());
    check(&play.after(0), &["fetch 1"]);
}

#[test]
fn material_that_was_not_taken_is_asked_for_again() {
    let wanted = instance(1, 4, Want::Deactivated);
    let mut play = Play::live(std::slice::from_ref(&wanted));
    play.caught_up();
    let failure = TokenFailure {
        kind: FailureKind::NeedsMaterial,
        function: "envelope".to_owned(),
        rv: String::new(),
        detail: "not_ready".to_owned(),
    };
    let failed = report(&wanted, Progress::Failed(failure), absent());
    play.up(UpBody::Reports(vec![failed]));
    check(&play.after(60_000), &["fetch 1"]);
}

#[test]
fn one_install_takes_one_envelope() {
    let wanted = instance(1, 4, Want::Active);
    let mut play = Play::live(std::slice::from_ref(&wanted));
    check(&play.caught_up(), &["fetch 1"]);
    let had = play.step(Input::Material {
        version: wanted.intent.version,
        generation: wanted.intent.generation,
        envelope: Ok(envelope(&wanted)),
    });
    check(&had, &["intent 1 4 active with envelope"]);
    check(&play.after(10_000), &["intent 1 4 active"]);
}

#[test]
fn an_envelope_for_an_older_generation_is_dropped() {
    let wanted = instance(1, 4, Want::Active);
    let mut play = Play::live(std::slice::from_ref(&wanted));
    check(&play.caught_up(), &["fetch 1"]);
    check(
        &play.step(Input::Desired(vec![instance(1, 5, Want::Active)])),
        &["fetch 1"],
    );
    let (version, generation) = (wanted.intent.version, wanted.intent.generation);
    let late = Input::Material {
        version,
        generation,
        envelope: Ok(envelope(&wanted)),
    };
    check(&play.step(late), &[]);
}

#[test]
fn what_is_done_is_not_sent_again_and_what_got_lost_is() {
    let wanted = instance(1, 2, Want::Deactivated);
    let before = report(&instance(1, 1, Want::Active), Progress::Done, present());
    let mut play = Play::live(std::slice::from_ref(&wanted));
    play.up(UpBody::Reports(vec![before]));
    check(&play.caught_up(), &["intent 1 2 deactivated"]);
    check(&play.after(1_000), &[]);
    check(&play.after(10_000), &["intent 1 2 deactivated"]);
    play.up(UpBody::Reports(vec![report(
        &wanted,
        Progress::Done,
        present(),
    )]));
    check(&play.after(100_000), &[]);
}

#[test]
fn drift_is_not_acted_on_by_itself() {
    let wanted = instance(1, 2, Want::Active);
    let mut play = Play::live(std::slice::from_ref(&wanted));
    play.up(UpBody::Reports(vec![report(
        &wanted,
        Progress::Done,
        absent(),
    )]));
    check(&play.caught_up(), &[]);
    check(&play.after(100_000), &[]);
}

#[test]
fn a_refusal_for_good_ends_it_until_a_newer_intent() {
    let wanted = instance(1, 2, Want::Deactivated);
    let version = wanted.intent.version;
    let before = report(&instance(1, 1, Want::Active), Progress::Done, present());
    let mut play = Play::live(std::slice::from_ref(&wanted));
    play.up(UpBody::Reports(vec![before]));
    play.caught_up();
    let refusal = Refusal::Stale(instance(1, 9, Want::Active).intent.applied());
    play.up(UpBody::Refused {
        version,
        generation: Generation(2),
        refusal,
    });
    check(&play.after(100_000), &[]);
    let newer = play.step(Input::Desired(vec![instance(1, 10, Want::Deactivated)]));
    check(&newer, &["intent 1 10 deactivated"]);
}

#[test]
fn what_was_refused_with_a_full_disk_goes_again_as_soon_as_there_is_room() {
    let wanted = instance(1, 1, Want::Deactivated);
    let mut play = Play::live(std::slice::from_ref(&wanted));
    let seen = UpBody::Reports(vec![report(&wanted, Progress::Busy, present())]);
    play.up(seen);
    check(&play.caught_up(), &["intent 1 1 deactivated"]);
    let detail = || "no space".to_owned();
    play.up(UpBody::Refused {
        version: wanted.intent.version,
        generation: wanted.intent.generation,
        refusal: Refusal::Journal { detail: detail() },
    });
    let full = Health::JournalFailed { detail: detail() };
    check(&play.up(UpBody::Health(full)), &[]);
    check(&play.after(3_000), &[]);
    let well = || UpBody::Health(Health::Ok);
    check(&play.up(well()), &["intent 1 1 deactivated"]);
    check(&play.up(well()), &[]);
}

#[test]
fn a_failure_is_tried_again_only_if_trying_can_help() {
    for (kind, expected) in [
        (FailureKind::Retry, vec!["intent 1 2 active"]),
        (FailureKind::WrongKey, vec![]),
    ] {
        let wanted = instance(1, 2, Want::Active);
        let mut play = Play::live(std::slice::from_ref(&wanted));
        let failure = TokenFailure {
            kind,
            function: "C_SetAttributeValue".to_owned(),
            rv: "CKR_DEVICE_ERROR".to_owned(),
            detail: String::new(),
        };
        let failed = report(&wanted, Progress::Failed(failure), present());
        play.up(UpBody::Reports(vec![failed]));
        check(&play.caught_up(), &expected);
    }
}

#[test]
fn an_agent_that_is_ahead_is_left_alone() {
    let mut play = Play::live(&[instance(1, 2, Want::Active)]);
    let ahead = report(
        &instance(1, 3, Want::Deactivated),
        Progress::Done,
        present(),
    );
    play.up(UpBody::Reports(vec![ahead]));
    check(&play.caught_up(), &[]);
}

#[test]
fn reports_count_only_in_sequence_and_in_a_session() {
    let wanted = instance(1, 1, Want::Active);
    let frame = |seq| {
        let body = UpBody::Reports(vec![report(&wanted, Progress::Done, present())]);
        Input::Up(Box::new(Up { seq, body }))
    };
    let mut play = Play::new();
    check(&play.step(frame(1)), &["close"]);
    let mut play = Play::live(std::slice::from_ref(&wanted));
    check(&play.step(frame(5)), &[]);
    check(&play.step(frame(5)), &["close"]);
}

#[test]
fn a_session_is_accepted_once() {
    let mut play = Play::live(&[]);
    play.caught_up();
    check(&play.up(accepted(true)), &["close"]);
}

#[test]
fn after_a_break_nothing_counts_until_the_agent_has_caught_up() {
    let wanted = instance(1, 1, Want::Active);
    let mut play = Play::live(std::slice::from_ref(&wanted));
    play.up(UpBody::Reports(vec![report(
        &wanted,
        Progress::Done,
        present(),
    )]));
    play.caught_up();
    assert_eq!(*play.machine.connection(), Connection::Live);
    play.step(Input::Gone {
        why: "pulled".to_owned(),
    });
    assert!(matches!(play.machine.connection(), Connection::Down { .. }));
    play.step(Input::Connected { term: Term(2) });
    play.up(accepted(false));
    assert_eq!(*play.machine.connection(), Connection::CatchingUp);
    assert!(play.machine.live(wanted.intent.version, 0).report.is_some());
    play.step(Input::Gone {
        why: "pulled".to_owned(),
    });
    play.step(Input::Connected { term: Term(3) });
    play.up(accepted(true));
    assert_eq!(play.machine.live(wanted.intent.version, 0).report, None);
}

#[test]
fn a_stale_lease_is_raised() {
    let mut play = Play::new();
    play.step(Input::Connected { term: Term(1) });
    let rejected = UpBody::Rejected(SessionRefusal::StaleTerm { highest: Term(8) });
    check(&play.up(rejected), &["raise above 8", "close"]);
}

#[test]
fn looks_grow_old_without_scans() {
    let wanted = instance(1, 1, Want::Active);
    let mut play = Play::live(std::slice::from_ref(&wanted));
    play.up(UpBody::Reports(vec![report(
        &wanted,
        Progress::Done,
        present(),
    )]));
    play.caught_up();
    assert_eq!(
        play.machine.live(wanted.intent.version, 40_000).look_age_ms,
        40_000
    );
    play.now_ms = 30_000;
    let wanted_digest = play.machine.wanted_digest();
    play.up(UpBody::Heartbeat {
        wanted: wanted_digest,
        scan_age_ms: 500,
    });
    assert_eq!(
        play.machine.live(wanted.intent.version, 40_000).look_age_ms,
        10_500
    );
    // A scan is no proof: that one's age runs on.
    let report = play.machine.live(wanted.intent.version, 40_000).report;
    assert_eq!(report.unwrap().proof_age_ms, 40_000);
}

#[test]
fn what_an_agent_knows_better_is_told_once_in_each_session() {
    let stored = [
        instance(1, 2, Want::Active),
        instance(2, 2, Want::Active),
        instance(3, 2, Want::Active),
        instance(4, 2, Want::Active),
    ];
    let mut play = Play::live(&stored);
    let known = [
        report(
            &instance(1, 3, Want::Deactivated),
            Progress::Done,
            present(),
        ),
        report(
            &instance(2, 2, Want::Deactivated),
            Progress::Done,
            present(),
        ),
        report(&instance(3, 2, Want::Active), Progress::Done, present()),
        report(&instance(4, 1, Want::Active), Progress::Done, present()),
        report(&instance(5, 1, Want::Active), Progress::Done, present()),
        report(&instance(6, 9, Want::Destroyed), Progress::Done, absent()),
    ];
    let told = [
        "evidence: the agent holds generation 3, deactivated, and the store generation 2",
        "evidence: the agent holds generation 2, deactivated, and the store generation 2",
        "evidence: the agent keeps a key that the store does not know to be there",
    ];
    check(&play.up(UpBody::Reports(known.to_vec())), &told);
    check(&play.up(UpBody::Reports(known.to_vec())), &[]);
    let strangers: Vec<KeyVersionId> = play.machine.strangers().map(|one| one.version).collect();
    assert_eq!(strangers, [version(5)]);
    play.step(Input::Gone { why: String::new() });
    play.step(Input::Connected { term: Term(2) });
    play.up(accepted(true));
    check(&play.up(UpBody::Reports(known.to_vec())), &told);
}

#[test]
fn while_the_store_may_be_old_only_what_restricts_is_sent() {
    let stored = [
        instance(1, 1, Want::Active),
        instance(2, 2, Want::Deactivated),
        instance(3, 2, Want::Destroyed),
    ];
    let mut play = Play::live(&stored);
    play.step(Input::Gather(true));
    let before = report(&instance(2, 1, Want::Active), Progress::Done, present());
    play.up(UpBody::Reports(vec![before]));
    check(
        &play.caught_up(),
        &["intent 3 2 destroyed", "intent 2 2 deactivated"],
    );
    check(&play.step(Input::Gather(false)), &["fetch 1"]);
    play.now_ms += 120_000;
    check(&play.step(Input::Gather(false)), &[]);
    play.now_ms -= 120_000;
    // Material that was asked for before does not enable anything either.
    play.step(Input::Gather(true));
    let had = play.step(Input::Material {
        version: version(1),
        generation: Generation(1),
        envelope: Ok(envelope(&stored[0])),
    });
    check(&had, &[]);
}
