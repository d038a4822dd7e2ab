//! What stands beside API v4: targets, plans, looks, proofs, differences, unmanaged keys, the audit log.

use lockstep::model::adoption::FoundState;
use lockstep::model::difference::Reason;
use lockstep::model::ids::{KeyVersionId, KeystoreId};
use lockstep::model::key::{Usage, UsageSet};
use lockstep::model::keystore::Variant;
use lockstep::model::lifecycle::ManagedState;
use lockstep::model::observed::{ObjectClass, ObjectFacts, Observation};
use lockstep::rest::extension::{AuditList, DifferenceList, Plan};
use lockstep::rest::found::FoundKeyList;
use lockstep::rest::keystore::{HealthStatus, Keystore, KeystoreStatus};
use lockstep::rest::managed_key::{Alignment, ManagedKey};
use lockstep::rest::status::{FoundStatus, Phase, StatusInKeystores, SyncFlag, SyncFlagDetail};
use lockstep::rest::vault::Vault;
use serde_json::{Value, json};

use crate::support::rest::{Answer, Coordinator};

/// A vault with `home` and `tokyo`, and a key that is active on both.
struct Scene {
    coordinator: Coordinator,
    vault: Vault,
    home: KeystoreId,
    tokyo: KeystoreId,
    key: ManagedKey,
    etag: String,
}

impl Scene {
    async fn new() -> Self {
        let coordinator = Coordinator::new();
        let vault = coordinator.vault("v").await;
        let home = coordinator
            .keystore(&vault, "home", Variant::Internal)
            .await;
        let tokyo = coordinator
            .keystore(&vault, "tokyo", Variant::External)
            .await;
        let key = json!({"state": "active"});
        let template = coordinator.template(&vault, "T", key).await;
        let (key, etag) = coordinator.key(&vault, &template, "k1").await;
        assert_eq!(key.progress.phase, Phase::InStep);
        Self {
            coordinator,
            vault,
            home,
            tokyo,
            key,
            etag,
        }
    }

    fn version(&self) -> KeyVersionId {
        self.key.instances[0].id.parse().unwrap()
    }

    fn path(&self, action: &str) -> String {
        format!("/api/v4/managed_keys/{}{action}", self.key.id)
    }

    fn extension(&self, action: &str) -> String {
        format!("/api/lockstep/v1/managed_keys/{}{action}", self.key.id)
    }

    /// Somebody else disables the key on `tokyo`.
    fn disable_on_tokyo(&self) {
        let reason = Reason::DisabledUnexpectedly;
        self.coordinator
            .fleet
            .tamper(self.tokyo, self.version(), reason, |seen| {
                let Observation::Present(found) = seen else {
                    panic!("{seen:?}");
                };
                found.objects[0].usage = UsageSet::NONE;
            });
    }

    async fn targets(&self, etag: &str, ids: &[KeystoreId]) -> Answer {
        let ids: Vec<Value> = ids.iter().map(|id| json!({"id": id.to_string()})).collect();
        let body = Some(json!({"keystores": ids}));
        let headers = [("if-match", etag)];
        self.coordinator
            .ask("PUT", &self.extension("/targets"), &headers, body)
            .await
    }
}

#[tokio::test]
async fn a_removed_target_is_disabled_and_can_come_back() {
    let scene = Scene::new().await;
    let answer = scene.targets(&scene.etag, &[scene.home]).await;
    let key: ManagedKey = answer.read();
    assert_eq!(key.template.alignment_status, Alignment::Unaligned);
    assert_eq!(key.referenced_keystores.len(), 1);
    let tokyo = &key.status_in_keystores[1];
    assert!(!tokyo.is_target);
    assert_eq!(tokyo.status, FoundStatus::NotActive);
    let removed = SyncFlagDetail::TargetKeystoreRemovedByUser;
    assert_eq!(tokyo.keystore_sync_flag_detail, removed);

    let path = scene.path("/update_from_template?dry_run=true");
    let dry = scene.coordinator.act(&path, &answer.etag()).await;
    assert_eq!(dry.read::<ManagedKey>().referenced_keystores.len(), 2);
    let now = scene.coordinator.get(&scene.path("")).await;
    assert_eq!(now.etag(), answer.etag());
    assert_eq!(now.read::<ManagedKey>().referenced_keystores.len(), 1);

    let path = scene.path("/update_from_template");
    let back: ManagedKey = scene.coordinator.act(&path, &now.etag()).await.read();
    assert_eq!(back.template.alignment_status, Alignment::Aligned);
    assert_eq!(back.status_in_keystores[1].status, FoundStatus::Active);
    assert_eq!(back.progress.phase, Phase::InStep);
}

#[tokio::test]
async fn targets_must_be_keystores_of_the_vault() {
    let scene = Scene::new().await;
    let other = scene.coordinator.vault("other").await;
    let stranger = scene
        .coordinator
        .keystore(&other, "stranger", Variant::External)
        .await;
    let answer = scene.targets(&scene.etag, &[scene.home, stranger]).await;
    assert_eq!(answer.refused(400).target.unwrap().name, "keystores");
    assert_eq!(answer.etag(), scene.etag);
    let body = Some(json!({"keystores": [{"id": "x"}]}));
    let headers = [("if-match", scene.etag.as_str())];
    let answer = scene
        .coordinator
        .ask("PUT", &scene.extension("/targets"), &headers, body)
        .await;
    assert_eq!(answer.refused(400).target.unwrap().name, "keystores[0].id");
}

#[tokio::test]
async fn plans_tell_the_steps_and_change_nothing() {
    let scene = Scene::new().await;
    let plan = async |body: Value| {
        let path = "/api/lockstep/v1/plan";
        scene.coordinator.post(path, body).await
    };
    let key = json!({"id": scene.key.id});
    let deactivate = plan(json!({"managed_key": key, "action": "deactivate"})).await;
    let planned: Plan = deactivate.read();
    assert_eq!(planned.managed_key.label, "k1");
    let names: Vec<&str> = planned
        .keystores
        .iter()
        .map(|planned| planned.keystore.name.as_str())
        .collect();
    assert_eq!(names, ["home", "tokyo"]);
    for planned in &planned.keystores {
        assert_eq!(planned.want.as_deref(), Some("deactivated"));
        assert_eq!(planned.steps[0], "disable the secret key");
    }
    let home = json!([{"id": scene.home.to_string()}]);
    let asked = json!({"managed_key": key, "action": "targets", "keystores": home});
    let planned: Plan = plan(asked).await.read();
    assert_eq!(planned.keystores.len(), 1);
    assert_eq!(planned.keystores[0].keystore.name, "tokyo");
    for wrong in [
        json!({"managed_key": key, "action": "targets"}),
        json!({"managed_key": key, "action": "sync", "keystores": home}),
    ] {
        let refused = plan(wrong).await.refused(400);
        assert_eq!(refused.target.unwrap().name, "keystores");
    }
    let destroy = plan(json!({"managed_key": key, "action": "destroy"})).await;
    assert_eq!(destroy.refused(409).code, "state_conflict");
    let now = scene.coordinator.get(&scene.path("")).await;
    assert_eq!(now.etag(), scene.etag);
}

#[tokio::test]
async fn a_change_by_somebody_else_is_told_and_put_right() {
    let scene = Scene::new().await;
    scene.disable_on_tokyo();
    let path = "/api/lockstep/v1/differences";
    let list: DifferenceList = scene.coordinator.get(path).await.read();
    assert_eq!(list.page.total_count, 1);
    let found = &list.differences[0];
    assert_eq!(found.managed_key.label, "k1");
    assert_eq!(found.keystore.name, "tokyo");
    assert_eq!(found.difference.reason, Reason::DisabledUnexpectedly);
    assert!(found.difference.since.is_some());
    assert!(found.difference.message.contains("somebody else"));
    for (query, count) in [
        ("reason=wrong_key", 0),
        ("reason=disabled_unexpectedly", 1),
        (&format!("keystore.id={}", scene.home), 0),
        (&format!("keystore.id={}", scene.tokyo), 1),
        (&format!("vault.id={}", scene.vault.id), 1),
    ] {
        let answer = scene.coordinator.get(&format!("{path}?{query}")).await;
        assert_eq!(
            answer.read::<DifferenceList>().page.total_count,
            count,
            "{query}"
        );
    }
    let answer = scene.coordinator.get(&format!("{path}?reason=magic")).await;
    assert_eq!(answer.refused(400).target.unwrap().name, "reason");

    let before: ManagedKey = scene.coordinator.get(&scene.path("")).await.read();
    assert_eq!(before.progress.phase, Phase::OutOfStep);
    let tokyo = &before.status_in_keystores[1];
    assert_eq!(tokyo.keystore_sync_flag, SyncFlag::OutOfSync);
    let detail = SyncFlagDetail::ActiveKeyIsNotActiveInKeystore;
    assert_eq!(tokyo.keystore_sync_flag_detail, detail);

    let path = scene.path("/sync_status_in_keystores");
    let answer = scene.coordinator.act(&path, &scene.etag).await;
    let synced: StatusInKeystores = answer.read();
    assert_eq!(synced.progress.phase, Phase::InStep);
    assert_eq!(synced.status_in_keystores[1].status, FoundStatus::Active);
    assert_eq!(answer.etag(), scene.etag);
}

#[tokio::test]
async fn looks_and_proofs_are_asked_for() {
    let scene = Scene::new().await;
    for action in ["/verify", "/prove"] {
        let answer = scene.coordinator.act(&scene.extension(action), "").await;
        // They change nothing, so they need no If-Match.
        assert_eq!(answer.etag(), scene.etag, "{action}");
        let status: StatusInKeystores = answer.read();
        assert_eq!(status.progress.confirmed, 2, "{action}");
    }
}

#[tokio::test]
async fn compromised_keys_never_come_back() {
    let scene = Scene::new().await;
    let path = scene.extension("/compromise");
    let answer = scene.coordinator.act(&path, &scene.etag).await;
    let key: ManagedKey = answer.read();
    assert_eq!(key.state, ManagedState::Compromised);
    assert_eq!(key.allowed_actions, ["destroy"]);
    let path = scene.path("/activate");
    let refused = scene.coordinator.act(&path, &answer.etag()).await;
    assert_eq!(
        refused.refused(409).message_params,
        ["compromised", "destroy"]
    );
}

#[tokio::test]
async fn keystores_tell_how_they_are_and_what_nobody_manages() {
    let scene = Scene::new().await;
    let path = format!("/api/v4/keystores/{}", scene.tokyo);
    let keystore: Keystore = scene.coordinator.get(&path).await.read();
    assert_eq!(keystore.status.health_status, HealthStatus::Ok);
    assert_eq!(keystore.pkcs11_token.serial, "0815");
    let rfc5649 = keystore.pkcs11_capabilities.unwrap().rfc5649;
    assert_eq!(rfc5649.as_deref(), Some("0x210a"));
    let stray = ObjectFacts {
        handle: 9,
        class: ObjectClass::Private,
        key_type: Some(3),
        cka_id: vec![0xab, 0xcd],
        label: "stray".to_owned(),
        usage: UsageSet::of(&[Usage::Sign]),
        sensitive: Some(true),
        extractable: Some(false),
        modifiable: Some(true),
        copyable: Some(true),
        bits: None,
        public_digest: None,
        fingerprint: None,
    };
    let other = ObjectFacts {
        cka_id: vec![1],
        ..stray.clone()
    };
    scene
        .coordinator
        .fleet
        .set_unmanaged(scene.tokyo, vec![stray.clone(), stray, other]);
    let unmanaged = format!(
        "/api/lockstep/v1/keystores/{}/unmanaged?limit=1&offset=1",
        scene.tokyo
    );
    let list: FoundKeyList = scene.coordinator.get(&unmanaged).await.read();
    assert_eq!(list.page.total_count, 2, "one a CKA_ID");
    let [key] = list.found_keys.as_slice() else {
        panic!("{list:?}");
    };
    assert_eq!(key.key_id_in_keystore, "abcd");
    assert_eq!(key.state, FoundState::Unmanaged);
    assert_eq!(key.usage, [Usage::Sign]);
    assert_eq!(key.objects.len(), 2);
    assert_eq!(key.objects[0].kind, "private_key");
    assert_eq!(key.obstacle.as_ref().unwrap().code, "duplicated_cka_id");
    let keystore: Keystore = scene.coordinator.get(&path).await.read();
    assert_eq!(keystore.status.unmanaged_count, 2);

    scene.coordinator.fleet.set_up(scene.tokyo, false);
    let answer = scene.coordinator.get(&format!("{path}/status")).await;
    let status: KeystoreStatus = answer.read();
    assert_eq!(status.health_status, HealthStatus::NotResponding);
    let body = Some(json!({"pkcs11_agent_endpoint": "https://nowhere.test:1"}));
    let headers = [("if-match", &*answer.etag())];
    let moved = scene.coordinator.ask("PATCH", &path, &headers, body).await;
    assert_eq!(moved.refused(502).code, "agent_unreachable");
    assert_eq!(moved.etag(), answer.etag());
    let gone = scene.coordinator.ask("DELETE", &path, &headers, None).await;
    let blocked = gone.refused(409);
    assert_eq!(blocked.code, "in_use");
    assert_eq!(blocked.message_params.len(), 1);
}

#[tokio::test]
async fn a_dry_run_of_a_keystore_stores_nothing() {
    let coordinator = Coordinator::new();
    let vault = coordinator.vault("v").await;
    let id = coordinator.fleet.add("home", Variant::Internal);
    let body = |variant: &str| {
        json!({
            "type": "pkcs11", "vault": {"id": vault.id}, "pkcs11_variant": variant,
            "pkcs11_agent_endpoint": "https://home.test:1",
            "pkcs11_agent_identity": "spiffe://lockstep/agent/home",
        })
    };
    let path = "/api/v4/keystores?dry_run=true";
    let found: Keystore = coordinator.post(path, body("internal")).await.read();
    assert_eq!((found.id, found.name), (id.to_string(), "home".to_owned()));
    let refused = coordinator.post(path, body("external")).await.refused(409);
    assert_eq!(refused.code, "variant_mismatch");
    let list = coordinator.get("/api/v4/keystores").await.value();
    assert_eq!(list["total_count"], 0);
}

#[tokio::test]
async fn keys_are_listed_by_what_is_asked() {
    let scene = Scene::new().await;
    let count = async |query: &str| {
        let path = format!("/api/v4/managed_keys?{query}");
        scene.coordinator.get(&path).await.value()["total_count"].clone()
    };
    assert_eq!(count("").await, 1);
    assert_eq!(count("label=k1&sort=-created_at,label").await, 1);
    assert_eq!(count("label=k2").await, 0);
    assert_eq!(count("state=deactivated").await, 0);
    assert_eq!(
        count(&format!("template.id={}", scene.key.template.id)).await,
        1
    );
    assert_eq!(count(&format!("vault.id={}", scene.key.id)).await, 0);
    let path = format!("/api/v4/keystores/{}/managed_keys", scene.home);
    assert_eq!(scene.coordinator.get(&path).await.value()["total_count"], 1);
    let destroyed = format!("{path}?state=destroyed");
    let list = scene.coordinator.get(&destroyed).await.value();
    assert_eq!(list["total_count"], 0);
    let path = scene.path("/versions");
    let list = scene.coordinator.get(&path).await.value();
    assert_eq!(list["managed_keys"][0]["version"], 1);
}

#[tokio::test]
async fn a_rotated_key_has_two_versions() {
    let scene = Scene::new().await;
    assert!(scene.key.is_rotatable && scene.key.rotated_at.is_none());
    let path = scene.path("/rotate");
    let missing = scene.coordinator.ask("POST", &path, &[], None).await;
    assert_eq!(missing.refused(428).code, "precondition_required");
    let done = scene.coordinator.act(&path, &scene.etag).await;
    let key: ManagedKey = done.read();
    assert_eq!((key.version, key.progress.phase), (2, Phase::InStep));
    assert!(key.rotated_at.is_some() && key.unsettled_versions.is_empty());
    assert_eq!(key.instances[0].label_in_keystore, "k1-v2");
    assert_eq!(key.label, "k1");
    assert_ne!(done.etag(), scene.etag);
    let stale = scene.coordinator.act(&path, &scene.etag).await;
    assert_eq!(stale.refused(412).code, "etag_mismatch");
    let list = scene
        .coordinator
        .get(&scene.path("/versions"))
        .await
        .value();
    let told: Vec<_> = list["managed_keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (
                one["version"].as_u64().unwrap(),
                one["id"] == key.id.as_str(),
            )
        })
        .collect();
    assert_eq!(told, [(2, true), (1, true)]);
    assert_eq!(list["total_count"], 2);
    let path = scene.path("/versions?limit=1&offset=1");
    let page = scene.coordinator.get(&path).await.value();
    assert_eq!(page["managed_keys"][0]["version"], 1);
    // What is wrong with an old version is told of the key, with its number.
    let fleet = &scene.coordinator.fleet;
    fleet.tamper(
        scene.tokyo,
        scene.version(),
        Reason::Missing,
        |observation| {
            *observation = Observation::Absent { same_label: vec![] };
        },
    );
    let key: ManagedKey = scene.coordinator.get(&scene.path("")).await.read();
    assert_eq!(key.progress.phase, Phase::OutOfStep);
    let unconfirmed: Vec<_> = key
        .progress
        .unconfirmed
        .iter()
        .map(|one| one.version)
        .collect();
    assert_eq!(unconfirmed, [1]);
    assert_eq!(key.unsettled_versions[0].version, 1);
}

#[tokio::test]
async fn a_held_destruction_has_the_words_of_api_v4() {
    let scene = Scene::new().await;
    let vault = format!("/api/v4/vaults/{}", scene.vault.id);
    let etag = scene.coordinator.get(&vault).await.etag();
    let body = json!({"destruction_hold": "P7D"});
    let headers = [("if-match", etag.as_str())];
    let set = scene
        .coordinator
        .ask("PATCH", &vault, &headers, Some(body))
        .await;
    assert_eq!(set.value()["destruction_hold"], "P7D");
    let off = scene
        .coordinator
        .act(&scene.path("/deactivate"), &scene.etag)
        .await;
    let held = scene
        .coordinator
        .act(&scene.path("/destroy"), &off.etag())
        .await;
    let key: ManagedKey = held.read();
    let until = key.destruction_held_until.unwrap();
    assert_eq!(key.state, ManagedState::Destroyed);
    assert_eq!(key.allowed_actions, ["cancel_destruction"]);
    let item = &key.status_in_keystores[0];
    assert_eq!(item.status, FoundStatus::PendingDestruction);
    assert_eq!(item.destruction_policy_duration, "P7D");
    assert_eq!(item.destruction_at, format!("{until}T00:00:00.000Z"));
    let detail = SyncFlagDetail::DestroyedPendingKeyIsPendingDestructionInKeystore;
    assert_eq!(
        (item.keystore_sync_flag, item.keystore_sync_flag_detail),
        (SyncFlag::Ok, detail)
    );
    let list = scene
        .coordinator
        .get("/api/lockstep/v1/calendar")
        .await
        .value();
    let date = &list["dates"][0];
    assert_eq!(
        (date["kind"].as_str(), date["date"].as_str()),
        (Some("erasure"), Some(&*until))
    );
    let path = format!(
        "/api/lockstep/v1/managed_keys/{}/cancel_destruction",
        scene.key.id
    );
    let back: ManagedKey = scene.coordinator.act(&path, &held.etag()).await.read();
    assert_eq!(back.state, ManagedState::Deactivated);
    assert_eq!(back.destruction_held_until, None);
}

#[tokio::test]
async fn dates_are_set_and_taken_away() {
    let scene = Scene::new().await;
    let patch = async |etag: &str, body: Value| {
        let headers = [("if-match", etag)];
        let path = scene.path("");
        scene
            .coordinator
            .ask("PATCH", &path, &headers, Some(body))
            .await
    };
    let set = patch(&scene.etag, json!({"expiration_date": "2031-02-03"})).await;
    let key: ManagedKey = set.read();
    assert_eq!(key.expiration_date.as_deref(), Some("2031-02-03"));
    let kept = patch(&set.etag(), json!({"description": "d"})).await;
    let key: ManagedKey = kept.read();
    assert_eq!(key.expiration_date.as_deref(), Some("2031-02-03"));
    let gone = patch(&kept.etag(), json!({"expiration_date": null})).await;
    assert_eq!(gone.read::<ManagedKey>().expiration_date, None);
    let wrong = patch(&gone.etag(), json!({"expiration_date": "2031-02-30"})).await;
    assert_eq!(wrong.refused(400).target.unwrap().name, "expiration_date");
}

#[tokio::test]
async fn what_was_asked_is_on_record() {
    let scene = Scene::new().await;
    let path = format!("/api/lockstep/v1/audit?subject=key/{}", scene.key.id);
    let list: AuditList = scene.coordinator.get(&path).await.read();
    let entry = &list.entries[0];
    assert_eq!(
        (entry.actor.as_str(), entry.action.as_str()),
        ("admin", "key.create")
    );
    let all: AuditList = scene
        .coordinator
        .get("/api/lockstep/v1/audit?limit=2")
        .await
        .read();
    assert_eq!(all.entries.len(), 2);
    assert!(all.page.total_count > 2);
    assert!(all.page.next.is_some());
}
