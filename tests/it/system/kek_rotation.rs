//! A new wrapping key for an internal keystore, with agent and coordinator killed in the midst of it, and keys in use meanwhile.

use std::process::Command;

use lockstep::coordinator::store::sqlite::{Settings, SqliteStore};
use lockstep::coordinator::store::{Change, Store as _, Write};
use lockstep::model::ids::KeyVersionId;
use lockstep::model::kek::KekNumber;
use serde_json::Value;

use crate::support::fleet::{Fleet, said};

/// Enough that a rotation takes longer than a look at it.
const KEYS: usize = 40;

fn path(fleet: &Fleet, keystore: &str) -> String {
    let id = &fleet.agents[keystore].keystore;
    format!("/api/lockstep/v1/keystores/{id}/kek_rotation")
}

fn rotate(fleet: &Fleet, keystore: &str) -> Value {
    let at = path(fleet, keystore);
    fleet.request("POST", &at, None, &Value::Null).ok()
}

/// Waits until some, but not all, is done; false if it came to its end unseen.
fn midway(fleet: &Fleet) -> bool {
    let at = path(fleet, "home");
    fleet.until("a rotation under way", || {
        let now = fleet.get(&at);
        let begun = now["rewrapped"].as_u64() > Some(0) || now["state"] == "done";
        if begun { Ok(now) } else { Err(now) }
    })["state"]
        == "rewrapping"
}

fn done(fleet: &Fleet) -> Value {
    let at = path(fleet, "home");
    fleet.until("the end of the rotation", || {
        let now = fleet.get(&at);
        if now["state"] == "done" {
            Ok(now)
        } else {
            Err(now)
        }
    })
}

/// Labels of the wrapping keys on the token, sorted.
fn wrapping_keys(fleet: &Fleet) -> Vec<String> {
    let listed = said(&fleet.outsider("home", "list", &[]));
    let of = listed
        .lines()
        .filter(|line| line.contains("label=\"lockstep-kek"));
    let label = |line: &str| line.split('"').nth(1).unwrap().to_owned();
    let mut labels: Vec<String> = of.map(label).collect();
    labels.sort_unstable();
    labels
}

fn activate(fleet: &Fleet, key: &str) {
    fleet.change("POST", key, "/activate", &Value::Null).ok();
}

#[test]
fn a_rotation_goes_on_whoever_is_killed() {
    let mut fleet = Fleet::start(&["home", "frankfurt"]);
    let vault = fleet.furnish();
    fleet.template(&vault, "aes", "aes", 256);
    fleet.template(&vault, "ec", "ec", 256);
    let mut keys: Vec<String> = (0..KEYS)
        .map(|number| fleet.key(&vault, "aes", &format!("aes-{number}")))
        .collect();
    keys.push(fleet.key(&vault, "ec", "ec-1"));
    activate(&fleet, &keys[0]);
    fleet.in_step(&keys[0]);
    assert_eq!(fleet.get(&path(&fleet, "home"))["state"], "none");
    let external = fleet.request("POST", &path(&fleet, "frankfurt"), None, &Value::Null);
    assert_eq!((external.status, external.code()), (409, "not_internal"));

    let mut kek = survives_its_agent(&mut fleet, &keys);

    // The coordinator dies in the midst of the next one.
    kek += 1;
    rotate(&fleet, "home");
    let _may_be_over = midway(&fleet);
    fleet.kill_coordinator();
    fleet.start_coordinator();
    assert_eq!(done(&fleet)["kek"], kek);
    assert_eq!(wrapping_keys(&fleet), [format!("lockstep-kek-{kek}")]);

    // By the command line, to its end.
    kek += 1;
    let cli = Command::new(env!("CARGO_BIN_EXE_lockstep"))
        .args(["--url", &fleet.url, "--token-file"])
        .arg(fleet.dir.join("admin.token"))
        .args(["keystore", "rotate-kek", "home", "--wait"])
        .output()
        .unwrap();
    let told = said(&cli);
    let total = keys.len();
    let sentence = format!("home: {total} of {total} re-wrapped under wrapping key {kek}, done ");
    assert!(told.starts_with(&sentence), "{told}");

    // All keys come out of the repository as themselves: an agent enables no other.
    let last = fleet.key(&vault, "aes", "made after");
    keys.push(last);
    for key in &keys[4..] {
        activate(&fleet, key);
    }
    keys.iter().for_each(|key| fleet.in_step(key));
    fleet.keeps_its_promises();
    check_copies(&mut fleet, &keys, kek);
}

/// The agent dies in the midst of a rotation; gives the number of the new wrapping key.
fn survives_its_agent(fleet: &mut Fleet, keys: &[String]) -> u32 {
    let mut kek = 1;
    loop {
        kek += 1;
        assert!(kek < 8, "no rotation was caught in the midst");
        rotate(fleet, "home");
        if midway(fleet) {
            break;
        }
    }
    // Asked once more meanwhile, which changes nothing.
    fleet.kill_agent("home");
    let now = fleet.get(&path(fleet, "home"));
    assert_eq!(now["state"], "rewrapping", "{now:#}");
    assert!(now["rewrapped"].as_u64() < now["total"].as_u64(), "{now:#}");
    assert_eq!(rotate(fleet, "home")["kek"], kek, "it is the same one");
    let told = fleet.until("what it waits for", || {
        let now = fleet.get(&path(fleet, "home"));
        let waits = now["waiting_for"] != "";
        if waits { Ok(now) } else { Err(now) }
    });
    assert_eq!(told["state"], "rewrapping");
    assert_eq!(wrapping_keys(fleet).len(), 2, "old and new");
    fleet.start_agent("home");
    // Keys under the old one and under the new one are there to be used meanwhile.
    for key in &keys[1..4] {
        fleet.until("an activation", || {
            let answer = fleet.change("POST", key, "/activate", &Value::Null);
            let took = answer.status == 202 || answer.status == 200;
            took.then_some(()).ok_or(answer.body)
        });
        fleet.in_step(key);
    }
    let end = done(fleet);
    assert_eq!(
        (&end["rewrapped"], &end["waiting_for"]),
        (&end["total"], &"".into())
    );
    assert_eq!(wrapping_keys(fleet), [format!("lockstep-kek-{kek}")]);
    kek
}

/// One copy of each key, all under that wrapping key.
fn check_copies(fleet: &mut Fleet, keys: &[String], kek: u32) {
    let versions: Vec<String> = keys.iter().map(|key| fleet.cka_id(key)).collect();
    fleet.kill_coordinator();
    let file = fleet.dir.join("test/state/store.sqlite");
    let store = SqliteStore::open(&file, Settings::default()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for version in versions {
        let version = KeyVersionId::from_uuid(version.parse().unwrap());
        let copies = runtime.block_on(store.copies(version)).unwrap();
        assert_eq!(copies.len(), 1);
        assert_eq!(copies[0].kek, KekNumber::from_number(kek));
    }
}

#[test]
fn a_copy_that_cannot_be_opened_keeps_the_old_key_and_nothing_else() {
    let mut fleet = Fleet::start(&["home", "frankfurt"]);
    let vault = fleet.furnish();
    fleet.template(&vault, "aes", "aes", 256);
    let [good, bad] = ["good", "bad"].map(|label| fleet.key(&vault, "aes", label));
    activate(&fleet, &bad);
    fleet.in_step(&bad);
    let version = fleet.cka_id(&bad);
    fleet.change("POST", &bad, "/deactivate", &Value::Null).ok();
    fleet.in_step(&bad);
    fleet.kill_coordinator();
    damage(&fleet, &version);
    fleet.start_coordinator();
    rotate(&fleet, "home");
    let at = path(&fleet, "home");
    let told = fleet.until("what is in its way", || {
        let now = fleet.get(&at);
        let told = now["waiting_for"]
            .as_str()
            .unwrap()
            .starts_with("key version");
        if told { Ok(now) } else { Err(now) }
    });
    assert_eq!(
        (&told["rewrapped"], &told["total"]),
        (&1.into(), &2.into()),
        "{told:#}"
    );
    let names_it = told["waiting_for"].as_str().unwrap().replace('-', "");
    assert!(names_it.contains(&version), "{told:#}");
    assert_eq!(wrapping_keys(&fleet), ["lockstep-kek", "lockstep-kek-2"]);
    activate(&fleet, &good);
    fleet.in_step(&good);
    // Its copy goes with it, and then the old key.
    fleet.change("POST", &bad, "/destroy", &Value::Null).ok();
    done(&fleet);
    assert_eq!(wrapping_keys(&fleet), ["lockstep-kek-2"]);
}

/// Turns a bit of the one copy of a key version.
fn damage(fleet: &Fleet, version: &str) {
    let version = KeyVersionId::from_uuid(version.parse().unwrap());
    let file = fleet.dir.join("test/state/store.sqlite");
    let store = SqliteStore::open(&file, Settings::default()).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut copy = runtime.block_on(store.copies(version)).unwrap().remove(0);
    copy.blob[7] ^= 1;
    let change = Change {
        writes: vec![Write::CopyAdd { version, copy }],
        ..Change::default()
    };
    runtime.block_on(store.commit(change)).unwrap();
}
