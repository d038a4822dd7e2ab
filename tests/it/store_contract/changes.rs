//! Changes as a whole: atomic, remembered, audited, with one winner.

use std::sync::Arc;

use crate::store_contract::records::{audit, change, operation, put};
use crate::store_contract::{ALL, Estate, estate, records, try_one};
use lockstep::coordinator::store::{Change, Page, Store, StoreError, Write};
use lockstep::model::desired::Want;
use lockstep::model::difference::Seen;
use lockstep::model::ids::{Generation, KeyId, KeystoreId, Revision, Term};
use lockstep::model::live::LastSeen;
use lockstep::model::text::Label;
use lockstep::model::vault::UnixMs;
use uuid::Uuid;

pub(crate) async fn atomicity(store: &dyn Store) {
    let Estate {
        template,
        home,
        key,
        ..
    } = estate(store).await;
    let subject = format!("key/{}", key.id);
    let fresh = records::key(&template, "fresh");
    let mut refused = change(vec![
        Write::KeyInsert(Box::new(fresh.clone())),
        put(&fresh, home.id, 1, Want::Active, None),
        put(&key, home.id, 9, Want::Active, Some(8)),
    ]);
    refused.audit.push(audit(&subject, "never"));
    refused.operation = Some(operation(&subject, "x", 1));
    let error = store.commit(refused).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict { .. }), "{error:?}");
    assert_eq!(store.key(fresh.id).await.unwrap(), None);
    assert_eq!(store.keystore_instances(home.id).await.unwrap(), []);
    assert_eq!(
        store
            .audit_list(Some(subject.clone()), ALL)
            .await
            .unwrap()
            .total,
        0
    );
    assert_eq!(store.operation(&subject).await.unwrap(), None);
    // What others commit at the same time is not undone by it.
    let good = (0..20).map(|number| {
        let key = records::key(&template, &format!("good-{number}"));
        store.commit(change(vec![Write::KeyInsert(Box::new(key))]))
    });
    let bad = (0..20).map(|_| {
        let key = records::key(&template, "orders-1");
        store.commit(change(vec![Write::KeyInsert(Box::new(key))]))
    });
    let mut wait = Vec::new();
    for (good, bad) in good.zip(bad) {
        wait.push((good, true));
        wait.push((bad, false));
    }
    for (ended, expected) in join_all(wait).await {
        assert_eq!(ended.is_ok(), expected);
    }
}

/// Polls all of them together, so that they meet in one transaction.
async fn join_all<F: Future>(futures: Vec<(F, bool)>) -> Vec<(F::Output, bool)> {
    let mut futures: Vec<_> = futures
        .into_iter()
        .map(|(future, tag)| (Box::pin(future), tag, None))
        .collect();
    std::future::poll_fn(|context| {
        let mut waiting = false;
        for (future, _, done) in &mut futures {
            if done.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(output) => *done = Some(output),
                    std::task::Poll::Pending => waiting = true,
                }
            }
        }
        if waiting {
            std::task::Poll::Pending
        } else {
            std::task::Poll::Ready(())
        }
    })
    .await;
    futures
        .into_iter()
        .map(|(_, tag, done)| (done.unwrap(), tag))
        .collect()
}

pub(crate) async fn operations(store: &dyn Store) {
    let Estate { home, key, .. } = estate(store).await;
    let name = Uuid::new_v4().to_string();
    let first = operation(&name, "POST /a", 1_000);
    let activate = |operation| Change {
        operation: Some(operation),
        writes: vec![put(&key, home.id, 1, Want::Active, None)],
        audit: vec![audit(&name, "activated")],
    };
    assert_eq!(store.operation(&name).await.unwrap(), None);
    assert_eq!(store.commit(activate(first.clone())).await.unwrap(), None);
    assert_eq!(store.operation(&name).await.unwrap(), Some(first.clone()));
    // The same again: nothing is written, the first answer comes back.
    let again = operation(&name, "POST /a", 2_000);
    assert_eq!(
        store.commit(activate(again)).await.unwrap(),
        Some(first.clone())
    );
    assert_eq!(
        store
            .commit(activate(operation(&name, "POST /b", 3_000)))
            .await,
        Err(StoreError::OperationReused)
    );
    assert_eq!(store.operation(&name).await.unwrap(), Some(first));
    assert_eq!(store.audit_list(Some(name), ALL).await.unwrap().total, 1);
}

pub(crate) async fn pruning(store: &dyn Store) {
    const DAY: i64 = 24 * 60 * 60 * 1000;
    // Older than what the other parts leave here, so that these are the oldest.
    let start = -1_000 * DAY;
    let name = Uuid::new_v4().to_string();
    let note = |suffix: &str, at| Change {
        operation: Some(operation(&format!("{name}-{suffix}"), "x", at)),
        ..Change::default()
    };
    store.commit(note("old", start)).await.unwrap();
    store.commit(note("new", start + 29 * DAY)).await.unwrap();
    let kept = store.operation(&format!("{name}-old")).await.unwrap();
    assert!(kept.is_some());
    store
        .commit(note("newest", start + 31 * DAY))
        .await
        .unwrap();
    let pruned = store.operation(&format!("{name}-old")).await.unwrap();
    assert_eq!(pruned, None);
    let kept = store.operation(&format!("{name}-new")).await.unwrap();
    assert!(kept.is_some());
}

pub(crate) async fn auditing(store: &dyn Store) {
    let subject = format!("key/{}", Uuid::new_v4());
    let other = format!("key/{}", Uuid::new_v4());
    let entries: Vec<_> = (0..5)
        .map(|number| audit(&subject, &number.to_string()))
        .collect();
    for entry in &entries {
        let noted = Change {
            audit: vec![entry.clone(), audit(&other, "other")],
            ..Change::default()
        };
        store.commit(noted).await.unwrap();
    }
    let page = Page {
        limit: 2,
        offset: 1,
    };
    let found = store.audit_list(Some(subject), page).await.unwrap();
    assert_eq!(found.total, 5);
    assert_eq!(found.items, [entries[3].clone(), entries[2].clone()]);
    let newest = Page {
        limit: 2,
        offset: 0,
    };
    let found = store.audit_list(None, newest).await.unwrap();
    assert_eq!(found.items[0].subject, other);
    assert_eq!(found.items[1], entries[4]);
}

pub(crate) async fn last_seen(store: &dyn Store) {
    let Estate {
        home, away, key, ..
    } = estate(store).await;
    store
        .commit(change(vec![put(&key, home.id, 1, Want::Active, None)]))
        .await
        .unwrap();
    let last = |seen, at| LastSeen {
        seen,
        at: UnixMs(at),
        proved_at: Some(UnixMs(at)),
        proof: "tried C_EncryptInit".to_owned(),
    };
    let older = last(Seen::NotActive, 1);
    let newer = last(Seen::Active, 2);
    let note = |last: &LastSeen| vec![(key.version, last.clone())];
    store.seen_put(home.id, note(&older)).await.unwrap();
    store.seen_put(home.id, note(&newer)).await.unwrap();
    // Nothing is kept of what is not wanted there: a report that crosses a deletion leaves nothing behind.
    store.seen_put(away.id, note(&newer)).await.unwrap();
    assert_eq!(store.seen(key.version).await.unwrap(), [(home.id, newer)]);
}

pub(crate) async fn leases(store: &dyn Store) {
    let keystore = KeystoreId::from_uuid(Uuid::new_v4());
    let other = KeystoreId::from_uuid(Uuid::new_v4());
    let take = |above| store.lease_take(keystore, Term(above));
    assert_eq!(take(0).await.unwrap(), Term(1));
    assert_eq!(take(0).await.unwrap(), Term(2));
    assert_eq!(take(10).await.unwrap(), Term(10));
    assert_eq!(take(10).await.unwrap(), Term(11));
    assert_eq!(take(3).await.unwrap(), Term(12));
    assert_eq!(store.lease_take(other, Term(0)).await.unwrap(), Term(1));
    let unheard_of = store.lease_take(other, Term(u64::MAX)).await;
    assert!(matches!(unheard_of, Err(StoreError::Unavailable { .. })));
    assert_eq!(store.lease_take(other, Term(0)).await.unwrap(), Term(2));
}

/// 64 callers with the same stale read: one wins, generation after generation.
pub(crate) async fn one_winner_per_generation(store: Arc<dyn Store>) {
    const CALLERS: usize = 64;
    let Estate { home, key, .. } = estate(&*store).await;
    let first = put(&key, home.id, 1, Want::Active, None);
    try_one(&*store, first).await.unwrap();
    for generation in 1..=8 {
        let mut callers = tokio::task::JoinSet::new();
        for _ in 0..CALLERS {
            let store = Arc::clone(&store);
            let write = put(
                &key,
                home.id,
                generation + 1,
                Want::Active,
                Some(generation),
            );
            callers.spawn(async move { try_one(&*store, write).await });
        }
        let ended = callers.join_all().await;
        let winners = ended.iter().filter(|end| end.is_ok()).count();
        assert_eq!((ended.len(), winners), (CALLERS, 1));
        let stored = store.key_instances(key.id).await.unwrap();
        assert_eq!(stored[0].intent.generation, Generation(generation + 1));
    }
    let mut label_takers = tokio::task::JoinSet::new();
    for number in 0..CALLERS {
        let store = Arc::clone(&store);
        let mut renamed = key.clone();
        renamed.label = Label::new(format!("by-{number}")).unwrap();
        renamed.revision = Revision(2);
        let write = Write::KeyUpdate {
            record: Box::new(renamed),
            expected: Revision(1),
        };
        label_takers.spawn(async move { try_one(&*store, write).await.map(|()| number) });
    }
    let winners: Vec<usize> = label_takers
        .join_all()
        .await
        .into_iter()
        .filter_map(Result::ok)
        .collect();
    assert_eq!(winners.len(), 1);
    let stored: KeyId = key.id;
    let stored = store.key(stored).await.unwrap().unwrap();
    assert_eq!(stored.label.as_str(), format!("by-{}", winners[0]));
}
