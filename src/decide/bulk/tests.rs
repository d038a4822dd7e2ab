use uuid::Uuid;

use crate::decide::bulk::*;
use crate::model::bulk::BulkState;
use crate::model::desired::Want;
use crate::model::ids::{BulkId, Digest, Generation, Revision};
use crate::model::vault::Stamps;

fn sizes(text: &str) -> Vec<WaveSize> {
    text.split(',').map(|size| size.parse().unwrap()).collect()
}

fn bulk(waves: &str, wave: u32, stop_on: StopOn, late: Late) -> BulkChange {
    BulkChange {
        id: BulkId::from_uuid(Uuid::nil()),
        revision: Revision(1),
        action: BulkAction::Activate,
        filter: None,
        sizes: sizes(waves),
        stop_on,
        confirm_within_s: 10,
        late,
        digest: Digest([0; 32]),
        keys: 0,
        wave,
        wave_since: UnixMs(1000),
        state: BulkState::Running,
        ended_at: None,
        stamps: Stamps::new(UnixMs(0), "anna"),
    }
}

#[test]
fn waves_are_whole() {
    let check = |text: &str, expected: Result<(), InvalidWaves>| {
        assert_eq!(check_waves(&sizes(text)), expected, "{text}");
    };
    check("rest", Ok(()));
    check("1,10%,group:canary,rest", Ok(()));
    check("1", Err(InvalidWaves::Rest));
    check("rest,1", Err(InvalidWaves::Rest));
    check("rest,rest", Err(InvalidWaves::Rest));
    assert_eq!(check_waves(&[]), Err(InvalidWaves::Count));
    let many = vec![WaveSize::Rest; WAVES_MAX + 1];
    assert_eq!(check_waves(&many), Err(InvalidWaves::Count));
}

#[test]
fn each_key_is_in_one_wave() {
    let check = |waves: &str, keys: usize, canaries: &[usize], expected: &[u32]| {
        let is_within = |place: usize, group: &str| group == "canary" && canaries.contains(&place);
        let got = assign(&sizes(waves), keys, is_within);
        assert_eq!(got, expected, "{waves} of {keys}");
    };
    check("rest", 3, &[], &[1, 1, 1]);
    check("1,rest", 3, &[], &[1, 2, 2]);
    check("1,10%,rest", 12, &[], &[1, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 3]);
    check("5,rest", 3, &[], &[1, 1, 1]);
    check("100%,rest", 2, &[], &[1, 1]);
    check("1%,rest", 1, &[], &[1]);
    check("group:canary,rest", 4, &[1, 3], &[2, 1, 2, 1]);
    check("1,group:canary,rest", 4, &[0, 3], &[1, 3, 3, 2]);
    check("group:other,rest", 2, &[0], &[2, 2]);
    check("1,rest", 0, &[], &[]);
}

#[test]
fn a_wave_begins_when_the_one_before_is_confirmed() {
    let tally = |pending, changing, last: Option<i64>| Tally {
        pending,
        changing,
        last_begun: last.map(UnixMs),
        ..Tally::default()
    };
    let check = |stop_on, late, wave, tally: Tally, now: i64, expected| {
        let got = next(&bulk("1,rest", wave, stop_on, late), &tally, UnixMs(now));
        assert_eq!(got, expected, "{stop_on:?} {late:?} {wave} {tally:?} {now}");
    };
    let (stop, pause) = (StopOn::OutOfStep, Late::Pause);
    check(stop, pause, 1, tally(1, 0, None), 1000, Next::Begin(1));
    check(stop, pause, 1, tally(0, 1, Some(1000)), 10_999, Next::Wait);
    let late = Next::NotConfirmed;
    check(stop, pause, 1, tally(0, 1, Some(1000)), 11_000, late);
    check(stop, pause, 1, tally(0, 0, None), 99_000, Next::Advance);
    check(stop, pause, 2, tally(0, 0, None), 2000, Next::End);
    // The time counts from the last key that was begun, and from when it was resumed.
    check(stop, pause, 1, tally(0, 1, Some(5000)), 11_000, Next::Wait);
    check(stop, pause, 1, tally(0, 1, Some(5)), 10_999, Next::Wait);
    // So many are not confirmed that no other begins, until they are.
    check(stop, pause, 2, tally(900, 0, None), 1000, Next::Begin(50));
    check(
        stop,
        pause,
        2,
        tally(850, 70, Some(1000)),
        1000,
        Next::Begin(30),
    );
    check(
        stop,
        pause,
        2,
        tally(800, 100, Some(1000)),
        1000,
        Next::Wait,
    );
    check(stop, pause, 2, tally(800, 100, Some(1000)), 11_000, late);
    // What nothing stops does not wait for confirmations within a wave, and goes on after its time.
    let (free, go_on) = (StopOn::Never, Late::GoOn);
    check(
        free,
        go_on,
        2,
        tally(800, 9000, Some(1000)),
        1000,
        Next::Begin(50),
    );
    check(free, go_on, 1, tally(0, 1, Some(1000)), 10_999, Next::Wait);
    check(
        free,
        go_on,
        1,
        tally(0, 1, Some(1000)),
        11_000,
        Next::Advance,
    );
    check(free, go_on, 2, tally(0, 1, Some(1000)), 11_000, Next::End);
    check(
        stop,
        go_on,
        2,
        tally(80, 100, Some(1000)),
        11_000,
        Next::Begin(50),
    );
}

#[test]
fn what_people_did_since_stands() {
    use BulkAction::{Activate, Deactivate, Destroy, Rotate, Sync, UpdateFromTemplate};
    use ManagedState::{Active, Compromised, Deactivated, Destroyed, PreActivation};
    let check = |action, planned, now, expected| {
        assert_eq!(
            turn(action, planned, now),
            expected,
            "{action:?} {planned:?} {now:?}"
        );
    };
    check(Activate, (PreActivation, 1), (PreActivation, 1), Turn::Act);
    check(Activate, (PreActivation, 1), (Active, 1), Turn::Already);
    check(
        Activate,
        (PreActivation, 1),
        (Deactivated, 1),
        Turn::Changed,
    );
    check(Activate, (Deactivated, 1), (Compromised, 1), Turn::Changed);
    check(Deactivate, (Active, 1), (Active, 2), Turn::Act);
    check(Deactivate, (Active, 1), (Destroyed, 1), Turn::Changed);
    check(Destroy, (Deactivated, 1), (Active, 1), Turn::Changed);
    check(Rotate, (Active, 1), (Active, 1), Turn::Act);
    check(Rotate, (Active, 1), (Active, 2), Turn::Already);
    check(Rotate, (Active, 1), (Deactivated, 1), Turn::Changed);
    check(Sync, (Active, 1), (Destroyed, 3), Turn::Act);
    check(UpdateFromTemplate, (Active, 1), (Active, 2), Turn::Act);
    check(
        UpdateFromTemplate,
        (Active, 1),
        (Deactivated, 1),
        Turn::Changed,
    );
}

#[test]
fn the_worst_keystore_counts() {
    let fine = Status::InSync(Want::Active);
    let pending = Status::Pending {
        generation: Generation(1),
        why: String::new(),
    };
    let away = Status::Unknown { why: String::new() };
    let failed = Status::Failed { why: String::new() };
    let no_token = Status::Unavailable { why: String::new() };
    let check = |rows: &[(&Status, bool)], expected| {
        assert_eq!(judge(rows.iter().copied(), false), expected, "{rows:?}");
    };
    check(&[], Judged::Confirmed);
    check(&[(&fine, true), (&fine, true)], Judged::Confirmed);
    check(&[(&fine, true), (&pending, false)], Judged::Waiting);
    check(&[(&fine, true), (&away, true)], Judged::Waiting);
    // A second look is under way, or it is tried again by itself.
    check(&[(&Status::Drift, false)], Judged::Waiting);
    check(&[(&failed, false)], Judged::Waiting);
    check(
        &[(&Status::Drift, true), (&pending, false)],
        Judged::OutOfStep,
    );
    check(&[(&no_token, true)], Judged::OutOfStep);
    check(&[(&failed, true), (&Status::Drift, true)], Judged::Refused);
    check(&[(&Status::Diverged, true)], Judged::Refused);
    assert_eq!(judge([(&fine, true)], true), Judged::Waiting);
    let told = |stop_on| {
        [
            Judged::Confirmed,
            Judged::Waiting,
            Judged::OutOfStep,
            Judged::Refused,
        ]
        .map(|judged| stops(stop_on, judged))
    };
    assert_eq!(told(StopOn::OutOfStep), [false, false, true, true]);
    assert_eq!(told(StopOn::Refusal), [false, false, false, true]);
    assert_eq!(told(StopOn::Never), [false; 4]);
}
