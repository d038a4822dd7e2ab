//! Vaults, templates, keystores.

use crate::store_contract::records::{change, copy, keystore, put, vault};
use crate::store_contract::{ALL, Estate, conflict, estate, not_found, records, taken, try_one};
use lockstep::coordinator::store::{Page, Store, StoreError, Write};
use lockstep::model::desired::Want;
use lockstep::model::ids::{Revision, VaultId};
use lockstep::model::vault::Vault;
use uuid::Uuid;

pub(crate) async fn vaults(store: &dyn Store) {
    let mut record = vault("vaults");
    assert_eq!(store.vault(record.id).await.unwrap(), None);
    try_one(store, Write::VaultInsert(record.clone()))
        .await
        .unwrap();
    assert_eq!(store.vault(record.id).await.unwrap(), Some(record.clone()));

    record.description = "another".to_owned();
    record.revision = Revision(2);
    let update = |record: &Vault, expected| Write::VaultUpdate {
        record: record.clone(),
        expected: Revision(expected),
    };
    try_one(store, update(&record, 1)).await.unwrap();
    assert_eq!(
        try_one(store, update(&record, 1)).await,
        Err(conflict("vault", record.id))
    );
    assert_eq!(store.vault(record.id).await.unwrap(), Some(record.clone()));
    let unknown = vault("unknown");
    assert_eq!(
        try_one(store, update(&unknown, 1)).await,
        Err(not_found("vault", unknown.id))
    );

    let delete = |id: VaultId, expected| Write::VaultDelete {
        id,
        expected: Revision(expected),
    };
    assert_eq!(
        try_one(store, delete(record.id, 1)).await,
        Err(conflict("vault", record.id))
    );
    try_one(store, delete(record.id, 2)).await.unwrap();
    assert_eq!(
        try_one(store, delete(record.id, 2)).await,
        Err(not_found("vault", record.id))
    );
    assert_eq!(store.vault(record.id).await.unwrap(), None);
}

pub(crate) async fn names(store: &dyn Store) {
    let tag = Uuid::new_v4();
    let mut first = vault("a");
    let mut second = vault("b");
    let mut third = vault("c");
    first.name = format!("{tag}_b%");
    second.name = format!("{tag}_a");
    third.name = format!("{tag}Xa");
    for record in [&first, &second, &third] {
        try_one(store, Write::VaultInsert(record.clone()))
            .await
            .unwrap();
    }
    // Prefixes are text, not patterns.
    let found = store
        .vault_list(Some(format!("{tag}_")), ALL)
        .await
        .unwrap();
    assert_eq!(found.total, 2);
    assert_eq!(found.items, [second.clone(), first.clone()]);
    let page = Page {
        limit: 1,
        offset: 2,
    };
    let found = store.vault_list(Some(tag.to_string()), page).await.unwrap();
    assert_eq!((found.total, found.items), (3, vec![first.clone()]));

    // Taken by an insert, by an update, and as an id.
    let mut copycat = vault("d");
    copycat.name = first.name.clone();
    assert_eq!(
        try_one(store, Write::VaultInsert(copycat)).await,
        Err(taken("name", &first.name))
    );
    let mut renamed = second.clone();
    renamed.name = first.name.clone();
    let rename = Write::VaultUpdate {
        record: renamed,
        expected: Revision(1),
    };
    assert_eq!(
        try_one(store, rename).await,
        Err(taken("name", &first.name))
    );
    let mut same_id = vault("e");
    same_id.id = first.id;
    assert_eq!(
        try_one(store, Write::VaultInsert(same_id)).await,
        Err(taken("id", &format!("vault/{}", first.id)))
    );
}

pub(crate) async fn templates(store: &dyn Store) {
    let Estate {
        vault, template, ..
    } = estate(store).await;
    let other = estate(store).await;
    assert_eq!(
        store.template(template.id).await.unwrap(),
        Some(template.clone())
    );
    assert_eq!(
        store.template_by_name(vault.id, "orders").await.unwrap(),
        Some(template.clone())
    );
    assert_eq!(
        store.template_by_name(vault.id, "order").await.unwrap(),
        None
    );

    // Names are unique in a vault only.
    let twin = records::template(vault.id, "orders");
    assert_eq!(
        try_one(store, Write::TemplateInsert(twin)).await,
        Err(taken("name", "orders"))
    );
    let orphan = records::template(VaultId::from_uuid(Uuid::new_v4()), "orders");
    assert_eq!(
        try_one(store, Write::TemplateInsert(orphan.clone())).await,
        Err(not_found("vault", orphan.vault))
    );

    let payments = records::template(vault.id, "payments");
    try_one(store, Write::TemplateInsert(payments.clone()))
        .await
        .unwrap();
    let list = store
        .template_list(Some(vault.id), None, ALL)
        .await
        .unwrap();
    assert_eq!(list.items, [template.clone(), payments.clone()]);
    let list = store
        .template_list(Some(vault.id), Some("pay".to_owned()), ALL)
        .await
        .unwrap();
    assert_eq!((list.total, list.items), (1, vec![payments.clone()]));
    let list = store.template_list(None, None, ALL).await.unwrap();
    assert!(list.items.contains(&other.template));

    assert_eq!(store.vault_counts(vault.id).await.unwrap(), [1, 2, 2]);
}

pub(crate) async fn template_changes(store: &dyn Store) {
    let Estate {
        vault,
        mut template,
        key,
        ..
    } = estate(store).await;
    let payments = records::template(vault.id, "payments");
    try_one(store, Write::TemplateInsert(payments.clone()))
        .await
        .unwrap();
    template.archived = true;
    template.revision = Revision(2);
    let update = Write::TemplateUpdate {
        record: template.clone(),
        expected: Revision(1),
    };
    try_one(store, update.clone()).await.unwrap();
    assert_eq!(
        try_one(store, update).await,
        Err(conflict("template", template.id))
    );
    let delete = Write::TemplateDelete {
        id: template.id,
        expected: Revision(2),
    };
    assert_eq!(
        try_one(store, delete).await,
        Err(StoreError::InUse {
            blockers: vec![format!("key/{} orders-1", key.id)],
            count: 1
        })
    );
    let delete = Write::TemplateDelete {
        id: payments.id,
        expected: Revision(1),
    };
    try_one(store, delete).await.unwrap();
    assert_eq!(store.template(payments.id).await.unwrap(), None);
    assert_eq!(store.vault_counts(vault.id).await.unwrap(), [1, 1, 2]);
}

pub(crate) async fn keystores(store: &dyn Store) {
    let Estate {
        vault,
        mut home,
        away,
        ..
    } = estate(store).await;
    assert_eq!(store.keystore(home.id).await.unwrap(), Some(home.clone()));
    let group = |name: &str| Some(name.to_owned());
    let of_group = store
        .keystore_list(Some(vault.id), group("production"), ALL)
        .await
        .unwrap();
    assert_eq!(of_group.items, [away.clone(), home.clone()]);
    let of_group = store
        .keystore_list(Some(vault.id), group("berlin"), ALL)
        .await
        .unwrap();
    assert_eq!(of_group.items, [home.clone()]);

    home.groups = ["munich".to_owned()].into();
    home.revision = Revision(2);
    let update = Write::KeystoreUpdate {
        record: home.clone(),
        expected: Revision(1),
    };
    try_one(store, update.clone()).await.unwrap();
    assert_eq!(
        try_one(store, update).await,
        Err(conflict("keystore", home.id))
    );
    for (name, expected) in [("berlin", vec![]), ("munich", vec![home.clone()])] {
        let found = store
            .keystore_list(Some(vault.id), group(name), ALL)
            .await
            .unwrap();
        assert_eq!(found.items, expected, "{name}");
    }

    let twin = keystore(vault.id, "home", &[]);
    assert_eq!(
        try_one(store, Write::KeystoreInsert(twin)).await,
        Err(taken("name", "home"))
    );
    let mut same_token = keystore(vault.id, "third", &[]);
    same_token.id = home.id;
    assert_eq!(
        try_one(store, Write::KeystoreInsert(same_token)).await,
        Err(taken("id", &format!("keystore/{}", home.id)))
    );
}

pub(crate) async fn keystore_in_use(store: &dyn Store) {
    let Estate {
        vault,
        template,
        home,
        key,
        ..
    } = estate(store).await;
    // More blockers than are told by name.
    let mut writes = vec![Write::CopyInsert {
        version: key.version,
        copy: copy(&key, home.id),
    }];
    let mut others = Vec::new();
    for number in 10..40 {
        let other = records::key(&template, &format!("many-{number}"));
        writes.push(Write::KeyInsert(Box::new(other.clone())));
        writes.push(put(&other, home.id, 1, Want::Active, None));
        others.push(other);
    }
    store.commit(change(writes)).await.unwrap();
    let delete = Write::KeystoreDelete {
        id: home.id,
        expected: Revision(1),
    };
    let refused = try_one(store, delete.clone()).await;
    let Err(StoreError::InUse { blockers, count }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!((blockers.len(), count), (20, 31));
    assert_eq!(blockers[0], format!("key/{} many-10", others[0].id));

    let mut writes: Vec<Write> = others
        .iter()
        .map(|other| put(other, home.id, 2, Want::Destroyed, Some(1)))
        .collect();
    store.commit(change(writes.split_off(0))).await.unwrap();
    assert_eq!(
        try_one(store, delete.clone()).await,
        Err(StoreError::InUse {
            blockers: vec![format!("key/{} orders-1", key.id)],
            count: 1
        })
    );
    let erase = Write::CopiesErase {
        version: key.version,
    };
    try_one(store, erase).await.unwrap();
    try_one(store, delete).await.unwrap();
    assert_eq!(store.keystore(home.id).await.unwrap(), None);
    let left = store
        .keystore_list(Some(vault.id), Some("production".to_owned()), ALL)
        .await
        .unwrap();
    assert_eq!(left.total, 1);
    // Tombstones stay, and nothing new can be wanted there.
    let stone = store.key_instances(others[0].id).await.unwrap();
    assert_eq!(stone[0].intent.want, Want::Destroyed);
    assert_eq!(
        try_one(store, put(&key, home.id, 1, Want::Active, None)).await,
        Err(not_found("keystore", home.id))
    );
}
