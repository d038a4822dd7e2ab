//! Rotating a wrapping key, as it is asked for and shown.

use lockstep::coordinator::ops::errors::OpsError;
use lockstep::coordinator::store::{Change, Write};
use lockstep::model::ids::{KeystoreId, Revision};
use lockstep::model::kek::{KekNumber, KekRotation, RotationState};
use lockstep::model::keystore::Variant;
use lockstep::model::vault::UnixMs;

use crate::ops::{House, again, call};

/// As the reconciler writes it.
async fn put(house: &House, before: &KekRotation, state: RotationState) -> KekRotation {
    let record = KekRotation {
        revision: Revision(before.revision.0 + 1),
        state,
        ..before.clone()
    };
    let change = Change {
        writes: vec![Write::KekRotationPut {
            record: record.clone(),
            expected: Some(before.revision),
        }],
        ..Change::default()
    };
    house.store.commit(change).await.unwrap();
    record
}

async fn audited(house: &House, id: KeystoreId) -> usize {
    let page = lockstep::coordinator::store::Page {
        limit: 100,
        offset: 0,
    };
    let subject = Some(format!("keystore/{id}"));
    let entries = house.store.audit_list(subject, page).await.unwrap().items;
    let of = |action: &&str| *action == "keystore.rotate_kek";
    entries
        .iter()
        .map(|entry| entry.action.as_str())
        .filter(of)
        .count()
}

#[tokio::test]
async fn one_rotation_at_a_time_is_asked_for_and_shown() {
    let house = House::empty().await;
    let home = house.keystore("home", Variant::Internal, &[]).await;
    let away = house.keystore("away", Variant::External, &["prod"]).await;
    house
        .template("T", lockstep::model::key::Algorithm::Aes, 256)
        .await;
    let ops = &house.ops;
    for refused in [
        ops.kek_rotation(&call(None), away).await.unwrap_err(),
        ops.kek_rotate(&call(None), away).await.unwrap_err(),
    ] {
        assert!(
            matches!(&refused, OpsError::Refused { code, .. } if code == "not_internal"),
            "{refused}"
        );
    }
    let none = ops.kek_rotation(&call(None), home).await.unwrap();
    assert_eq!((none.rotation, none.left), (None, 0));
    let key = house.key("K").await.key;

    let first = ops.kek_rotate(&again("r", "1"), home).await.unwrap();
    let asked = first.value.rotation.unwrap();
    assert_eq!(asked.state, RotationState::Asked);
    // Once more, and the very same request once more: it is the one that is under way.
    let more = ops.kek_rotate(&call(None), home).await.unwrap();
    assert_eq!(more.value.rotation.as_ref(), Some(&asked));
    let same = ops.kek_rotate(&again("r", "1"), home).await.unwrap();
    assert!(same.replayed);
    assert_eq!(audited(&house, home).await, 1);

    let to = KekNumber::from_number(2);
    let rewrapping = RotationState::Rewrapping { to, total: 1 };
    let demanded = put(&house, &asked, rewrapping).await;
    let view = ops.kek_rotation(&call(None), home).await.unwrap();
    assert_eq!((view.left, view.waiting_for), (1, None));
    // What an agent made that had not heard of the new key is not taken in.
    let late = ops.key_create(&call(None), house.key_new("late")).await;
    let late = late.unwrap_err();
    assert!(matches!(late, OpsError::Conflict { .. }), "{late}");
    let mut copy = house.store.copies(key.version).await.unwrap().remove(0);
    copy.kek = to;
    let version = key.version;
    let change = Change {
        writes: vec![Write::CopyAdd { version, copy }],
        ..Change::default()
    };
    house.store.commit(change).await.unwrap();
    let view = ops.kek_rotation(&call(None), home).await.unwrap();
    assert_eq!(view.left, 0);
    let done = RotationState::Done {
        to,
        total: 1,
        at: UnixMs(7),
    };
    let done = put(&house, &demanded, done).await;
    let next = ops.kek_rotate(&call(None), home).await.unwrap();
    let next = next.value.rotation.unwrap();
    assert_eq!(next.state, RotationState::Asked);
    assert_eq!(next.revision, Revision(done.revision.0 + 1));
    assert_eq!(audited(&house, home).await, 2);
}
