//! A coordinator whose store is an old copy: it notices, enables nothing, shows what would change, and goes on when told to.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::fleet::{Fleet, refused, said};
use crate::support::programs::lockstep;

const BLOCK: &str = "00112233445566778899aabbccddeeff";
const RECOVERY: &str = "/api/lockstep/v1/recovery";

fn two_keystores() -> (Fleet, String) {
    let fleet = Fleet::start(&["home", "frankfurt", "dallas"]);
    let vault = fleet.furnish();
    fleet.template(&vault, "kind", "aes", 256);
    (fleet, vault)
}

fn act(fleet: &Fleet, key: &str, action: &str) {
    fleet
        .change("POST", key, &format!("/{action}"), &Value::Null)
        .ok();
    fleet.in_step(key);
}

fn crypt(fleet: &Fleet, keystore: &str, id: &str) -> std::process::Output {
    fleet.outsider(keystore, "encrypt", &["--id", id, "--data", BLOCK])
}

/// The store's files as they are now, while no coordinator runs.
fn copy(fleet: &Fleet) -> Vec<(PathBuf, Vec<u8>)> {
    let state = fleet.dir.join("test/state");
    let files = std::fs::read_dir(&state).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let is_store = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("store.sqlite"))
    };
    files
        .filter(is_store)
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect()
}

fn put_back(fleet: &Fleet, copy: &[(PathBuf, Vec<u8>)]) {
    for name in ["store.sqlite", "store.sqlite-wal", "store.sqlite-shm"] {
        let path: &Path = &fleet.dir.join("test/state").join(name);
        if path.exists() {
            std::fs::remove_file(path).unwrap();
        }
    }
    for (path, bytes) in copy {
        std::fs::write(path, bytes).unwrap();
    }
}

fn noticed(fleet: &Fleet) -> Value {
    fleet.until("the coordinator notices, and has heard all", || {
        let told = fleet.get(RECOVERY);
        let is_all = told["is_behind"] == true && told["missing_keystores"] == json!([]);
        if is_all { Ok(told) } else { Err(told) }
    })
}

fn becomes(told: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let keys = told["managed_keys"].as_array().unwrap();
    keys.iter()
        .map(|one| (text(&one["managed_key"]["label"]), text(&one["becomes"])))
        .collect()
}

/// It is pre-active in the store, and works on the tokens: nobody may be told that it is not there.
fn told_as_diverged(fleet: &Fleet, key: &str) {
    assert_eq!(fleet.get(key)["phase"], "out_of_step");
    let row = fleet.status(key, "dallas");
    assert_eq!(row["sync_status"], "diverged", "{row:#}");
}

#[test]
fn an_old_copy_of_the_store_enables_nothing_and_goes_on_when_told_to() {
    let (mut fleet, vault) = two_keystores();
    let names = ["idle", "off-then-on", "on-then-gone", "on-then-off"];
    let keys = names.map(|name| fleet.key(&vault, "kind", name));
    let [idle, late, gone, off] = &keys;
    for key in [gone, off] {
        act(&fleet, key, "activate");
    }
    fleet.kill_coordinator();
    let old = copy(&fleet);
    fleet.start_coordinator();
    act(&fleet, gone, "deactivate");
    act(&fleet, gone, "destroy");
    act(&fleet, off, "deactivate");
    act(&fleet, late, "activate");
    let made = fleet.key(&vault, "kind", "made-later");
    act(&fleet, &made, "activate");
    let ids = [off, late, &made].map(|key| fleet.cka_id(key));
    let [off_id, late_id, made_id] = &ids;
    fleet.kill_coordinator();
    put_back(&fleet, &old);
    fleet.start_coordinator();

    let told = noticed(&fleet);
    assert_eq!(
        becomes(&told),
        [
            ("off-then-on".to_owned(), "deactivated".to_owned()),
            ("on-then-gone".to_owned(), "destroyed".to_owned()),
            ("on-then-off".to_owned(), "deactivated".to_owned()),
        ],
        "{told:#}"
    );
    let strangers = told["strangers"].as_array().unwrap();
    assert_eq!(strangers.len(), 2, "on both keystores: {told:#}");
    assert_eq!(strangers[0]["label"], "made-later");
    let answer = fleet.change("POST", idle, "/activate", &Value::Null);
    assert_eq!(answer.code(), "restored_from_backup");
    told_as_diverged(&fleet, late);
    refused(
        &crypt(&fleet, "dallas", off_id),
        "CKR_KEY_FUNCTION_NOT_PERMITTED",
    );
    said(&crypt(&fleet, "dallas", late_id));

    let body = json!({"prefer": "restrict"});
    let done = fleet.request("POST", RECOVERY, None, &body).ok();
    assert_eq!(done["is_behind"], true, "as it was when it was accepted");
    assert_eq!(fleet.get(RECOVERY)["is_behind"], false);
    for (key, state) in [
        (late, "deactivated"),
        (gone, "destroyed"),
        (off, "deactivated"),
    ] {
        fleet.in_step(key);
        assert_eq!(fleet.get(key)["state"], state);
    }
    for id in [off_id, late_id] {
        refused(
            &crypt(&fleet, "dallas", id),
            "CKR_KEY_FUNCTION_NOT_PERMITTED",
        );
    }
    said(&crypt(&fleet, "dallas", made_id));
    act(&fleet, idle, "activate");
    act(&fleet, off, "activate");
    let answer = fleet.request("POST", RECOVERY, None, &body);
    assert_eq!(answer.code(), "not_restored");
}

#[test]
fn the_agents_word_can_be_taken() {
    let (mut fleet, vault) = two_keystores();
    let key = fleet.key(&vault, "kind", "late");
    fleet.kill_coordinator();
    let old = copy(&fleet);
    fleet.start_coordinator();
    act(&fleet, &key, "activate");
    let id = fleet.cka_id(&key);
    fleet.kill_coordinator();
    put_back(&fleet, &old);
    fleet.start_coordinator();
    noticed(&fleet);
    let body = json!({"prefer": "agents"});
    fleet.request("POST", RECOVERY, None, &body).ok();
    fleet.in_step(&key);
    assert_eq!(fleet.get(&key)["state"], "active");
    for keystore in ["frankfurt", "dallas"] {
        said(&crypt(&fleet, keystore, &id));
    }
}

#[test]
fn a_keystore_that_heard_nothing_of_it_is_not_enabled_by_an_old_copy() {
    let (mut fleet, vault) = two_keystores();
    let key = fleet.key(&vault, "kind", "lost");
    fleet.kill_agent("dallas");
    fleet
        .change("POST", &key, "/activate?wait=0", &Value::Null)
        .ok();
    fleet.until("active at frankfurt", || {
        let row = fleet.status(&key, "frankfurt");
        (row["keystore_sync_flag"] == "ok").then_some(()).ok_or(row)
    });
    fleet.kill_coordinator();
    let old = copy(&fleet);
    fleet.start_coordinator();
    fleet
        .change("POST", &key, "/deactivate?wait=0", &Value::Null)
        .ok();
    fleet.until("deactivated at frankfurt", || {
        let row = fleet.status(&key, "frankfurt");
        (row["keystore_sync_flag"] == "ok").then_some(()).ok_or(row)
    });
    fleet.kill_coordinator();
    put_back(&fleet, &old);
    // Dallas never heard of the deactivation: by the old store it is to be active there.
    fleet.start_agent("dallas");
    fleet.start_coordinator();
    let told = noticed(&fleet);
    assert_eq!(
        becomes(&told),
        [("lost".to_owned(), "deactivated".to_owned())]
    );
    let id = fleet.cka_id(&key);
    let tried = crypt(&fleet, "dallas", &id);
    assert_eq!(tried.status.code(), Some(4), "not there: {tried:?}");
    fleet.request("POST", RECOVERY, None, &json!({})).ok();
    fleet.in_step(&key);
    assert_eq!(fleet.get(&key)["state"], "deactivated");
}

#[test]
fn a_backup_is_taken_restored_and_gone_on_from() {
    let (mut fleet, vault) = two_keystores();
    let key = fleet.key(&vault, "kind", "kept");
    act(&fleet, &key, "activate");
    let secret = fleet.dir.join("recovery.key");
    let made = lockstep(&fleet, &["recovery-key", "--out", path(&secret)]);
    let public = said(&made);
    let backup = fleet.dir.join("store.backup");
    let take = ["backup", "--out", path(&backup), "--to", &public];
    said(&lockstep(&fleet, &take));
    let again = lockstep(&fleet, &take);
    assert!(!again.status.success(), "it overwrote a backup");
    let sealed = std::fs::read(&backup).unwrap();
    let is_in = |text: &str| {
        sealed
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    };
    assert!(!is_in("kept") && !is_in("SQLite"), "a backup in the clear");

    // Changes after the backup: it knows nothing of them.
    act(&fleet, &key, "deactivate");
    let config = fleet.dir.join("test/coordinator.toml");
    let restore = [
        "restore",
        "--config",
        path(&config),
        "--from",
        path(&backup),
        "--key",
        path(&secret),
    ];
    let refused = lockstep(&fleet, &restore);
    let why = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(why.contains("another coordinator uses"), "{why}");
    fleet.kill_coordinator();
    let told = said(&lockstep(&fleet, &restore));
    assert!(told.contains("is kept as"), "{told}");
    fleet.start_coordinator();

    let recover = lockstep(&fleet, &["recover"]);
    assert_eq!(recover.status.code(), Some(75), "{recover:?}");
    let answer = fleet.change("POST", &key, "/sync_status_in_keystores", &Value::Null);
    assert_ne!(answer.status, 200, "{:#}", answer.body);
    noticed(&fleet);
    let shown = said(&lockstep(&fleet, &["recover", "--accept"]));
    assert!(
        shown.contains("key kept: active in the store") && shown.contains("became deactivated"),
        "{shown}"
    );
    fleet.in_step(&key);
    assert_eq!(fleet.get(&key)["state"], "deactivated");
    let id = fleet.cka_id(&key);
    refused_by(&fleet, &id);
    act(&fleet, &key, "activate");
    let after = lockstep(&fleet, &["recover"]);
    assert_eq!(after.status.code(), Some(0), "{after:?}");
}

fn refused_by(fleet: &Fleet, id: &str) {
    for keystore in ["frankfurt", "dallas"] {
        refused(
            &crypt(fleet, keystore, id),
            "CKR_KEY_FUNCTION_NOT_PERMITTED",
        );
    }
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn an_agent_whose_journal_is_gone_only_restricts_until_somebody_has_looked() {
    let (mut fleet, vault) = two_keystores();
    let [key, other] = ["kept", "other"].map(|name| fleet.key(&vault, "kind", name));
    for key in [&key, &other] {
        act(&fleet, key, "activate");
    }
    let (id, other_id) = (fleet.cka_id(&key), fleet.cka_id(&other));
    fleet.kill_agent("dallas");
    std::fs::remove_file(fleet.agent_dir("dallas").join("state/journal")).unwrap();
    fleet.start_agent("dallas");
    fleet.until("the loss is told", || {
        let row = fleet.status(&key, "dallas");
        let is_told = row["error"].to_string().contains("journal");
        is_told.then_some(()).ok_or(row)
    });
    for (key, action) in [
        (&key, "deactivate"),
        (&other, "deactivate"),
        (&other, "activate"),
    ] {
        let at = format!("/{action}?wait=0");
        fleet.change("POST", key, &at, &Value::Null).ok();
        if key == &other && action == "deactivate" {
            fleet.until("disabled without a journal", || {
                let tried = crypt(&fleet, "dallas", &other_id);
                (!tried.status.success())
                    .then_some(())
                    .ok_or(json!("it works"))
            });
        }
    }
    fleet.until("disabled without a journal", || {
        let tried = crypt(&fleet, "dallas", &id);
        (!tried.status.success())
            .then_some(())
            .ok_or(json!("it works"))
    });
    refused(
        &crypt(&fleet, "dallas", &other_id),
        "CKR_KEY_FUNCTION_NOT_PERMITTED",
    );
    said(&crypt(&fleet, "frankfurt", &other_id));

    fleet.kill_agent("dallas");
    let config = fleet.agent_dir("dallas").join("agent.toml");
    let bind = |more: &[&str]| {
        let args = [&["bind", "--config", path(&config)], more].concat();
        std::process::Command::new(env!("CARGO_BIN_EXE_lockstep-agent"))
            .args(args)
            .output()
            .unwrap()
    };
    let told = String::from_utf8(bind(&[]).stderr).unwrap();
    assert!(told.contains("journal_lost"), "{told}");
    said(&bind(&["--journal-lost"]));
    let again = String::from_utf8(bind(&["--journal-lost"]).stderr).unwrap();
    assert!(again.contains("is not lost"), "{again}");
    fleet.start_agent("dallas");
    for key in [&key, &other] {
        fleet.in_step(key);
    }
    said(&crypt(&fleet, "dallas", &other_id));
    refused(
        &crypt(&fleet, "dallas", &id),
        "CKR_KEY_FUNCTION_NOT_PERMITTED",
    );
}

#[test]
fn an_old_copy_that_runs_beside_the_original_gives_way() {
    let (mut fleet, vault) = two_keystores();
    let [off, idle] = ["off", "idle"].map(|name| fleet.key(&vault, "kind", name));
    act(&fleet, &off, "activate");
    // Its own name and certificate, and the store as it is now.
    fleet.one_coordinator("twin", "").stop();
    fleet.kill_coordinator();
    for (file, bytes) in copy(&fleet) {
        let name = file.file_name().unwrap();
        std::fs::write(fleet.dir.join("twin/state").join(name), bytes).unwrap();
    }
    fleet.start_coordinator();
    act(&fleet, &off, "deactivate");

    let twin = fleet.one_coordinator("twin", "");
    let keystore = format!("/api/v4/keystores/{}", fleet.agents["dallas"].keystore);
    let original = std::mem::replace(&mut fleet.url, twin.url.clone());
    fleet.until("the copy has given way", || {
        let told = fleet.get(&keystore);
        let message = told["status"]["message"].as_str().unwrap_or_default();
        if message.contains("another coordinator") && message.contains("lockstep recover") {
            Ok(())
        } else {
            Err(told)
        }
    });
    assert_eq!(fleet.get(RECOVERY)["is_behind"], true);
    fleet.url = original;
    // The original goes on as if nobody else were there.
    act(&fleet, &idle, "activate");
    fleet.in_step(&off);
    refused_by(&fleet, &fleet.cka_id(&off));
    assert_eq!(fleet.get(RECOVERY)["is_behind"], false);
}
