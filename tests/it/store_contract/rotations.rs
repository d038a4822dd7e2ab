//! Rotations of wrapping keys: who demands which, and which copies are still under which.

use lockstep::coordinator::store::sqlite::{Settings, SqliteStore};
use lockstep::coordinator::store::{Store, StoreError, Write};
use lockstep::model::ids::{KeystoreId, Revision};
use lockstep::model::kek::{KekNumber, KekRotation, RotationState};
use lockstep::model::key::ManagedKey;
use lockstep::model::material::RepositoryCopy;
use lockstep::model::vault::UnixMs;
use uuid::Uuid;

use crate::store_contract::records::{change, copy, key};
use crate::store_contract::{BEFORE_TIME, Estate, conflict, estate, not_found, try_one};

const SECOND: KekNumber = KekNumber::from_number(2);

fn asked(keystore: KeystoreId, revision: u64) -> KekRotation {
    KekRotation {
        keystore,
        revision: Revision(revision),
        asked_at: UnixMs(1),
        state: RotationState::Asked,
        trouble: None,
    }
}

fn demanding(keystore: KeystoreId, revision: u64) -> KekRotation {
    KekRotation {
        state: RotationState::Rewrapping {
            to: SECOND,
            total: 1,
        },
        ..asked(keystore, revision)
    }
}

fn put(record: &KekRotation, expected: Option<u64>) -> Write {
    Write::KekRotationPut {
        record: record.clone(),
        expected: expected.map(Revision),
    }
}

fn insert(key: &ManagedKey, copy: RepositoryCopy) -> Write {
    Write::CopyInsert {
        version: key.version,
        copy,
    }
}

pub(crate) async fn rotations(store: &dyn Store) {
    let Estate {
        template,
        home,
        away,
        key: old,
        ..
    } = estate(store).await;
    let new = key(&template, "orders-2");
    let made = Write::KeyInsert(Box::new(new.clone()));
    store.commit(change(vec![made])).await.unwrap();
    for keystore in [home.id, away.id] {
        let write = insert(&old, copy(&old, keystore));
        try_one(store, write).await.unwrap();
    }
    assert_eq!(store.kek_rotation(home.id).await.unwrap(), None);
    let changed = conflict("kek_rotation", home.id);
    let first = asked(home.id, 1);
    let early = try_one(store, put(&first, Some(1))).await;
    assert_eq!(early, Err(changed.clone()));
    try_one(store, put(&first, None)).await.unwrap();
    assert_eq!(
        try_one(store, put(&first, None)).await,
        Err(changed.clone())
    );
    assert_eq!(store.kek_rotation(home.id).await.unwrap(), Some(first));
    let nobody = asked(KeystoreId::from_uuid(Uuid::new_v4()), 1);
    assert!(try_one(store, put(&nobody, None)).await.is_err());

    fenced(store, home.id, away.id, [&old, &new]).await;

    // It goes with its keystore, whose copies go before.
    for key in [&old, &new] {
        let version = key.version;
        try_one(store, Write::CopiesErase { version })
            .await
            .unwrap();
    }
    let delete = Write::KeystoreDelete {
        id: home.id,
        expected: home.revision,
    };
    try_one(store, delete.clone()).await.unwrap();
    assert_eq!(store.kek_rotation(home.id).await.unwrap(), None);
    let again = try_one(store, delete).await;
    assert_eq!(again, Err(not_found("keystore", home.id)));
}

/// Once it demands a wrapping key, and on its keystore alone.
async fn fenced(
    store: &dyn Store,
    home: KeystoreId,
    away: KeystoreId,
    [old, new]: [&ManagedKey; 2],
) {
    let changed = conflict("kek_rotation", home);
    let demanded = demanding(home, 2);
    try_one(store, put(&demanded, Some(1))).await.unwrap();
    let stale = try_one(store, put(&demanded, Some(1))).await;
    assert_eq!(stale, Err(changed.clone()));
    let late = insert(new, copy(new, home));
    assert_eq!(try_one(store, late).await, Err(changed.clone()));
    let under_second = |key, keystore| RepositoryCopy {
        kek: SECOND,
        ..copy(key, keystore)
    };
    try_one(store, insert(new, under_second(new, home)))
        .await
        .unwrap();
    try_one(store, insert(new, copy(new, away))).await.unwrap();

    let below = |kek, after| store.copies_below(home, kek, after, 10);
    let left = below(SECOND, None).await.unwrap();
    assert_eq!(left, [(old.version, copy(old, home))]);
    assert_eq!(below(SECOND, Some(old.version)).await.unwrap(), []);
    assert_eq!(below(KekNumber::FIRST, None).await.unwrap(), []);
    assert_eq!(store.copies_below_count(home, SECOND).await.unwrap(), 1);
    let add = |copy| Write::CopyAdd {
        version: old.version,
        copy,
    };
    let back = try_one(store, add(copy(old, home))).await;
    assert_eq!(back, Err(changed));
    try_one(store, add(under_second(old, home))).await.unwrap();
    assert_eq!(store.copies_below_count(home, SECOND).await.unwrap(), 0);
    assert_eq!(store.copies_below_count(away, SECOND).await.unwrap(), 2);
    let copies = store.copies(old.version).await.unwrap();
    assert!(copies.contains(&under_second(old, home)), "{copies:?}");
    assert!(copies.contains(&copy(old, away)), "{copies:?}");
}

#[tokio::test]
async fn copies_of_an_earlier_program_are_under_the_first_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    let open = || SqliteStore::open(&path, Settings::default()).unwrap();
    let store = open();
    let Estate { home, key, .. } = estate(&store).await;
    let write = Write::CopyInsert {
        version: key.version,
        copy: copy(&key, home.id),
    };
    try_one(&store, write).await.unwrap();
    drop(store);
    let sql = rusqlite::Connection::open(&path).unwrap();
    sql.execute_batch(BEFORE_TIME).unwrap();
    sql.execute_batch(
        "DROP TABLE recovery; DROP TABLE stranger;
         DROP INDEX copy_kek; ALTER TABLE copy DROP COLUMN kek; DROP TABLE kek_rotation;
         UPDATE copy SET record = json_remove(record, '$.kek'); PRAGMA user_version = 2;",
    )
    .unwrap();
    drop(sql);
    let store = open();
    let copies = store.copies(key.version).await.unwrap();
    assert_eq!(copies, [copy(&key, home.id)]);
    let left = store.copies_below(home.id, SECOND, None, 10).await;
    assert_eq!(left, Ok(vec![(key.version, copy(&key, home.id))]));
    let put = put(&demanding(home.id, 1), None);
    assert_eq!(try_one(&store, put).await, Ok::<(), StoreError>(()));
}
