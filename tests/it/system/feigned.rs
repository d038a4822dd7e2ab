//! Tokens that say yes and do otherwise, as real ones do: flags that hold nobody back, labels that are cut. The probe sees
//! through them, and what follows from it is seen with programs that know nothing of Lockstep.

use serde_json::{Value, json};

use crate::support::fleet::{Fleet, said};
use crate::support::programs::{encrypts, lockstep};

fn keystore(fleet: &Fleet, name: &str) -> (String, Value) {
    fleet.until("capabilities", || {
        let all = fleet.get("/api/v4/keystores");
        let found = all["keystores"].as_array().unwrap();
        let one = found.iter().find(|one| one["name"] == name).unwrap();
        let id = one["id"].as_str().unwrap().to_owned();
        let body = fleet.get(&format!("/api/v4/keystores/{id}"));
        let can = body["pkcs11_capabilities"].clone();
        if can.is_object() {
            Ok((id, can))
        } else {
            Err(body)
        }
    })
}

fn change(fleet: &Fleet, key: &str, action: &str) {
    fleet.change("POST", key, action, &Value::Null).ok();
    fleet.in_step(key);
}

#[test]
fn flags_that_hold_nobody_back_are_not_relied_on() {
    let fleet = Fleet::start_faulty(&["home", "frankfurt"], &["usage ignore"]);
    let vault = fleet.furnish();
    let (id, can) = keystore(&fleet, "frankfurt");
    let kinds = can["kinds"].as_array().unwrap();
    assert!(!kinds.is_empty(), "{can:#}");
    for usage in kinds
        .iter()
        .flat_map(|kind| kind["usages"].as_array().unwrap())
    {
        // What cannot be tried is believed, and said to be.
        let expected = match usage["answer"].as_str().unwrap() {
            "" => ("read_back", "flags"),
            _ => ("accepted_not_enforced", "withdraw"),
        };
        let told = (usage["change"].as_str(), usage["strategy"].as_str());
        assert_eq!(told, (Some(expected.0), Some(expected.1)), "{usage:#}");
    }
    let aes = kinds
        .iter()
        .find(|kind| kind["algorithm"] == "aes")
        .unwrap();
    let usages = aes["usages"].as_array().unwrap();
    let is_encrypt = |one: &&Value| one["usage"] == "encrypt";
    let encrypt = usages.iter().find(is_encrypt).unwrap();
    assert_eq!(encrypt["change"], "accepted_not_enforced", "{encrypt:#}");
    let probe = lockstep(&fleet, &["keystore", "probe", &id]);
    let page = said(&probe);
    assert!(page.contains("NOT ENFORCED"), "{page}");
    assert!(page.contains("withdraw"), "{page}");

    fleet.template(&vault, "aes", "aes", 256);
    let key = fleet.key(&vault, "aes", "guarded");
    change(&fleet, &key, "/activate");
    let id = fleet.cka_id(&key);
    let cipher = encrypts(&fleet, "frankfurt", &id).unwrap();
    // By flags it would be as usable as before: somebody else's key on that token is.
    let other = ["--id", "bb", "--label", "other"];
    said(&fleet.outsider("frankfurt", "generate", &other));
    let off = ["--id", "bb", "--class", "secret", "--off", "encrypt"];
    said(&fleet.outsider("frankfurt", "set-usage", &off));
    encrypts(&fleet, "frankfurt", "bb").unwrap();

    change(&fleet, &key, "/deactivate");
    let refused = encrypts(&fleet, "frankfurt", &id).unwrap_err();
    assert!(refused.contains("not found"), "{refused}");
    let status = fleet.status(&key, "frankfurt");
    assert_eq!(status["status"], "not_present", "{status:#}");
    change(&fleet, &key, "/activate");
    assert_eq!(encrypts(&fleet, "frankfurt", &id).unwrap(), cipher);
}

#[test]
fn labels_that_a_token_would_cut_are_refused_when_they_are_asked_for() {
    let fleet = Fleet::start_faulty(&["home", "frankfurt"], &["label cut 40"]);
    let vault = fleet.furnish();
    let (id, can) = keystore(&fleet, "frankfurt");
    assert_eq!(can["label_chars"], 40, "{can:#}");
    assert_eq!(keystore(&fleet, "home").1["label_chars"], 255);
    let page = said(&lockstep(&fleet, &["keystore", "probe", &id]));
    assert!(page.contains("up to 40 characters"), "{page}");

    fleet.template(&vault, "aes", "aes", 256);
    let fits = "x".repeat(40);
    let key = fleet.key(&vault, "aes", &fits);
    change(&fleet, &key, "/activate");
    let renamed = fleet.change("PATCH", &key, "", &json!({"label": "y".repeat(41)}));
    assert_eq!(renamed.status, 400, "{renamed:#?}");
    assert_eq!(renamed.code(), "label_too_long");
    let told = renamed.body["errors"][0].to_string();
    for part in ["label", "frankfurt", "at most 40 characters", "has 41"] {
        assert!(told.contains(part), "{told}");
    }
    fleet.in_step(&key);
    let long = "z".repeat(41);
    let new = json!({"template_name": "aes", "vault": {"id": vault}, "label": long});
    let made = fleet.request("POST", "/api/v4/managed_keys", None, &new);
    assert_eq!(
        (made.status, made.code()),
        (400, "label_too_long"),
        "{made:#?}"
    );

    // Where it is no target any more the label may be what it likes, and then it can be none again.
    let key = fleet.key(&vault, "aes", "short");
    let targets = |names: &[&str]| {
        let of = key.replace("/api/v4/", "/api/lockstep/v1/");
        let id = |name: &&str| json!({"id": fleet.agents[*name].keystore});
        let body = json!({"keystores": names.iter().map(id).collect::<Vec<_>>()});
        let etag = fleet.request("GET", &key, None, &Value::Null).etag;
        fleet.request("PUT", &format!("{of}/targets"), etag.as_deref(), &body)
    };
    targets(&[]).ok();
    fleet
        .change("PATCH", &key, "", &json!({"label": long}))
        .ok();
    let refused = targets(&["frankfurt"]);
    assert_eq!(refused.code(), "label_too_long", "{refused:#?}");
    let listed = said(&fleet.outsider("frankfurt", "list", &[]));
    assert!(listed.contains(&fits), "{listed}");
}
