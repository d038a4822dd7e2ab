//! Dates that act, with the time given by the test.

use std::sync::atomic::Ordering;

use crate::ops::{House, call, on, phase};
use lockstep::coordinator::ops::calendar::CalendarQuery;
use lockstep::coordinator::ops::errors::OpsError;
use lockstep::coordinator::ops::keys::{KeyPatch, KeyView};
use lockstep::coordinator::ops::templates::TemplateNew;
use lockstep::coordinator::store::Page;
use lockstep::model::ids::KeyId;
use lockstep::model::key::Algorithm;
use lockstep::model::lifecycle::{Action, ManagedState};
use lockstep::model::template::OnExpiry;
use lockstep::model::vault::UnixMs;

/// 00:00 UTC so many days from today.
fn midnight(days: i64) -> UnixMs {
    let day = 86_400_000;
    let now = lockstep::clock::unix_ms().0;
    UnixMs((now.div_euclid(day) + days) * day)
}

/// That day as dates are written.
fn day(days: i64) -> String {
    let at = jiff::Timestamp::from_millisecond(midnight(days).0).unwrap();
    at.to_string().split('T').next().unwrap().to_owned()
}

async fn dated(house: &House, view: &KeyView, activation: Option<i64>, expiration: Option<i64>) {
    let date = |days: Option<i64>| days.map(day);
    let patch = KeyPatch {
        activation_date: date(activation),
        expiration_date: date(expiration),
        ..KeyPatch::default()
    };
    let done = house.ops.key_update(&on(view), view.key.id, patch).await;
    done.unwrap();
}

/// `action actor` of what was noted of a key, newest first.
async fn noted(house: &House, id: KeyId) -> Vec<String> {
    let page = Page {
        limit: 50,
        offset: 0,
    };
    let subject = Some(format!("key/{id}"));
    let found = house.store.audit_list(subject, page).await.unwrap().items;
    let told = found.iter();
    told.map(|one| format!("{} {}", one.action, one.actor))
        .collect()
}

async fn state(house: &House, id: KeyId) -> ManagedState {
    house.ops.key(&call(None), id).await.unwrap().key.state
}

async fn pass(house: &House, days: i64) -> u64 {
    let passed = house.pass_at(midnight(days)).await;
    assert_eq!(passed.refused.len(), 0, "{passed:?}");
    passed.done
}

#[tokio::test]
async fn a_key_is_activated_at_midnight_of_its_day_once() {
    let house = House::furnished().await;
    let key = house.key("K").await;
    let id = key.key.id;
    // Made pre-active with a date of today: that is for people.
    assert_eq!(pass(&house, 0).await, 0);
    assert_eq!(pass(&house, 300).await, 0);
    dated(&house, &key, Some(5), None).await;
    let before = UnixMs(midnight(5).0 - 1);
    assert_eq!(house.pass_at(before).await.done, 0);
    assert_eq!(pass(&house, 5).await, 1);
    let view = house.settled(id).await;
    assert_eq!(phase(&view), "in_step 3/3");
    assert_eq!(view.key.stamps.updated_by, "lockstep: activation date");
    assert_eq!(
        noted(&house, id).await[0],
        "key.activate lockstep: activation date"
    );
    // What a person does afterwards stands, and a clock that goes back undoes nothing.
    house.act(&view, Action::Deactivate).await.unwrap();
    for days in [4, 5, 6, 40] {
        assert_eq!(pass(&house, days).await, 0, "{days}");
    }
    assert_eq!(state(&house, id).await, ManagedState::Deactivated);
}

#[tokio::test]
async fn an_expired_key_is_told_or_deactivated_as_its_template_says() {
    let house = House::furnished().await;
    let strict = TemplateNew {
        on_expiry: OnExpiry::Deactivate,
        ..house.template_new("S", Algorithm::Aes, 256)
    };
    house
        .ops
        .template_create(&call(None), strict)
        .await
        .unwrap();
    let warned = house.active("W").await;
    let mut new = house.key_new("S1");
    new.template_name = "S".to_owned();
    let made = house.ops.key_create(&call(None), new).await.unwrap().value;
    house.act(&made, Action::Activate).await.unwrap();
    let ended = house.settled(made.key.id).await;
    dated(&house, &warned, None, Some(3)).await;
    dated(&house, &ended, None, Some(3)).await;
    // Nobody was there for a week.
    assert_eq!(pass(&house, 10).await, 2);
    let view = house.settled(ended.key.id).await;
    assert_eq!(view.key.state, ManagedState::Deactivated);
    assert_eq!(phase(&view), "in_step 3/3");
    assert_eq!(state(&house, warned.key.id).await, ManagedState::Active);
    for id in [warned.key.id, ended.key.id] {
        assert_eq!(
            noted(&house, id).await[0],
            "key.expire lockstep: expiration date"
        );
    }
    // A person brings it back: the date has acted.
    house.act(&view, Action::Activate).await.unwrap();
    assert_eq!(pass(&house, 11).await, 0);
    let view = house.settled(ended.key.id).await;
    dated(&house, &view, None, Some(12)).await;
    assert_eq!(pass(&house, 12).await, 1, "another date is another matter");
    assert_eq!(state(&house, ended.key.id).await, ManagedState::Deactivated);
}

#[tokio::test]
async fn two_coordinators_do_a_thing_once() {
    let house = House::furnished().await;
    let other = house.ops.clone();
    let mut ids = Vec::new();
    for label in ["K", "L", "M", "N"] {
        let key = house.key(label).await;
        dated(&house, &key, Some(1), None).await;
        ids.push(key.key.id);
    }
    house.clock.store(midnight(1).0, Ordering::SeqCst);
    let (one, two) = tokio::join!(house.ops.schedule_pass(), other.schedule_pass());
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!((one.refused.len(), two.refused.len()), (0, 0));
    for id in ids {
        let told = noted(&house, id).await;
        let activated = told.iter().filter(|one| one.starts_with("key.activate"));
        assert_eq!(activated.count(), 1, "{told:?}");
        let instances = house.store.key_instances(id).await.unwrap();
        assert!(instances.iter().all(|one| one.intent.generation.0 == 1));
    }
}

#[tokio::test]
async fn keys_are_rotated_by_their_templates_interval_once_even_after_a_long_night() {
    let house = House::furnished().await;
    let monthly = TemplateNew {
        rotation_interval: Some("P1M".to_owned()),
        deactivate_on_rotation: true,
        ..house.template_new("R", Algorithm::Aes, 256)
    };
    house
        .ops
        .template_create(&call(None), monthly)
        .await
        .unwrap();
    let mut new = house.key_new("K");
    new.template_name = "R".to_owned();
    let made = house.ops.key_create(&call(None), new).await.unwrap().value;
    let id = made.key.id;
    assert_eq!(made.key.rotation_date, None, "not before it is in use");
    house.act(&made, Action::Activate).await.unwrap();
    let view = house.settled(id).await;
    let next = view.key.rotation_date.clone().unwrap();
    assert!(next > day(27) && next < day(32), "{next}");
    assert_eq!(pass(&house, 27).await, 0);
    // A year of downtime is one rotation; the next one counts from now.
    let passed = house.pass_at(midnight(360)).await;
    assert_eq!((passed.done, passed.refused.len()), (1, 0));
    let view = house.settled(id).await;
    assert_eq!(view.key.version_number, 2);
    assert!(view.key.past[0].is_retired);
    let next = view.key.rotation_date.clone().unwrap();
    assert!(next > day(387) && next < day(392), "{next}");
    assert_eq!(
        noted(&house, id).await[0],
        "key.rotate lockstep: rotation date"
    );
}

#[tokio::test]
async fn the_calendar_says_what_dates_will_do() {
    let house = House::furnished().await;
    let early = house.key("early").await;
    dated(&house, &early, Some(2), Some(40)).await;
    let missed = house.key("missed").await;
    dated(&house, &missed, Some(-9), Some(-1)).await;
    let active = house.active("active").await;
    dated(&house, &active, None, Some(7)).await;
    let told = |query: CalendarQuery| async {
        let found = house.ops.calendar(&call(None), query).await.unwrap();
        let line = |one: lockstep::coordinator::ops::calendar::CalendarEntry| {
            let late = if one.is_overdue { " overdue" } else { "" };
            format!(
                "{} {} {}{late}: {}",
                one.day,
                one.kind.name(),
                one.label,
                one.message
            )
        };
        found.into_iter().map(line).collect::<Vec<_>>()
    };
    let all = told(CalendarQuery::default()).await;
    let nothing = "from then on the key is not activated by its date";
    let expected = [
        format!(
            "{} activation missed overdue: does nothing: the key expired before it was activated",
            day(-9)
        ),
        format!("{} expiration missed overdue: {nothing}", day(-1)),
        format!("{} activation early: the key is activated", day(2)),
        format!(
            "{} expiration active: is noted; the key goes on working",
            day(7)
        ),
        format!("{} expiration early: {nothing}", day(40)),
    ];
    assert_eq!(all, expected);
    let some = CalendarQuery {
        from: Some(day(0)),
        to: Some(day(6)),
        ..CalendarQuery::default()
    };
    assert_eq!(told(some).await, expected[2..3]);
    let bad = CalendarQuery {
        from: Some("2026-13-01".to_owned()),
        ..CalendarQuery::default()
    };
    let refused = house.ops.calendar(&call(None), bad).await;
    assert!(matches!(refused, Err(OpsError::Invalid { .. })));
    assert_eq!(pass(&house, 0).await, 0, "what was missed stays so");
    assert_eq!(
        state(&house, missed.key.id).await,
        ManagedState::PreActivation
    );
}
