//! The way of an intent: fence, journal, steps, report.

use crate::decide::agent::io::Input;
use crate::decide::agent::record::{JournalRecord, Record};
use crate::decide::agent::tests::token::{Fault, failure};
use crate::decide::agent::tests::world::{
    KEYSTORE, STREAM, World, cka_id, envelope, intent, version,
};
use crate::model::desired::Want;
use crate::model::ids::{Generation, KeystoreId};
use crate::model::job::FailureKind;
use crate::model::observed::{ObjectClass, Observation};
use crate::model::protocol::{GENERATION_JUMP_MAX, Progress, Refusal, UpBody};

fn with_active_key(number: u8) -> World {
    let mut world = World::live();
    world.send_with_material(&intent(number, 1, Want::Active));
    assert_eq!(world.report(number).progress, Progress::Done);
    world
}

#[test]
fn an_active_key_is_asked_for_installed_proved_and_reported() {
    let mut world = World::live();
    let wanted = intent(2, 1, Want::Active);
    world.send(&wanted);
    let report = world.report(2);
    assert_eq!(report.progress, Progress::NeedsMaterial);
    assert_eq!(report.applied, Some(wanted.applied()));
    assert_eq!(
        report.observation,
        Observation::Absent { same_label: vec![] }
    );
    assert_eq!(world.on_token(2), "");
    world.send_with_material(&wanted);
    let report = world.report(2);
    assert_eq!(report.progress, Progress::Done);
    assert!(report.proof.is_some());
    assert_eq!(world.on_token(2), "private key sign; public key verify");
    let steps: Vec<&str> = world.token.log[2..].iter().map(String::as_str).collect();
    assert_eq!(
        steps,
        [
            "inspect",
            "inspect",
            "install the key, disabled, and check its fingerprint",
            "enable the public key for verify",
            "enable the private key for sign",
            "try the key: it must work",
        ]
    );
}

#[test]
fn deactivating_and_destroying_go_private_first_and_end_proved() {
    let mut world = with_active_key(2);
    world.token.log.clear();
    world.send(&intent(2, 2, Want::Deactivated));
    assert_eq!(world.on_token(2), "private key none; public key none");
    assert!(world.report(2).proof.is_some());
    world.send(&intent(2, 3, Want::Destroyed));
    assert_eq!(world.on_token(2), "");
    let report = world.report(2);
    assert_eq!(report.progress, Progress::Done);
    assert_eq!(
        report.observation,
        Observation::Absent { same_label: vec![] }
    );
    assert_eq!(
        world.token.log,
        [
            "inspect",
            "disable the private key",
            "disable the public key",
            "try the key: the token must refuse",
            "inspect",
            "destroy the private key",
            "destroy the public key",
            "inspect",
        ]
    );
}

#[test]
fn a_key_that_was_never_there_is_destroyed_only_by_two_looks_with_the_marker_between() {
    let mut world = World::live();
    world.token.log.clear();
    world.send(&intent(1, 1, Want::Destroyed));
    assert_eq!(world.report(1).progress, Progress::Busy);
    world.pass(1_900);
    assert_eq!(world.report(1).progress, Progress::Busy);
    world.pass(2_200);
    assert_eq!(world.report(1).progress, Progress::Done);
    let looks = world.token.log.iter().filter(|l| *l == "inspect").count();
    assert!(looks >= 2, "{:?}", world.token.log);
    assert!(world.token.log.iter().any(|l| l != "inspect"));
}

#[test]
fn the_fence_refuses_what_is_old_other_far_or_dead() {
    let mut world = with_active_key(1);
    let records = world.journal.len();
    let active = intent(1, 1, Want::Active).applied();
    world.send(&intent(1, 1, Want::Deactivated));
    assert_eq!(*world.last_refusal(), Refusal::Conflict(active));
    world.send(&intent(1, 2 + GENERATION_JUMP_MAX, Want::Deactivated));
    assert_eq!(
        *world.last_refusal(),
        Refusal::Jump {
            last: Generation(1)
        }
    );
    world.send(&intent(3, 0, Want::Active));
    assert!(matches!(world.last_refusal(), Refusal::Jump { .. }));
    let mut other = intent(1, 2, Want::Deactivated);
    other.keystore = KeystoreId::from_uuid(uuid::Uuid::from_u128(5));
    world.send(&other);
    assert_eq!(
        *world.last_refusal(),
        Refusal::WrongKeystore {
            wanted: other.keystore
        }
    );
    assert_eq!(world.journal.len(), records, "nothing was journaled");
    let far = intent(1, 1 + GENERATION_JUMP_MAX, Want::Deactivated);
    world.send(&far);
    assert_eq!(world.report(1).progress, Progress::Done);
    world.send(&intent(1, 2, Want::Active));
    assert_eq!(*world.last_refusal(), Refusal::Stale(far.applied()));
}

#[test]
fn a_tombstone_lasts_through_restarts_and_any_number() {
    let mut world = with_active_key(1);
    let tomb = intent(1, 2, Want::Destroyed);
    world.send(&tomb);
    world.restart();
    world.go(Input::Tick);
    world.open(STREAM, 1, None);
    for want in [Want::Active, Want::Deactivated] {
        world.send_with_material(&intent(1, 9, want));
        assert_eq!(*world.last_refusal(), Refusal::Tombstone(tomb.applied()));
    }
    // Under another name the key does not come back either.
    let mut renamed = intent(3, 1, Want::Active);
    renamed.object.cka_id = cka_id(1);
    world.send_with_material(&renamed);
    assert_eq!(*world.last_refusal(), Refusal::Conflict(tomb.applied()));
    assert_eq!(world.on_token(1), "");
    world.send(&intent(1, 10, Want::Destroyed));
    world.pass(5_000);
    assert_eq!(world.report(1).progress, Progress::Done);
}

#[test]
fn what_came_again_is_reported_again_and_nothing_is_done() {
    let mut world = with_active_key(1);
    let (records, steps) = (world.journal.len(), world.token.log.len());
    world.ups.clear();
    world.send_with_material(&intent(1, 1, Want::Active));
    assert_eq!(world.report(1).progress, Progress::Done);
    assert_eq!(
        (world.journal.len(), world.token.log.len()),
        (records, steps)
    );
}

#[test]
fn nothing_touches_the_token_before_the_record_is_durable() {
    let mut world = World::live();
    let wanted = intent(1, 1, Want::Active);
    let input = Input::Intent {
        stream: STREAM,
        intent: Box::new(wanted.clone()),
        envelope: Some(Ok(envelope(&wanted))),
    };
    world.give(input.clone()).unwrap();
    world.give(input).unwrap();
    world.give(Input::Tick).unwrap();
    assert!(world.job.is_none(), "{:?}", world.job);
    assert_eq!(world.writes.len(), 1, "the same intent is written once");
    while world.follow().unwrap() {}
    assert_eq!(world.report(1).progress, Progress::Done);
}

#[test]
fn restrictive_intents_overtake_enabling_ones() {
    let mut world = with_active_key(1);
    world.token.log.clear();
    for number in [3, 5, 7] {
        let wanted = intent(number, 1, Want::Active);
        world
            .give(Input::Intent {
                stream: STREAM,
                intent: Box::new(wanted.clone()),
                envelope: Some(Ok(envelope(&wanted))),
            })
            .unwrap();
    }
    world.send(&intent(1, 2, Want::Deactivated));
    let at = |what: &str| world.token.log.iter().position(|line| line == what);
    let disabled = at("disable the secret key").unwrap();
    let enabled: Vec<usize> = world
        .token
        .log
        .iter()
        .enumerate()
        .filter(|(_, line)| line.starts_with("enable"))
        .map(|(at, _)| at)
        .collect();
    assert_eq!(enabled.len(), 3);
    assert!(
        enabled.iter().filter(|&&at| at < disabled).count() <= 1,
        "only what was under way already may come before: {:?}",
        world.token.log
    );
}

#[test]
fn a_newer_intent_replaces_one_that_is_under_way() {
    let mut world = World::live();
    let active = intent(1, 1, Want::Active);
    world
        .give(Input::Intent {
            stream: STREAM,
            intent: Box::new(active.clone()),
            envelope: Some(Ok(envelope(&active))),
        })
        .unwrap();
    // Journal the first, and let its look be out.
    world.follow().unwrap();
    assert!(world.job.is_some());
    world.send(&intent(1, 2, Want::Deactivated));
    assert_eq!(world.report(1).progress, Progress::NeedsMaterial);
    assert!(!world.token.log.iter().any(|l| l.starts_with("enable")));
    world.send_with_material(&intent(1, 2, Want::Deactivated));
    assert_eq!(world.on_token(1), "secret key none");
    assert_eq!(world.report(1).progress, Progress::Done);
}

#[test]
fn a_newer_intent_that_is_being_written_is_never_undone_by_the_older_ones_record() {
    let mut world = World::live();
    world.send(&intent(1, 1, Want::Deactivated));
    world.token.add(ObjectClass::Secret, &cka_id(1), "key-1", 1);
    let again = Input::Intent {
        stream: STREAM,
        intent: Box::new(intent(1, 2, Want::Deactivated)),
        envelope: None,
    };
    world.give(again).unwrap();
    world.follow().unwrap();
    world.follow().unwrap();
    assert!(world.job.is_some(), "the steps of generation 2 are out");
    world
        .give(Input::Intent {
            stream: STREAM,
            intent: Box::new(intent(1, 3, Want::Destroyed)),
            envelope: None,
        })
        .unwrap();
    // The steps land before the new record is durable.
    let (ticket, job) = world.job.take().unwrap();
    let outcome = world.token.perform(&job);
    world.give(Input::Token { ticket, outcome }).unwrap();
    while world.follow().unwrap() {}
    let (newest, done) = &world.durable()[&version(1)];
    assert_eq!((newest.generation, *done), (Generation(3), true));
    assert_eq!(world.on_token(1), "");
}

#[test]
fn envelopes_that_do_not_fit_are_refused_by_name() {
    let wanted = intent(1, 1, Want::Active);
    let mut cases = Vec::new();
    for field in [
        "version",
        "target",
        "generation",
        "fingerprint",
        "spec",
        "salt",
    ] {
        let mut wrong = envelope(&wanted);
        match field {
            "version" => wrong.version = version(9),
            "target" => wrong.target = wrong.source,
            "generation" => wrong.generation = Generation(2),
            "fingerprint" => wrong.fingerprint = intent(3, 1, Want::Active).fingerprint,
            "spec" => wrong.spec = intent(2, 1, Want::Active).object.spec,
            _ => wrong.salt.clear(),
        }
        cases.push((Ok(wrong), format!("{field}_differs")));
    }
    cases.push((
        Err("peer_not_listed".to_owned()),
        "peer_not_listed".to_owned(),
    ));
    for (given, reason) in cases {
        let mut world = World::live();
        world.go(Input::Intent {
            stream: STREAM,
            intent: Box::new(wanted.clone()),
            envelope: Some(given.clone()),
        });
        assert_eq!(
            *world.last_refusal(),
            Refusal::Envelope {
                reason: reason.clone()
            }
        );
        assert_eq!(world.journal.len(), 2, "only the binding and the session");
        // The same for one that waits for material.
        world.send(&wanted);
        world.ups.clear();
        world.go(Input::Intent {
            stream: STREAM,
            intent: Box::new(wanted.clone()),
            envelope: Some(given),
        });
        assert_eq!(*world.last_refusal(), Refusal::Envelope { reason });
        assert_eq!(world.on_token(1), "");
        world.send_with_material(&wanted);
        assert_eq!(world.report(1).progress, Progress::Done);
    }
}

#[test]
fn a_bad_envelope_does_not_hold_up_a_restriction() {
    let mut world = with_active_key(1);
    world.go(Input::Intent {
        stream: STREAM,
        intent: Box::new(intent(1, 2, Want::Deactivated)),
        envelope: Some(Err("peer_not_listed".to_owned())),
    });
    assert_eq!(world.on_token(1), "secret key none");
    assert_eq!(world.report(1).progress, Progress::Done);
}

#[test]
fn another_key_under_our_name_is_told_and_not_touched() {
    for want in [Want::Active, Want::Deactivated, Want::Destroyed] {
        let mut world = World::live();
        world
            .token
            .add(ObjectClass::Secret, &cka_id(1), "key-1", 99);
        world.send_with_material(&intent(1, 1, want));
        let Progress::Failed(failure) = world.report(1).progress else {
            panic!("{want:?} went through");
        };
        assert_eq!(failure.kind, FailureKind::WrongKey);
        assert_eq!(world.on_token(1), "secret key none");
    }
}

#[test]
fn half_a_pair_is_disabled_at_once_and_made_whole_when_material_comes() {
    let mut world = with_active_key(2);
    world
        .token
        .objects
        .retain(|o| o.class == ObjectClass::Private);
    let wanted = intent(2, 2, Want::Deactivated);
    world.send(&wanted);
    assert_eq!(world.on_token(2), "private key none");
    assert_eq!(world.report(2).progress, Progress::NeedsMaterial);
    world.send_with_material(&wanted);
    assert_eq!(world.on_token(2), "private key none; public key none");
    assert_eq!(world.report(2).progress, Progress::Done);
}

#[test]
fn a_lost_outcome_is_looked_at_and_finished() {
    for after in 0..5 {
        let mut world = World::live();
        let wanted = intent(2, 1, Want::Active);
        world.send(&wanted);
        world.token.faults.extend([Fault::LostAfter(0)]);
        world.send_with_material(&wanted);
        assert!(matches!(world.report(2).progress, Progress::Unknown { .. }));
        world
            .token
            .faults
            .extend([Fault::LostAfter(0), Fault::LostAfter(after)]);
        world.pass(60_000);
        // Material outlives what the host forgot, as long as the agent runs.
        assert_eq!(world.report(2).progress, Progress::Done, "after {after}");
        assert_eq!(world.on_token(2), "private key sign; public key verify");
    }
}

#[test]
fn failures_say_what_happens_next() {
    let cases = [
        (FailureKind::Retry, true),
        (FailureKind::Restart, true),
        (FailureKind::Refused, false),
        (FailureKind::LabelTaken, false),
    ];
    for (kind, heals) in cases {
        let mut world = with_active_key(1);
        world.pass(1);
        world.token.faults.push_back(Fault::RefusesAfter(0, kind));
        let wanted = intent(1, 2, Want::Deactivated);
        world.send(&wanted);
        assert_ne!(world.report(1).progress, Progress::Done);
        world.pass(30_000);
        assert_eq!(
            world.report(1).progress == Progress::Done,
            heals,
            "{kind:?}"
        );
        world.send(&wanted);
        assert_eq!(world.report(1).progress, Progress::Done, "{kind:?}");
    }
}

#[test]
fn an_envelope_that_was_not_taken_is_told_and_the_next_one_may_be() {
    let mut world = World::live();
    let wanted = intent(1, 1, Want::Active);
    let fault = Fault::RefusesAfter(0, FailureKind::NeedsMaterial);
    // The look goes well.
    world.token.faults.extend([Fault::Lies, fault]);
    world.send_with_material(&wanted);
    let told = failure(FailureKind::NeedsMaterial);
    assert_eq!(world.report(1).progress, Progress::Failed(told));
    world.send_with_material(&wanted);
    assert_eq!(world.report(1).progress, Progress::Done);
}

#[test]
fn a_token_that_lies_is_never_believed() {
    let mut world = with_active_key(1);
    world.token.faults.extend([Fault::Lies, Fault::Lies]);
    world.send(&intent(1, 2, Want::Deactivated));
    let Progress::Failed(failure) = world.report(1).progress else {
        panic!("believed: {:?}", world.report(1));
    };
    assert_eq!(failure.function, "read_back");
    world.pass(30_000);
    assert_eq!(world.report(1).progress, Progress::Done);
    assert_eq!(world.on_token(1), "secret key none");
}

#[test]
fn a_full_disk_refuses_and_changes_nothing() {
    let mut world = with_active_key(1);
    world.token.log.clear();
    world.disk_full = true;
    let wanted = intent(1, 2, Want::Deactivated);
    world.send(&wanted);
    let refusals = world.ups.iter().filter(|(_, up)| {
        matches!(&up.body, UpBody::Refused { refusal: Refusal::Journal { detail }, .. } if detail == "no space left")
    });
    assert_eq!(refusals.count(), 1);
    assert!(matches!(
        world.last_health(),
        crate::model::keystore::Health::JournalFailed { .. }
    ));
    assert_eq!(world.on_token(1), "secret key encrypt,decrypt");
    world.disk_full = false;
    world.pass(6_000);
    assert_eq!(world.last_health(), crate::model::keystore::Health::Ok);
    world.send(&wanted);
    assert_eq!(world.report(1).progress, Progress::Done);
}

#[test]
fn what_was_done_is_not_called_done_while_the_disk_is_full() {
    let mut world = with_active_key(1);
    world
        .give(Input::Intent {
            stream: STREAM,
            intent: Box::new(intent(1, 2, Want::Deactivated)),
            envelope: None,
        })
        .unwrap();
    world.follow().unwrap();
    world.disk_full = true;
    while world.follow().unwrap() {}
    assert_eq!(world.on_token(1), "secret key none");
    assert!(matches!(world.report(1).progress, Progress::Unknown { .. }));
    world.disk_full = false;
    world.pass(6_000);
    assert_eq!(world.report(1).progress, Progress::Done);
}

#[test]
fn the_journal_can_be_rewritten_shorter() {
    let mut world = with_active_key(2);
    world.send(&intent(2, 2, Want::Deactivated));
    world.send(&intent(1, 1, Want::Destroyed));
    world.restart();
    let short = world.machine.records();
    let intents = |records: &[JournalRecord]| {
        let is_intent = |r: &&JournalRecord| matches!(r, JournalRecord::V1(Record::Intent { .. }));
        records.iter().filter(is_intent).count()
    };
    assert_eq!((intents(&short), short.len()), (2, 4));
    assert!(intents(&world.journal) > 2);
    let before = world.durable();
    world.journal = short;
    assert_eq!(world.durable(), before);
    world.restart();
    assert_eq!(world.machine.records(), world.journal);
    assert_eq!(world.machine.instances(), 2);
    assert_eq!(before[&version(2)].0.keystore, KEYSTORE);
}

#[test]
fn a_look_for_an_older_intent_decides_nothing_for_a_newer_one() {
    let mut world = World::live();
    world.token.add(ObjectClass::Secret, b"old", "key-1", 1);
    let mut first = intent(1, 1, Want::Active);
    first.object.cka_id = b"old".to_vec();
    let mut second = intent(1, 2, Want::Active);
    second.object.label = "other".to_owned();
    for wanted in [&first, &second] {
        world
            .give(Input::Intent {
                stream: STREAM,
                intent: Box::new(wanted.clone()),
                envelope: None,
            })
            .unwrap();
    }
    let writes = world.writes.split_off(1);
    world.follow().unwrap();
    assert!(world.job.is_some(), "the look for the first is out");
    // The second is durable before that look lands.
    for (ticket, record) in writes {
        world.write(ticket, record).unwrap();
    }
    while world.follow().unwrap() {}
    assert_eq!(world.report(1).progress, Progress::NeedsMaterial);
    assert!(world.token.log.iter().all(|l| !l.starts_with("enable")));
    // What the first one named is nobody's now.
    world.pass(2_100);
    assert!(matches!(world.last_up(), UpBody::Unmanaged(objects) if objects.len() == 1));
}
