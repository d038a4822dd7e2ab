//! Bad luck: processes killed at any moment. Nothing is lost, and the next pass ends where it should.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::fleet::{Fleet, refused, said};

const BLOCK: &str = "00112233445566778899aabbccddeeff";

fn two_keystores() -> (Fleet, String) {
    let fleet = Fleet::start(&["home", "frankfurt", "dallas"]);
    let vault = fleet.furnish();
    fleet.template(&vault, "kind", "aes", 256);
    (fleet, vault)
}

#[test]
fn a_change_waits_for_an_agent_that_is_down() {
    let (mut fleet, vault) = two_keystores();
    let key = fleet.key(&vault, "kind", "waits");
    fleet.change("POST", &key, "/activate", &Value::Null).ok();
    fleet.in_step(&key);
    let id = fleet.cka_id(&key);
    fleet.kill_agent("dallas");
    fleet
        .change("POST", &key, "/deactivate?wait=0", &Value::Null)
        .ok();
    fleet.until("unknown at dallas, done at frankfurt", || {
        let (dallas, frankfurt) = (
            fleet.status(&key, "dallas"),
            fleet.status(&key, "frankfurt"),
        );
        let told = dallas["keystore_sync_flag"] == "error"
            && dallas["status"] == "unknown"
            && frankfurt["keystore_sync_flag"] == "ok";
        told.then_some(()).ok_or(json!([dallas, frankfurt]))
    });
    let phase = fleet.get(&key)["phase"].clone();
    assert_ne!(phase, "in_step");
    let crypt =
        |fleet: &Fleet| fleet.outsider("dallas", "encrypt", &["--id", &id, "--data", BLOCK]);
    said(&crypt(&fleet));
    fleet.start_agent("dallas");
    fleet.in_step(&key);
    refused(&crypt(&fleet), "CKR_KEY_FUNCTION_NOT_PERMITTED");
}

#[test]
fn a_coordinator_that_is_killed_knows_nothing_and_then_all() {
    let (mut fleet, vault) = two_keystores();
    let keys: Vec<String> = (0..8)
        .map(|n| fleet.key(&vault, "kind", &format!("key-{n}")))
        .collect();
    for key in &keys {
        fleet
            .change("POST", key, "/activate?wait=0", &Value::Null)
            .ok();
    }
    fleet.kill_coordinator();
    fleet.start_coordinator();
    for key in &keys {
        assert_eq!(fleet.get(key)["state"], "active");
        fleet.in_step(key);
    }
    for name in ["frankfurt", "dallas"] {
        let there = said(&fleet.outsider(name, "list", &[]));
        assert_eq!(
            there.lines().filter(|line| line.contains("key-")).count(),
            keys.len()
        );
    }
}

#[test]
fn an_agent_killed_in_a_batch_ends_where_it_should() {
    let (mut fleet, vault) = two_keystores();
    let keys: Vec<String> = (0..8)
        .map(|n| fleet.key(&vault, "kind", &format!("key-{n}")))
        .collect();
    for (n, key) in keys.iter().enumerate() {
        fleet
            .change("POST", key, "/activate?wait=0", &Value::Null)
            .ok();
        if n % 3 == 2 {
            fleet.kill_agent("frankfurt");
            fleet.start_agent("frankfurt");
        }
    }
    for key in &keys {
        fleet.in_step(key);
    }
    let there = said(&fleet.outsider("frankfurt", "list", &[]));
    assert_eq!(
        there.lines().filter(|line| line.contains("key-")).count(),
        keys.len()
    );
}

#[test]
fn a_module_host_that_dies_is_back_by_itself() {
    let (fleet, vault) = two_keystores();
    let key = fleet.key(&vault, "kind", "survivor");
    fleet.change("POST", &key, "/activate", &Value::Null).ok();
    fleet.in_step(&key);
    let pid = fleet.agent_pid("frankfurt").to_string();
    let host = Command::new("pgrep").args(["-P", &pid]).output().unwrap();
    let host = said(&host);
    assert!(
        Command::new("kill")
            .args(["-9", &host])
            .status()
            .unwrap()
            .success()
    );
    fleet.change("POST", &key, "/deactivate", &Value::Null).ok();
    fleet.in_step(&key);
}

#[test]
fn the_same_request_twice_makes_one_key() {
    let (fleet, vault) = two_keystores();
    let body = json!({"template_name": "kind", "vault": {"id": vault}, "label": "once"});
    let first = fleet.repeatable("POST", "/api/v4/managed_keys", "order-17", &body);
    let again = fleet.repeatable("POST", "/api/v4/managed_keys", "order-17", &body);
    assert_eq!((first.status, again.status), (201, 201));
    assert_eq!(first.body["id"], again.body["id"]);
    assert_eq!(fleet.get("/api/v4/managed_keys")["total_count"], 1);
    let other = json!({"template_name": "kind", "vault": {"id": vault}, "label": "twice"});
    let reused = fleet.repeatable("POST", "/api/v4/managed_keys", "order-17", &other);
    assert_eq!(reused.status / 100, 4);
}
