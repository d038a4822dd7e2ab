//! Keys, their instances and repository copies.

use crate::store_contract::records::{change, copy, instance, key, put};
use crate::store_contract::{ALL, Estate, conflict, estate, not_found, records, taken, try_one};
use lockstep::coordinator::store::{KeyFilter, Page, Store, StoreError, Write};
use lockstep::model::desired::Want;
use lockstep::model::difference::Seen;
use lockstep::model::ids::{Digest, Generation, KeyId, KeyVersionId, KeystoreId, Revision};
use lockstep::model::key::ManagedKey;
use lockstep::model::lifecycle::ManagedState;
use lockstep::model::live::LastSeen;
use lockstep::model::observed::Fingerprint;
use lockstep::model::vault::UnixMs;
use lockstep::model::version::{Hold, KeyVersion};
use uuid::Uuid;

pub(crate) async fn keys(store: &dyn Store) {
    let Estate {
        vault,
        template,
        home,
        mut key,
        ..
    } = estate(store).await;
    assert_eq!(store.key(key.id).await.unwrap(), Some(key.clone()));
    let twin = records::key(&template, "orders-1");
    assert_eq!(
        try_one(store, Write::KeyInsert(Box::new(twin))).await,
        Err(taken("label", "orders-1"))
    );
    let other = estate(store).await;
    let mut stray = records::key(&other.template, "stray");
    stray.version = key.version;
    assert_eq!(
        try_one(store, Write::KeyInsert(Box::new(stray.clone()))).await,
        Err(taken("version", &key.version.to_string()))
    );
    assert_eq!(store.key(stray.id).await.unwrap(), None, "all or nothing");

    key.state = ManagedState::Active;
    key.targets.insert(home.id);
    key.revision = Revision(2);
    let update = Write::KeyUpdate {
        record: Box::new(key.clone()),
        expected: Revision(1),
    };
    try_one(store, update.clone()).await.unwrap();
    assert_eq!(try_one(store, update).await, Err(conflict("key", key.id)));
    assert_eq!(store.key(key.id).await.unwrap(), Some(key.clone()));
    let delete = Write::VaultDelete {
        id: vault.id,
        expected: Revision(1),
    };
    let refused = try_one(store, delete).await;
    let Err(StoreError::InUse { blockers, count }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((blockers.len(), count), (4, 4));
}

pub(crate) async fn key_lists(store: &dyn Store) {
    let Estate {
        vault,
        template,
        home,
        away,
        ..
    } = estate(store).await;
    let other = records::template(vault.id, "payments");
    let mut second = key(&other, "orders-2");
    second.state = ManagedState::Active;
    let mut third = key(&template, "orders-3");
    third.state = ManagedState::Deactivated;
    store
        .commit(change(vec![
            Write::TemplateInsert(other.clone()),
            Write::KeyInsert(Box::new(second.clone())),
            Write::KeyInsert(Box::new(third.clone())),
            put(&second, home.id, 1, Want::Active, None),
            put(&second, away.id, 1, Want::Active, None),
            put(&third, away.id, 1, Want::Deactivated, None),
        ]))
        .await
        .unwrap();
    let all = KeyFilter {
        vault: Some(vault.id),
        sort: vec![("label".to_owned(), false)],
        ..KeyFilter::default()
    };
    let check = async |filter: KeyFilter, expected: &[&str]| {
        let found = store.key_list(filter.clone(), ALL).await.unwrap();
        let labels: Vec<&str> = found.items.iter().map(|key| key.label.as_str()).collect();
        assert_eq!(labels, expected, "{filter:?}");
        assert_eq!(usize::try_from(found.total).unwrap(), expected.len());
    };
    check(all.clone(), &["orders-1", "orders-2", "orders-3"]).await;
    let mut filter = all.clone();
    filter.states = vec![ManagedState::Active, ManagedState::Deactivated];
    check(filter, &["orders-2", "orders-3"]).await;
    let mut filter = all.clone();
    filter.label = Some("orders-3".to_owned());
    check(filter, &["orders-3"]).await;
    let mut filter = all.clone();
    filter.template = Some(template.id);
    check(filter, &["orders-1", "orders-3"]).await;
    let mut filter = all.clone();
    filter.keystore = Some(away.id);
    check(filter.clone(), &["orders-2", "orders-3"]).await;
    filter.states = vec![ManagedState::PreActivation];
    check(filter, &[]).await;
    let page = Page {
        limit: 1,
        offset: 1,
    };
    let found = store.key_list(all, page).await.unwrap();
    assert_eq!((found.total, found.items), (3, vec![second]));
}

pub(crate) async fn key_sorting(store: &dyn Store) {
    let Estate {
        vault, template, ..
    } = estate(store).await;
    let mut writes = Vec::new();
    for number in 0..7_u32 {
        let mut key = key(&template, &format!("sorted-{number}"));
        key.stamps.created_at = UnixMs(i64::from(number / 2));
        writes.push(Write::KeyInsert(Box::new(key)));
    }
    store.commit(change(writes)).await.unwrap();
    let filter = |sort: &[(&str, bool)]| KeyFilter {
        vault: Some(vault.id),
        sort: sort
            .iter()
            .map(|&(field, descending)| (field.to_owned(), descending))
            .collect(),
        ..KeyFilter::default()
    };
    // Ties are broken by id, so pages neither skip nor repeat.
    let mut paged = Vec::new();
    for offset in 0..8 {
        let page = Page { limit: 1, offset };
        let found = store
            .key_list(filter(&[("created_at", true)]), page)
            .await
            .unwrap();
        paged.extend(found.items);
    }
    let whole = store
        .key_list(filter(&[("created_at", true)]), ALL)
        .await
        .unwrap();
    assert_eq!(paged, whole.items);
    let mut expected = whole.items.clone();
    expected.sort_by_key(|key| (std::cmp::Reverse(key.stamps.created_at), key.id));
    assert_eq!(whole.items, expected);
    for field in [
        "label",
        "algorithm",
        "state",
        "activation_date",
        "deactivation_date",
        "created_at",
        "updated_at",
        "size",
        "vault.id",
    ] {
        let found = store
            .key_list(filter(&[(field, false)]), ALL)
            .await
            .unwrap();
        assert_eq!(found.items.len(), 8, "{field}");
    }
    let unknown = store.key_list(filter(&[("label; --", false)]), ALL).await;
    assert!(matches!(unknown, Err(StoreError::Unavailable { .. })));
}

/// Which keys of these have a date in those days, in the order of their ids.
async fn dated(store: &dyn Store, of: &[KeyId], from: Option<&str>, to: &str) -> Vec<KeyId> {
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let days = (from.map(str::to_owned), to.to_owned());
        let keys = store.key_dated(days, after, 2).await.unwrap();
        let Some(last) = keys.last() else {
            return found;
        };
        after = Some(last.id);
        let ids = keys.iter().map(|key| key.id);
        found.extend(ids.filter(|id| of.contains(id)));
    }
}

pub(crate) async fn key_dates(store: &dyn Store) {
    let Estate { template, .. } = estate(store).await;
    let day = |day: u32| Some(format!("2031-03-{day:02}"));
    let mut keys: Vec<ManagedKey> = (0..6)
        .map(|n| {
            let mut key = key(&template, &format!("dated-{n}"));
            key.expiration_date = None;
            key.state = ManagedState::Active;
            key
        })
        .collect();
    keys.sort_by_key(|key| key.id);
    keys[0].state = ManagedState::PreActivation;
    keys[0].activation_date = day(1);
    keys[1].expiration_date = day(2);
    keys[2].rotation_date = day(3);
    keys[3].state = ManagedState::Destroyed;
    keys[3].hold = Some(Hold {
        until: day(4).unwrap(),
        from: ManagedState::Active,
    });
    keys[4].coming = Some(Box::new(coming(None)));
    let ids: Vec<KeyId> = keys.iter().map(|key| key.id).collect();
    for key in &keys {
        let insert = Write::KeyInsert(Box::new(key.clone()));
        try_one(store, insert).await.unwrap();
    }
    let all = dated(store, &ids, None, "2031-03-09").await;
    assert_eq!(all, ids[..5], "each once, and none without a date");
    let some = dated(store, &ids, Some("2031-03-02"), "2031-03-03").await;
    assert_eq!(some, [ids[1], ids[2], ids[4]]);
    // What acted is not due again; what is of another state never is.
    keys[0].acted.activation = day(1);
    keys[1].acted.expiration = day(2);
    keys[2].state = ManagedState::Deactivated;
    keys[3].hold = None;
    keys[4].coming = None;
    for key in &mut keys {
        key.revision = Revision(2);
        let update = Write::KeyUpdate {
            record: Box::new(key.clone()),
            expected: Revision(1),
        };
        try_one(store, update).await.unwrap();
    }
    assert_eq!(dated(store, &ids, None, "2031-03-09").await, []);
}

fn coming(fingerprint: Option<Fingerprint>) -> KeyVersion {
    KeyVersion {
        id: KeyVersionId::from_uuid(Uuid::new_v4()),
        number: 2,
        fingerprint,
        spki: None,
        in_use_since: None,
        is_retired: false,
    }
}

/// A key is found by each of its versions, and by the material of each.
pub(crate) async fn key_versions(store: &dyn Store) {
    let Estate { vault, mut key, .. } = estate(store).await;
    let second = Fingerprint {
        value: Digest([9; 32]),
        ..records::fingerprint()
    };
    let next = coming(Some(second));
    let (first_id, second_id) = (key.version, next.id);
    assert_eq!(store.key_of_version(second_id).await.unwrap(), None);
    key.coming = Some(Box::new(next));
    key.revision = Revision(2);
    let update = Write::KeyUpdate {
        record: Box::new(key.clone()),
        expected: Revision(1),
    };
    try_one(store, update).await.unwrap();
    for version in [first_id, second_id] {
        let found = store.key_of_version(version).await.unwrap();
        assert_eq!(found, Some(key.id));
    }
    for material in [records::fingerprint(), second] {
        let found = store.keys_of(vault.id, material).await.unwrap();
        assert_eq!(found, [key.clone()]);
    }
}

pub(crate) async fn key_deletion(store: &dyn Store) {
    let Estate {
        template,
        home,
        key,
        ..
    } = estate(store).await;
    let neighbour = records::key(&template, "neighbour");
    let last = LastSeen {
        seen: Seen::Active,
        at: UnixMs(3),
        proved_at: None,
        proof: String::new(),
    };
    store
        .commit(change(vec![
            Write::KeyInsert(Box::new(neighbour.clone())),
            put(&key, home.id, 1, Want::Destroyed, None),
            put(&neighbour, home.id, 1, Want::Active, None),
            Write::CopyInsert {
                version: key.version,
                copy: copy(&key, home.id),
            },
        ]))
        .await
        .unwrap();
    let both = vec![(key.version, last.clone()), (neighbour.version, last)];
    store.seen_put(home.id, both).await.unwrap();
    let delete = Write::KeyDelete {
        id: key.id,
        expected: Revision(1),
    };
    // Material is never forgotten, only erased.
    assert_eq!(
        try_one(store, delete.clone()).await,
        Err(StoreError::InUse {
            blockers: vec![format!("copy/{} home", home.id)],
            count: 1
        })
    );
    let erase = Write::CopiesErase {
        version: key.version,
    };
    store.commit(change(vec![erase, delete])).await.unwrap();
    assert_eq!(store.key(key.id).await.unwrap(), None);
    assert_eq!(store.key_instances(key.id).await.unwrap(), []);
    assert_eq!(store.seen(key.version).await.unwrap(), []);
    assert_eq!(store.key_instances(neighbour.id).await.unwrap().len(), 1);
    assert_eq!(store.seen(neighbour.version).await.unwrap().len(), 1);
    assert_eq!(store.keystore_instances(home.id).await.unwrap().len(), 1);
    // The label is free again.
    let again = records::key(&template, "orders-1");
    try_one(store, Write::KeyInsert(Box::new(again)))
        .await
        .unwrap();
}

pub(crate) async fn instances(store: &dyn Store) {
    let Estate {
        template,
        home,
        key,
        ..
    } = estate(store).await;
    let what = StoreError::Conflict {
        what: format!("instance of key/{} on keystore/{}", key.id, home.id),
    };
    let active = |generation, expected| put(&key, home.id, generation, Want::Active, expected);
    assert_eq!(try_one(store, active(2, Some(1))).await, Err(what.clone()));
    try_one(store, active(1, None)).await.unwrap();
    assert_eq!(try_one(store, active(1, None)).await, Err(what.clone()));
    try_one(store, active(2, Some(1))).await.unwrap();
    assert_eq!(try_one(store, active(2, Some(1))).await, Err(what.clone()));
    assert_eq!(
        try_one(store, active(1, Some(2))).await,
        Err(what),
        "a generation never goes back"
    );
    let unknown = records::key(&template, "unknown");
    assert_eq!(
        try_one(store, put(&unknown, home.id, 1, Want::Active, None)).await,
        Err(not_found("key", unknown.id))
    );
    assert_eq!(
        store.key_instances(key.id).await.unwrap(),
        [instance(&key, home.id, 2, Want::Active)]
    );

    let mut writes = Vec::new();
    for number in 0..20 {
        let more = records::key(&template, &format!("more-{number}"));
        writes.push(Write::KeyInsert(Box::new(more.clone())));
        writes.push(put(&more, home.id, 1, Want::Active, None));
    }
    store.commit(change(writes)).await.unwrap();
    let rows = store.keystore_instances(home.id).await.unwrap();
    assert_eq!(rows.len(), 21);
    assert!(
        rows.windows(2)
            .all(|pair| pair[0].instance.intent.version < pair[1].instance.intent.version)
    );
    let ours = rows.iter().find(|row| row.key == key.id).unwrap();
    assert_eq!(ours.instance.intent.generation, Generation(2));

    let versions: Vec<_> = rows.iter().map(|row| row.instance.intent.version).collect();
    let unknown = KeyVersionId::from_uuid(Uuid::new_v4());
    let asked = vec![versions[7], unknown, versions[3], versions[7]];
    let found = store.instances_on(home.id, asked).await.unwrap();
    let expected = [rows[3].instance.clone(), rows[7].instance.clone()];
    assert_eq!(found, expected, "in order, each once");
    let elsewhere = KeystoreId::from_uuid(Uuid::new_v4());
    assert_eq!(store.instances_on(elsewhere, versions).await.unwrap(), []);
    assert_eq!(store.instances_on(home.id, vec![]).await.unwrap(), []);
}

pub(crate) async fn repository_copies(store: &dyn Store) {
    let Estate {
        home, away, key, ..
    } = estate(store).await;
    let insert = |keystore: KeystoreId| Write::CopyInsert {
        version: key.version,
        copy: copy(&key, keystore),
    };
    try_one(store, insert(home.id)).await.unwrap();
    try_one(store, insert(away.id)).await.unwrap();
    let twice = try_one(store, insert(home.id)).await;
    assert!(matches!(twice, Err(StoreError::Taken { .. })), "{twice:?}");
    let stranger = KeystoreId::from_uuid(Uuid::new_v4());
    assert_eq!(
        try_one(store, insert(stranger)).await,
        Err(not_found("keystore", stranger))
    );
    let mut expected = [copy(&key, home.id), copy(&key, away.id)];
    expected.sort_by_key(|copy| copy.keystore);
    assert_eq!(store.copies(key.version).await.unwrap(), expected);
    let Estate { vault, .. } = estate(store).await;
    let lacking = |vault, keystore, after| store.copies_lacking(vault, keystore, after, 10);
    let nobody = KeystoreId::from_uuid(Uuid::new_v4());
    let all = lacking(key.vault, nobody, None).await.unwrap();
    assert_eq!(all, [key.version], "each version once");
    let after = lacking(key.vault, nobody, Some(key.version)).await.unwrap();
    assert_eq!(after, []);
    assert_eq!(lacking(key.vault, home.id, None).await.unwrap(), []);
    assert_eq!(lacking(vault.id, nobody, None).await.unwrap(), []);
    let mut newer = copy(&key, home.id);
    newer.blob.push(1);
    let add = |copy| Write::CopyAdd {
        version: key.version,
        copy,
    };
    try_one(store, add(newer.clone())).await.unwrap();
    assert!(store.copies(key.version).await.unwrap().contains(&newer));
    let unknown = add(copy(&key, nobody));
    assert!(try_one(store, unknown).await.is_err(), "no such keystore");
    let erase = Write::CopiesErase {
        version: key.version,
    };
    try_one(store, erase.clone()).await.unwrap();
    assert_eq!(store.copies(key.version).await.unwrap(), []);
    let late = try_one(store, add(newer)).await;
    assert!(matches!(late, Err(StoreError::Conflict { .. })), "{late:?}");
    assert_eq!(
        store.copies(key.version).await.unwrap(),
        [],
        "erased for good"
    );
    try_one(store, erase).await.unwrap();
}
