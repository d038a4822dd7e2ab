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

/// As an agent leaves it that ran with a library which could more.
fn could(fleet: &mut Fleet, name: &str, change: impl Fn(&str) -> String) {
    fleet.kill_agent(name);
    let file = fleet.agent_dir(name).join("state/capabilities.json");
    let kept = fs::read_to_string(&file).unwrap();
    let more = change(&kept);
    assert_ne!(kept, more);
    fs::write(&file, more).unwrap();
    fleet.start_agent(name);
}

#[test]
fn keys_that_rest_on_what_was_lost_say_so() {
    let mut fleet = Fleet::start(&["home", "frankfurt"]);
    let vault = fleet.furnish();
    fleet.template(&vault, "card", "aes", 256);
    let key = fleet.key(&vault, "card", "card-1");
    fleet.change("POST", &key, "/activate", &Value::Null).ok();
    fleet.in_step(&key);
    // AES keys of another size were once made there: that is nothing to this key.
    could(&mut fleet, "frankfurt", |kept| {
        let mut kept: Value = serde_json::from_str(kept).unwrap();
        let kinds = kept["capabilities"]["kinds"].as_array_mut().unwrap();
        let aes = kinds.iter_mut().find(|kind| kind["algorithm"] == "aes");
        let sizes = aes.unwrap()["sizes"].as_array_mut().unwrap();
        sizes.push(Value::from(512));
        kept["capabilities"]["cbc_pad"] = Value::Bool(true);
        kept.to_string()
    });
    let id = keystore(&fleet, "frankfurt");
    let record = format!("/api/v4/keystores/{id}");
    let lost = fleet.until("the losses", || {
        let body = fleet.get(&record);
        let all = body["differences"].as_array().unwrap().clone();
        if all.len() == 2 { Ok(all) } else { Err(body) }
    });
    for one in &lost {
        assert_eq!(one["reason"], "capability_lost", "{one:#}");
        assert_eq!(one["weight"], "warning", "{one:#}");
    }
    fleet.in_step(&key);
    assert_eq!(
        fleet.status(&key, "frankfurt")["differences"],
        Value::Array(vec![])
    );
    let audit = fleet.get("/api/lockstep/v1/audit");
    assert!(!audit.to_string().contains("keystore.accept"));
    let accept = format!("/api/lockstep/v1/keystores/{id}/probe?accept=true");
    let taken = fleet.create(&accept, &Value::Null);
    assert_eq!(taken["differences"], Value::Array(vec![]), "{taken:#}");
    let audit = fleet.get("/api/lockstep/v1/audit");
    assert!(audit.to_string().contains("keystore.accept"), "{audit:#}");
    fleet.in_step(&key);
}
