//! What a token can do, tried by its agent, shown by the coordinator, compared over restarts.

use std::fs;

use serde_json::Value;

use crate::support::fleet::Fleet;

/// Path of a keystore's record, by name.
fn keystore(fleet: &Fleet, name: &str) -> String {
    let all = fleet.get("/api/v4/keystores");
    let found = all["keystores"].as_array().unwrap();
    let one = found.iter().find(|one| one["name"] == name).unwrap();
    one["id"].as_str().unwrap().to_owned()
}

#[test]
fn what_a_token_can_do_no_more_is_told_until_it_is_accepted() {
    let mut fleet = Fleet::start(&["home", "frankfurt"]);
    fleet.furnish();
    let id = keystore(&fleet, "frankfurt");
    let record = format!("/api/v4/keystores/{id}");
    let known = |fleet: &Fleet| {
        fleet.until("capabilities", || {
            let body = fleet.get(&record);
            let can = body["pkcs11_capabilities"].clone();
            if can.is_object() { Ok(can) } else { Err(body) }
        })
    };
    let can = known(&fleet);
    assert_eq!(can["rfc5649"], "0x210a", "{can:#}");
    assert_eq!(can["lost"], Value::Array(vec![]));
    let kinds: Vec<&Value> = can["kinds"].as_array().unwrap().iter().collect();
    let aes = kinds
        .iter()
        .find(|kind| kind["algorithm"] == "aes")
        .unwrap();
    assert_eq!(aes["unwrap"], "honest");
    assert_eq!(aes["usages"][0]["strategy"], "flags");

    // As an agent leaves it that ran with a library which could more.
    fleet.kill_agent("frankfurt");
    let file = fleet.agent_dir("frankfurt").join("state/capabilities.json");
    let kept = fs::read_to_string(&file).unwrap();
    let more = kept.replace("\"cbc_pad\": false", "\"cbc_pad\": true");
    assert_ne!(kept, more);
    fs::write(&file, more).unwrap();
    fleet.start_agent("frankfurt");
    fleet.until("the loss", || {
        let body = fleet.get(&record);
        let lost = body["pkcs11_capabilities"]["lost"].to_string();
        lost.contains("AES-CBC-PAD").then_some(()).ok_or(body)
    });
    let probe = format!("/api/lockstep/v1/keystores/{id}/probe");
    let again = fleet.create(&probe, &Value::Null);
    assert_eq!(
        again["pkcs11_capabilities"]["lost"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    let accepted = fleet.create(&format!("{probe}?accept=true"), &Value::Null);
    assert_eq!(
        accepted["pkcs11_capabilities"]["lost"],
        Value::Array(vec![])
    );
    fleet.kill_agent("frankfurt");
    fleet.start_agent("frankfurt");
    assert_eq!(known(&fleet)["lost"], Value::Array(vec![]));
}
