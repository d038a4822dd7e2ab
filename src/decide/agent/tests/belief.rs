//! What is believed of looks, and since when: found wrong by the simulation (docs/simulation.md).

use crate::decide::agent::io::{Input, StreamId};
use crate::decide::agent::tests::looks::with_deactivated_keys;
use crate::decide::agent::tests::world::{KEYSTORE, STREAM, World, cka_id, version};
use crate::model::ids::{Digest, Term};
use crate::model::job::{FailureKind, TokenJob};
use crate::model::key::{Usage, UsageSet};
use crate::model::observed::{ObjectClass, Observation};
use crate::model::protocol::UpBody;

#[test]
fn a_second_look_confirms_only_what_the_first_one_saw() {
    let mut world = with_deactivated_keys(&[1]);
    world.token.add(ObjectClass::Secret, &cka_id(1), "key-1", 1);
    world.pass(2_100);
    world.token.hidden.push(cka_id(1));
    world.pass(2_100);
    let Observation::Suspected { .. } = world.report(1).observation else {
        panic!("met twice, then missed once: {:?}", world.report(1));
    };
    world.token.hidden.clear();
    world.pass(6_000);
    let Observation::Present(found) = world.report(1).observation else {
        panic!("{:?}", world.report(1));
    };
    assert_eq!(found.objects.len(), 2);
}

#[test]
fn the_rotation_does_not_clear_a_suspicion() {
    let mut world = with_deactivated_keys(&[1]);
    world.pass(20_600);
    world.token.add(ObjectClass::Secret, &cka_id(1), "key-1", 1);
    world.pass(2_000);
    let is_suspected = |world: &World| {
        let report = world.report(1);
        matches!(report.observation, Observation::Suspected { .. })
    };
    assert!(is_suspected(&world));
    // The scan confirms it; the look that is to decide fails, and the turn of the fingerprint comes before the next scan.
    world.now = world.timer.unwrap();
    world.give(Input::Tick).unwrap();
    assert!(world.follow().unwrap(), "the scan");
    world.token.broken = Some(FailureKind::Restart);
    assert!(world.follow().unwrap(), "the look");
    world.token.broken = None;
    world.token.log.clear();
    world.pass(1_500);
    assert!(is_suspected(&world), "{:?}", world.token.log);
    world.pass(5_000);
    assert!(!is_suspected(&world));
}

/// Age of the last scan as a heartbeat tells it.
fn told_scan_age_ms(world: &mut World) -> u64 {
    let wanted = Digest([0; 32]);
    let stream = STREAM;
    world.give(Input::Heartbeat { stream, wanted }).unwrap();
    let UpBody::Heartbeat { scan_age_ms, .. } = world.last_up() else {
        panic!("{:?}", world.last_up());
    };
    *scan_age_ms
}

#[test]
fn a_scan_counts_when_all_that_it_saw_was_looked_at() {
    let mut world = with_deactivated_keys(&[1]);
    world.token.objects[0].usage = UsageSet::of(&[Usage::Encrypt]);
    world.now = world.timer.unwrap();
    world.give(Input::Tick).unwrap();
    assert!(world.follow().unwrap(), "the scan");
    assert!(world.job.is_some(), "the look at what it saw");
    assert!(told_scan_age_ms(&mut world) > 0, "not said yet");
    assert!(world.follow().unwrap(), "the look");
    assert!(world.try_report(1).is_some());
    assert_eq!(told_scan_age_ms(&mut world), 0);
}

#[test]
fn a_look_counts_from_when_it_was_begun() {
    let mut world = with_deactivated_keys(&[1]);
    let (stream, version) = (STREAM, Some(version(1)));
    world.give(Input::Look { stream, version }).unwrap();
    world.now += 700;
    while world.follow().unwrap() {}
    assert_eq!(world.report(1).look_age_ms, 700);
}

#[test]
fn a_look_by_handles_says_nothing_new_of_how_many_there_are() {
    let mut world = with_deactivated_keys(&[1]);
    let is_rotating = |world: &World| matches!(world.job, Some((_, TokenJob::Survey(_))));
    while !is_rotating(&world) {
        while world.follow().unwrap() {}
        world.now = world.timer.unwrap();
        world.give(Input::Tick).unwrap();
    }
    let rotated_at = world.now;
    assert!(world.follow().unwrap(), "its fingerprint is taken");
    // Who asks now is told before the next scan.
    let open = Input::Open {
        stream: StreamId(9),
        term: Term(2),
        keystore: KEYSTORE,
        cursor: None,
    };
    world.ups.clear();
    world.give(open).unwrap();
    assert!(world.follow().unwrap(), "the session's record");
    let report = world.report(1);
    let looked_at = world.now - report.look_age_ms;
    assert!(
        looked_at < rotated_at,
        "a scan alone meets others: {report:?}"
    );
}
