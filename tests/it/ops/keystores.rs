//! Adding, changing and removing keystores.

use crate::ops::{House, call};
use lockstep::coordinator::ops::errors::OpsError;
use lockstep::coordinator::ops::keystore_removal::RemovalMode;
use lockstep::coordinator::ops::keystores::{HealthStatus, KeystoreNew, KeystorePatch};
use lockstep::model::ids::KeystoreId;
use lockstep::model::keystore::Variant;
use uuid::Uuid;

fn id(n: u128) -> KeystoreId {
    KeystoreId::from_uuid(Uuid::from_u128(n))
}

#[tokio::test]
async fn a_keystore_is_what_its_agent_says() {
    let house = House::empty().await;
    house.agents.add("unbound", None, Variant::External);
    house.agents.add("inner", Some(id(1)), Variant::Internal);
    let refusal = |new: KeystoreNew| {
        let ops = house.ops.clone();
        async move {
            ops.keystore_create(&call(None), new, false)
                .await
                .unwrap_err()
        }
    };
    let unbound = refusal(house.keystore_new("unbound", Variant::External, &[])).await;
    assert!(matches!(unbound, OpsError::Refused { code, .. } if code == "agent_not_bound"));
    let other = refusal(house.keystore_new("inner", Variant::External, &[])).await;
    assert!(matches!(other, OpsError::Refused { code, .. } if code == "variant_mismatch"));
    let nobody = refusal(house.keystore_new("nobody", Variant::External, &[])).await;
    assert!(matches!(nobody, OpsError::AgentUnreachable { .. }));
    for endpoint in [
        "http://inner:1",
        "https://inner",
        "https://inner:0",
        "https://u@inner:1",
        "",
    ] {
        let new = KeystoreNew {
            endpoint: endpoint.to_owned(),
            ..house.keystore_new("inner", Variant::Internal, &[])
        };
        let bad = refusal(new).await;
        assert!(
            matches!(&bad, OpsError::Invalid { field, .. } if field == "pkcs11_agent_endpoint"),
            "{endpoint}: {bad}"
        );
    }
}

#[tokio::test]
async fn a_dry_run_asks_the_agent_and_stores_nothing() {
    let house = House::empty().await;
    house.agents.add("inner", Some(id(1)), Variant::Internal);
    let new = house.keystore_new("inner", Variant::Internal, &["prod"]);
    let seen = house
        .ops
        .keystore_create(&call(None), new.clone(), true)
        .await
        .unwrap();
    assert_eq!(seen.value.record.id, id(1));
    assert!(house.store.keystore(id(1)).await.unwrap().is_none());
    let made = house
        .ops
        .keystore_create(&call(None), new.clone(), false)
        .await
        .unwrap();
    assert_eq!(made.value.health.status, HealthStatus::Ok);
    let twice = house.ops.keystore_create(&call(None), new, false).await;
    assert!(matches!(twice, Err(OpsError::Taken { .. })), "{twice:?}");
}

#[tokio::test]
async fn a_new_address_must_lead_to_the_same_agent() {
    let house = House::empty().await;
    let one = house.keystore("one", Variant::External, &[]).await;
    house.keystore("two", Variant::External, &[]).await;
    let moved = KeystorePatch {
        endpoint: Some("https://two:1".to_owned()),
        ..KeystorePatch::default()
    };
    let refused = house.ops.keystore_update(&call(Some(1)), one, moved).await;
    assert!(matches!(refused, Err(OpsError::Refused { code, .. }) if code == "agent_identity"));
    let moved = KeystorePatch {
        endpoint: Some("https://one:2".to_owned()),
        ..KeystorePatch::default()
    };
    let done = house
        .ops
        .keystore_update(&call(Some(1)), one, moved)
        .await
        .unwrap();
    assert_eq!(done.value.record.revision.0, 2);
    house.agents.cut("one");
    let view = house.ops.keystore(&call(None), one).await.unwrap();
    assert_eq!(view.health.status, HealthStatus::NotResponding);
}

#[tokio::test]
async fn a_keystore_with_keys_stays_and_one_with_pre_active_ones_goes() {
    let house = House::furnished().await;
    let pre_active = house.key("P").await;
    let active = house.active("K").await;
    let a = crate::ops::row(&active, "a").keystore;
    let used = house
        .ops
        .keystore_delete(&call(Some(1)), a, RemovalMode::Restrict)
        .await;
    assert!(
        matches!(used, Err(OpsError::InUse { count: 1, .. })),
        "{used:?}"
    );
    let later = house
        .ops
        .keystore_delete(&call(Some(1)), a, RemovalMode::Destroy)
        .await;
    assert!(matches!(later, Err(OpsError::Refused { code, .. }) if code == "not_supported_yet"));
    let d = house.keystore("d", Variant::External, &["prod"]).await;
    let caller = crate::ops::on(&pre_active);
    house
        .ops
        .key_update_from_template(&caller, pre_active.key.id, false)
        .await
        .unwrap();
    house
        .ops
        .keystore_delete(&call(Some(1)), d, RemovalMode::Restrict)
        .await
        .unwrap();
    let view = house.ops.key(&call(None), pre_active.key.id).await.unwrap();
    assert_eq!((view.key.targets.len(), view.key.revision.0), (3, 3));
}
