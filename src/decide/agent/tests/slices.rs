//! Scans in slices: what is urgent goes between them, and what it did is not judged by what a slice had seen before.

use crate::decide::agent::io::Input;
use crate::decide::agent::tests::token::{Fault, failure};
use crate::decide::agent::tests::world::{STREAM, World, intent};
use crate::model::desired::Want;
use crate::model::job::{FailureKind, TokenOutcome};
use crate::model::keystore::Health;
use crate::model::observed::Observation;
use crate::model::protocol::{Progress, UpBody};

/// Deactivated keys on a token that reads one object in a slice, and a scan of which the first slice is out.
fn amid_a_scan(numbers: &[u8]) -> World {
    let mut world = World::live();
    for &number in numbers {
        world.send_with_material(&intent(number, 1, Want::Deactivated));
    }
    world.pass(2_500);
    world.token.sliced_max = Some(1);
    world.token.log.clear();
    world.ups.clear();
    world.now = world.timer.unwrap();
    world.give(Input::Tick).unwrap();
    world
}

/// Gives an intent and lets nothing follow from it yet but its record.
fn give_intent(world: &mut World, number: u8, generation: u64, want: Want) {
    let input = Input::Intent {
        stream: STREAM,
        intent: Box::new(intent(number, generation, want)),
        envelope: None,
    };
    world.give(input).unwrap();
    let (ticket, record) = world.writes.pop_front().unwrap();
    world.write(ticket, record).unwrap();
}

#[test]
fn a_scan_goes_on_slice_by_slice_and_finds_what_one_in_one_piece_finds() {
    let mut world = amid_a_scan(&[1, 3, 5]);
    while world.follow().unwrap() {}
    assert_eq!(world.token.log, ["scan", "scan on", "scan on"]);
    assert!(world.ups.is_empty(), "nothing changed: {:?}", world.ups);
}

#[test]
fn a_change_waits_for_one_slice_and_is_not_judged_by_what_slices_saw_before() {
    let mut world = amid_a_scan(&[1, 3, 5]);
    world.follow().unwrap();
    give_intent(&mut world, 1, 2, Want::Active);
    while world.follow().unwrap() {}
    let log = &world.token.log;
    assert_eq!(log[..3], ["scan", "scan on", "inspect"], "{log:?}");
    let scanned = log.iter().rposition(|job| job == "scan on").unwrap();
    assert_eq!(
        scanned,
        log.len() - 1,
        "no look because of old news: {log:?}"
    );
    let report = world.report(1);
    assert_eq!(report.progress, Progress::Done);
    assert!(matches!(report.observation, Observation::Present(_)));
}

#[test]
fn a_key_destroyed_amid_a_scan_is_no_stranger_afterwards() {
    let mut world = amid_a_scan(&[1, 3, 5]);
    world.follow().unwrap();
    give_intent(&mut world, 5, 2, Want::Destroyed);
    while world.follow().unwrap() {}
    world.pass(10_000);
    assert_eq!(world.report(5).progress, Progress::Done);
    let tells = |body: &UpBody| matches!(body, UpBody::Unmanaged { .. });
    assert!(!world.ups.iter().any(|(_, up)| tells(&up.body)));
}

#[test]
fn a_scan_that_is_late_takes_turns_with_intents_that_enable() {
    let mut world = amid_a_scan(&[1, 3, 5, 7, 9]);
    world.now += 20_000;
    for number in [1, 3] {
        give_intent(&mut world, number, 2, Want::Active);
    }
    while world.follow().unwrap() {}
    let order = world.token.log.iter().filter_map(|job| match job.as_str() {
        "inspect" => Some("change"),
        "scan" | "scan on" => Some("slice"),
        _ => None,
    });
    let order: Vec<&str> = order.collect();
    assert_eq!(
        order[..4],
        ["slice", "change", "slice", "change"],
        "{:?}",
        world.token.log
    );
}

#[test]
fn a_host_that_began_anew_amid_a_scan_costs_that_scan_and_nothing_else() {
    let mut world = amid_a_scan(&[1, 3]);
    world.follow().unwrap();
    let (ticket, _) = world.job.take().unwrap();
    let outcome = TokenOutcome::Failed(failure(FailureKind::Retry));
    world.give(Input::Token { ticket, outcome }).unwrap();
    while world.follow().unwrap() {}
    assert_eq!(world.token.log, ["scan", "scan", "scan on"]);
    assert!(world.ups.is_empty(), "{:?}", world.ups);
}

#[test]
fn a_host_that_dies_amid_a_scan_is_not_asked_to_go_on() {
    let mut world = amid_a_scan(&[1, 3]);
    world.follow().unwrap();
    world.token.faults.push_back(Fault::LostAfter(0));
    while world.follow().unwrap() {}
    assert!(matches!(world.last_health(), Health::ModuleFailed { .. }));
    world.token.log.clear();
    world.pass(5_000);
    assert_eq!(world.token.log[..3], ["identify", "scan", "scan on"]);
    assert_eq!(world.last_health(), Health::Ok);
}

#[test]
fn scans_and_fingerprints_together_keep_to_their_part_of_a_core() {
    let mut world = World::live();
    for number in [1, 3, 5] {
        world.send_with_material(&intent(number, 1, Want::Deactivated));
    }
    world.pass(2_500);
    world.token.cpu_us = 400_000;
    world.token.log.clear();
    world.pass(120_000);
    let scans = world.token.log.iter().filter(|job| *job == "scan").count();
    assert!((24..=26).contains(&scans), "every 12 x 0.4 s: {scans}");
}
