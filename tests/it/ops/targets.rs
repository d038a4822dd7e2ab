//! Where a key is wanted: by hand and by group.

use std::collections::BTreeSet;

use crate::ops::{House, call, on, phase, row, rows};
use lockstep::coordinator::ops::differences::DifferenceQuery;
use lockstep::coordinator::ops::errors::OpsError;
use lockstep::coordinator::ops::keystores::{KeystorePatch, KeystoreQuery};
use lockstep::coordinator::ops::lists::Page;
use lockstep::model::capabilities::{Capabilities, Unwrap};
use lockstep::model::desired::Want;
use lockstep::model::difference::Reason;
use lockstep::model::ids::KeystoreId;
use lockstep::model::key::Algorithm;
use lockstep::model::keystore::OaepHash;
use lockstep::model::lifecycle::Action;
use lockstep::model::observed::Observation;

#[tokio::test]
async fn a_removed_target_is_disabled_kept_and_can_come_back() {
    let house = House::furnished().await;
    let active = house.active("K").await;
    let b = row(&active, "b").keystore;
    house
        .ops
        .key_unassign(&on(&active), active.key.id, b)
        .await
        .unwrap();
    let less = house.settled(active.key.id).await;
    assert!(!less.is_aligned);
    assert_eq!(rows(&less)[1], "b in_sync not_active ok");
    assert_eq!(
        row(&less, "b").sync_detail.name(),
        "target_keystore_removed_by_user"
    );
    assert_eq!(phase(&less), "in_step 2/2");
    house
        .ops
        .key_assign(&on(&less), active.key.id, b)
        .await
        .unwrap();
    let more = house.settled(active.key.id).await;
    assert_eq!(rows(&more)[1], "b in_sync active ok");
    assert_eq!(
        row(&more, "b")
            .instance
            .as_ref()
            .unwrap()
            .intent
            .generation
            .0,
        3
    );
}

#[tokio::test]
async fn a_removed_target_that_is_usable_again_is_told_and_synced() {
    let house = House::furnished().await;
    let active = house.active("K").await;
    let b = row(&active, "b").keystore;
    house
        .ops
        .key_unassign(&on(&active), active.key.id, b)
        .await
        .unwrap();
    let less = house.settled(active.key.id).await;
    let enabled = crate::ops::agents::objects(row(&active, "b").instance.as_ref().unwrap());
    house.agents.with("b", |agent| {
        let report = agent.held.get_mut(&active.key.version).unwrap();
        report.observation = Observation::Present(enabled);
    });
    let told = house.settled(active.key.id).await;
    assert_eq!(
        rows(&told)[1],
        "b drift active out_of_sync removed_target_active"
    );
    assert_eq!(phase(&told), "out_of_step 2/3");
    house.ops.key_sync(&on(&less), active.key.id).await.unwrap();
    assert_eq!(phase(&house.settled(active.key.id).await), "in_step 2/2");
}

#[tokio::test]
async fn destroying_reaches_targets_that_were_removed() {
    let house = House::furnished().await;
    let active = house.active("K").await;
    let b = row(&active, "b").keystore;
    house
        .ops
        .key_unassign(&on(&active), active.key.id, b)
        .await
        .unwrap();
    let view = house.settled(active.key.id).await;
    let view = house.act(&view, Action::Deactivate).await.unwrap();
    house.act(&view, Action::Destroy).await.unwrap();
    let gone = house.settled(active.key.id).await;
    assert_eq!(phase(&gone), "in_step 3/3");
    assert_eq!(
        row(&gone, "b").instance.as_ref().unwrap().intent.want,
        Want::Destroyed
    );
}

#[tokio::test]
async fn groups_change_nothing_until_the_key_is_updated_from_its_template() {
    let house = House::furnished().await;
    let active = house.active("K").await;
    let (a, id) = (row(&active, "a").keystore, active.key.id);
    let named = KeystoreQuery {
        name: Some("C".to_owned()),
        ..KeystoreQuery::default()
    };
    let one = Page {
        limit: 1,
        offset: 0,
    };
    let found = house.ops.keystore_list(&call(None), named, one).await;
    let c = found.unwrap().items.remove(0).record.id;
    for (keystore, groups) in [(a, &[][..]), (c, &["prod".to_owned()][..])] {
        let patch = KeystorePatch {
            groups: Some(groups.iter().cloned().collect()),
            ..KeystorePatch::default()
        };
        house
            .ops
            .keystore_update(&call(Some(1)), keystore, patch)
            .await
            .unwrap();
    }
    let before = house.settled(id).await;
    assert_eq!(before.key, active.key);
    let dry = house
        .ops
        .key_update_from_template(&on(&active), id, true)
        .await
        .unwrap();
    assert!(dry.value.key.targets.contains(&c) && !dry.value.key.targets.contains(&a));
    assert_eq!(
        house.settled(id).await.key,
        active.key,
        "a dry run stores nothing"
    );
    house
        .ops
        .key_update_from_template(&on(&active), id, false)
        .await
        .unwrap();
    let after = house.settled(id).await;
    let told = [
        "a in_sync not_active ok",
        "b in_sync active ok",
        "c in_sync active ok",
        "home in_sync active ok",
    ];
    assert_eq!(rows(&after), told);
    assert!(after.is_aligned);
}

#[tokio::test]
async fn targets_by_hand_until_the_template_is_taken_again() {
    let house = House::furnished().await;
    let active = house.active("K").await;
    let id = active.key.id;
    let only: BTreeSet<KeystoreId> = [row(&active, "a").keystore].into();
    let put = house
        .ops
        .key_targets_put(&on(&active), id, only.clone())
        .await
        .unwrap();
    assert_eq!(
        (&put.value.key.targets, put.value.is_aligned),
        (&only, false)
    );
    let stranger: BTreeSet<KeystoreId> = [KeystoreId::from_uuid(uuid::Uuid::nil())].into();
    let refused = house
        .ops
        .key_targets_put(&on(&put.value), id, stranger)
        .await;
    assert!(matches!(refused, Err(OpsError::Invalid { field, .. }) if field == "keystores"));
    let back = house
        .ops
        .key_update_from_template(&on(&put.value), id, false)
        .await
        .unwrap();
    assert_eq!(
        (back.value.key.targets.len(), back.value.is_aligned),
        (3, true)
    );
}

/// What its token cannot have is refused when it is asked for, with what would work.
#[tokio::test]
async fn a_keystore_that_the_key_cannot_get_to_is_no_target() {
    let house = House::furnished().await;
    let key = house.key("K").await;
    let all = key.key.targets.clone();
    let named = KeystoreQuery {
        name: Some("c".to_owned()),
        ..KeystoreQuery::default()
    };
    let caller = call(None);
    let listed = house.ops.keystore_list(&caller, named, Page::LARGEST);
    let c = listed.await.unwrap().items[0].record.id;
    let refused = async |change: fn(&mut Capabilities)| {
        house.agents.with("c", |agent| {
            agent.capabilities = Capabilities::best();
            change(&mut agent.capabilities);
        });
        let done = house.ops.key_assign(&on(&key), key.key.id, c).await;
        match done {
            Err(OpsError::Refused { code, reason }) => format!("{code}: {reason}"),
            other => panic!("{other:?}"),
        }
    };
    let told = refused(|can| can.kinds.retain(|kind| kind.algorithm != Algorithm::Aes)).await;
    let text = "not_supported_by_token: keystore \"c\": the token takes no aes keys, only des, ec, hmac, rsa";
    assert_eq!(told, text);
    let told = refused(|can| {
        for kind in &mut can.kinds {
            kind.sizes.retain(|bits| *bits != 256);
        }
    });
    let text = "not_supported_by_token: keystore \"c\": the token takes no aes keys of 256 bits, only of 128, 192";
    assert_eq!(told.await, text);
    let told = refused(|can| {
        for kind in &mut can.kinds {
            kind.unwrap = Unwrap::Impossible;
        }
    });
    assert!(told.await.starts_with("not_supported_by_token: "));
    let told = refused(|can| can.oaep_hashes = vec![OaepHash::Sha256]).await;
    let text = "no_common_wrapping: keystore \"c\": no keystore that holds the secret key can wrap it for that token: \
                it has rfc5649, cbc_pad, direct_oaep, sha1, the token takes rfc5649, cbc_pad, direct_oaep, sha256";
    assert_eq!(told, text);
    assert_eq!(house.settled(key.key.id).await.key.targets, all);
    house.agents.with("c", |agent| {
        agent.capabilities.oaep_hashes = OaepHash::ALL.to_vec()
    });
    let done = house
        .ops
        .key_assign(&on(&key), key.key.id, c)
        .await
        .unwrap();
    assert_eq!(done.value.key.targets.len(), 4);
}

#[tokio::test]
async fn a_destroyed_key_keeps_its_targets_and_a_compromised_one_gets_none() {
    let house = House::furnished().await;
    let active = house.active("K").await;
    let id = active.key.id;
    let all = active.key.targets.clone();
    let only: BTreeSet<KeystoreId> = [row(&active, "a").keystore].into();
    house
        .ops
        .key_targets_put(&on(&active), id, only.clone())
        .await
        .unwrap();
    let view = house.settled(id).await;
    let compromised = house.act(&view, Action::Compromise).await.unwrap();
    let more = house.ops.key_targets_put(&on(&compromised), id, all).await;
    assert!(matches!(more, Err(OpsError::StateConflict { .. })));
    let destroyed = house.act(&compromised, Action::Destroy).await.unwrap();
    let changed = house
        .ops
        .key_targets_put(&on(&destroyed), id, BTreeSet::new())
        .await;
    assert!(matches!(changed, Err(OpsError::StateConflict { .. })));
}

#[tokio::test]
async fn differences_of_the_whole_estate() {
    let house = House::furnished().await;
    for label in ["K1", "K2"] {
        let key = house.active(label).await;
        house.agents.with("a", |agent| {
            let report = agent.held.get_mut(&key.key.version).unwrap();
            report.observation = Observation::Absent { same_label: vec![] };
        });
    }
    house.agents.cut("b");
    let list = |query: DifferenceQuery, limit, offset| {
        let ops = house.ops.clone();
        async move {
            let page = Page { limit, offset };
            let found = ops.difference_list(&call(None), query, page).await.unwrap();
            let names: Vec<String> = found
                .items
                .iter()
                .map(|view| format!("{} {}", view.in_keystore.name, view.label))
                .collect();
            (found.total, names.join("; "))
        }
    };
    let all = list(DifferenceQuery::default(), 50, 0).await;
    assert_eq!(all, (4, "a K1; a K2; b K1; b K2".to_owned()));
    assert_eq!(list(DifferenceQuery::default(), 2, 1).await.1, "a K2; b K1");
    let missing = DifferenceQuery {
        reason: Some(Reason::Missing),
        ..DifferenceQuery::default()
    };
    assert_eq!(list(missing, 50, 0).await, (2, "a K1; a K2".to_owned()));
}
