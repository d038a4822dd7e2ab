//! What a vault's drift policy puts right by itself, and what it leaves to people.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::fleet::{Fleet, refused, said};

/// One block of AES, in hexadecimal.
const BLOCK: &str = "00112233445566778899aabbccddeeff";

fn policy(fleet: &Fleet, vault: &str, policy: &str) {
    let at = format!("/api/v4/vaults/{vault}");
    fleet
        .change("PATCH", &at, "", &json!({ "drift_policy": policy }))
        .ok();
}

fn active(fleet: &Fleet, vault: &str, label: &str) -> String {
    let key = fleet.key(vault, "kind", label);
    fleet.change("POST", &key, "/activate", &Value::Null).ok();
    fleet.in_step(&key);
    key
}

fn set_usage(fleet: &Fleet, key: &str, switch: &str, usage: &str) {
    let id = fleet.cka_id(key);
    let args = ["--id", &id, "--class", "secret", switch, usage];
    said(&fleet.outsider("frankfurt", "set-usage", &args));
}

fn destroy(fleet: &Fleet, key: &str) {
    said(&fleet.outsider("frankfurt", "destroy", &["--id", &fleet.cka_id(key)]));
}

/// Waits until the reconciler has put the key right so many times.
fn mended(fleet: &Fleet, key: &str, times: usize) {
    let id = key.rsplit('/').next().unwrap();
    let log = format!("/api/lockstep/v1/audit?subject=key/{id}");
    fleet.until("put right by itself", || {
        let told = fleet.get(&log);
        let entries = told["entries"].as_array().unwrap().iter();
        let by_itself =
            |entry: &&Value| entry["action"] == "key.mend" && entry["actor"] == "reconciler";
        if entries.filter(by_itself).count() == times {
            Ok(())
        } else {
            Err(told)
        }
    });
    fleet.in_step(key);
}

#[test]
fn restrict_takes_away_and_enforce_gives_back_too() {
    let fleet = Fleet::start(&["home", "frankfurt", "dallas"]);
    let vault = fleet.furnish();
    fleet.template(&vault, "kind", "aes", 256);
    let [lost, more] = ["lost", "more"].map(|label| active(&fleet, &vault, label));
    // Told, and left to people.
    set_usage(&fleet, &more, "--on", "wrap");
    fleet.difference(&more, "frankfurt", "usage_changed");
    destroy(&fleet, &lost);
    fleet.difference(&lost, "frankfurt", "missing");

    policy(&fleet, &vault, "restrict");
    mended(&fleet, &more, 1);
    let off = active(&fleet, &vault, "off");
    fleet.change("POST", &off, "/deactivate", &Value::Null).ok();
    fleet.in_step(&off);
    set_usage(&fleet, &off, "--on", "encrypt");
    mended(&fleet, &off, 1);
    let encrypt = ["--id", &fleet.cka_id(&off), "--data", BLOCK];
    refused(
        &fleet.outsider("frankfurt", "encrypt", &encrypt),
        "CKR_KEY_FUNCTION_NOT_PERMITTED",
    );
    fleet.difference(&lost, "frankfurt", "missing");

    policy(&fleet, &vault, "enforce");
    mended(&fleet, &lost, 1);
    // Who does it again is let wait, and told.
    destroy(&fleet, &lost);
    fleet.difference(&lost, "frankfurt", "missing");
    fleet.keeps_its_promises();
}

#[test]
fn a_token_put_back_from_an_older_image_is_told_and_left_alone() {
    let mut fleet = Fleet::start(&["home", "frankfurt", "dallas"]);
    let vault = fleet.furnish();
    fleet.template(&vault, "kind", "aes", 256);
    policy(&fleet, &vault, "enforce");
    let [gone, off, on] = ["gone", "off", "on"].map(|label| active(&fleet, &vault, label));
    fleet.kill_agent("frankfurt");
    let image = Image::of(&fleet, "frankfurt");
    fleet.start_agent("frankfurt");
    for (key, act) in [
        (&gone, "/deactivate"),
        (&gone, "/destroy"),
        (&off, "/deactivate"),
    ] {
        fleet.change("POST", key, act, &Value::Null).ok();
        fleet.in_step(key);
    }
    fleet.kill_agent("frankfurt");
    image.put_back();
    fleet.start_agent("frankfurt");

    fleet.difference(&gone, "frankfurt", "destroyed_key_present");
    fleet.difference(&off, "frankfurt", "enabled_unexpectedly");
    let keystore = format!("/api/v4/keystores/{}", fleet.agents["frankfurt"].keystore);
    let told = fleet.get(&keystore)["differences"].clone();
    assert_eq!(told[0]["reason"], "token_restored", "{told:#}");
    assert_eq!(told[0]["healed_by"], "operator");
    // Elsewhere the policy goes on: so a pass was made, and this token was left out.
    let id = fleet.cka_id(&on);
    said(&fleet.outsider("dallas", "destroy", &["--id", &id]));
    mended(&fleet, &on, 1);
    fleet.difference(&off, "frankfurt", "enabled_unexpectedly");

    for key in [&gone, &off] {
        fleet
            .change("POST", key, "/sync_status_in_keystores", &Value::Null)
            .ok();
        fleet.in_step(key);
    }
    assert_eq!(fleet.get(&keystore)["differences"], json!([]));
    fleet.keeps_its_promises();
}

/// What a token's directory held.
struct Image {
    at: PathBuf,
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Image {
    fn of(fleet: &Fleet, name: &str) -> Self {
        let token = &fleet.agents[name].token;
        let is_its = |path: &Path| {
            path.to_str()
                .unwrap()
                .replace('-', "")
                .ends_with(&token.serial)
        };
        let at = entries(&token.tokens).find(|path| is_its(path)).unwrap();
        let files = entries(&at).map(|path| (path.clone(), std::fs::read(&path).unwrap()));
        Self {
            files: files.collect(),
            at,
        }
    }

    fn put_back(&self) {
        for path in entries(&self.at) {
            std::fs::remove_file(path).unwrap();
        }
        for (path, bytes) in &self.files {
            std::fs::write(path, bytes).unwrap();
        }
    }
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
}
