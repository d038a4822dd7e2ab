//! What only the SQLite store must do: keep, lock, refuse, fill up, and survive its process.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lockstep::coordinator::store::sqlite::restored::RestoredStore;
use lockstep::coordinator::store::sqlite::{OpenError, Settings, SqliteStore};
use lockstep::coordinator::store::{Change, Store, StoreError, Write};
use lockstep::model::desired::Want;
use lockstep::model::difference::Seen;
use lockstep::model::ids::{Revision, Term};
use lockstep::model::live::LastSeen;
use lockstep::model::recovery::Evidence;
use lockstep::model::vault::{UnixMs, Vault};

use crate::store_contract::records::{audit, change, copy, fingerprint, operation, put, vault};
use crate::store_contract::{ALL, BEFORE_TIME, Estate, contract, estate};

pub(crate) fn open(path: &Path) -> SqliteStore {
    SqliteStore::open(path, Settings::default()).unwrap()
}

/// A path for a store, and the directory that goes when the test ends.
pub(crate) fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.db");
    (directory, path)
}

pub(crate) fn insert(vault: &Vault) -> Change {
    change(vec![Write::VaultInsert(vault.clone())])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn meets_the_contract() {
    let (_directory, path) = place();
    contract(Arc::new(open(&path))).await;
}

/// Everything that the trait can tell of an estate, as text.
pub(crate) async fn told(store: &dyn Store, estate: &Estate) -> String {
    let key = &estate.key;
    format!(
        "{:#?}",
        (
            store.vault_list(None, ALL).await.unwrap(),
            store.template_list(None, None, ALL).await.unwrap(),
            store.keystore_list(None, None, ALL).await.unwrap(),
            store.key(key.id).await.unwrap(),
            store.key_instances(key.id).await.unwrap(),
            store.copies(key.version).await.unwrap(),
            (
                store.key_of_version(key.version).await.unwrap(),
                store
                    .key_dated((None, "2100-01-01".to_owned()), None, 1000)
                    .await
                    .unwrap(),
                store.keys_of(key.vault, fingerprint()).await.unwrap(),
                store.strangers(estate.home.id).await.unwrap(),
            ),
            store.seen(key.version).await.unwrap(),
            store.operation("op").await.unwrap(),
            store.audit_list(None, ALL).await.unwrap(),
        )
    )
}

pub(crate) async fn furnish(store: &dyn Store) -> Estate {
    let estate = estate(store).await;
    let key = &estate.key;
    let activate = Change {
        operation: Some(operation("op", "POST", 7)),
        writes: vec![
            put(key, estate.home.id, 1, Want::Active, None),
            Write::CopyInsert {
                version: key.version,
                copy: copy(key, estate.home.id),
            },
        ],
        audit: vec![audit("key/1", "activated"), audit("key/1", "again")],
    };
    store.commit(activate).await.unwrap();
    let last = LastSeen {
        seen: Seen::Active,
        at: UnixMs(9),
        proved_at: None,
        proof: String::new(),
    };
    let home = estate.home.id;
    store
        .seen_put(home, vec![(key.version, last)])
        .await
        .unwrap();
    estate
}

#[tokio::test]
async fn reopening_keeps_everything() {
    let (_directory, path) = place();
    let store = open(&path);
    let estate = furnish(&store).await;
    let home = estate.home.id;
    let term = store.lease_take(home, Term(41)).await.unwrap();
    let before = told(&store, &estate).await;
    drop(store);
    let store = open(&path);
    assert_eq!(told(&store, &estate).await, before);
    assert_eq!(
        store.lease_take(home, Term(0)).await.unwrap(),
        Term(term.0 + 1)
    );
}

#[tokio::test]
async fn files_are_private() {
    let (directory, path) = place();
    std::fs::write(&path, b"").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let store = open(&path);
    store.ping().await.unwrap();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.path());
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    let expected = ["store.db", "store.db-shm", "store.db-wal", "store.db.lock"];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn second_coordinator_is_refused() {
    let (_directory, path) = place();
    let first = open(&path);
    let refused = SqliteStore::open(&path, Settings::default()).unwrap_err();
    let OpenError::InUse { holder, .. } = &refused else {
        panic!("{refused}");
    };
    assert_eq!(*holder, format!("process {}", std::process::id()));
    first.ping().await.unwrap();
    drop(first);
    open(&path).ping().await.unwrap();
}

#[tokio::test]
async fn newer_schema_is_refused_and_left_alone() {
    let (_directory, path) = place();
    drop(open(&path));
    let sql = rusqlite::Connection::open(&path).unwrap();
    sql.pragma_update(None, "user_version", 99).unwrap();
    drop(sql);
    let before = std::fs::read(&path).unwrap();
    let refused = SqliteStore::open(&path, Settings::default()).unwrap_err();
    assert!(
        matches!(refused, OpenError::NewerSchema { found: 99, .. }),
        "{refused}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn damage_is_told_at_start() {
    let (_directory, path) = place();
    let store = open(&path);
    for _ in 0..200 {
        store.commit(insert(&vault("damaged"))).await.unwrap();
    }
    drop(store);
    let mut bytes = std::fs::read(&path).unwrap();
    let half = bytes.len() / 2;
    bytes[half..half + 4096].fill(0xa5);
    std::fs::write(&path, bytes).unwrap();
    let refused = SqliteStore::open(&path, Settings::default()).unwrap_err();
    assert!(matches!(refused, OpenError::Damaged { .. }), "{refused}");
    std::fs::write(
        &path,
        b"no database, but long enough to look like one to a reader",
    )
    .unwrap();
    let refused = SqliteStore::open(&path, Settings::default()).unwrap_err();
    assert!(refused.to_string().contains("store.db"), "{refused}");
}

#[tokio::test]
async fn fields_of_a_later_program_are_tolerated() {
    let (_directory, path) = place();
    let store = open(&path);
    let estate = estate(&store).await;
    drop(store);
    let sql = rusqlite::Connection::open(&path).unwrap();
    let touched = sql
        .execute("UPDATE key SET record = json_set(record, '$.later', 1)", [])
        .unwrap();
    assert_eq!(touched, 1);
    drop(sql);
    let store = open(&path);
    assert_eq!(store.key(estate.key.id).await.unwrap(), Some(estate.key));
}

#[tokio::test]
async fn a_copy_is_complete_has_no_name_and_says_that_it_is_one() {
    let (directory, path) = place();
    let store = open(&path);
    let estate = furnish(&store).await;
    let files = |directory: &Path| {
        let names = std::fs::read_dir(directory).unwrap();
        let names = names.map(|file| file.unwrap().file_name());
        names.collect::<BTreeSet<_>>()
    };
    let before = files(directory.path());
    let mut copy = store.backup(UnixMs(5)).await.unwrap();
    assert_eq!(files(directory.path()), before);
    assert_eq!(
        store.recovery().await.unwrap(),
        None,
        "the store itself is none"
    );

    let target = directory.path().join("copy.db");
    std::io::copy(&mut copy, &mut File::create(&target).unwrap()).unwrap();
    let checked = RestoredStore::check(&target).unwrap();
    assert_eq!(checked.made_at, Some(UnixMs(5)));
    let restored = open(&target);
    assert_eq!(told(&restored, &estate).await, told(&store, &estate).await);
    let known = restored.recovery().await.unwrap().unwrap();
    assert_eq!(
        known.evidence,
        [Evidence::Restored {
            backup_at: UnixMs(5)
        }]
    );
    // A copy of a copy says both.
    let mut copy = restored.backup(UnixMs(6)).await.unwrap();
    let second = directory.path().join("second.db");
    std::io::copy(&mut copy, &mut File::create(&second).unwrap()).unwrap();
    let checked = RestoredStore::check(&second).unwrap();
    assert_eq!(checked.made_at, Some(UnixMs(6)));
    std::fs::write(&second, "no store").unwrap();
    assert!(RestoredStore::check(&second).is_err());
}

#[tokio::test]
async fn full_store_keeps_what_it_has_and_recovers() {
    let (_directory, path) = place();
    let settings = Settings {
        pages_max: Some(100),
    };
    let store = SqliteStore::open(&path, settings).unwrap();
    let mut kept = Vec::new();
    let refused = loop {
        let next = vault("filling");
        match store.commit(insert(&next)).await {
            Ok(_) => kept.push(next),
            Err(error) => {
                assert_eq!(error, StoreError::Full);
                break next;
            }
        }
        assert!(kept.len() < 10_000, "it never fills");
    };
    assert!(kept.len() > 50);
    for record in &kept {
        assert_eq!(store.vault(record.id).await.unwrap().as_ref(), Some(record));
    }
    assert_eq!(store.vault(refused.id).await.unwrap(), None);
    // What makes room is still taken, and then there is room.
    for record in kept.drain(..20) {
        let delete = Write::VaultDelete {
            id: record.id,
            expected: Revision(1),
        };
        store.commit(change(vec![delete])).await.unwrap();
    }
    store.commit(insert(&refused)).await.unwrap();
    kept.push(refused);
    drop(store);
    let store = open(&path);
    let found = store.vault_list(None, ALL).await.unwrap();
    assert_eq!(found.total, u64::try_from(kept.len()).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_change_too_big_does_not_take_others_with_it() {
    let (_directory, path) = place();
    let settings = Settings {
        pages_max: Some(150),
    };
    let store = Arc::new(SqliteStore::open(&path, settings).unwrap());
    for _ in 0..10 {
        let mut callers = tokio::task::JoinSet::new();
        for number in 0..8 {
            let mut record = vault("mixed");
            if number == 3 {
                record.description = "x".repeat(1_000_000);
            }
            let store = Arc::clone(&store);
            callers.spawn(async move { (number, store.commit(insert(&record)).await) });
        }
        for (number, ended) in callers.join_all().await {
            let expected = if number == 3 {
                Err(StoreError::Full)
            } else {
                Ok(None)
            };
            assert_eq!(ended, expected, "{number}");
        }
    }
}

/// A file of the first schema, which knew nothing of keys that others made.
#[tokio::test]
async fn an_older_schema_is_brought_up_to_date_with_what_is_in_it() {
    let (_directory, path) = place();
    let store = open(&path);
    let estate = furnish(&store).await;
    let before = told(&store, &estate).await;
    drop(store);
    let sql = rusqlite::Connection::open(&path).unwrap();
    sql.execute_batch(BEFORE_TIME).unwrap();
    sql.execute_batch(
        "DROP TABLE recovery; DROP TABLE stranger;
         DROP TABLE kek_rotation;
         DROP INDEX copy_kek; ALTER TABLE copy DROP COLUMN kek;
         DROP TABLE ignored;
         DROP INDEX instance_adopted; ALTER TABLE instance DROP COLUMN adopted_id;
         DROP INDEX key_fingerprint; ALTER TABLE key DROP COLUMN fingerprint;
         PRAGMA user_version = 1;",
    )
    .unwrap();
    drop(sql);
    let store = open(&path);
    assert_eq!(told(&store, &estate).await, before);
    let key = estate.key;
    let found = store.keys_of(key.vault, key.fingerprint.unwrap()).await;
    assert_eq!(found.unwrap(), [key]);
}
