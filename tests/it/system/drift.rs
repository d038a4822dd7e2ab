//! Changes that somebody makes on a token behind Lockstep's back: each is noticed by itself and has its own reason.

use serde_json::Value;

use crate::support::fleet::{Fleet, said};

/// A fleet with one active key of a kind on `frankfurt` and `dallas`: its path and CKA_ID.
fn active(algorithm: &str, size: u32) -> (Fleet, String, String) {
    let fleet = Fleet::start(&["home", "frankfurt", "dallas"]);
    let vault = fleet.furnish();
    fleet.template(&vault, "kind", algorithm, size);
    let key = fleet.key(&vault, "kind", "watched");
    fleet.change("POST", &key, "/activate", &Value::Null).ok();
    fleet.in_step(&key);
    let id = fleet.cka_id(&key);
    (fleet, key, id)
}

fn sync(fleet: &Fleet, key: &str) {
    fleet
        .change("POST", key, "/sync_status_in_keystores", &Value::Null)
        .ok();
    fleet.in_step(key);
}

/// The difference of that reason, whole.
fn told(fleet: &Fleet, key: &str, reason: &str) -> Value {
    let status = fleet.difference(key, "frankfurt", reason);
    let all = status["differences"].as_array().unwrap();
    let one = all
        .iter()
        .find(|one| one["reason"] == reason)
        .unwrap()
        .clone();
    assert_eq!(one["caused_by"], "out_of_band", "{one:#}");
    assert!(
        one["expected"].is_string() && one["found"].is_string(),
        "{one:#}"
    );
    assert!(one["since"].is_string(), "{one:#}");
    assert_eq!(status["keystore_sync_flag"], "out_of_sync", "{status:#}");
    assert_eq!(fleet.status(key, "dallas")["keystore_sync_flag"], "ok");
    one
}

#[test]
fn secret_keys() {
    let (fleet, key, id) = active("aes", 256);
    let outsider = |command: &str, args: &[&str]| {
        said(&fleet.outsider("frankfurt", command, &[&["--id", &id], args].concat()))
    };
    outsider(
        "set-usage",
        &["--class", "secret", "--off", "encrypt,decrypt"],
    );
    told(&fleet, &key, "disabled_unexpectedly");
    sync(&fleet, &key);

    outsider("set-usage", &["--class", "secret", "--on", "wrap"]);
    told(&fleet, &key, "usage_changed");
    sync(&fleet, &key);

    outsider("set-label", &["--label", "other name"]);
    told(&fleet, &key, "label_changed");
    sync(&fleet, &key);

    outsider("set-id", &["--to", "99"]);
    let moved = told(&fleet, &key, "id_changed");
    assert_eq!(moved["healed_by"], "operator");
    let back = ["--id", "99", "--to", id.as_str()];
    said(&fleet.outsider("frankfurt", "set-id", &back));
    fleet.in_step(&key);

    outsider("destroy", &[]);
    told(&fleet, &key, "missing");
    sync(&fleet, &key);

    outsider("swap", &[]);
    let wrong = told(&fleet, &key, "wrong_key");
    assert_eq!(wrong["healed_by"], "operator");
    outsider("destroy", &[]);
    told(&fleet, &key, "missing");
    sync(&fleet, &key);

    outsider("duplicate", &[]);
    told(&fleet, &key, "duplicated");
}

#[test]
fn a_deactivated_key_that_is_enabled_and_a_destroyed_one_that_is_back() {
    let (fleet, key, id) = active("aes", 128);
    fleet.change("POST", &key, "/deactivate", &Value::Null).ok();
    fleet.in_step(&key);
    let on = ["--id", &id, "--class", "secret", "--on", "encrypt"];
    said(&fleet.outsider("frankfurt", "set-usage", &on));
    told(&fleet, &key, "enabled_unexpectedly");
    sync(&fleet, &key);
    fleet.change("POST", &key, "/destroy", &Value::Null).ok();
    fleet.in_step(&key);
    let back = ["--id", &id, "--label", "watched"];
    said(&fleet.outsider("frankfurt", "generate", &back));
    told(&fleet, &key, "destroyed_key_present");
}

#[test]
fn half_a_pair() {
    let (fleet, key, id) = active("ec", 256);
    let half = ["--id", &id, "--class", "public"];
    said(&fleet.outsider("frankfurt", "destroy", &half));
    told(&fleet, &key, "half_pair");
    sync(&fleet, &key);
    let half = ["--id", &id, "--class", "private"];
    said(&fleet.outsider("frankfurt", "destroy", &half));
    told(&fleet, &key, "half_pair");
    sync(&fleet, &key);
}
