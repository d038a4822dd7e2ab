//! Objects whose own attributes bar the way of their strategy.

use crate::decide::effects::effects;
use crate::decide::effects::tests::{INSTALL, REFUSED, SECRET, WORKS, found, secret, told};
use crate::model::capabilities::Strategy;
use crate::model::desired::Want;
use crate::model::key::Usage;
use crate::model::step::Step;

/// Steps where the objects bar a way: `(CKA_MODIFIABLE, CKA_COPYABLE)`.
#[track_caller]
fn check_barred(
    strategy: Strategy,
    want: Want,
    usage: &[Usage],
    (modifiable, copyable): (Option<bool>, Option<bool>),
    expected: &[&str],
) {
    let wanted = secret(want);
    let mut there = found(&wanted, &[(SECRET, usage)]);
    for object in &mut there.objects {
        (object.modifiable, object.copyable) = (modifiable, copyable);
    }
    let steps = effects(&wanted, &there, strategy).unwrap();
    let words: Vec<String> = steps.iter().map(Step::describe).collect();
    assert_eq!(
        words, expected,
        "{strategy:?} {want:?} {modifiable:?} {copyable:?}"
    );
}

#[test]
fn an_object_that_bars_the_way_of_its_strategy_is_changed_by_another() {
    use Strategy::{Copy, Flags};
    const ON: &[Usage] = &[Usage::Encrypt, Usage::Decrypt];
    const SET: &str = "disable the secret key";
    const ENABLED: &str = "put a copy enabled for encrypt,decrypt in the place of the secret key";
    const GONE: &str = "withdraw the secret key (the repository keeps it)";
    let (yes, no, untold) = (Some(true), Some(false), None);
    let off = Want::Deactivated;
    check_barred(Flags, off, ON, (yes, no), &[SET, REFUSED]);
    check_barred(Flags, off, ON, (untold, untold), &[SET, REFUSED]);
    // Born under another strategy: only the repository helps, and nothing is usable in between.
    for (strategy, flags) in [
        (Flags, (no, no)),
        (Flags, (no, yes)),
        (Flags, (no, untold)),
        (Copy, (yes, no)),
        (Copy, (no, no)),
    ] {
        check_barred(strategy, off, ON, flags, &[GONE, INSTALL, REFUSED]);
        check_barred(strategy, off, &[], flags, &[GONE, INSTALL, REFUSED]);
        check_barred(strategy, Want::Active, ON, flags, &[WORKS]);
        check_barred(
            strategy,
            Want::Destroyed,
            ON,
            flags,
            &["destroy the secret key"],
        );
    }
    check_barred(
        Copy,
        Want::Active,
        &[],
        (yes, no),
        &[GONE, INSTALL, ENABLED, WORKS],
    );
    let enabled = "enable the secret key for encrypt,decrypt";
    check_barred(
        Flags,
        Want::Active,
        &[],
        (no, no),
        &[GONE, INSTALL, enabled, WORKS],
    );
}

#[test]
fn what_others_made_fixed_is_changed_by_a_copy() {
    let told_of = |want, usage: &[Usage], label: &str| {
        let mut wanted = secret(want);
        wanted.object.cka_id = vec![1, 2, 3];
        let mut there = found(&wanted, &[(SECRET, usage)]);
        there.objects[0].cka_id = vec![1, 2, 3];
        there.objects[0].label = label.to_owned();
        there.objects[0].modifiable = Some(false);
        told(&wanted, &there)
    };
    let copied = format!("put a disabled copy in the place of the secret key; {REFUSED}");
    assert_eq!(
        told_of(Want::Deactivated, &[Usage::Encrypt], "pay-1"),
        copied
    );
    assert_eq!(told_of(Want::Deactivated, &[], "old"), copied);
    assert_eq!(told_of(Want::Deactivated, &[], "pay-1"), REFUSED);
    let enabled = "put a copy enabled for encrypt,decrypt in the place of the secret key";
    assert_eq!(
        told_of(Want::Active, &[], "pay-1"),
        format!("{enabled}; {WORKS}")
    );
}

#[test]
fn a_key_that_is_not_surely_the_right_one_is_not_made_anew() {
    let mut wanted = secret(Want::Deactivated);
    wanted.object.cka_id = vec![1];
    let mut there = found(&wanted, &[(SECRET, &[Usage::Encrypt])]);
    there.objects[0].copyable = Some(false);
    there.fingerprint = None;
    assert!(effects(&wanted, &there, Strategy::Copy).is_err());
}
