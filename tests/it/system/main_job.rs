//! The main job: make, activate, reassign, deactivate, destroy; each claim checked by a program that is not ours.

use serde_json::{Value, json};

use crate::support::fleet::{Fleet, refused, said};

const BLOCK: &str = "00112233445566778899aabbccddeeff";
const NOT_PERMITTED: &str = "CKR_KEY_FUNCTION_NOT_PERMITTED";

/// Whether the token lists an object with that in its label; its agent's own keys are there all the time.
fn listed(fleet: &Fleet, keystore: &str, label: &str) -> bool {
    said(&fleet.outsider(keystore, "list", &[])).contains(label)
}

#[test]
fn a_key_lives_where_it_is_wanted_and_only_while_it_is() {
    let fleet = Fleet::start(&["home", "frankfurt", "dallas"]);
    let vault = fleet.furnish();
    fleet.template(&vault, "card-data", "aes", 256);
    let key = fleet.key(&vault, "card-data", "card-data-1");
    let made = fleet.get(&key);
    assert_eq!(made["state"], "pre_activation");
    assert!(!listed(&fleet, "frankfurt", "-1"));

    fleet.change("POST", &key, "/activate", &Value::Null).ok();
    fleet.in_step(&key);
    let id = fleet.cka_id(&key);
    let frankfurt = fleet.status(&key, "frankfurt");
    assert_eq!(frankfurt["keystore_sync_flag"], "ok");
    assert_eq!(
        frankfurt["keystore_sync_flag_detail"],
        "active_key_is_active_in_keystore"
    );
    let crypt =
        |at: &str, what: &str, data: &str| fleet.outsider(at, what, &["--id", &id, "--data", data]);
    let cipher = said(&crypt("frankfurt", "encrypt", BLOCK));
    assert_eq!(said(&crypt("dallas", "decrypt", &cipher)), BLOCK);

    let targets = |names: &[&str]| {
        let of = key.replace("/api/v4/", "/api/lockstep/v1/");
        let ids: Vec<Value> = names
            .iter()
            .map(|name| json!({"id": fleet.agents[*name].keystore}))
            .collect();
        let etag = fleet.request("GET", &key, None, &Value::Null).etag;
        let body = json!({ "keystores": ids });
        fleet
            .request("PUT", &format!("{of}/targets"), etag.as_deref(), &body)
            .ok();
        fleet.in_step(&key);
    };
    targets(&["frankfurt"]);
    refused(&crypt("dallas", "encrypt", BLOCK), NOT_PERMITTED);
    let dallas = fleet.status(&key, "dallas");
    assert_eq!(
        dallas["keystore_sync_flag_detail"],
        "target_keystore_removed_by_user"
    );
    targets(&["frankfurt", "dallas"]);
    assert_eq!(said(&crypt("dallas", "decrypt", &cipher)), BLOCK);

    fleet.change("POST", &key, "/deactivate", &Value::Null).ok();
    fleet.in_step(&key);
    refused(&crypt("frankfurt", "encrypt", BLOCK), NOT_PERMITTED);
    refused(&crypt("dallas", "decrypt", &cipher), NOT_PERMITTED);

    fleet.change("POST", &key, "/destroy", &Value::Null).ok();
    fleet.in_step(&key);
    assert!(!listed(&fleet, "frankfurt", "-1"));
    assert!(!listed(&fleet, "dallas", "-1"));
    let again = fleet.change("POST", &key, "/activate", &Value::Null);
    assert_eq!((again.status, again.code()), (409, "state_conflict"));
    fleet.keeps_its_promises();
}

#[test]
fn pairs_and_hmac_keys_go_the_same_way() {
    let fleet = Fleet::start(&["home", "frankfurt", "dallas"]);
    let vault = fleet.furnish();
    for (name, algorithm, size) in [
        ("ec", "ec", 256),
        ("rsa", "rsa", 2048),
        ("hmac", "hmac", 256),
    ] {
        fleet.template(&vault, name, algorithm, size);
        let key = fleet.key(&vault, name, &format!("{name}-1"));
        fleet.change("POST", &key, "/activate", &Value::Null).ok();
        fleet.in_step(&key);
        let id = fleet.cka_id(&key);
        let data = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
        let sign = |at: &str| fleet.outsider(at, "sign", &["--id", &id, "--data", data]);
        let signature = said(&sign("frankfurt"));
        let verify = ["--id", &id, "--data", data, "--signature", &signature];
        said(&fleet.outsider("dallas", "verify", &verify));
        fleet.change("POST", &key, "/deactivate", &Value::Null).ok();
        fleet.in_step(&key);
        refused(&sign("frankfurt"), NOT_PERMITTED);
        refused(&fleet.outsider("dallas", "verify", &verify), NOT_PERMITTED);
        fleet.change("POST", &key, "/destroy", &Value::Null).ok();
        fleet.in_step(&key);
        assert!(!listed(&fleet, "dallas", "-1"));
    }
}
