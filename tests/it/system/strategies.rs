//! Keys that are disabled otherwise than by their flags, on real tokens: what a vault or an operator demands, and what is
//! left on the token.

use serde_json::{Value, json};

use crate::support::fleet::{Fleet, said};

const KEYSTORES: &str = "/api/v4/keystores";

fn keystore(fleet: &Fleet, name: &str) -> String {
    let all = fleet.get(KEYSTORES);
    let found = all["keystores"].as_array().unwrap();
    let one = found.iter().find(|one| one["name"] == name).unwrap();
    format!("{KEYSTORES}/{}", one["id"].as_str().unwrap())
}

/// Objects of the key on a token, one a line.
fn listed(fleet: &Fleet, keystore: &str, id: &str) -> Vec<String> {
    let all = said(&fleet.outsider(keystore, "list", &[]));
    let of = all.lines().filter(|line| line.contains(id));
    of.map(str::to_owned).collect()
}

fn change(fleet: &Fleet, key: &str, action: &str) {
    fleet.change("POST", key, action, &Value::Null).ok();
    fleet.in_step(key);
}

fn encrypts(fleet: &Fleet, keystore: &str, id: &str) -> bool {
    let data = ["--id", id, "--data", "00112233445566778899aabbccddeeff"];
    fleet.outsider(keystore, "encrypt", &data).status.success()
}

#[test]
fn a_vault_may_demand_that_deactivated_keys_leave_the_tokens() {
    for (algorithm, size, objects) in [("aes", 256, 1), ("ec", 256, 2)] {
        let fleet = Fleet::start(&["home", "frankfurt"]);
        let vault = fleet.furnish();
        let at = format!("/api/v4/vaults/{vault}");
        let demand = json!({"pkcs11_strategy": "withdraw"});
        fleet.change("PATCH", &at, "", &demand).ok();
        fleet.template(&vault, "kind", algorithm, size);
        let key = fleet.key(&vault, "kind", "withdrawn");
        change(&fleet, &key, "/activate");
        let id = fleet.cka_id(&key);
        assert_eq!(listed(&fleet, "frankfurt", &id).len(), objects);
        // Nobody with the PIN gets round it: the object cannot be changed.
        let flip = [
            "--id",
            &id,
            "--class",
            if objects == 1 { "secret" } else { "private" },
            "--on",
            "derive",
        ];
        assert_eq!(
            fleet
                .outsider("frankfurt", "set-usage", &flip)
                .status
                .code(),
            Some(3)
        );
        change(&fleet, &key, "/deactivate");
        assert_eq!(listed(&fleet, "frankfurt", &id), Vec::<String>::new());
        let status = fleet.status(&key, "frankfurt");
        assert_eq!(status["status"], "not_present", "{status:#}");
        assert_eq!(status["keystore_sync_flag"], "ok", "{status:#}");
        change(&fleet, &key, "/activate");
        assert_eq!(listed(&fleet, "frankfurt", &id).len(), objects);
        if objects == 1 {
            assert!(encrypts(&fleet, "frankfurt", &id));
        }
        change(&fleet, &key, "/deactivate");
        // Somebody brings one back: it is told, and a sync withdraws it.
        if objects == 1 {
            let back = ["--id", &id, "--label", "withdrawn"];
            said(&fleet.outsider("frankfurt", "generate", &back));
            fleet.difference(&key, "frankfurt", "not_withdrawn");
        }
    }
}

#[test]
fn an_operator_may_pin_copies() {
    let fleet = Fleet::start(&["home", "frankfurt"]);
    let vault = fleet.furnish();
    let at = keystore(&fleet, "frankfurt");
    fleet.until("capabilities", || {
        let body = fleet.get(&at);
        body["pkcs11_capabilities"]
            .is_object()
            .then_some(())
            .ok_or(body)
    });
    let pinned = fleet
        .change("PATCH", &at, "", &json!({"pkcs11_strategy": "copy"}))
        .ok();
    assert_eq!(pinned["pkcs11_strategy"], "copy");
    for (algorithm, objects) in [("aes", 1), ("ec", 2)] {
        fleet.template(&vault, algorithm, algorithm, 256);
        let key = fleet.key(&vault, algorithm, algorithm);
        change(&fleet, &key, "/activate");
        let id = fleet.cka_id(&key);
        assert_eq!(listed(&fleet, "frankfurt", &id).len(), objects);
        change(&fleet, &key, "/deactivate");
        assert_eq!(listed(&fleet, "frankfurt", &id).len(), objects);
        let status = fleet.status(&key, "frankfurt");
        assert_eq!(status["status"], "not_active", "{status:#}");
        assert_eq!(
            status["proof"]["answer"], "CKR_KEY_FUNCTION_NOT_PERMITTED",
            "{status:#}"
        );
        change(&fleet, &key, "/activate");
        // What a crash between copying and destroying leaves.
        if objects == 1 {
            said(&fleet.outsider("frankfurt", "duplicate", &["--id", &id]));
            assert_eq!(listed(&fleet, "frankfurt", &id).len(), 2);
            change(&fleet, &key, "/deactivate");
            assert_eq!(listed(&fleet, "frankfurt", &id).len(), 1);
            assert!(!encrypts(&fleet, "frankfurt", &id));
        }
    }
    let unpinned = fleet
        .change("PATCH", &at, "", &json!({"pkcs11_strategy": "auto"}))
        .ok();
    assert_eq!(unpinned["pkcs11_strategy"], "flags");
}
