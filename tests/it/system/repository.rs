//! Several internal keystores: each takes over what it lacks, and the loss of one costs nothing.

use serde_json::{Value, json};

use crate::support::fleet::Fleet;

fn held(fleet: &Fleet, key: &str, count: u64) {
    fleet.until(&format!("{count} copies of {key}"), || {
        let found = fleet.get(key);
        let held = found["copies"]["held"] == count;
        held.then_some(()).ok_or(found)
    });
}

#[test]
fn the_loss_of_an_internal_keystore_is_survived() {
    let mut fleet = Fleet::start_double(&["home", "second", "frankfurt"]);
    let vault = fleet.furnish();
    let at = format!("/api/v4/vaults/{vault}");
    fleet
        .change("PATCH", &at, "", &json!({"min_copies": 2}))
        .ok();
    for (algorithm, size) in [("aes", 256), ("ec", 256)] {
        fleet.template(&vault, algorithm, algorithm, size);
    }
    fleet.kill_agent("second");
    let keys = [
        fleet.key(&vault, "aes", "kept"),
        fleet.key(&vault, "ec", "kept too"),
    ];
    let refused = fleet.change("POST", &keys[0], "/activate", &Value::Null);
    assert_eq!(
        (refused.status, refused.code()),
        (409, "too_few_copies"),
        "{refused:#?}"
    );
    fleet.start_agent("second");
    for key in &keys {
        held(&fleet, key, 2);
    }
    fleet.kill_agent("home");
    for key in &keys {
        // From the copy that is left.
        fleet.change("POST", key, "/activate", &Value::Null).ok();
        fleet.in_step(key);
    }
    fleet
        .change("POST", &keys[0], "/deactivate", &Value::Null)
        .ok();
    fleet.in_step(&keys[0]);
    fleet
        .change("POST", &keys[0], "/destroy", &Value::Null)
        .ok();
    fleet.in_step(&keys[0]);
    held(&fleet, &keys[0], 0);
}
