//! What dates demand, in many small cases.

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::decide::schedule::{ClockWatch, DateKind, Due, SETTLE_MS, dates, due};
use crate::model::ids::{KeyId, KeyVersionId, Revision, TemplateId, VaultId};
use crate::model::key::{Algorithm, DeactivatedUsage, KeySpec, ManagedKey};
use crate::model::lifecycle::ManagedState::{
    self, Active, Compromised, Deactivated, Destroyed, PreActivation,
};
use crate::model::text::Label;
use crate::model::vault::{Stamps, UnixMs};
use crate::model::version::{Acted, Hold};

/// A key in a state, with `activation expiration rotation`, each a day or `-`.
fn key(state: ManagedState, days: &str) -> ManagedKey {
    let mut days = days.split(' ').map(|day| match day {
        "-" => None,
        day => Some(day.to_owned()),
    });
    let spec = KeySpec::new(Algorithm::Aes, 256).unwrap();
    ManagedKey {
        id: KeyId::from_uuid(Uuid::nil()),
        vault: VaultId::from_uuid(Uuid::nil()),
        template: TemplateId::from_uuid(Uuid::nil()),
        template_version: 1,
        label: Label::new("K").unwrap(),
        description: String::new(),
        state,
        spec,
        usage: spec.default_usage(),
        deactivated_usage: DeactivatedUsage::None,
        version: KeyVersionId::from_uuid(Uuid::nil()),
        version_number: 1,
        fingerprint: None,
        spki: None,
        label_tags: Vec::new(),
        targets: BTreeSet::new(),
        targets_by_hand: false,
        activation_date: days.next().unwrap(),
        expiration_date: days.next().unwrap(),
        rotation_date: days.next().unwrap(),
        acted: Acted::default(),
        in_use_since: None,
        past: Vec::new(),
        coming: None,
        hold: None,
        revision: Revision(1),
        stamps: Stamps::new(UnixMs(0), "t"),
    }
}

fn check(state: ManagedState, days: &str, today: &str, expected: &str) {
    let told = due(&key(state, days), today);
    assert_eq!(words(told.as_ref()), expected, "{state:?} {days} {today}");
}

fn words(due: Option<&Due>) -> String {
    match due {
        None => "nothing".to_owned(),
        Some(Due::Erase(day)) => format!("erase {day}"),
        Some(Due::Expire(day)) => format!("expire {day}"),
        Some(Due::Activate(day)) => format!("activate {day}"),
        Some(Due::FinishRotation(number)) => format!("finish {number}"),
        Some(Due::Rotate(day)) => format!("rotate {day}"),
    }
}

#[test]
fn a_date_acts_on_its_day_and_after_never_before() {
    let days = "2026-05-02 2027-05-02 -";
    check(PreActivation, days, "2026-05-01", "nothing");
    check(PreActivation, days, "2026-05-02", "activate 2026-05-02");
    check(PreActivation, days, "2026-09-30", "activate 2026-05-02");
    check(Active, days, "2027-05-01", "nothing");
    check(Active, days, "2027-05-02", "expire 2027-05-02");
    check(Active, days, "2031-01-01", "expire 2027-05-02");
    // Leap days and the turn of a year are days as others are.
    check(PreActivation, "2028-02-29 - -", "2028-02-28", "nothing");
    check(
        PreActivation,
        "2028-02-29 - -",
        "2028-02-29",
        "activate 2028-02-29",
    );
    check(
        PreActivation,
        "2028-02-29 - -",
        "2028-03-01",
        "activate 2028-02-29",
    );
    check(Active, "- 2026-12-31 -", "2027-01-01", "expire 2026-12-31");
    check(PreActivation, "- - -", "2099-01-01", "nothing");
    check(Active, "- - -", "2099-01-01", "nothing");
}

#[test]
fn a_key_whose_activation_and_expiration_both_passed_stays_as_it_is() {
    let days = "2026-01-01 2026-02-01 -";
    check(PreActivation, days, "2026-01-31", "activate 2026-01-01");
    check(PreActivation, days, "2026-02-01", "nothing");
    check(PreActivation, days, "2026-06-01", "nothing");
    check(
        PreActivation,
        "2026-03-01 2026-02-01 -",
        "2026-03-01",
        "nothing",
    );
}

#[test]
fn what_people_did_since_stands() {
    let days = "2026-01-01 2027-01-01 2026-06-01";
    check(Deactivated, days, "2026-03-01", "nothing");
    check(Deactivated, days, "2028-01-01", "nothing");
    check(Compromised, days, "2028-01-01", "nothing");
    check(Destroyed, days, "2028-01-01", "nothing");
    // Reactivated after it had expired: the same date does not act twice, another one does.
    let mut again = key(Active, "2026-01-01 2027-01-01 -");
    again.acted.expiration = Some("2027-01-01".to_owned());
    assert_eq!(due(&again, "2028-01-01"), None);
    again.expiration_date = Some("2027-06-01".to_owned());
    assert_eq!(
        words(due(&again, "2028-01-01").as_ref()),
        "expire 2027-06-01"
    );
    // Made pre-active on the day itself: by hand then.
    let mut by_hand = key(PreActivation, "2026-01-01 - -");
    by_hand.acted.activation = Some("2026-01-01".to_owned());
    assert_eq!(due(&by_hand, "2026-01-01"), None);
}

#[test]
fn a_rotation_that_was_missed_many_times_is_one_and_expiry_goes_first() {
    check(Active, "- - 2026-04-01", "2026-03-31", "nothing");
    check(Active, "- - 2026-04-01", "2029-04-01", "rotate 2026-04-01");
    check(
        Active,
        "- 2026-04-01 2026-04-01",
        "2026-04-01",
        "expire 2026-04-01",
    );
    check(PreActivation, "- - 2026-04-01", "2029-04-01", "nothing");
    let mut made = key(Active, "- - 2026-04-01");
    made.coming = Some(Box::new(made.current()));
    assert_eq!(words(due(&made, "2026-05-01").as_ref()), "finish 1");
    made.state = Deactivated;
    assert_eq!(due(&made, "2026-05-01"), None, "it waits for the key");
}

#[test]
fn a_hold_is_never_shorter_than_its_day() {
    let mut held = key(Destroyed, "- - -");
    held.hold = Some(Hold {
        until: "2026-07-08".to_owned(),
        from: Deactivated,
    });
    assert_eq!(due(&held, "2026-07-07"), None);
    assert_eq!(words(due(&held, "2026-07-08").as_ref()), "erase 2026-07-08");
    assert_eq!(words(due(&held, "2026-12-08").as_ref()), "erase 2026-07-08");
    assert_eq!(dates(&held), [(DateKind::Erasure, "2026-07-08")]);
}

#[test]
fn a_clock_that_goes_back_undoes_nothing() {
    let mut rotated = key(Active, "- - 2026-07-01");
    assert_eq!(due(&rotated, "2026-03-01"), None);
    rotated.acted.expiration = Some("2026-06-01".to_owned());
    rotated.expiration_date = Some("2026-06-01".to_owned());
    assert_eq!(due(&rotated, "2026-05-01"), None);
    assert_eq!(due(&rotated, "2026-06-01"), None, "once");
}

#[test]
fn one_act_has_one_name_whoever_carries_it_out() {
    let key = key(Active, "- 2026-04-01 -");
    let name = due(&key, "2026-04-01").unwrap().operation(key.id);
    assert_eq!(name, due(&key, "2026-09-01").unwrap().operation(key.id));
    assert!(name.len() < 100, "{name}");
}

#[test]
fn a_clock_that_was_set_is_not_acted_on_at_once() {
    let day = 86_400_000;
    let mut watch = ClockWatch::default();
    assert!(watch.look(1_000_000, 0), "believed at the start");
    assert!(watch.look(1_005_000, 5_000));
    // A leap second or slewing is nothing.
    assert!(watch.look(1_009_000, 10_000));
    // A year forward: not yet.
    assert!(!watch.look(1_015_000 + 365 * day, 15_000));
    // And back again: never acted on.
    assert!(!watch.look(1_020_000, 20_000));
    assert!(!watch.look(1_020_000 + SETTLE_MS - 1, 20_000 + SETTLE_MS - 1));
    assert!(watch.look(1_020_000 + SETTLE_MS, 20_000 + SETTLE_MS));
    // One that is right in the end (a machine that slept) is acted on once it ran evenly.
    let wall = 1_020_000 + SETTLE_MS + day;
    assert!(!watch.look(wall, 30_000 + SETTLE_MS));
    assert!(watch.look(wall + SETTLE_MS, 30_000 + 2 * SETTLE_MS));
}
