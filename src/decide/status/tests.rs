//! One `check` per area: a situation in, what people are told out.

mod adopted;
mod drift;
mod situations;
mod terms;

use crate::decide::difference::differences;
use crate::decide::status::{Phase, phase, seen, status, uko};
use crate::model::desired::{Applied, Instance, Want};
use crate::model::difference::{CausedBy, HealedBy, Reason, Seen, Status};
use crate::model::ids::{Digest, Epoch, Generation, KeystoreId};
use crate::model::job::{FailureKind, TokenFailure};
use crate::model::key::{DeactivatedUsage, Usage, UsageSet};
use crate::model::keystore::{Health, Marker};
use crate::model::live::{Connection, Terms};
use crate::model::observed::{FingerprintMethod, Found, ObjectClass, Observation};
use crate::model::protocol::{Progress, Refusal, Report};
use crate::model::vault::UnixMs;

use crate::decide::status::tests::situations::*;

#[test]
fn in_sync_when_all_is_right_and_proved() {
    for want in [Want::Active, Want::Deactivated, Want::Destroyed] {
        for instance in [aes(want), ec(want)] {
            check(&instance, &good(&instance), "in_sync", &[]);
        }
    }
}

#[test]
fn nothing_is_in_sync_without_a_live_line() {
    let instance = aes(Want::Active);
    for connection in [
        Connection::Never {
            why: "refused".to_owned(),
        },
        Connection::Down {
            why: "reset".to_owned(),
            since: UnixMs(1),
        },
        Connection::CatchingUp,
    ] {
        let mut live = good(&instance);
        live.connection = connection;
        check(&instance, &live, "unknown", &[UNREACHABLE]);
    }
}

#[test]
fn nothing_is_in_sync_on_a_token_that_is_not_well() {
    let instance = aes(Want::Active);
    let marker = Marker {
        keystore: keystore(9),
        epoch: Epoch(1),
    };
    for (health, healed_by) in [
        (Health::MarkerMissing, HealedBy::Operator),
        (Health::BelongsTo(marker), HealedBy::Operator),
        (Health::WrongPin, HealedBy::Operator),
        (Health::JournalLost, HealedBy::Operator),
        (
            Health::ModuleFailed {
                detail: "C_Login".to_owned(),
            },
            HealedBy::Waiting,
        ),
    ] {
        let mut live = good(&instance);
        live.health = Some(health);
        let reason = (Reason::TokenUnavailable, CausedBy::Unknown, healed_by);
        check(&instance, &live, "unavailable", &[reason]);
    }
    let mut live = good(&instance);
    live.health = None;
    check(&instance, &live, "unknown", &[UNREACHABLE]);
    live.health = Some(Health::Starting);
    check(&instance, &live, "unknown", &[UNREACHABLE]);
}

#[test]
fn an_old_look_counts_for_nothing() {
    let instance = aes(Want::Active);
    let mut live = good(&instance);
    live.look_age_ms = live.fresh_for_ms;
    check(&instance, &live, "in_sync", &[]);
    live.look_age_ms += 1;
    check(&instance, &live, "unknown", &[UNREACHABLE]);
}

#[test]
fn only_the_very_intent_counts() {
    let older = |report: &mut Report| report.applied.as_mut().unwrap().generation = Generation(4);
    check_report(older, "pending", PENDING);
    check_report(|report| report.applied = None, "pending", PENDING);
    let diverged = (Reason::Diverged, CausedBy::Unknown, HealedBy::Sync);
    let newer = |report: &mut Report| report.applied.as_mut().unwrap().generation = Generation(6);
    check_report(newer, "diverged", diverged);
    let other = |report: &mut Report| report.applied.as_mut().unwrap().digest = Digest([0; 32]);
    check_report(other, "diverged", diverged);
}

#[test]
fn a_change_under_way_is_pending_and_then_late() {
    for progress in [
        Progress::Busy,
        Progress::NeedsMaterial,
        Progress::Unknown {
            why: "deadline".to_owned(),
        },
    ] {
        check_report(|report| report.progress = progress, "pending", PENDING);
    }
    let instance = aes(Want::Active);
    let mut live = good(&instance);
    live.report = None;
    check(&instance, &live, "pending", &[PENDING]);
    let told = differences(
        &instance,
        &live,
        &Terms::default(),
        UnixMs(1_001 + LATE_MS),
        LATE_MS,
    );
    assert_eq!(told[0].reason, Reason::Late);
}

#[test]
fn a_failure_is_told_with_what_next() {
    for (kind, expected, reason) in [
        (FailureKind::Retry, "pending", PENDING),
        (
            FailureKind::Refused,
            "failed",
            (Reason::Failed, CausedBy::FailedChange, HealedBy::Operator),
        ),
        (
            FailureKind::LabelTaken,
            "failed",
            (
                Reason::LabelTaken,
                CausedBy::FailedChange,
                HealedBy::Operator,
            ),
        ),
    ] {
        let failure = TokenFailure {
            kind,
            function: "C_UnwrapKey".to_owned(),
            rv: "CKR_DEVICE_ERROR".to_owned(),
            detail: String::new(),
        };
        check_report(
            |report| report.progress = Progress::Failed(failure),
            expected,
            reason,
        );
    }
}

#[test]
fn a_refusal_counts_only_for_the_intent_it_speaks_of() {
    let instance = aes(Want::Active);
    let applied = |want| Applied {
        generation: Generation(8),
        want,
        digest: Digest([0; 32]),
    };
    let cases = [
        (
            Refusal::Stale(applied(Want::Deactivated)),
            "diverged",
            Reason::Diverged,
            HealedBy::Sync,
        ),
        (
            Refusal::Tombstone(applied(Want::Destroyed)),
            "diverged",
            Reason::Diverged,
            HealedBy::Operator,
        ),
        (
            Refusal::Envelope {
                reason: "peer_not_listed".to_owned(),
            },
            "failed",
            Reason::Failed,
            HealedBy::Operator,
        ),
        (
            Refusal::Journal {
                detail: "ENOSPC".to_owned(),
            },
            "pending",
            Reason::Pending,
            HealedBy::Waiting,
        ),
    ];
    for (refusal, expected, reason, healed_by) in cases {
        let mut live = good(&instance);
        live.report = None;
        live.refused = Some((Generation(5), refusal.clone()));
        let told = differences(&instance, &live, &Terms::default(), UnixMs(2_000), LATE_MS);
        assert_eq!(
            (
                status(&instance, &live, &Terms::default()).name(),
                told[0].reason,
                told[0].healed_by
            ),
            (expected, reason, healed_by)
        );
        live.refused = Some((Generation(4), refusal));
        check(&instance, &live, "pending", &[PENDING]);
    }
}

#[test]
fn unproved_is_never_in_sync() {
    for want in [Want::Active, Want::Deactivated] {
        let instance = aes(want);
        let mut live = good(&instance);
        live.report.as_mut().unwrap().proof = None;
        check(&instance, &live, "pending", &[UNPROVED]);
    }
    let destroyed = aes(Want::Destroyed);
    let mut live = good(&destroyed);
    live.report.as_mut().unwrap().proof = None;
    check(&destroyed, &live, "in_sync", &[]);
}

#[test]
fn without_a_fingerprint_of_the_same_method_nothing_is_claimed() {
    let instance = aes(Want::Active);
    for fingerprint in [None, Some(print(FingerprintMethod::Spki, 9))] {
        let found = Found {
            fingerprint,
            ..right(&instance)
        };
        let live = live(&instance, Observation::Present(found));
        check(&instance, &live, "pending", &[UNPROVED]);
    }
}

#[test]
fn a_suspicion_is_drift_in_waiting() {
    let instance = aes(Want::Active);
    let suspected = Observation::Suspected {
        last: Box::new(observed(&instance)),
    };
    assert_eq!(seen(&instance, &suspected), Seen::Active);
    let live = live(&instance, suspected);
    let reason = (Reason::Suspected, CausedBy::Unknown, HealedBy::Waiting);
    check(&instance, &live, "drift", &[reason]);
}

#[test]
fn an_unknown_observation_is_unknown() {
    let instance = aes(Want::Active);
    let live = live(
        &instance,
        Observation::Unknown {
            why: "host died".to_owned(),
        },
    );
    check(&instance, &live, "unknown", &[UNREACHABLE]);
}

#[test]
fn absence_has_three_faces() {
    let instance = ec(Want::Active);
    let mut namesake = facts(&instance, ObjectClass::Public);
    namesake.cka_id = vec![0xab];
    let mut ours = namesake.clone();
    ours.public_digest = Some(instance.intent.fingerprint.value);
    for (same_label, reason, healed_by) in [
        (vec![], Reason::Missing, HealedBy::Sync),
        (
            vec![namesake.clone()],
            Reason::LabelTaken,
            HealedBy::Operator,
        ),
        (vec![namesake, ours], Reason::IdChanged, HealedBy::Operator),
    ] {
        let live = live(&instance, Observation::Absent { same_label });
        check(
            &instance,
            &live,
            "drift",
            &[(reason, CausedBy::OutOfBand, healed_by)],
        );
    }
}

#[test]
fn a_key_under_another_id_is_told_whatever_is_wanted() {
    for (want, is_target) in [
        (Want::Active, true),
        (Want::Deactivated, true),
        (Want::Deactivated, false),
        (Want::Destroyed, true),
    ] {
        let mut instance = aes(want);
        instance.is_target = is_target;
        let mut moved = facts(&instance, ObjectClass::Secret);
        moved.cka_id = vec![0x99];
        for (print, is_ours) in [
            (instance.intent.fingerprint, true),
            (print(FingerprintMethod::DigestKey, 8), false),
        ] {
            moved.fingerprint = Some(print);
            let same_label = vec![moved.clone()];
            let live = live(&instance, Observation::Absent { same_label });
            let told = differences(&instance, &live, &Terms::default(), UnixMs(2_000), LATE_MS)
                .iter()
                .any(|one| one.reason == Reason::IdChanged);
            assert_eq!(told, is_ours, "{want:?} {is_target}");
        }
    }
}

#[test]
fn other_material_is_a_wrong_key_whatever_is_wanted() {
    for want in [Want::Active, Want::Deactivated] {
        let instance = aes(want);
        let mut found = right(&instance);
        found.fingerprint = Some(print(FingerprintMethod::DigestKey, 8));
        check_drift(&instance, found.clone(), &[Reason::WrongKey]);
        assert_eq!(
            seen(&instance, &Observation::Present(found)),
            Seen::WrongKey
        );
    }
}

#[test]
fn flipped_flags_have_their_own_reasons() {
    let set = |instance: &Instance, usages: &[Usage]| {
        let mut found = right(instance);
        found.objects[0].usage = UsageSet::of(usages);
        found
    };
    let active = aes(Want::Active);
    check_drift(&active, set(&active, &[]), &[Reason::DisabledUnexpectedly]);
    check_drift(
        &active,
        set(&active, &[Usage::Encrypt]),
        &[Reason::UsageChanged],
    );
    let more = [Usage::Encrypt, Usage::Decrypt, Usage::Wrap];
    check_drift(&active, set(&active, &more), &[Reason::UsageChanged]);
    let deactivated = aes(Want::Deactivated);
    check_drift(
        &deactivated,
        set(&deactivated, &[Usage::Decrypt]),
        &[Reason::EnabledUnexpectedly],
    );
    let mut process_only = aes(Want::Deactivated);
    process_only.intent.object.deactivated_usage = DeactivatedUsage::ProcessOnly;
    check_drift(
        &process_only,
        set(&process_only, &[]),
        &[Reason::UsageChanged],
    );
    check_drift(
        &process_only,
        set(&process_only, &[Usage::Encrypt, Usage::Decrypt]),
        &[Reason::EnabledUnexpectedly],
    );
}

#[test]
fn half_and_double_and_weak_and_renamed() {
    let pair = ec(Want::Active);
    let mut half = right(&pair);
    half.objects.remove(0);
    check_drift(&pair, half.clone(), &[Reason::HalfPair]);
    assert_eq!(seen(&pair, &Observation::Present(half)), Seen::NotActive);

    let key = aes(Want::Active);
    let mut twice = right(&key);
    twice.objects.push(facts(&key, ObjectClass::Secret));
    check_drift(&key, twice, &[Reason::Duplicated]);

    let mut weak = right(&key);
    weak.objects[0].extractable = Some(true);
    check_drift(&key, weak, &[Reason::ProtectionWeakened]);
    let mut untold = right(&key);
    untold.objects[0].sensitive = None;
    check_drift(&key, untold, &[Reason::ProtectionWeakened]);

    let mut renamed = right(&key);
    renamed.objects[0].label = "other".to_owned();
    check_drift(&key, renamed, &[Reason::LabelChanged]);
}

#[test]
fn a_half_pair_that_may_still_verify_is_not_deactivated() {
    let pair = ec(Want::Deactivated);
    let mut found = right(&pair);
    found.objects[1].usage = UsageSet::of(&[Usage::Verify]);
    let observation = Observation::Present(found);
    assert_eq!(seen(&pair, &observation), Seen::Active);
    let live = live(&pair, observation);
    assert_eq!(status(&pair, &live, &Terms::default()), Status::Drift);
}

#[test]
fn a_destroyed_key_that_came_back() {
    let destroyed = aes(Want::Destroyed);
    let found = right(&aes(Want::Deactivated));
    check_drift(&destroyed, found, &[Reason::DestroyedKeyPresent]);
}

#[test]
fn a_removed_target_owes_only_that_nothing_is_usable() {
    let mut removed = aes(Want::Deactivated);
    removed.is_target = false;
    check(&removed, &good(&removed), "in_sync", &[]);
    let gone = live(
        &removed,
        Observation::Absent {
            same_label: Vec::new(),
        },
    );
    check(&removed, &gone, "in_sync", &[]);
    let mut renamed = right(&removed);
    renamed.objects[0].label = "other".to_owned();
    check(
        &removed,
        &live(&removed, Observation::Present(renamed)),
        "in_sync",
        &[],
    );
    let enabled = right(&aes(Want::Active));
    check_drift(&removed, enabled, &[Reason::RemovedTargetActive]);
    // Another key in its place, and as idle: nothing of ours is left that could be tried.
    let mut other = right(&removed);
    if let Some(fingerprint) = &mut other.fingerprint {
        fingerprint.value.0[0] ^= 1;
    }
    let mut unproved = live(&removed, Observation::Present(other));
    unproved.report.as_mut().unwrap().proof = None;
    check(&removed, &unproved, "in_sync", &[]);
}

#[test]
fn pending_hides_what_is_on_its_way_and_shows_what_never_is_right() {
    let instance = aes(Want::Active);
    let mut found = right(&aes(Want::Deactivated));
    found.objects[0].extractable = Some(true);
    let mut live = live(&instance, Observation::Present(found));
    live.report.as_mut().unwrap().progress = Progress::Busy;
    let weak = (
        Reason::ProtectionWeakened,
        CausedBy::Unknown,
        HealedBy::Operator,
    );
    check(&instance, &live, "pending", &[PENDING, weak]);
}

#[test]
fn words_of_api_v4() {
    use Want::{Active, Deactivated, Destroyed};
    let check = |want, is_target, status: Status, seen, expected: &str| {
        let mut instance = aes(want);
        instance.is_target = is_target;
        let (word, flag, detail) = uko(&instance, &status, seen);
        let told = format!("{} {} {}", word.name(), flag.name(), detail.name());
        assert_eq!(told, expected);
    };
    let ok = Status::InSync;
    let pending = Status::Pending {
        generation: Generation(5),
        why: String::new(),
    };
    let unknown = Status::Unknown { why: String::new() };
    let active_ok = "active ok active_key_is_active_in_keystore";
    check(Active, true, ok(Active), Seen::Active, active_ok);
    let not_yet = "not_present out_of_sync active_key_is_not_active_in_keystore";
    check(Active, true, pending, Seen::NotPresent, not_yet);
    let other = "wrong_key out_of_sync active_key_is_not_active_in_keystore";
    check(Active, true, Status::Drift, Seen::WrongKey, other);
    let usable = "active out_of_sync deactivated_key_is_not_deactivated_in_keystore";
    check(Deactivated, true, Status::Drift, Seen::Active, usable);
    let removed = "not_active ok target_keystore_removed_by_user";
    check(
        Deactivated,
        false,
        ok(Deactivated),
        Seen::NotActive,
        removed,
    );
    let back = "active out_of_sync target_keystore_removed_by_user_contains_an_active_key";
    check(Deactivated, false, Status::Drift, Seen::Active, back);
    let gone = "not_present ok destroyed_key_is_not_present_in_keystore";
    check(Destroyed, true, ok(Destroyed), Seen::NotPresent, gone);
    let blind = "unknown error connection_error";
    check(Active, true, unknown, Seen::Active, blind);
}

#[test]
fn the_worst_keystore_counts() {
    let check = |is_active, rows: &[(bool, Status)], expected: (Phase, usize, usize)| {
        let rows: Vec<(KeystoreId, bool, Status)> = (1_u128..)
            .zip(rows.iter().cloned())
            .map(|(n, (is_target, status))| (keystore(n), is_target, status))
            .collect();
        let told = phase(is_active, &rows);
        assert_eq!((told.phase, told.confirmed, told.total), expected);
        assert_eq!(told.unconfirmed.len(), told.total - told.confirmed);
    };
    let ok = || Status::InSync(Want::Active);
    let off = || Status::InSync(Want::Deactivated);
    let pending = || Status::Pending {
        generation: Generation(1),
        why: String::new(),
    };
    let unknown = || Status::Unknown { why: String::new() };
    check(true, &[], (Phase::InStep, 0, 0));
    check(true, &[(true, ok()), (true, ok())], (Phase::InStep, 2, 2));
    check(
        true,
        &[(true, ok()), (true, pending())],
        (Phase::Changing, 1, 2),
    );
    check(
        true,
        &[(true, pending()), (true, unknown())],
        (Phase::Unknown, 0, 2),
    );
    check(
        true,
        &[(true, unknown()), (true, Status::Drift)],
        (Phase::OutOfStep, 0, 2),
    );
    // A removed target counts while it is not confirmed, and always once the key is to be unusable.
    check(true, &[(true, ok()), (false, off())], (Phase::InStep, 1, 1));
    check(
        true,
        &[(true, ok()), (false, Status::Drift)],
        (Phase::OutOfStep, 1, 2),
    );
    check(
        false,
        &[(true, off()), (false, off())],
        (Phase::InStep, 2, 2),
    );
    check(
        false,
        &[(true, off()), (false, unknown())],
        (Phase::Unknown, 1, 2),
    );
}
