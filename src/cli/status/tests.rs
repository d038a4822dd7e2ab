//! What people see of a key, as committed transcripts. `LOCKSTEP_BLESS=1` writes them anew, to be read before they are committed.

use std::path::Path;

use serde_json::{Value, json};

use crate::cli::status::{page, phase, progress};
use crate::cli::wait::is_settled;
use crate::model::vault::UnixMs;
use crate::rest::managed_key::ManagedKey;
use crate::rest::status::{Progress, StatusInKeystore};

fn now() -> UnixMs {
    let now: jiff::Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
    UnixMs(now.as_millisecond())
}

fn item(name: &str, wanted: &str, found: &str, flag: &str) -> Value {
    json!({
        "keystore": {"id": name, "name": name, "type": "pkcs11", "href": ""},
        "instance": {"id": "i"},
        "status": found,
        "destruction_policy_duration": "",
        "destruction_at": "",
        "keystore_sync_flag": flag,
        "keystore_sync_flag_detail": "unknown",
        "key_id_in_keystore": "00",
        "label_in_keystore": "card-data-1",
        "is_target": true,
        "wanted": wanted,
        "sync_status": if flag == "ok" { "in_sync" } else { "drift" },
        "message": "as wanted",
        "differences": [],
        "observed_at": "2026-11-23T11:59:58.000Z",
    })
}

fn with(mut item: Value, more: Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        item[name] = value.clone();
    }
    item
}

fn proved(item: Value, answer: &str) -> Value {
    let proof = json!({"kind": "tried", "operation": "C_EncryptInit", "answer": answer});
    with(
        item,
        json!({"proof": proof, "proved_at": "2026-11-23T11:58:00.000Z"}),
    )
}

fn difference(reason: &str, message: &str, by: &str, healed: &str) -> Value {
    json!({
        "reason": reason, "expected": "", "found": "", "since": "2026-11-23T11:50:00.000Z",
        "since_revision": 3, "caused_by": by, "message": message, "healed_by": healed,
    })
}

fn key(state: &str, phase: &str, confirmed: u64, items: Vec<Value>) -> ManagedKey {
    let total = items.len();
    let reference = json!({"id": "1", "name": "payments", "href": ""});
    serde_json::from_value(json!({
        "id": "k", "vault": reference,
        "template": {"id": "t", "name": "card-data", "type": ["user_defined"], "alignment_status": "aligned", "href": ""},
        "version": 1, "label": "card-data-1", "description": "", "state": state,
        "phase": phase, "confirmed": confirmed, "total": total, "unconfirmed": [],
        "allowed_actions": ["deactivate"], "key_material_present": ["repository"],
        "size": "256", "algorithm": "aes", "verification_patterns": [], "label_tags": [],
        "is_rotatable": false, "referenced_keystores": [], "instances": [],
        "status_in_keystores": items, "deactivate_on_rotation": false, "managing_systems": ["web"],
        "created_at": "", "created_by": "", "updated_at": "", "updated_by": "", "href": "",
    }))
    .unwrap()
}

/// Compares with `src/cli/status/<name>.txt`.
fn check(name: &str, key: &ManagedKey) {
    let shown = format!("{}\n", page(key, now()));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/cli/status/{name}.txt"));
    if std::env::var_os("LOCKSTEP_BLESS").is_some() {
        std::fs::write(&path, &shown).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(shown, expected, "{}", path.display());
}

#[test]
fn a_new_key() {
    check("new", &key("pre_activation", "in_step", 0, vec![]));
}

#[test]
fn in_step() {
    let items = vec![
        proved(item("frankfurt", "active", "active", "ok"), "CKR_OK"),
        proved(item("dallas", "active", "active", "ok"), "CKR_OK"),
    ];
    check("in_step", &key("active", "in_step", 2, items));
}

#[test]
fn deactivated_is_not_said_while_a_keystore_has_not_confirmed() {
    let refused = "CKR_KEY_FUNCTION_NOT_PERMITTED";
    let unreachable = difference(
        "unreachable",
        "The agent of tokyo cannot be reached: connection refused.",
        "unknown",
        "waiting",
    );
    let pending = json!({
        "sync_status": "pending", "message": "sent to the agent; may still be usable since 11:59:57",
        "pending_since": "2026-11-23T11:59:57.000Z",
    });
    let unknown = json!({"sync_status": "unknown", "differences": [unreachable]});
    let items = vec![
        proved(
            item("frankfurt", "deactivated", "not_active", "ok"),
            refused,
        ),
        with(
            item("dallas", "deactivated", "active", "out_of_sync"),
            pending,
        ),
        with(item("tokyo", "deactivated", "unknown", "error"), unknown),
    ];
    let key = key("deactivated", "changing", 1, items);
    assert!(page(&key, now()).starts_with("card-data-1: changing to deactivated, 1 of 3"));
    check("changing", &key);
}

#[test]
fn reasons_are_told() {
    let drift = |reason, message, by, healed| json!({"differences": [difference(reason, message, by, healed)]});
    let removed = json!({"is_target": false});
    let items = vec![
        with(
            item("frankfurt", "active", "not_present", "out_of_sync"),
            drift("missing", "No object has its CKA_ID", "out_of_band", "sync"),
        ),
        with(
            item("dallas", "active", "wrong_key", "out_of_sync"),
            drift(
                "wrong_key",
                "Another key is there.",
                "out_of_band",
                "operator",
            ),
        ),
        with(item("tokyo", "deactivated", "not_active", "ok"), removed),
    ];
    check("out_of_step", &key("active", "out_of_step", 1, items));
}

#[test]
fn names_from_outside_cannot_steer_the_terminal() {
    let hostile = item("fra\u{1b}[2Jnkfurt\u{202e}", "active", "active", "ok");
    let shown = page(&key("active", "in_step", 1, vec![hostile]), now());
    assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown}");
    assert!(shown.contains("\\u{1b}"), "{shown}");
}

#[test]
fn progress_lines_say_what_is_confirmed() {
    let check = |item: Value, expected: &str| {
        let item: StatusInKeystore = serde_json::from_value(item).unwrap();
        assert_eq!(progress(&item), expected);
    };
    check(
        proved(item("a", "active", "active", "ok"), "CKR_OK"),
        "confirmed, active (C_EncryptInit: CKR_OK)",
    );
    check(
        item("a", "destroyed", "not_present", "ok"),
        "confirmed, not present",
    );
    check(
        with(
            item("a", "active", "not_present", "out_of_sync"),
            json!({"sync_status": "pending", "message": "the envelope is on its way"}),
        ),
        "pending, found not present: the envelope is on its way",
    );
}

#[test]
fn lists_say_the_phase_with_its_count() {
    let check = |phase_name: &str, confirmed: u64, total: u64, expected: &str| {
        let json = json!({
            "phase": phase_name, "confirmed": confirmed, "total": total, "unconfirmed": [],
        });
        let progress: Progress = serde_json::from_value(json).unwrap();
        assert_eq!(phase(&progress), expected);
    };
    check("in_step", 0, 0, "in step");
    check("in_step", 3, 3, "in step (3)");
    check("changing", 3, 5, "changing (3 of 5)");
    check("unknown", 0, 5, "unknown (0 of 5)");
}

#[test]
fn a_change_is_waited_for_while_waiting_may_help() {
    let told = |flag: &str, healed: &[&str]| {
        let all: Vec<Value> = healed
            .iter()
            .map(|healed| difference("missing", "", "unknown", healed))
            .collect();
        let item = item("dallas", "active", "active", flag);
        serde_json::from_value(with(item, json!({ "differences": all }))).unwrap()
    };
    let check = |item: StatusInKeystore, expected| assert_eq!(is_settled(&item), expected);
    check(told("ok", &[]), true);
    check(told("out_of_sync", &["operator"]), true);
    check(told("out_of_sync", &["sync", "operator"]), true);
    check(told("out_of_sync", &["operator", "waiting"]), false);
    check(told("out_of_sync", &["waiting"]), false);
    check(told("error", &["waiting"]), false);
    check(told("error", &[]), false);
    check(told("verifying_sync", &["operator"]), false);
}
