//! The doctor, on an estate in which one thing after the other is planted: each check finds its own, and says so in words.

use std::os::unix::fs::FileExt as _;

use lockstep::clock::unix_ms;
use lockstep::coordinator::ops::doctor::{Check, Verdict};
use lockstep::coordinator::ops::keys::KeyView;
use lockstep::coordinator::ops::vaults::VaultPatch;
use lockstep::coordinator::store::{Change, OperationRecord, Write};
use lockstep::model::canonical::sha256;
use lockstep::model::capabilities::Capabilities;
use lockstep::model::desired::{Instance, Want};
use lockstep::model::ids::{OperationId, Revision};
use lockstep::model::kek::{KekNumber, KekRotation, RotationState};
use lockstep::model::keystore::{Health, Marker};
use lockstep::model::lifecycle::Action;
use lockstep::model::observed::Observation;
use lockstep::model::vault::UnixMs;
use uuid::Uuid;

use crate::ops::agents::{ahead, objects};
use crate::ops::{House, call, row};

/// What does not depend on this machine: its disk may be full.
async fn checks(house: &House) -> Vec<Check> {
    let mut checks = house.ops.doctor(&call(None)).await.unwrap();
    checks.retain(|check| check.name != "store_space");
    checks
}

/// `name verdict` of all that is not OK.
fn told(checks: &[Check]) -> Vec<String> {
    let found = checks.iter().filter(|check| check.verdict != Verdict::Ok);
    found
        .map(|check| format!("{} {:?}", check.name, check.verdict))
        .collect()
}

async fn expect(house: &House, expected: &[&str], words: &str) {
    let checks = checks(house).await;
    assert_eq!(told(&checks), expected, "{checks:#?}");
    let found: Vec<&String> = checks.iter().flat_map(|check| &check.found).collect();
    assert!(found.iter().any(|what| what.contains(words)), "{found:?}");
}

/// An estate with a key that is active on `a` and `b`, in which nothing is wrong.
async fn healthy() -> (House, KeyView) {
    let house = House::furnished().await;
    let key = house.active("k").await;
    assert_eq!(told(&checks(&house).await), Vec::<String>::new());
    (house, key)
}

fn on_a(key: &KeyView) -> Instance {
    row(key, "a").instance.clone().unwrap()
}

/// Changes the store's file behind the coordinator's back.
fn behind(house: &House, sql: &str) {
    let path = house.dir.path().join("store.db");
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.execute_batch(sql).unwrap();
}

async fn commit(house: &House, writes: Vec<Write>) {
    let change = Change {
        writes,
        ..Change::default()
    };
    house.store.commit(change).await.unwrap();
}

/// Overwrites the page on which an index begins.
fn spoil(house: &House, index: &str) {
    let path = house.dir.path().join("store.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
        .unwrap();
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    let page: i64 = connection
        .query_row(sql, [index], |row| row.get(0))
        .unwrap();
    drop(connection);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let at = u64::try_from((page - 1) * 4096).unwrap();
    file.write_all_at(&[0xa5; 4096], at).unwrap();
}

#[tokio::test]
async fn damage_in_the_file_is_told() {
    let (house, _key) = healthy().await;
    spoil(&house, "seen_keystore");
    // Pages that were read before are read anew after a commit.
    house.store.ping().await.unwrap();
    expect(&house, &["store_integrity Violated"], "Tree").await;
    let (house, _key) = healthy().await;
    behind(
        &house,
        "PRAGMA foreign_keys = OFF; UPDATE copy SET keystore = randomblob(16);",
    );
    let copies = "a row of copy refers to no keystore";
    expect(&house, &["store_references Violated"], copies).await;
}

#[tokio::test]
async fn a_log_that_was_cut_is_told() {
    let (house, _key) = healthy().await;
    behind(&house, "DELETE FROM audit WHERE subject LIKE 'key/%'");
    let expected = ["audit_numbers Violated", "intent_first Violated"];
    expect(&house, &expected, "no audit entry for its intent").await;
}

#[tokio::test]
async fn what_was_acknowledged_and_is_gone_is_told() {
    let (house, key) = healthy().await;
    let change = Change {
        operation: Some(OperationRecord {
            key: "op".to_owned(),
            id: OperationId::from_uuid(Uuid::from_u128(7)),
            request: sha256(b"x"),
            status: 200,
            subject: "key/1".to_owned(),
            at: unix_ms(),
        }),
        ..Change::default()
    };
    house.store.commit(change).await.unwrap();
    let expected = ["acknowledged_kept Violated"];
    expect(&house, &expected, "has no audit entry").await;
    behind(&house, "DELETE FROM operation");
    house.agents.with("a", |agent| {
        let held = agent.held.get_mut(&key.key.version).unwrap();
        held.applied = Some(ahead(9, Want::Deactivated));
    });
    expect(&house, &expected, "the agent applied generation 9").await;
}

#[tokio::test]
async fn an_intent_that_nobody_asked_for_is_told_and_so_is_one_that_is_late() {
    let (house, key) = healthy().await;
    let before = on_a(&key);
    let mut instance = before.clone();
    instance.intent.generation = before.intent.generation.next();
    instance.since = UnixMs(0);
    let put = Write::InstancePut {
        key: key.key.id,
        instance: Box::new(instance),
        expected: Some(before.intent.generation),
    };
    commit(&house, vec![put]).await;
    let expected = ["intent_first Violated", "convergence Warning"];
    expect(&house, &expected, "no audit entry").await;
}

#[tokio::test]
async fn a_destroyed_key_that_came_back_is_told() {
    let (house, key) = healthy().await;
    let key = house.act(&key, Action::Deactivate).await.unwrap();
    house.settled(key.key.id).await;
    let was = objects(&on_a(&key));
    let key = house.act(&key, Action::Destroy).await.unwrap();
    house.settled(key.key.id).await;
    assert_eq!(told(&checks(&house).await), Vec::<String>::new());
    house.agents.with("a", |agent| {
        let held = agent.held.get_mut(&key.key.version).unwrap();
        held.observation = Observation::Present(was);
    });
    expect(&house, &["terminal Violated"], "destroyed, and there").await;
}

#[tokio::test]
async fn a_key_that_is_there_twice_is_told() {
    let (house, key) = healthy().await;
    house.agents.with("a", |agent| {
        let held = agent.held.get_mut(&key.key.version).unwrap();
        let Observation::Present(found) = &mut held.observation else {
            panic!("not there: {held:?}")
        };
        let twin = found.objects[0].clone();
        found.objects.push(twin);
    });
    expect(&house, &["uniqueness Violated"], "more than one secret key").await;
}

#[tokio::test]
async fn too_few_copies_are_told() {
    let (house, _key) = healthy().await;
    let vault = house.store.vault(house.vault).await.unwrap().unwrap();
    let patch = VaultPatch {
        min_copies: Some(2),
        ..VaultPatch::default()
    };
    let call = call(Some(vault.revision.0));
    house
        .ops
        .vault_update(&call, house.vault, patch)
        .await
        .unwrap();
    expect(&house, &["repository_copies Warning"], "k: 1 of 2").await;
}

#[tokio::test]
async fn agents_in_trouble_are_told() {
    let (house, _key) = healthy().await;
    house.agents.cut("b");
    expect(&house, &["keystore_sessions Warning"], "b: not connected").await;
    house.agents.mend("b");
    let strange = Marker {
        keystore: house.agents.with("a", |agent| agent.id.unwrap()),
        epoch: lockstep::model::ids::Epoch(9),
    };
    for (health, name, words) in [
        (Health::JournalLost, "agent_journals Violated", "journal"),
        (Health::WrongPin, "token_health Warning", "PIN"),
        (
            Health::OtherEpoch(strange),
            "token_health Warning",
            "epoch 9",
        ),
    ] {
        house.agents.with("a", |agent| agent.health = health);
        expect(&house, &[name], words).await;
    }
    house.agents.with("a", |agent| {
        agent.health = Health::Ok;
        agent.described = |told| {
            told.accepted = Some(Capabilities::best());
            let can = told.capabilities.as_mut().unwrap();
            (can.copy, can.trials) = (false, Capabilities::best().trials);
        };
    });
    let lost = "C_CopyObject";
    expect(&house, &["capabilities Warning"], lost).await;
    house.agents.with("a", |agent| {
        agent.described = |told| told.clock.0 -= 3_600_000;
    });
    expect(&house, &["clocks Warning"], "behind").await;
}

#[tokio::test]
async fn rotations_that_do_not_end_well_are_told() {
    let (house, _key) = healthy().await;
    let keystore = house.agents.with("home", |agent| agent.id.unwrap());
    let mut record = KekRotation {
        keystore,
        revision: Revision(1),
        asked_at: UnixMs(0),
        state: RotationState::Asked,
        trouble: None,
    };
    let put = |record: &KekRotation, expected| Write::KekRotationPut {
        record: record.clone(),
        expected,
    };
    commit(&house, vec![put(&record, None)]).await;
    expect(&house, &["rotations Warning"], "home: asked for").await;
    record.revision = Revision(2);
    record.state = RotationState::Done {
        to: KekNumber::from_number(2),
        total: 1,
        at: UnixMs(0),
    };
    commit(&house, vec![put(&record, Some(Revision(1)))]).await;
    expect(&house, &["wrapping_keys Violated"], "home: 1 copies").await;
}

#[tokio::test]
async fn a_key_past_its_date_is_told() {
    let (house, key) = healthy().await;
    let expected = key.key.revision;
    let mut record = Box::new(key.key);
    record.expiration_date = Some("2001-01-01".to_owned());
    record.revision = expected.next();
    commit(&house, vec![Write::KeyUpdate { record, expected }]).await;
    let words = "k: active, its expiration date was 2001-01-01";
    expect(&house, &["dates Warning"], words).await;
}
