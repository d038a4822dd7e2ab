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

/// A vault with an active and a deactivated key of a kind, both on `frankfurt`: the paths of both.
fn two_keys(fleet: &Fleet, algorithm: &str) -> (String, [String; 2]) {
    let vault = fleet.furnish();
    fleet.template(&vault, "kind", algorithm, 256);
    let keys = ["on", "off"].map(|label| fleet.key(&vault, "kind", label));
    for key in &keys {
        change(fleet, key, "/activate");
    }
    change(fleet, &keys[1], "/deactivate");
    (format!("/api/v4/vaults/{vault}"), keys)
}

fn demand(fleet: &Fleet, of: &str, strategy: &str) {
    let body = json!({"pkcs11_strategy": strategy});
    fleet.change("PATCH", of, "", &body).ok();
}

/// Objects with that label on a token, as `pkcs11-tool` sees them.
fn tool_lists(fleet: &Fleet, keystore: &str, label: &str) -> usize {
    let token = &fleet.agents[keystore].token;
    let all = said(&token.pkcs11_tool(&["--list-objects"]));
    let name = format!("label:      {label}");
    all.lines().filter(|line| line.trim() == name).count()
}

/// What `pkcs11-tool` hears when it uses the key on `frankfurt`.
fn tool_uses(fleet: &Fleet, algorithm: &str, id: &str) -> Result<(), String> {
    let (input, output) = (fleet.dir.join("in"), fleet.dir.join("out"));
    std::fs::write(&input, [7; 32]).unwrap();
    let how: &[&str] = match algorithm {
        "aes" => &["--encrypt", "-m", "AES-ECB"],
        _ => &["--sign", "-m", "ECDSA"],
    };
    let files = [
        "-i",
        input.to_str().unwrap(),
        "-o",
        output.to_str().unwrap(),
    ];
    let of = ["--id", id];
    let token = &fleet.agents["frankfurt"].token;
    let said = token.pkcs11_tool(&[how, &of[..], &files[..]].concat());
    let err = String::from_utf8_lossy(&said.stderr).into_owned();
    if said.status.success() {
        Ok(())
    } else {
        Err(err)
    }
}

/// The difference of that reason on `frankfurt`: its weight and what heals it.
fn weighs(fleet: &Fleet, key: &str, reason: &str) -> (String, String) {
    let status = fleet.difference(key, "frankfurt", reason);
    let all = status["differences"].as_array().unwrap();
    let one = all.iter().find(|one| one["reason"] == reason).unwrap();
    let word = |field: &str| one[field].as_str().unwrap().to_owned();
    (word("weight"), word("healed_by"))
}

fn sync(fleet: &Fleet, key: &str) {
    change(fleet, key, "/sync_status_in_keystores");
    let status = fleet.status(key, "frankfurt");
    assert_eq!(status["differences"], json!([]), "{status:#}");
    assert_eq!(status["keystore_sync_flag"], "ok", "{status:#}");
}

#[test]
fn a_new_demand_reaches_a_key_with_a_sync_and_goes_back_the_same_way() {
    for (algorithm, objects) in [("aes", 1), ("ec", 2)] {
        let fleet = Fleet::start(&["home", "frankfurt"]);
        let (vault, [on, off]) = two_keys(&fleet, algorithm);
        let ids = [fleet.cka_id(&on), fleet.cka_id(&off)];
        let uses = |id: &str| tool_uses(&fleet, algorithm, id);
        uses(&ids[0]).unwrap();
        let barred = |id: &str| {
            let refused = uses(id).unwrap_err();
            assert!(
                refused.contains("CKR_KEY_FUNCTION_NOT_PERMITTED"),
                "{refused}"
            );
        };
        barred(&ids[1]);

        demand(&fleet, &vault, "withdraw");
        let outdated = "strategy_outdated";
        assert_eq!(
            weighs(&fleet, &off, outdated),
            ("out_of_sync".to_owned(), "sync".to_owned())
        );
        assert_eq!(
            weighs(&fleet, &on, outdated),
            ("warning".to_owned(), "sync".to_owned())
        );
        assert_eq!(
            tool_lists(&fleet, "frankfurt", "off"),
            objects,
            "nothing moves by itself"
        );
        sync(&fleet, &off);
        assert_eq!(tool_lists(&fleet, "frankfurt", "off"), 0);
        sync(&fleet, &on);
        uses(&ids[0]).unwrap();

        demand(&fleet, &vault, "flags");
        assert_eq!(
            weighs(&fleet, &off, outdated),
            ("out_of_sync".to_owned(), "sync".to_owned())
        );
        // Whoever tries all the time never finds it usable.
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut tries = 0;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    assert!(uses(&ids[1]).is_err(), "usable on its way back");
                    tries += 1;
                }
                tries
            });
            sync(&fleet, &off);
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(watcher.join().unwrap() > 0);
        });
        assert_eq!(tool_lists(&fleet, "frankfurt", "off"), objects);
        barred(&ids[1]);
        sync(&fleet, &on);
        // Now by flags: an object that was born under `withdraw` is fixed, and has to go for it.
        demand(&fleet, &vault, "withdraw");
        sync(&fleet, &off);
        change(&fleet, &off, "/activate");
        demand(&fleet, &vault, "flags");
        sync(&fleet, &off);
        uses(&ids[1]).unwrap();
        change(&fleet, &off, "/deactivate");
        assert_eq!(tool_lists(&fleet, "frankfurt", "off"), objects);
        barred(&ids[1]);
        change(&fleet, &off, "/activate");
        uses(&ids[1]).unwrap();
    }
}

#[test]
fn a_new_pin_makes_what_cannot_be_copied_anew() {
    for (algorithm, objects) in [("aes", 1), ("ec", 2)] {
        let fleet = Fleet::start(&["home", "frankfurt"]);
        let (_vault, [on, off]) = two_keys(&fleet, algorithm);
        let id = fleet.cka_id(&off);
        let at = keystore(&fleet, "frankfurt");
        demand(&fleet, &at, "copy");
        assert_eq!(
            weighs(&fleet, &off, "strategy_outdated"),
            ("warning".to_owned(), "sync".to_owned())
        );
        sync(&fleet, &off);
        sync(&fleet, &on);
        assert!(tool_uses(&fleet, algorithm, &id).is_err());
        change(&fleet, &off, "/activate");
        tool_uses(&fleet, algorithm, &id).unwrap();
        change(&fleet, &off, "/deactivate");
        assert!(tool_uses(&fleet, algorithm, &id).is_err());
        change(&fleet, &on, "/deactivate");
        assert!(tool_uses(&fleet, algorithm, &fleet.cka_id(&on)).is_err());
        // `duplicate` says `made another` where the token lets it copy nothing.
        let all = listed(&fleet, "frankfurt", &id);
        assert_eq!(all.len(), objects, "{all:?}");
        let twice = said(&fleet.outsider("frankfurt", "duplicate", &["--id", &id]));
        assert!(!twice.contains("another"), "{twice}");
    }
}
