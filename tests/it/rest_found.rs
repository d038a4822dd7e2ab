//! Keys found on tokens, over REST: what is asked names its field where it is wrong, and ignoring counts.

use lockstep::model::ids::KeystoreId;
use lockstep::model::key::{Usage, UsageSet};
use lockstep::model::keystore::Variant;
use lockstep::model::observed::{ObjectClass, ObjectFacts};
use lockstep::rest::extension::AuditList;
use lockstep::rest::found::{Adopted, FoundKey, FoundKeyList, IgnoreDone};
use lockstep::rest::keystore::KeystoreStatus;
use serde_json::{Value, json};

use crate::support::rest::{Answer, Coordinator};

/// A keystore with keys that others made, and a template.
struct Scene {
    coordinator: Coordinator,
    tokyo: KeystoreId,
    at: String,
}

fn stray(id: u8, label: &str) -> ObjectFacts {
    ObjectFacts {
        handle: 9,
        class: ObjectClass::Secret,
        key_type: Some(0x1f),
        cka_id: vec![id],
        label: label.to_owned(),
        usage: UsageSet::of(&[Usage::Encrypt]),
        sensitive: Some(false),
        extractable: Some(true),
        modifiable: Some(true),
        copyable: Some(true),
        bits: Some(256),
        public_digest: None,
        fingerprint: None,
    }
}

impl Scene {
    async fn new() -> Self {
        let coordinator = Coordinator::new();
        let vault = coordinator.vault("v").await;
        let tokyo = coordinator
            .keystore(&vault, "tokyo", Variant::External)
            .await;
        coordinator.template(&vault, "T", json!({})).await;
        let strays = vec![stray(1, "backup-1"), stray(2, "backup-2"), stray(3, "web")];
        coordinator.fleet.set_unmanaged(tokyo, strays);
        Self {
            coordinator,
            tokyo,
            at: format!("/api/lockstep/v1/keystores/{tokyo}/unmanaged"),
        }
    }

    async fn post(&self, action: &str, body: Value) -> Answer {
        let path = format!("{}/{action}", self.at);
        self.coordinator.ask("POST", &path, &[], Some(body)).await
    }

    /// `label state reason` of each.
    async fn list(&self, query: &str) -> Vec<String> {
        let path = format!("{}{query}", self.at);
        let found: FoundKeyList = self.coordinator.get(&path).await.read();
        let line = |key: &FoundKey| {
            let reason = key.ignored.as_ref().map(|ignored| ignored.reason.clone());
            let (label, state) = (&key.label_in_keystore, key.state.name());
            format!("{label} {state} {}", reason.unwrap_or_default())
        };
        found.found_keys.iter().map(line).collect()
    }
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let scene = Scene::new().await;
    let id = "key_id_in_keystore";
    let template = "template_name";
    for (action, body, field, code) in [
        ("adopt", json!({template: "T"}), id, "missing_field"),
        (
            "adopt",
            json!({template: "T", "all": true, id: "01"}),
            id,
            "missing_field",
        ),
        (
            "adopt",
            json!({template: "T", id: "0g"}),
            id,
            "invalid_value",
        ),
        (
            "adopt",
            json!({template: "none", "all": true}),
            template,
            "not_found",
        ),
        ("adopt", json!({"all": true}), template, "missing_field"),
        (
            "adopt",
            json!({template: "T", "all": true, "x": 1}),
            "x",
            "unknown_field",
        ),
        ("ignore", json!({"all": true}), "reason", "missing_field"),
        (
            "ignore",
            json!({"all": true, "reason": " "}),
            "reason",
            "invalid_reason",
        ),
        ("ignore", json!({id: "77", "reason": "x"}), id, "not_found"),
        ("unignore", json!({id: "01"}), id, "not_found"),
        (
            "unignore",
            json!({"all": true, "reason": "x"}),
            "reason",
            "unknown_field",
        ),
    ] {
        let refused = scene.post(action, body.clone()).await.refused(400);
        let told = refused.target.as_ref().map(|target| target.name.as_str());
        let told = (told, refused.code.as_str());
        assert_eq!(told, (Some(field), code), "{action} {body}");
    }
    let states = scene
        .coordinator
        .get(&format!("{}?state=mine", scene.at))
        .await;
    assert_eq!(states.refused(400).target.unwrap().name, "state");
}

#[tokio::test]
async fn keys_are_left_to_others_and_taken_back() {
    let scene = Scene::new().await;
    let why = "the database's own";
    let body = json!({"label_in_keystore": "backup-*", "reason": why});
    let done: IgnoreDone = scene.post("ignore", body).await.read();
    assert_eq!(done.keys.len(), 2);
    assert_eq!(scene.list("").await, ["web unmanaged "]);
    let ignored = ["backup-1", "backup-2"].map(|label| format!("{label} ignored {why}"));
    assert_eq!(scene.list("?state=ignored").await, ignored);
    let both = scene.list("?state=ignored,unmanaged&algorithm=aes").await;
    assert_eq!(both.len(), 3);
    let status = format!("/api/v4/keystores/{}/status", scene.tokyo);
    let status: KeystoreStatus = scene.coordinator.get(&status).await.read();
    assert_eq!(status.unmanaged_count, 1);
    let audit = format!("/api/lockstep/v1/audit?subject=keystore/{}", scene.tokyo);
    let audit: AuditList = scene.coordinator.get(&audit).await.read();
    assert_eq!(audit.entries[0].action, "keystore.ignore");
    assert!(audit.entries[0].detail.contains(why), "{audit:?}");
    let one = json!({"key_id_in_keystore": "01"});
    let done: IgnoreDone = scene.post("unignore", one).await.read();
    assert_eq!(done.keys[0].label_in_keystore, "backup-1");
    assert_eq!(
        scene.list("").await,
        ["backup-1 unmanaged ", "web unmanaged "]
    );
}

/// Paper has no fingerprints: the reason is told of each key, and nothing is made.
#[tokio::test]
async fn what_is_refused_of_one_key_is_an_error_and_of_several_an_outcome() {
    let scene = Scene::new().await;
    let body = json!({"template_name": "T", "all": true});
    let done: Adopted = scene.post("adopt?dry_run=true", body.clone()).await.read();
    assert_eq!((done.results.len(), done.dry_run), (3, true));
    let first = &done.results[0];
    assert_eq!(first.refused.as_ref().unwrap().code, "no_fingerprint");
    let findings: Vec<&str> = first.findings.iter().map(|f| f.code.as_str()).collect();
    assert_eq!(findings, ["not_sensitive", "extractable"]);
    let one = json!({"template_name": "T", "key_id_in_keystore": "01"});
    let refused = scene.post("adopt", one).await.refused(409);
    assert_eq!(refused.code, "no_fingerprint");
    scene.coordinator.fleet.set_up(scene.tokyo, false);
    let refused = scene.post("adopt", body).await.refused(502);
    assert_eq!(refused.code, "agent_unreachable");
}
