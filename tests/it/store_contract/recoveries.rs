//! A store that is older than its agents: noticed once, ended once, whoever is faster.

use lockstep::coordinator::store::{Store, StoreError, Write};
use lockstep::model::ids::{KeyVersionId, KeystoreId, Revision, Term};
use lockstep::model::recovery::{Evidence, Recovery, Stranger};
use lockstep::model::vault::UnixMs;
use uuid::Uuid;

use crate::store_contract::try_one;

pub(crate) async fn recoveries(store: &dyn Store) {
    let keystore = KeystoreId::from_uuid(Uuid::new_v4());
    let noticed = |revision: u64| Recovery {
        revision: Revision(revision),
        noticed_at: UnixMs(1),
        evidence: vec![Evidence::HigherTerm {
            keystore,
            served: Term(revision),
            given: Term(1),
        }],
    };
    let put = |record: Option<Recovery>, expected: Option<u64>| Write::RecoveryPut {
        record,
        expected: expected.map(Revision),
    };
    let changed = Err(StoreError::Conflict {
        what: "recovery".to_owned(),
    });
    assert_eq!(store.recovery().await.unwrap(), None);
    assert_eq!(try_one(store, put(None, None)).await, changed);
    assert_eq!(
        try_one(store, put(Some(noticed(2)), Some(1))).await,
        changed
    );
    try_one(store, put(Some(noticed(1)), None)).await.unwrap();
    assert_eq!(try_one(store, put(Some(noticed(1)), None)).await, changed);
    try_one(store, put(Some(noticed(2)), Some(1)))
        .await
        .unwrap();
    assert_eq!(store.recovery().await.unwrap(), Some(noticed(2)));
    assert_eq!(try_one(store, put(None, Some(1))).await, changed);
    try_one(store, put(None, Some(2))).await.unwrap();
    assert_eq!(store.recovery().await.unwrap(), None);

    let seen = |version: u128, at: i64| Stranger {
        keystore,
        version: KeyVersionId::from_uuid(Uuid::from_u128(version)),
        seen_at: UnixMs(at),
    };
    for one in [seen(2, 1), seen(1, 1), seen(2, 5)] {
        try_one(store, Write::StrangerPut(one)).await.unwrap();
    }
    assert_eq!(
        store.strangers(keystore).await.unwrap(),
        [seen(1, 1), seen(2, 5)]
    );
    let other = KeystoreId::from_uuid(Uuid::new_v4());
    assert_eq!(store.strangers(other).await.unwrap(), []);
}
