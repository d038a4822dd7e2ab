//! What a vault's policy has put right by itself.

use crate::decide::difference::differences;
use crate::decide::drift::is_mended;
use crate::decide::status::tests::situations::*;
use crate::model::desired::{Instance, Want};
use crate::model::key::{Usage, UsageSet};
use crate::model::live::Terms;
use crate::model::observed::{FingerprintMethod, Found, Observation};
use crate::model::vault::{DriftPolicy, UnixMs};

/// Who puts it right: `[report, restrict, enforce]`.
fn check(instance: &Instance, change: impl FnOnce(&mut Found), expected: [bool; 3]) {
    let mut live = good(instance);
    let report = live.report.as_mut().unwrap();
    let Observation::Present(found) = &mut report.observation else {
        panic!("nothing is there");
    };
    change(found);
    let now = found.clone();
    let told = differences(instance, &live, &Terms::default(), UnixMs(0), LATE_MS);
    let mends = DriftPolicy::ALL.map(|policy| is_mended(policy, instance, Some(&now), &told));
    assert_eq!(mends, expected, "{told:?}");
}

const NOBODY: [bool; 3] = [false, false, false];
const ENFORCE: [bool; 3] = [false, false, true];
const BOTH: [bool; 3] = [false, true, true];

#[test]
fn what_is_as_wanted_is_left_alone() {
    for want in [Want::Active, Want::Deactivated] {
        check(&aes(want), |_| {}, NOBODY);
    }
}

#[test]
fn a_policy_puts_right_what_it_is_for() {
    let encrypt = UsageSet::of(&[Usage::Encrypt]);
    check(
        &aes(Want::Deactivated),
        |f| f.objects[0].usage = encrypt,
        BOTH,
    );
    check(
        &aes(Want::Active),
        |f| f.objects[0].usage = encrypt,
        ENFORCE,
    );
    check(
        &aes(Want::Active),
        |f| f.objects[0].usage = UsageSet::NONE,
        ENFORCE,
    );
    let more = |f: &mut Found| {
        let planned = f.objects[0].usage;
        f.objects[0].usage = planned.with(Usage::Wrap);
    };
    check(&aes(Want::Active), more, BOTH);
    // Some are too many and some are missing: putting that right would also give.
    let other = UsageSet::of(&[Usage::Wrap]);
    check(&aes(Want::Active), |f| f.objects[0].usage = other, ENFORCE);
    check(
        &aes(Want::Active),
        |f| f.objects[0].label = "other".to_owned(),
        ENFORCE,
    );
    check(&aes(Want::Active), |f| f.objects.clear(), ENFORCE);
    let mut removed = aes(Want::Deactivated);
    removed.is_target = false;
    check(&removed, |f| f.objects[0].usage = encrypt, BOTH);
}

#[test]
fn what_a_person_must_look_at_is_left_to_one() {
    let wrong = |f: &mut Found| f.fingerprint = Some(print(FingerprintMethod::DigestKey, 1));
    check(&aes(Want::Active), wrong, NOBODY);
    let twice = |f: &mut Found| f.objects.push(f.objects[0].clone());
    check(&aes(Want::Active), twice, NOBODY);
    let destroyed = aes(Want::Destroyed);
    let mut live = good(&destroyed);
    let there = good(&aes(Want::Active)).report.unwrap().observation;
    live.report.as_mut().unwrap().observation = there;
    let told = differences(&destroyed, &live, &Terms::default(), UnixMs(0), LATE_MS);
    assert!(!told.is_empty());
    for policy in DriftPolicy::ALL {
        assert!(!is_mended(policy, &destroyed, None, &told));
    }
}
