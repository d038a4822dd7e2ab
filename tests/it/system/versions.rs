//! Rotating on real tokens, and dates that act in a running coordinator; what the tokens do is checked by a program that is not
//! ours.

use serde_json::{Value, json};

use crate::support::fleet::{Fleet, refused, said};
use crate::support::programs::lockstep;

const BLOCK: &str = "00112233445566778899aabbccddeeff";
const NOT_PERMITTED: &str = "CKR_KEY_FUNCTION_NOT_PERMITTED";

fn template(fleet: &Fleet, vault: &str, name: &str, more: &Value) {
    let mut key = json!({
        "size": "256", "algorithm": "aes", "activation_date": "P0D",
        "expiration_date": "P1Y", "state": "pre_activation",
    });
    for (field, value) in more.as_object().unwrap() {
        key[field] = value.clone();
    }
    let body = json!({
        "vault": {"id": vault}, "name": name, "key": key,
        "keystores": [{"group": "all", "type": "pkcs11"}],
    });
    fleet.create("/api/v4/templates", &body);
}

fn crypt(fleet: &Fleet, at: &str, what: &str, id: &str, data: &str) -> std::process::Output {
    fleet.outsider(at, what, &["--id", id, "--data", data])
}

#[test]
fn a_new_version_is_used_and_the_one_before_is_refused() {
    let mut fleet = Fleet::start(&["home", "frankfurt", "dallas"]);
    let vault = fleet.furnish();
    template(
        &fleet,
        &vault,
        "retire",
        &json!({"deactivate_on_rotation": true}),
    );
    template(&fleet, &vault, "keep", &json!({}));
    let keys = ["retire", "keep"].map(|name| {
        let key = fleet.key(&vault, name, &format!("{name}-key"));
        fleet.change("POST", &key, "/activate", &Value::Null).ok();
        fleet.in_step(&key);
        key
    });
    let olds = keys.clone().map(|key| fleet.cka_id(&key));
    let ciphers = olds
        .clone()
        .map(|id| said(&crypt(&fleet, "frankfurt", "encrypt", &id, BLOCK)));
    fleet.change("POST", &keys[0], "/rotate", &Value::Null).ok();
    // One is asked for while dallas is away, and is done when it is back.
    fleet.kill_agent("dallas");
    fleet.change("POST", &keys[1], "/rotate", &Value::Null).ok();
    fleet.kill_coordinator();
    fleet.start_coordinator();
    fleet.start_agent("dallas");
    for (key, old) in keys.iter().zip(&olds) {
        fleet.in_step(key);
        let now = fleet.get(key);
        assert_eq!(now["version"], 2);
        let new = fleet.cka_id(key);
        assert_ne!(&new, old);
        let cipher = said(&crypt(&fleet, "frankfurt", "encrypt", &new, BLOCK));
        let back = said(&crypt(&fleet, "dallas", "decrypt", &new, &cipher));
        assert_eq!(back, BLOCK, "the same material on both");
        assert_ne!(cipher, ciphers[usize::from(old == &olds[1])]);
    }
    for at in ["frankfurt", "dallas"] {
        refused(
            &crypt(&fleet, at, "encrypt", &olds[0], BLOCK),
            NOT_PERMITTED,
        );
        refused(
            &crypt(&fleet, at, "decrypt", &olds[0], &ciphers[0]),
            NOT_PERMITTED,
        );
        let kept = said(&crypt(&fleet, at, "decrypt", &olds[1], &ciphers[1]));
        assert_eq!(kept, BLOCK);
    }
    all_versions_are_destroyed(&fleet, &keys[1], &olds[1], &ciphers[1]);
}

fn all_versions_are_destroyed(fleet: &Fleet, key: &str, old: &str, cipher: &str) {
    let listed = said(&lockstep(fleet, &["key", "versions", "retire-key"]));
    let lines: Vec<&str> = listed.lines().collect();
    assert!(
        lines[1].starts_with("2 ") && lines[1].contains("retire-key-v2"),
        "{listed}"
    );
    assert!(
        lines[2].starts_with("1 ") && lines[2].contains("deactivated"),
        "{listed}"
    );
    fleet.change("POST", key, "/deactivate", &Value::Null).ok();
    fleet.in_step(key);
    for at in ["frankfurt", "dallas"] {
        refused(&crypt(fleet, at, "decrypt", old, cipher), NOT_PERMITTED);
    }
    fleet.change("POST", key, "/destroy", &Value::Null).ok();
    fleet.in_step(key);
    for at in ["frankfurt", "dallas"] {
        let left = said(&fleet.outsider(at, "list", &[]));
        assert!(
            !left.contains("keep-key") && left.contains("retire-key-v2"),
            "{left}"
        );
    }
}

#[test]
fn a_running_coordinator_carries_dates_out() {
    let mut fleet = Fleet::start(&["home", "frankfurt"]);
    let vault = fleet.furnish();
    let later =
        json!({"activation_date": "P1Y", "expiration_date": "P2Y", "on_expiry": "deactivate"});
    template(&fleet, &vault, "later", &later);
    let key = fleet.key(&vault, "later", "later-1");
    let asleep = fleet.key(&vault, "later", "later-2");
    let today = fleet.get(&key)["created_at"].as_str().unwrap()[..10].to_owned();
    let date = |key: &str, body: &Value| fleet.change("PATCH", key, "", body).ok();
    date(&key, &json!({ "activation_date": today }));
    fleet.until("the activation by its date", || {
        let now = fleet.get(&key);
        let done = now["state"] == "active" && now["phase"] == "in_step";
        if done { Ok(()) } else { Err(now) }
    });
    let id = fleet.cka_id(&key);
    said(&crypt(&fleet, "frankfurt", "encrypt", &id, BLOCK));
    date(&key, &json!({ "expiration_date": "2026-01-01" }));
    fleet.until("the end by its date", || {
        let now = fleet.get(&key);
        let done = now["state"] == "deactivated" && now["phase"] == "in_step";
        if done { Ok(()) } else { Err(now) }
    });
    refused(
        &crypt(&fleet, "frankfurt", "encrypt", &id, BLOCK),
        NOT_PERMITTED,
    );
    let told = said(&lockstep(&fleet, &["audit", "list"]));
    for by in ["lockstep: activation date", "lockstep: expiration date"] {
        assert_eq!(told.matches(by).count(), 1, "{told}");
    }
    let calendar = said(&lockstep(&fleet, &["calendar", "--to", "2999-01-01"]));
    assert!(
        calendar.contains("activation") && calendar.contains("later-2"),
        "{calendar}"
    );
    // What falls due while nobody is there is done at the next start.
    date(&asleep, &json!({ "activation_date": today }));
    fleet.kill_coordinator();
    fleet.start_coordinator();
    fleet.until("the activation after the start", || {
        let now = fleet.get(&asleep);
        let done = now["state"] == "active" && now["phase"] == "in_step";
        if done { Ok(()) } else { Err(now) }
    });
}
