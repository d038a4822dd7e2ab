//! From SQLite to PostgreSQL: all of it, or nothing.

use std::sync::Arc;

use lockstep::coordinator::store::copy::{CopyError, copy};
use lockstep::coordinator::store::sqlite::OpenError;
use lockstep::coordinator::store::{Store, Write};
use lockstep::model::ids::{KeyVersionId, Revision, Term};
use lockstep::model::recovery::{Evidence, Recovery, Stranger};
use lockstep::model::vault::UnixMs;
use uuid::Uuid;

use crate::store_contract::records::{audit, change};
use crate::store_contract::sqlite::{furnish, open, place, told};
use crate::store_contract::{contract, postgres};
use crate::support::postgres::Server;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_is_there_and_goes_on_from_there() {
    let (_directory, path) = place();
    let server = Server::start();
    let settings = postgres::settings(&server);
    let store = Arc::new(open(&path));
    // Everything that a store can hold, more than one batch of it.
    contract(Arc::clone(&store) as Arc<dyn Store>).await;
    for _ in 0..20 {
        let mut noted = change(Vec::new());
        noted.audit = (0..50).map(|n| audit("many", &n.to_string())).collect();
        store.commit(noted).await.unwrap();
    }
    let estate = furnish(&*store).await;
    let found_old = change(vec![
        Write::RecoveryPut {
            record: Some(Recovery {
                revision: Revision(1),
                noticed_at: UnixMs(5),
                evidence: vec![Evidence::Restored {
                    backup_at: UnixMs(4),
                }],
            }),
            expected: None,
        },
        Write::StrangerPut(Stranger {
            keystore: estate.home.id,
            version: KeyVersionId::from_uuid(Uuid::new_v4()),
            seen_at: UnixMs(6),
        }),
    ]);
    store.commit(found_old).await.unwrap();
    let term = store.lease_take(estate.home.id, Term(41)).await.unwrap();
    let before = told(&*store, &estate).await;
    let behind = store.recovery().await.unwrap();
    assert!(behind.is_some());

    let in_use = copy(&path, &settings).await;
    assert!(
        matches!(in_use, Err(CopyError::Source(OpenError::InUse { .. }))),
        "{in_use:?}"
    );
    drop(store);
    let copied = copy(&path, &settings).await.unwrap();
    let audits = copied.rows.iter().find(|(table, _)| *table == "audit");
    assert!(audits.unwrap().1 > 1000, "{copied}");
    assert_eq!(copied.digest.len(), 64);

    let moved = postgres::open(&server).await;
    assert_eq!(told(&moved, &estate).await, before);
    assert_eq!(moved.recovery().await.unwrap(), behind);
    let next = moved.lease_take(estate.home.id, Term(0)).await.unwrap();
    assert_eq!(next, Term(term.0 + 1), "no agent keeps to the earlier one");
    // The log goes on without a gap.
    let mut noted = change(Vec::new());
    noted.audit = vec![audit("after", "the copy")];
    moved.commit(noted).await.unwrap();
    let gaps = server.say("SELECT max(sequence) - count(*) FROM lockstep.audit");
    let last = server
        .say("SELECT sequence - (SELECT max(sequence) FROM lockstep.audit) FROM lockstep.head");
    assert_eq!((gaps.as_str(), last.as_str()), ("0", "0"));

    let again = copy(&path, &settings).await;
    assert!(
        matches!(again, Err(CopyError::NotEmpty { .. })),
        "{again:?}"
    );
    // The source is as it was.
    assert_eq!(told(&open(&path), &estate).await, before);
}

#[tokio::test]
async fn what_cannot_be_copied_whole_is_not_copied() {
    let (directory, path) = place();
    let server = Server::start();
    let settings = postgres::settings(&server);
    let nothing = copy(&directory.path().join("none.db"), &settings).await;
    assert!(
        matches!(nothing, Err(CopyError::NoSource(_))),
        "{nothing:?}"
    );
    let store = open(&path);
    furnish(&store).await;
    drop(store);
    // A row that breaks a rule of the target.
    let sql = rusqlite::Connection::open(&path).unwrap();
    sql.execute_batch("PRAGMA foreign_keys = OFF; UPDATE instance SET key = zeroblob(16)")
        .unwrap();
    drop(sql);
    let refused = copy(&path, &settings).await.unwrap_err();
    assert!(
        matches!(
            refused,
            CopyError::Row {
                table: "instance",
                ..
            }
        ),
        "{refused}"
    );
    assert_eq!(server.say("SELECT count(*) FROM lockstep.vault"), "0");
}
