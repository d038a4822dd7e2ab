//! What holds for every change: ETags, repetition, rights, atomicity.

use crate::ops::{House, again, call, on};
use lockstep::coordinator::ops::access::{Call, Principal, Rights};
use lockstep::coordinator::ops::errors::OpsError;
use lockstep::coordinator::ops::keys::{KeyPatch, KeyQuery};
use lockstep::coordinator::ops::lists::Page;
use lockstep::coordinator::ops::vaults::{VaultNew, VaultPatch};
use lockstep::model::ids::Revision;
use lockstep::model::lifecycle::Action;

#[tokio::test]
async fn a_change_needs_the_etag_of_now() {
    let house = House::furnished().await;
    let key = house.key("K").await;
    let id = key.key.id;
    let blind = house.ops.key_act(&call(None), id, Action::Activate).await;
    let current = Revision(1);
    assert_eq!(
        blind.unwrap_err(),
        OpsError::PreconditionRequired { current }
    );
    let stale = house
        .ops
        .key_act(&call(Some(7)), id, Action::Activate)
        .await;
    assert_eq!(stale.unwrap_err(), OpsError::EtagMismatch { current });
    house
        .ops
        .key_act(&on(&key), id, Action::Activate)
        .await
        .unwrap();
    let late = house.ops.key_act(&on(&key), id, Action::Deactivate).await;
    let current = Revision(2);
    assert_eq!(late.unwrap_err(), OpsError::EtagMismatch { current });
    let patch = VaultPatch::default();
    let blind = house
        .ops
        .vault_update(&call(None), house.vault, patch)
        .await;
    assert!(matches!(blind, Err(OpsError::PreconditionRequired { .. })));
}

#[tokio::test]
async fn of_two_with_one_etag_one_wins() {
    let house = House::furnished().await;
    let key = house.key("K").await;
    let id = key.key.id;
    let describe = |text: &str| KeyPatch {
        description: Some(text.to_owned()),
        ..KeyPatch::default()
    };
    let (caller, ops) = (on(&key), &house.ops);
    let (one, two) = tokio::join!(
        ops.key_update(&caller, id, describe("one")),
        ops.key_update(&caller, id, describe("two")),
    );
    let lost: Vec<OpsError> = [one, two].into_iter().filter_map(Result::err).collect();
    assert_eq!(
        lost,
        [OpsError::EtagMismatch {
            current: Revision(2)
        }]
    );
}

#[tokio::test]
async fn the_same_request_again_gives_the_same_key() {
    let house = House::furnished().await;
    let create = |key: &str, body: &str| {
        let (caller, new) = (again(key, body), house.key_new(body));
        let ops = house.ops.clone();
        async move { ops.key_create(&caller, new).await }
    };
    let first = create("idem-1", "K").await.unwrap();
    assert_eq!(
        (first.operation.as_str(), first.replayed),
        ("idem-1", false)
    );
    let second = create("idem-1", "K").await.unwrap();
    assert_eq!(
        (second.value.key.id, second.replayed),
        (first.value.key.id, true)
    );
    let other = create("idem-1", "L").await;
    assert_eq!(other.unwrap_err(), OpsError::IdempotencyReused);
    let (one, two) = tokio::join!(create("idem-2", "M"), create("idem-2", "M"));
    let ids = [one.unwrap().value.key.id, two.unwrap().value.key.id];
    assert_eq!(ids[0], ids[1]);
    let page = Page {
        limit: 10,
        offset: 0,
    };
    let all = house
        .ops
        .key_list(&call(None), KeyQuery::default(), page)
        .await
        .unwrap();
    assert_eq!(all.total, 2);
}

#[tokio::test]
async fn a_repeated_action_does_not_stumble_over_its_own_etag() {
    let house = House::furnished().await;
    let key = house.key("K").await;
    let caller = Call {
        if_match: Some(key.key.revision),
        ..again("idem", "activate")
    };
    for replayed in [false, true, true] {
        let done = house
            .ops
            .key_act(&caller, key.key.id, Action::Activate)
            .await;
        let done = done.unwrap();
        assert_eq!(
            (done.replayed, done.value.key.revision),
            (replayed, Revision(2))
        );
    }
    let bad = house
        .ops
        .vault_create(&again("with space", "x"), VaultNew::default())
        .await;
    assert!(matches!(bad, Err(OpsError::Invalid { field, .. }) if field == "Idempotency-Key"));
}

#[tokio::test]
async fn who_may_only_look_changes_nothing() {
    let house = House::furnished().await;
    let key = house.key("K").await;
    let reader = Call {
        principal: Principal {
            name: "reader".to_owned(),
            rights: Rights::Read,
        },
        ..on(&key)
    };
    let id = key.key.id;
    assert!(house.ops.key(&reader, id).await.is_ok());
    let refusals = [
        house.ops.key_act(&reader, id, Action::Activate).await.err(),
        house.ops.key_sync(&reader, id).await.err(),
        house.ops.key_remove(&reader, id, true).await.err(),
        house
            .ops
            .key_create(&reader, house.key_new("L"))
            .await
            .err(),
        house.ops.vault_delete(&reader, house.vault).await.err(),
    ];
    for refusal in refusals {
        assert!(
            matches!(refusal, Some(OpsError::Forbidden { .. })),
            "{refusal:?}"
        );
    }
}

#[tokio::test]
async fn what_was_not_committed_wakes_nobody() {
    let house = House::furnished().await;
    house.key("K").await;
    house.agents.woken.lock().unwrap().clear();
    let taken = house.ops.key_create(&call(None), house.key_new("K")).await;
    assert!(matches!(taken, Err(OpsError::Taken { field, .. }) if field == "label"));
    assert!(house.agents.woken.lock().unwrap().is_empty());
}
