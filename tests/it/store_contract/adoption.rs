//! Keys that others made: found by their material, adopted once each, or left to others.

use crate::store_contract::records::{self, change, fingerprint, instance};
use crate::store_contract::{Estate, conflict, estate, not_found, try_one};
use lockstep::coordinator::store::{AdoptedId, Store, StoreError, Write};
use lockstep::model::adoption::{Adoption, AdoptionRecord, Ignored};
use lockstep::model::canonical::sha256;
use lockstep::model::desired::{Instance, Want};
use lockstep::model::ids::{Generation, KeystoreId, Revision};
use lockstep::model::key::ManagedKey;
use lockstep::model::lifecycle::ManagedState;
use lockstep::model::material::Signed;
use lockstep::model::observed::{Fingerprint, FingerprintMethod};
use lockstep::model::vault::UnixMs;
use uuid::Uuid;

fn adopted(key: &ManagedKey, keystore: KeystoreId, cka_id: &[u8]) -> Instance {
    let mut instance = instance(key, keystore, 1, Want::Active);
    instance.intent.object.cka_id = cka_id.to_vec();
    let body = AdoptionRecord {
        keystore,
        cka_id: cka_id.to_vec(),
        label: "theirs".to_owned(),
        spec: key.spec,
        fingerprint: fingerprint(),
        salt: vec![7; 32],
        usage: key.usage,
        sensitive: true,
        extractable: false,
        at: UnixMs(4),
    };
    instance.adoption = Some(Box::new(Adoption {
        record: Signed {
            body,
            signer: vec![1; 32],
            signature: vec![2; 64],
        },
        in_repository: false,
    }));
    instance
}

fn put(key: &ManagedKey, instance: &Instance, expected: Option<u64>) -> Write {
    Write::InstancePut {
        key: key.id,
        instance: Box::new(instance.clone()),
        expected: expected.map(Generation),
    }
}

pub(crate) async fn material(store: &dyn Store) {
    let Estate {
        vault,
        template,
        key,
        ..
    } = estate(store).await;
    let mut other = records::key(&template, "other material");
    other.fingerprint = Some(Fingerprint {
        value: sha256(b"other"),
        ..fingerprint()
    });
    let mut bare = records::key(&template, "no material");
    bare.fingerprint = None;
    for key in [&other, &bare] {
        try_one(store, Write::KeyInsert(Box::new(key.clone())))
            .await
            .unwrap();
    }
    let found = |vault, material| store.keys_of(vault, material);
    let ours = found(vault.id, fingerprint()).await.unwrap();
    assert_eq!(ours, std::slice::from_ref(&key));
    // Another method says nothing, and neither does another vault.
    let spki = Fingerprint {
        method: FingerprintMethod::Spki,
        ..fingerprint()
    };
    assert_eq!(found(vault.id, spki).await.unwrap(), []);
    let elsewhere = estate(store).await;
    let there = found(elsewhere.vault.id, fingerprint()).await.unwrap();
    assert_eq!(there, [elsewhere.key]);
    // A second key of one material is seen in the very commit that would make it.
    let rival = records::key(&template, "rival");
    let alone = |material| Write::MaterialAlone {
        vault: vault.id,
        material,
        key: rival.id,
    };
    let insert = Write::KeyInsert(Box::new(rival.clone()));
    let refused = store
        .commit(change(vec![insert, alone(fingerprint())]))
        .await;
    assert_eq!(refused, Err(conflict("key", key.id)));
    assert_eq!(store.key(rival.id).await.unwrap(), None);
    try_one(store, alone(spki)).await.unwrap();
    // It follows the record.
    let mut changed = key.clone();
    changed.state = ManagedState::Destroyed;
    changed.revision = Revision(2);
    let update = Write::KeyUpdate {
        record: Box::new(changed.clone()),
        expected: Revision(1),
    };
    store
        .commit(change(vec![update, alone(fingerprint())]))
        .await
        .unwrap();
    changed.fingerprint = other.fingerprint;
    changed.revision = Revision(3);
    let update = Write::KeyUpdate {
        record: Box::new(changed),
        expected: Revision(2),
    };
    try_one(store, update).await.unwrap();
    assert_eq!(found(vault.id, fingerprint()).await.unwrap(), []);
}

pub(crate) async fn ids(store: &dyn Store) {
    let Estate {
        template,
        home,
        away,
        key,
        ..
    } = estate(store).await;
    let first = adopted(&key, home.id, &[7]);
    try_one(store, put(&key, &first, None)).await.unwrap();
    assert_eq!(
        store.key_instances(key.id).await.unwrap(),
        std::slice::from_ref(&first),
        "the record comes back"
    );
    // One CKA_ID of a keystore is adopted once, whoever asks.
    let rival = records::key(&template, "rival");
    let insert = Write::KeyInsert(Box::new(rival.clone()));
    let theirs = put(&rival, &adopted(&rival, home.id, &[7]), None);
    let refused = store.commit(change(vec![insert.clone(), theirs])).await;
    assert_eq!(
        refused,
        Err(conflict(
            "instance of key",
            format!("{} on keystore/{}", rival.id, home.id)
        ))
    );
    assert_eq!(store.key(rival.id).await.unwrap(), None, "all or nothing");
    let elsewhere = put(&rival, &adopted(&rival, away.id, &[7]), None);
    let another = put(&rival, &adopted(&rival, home.id, &[6]), None);
    store
        .commit(change(vec![insert, elsewhere, another]))
        .await
        .unwrap();
    let id = |cka_id: &[u8], key: &ManagedKey| AdoptedId {
        cka_id: cka_id.to_vec(),
        key: key.id,
    };
    let told = store.adopted(home.id).await.unwrap();
    assert_eq!(told, [id(&[6], &rival), id(&[7], &key)]);
    // Ours have none, and a later intent keeps it.
    let ours = records::key(&template, "ours");
    let mut next = first;
    next.intent.generation = Generation(2);
    store
        .commit(change(vec![
            Write::KeyInsert(Box::new(ours.clone())),
            put(&ours, &instance(&ours, home.id, 1, Want::Active), None),
            put(&key, &next, Some(1)),
        ]))
        .await
        .unwrap();
    assert_eq!(store.adopted(home.id).await.unwrap(), told);
}

pub(crate) async fn ignored(store: &dyn Store) {
    let Estate { home, away, .. } = estate(store).await;
    let one = |keystore, cka_id: &[u8], label: &str, reason: &str| Ignored {
        keystore,
        cka_id: cka_id.to_vec(),
        label: label.to_owned(),
        reason: reason.to_owned(),
        at: UnixMs(5),
        by: "anna".to_owned(),
    };
    let nameless = one(home.id, &[], "backup", "of the database");
    let named = one(home.id, &[1], "tls", "of the web server");
    for ignored in [&named, &nameless, &one(away.id, &[1], "tls", "elsewhere")] {
        try_one(store, Write::IgnorePut(ignored.clone()))
            .await
            .unwrap();
    }
    let told = store.ignored(home.id).await.unwrap();
    assert_eq!(told, [nameless.clone(), named.clone()]);
    let again = one(home.id, &[1], "tls", "of the proxy");
    try_one(store, Write::IgnorePut(again.clone()))
        .await
        .unwrap();
    let told = store.ignored(home.id).await.unwrap();
    assert_eq!(told, [nameless, again], "the newest reason");
    let nobody = KeystoreId::from_uuid(Uuid::new_v4());
    assert_eq!(
        try_one(store, Write::IgnorePut(one(nobody, &[1], "", "x"))).await,
        Err(not_found("keystore", nobody))
    );
    let delete = |label: &str| Write::IgnoreDelete {
        keystore: home.id,
        cka_id: vec![1],
        label: label.to_owned(),
    };
    let other = try_one(store, delete("other")).await;
    assert!(
        matches!(other, Err(StoreError::Conflict { .. })),
        "{other:?}"
    );
    try_one(store, delete("tls")).await.unwrap();
    assert_eq!(store.ignored(home.id).await.unwrap().len(), 1);
    // What is ignored goes with its keystore.
    let gone = Write::KeystoreDelete {
        id: home.id,
        expected: Revision(1),
    };
    try_one(store, gone).await.unwrap();
    assert_eq!(store.ignored(home.id).await.unwrap(), []);
    assert_eq!(store.ignored(away.id).await.unwrap().len(), 1);
}
