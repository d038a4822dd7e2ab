//! Looks: what changed is told at once, what is missing only when it is missed twice, and a strange token is believed nothing.

use crate::decide::agent::io::Input;
use crate::decide::agent::tests::token::Fault;
use crate::decide::agent::tests::world::{STREAM, World, cka_id, intent, reports, version};
use crate::model::desired::Want;
use crate::model::job::FailureKind;
use crate::model::key::{Usage, UsageSet};
use crate::model::observed::{ObjectClass, Observation};
use crate::model::protocol::{Progress, UpBody};

pub(crate) fn with_deactivated_keys(numbers: &[u8]) -> World {
    let mut world = World::live();
    for &number in numbers {
        world.send_with_material(&intent(number, 1, Want::Deactivated));
    }
    world.pass(2_500);
    world.ups.clear();
    world
}

#[test]
fn a_changed_usage_is_told_by_the_next_scan_and_nothing_is_done_about_it() {
    let mut world = with_deactivated_keys(&[1, 3]);
    world.token.objects[0].usage = UsageSet::of(&[Usage::Encrypt]);
    world.token.log.clear();
    world.pass(2_100);
    let report = world.report(1);
    let Observation::Present(found) = &report.observation else {
        panic!("{report:?}");
    };
    assert_eq!(found.objects[0].usage, UsageSet::of(&[Usage::Encrypt]));
    assert_eq!(report.progress, Progress::Done);
    assert_eq!(report.proof, None, "what was proved is no longer there");
    world.pass(60_000);
    assert_eq!(world.on_token(1), "secret key encrypt");
    assert!(
        world
            .token
            .log
            .iter()
            .all(|l| l == "scan" || l == "inspect" || l == "survey")
    );
    assert!(world.try_report(3).is_none(), "the other one says nothing");
    // Put right by hand, it is proved anew.
    world.token.objects[0].usage = UsageSet::NONE;
    world.pass(2_100);
    assert!(world.report(1).proof.is_some());
}

#[test]
fn a_missing_key_is_suspected_first_and_absent_only_after_a_second_look() {
    let mut world = with_deactivated_keys(&[1]);
    let gone = world.token.objects.pop().unwrap();
    world.pass(2_100);
    let Observation::Suspected { last } = world.report(1).observation else {
        panic!("{:?}", world.report(1));
    };
    assert!(matches!(*last, Observation::Present(_)));
    world.pass(2_500);
    assert_eq!(
        world.report(1).observation,
        Observation::Absent { same_label: vec![] }
    );
    world.token.objects.push(gone);
    world.pass(2_100);
    assert!(matches!(
        world.report(1).observation,
        Observation::Present(_)
    ));
}

#[test]
fn a_key_that_one_look_missed_was_never_absent() {
    let mut world = with_deactivated_keys(&[2]);
    world.token.hidden.push(cka_id(2));
    world.pass(2_000);
    assert!(matches!(
        world.report(2).observation,
        Observation::Suspected { .. }
    ));
    // Asked too soon, the answer is the same.
    world.go(Input::Look {
        stream: STREAM,
        version: Some(version(2)),
    });
    assert!(matches!(
        world.report(2).observation,
        Observation::Suspected { .. }
    ));
    world.token.hidden.clear();
    world.pass(2_100);
    assert!(matches!(
        world.report(2).observation,
        Observation::Present(_)
    ));
    let absent = world.ups.iter().any(|(_, up)| {
        reports(&up.body)
            .iter()
            .any(|r| matches!(r.observation, Observation::Absent { .. }))
    });
    assert!(!absent);
}

#[test]
fn doubled_and_halved_keys_are_suspected_too() {
    let mut world = with_deactivated_keys(&[1, 2]);
    world.token.add(ObjectClass::Secret, &cka_id(1), "key-1", 1);
    world
        .token
        .objects
        .retain(|o| o.class != ObjectClass::Private);
    world.pass(2_100);
    for number in [1, 2] {
        assert!(matches!(
            world.report(number).observation,
            Observation::Suspected { .. }
        ));
    }
    world.pass(4_000);
    for (number, objects) in [(1, 2), (2, 1)] {
        let Observation::Present(found) = world.report(number).observation else {
            panic!("{:?}", world.report(number));
        };
        assert_eq!(found.objects.len(), objects);
    }
}

#[test]
fn a_replaced_key_is_found_by_its_new_handle_at_once() {
    let mut world = with_deactivated_keys(&[1, 3, 5]);
    world.token.objects.retain(|o| o.cka_id != cka_id(3));
    world
        .token
        .add(ObjectClass::Secret, &cka_id(3), "key-3", 77);
    world.pass(2_500);
    let Observation::Present(found) = world.report(3).observation else {
        panic!("{:?}", world.report(3));
    };
    assert_ne!(
        found.fingerprint,
        Some(intent(3, 1, Want::Active).fingerprint)
    );
    assert!(world.try_report(1).is_none());
}

#[test]
fn a_replaced_key_that_kept_its_handle_is_found_in_rotation() {
    let mut world = with_deactivated_keys(&[1, 3, 5]);
    world.token.objects[1].material = 77;
    world.pass(31_000);
    let Observation::Present(found) = world.report(3).observation else {
        panic!("{:?}", world.report(3));
    };
    assert_ne!(
        found.fingerprint,
        Some(intent(3, 1, Want::Active).fingerprint)
    );
}

/// Puts the next scan out, and lets it take this long.
fn scan_for(world: &mut World, ms: u64) {
    world.now = world.timer.unwrap();
    world.give(Input::Tick).unwrap();
    world.now += ms;
    assert!(world.follow().unwrap());
}

#[test]
fn the_scan_after_the_one_that_missed_a_key_decides_however_quick_it_is() {
    let mut world = with_deactivated_keys(&[1]);
    world.token.objects.clear();
    scan_for(&mut world, 100);
    assert!(matches!(
        world.report(1).observation,
        Observation::Suspected { .. }
    ));
    world.pass(2_000);
    assert!(matches!(
        world.report(1).observation,
        Observation::Absent { .. }
    ));
}

#[test]
fn after_a_restart_all_keys_are_looked_at_in_one_job() {
    let numbers: Vec<u8> = (1..=60).collect();
    let mut world = with_deactivated_keys(&numbers);
    world.restart();
    world.token.log.clear();
    world.go(Input::Tick);
    world.open(STREAM, 2, None);
    assert_eq!(world.token.log, ["identify", "scan", "survey"]);
    assert!(matches!(world.last_up(), UpBody::CaughtUp { .. }));
    for number in numbers {
        let found = world.report(number).observation;
        assert!(matches!(found, Observation::Present(found) if found.fingerprint.is_some()));
    }
    world.token.log.clear();
    world.pass(60_000);
    let surveys = world.token.log.iter().filter(|l| *l == "survey").count();
    assert_eq!(surveys, 2, "the rotation takes them together too");
    assert!(!world.token.log.contains(&"inspect".to_owned()));
}

#[test]
fn what_a_survey_does_not_meet_is_looked_at_alone_and_only_suspected() {
    let mut world = with_deactivated_keys(&[1, 3, 5]);
    for object in &mut world.token.objects {
        object.usage = UsageSet::of(&[Usage::Encrypt]);
    }
    world.token.log.clear();
    scan_for(&mut world, 0);
    world.token.objects.retain(|o| o.cka_id != cka_id(3));
    while world.follow().unwrap() {}
    assert_eq!(world.token.log, ["scan", "survey", "inspect"]);
    assert!(matches!(
        world.report(3).observation,
        Observation::Suspected { .. }
    ));
    for number in [1, 5] {
        let found = world.report(number).observation;
        assert!(matches!(found, Observation::Present(_)), "{found:?}");
    }
}

#[test]
fn where_a_survey_is_refused_each_key_is_looked_at_alone() {
    let mut world = with_deactivated_keys(&[1, 3]);
    for object in &mut world.token.objects {
        object.usage = UsageSet::of(&[Usage::Encrypt]);
    }
    scan_for(&mut world, 0);
    world.token.log.clear();
    let refused = Fault::RefusesAfter(0, FailureKind::Refused);
    world.token.faults.push_back(refused);
    while world.follow().unwrap() {}
    assert_eq!(world.token.log, ["inspect", "inspect"]);
    for number in [1, 3] {
        let Observation::Present(found) = world.report(number).observation else {
            panic!("{:?}", world.report(number));
        };
        assert_eq!(found.objects[0].usage, UsageSet::of(&[Usage::Encrypt]));
    }
}

#[test]
fn what_a_survey_had_no_time_for_comes_next() {
    let mut world = with_deactivated_keys(&[1, 3, 5]);
    world.restart();
    world.token.surveyed_max = Some(1);
    world.token.log.clear();
    world.go(Input::Tick);
    assert_eq!(
        world.token.log,
        ["identify", "scan", "survey", "survey", "survey"]
    );
    world.open(STREAM, 2, None);
    assert!(matches!(world.last_up(), UpBody::CaughtUp { .. }));
    world.token.log.clear();
    world.pass(35_000);
    let looks = world.token.log.iter().filter(|l| *l != "scan").count();
    assert_eq!(looks, 3, "each once in rotation: {:?}", world.token.log);
}

#[test]
fn a_destroyed_key_that_came_back_is_told() {
    let mut world = with_deactivated_keys(&[1]);
    world.send(&intent(1, 2, Want::Destroyed));
    world.pass(10_000);
    assert_eq!(world.report(1).progress, Progress::Done);
    world.token.add(ObjectClass::Secret, &cka_id(1), "key-1", 1);
    world.pass(2_500);
    assert!(matches!(
        world.report(1).observation,
        Observation::Present(_)
    ));
    assert_eq!(world.on_token(1), "secret key none", "told, not destroyed");
    world.send(&intent(1, 3, Want::Destroyed));
    world.pass(5_000);
    assert_eq!(world.on_token(1), "");
}

#[test]
fn strangers_are_told_when_they_come_and_go() {
    let mut world = with_deactivated_keys(&[1]);
    world.token.add(ObjectClass::Secret, b"them", "theirs", 50);
    world.pass(2_100);
    let strangers = |world: &World| {
        let UpBody::Unmanaged(objects) = world.last_up() else {
            panic!("{:?}", world.last_up());
        };
        objects.len()
    };
    assert_eq!(strangers(&world), 1);
    world.token.objects.pop();
    world.pass(2_100);
    assert_eq!(strangers(&world), 0);
    world.ups.clear();
    world.pass(10_000);
    assert!(world.ups.is_empty());
}

#[test]
fn a_fingerprint_that_fails_in_passing_is_had_at_once_and_one_that_stays_away_is_told() {
    let printed = |world: &World| {
        let Observation::Present(found) = world.report(1).observation else {
            panic!("not there: {:?}", world.report(1));
        };
        found.fingerprint.is_some()
    };
    // While it is carried out.
    let mut world = with_deactivated_keys(&[1]);
    for (generation, want) in [(2, Want::Active), (3, Want::Deactivated)] {
        world.token.unprinted.set(1);
        world.send(&intent(1, generation, want));
        assert_eq!(world.report(1).progress, Progress::Done);
        assert!(printed(&world), "{want:?}");
    }
    // In its turn.
    world.token.unprinted.set(1);
    world.pass(26_000);
    assert_eq!(world.token.unprinted.get(), 0);
    assert!(printed(&world));
    // For ever: it is done all the same, and said to lack it.
    world.token.unprinted.set(u32::MAX);
    world.send(&intent(1, 4, Want::Deactivated));
    assert_eq!(world.report(1).progress, Progress::Done);
    assert!(!printed(&world));
    let looked = u32::MAX - world.token.unprinted.get();
    world.pass(24_000);
    let again = u32::MAX - world.token.unprinted.get() - looked;
    assert!(again <= 2, "{again} looks in one turn");
}
