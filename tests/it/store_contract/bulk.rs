//! Bulk changes: whose row is written only while it is their turn.

use lockstep::coordinator::store::{
    BulkCount, BulkKeyFilter, Change, Page, Store, StoreError, Write,
};
use lockstep::model::bulk::{
    BulkAction, BulkChange, BulkKey, BulkState, Late, Outcome, PauseReason, StopOn, WaveSize,
};
use lockstep::model::ids::{BulkId, Digest, KeyId, Revision};
use lockstep::model::lifecycle::ManagedState;
use lockstep::model::vault::{Stamps, UnixMs};
use uuid::Uuid;

use crate::store_contract::records::{change, vault};
use crate::store_contract::{ALL, try_one};

const DAY_MS: i64 = 86_400_000;

fn bulk(at: i64) -> BulkChange {
    BulkChange {
        id: BulkId::from_uuid(Uuid::new_v4()),
        revision: Revision(1),
        action: BulkAction::Activate,
        filter: None,
        sizes: vec![WaveSize::Keys(1), WaveSize::Rest],
        stop_on: StopOn::OutOfStep,
        confirm_within_s: 600,
        late: Late::Pause,
        digest: Digest([7; 32]),
        keys: 3,
        wave: 1,
        wave_since: UnixMs(at),
        state: BulkState::Running,
        ended_at: None,
        stamps: Stamps::new(UnixMs(at), "anna"),
    }
}

fn rows(count: u32) -> Vec<BulkKey> {
    let row = |place| BulkKey {
        place,
        key: KeyId::from_uuid(Uuid::new_v4()),
        label: format!("k{place}"),
        state: ManagedState::PreActivation,
        version: 1,
        wave: if place == 0 { 1 } else { 2 },
        outcome: Outcome::Pending,
        why: None,
        retries: 0,
        at: UnixMs(5),
    };
    (0..count).map(row).collect()
}

fn insert(bulk: &BulkChange, keys: Vec<BulkKey>) -> Write {
    Write::BulkInsert {
        record: Box::new(bulk.clone()),
        keys,
    }
}

fn put(bulk: &BulkChange, row: &BulkKey, outcome: Outcome) -> Write {
    Write::BulkKeyPut {
        bulk: bulk.id,
        expected: row.outcome,
        row: Box::new(BulkKey {
            outcome,
            at: UnixMs(9),
            ..row.clone()
        }),
    }
}

fn next(bulk: &mut BulkChange, step: impl FnOnce(&mut BulkChange)) -> Write {
    let expected = bulk.revision;
    step(bulk);
    bulk.revision = expected.next();
    Write::BulkUpdate {
        record: Box::new(bulk.clone()),
        expected,
    }
}

fn conflict<T>(bulk: &BulkChange) -> Result<T, StoreError> {
    Err(StoreError::Conflict {
        what: format!("bulk/{}", bulk.id),
    })
}

async fn listed(store: &dyn Store, bulk: &BulkChange, filter: BulkKeyFilter) -> Vec<BulkKey> {
    store.bulk_keys(bulk.id, filter, ALL).await.unwrap().items
}

fn with(wave: Option<u32>, outcomes: &[Outcome]) -> BulkKeyFilter {
    BulkKeyFilter {
        wave,
        outcomes: outcomes.to_vec(),
    }
}

pub(crate) async fn bulk_changes(store: &dyn Store) {
    let mut one = bulk(1000);
    let keys = rows(3);
    assert_eq!(store.bulk(one.id).await.unwrap(), None);
    try_one(store, insert(&one, keys.clone())).await.unwrap();
    assert_eq!(store.bulk(one.id).await.unwrap(), Some(one.clone()));
    assert_eq!(listed(store, &one, BulkKeyFilter::default()).await, keys);
    assert_eq!(listed(store, &one, with(Some(2), &[])).await, keys[1..]);
    assert_eq!(listed(store, &one, with(None, &[Outcome::Done])).await, []);
    let second = store.bulk_key(one.id, 1).await.unwrap();
    assert_eq!(second.as_ref(), keys.get(1));
    assert_eq!(store.bulk_key(one.id, 9).await.unwrap(), None);
    let page = Page {
        limit: 1,
        offset: 1,
    };
    let paged = store.bulk_keys(one.id, BulkKeyFilter::default(), page);
    let paged = paged.await.unwrap();
    assert_eq!((paged.total, paged.items), (3, keys[1..2].to_vec()));

    // Once, and only in a wave that has begun.
    let first = put(&one, &keys[0], Outcome::Changing);
    try_one(store, first.clone()).await.unwrap();
    assert_eq!(try_one(store, first).await, conflict(&one));
    let early = put(&one, &keys[1], Outcome::Changing);
    assert_eq!(try_one(store, early.clone()).await, conflict(&one));
    // Whatever is written with it is not written either.
    let name = vault("bulk");
    let both = change(vec![Write::VaultInsert(name.clone()), early.clone()]);
    assert_eq!(store.commit(both).await, conflict(&one));
    assert_eq!(store.vault(name.id).await.unwrap(), None);
    try_one(store, next(&mut one, |bulk| bulk.wave = 2))
        .await
        .unwrap();
    try_one(store, early).await.unwrap();

    stopped(store, one, &keys).await;
    aged(store).await;
}

/// After a stop nothing begins; what came of what was begun is written all the same.
async fn stopped(store: &dyn Store, mut one: BulkChange, keys: &[BulkKey]) {
    let stale = one.clone();
    let stop = next(&mut one, |bulk| {
        bulk.state = BulkState::Paused {
            reason: PauseReason::Person,
            message: "enough".to_owned(),
            since: UnixMs(8),
        };
    });
    try_one(store, stop).await.unwrap();
    let late = next(&mut stale.clone(), |bulk| bulk.wave = 3);
    assert_eq!(try_one(store, late).await, conflict(&one));
    let third = put(&one, &keys[2], Outcome::Changing);
    assert_eq!(try_one(store, third.clone()).await, conflict(&one));
    let changing = BulkKey {
        outcome: Outcome::Changing,
        ..keys[0].clone()
    };
    try_one(store, put(&one, &changing, Outcome::Done))
        .await
        .unwrap();
    let count = |wave, outcome, count, last| BulkCount {
        wave,
        outcome,
        count,
        last: UnixMs(last),
    };
    let expected = [
        count(1, Outcome::Done, 1, 9),
        count(2, Outcome::Changing, 1, 9),
        count(2, Outcome::Pending, 1, 5),
    ];
    assert_eq!(store.bulk_counts(one.id).await.unwrap(), expected);
    let resume = next(&mut one, |bulk| bulk.state = BulkState::Running);
    let both = change(vec![resume, third]);
    store.commit(both).await.unwrap();
    let running = store.bulk_list(vec!["running"], ALL).await.unwrap();
    assert!(running.items.contains(&one), "{running:?}");
    let ended = next(&mut one, |bulk| {
        bulk.state = BulkState::Done;
        bulk.ended_at = Some(UnixMs(2000));
    });
    try_one(store, ended).await.unwrap();
    let open = store
        .bulk_list(vec!["running", "paused"], ALL)
        .await
        .unwrap();
    assert!(!open.items.iter().any(|other| other.id == one.id));
}

/// What ended long ago goes when another one is made; newest first.
async fn aged(store: &dyn Store) {
    let (old, young, open) = (bulk(DAY_MS), bulk(50 * DAY_MS), bulk(2 * DAY_MS));
    for (one, ended) in [
        (&old, Some(DAY_MS)),
        (&young, Some(50 * DAY_MS)),
        (&open, None),
    ] {
        let mut one = one.clone();
        one.ended_at = ended.map(UnixMs);
        try_one(store, insert(&one, rows(2))).await.unwrap();
    }
    let new = bulk(92 * DAY_MS);
    // Few at a time: nobody waits for it.
    for other in [new.clone(), bulk(92 * DAY_MS), bulk(92 * DAY_MS)] {
        store
            .commit(Change {
                writes: vec![insert(&other, Vec::new())],
                ..Change::default()
            })
            .await
            .unwrap();
    }
    assert_eq!(store.bulk(old.id).await.unwrap(), None);
    assert_eq!(
        store
            .bulk_keys(old.id, BulkKeyFilter::default(), ALL)
            .await
            .unwrap()
            .total,
        0
    );
    let all = store.bulk_list(Vec::new(), ALL).await.unwrap().items;
    let place = |id| all.iter().position(|one| one.id == id).unwrap();
    assert!(place(new.id) < place(young.id) && place(young.id) < place(open.id));
}
