//! Bulk changes on real tokens: a canary that is refused, and a coordinator that is killed in the middle of a wave.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::fault::Faults;
use crate::support::fleet::{Fleet, said};
use crate::support::programs::lockstep;

const BULK: &str = "/api/lockstep/v1/bulk_changes";

/// CKR_ACTION_PROHIBITED.
const REFUSES: &str = "C_SetAttributeValue rv 0x1b";

/// A wave takes longer than a look at it.
const SLOW: &str = "C_SetAttributeValue delay 40";

/// More than may be unconfirmed at once.
const KEYS: usize = 120;

fn keys(fleet: &Fleet, vault: &str, count: usize) -> Vec<String> {
    let made = (0..count).map(|number| fleet.key(vault, "aes", &format!("k{number:03}")));
    made.collect()
}

fn stage() -> (Fleet, Faults, String) {
    let names = ["home", "berlin", "lima"];
    let fleet = Fleet::start_faulty(&names, &["C_WaitForSlotEvent delay 0"]);
    let faults = Faults::new(&fleet.dir, Path::new(""));
    let vault = fleet.furnish();
    fleet.template(&vault, "aes", "aes", 256);
    (fleet, faults, vault)
}

fn until(fleet: &Fleet, at: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    fleet.until(what, || {
        let now = fleet.get(at);
        if is_so(&now) { Ok(now) } else { Err(now) }
    })
}

/// Labels of keys on a token.
fn listed(fleet: &Fleet, keystore: &str) -> Vec<String> {
    let listed = said(&fleet.outsider(keystore, "list", &[]));
    let label = |line: &str| {
        line.split("label=\"")
            .nth(1)
            .unwrap()
            .split('"')
            .next()
            .unwrap()
            .to_owned()
    };
    let labels = listed.lines().filter(|line| line.contains("label=\"k"));
    let mut labels: Vec<String> = labels.map(label).collect();
    labels.sort_unstable();
    labels
}

#[test]
fn a_refused_canary_leaves_the_rest_untouched() {
    let (fleet, faults, vault) = stage();
    let keys = keys(&fleet, &vault, 6);
    faults.set(&[REFUSES]);
    let ask = ["bulk", "activate", "--vault", "test", "--wait"];
    let done = lockstep(&fleet, &ask);
    let told = String::from_utf8(done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(3), "{told}");
    assert!(
        told.contains("PAUSED, 0 of 6 done, 5 pending, 1 refused"),
        "{told}"
    );
    assert!(told.contains("paused (refused): k000: lima:"), "{told}");
    assert!(told.contains("CKR_ACTION_PROHIBITED"), "{told}");
    let states: Vec<Value> = keys
        .iter()
        .map(|key| fleet.get(key)["state"].clone())
        .collect();
    let mut expected = vec![json!("pre_activation"); 6];
    expected[0] = json!("active");
    assert_eq!(states, expected);
    for keystore in ["berlin", "lima"] {
        assert_eq!(listed(&fleet, keystore), ["k000"], "{keystore}");
    }
    // The cause goes, a person says so, and it comes to its end.
    faults.clear();
    let found = fleet.get(&format!("{BULK}?state=paused"));
    let id = found["bulk_changes"][0]["id"].as_str().unwrap();
    let done = lockstep(&fleet, &["bulk", "resume", id, "--wait"]);
    let told = String::from_utf8(done.stdout).unwrap();
    assert_eq!(done.status.code(), Some(0), "{told}");
    assert!(told.contains("DONE, 6 of 6 done"), "{told}");
    for key in &keys {
        assert_eq!(fleet.get(key)["phase"], "in_step");
    }
    fleet.keeps_its_promises();
}

#[test]
fn a_wave_goes_on_when_its_coordinator_was_killed() {
    let (mut fleet, faults, vault) = stage();
    let keys = keys(&fleet, &vault, KEYS);
    faults.set(&[SLOW]);
    let body = json!({"action": "activate", "filter": {"vault.id": vault}, "waves": ["1", "rest"]});
    let made = fleet.repeatable("POST", BULK, "bulk-1", &body).ok();
    let at = format!("{BULK}/{}", made["id"].as_str().unwrap());
    let midway = |now: &Value| {
        let wave = &now["progress"][1];
        wave["done"].as_u64() > Some(0) && wave["pending"].as_u64() > Some(0)
    };
    until(&fleet, &at, "the middle of a wave", midway);
    fleet.kill_coordinator();
    fleet.start_coordinator();
    let again = fleet.repeatable("POST", BULK, "bulk-1", &body).ok();
    assert_eq!(again["id"], made["id"], "asked again, it is the same one");
    faults.clear();
    let done = until(&fleet, &at, "the end", |now| now["state"] == "done");
    assert_eq!(done["total"]["done"], KEYS, "{done:#}");
    let id = &made["id"];
    for key in &keys {
        let key = fleet.get(key);
        assert_eq!(
            (&key["state"], &key["phase"]),
            (&json!("active"), &json!("in_step"))
        );
        let subject = format!("key/{}", key["id"].as_str().unwrap());
        let log = fleet.get(&format!("/api/lockstep/v1/audit?subject={subject}"));
        let entries = log["entries"].as_array().unwrap();
        let of = entries.iter().filter(|one| one["action"] == "key.activate");
        let of: Vec<&Value> = of.map(|one| &one["bulk_change"]).collect();
        assert_eq!(of, [id], "{log:#}");
    }
    assert_eq!(listed(&fleet, "lima").len(), KEYS);
    fleet.keeps_its_promises();
}
