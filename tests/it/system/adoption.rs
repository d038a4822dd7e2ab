//! Keys that others made, on real tokens: the same one on two of them becomes one managed key, obeys, and stays what it is.

use serde_json::{Value, json};

use crate::support::fleet::{Fleet, said};
use crate::support::programs::{encrypts, lockstep};

const RAW: [u8; 32] = *b"0123456789abcdef0123456789ABCDEF";

/// Runs `pkcs11-tool` on a token; it must succeed.
fn tool(fleet: &Fleet, keystore: &str, args: &[&str]) {
    said(&fleet.agents[keystore].token.pkcs11_tool(args));
}

fn import(fleet: &Fleet, keystore: &str, id: &str, label: &str) {
    let file = fleet.dir.join("raw");
    std::fs::write(&file, RAW).unwrap();
    let object = ["--write-object", file.to_str().unwrap(), "--id", id];
    let kind = [
        "--type",
        "secrkey",
        "--key-type",
        "AES:32",
        "--label",
        label,
    ];
    tool(fleet, keystore, &[&object[..], &kind[..]].concat());
}

/// All keys on a token with their flags, as somebody else sees them.
fn seen(fleet: &Fleet, keystore: &str) -> Vec<String> {
    let all = said(&fleet.outsider(keystore, "list", &[]));
    let mut lines: Vec<String> = all.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

/// Waits until the keystore tells of an unmanaged key of that label; gives all that is told of it.
fn told(fleet: &Fleet, keystore: &str, label: &str) -> Value {
    let id = &fleet.agents[keystore].keystore;
    let at = format!("/api/lockstep/v1/keystores/{id}/unmanaged?fingerprints=true");
    fleet.until(&format!("{label} on {keystore}"), || {
        let found = fleet.get(&at);
        let all = found["found_keys"].as_array().unwrap();
        let one = all.iter().find(|key| key["label_in_keystore"] == label);
        one.cloned().ok_or(found)
    })
}

fn adopt(fleet: &Fleet, args: &[&str]) -> String {
    said(&lockstep(fleet, &[&["keystore", "adopt"], args].concat()))
}

/// The path of the managed key with that label.
fn managed(fleet: &Fleet, label: &str) -> String {
    let found = fleet.get(&format!("/api/v4/managed_keys?label={label}"));
    let id = found["managed_keys"][0]["id"].as_str();
    format!("/api/v4/managed_keys/{}", id.unwrap())
}

fn act(fleet: &Fleet, key: &str, action: &str) {
    fleet.change("POST", key, action, &Value::Null).ok();
    fleet.in_step(key);
}

/// `frankfurt` and `dallas` hold the same key, which somebody imported.
fn imported() -> Fleet {
    let fleet = Fleet::start(&["home", "frankfurt", "dallas"]);
    let vault = fleet.furnish();
    fleet.template(&vault, "legacy", "aes", 256);
    import(&fleet, "frankfurt", "0a", "cards");
    import(&fleet, "dallas", "0b0c", "old-cards");
    fleet
}

#[test]
fn one_key_on_two_tokens_is_adopted_and_obeys() {
    let mut fleet = imported();
    let [one, other] = [("frankfurt", "cards"), ("dallas", "old-cards")]
        .map(|(keystore, label)| told(&fleet, keystore, label));
    assert_eq!(one["fingerprint"]["method"], "digest-key", "{one:#}");
    assert_eq!(
        one["fingerprint"], other["fingerprint"],
        "the same material"
    );
    assert_eq!(one["findings"][0]["severity"], "high", "{one:#}");
    let before = [seen(&fleet, "frankfurt"), seen(&fleet, "dallas")];
    let cipher = encrypts(&fleet, "frankfurt", "0a").unwrap();

    let dry = ["frankfurt", "--cka-id", "0a", "--template", "legacy"];
    adopt(&fleet, &[&dry[..], &["--dry-run"]].concat());
    assert_eq!(fleet.get("/api/v4/managed_keys")["total_count"], 0);
    assert!(adopt(&fleet, &dry).contains(" adopted "));
    let pattern = ["dallas", "--label", "old-*", "--template", "legacy"];
    assert!(adopt(&fleet, &pattern).contains(" joined "));
    assert_eq!(fleet.get("/api/v4/managed_keys")["total_count"], 1);
    let key = managed(&fleet, "cards");
    fleet.in_step(&key);
    let record = fleet.get(&key);
    assert_eq!(record["state"], "active");
    assert_eq!(record["copies"]["held"], 0);
    let dallas = fleet.status(&key, "dallas");
    assert_eq!(dallas["key_id_in_keystore"], "0b0c");
    assert_eq!(dallas["label_in_keystore"], "old-cards");
    assert!(dallas["adopted_at"].is_string(), "{dallas:#}");
    assert_eq!(dallas["findings"], one["findings"]);
    let after = [seen(&fleet, "frankfurt"), seen(&fleet, "dallas")];
    assert_eq!(before, after, "nothing on a token changed");

    act(&fleet, &key, "/deactivate");
    for (keystore, id) in [("frankfurt", "0a"), ("dallas", "0b0c")] {
        let refused = encrypts(&fleet, keystore, id).unwrap_err();
        assert!(
            refused.contains("CKR_KEY_FUNCTION_NOT_PERMITTED"),
            "{refused}"
        );
        let status = fleet.status(&key, keystore);
        assert_eq!(status["proof"]["answer"], "CKR_KEY_FUNCTION_NOT_PERMITTED");
    }
    // Its agent remembers what it manages.
    fleet.kill_agent("dallas");
    fleet.start_agent("dallas");
    fleet.in_step(&key);
    act(&fleet, &key, "/activate");
    assert_eq!(encrypts(&fleet, "dallas", "0b0c").unwrap(), cipher);
    let again = [seen(&fleet, "frankfurt"), seen(&fleet, "dallas")];
    assert_eq!(before, again, "as it was found, to the last flag");

    let ids =
        ["home", "frankfurt", "dallas"].map(|name| json!({"id": fleet.agents[name].keystore}));
    let home = json!({ "keystores": ids });
    let of = key.replace("/api/v4/", "/api/lockstep/v1/");
    let etag = fleet.request("GET", &key, None, &Value::Null).etag;
    let more = fleet.request("PUT", &format!("{of}/targets"), etag.as_deref(), &home);
    assert_eq!((more.status, more.code()), (409, "no_repository_copy"));
}

#[test]
fn drift_of_an_adopted_key_is_told_and_synced() {
    let fleet = imported();
    told(&fleet, "frankfurt", "cards");
    adopt(&fleet, &["frankfurt", "--all", "--template", "legacy"]);
    let key = managed(&fleet, "cards");
    fleet.in_step(&key);
    let off = ["--id", "0a", "--class", "secret", "--off", "encrypt"];
    said(&fleet.outsider("frankfurt", "set-usage", &off));
    fleet.difference(&key, "frankfurt", "usage_changed");
    act(&fleet, &key, "/sync_status_in_keystores");
    encrypts(&fleet, "frankfurt", "0a").unwrap();
    said(&fleet.outsider("frankfurt", "swap", &["--id", "0a"]));
    fleet.difference(&key, "frankfurt", "wrong_key");
    said(&fleet.outsider("frankfurt", "destroy", &["--id", "0a"]));
    let missing = fleet.difference(&key, "frankfurt", "missing");
    assert_eq!(missing["differences"][0]["healed_by"], "operator");
    let sync = fleet.change("POST", &key, "/sync_status_in_keystores", &Value::Null);
    assert_eq!(sync.code(), "no_repository_copy");
    // Put back by whoever has it.
    import(&fleet, "frankfurt", "0a", "cards");
    fleet.until("what was put back", || {
        let status = fleet.status(&key, "frankfurt");
        let is_there = status["status"] == "active";
        is_there.then_some(()).ok_or(status)
    });
}

#[test]
fn pairs_are_adopted_whole_and_half_ones_are_not() {
    let fleet = Fleet::start(&["home", "frankfurt"]);
    let vault = fleet.furnish();
    for (algorithm, size, kind) in [("ec", 256, "EC:prime256v1"), ("rsa", 2048, "rsa:2048")] {
        fleet.template(&vault, algorithm, algorithm, size);
        let made = ["--keypairgen", "--key-type", kind];
        let named = ["--id", &format!("{size:04}"), "--label", algorithm];
        tool(&fleet, "frankfurt", &[&made[..], &named[..]].concat());
        told(&fleet, "frankfurt", algorithm);
        let before = seen(&fleet, "frankfurt");
        let which = ["frankfurt", "--algorithm", algorithm];
        adopt(&fleet, &[&which[..], &["--template", algorithm]].concat());
        let key = managed(&fleet, algorithm);
        fleet.in_step(&key);
        assert_eq!(seen(&fleet, "frankfurt"), before);
        act(&fleet, &key, "/deactivate");
        let id = fleet.cka_id(&key);
        let sign = ["--id", &id, "--data", "00112233"];
        let refused = fleet.outsider("frankfurt", "sign", &sign);
        assert_eq!(refused.status.code(), Some(3), "{refused:?}");
        act(&fleet, &key, "/activate");
        assert_eq!(seen(&fleet, "frankfurt"), before);
        said(&fleet.outsider("frankfurt", "sign", &sign));
    }
    let key = managed(&fleet, "ec");
    act(&fleet, &key, "/deactivate");
    act(&fleet, &key, "/destroy");
    assert!(
        !seen(&fleet, "frankfurt")
            .iter()
            .any(|line| line.contains("\"ec\""))
    );
    let half = ["generate", "--kind", "ec", "--id", "07", "--label", "half"];
    let token = &fleet.agents["frankfurt"].token;
    token.outsider_ok(&half);
    token.outsider_ok(&["destroy", "--id", "07", "--class", "public"]);
    let found = fleet.until("half a pair", || {
        let found = told(&fleet, "frankfurt", "half");
        let is_half = found["obstacle"]["code"] == "half_pair";
        if is_half {
            Ok(found.clone())
        } else {
            Err(found)
        }
    });
    assert_eq!(found["objects"].as_array().unwrap().len(), 1);
    let args = [
        "keystore",
        "adopt",
        "frankfurt",
        "--cka-id",
        "07",
        "--template",
        "ec",
    ];
    let refused = lockstep(&fleet, &args);
    assert_eq!(refused.status.code(), Some(3));
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("[half_pair]"), "{why}");
}

#[test]
fn what_is_ignored_is_left_alone_and_a_disabled_key_is_adopted_deactivated() {
    let fleet = imported();
    told(&fleet, "frankfurt", "cards");
    let keystore = |args: &[&str]| said(&lockstep(&fleet, &[&["keystore"], args].concat()));
    let why = ["--reason", "the web server's own"];
    let which = ["ignore", "frankfurt", "--cka-id", "0a"];
    assert_eq!(
        keystore(&[&which[..], &why[..]].concat()),
        "cards (0a): ignored"
    );
    assert_eq!(keystore(&["unmanaged", "frankfurt"]), "none");
    let listed = keystore(&["unmanaged", "frankfurt", "--ignored"]);
    assert!(
        listed.contains("ignored") && listed.contains(why[1]),
        "{listed}"
    );
    let refused = lockstep(
        &fleet,
        &[
            "keystore",
            "adopt",
            "frankfurt",
            "--cka-id",
            "0a",
            "--template",
            "legacy",
        ],
    );
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("[ignored]"),
        "{refused:?}"
    );
    let back = keystore(&["unignore", "frankfurt", "--cka-id", "0a"]);
    assert_eq!(back, "cards (0a): not ignored any more");
    let all = "encrypt,decrypt,sign,verify,wrap,unwrap,derive";
    let off = ["--id", "0a", "--class", "secret", "--off", all];
    said(&fleet.outsider("frankfurt", "set-usage", &off));
    fleet.until("nothing on", || {
        let found = told(&fleet, "frankfurt", "cards");
        let is_off = found["usage"].as_array().is_some_and(Vec::is_empty);
        is_off.then_some(()).ok_or(found)
    });
    let printed = adopt(
        &fleet,
        &["frankfurt", "--cka-id", "0a", "--template", "legacy"],
    );
    assert!(printed.contains("deactivated"), "{printed}");
    let key = managed(&fleet, "cards");
    fleet.in_step(&key);
    assert!(encrypts(&fleet, "frankfurt", "0a").is_err());
    act(&fleet, &key, "/activate");
    encrypts(&fleet, "frankfurt", "0a").unwrap();
}

/// SoftHSM2 changes nothing of a fixed key, in a copy neither.
#[test]
fn what_could_never_be_disabled_is_not_adopted() {
    let fleet = Fleet::start(&["home", "frankfurt"]);
    let vault = fleet.furnish();
    for (kind, [fixed, stuck]) in [("aes", ["0a", "0b"]), ("ec", ["0c", "0d"])] {
        fleet.template(&vault, kind, kind, 256);
        for (id, guard) in [
            (fixed, &["--fixed"][..]),
            (stuck, &["--fixed", "--uncopyable"]),
        ] {
            let label = format!("{kind}-{id}");
            let named = ["--id", id, "--label", &label, "--kind", kind];
            said(&fleet.outsider("frankfurt", "generate", &[&named[..], guard].concat()));
            told(&fleet, "frankfurt", &label);
            let before = seen(&fleet, "frankfurt");
            let which = ["frankfurt", "--cka-id", id, "--template", kind];
            let refused = lockstep(&fleet, &[&["keystore", "adopt"], &which[..]].concat());
            assert_eq!(refused.status.code(), Some(3));
            let why = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert!(why.contains("[not_modifiable]"), "{why}");
            assert_eq!(seen(&fleet, "frankfurt"), before);
        }
        let found = told(&fleet, "frankfurt", &format!("{kind}-{stuck}"));
        assert_eq!(found["obstacle"]["code"], "not_modifiable", "{found:#}");
    }
    assert_eq!(fleet.get("/api/v4/managed_keys")["total_count"], 0);
}
