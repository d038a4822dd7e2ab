//! Bulk changes over the real store, with agents in memory and the time given by the test.

use std::sync::atomic::Ordering;

use crate::ops::{House, again, call, on};
use lockstep::coordinator::ops::bulk::{BulkKeysQuery, BulkNew, BulkScope, BulkView};
use lockstep::coordinator::ops::errors::OpsError;
use lockstep::coordinator::ops::keys::KeyView;
use lockstep::coordinator::ops::lists::Page;
use lockstep::coordinator::ops::vaults::VaultPatch;
use lockstep::coordinator::store::{self, BulkKeyFilter};
use lockstep::model::bulk::{BulkAction, BulkFilter, BulkKey, BulkState, PauseReason, WaveSize};
use lockstep::model::ids::{BulkId, KeyId};
use lockstep::model::keystore::Variant;
use lockstep::model::lifecycle::{Action, ManagedState};
use lockstep::model::vault::UnixMs;

fn new(action: BulkAction, waves: &str) -> BulkNew {
    let sizes = waves.split(',').filter(|size| !size.is_empty());
    let sizes: Vec<WaveSize> = sizes.map(|size| size.parse().unwrap()).collect();
    BulkNew {
        action,
        scope: BulkScope::Filter(BulkFilter::default()),
        sizes: (!sizes.is_empty()).then_some(sizes),
        stop_on: None,
        confirm_within_s: None,
        late: None,
        plan: None,
    }
}

async fn made(house: &House, new: BulkNew) -> BulkView {
    let done = house.ops.bulk_create(&call(None), new).await;
    done.unwrap().value
}

async fn view(house: &House, id: BulkId) -> BulkView {
    house.ops.bulk(&call(None), id).await.unwrap()
}

async fn rows(house: &House, id: BulkId) -> Vec<BulkKey> {
    let all = BulkKeysQuery::default();
    let found = house
        .ops
        .bulk_keys(&call(None), id, all, Page::LARGEST)
        .await;
    found.unwrap().items
}

/// `label wave outcome code` of each key.
async fn told(house: &House, id: BulkId) -> Vec<String> {
    let rows = rows(house, id).await;
    let line = |row: BulkKey| {
        let code = row.why.map(|why| why.code).unwrap_or_default();
        let line = format!("{} {} {} {code}", row.label, row.wave, row.outcome.name());
        line.trim_end().to_owned()
    };
    rows.into_iter().map(line).collect()
}

fn paused(view: &BulkView) -> Option<PauseReason> {
    match view.bulk.state {
        BulkState::Paused { reason, .. } => Some(reason),
        BulkState::Running | BulkState::Cancelled | BulkState::Done => None,
    }
}

/// Carries it on until it does not run any more, and all that is on its way has come.
async fn carried_on(house: &House, id: BulkId) -> BulkView {
    for _pass in 0..100 {
        let is_more = house.ops.bulk_pass().await.unwrap();
        let now = view(house, id).await;
        if now.bulk.state != BulkState::Running {
            return now;
        }
        if !is_more {
            for row in rows(house, id).await {
                house.settled(row.key).await;
            }
        }
    }
    panic!("it never ends: {:?}", view(house, id).await);
}

async fn keys(house: &House, count: usize) -> Vec<KeyView> {
    let mut made = Vec::new();
    for number in 0..count {
        made.push(house.key(&format!("k{number:02}")).await);
    }
    made
}

async fn state(house: &House, id: KeyId) -> ManagedState {
    house.ops.key(&call(None), id).await.unwrap().key.state
}

/// How often a key was activated, and by which bulk change.
async fn activations(house: &House, id: KeyId) -> Vec<Option<BulkId>> {
    let page = store::Page {
        limit: 50,
        offset: 0,
    };
    let subject = Some(format!("key/{id}"));
    let found = house.store.audit_list(subject, page).await.unwrap().items;
    let of = found.iter().filter(|one| one.action == "key.activate");
    of.map(|one| one.bulk).collect()
}

#[tokio::test]
async fn a_plan_says_what_would_be_done_and_changes_nothing() {
    let house = House::furnished().await;
    let keys = keys(&house, 3).await;
    house.act(&keys[1], Action::Activate).await.unwrap();
    let destroyed = house.act(&keys[2], Action::Destroy).await.unwrap();
    let mut asked = new(BulkAction::Activate, "1,rest");
    asked.scope = BulkScope::Keys(keys.iter().map(|key| key.key.id).collect());
    let plan = house.ops.bulk_plan(&call(None), &asked).await.unwrap();
    let told = plan.keys.iter().map(|key| {
        let code = key.why.as_ref().map_or("", |why| &why.code);
        (key.wave, key.is_refused, code, key.keystores)
    });
    let expected = [
        (1, false, "", 3),
        (0, false, "nothing_to_do", 0),
        (0, true, "state_conflict", 0),
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected, "{plan:?}");
    assert_eq!(
        state(&house, keys[0].key.id).await,
        ManagedState::PreActivation
    );
    // The same again, until anything of it is another thing.
    let same = house.ops.bulk_plan(&call(None), &asked).await.unwrap();
    assert_eq!(same.digest, plan.digest);
    house.act(&keys[0], Action::Activate).await.unwrap();
    let other = house.ops.bulk_plan(&call(None), &asked).await.unwrap();
    assert_ne!(other.digest, plan.digest);
    asked.plan = Some(plan.digest);
    let refused = house.ops.bulk_create(&call(None), asked.clone()).await;
    assert_eq!(refused.unwrap_err().code(), "plan_changed");
    asked.plan = Some(other.digest);
    let view = made(&house, asked).await;
    assert_eq!((view.left_out, view.waves[0].keys()), (3, 0));
    let ended = carried_on(&house, view.bulk.id).await;
    assert_eq!(ended.bulk.state, BulkState::Done);
    assert_eq!(
        state(&house, destroyed.key.id).await,
        ManagedState::Destroyed
    );
}

#[tokio::test]
async fn waves_follow_each_other_and_each_key_is_changed_once() {
    let house = House::furnished().await;
    let keys = keys(&house, 12).await;
    let other = house.ops.clone();
    let view = made(&house, new(BulkAction::Activate, "")).await;
    let id = view.bulk.id;
    let sizes: Vec<u32> = view.waves.iter().map(|wave| wave.pending).collect();
    assert_eq!(sizes, [1, 2, 9]);
    // Two coordinators side by side.
    let (one, two) = tokio::join!(house.ops.bulk_pass(), other.bulk_pass());
    assert!(one.is_ok() && two.is_ok());
    assert_eq!(self::view(&house, id).await.bulk.wave, 1);
    let untouched = state(&house, keys[11].key.id).await;
    assert_eq!(untouched, ManagedState::PreActivation);
    for _pass in 0..100 {
        let (one, two) = tokio::join!(house.ops.bulk_pass(), other.bulk_pass());
        assert!(one.is_ok() && two.is_ok());
        for key in &keys {
            house.settled(key.key.id).await;
        }
        if self::view(&house, id).await.bulk.state == BulkState::Done {
            break;
        }
    }
    let ended = self::view(&house, id).await;
    assert_eq!(ended.bulk.state, BulkState::Done);
    assert_eq!(ended.waves.iter().map(|wave| wave.done).sum::<u32>(), 12);
    for key in &keys {
        assert_eq!(activations(&house, key.key.id).await, [Some(id)]);
    }
}

#[tokio::test]
async fn the_same_request_makes_one() {
    let house = House::furnished().await;
    keys(&house, 2).await;
    let asked = new(BulkAction::Activate, "");
    let first = house
        .ops
        .bulk_create(&again("b1", "x"), asked.clone())
        .await;
    let second = house
        .ops
        .bulk_create(&again("b1", "x"), asked.clone())
        .await;
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.value.bulk.id, second.value.bulk.id);
    assert!(second.replayed && !first.replayed);
    let other = house.ops.bulk_create(&again("b1", "y"), asked).await;
    assert_eq!(other.unwrap_err(), OpsError::IdempotencyReused);
    let all = house
        .ops
        .bulk_list(&call(None), vec![], Page::LARGEST)
        .await;
    assert_eq!(all.unwrap().total, 1);
}

#[tokio::test]
async fn a_refusal_that_was_not_foreseen_stops_it_and_resume_tries_again() {
    let house = House::furnished().await;
    let keys = keys(&house, 4).await;
    let view = made(&house, new(BulkAction::Activate, "2,rest")).await;
    let id = view.bulk.id;
    // Meanwhile the vault demands more copies than there are.
    let copies = |min_copies| {
        let patch = VaultPatch {
            min_copies: Some(min_copies),
            ..VaultPatch::default()
        };
        async {
            let vault = house.ops.vault(&call(None), house.vault).await.unwrap();
            let now = call(Some(vault.vault.revision.0));
            house
                .ops
                .vault_update(&now, house.vault, patch)
                .await
                .unwrap();
        }
    };
    copies(2).await;
    let stopped = carried_on(&house, id).await;
    assert_eq!(paused(&stopped), Some(PauseReason::Refused));
    let expected = [
        "k00 1 refused too_few_copies",
        "k01 1 pending",
        "k02 2 pending",
        "k03 2 pending",
    ];
    assert_eq!(told(&house, id).await, expected);
    for key in &keys {
        assert_eq!(state(&house, key.key.id).await, ManagedState::PreActivation);
    }
    assert_eq!(house.ops.bulk_pass().await, Ok(false), "nothing runs");

    copies(1).await;
    let now = call(Some(stopped.bulk.revision.0));
    house.ops.bulk_resume(&now, id, false).await.unwrap();
    let stale = house.ops.bulk_cancel(&now, id).await.unwrap_err();
    assert!(matches!(stale, OpsError::EtagMismatch { .. }), "{stale}");
    let ended = carried_on(&house, id).await;
    assert_eq!(ended.bulk.state, BulkState::Done);
    assert_eq!(told(&house, id).await[0], "k00 1 done");
    assert_eq!(activations(&house, keys[0].key.id).await, [Some(id)]);
}

#[tokio::test]
async fn what_people_did_meanwhile_stands_and_a_pause_holds() {
    let house = House::furnished().await;
    let keys = keys(&house, 3).await;
    let view = made(&house, new(BulkAction::Activate, "rest")).await;
    let id = view.bulk.id;
    let now = call(Some(view.bulk.revision.0));
    let done = house.ops.bulk_pause(&now, id).await.unwrap().value;
    assert_eq!(paused(&done), Some(PauseReason::Person));
    assert_eq!(house.ops.bulk_pass().await, Ok(false));
    assert_eq!(
        state(&house, keys[0].key.id).await,
        ManagedState::PreActivation
    );
    // One is destroyed, one is activated by hand.
    house.act(&keys[1], Action::Destroy).await.unwrap();
    house.act(&keys[2], Action::Activate).await.unwrap();
    let now = call(Some(done.bulk.revision.0));
    house.ops.bulk_resume(&now, id, false).await.unwrap();
    let ended = carried_on(&house, id).await;
    assert_eq!(ended.bulk.state, BulkState::Done);
    let expected = [
        "k00 1 done",
        "k01 1 skipped changed_meanwhile",
        "k02 1 skipped already",
    ];
    assert_eq!(told(&house, id).await, expected);
    let over = call(Some(ended.bulk.revision.0));
    let refused = house.ops.bulk_cancel(&over, id).await.unwrap_err();
    assert_eq!(refused.code(), "not_open");
}

#[tokio::test]
async fn a_wave_that_is_not_confirmed_in_time_pauses_it() {
    let house = House::furnished().await;
    let keys = keys(&house, 3).await;
    house.agents.cut("a");
    let mut asked = new(BulkAction::Activate, "1,rest");
    asked.confirm_within_s = Some(60);
    let start = lockstep::clock::unix_ms();
    house.clock.store(start.0, Ordering::SeqCst);
    let id = made(&house, asked).await.bulk.id;
    house.ops.bulk_pass().await.unwrap();
    house.settled(keys[0].key.id).await;
    house.ops.bulk_pass().await.unwrap();
    assert_eq!(view(&house, id).await.waves[0].changing, 1);
    let later = |ms: i64| house.clock.store(UnixMs(start.0 + ms).0, Ordering::SeqCst);
    later(59_000);
    house.ops.bulk_pass().await.unwrap();
    assert_eq!(view(&house, id).await.bulk.state, BulkState::Running);
    later(61_000);
    house.ops.bulk_pass().await.unwrap();
    let late = view(&house, id).await;
    assert_eq!(paused(&late), Some(PauseReason::NotConfirmed));
    let BulkState::Paused { message, .. } = &late.bulk.state else {
        panic!("{late:?}");
    };
    assert!(message.contains("first k00: a: not known"), "{message}");
    // It has its time again; or is left behind.
    let now = call(Some(late.bulk.revision.0));
    let resumed = house.ops.bulk_resume(&now, id, false).await.unwrap().value;
    house.ops.bulk_pass().await.unwrap();
    assert_eq!(view(&house, id).await.bulk.state, BulkState::Running);
    let now = call(Some(resumed.bulk.revision.0));
    let pause = house.ops.bulk_pause(&now, id).await.unwrap().value;
    let now = call(Some(pause.bulk.revision.0));
    let resumed = house.ops.bulk_resume(&now, id, true).await.unwrap().value;
    assert_eq!(resumed.bulk.wave, 2);
    house.agents.mend("a");
    let ended = carried_on(&house, id).await;
    assert_eq!(ended.bulk.state, BulkState::Done);
    assert_eq!(
        told(&house, id).await,
        ["k00 1 done", "k01 2 done", "k02 2 done"]
    );
}

#[tokio::test]
async fn what_takes_use_away_goes_at_once_and_waits_for_nobody() {
    let house = House::furnished().await;
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(house.active(&format!("k{number}")).await.key.id);
    }
    house.agents.cut("a");
    let view = made(&house, new(BulkAction::Deactivate, "")).await;
    assert_eq!(view.waves.len(), 1);
    house.ops.bulk_pass().await.unwrap();
    for id in ids {
        assert_eq!(state(&house, id).await, ManagedState::Deactivated);
    }
    let waves = made(&house, new(BulkAction::Deactivate, "1,rest")).await;
    assert_eq!(
        waves.bulk.stop_on.name(),
        "out_of_step",
        "who asks for waves"
    );
}

#[tokio::test]
async fn keys_that_are_only_in_a_group_can_go_first() {
    let house = House::empty().await;
    house.keystore("home", Variant::Internal, &["prod"]).await;
    house
        .keystore("test", Variant::External, &["prod", "canary"])
        .await;
    house
        .template("T", lockstep::model::key::Algorithm::Aes, 256)
        .await;
    let keys = keys(&house, 2).await;
    let record = &keys[1].keystores;
    let canary = record.iter().find(|row| row.name == "test").unwrap();
    let only = [canary.keystore].into_iter().collect();
    let now = on(&keys[1]);
    let put = house.ops.key_targets_put(&now, keys[1].key.id, only).await;
    put.unwrap();
    let view = made(&house, new(BulkAction::Activate, "group:canary,rest")).await;
    let filter = BulkKeyFilter::default();
    let page = Page::LARGEST;
    let page = store::Page {
        limit: page.limit,
        offset: page.offset,
    };
    let rows = house.store.bulk_keys(view.bulk.id, filter, page).await;
    let waves: Vec<_> = rows.unwrap().items.iter().map(|row| row.wave).collect();
    assert_eq!(waves, [2, 1]);
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_by_name() {
    let house = House::furnished().await;
    let refused = async |asked: BulkNew| {
        let error = house.ops.bulk_create(&call(None), asked).await.unwrap_err();
        let OpsError::Invalid { field, code, .. } = error else {
            panic!("{error}");
        };
        format!("{field} {code}")
    };
    let none = new(BulkAction::Activate, "");
    assert_eq!(refused(none.clone()).await, "filter no_keys");
    let id = house.key("k").await.key.id;
    let twice = BulkNew {
        scope: BulkScope::Keys(vec![id, id]),
        ..none.clone()
    };
    assert_eq!(refused(twice).await, "managed_keys duplicate");
    let endless = BulkNew {
        confirm_within_s: Some(0),
        ..none.clone()
    };
    assert_eq!(refused(endless).await, "confirm_within_s invalid_value");
    assert_eq!(
        refused(new(BulkAction::Sync, "1")).await,
        "waves invalid_waves"
    );
    let all = house
        .ops
        .bulk_list(&call(None), vec![], Page::LARGEST)
        .await;
    assert_eq!(all.unwrap().total, 0);
}
