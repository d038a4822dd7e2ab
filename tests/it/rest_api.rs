//! The REST API over real use cases and a real store; the fleet is on paper.

use axum::body::Body;
use axum::http::Request;
use lockstep::model::keystore::Variant;
use lockstep::model::lifecycle::ManagedState;
use lockstep::rest::managed_key::{ManagedKey, ManagedKeyList};
use lockstep::rest::status::{FoundStatus, Phase, StatusInKeystores, SyncFlag};
use lockstep::rest::vault::{Vault, VaultList};
use serde_json::json;

use crate::support::rest::{Answer, Coordinator, READER};

fn named(code: &str, target: &str) -> (String, Option<String>) {
    (code.to_owned(), Some(target.to_owned()))
}

fn code(answer: &Answer, status: u16) -> String {
    answer.refused(status).code
}

#[tokio::test]
async fn only_known_tokens_come_in() {
    let coordinator = Coordinator::new();
    let ask = async |authorization: &[&str]| {
        let mut request = Request::builder().uri("/api/v4/vaults");
        for value in authorization {
            request = request.header("authorization", *value);
        }
        coordinator.send(request.body(Body::empty()).unwrap()).await
    };
    let right = format!("Bearer {READER}");
    assert_eq!(ask(&[&right]).await.status, 200);
    for wrong in [
        &[][..],
        &["Bearer "],
        &["Bearer x"],
        &[READER],
        &[&format!("Basic {READER}")],
        &[&right, &right],
    ] {
        let answer = ask(wrong).await;
        assert_eq!(code(&answer, 401), "unauthenticated", "{wrong:?}");
        assert!(answer.header("www-authenticate").is_some());
        assert!(!answer.text().contains(READER));
    }
    let unknown = Request::builder().uri("/api/v4/nothing");
    let answer = coordinator.send(unknown.body(Body::empty()).unwrap()).await;
    assert_eq!(code(&answer, 401), "unauthenticated");
    for open in ["/healthz", "/readyz"] {
        let request = Request::builder().uri(open).body(Body::empty()).unwrap();
        assert_eq!(coordinator.send(request).await.status, 200, "{open}");
    }
}

#[tokio::test]
async fn readers_only_read() {
    let coordinator = Coordinator::new();
    let request = Request::builder()
        .method("POST")
        .uri("/api/v4/vaults")
        .header("authorization", format!("Bearer {READER}"))
        .header("content-type", "application/json")
        .body(Body::from(r#"{"name":"a"}"#))
        .unwrap();
    assert_eq!(code(&coordinator.send(request).await, 403), "forbidden");
}

#[tokio::test]
async fn every_answer_can_be_traced_and_none_is_cached() {
    let coordinator = Coordinator::new();
    for path in ["/api/v4/vaults", "/api/v4/nothing", "/healthz"] {
        let answer = coordinator.get(path).await;
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(answer.header("correlation-id").unwrap().len(), 36, "{path}");
    }
    let sent = [("correlation-id", "my-own-id-1")];
    let answer = coordinator.ask("GET", "/api/v4/x", &sent, None).await;
    assert_eq!(answer.header("correlation-id"), Some("my-own-id-1"));
    assert_eq!(code(&answer, 404), "not_found");
    let sent = [("correlation-id", "no spaces or \"quotes\"")];
    let answer = coordinator.ask("GET", "/api/v4/x", &sent, None).await;
    assert_eq!(answer.header("correlation-id").unwrap().len(), 36);
}

#[tokio::test]
async fn bad_bodies_are_refused_by_name() {
    let coordinator = Coordinator::new();
    let path = "/api/v4/vaults";
    let post = async |body| coordinator.post(path, body).await.refusal(400);
    assert_eq!(
        post(json!({"name": "a", "nmae": 1})).await,
        named("unknown_field", "nmae")
    );
    assert_eq!(post(json!({})).await, named("missing_field", "name"));
    assert_eq!(
        post(json!({"name": 7})).await,
        named("invalid_value", "name")
    );
    assert_eq!(
        post(json!({"name": ""})).await,
        named("invalid_name", "name")
    );
    let long = json!({"name": "a", "description": "x".repeat(201)});
    assert_eq!(post(long).await, named("too_long", "description"));
    let huge = json!({"name": "a", "description": "x".repeat(1024 * 1024)});
    let answer = coordinator.post(path, huge).await;
    assert_eq!(code(&answer, 413), "body_too_large");
    let headers = [("content-type", "text/plain")];
    let answer = coordinator.ask("POST", path, &headers, None).await;
    assert_eq!(
        answer.refusal(415),
        named("unsupported_media_type", "Content-Type")
    );
    assert_eq!(
        code(&coordinator.ask("PUT", path, &[], None).await, 405),
        "method_not_allowed"
    );
    let list: VaultList = coordinator.get(path).await.read();
    assert_eq!(list.page.total_count, 0);
}

#[tokio::test]
async fn other_products_keystores_are_refused_with_the_reason() {
    let coordinator = Coordinator::new();
    let vault = coordinator.vault("v").await;
    let body = json!({
        "type": "aws_kms", "vault": {"id": vault.id}, "aws_region": "eu-central-1",
    });
    let answer = coordinator.post("/api/v4/keystores", body).await;
    assert_eq!(
        answer.refusal(400),
        named("keystore_type_not_supported", "type")
    );
    let none = coordinator.get("/api/v4/keystores?type=aws_kms,cca").await;
    assert_eq!(none.value()["total_count"], 0);
    let answer = coordinator.get("/api/v4/keystores?type=floppy").await;
    assert_eq!(answer.refusal(400), named("invalid_parameter", "type"));
}

#[tokio::test]
async fn changes_rest_on_a_state() {
    let coordinator = Coordinator::new();
    let made = coordinator
        .post("/api/v4/vaults", json!({"name": "v"}))
        .await;
    assert_eq!(made.status, 201);
    assert!(made.header("operation-id").is_some());
    let vault: Vault = made.read();
    let path = format!("/api/v4/vaults/{}", vault.id);
    let first = made.etag();
    assert_eq!(coordinator.get(&path).await.etag(), first);

    let patch = async |headers: &[(&str, &str)]| {
        let body = Some(json!({"description": "d"}));
        coordinator.ask("PATCH", &path, headers, body).await
    };
    let missing = patch(&[]).await;
    assert_eq!(
        missing.refusal(428),
        named("precondition_required", "If-Match")
    );
    assert_eq!(missing.etag(), first);
    let changed = patch(&[("if-match", &first)]).await;
    assert_eq!(changed.read::<Vault>().description, "d");
    let second = changed.etag();
    assert_ne!(first, second);
    for stale in [first.as_str(), "\"other\"", "W/\"2\""] {
        let answer = patch(&[("if-match", stale)]).await;
        assert_eq!(answer.refusal(412), named("etag_mismatch", "If-Match"));
        assert_eq!(answer.etag(), second, "{stale}");
    }
    assert_eq!(
        patch(&[("if-match", "*")]).await.refusal(400),
        named("invalid_header", "If-Match")
    );
    // A refusal for another reason tells the ETag too.
    let body = Some(json!({"colour": "red"}));
    let headers = [("if-match", second.as_str())];
    let answer = coordinator.ask("PATCH", &path, &headers, body).await;
    assert_eq!(answer.refusal(400), named("unknown_field", "colour"));
    assert_eq!(answer.etag(), second);
    let gone = coordinator.ask("DELETE", &path, &headers, None).await;
    assert_eq!(gone.status, 204);
    assert_eq!(code(&coordinator.get(&path).await, 404), "not_found");
    assert_eq!(
        code(&coordinator.get("/api/v4/vaults/7").await, 404),
        "not_found"
    );
}

#[tokio::test]
async fn the_same_request_twice_is_one_change() {
    let coordinator = Coordinator::new();
    let post = async |key: &str, name: &str| {
        let headers = [("idempotency-key", key)];
        let body = Some(json!({"name": name}));
        coordinator
            .ask("POST", "/api/v4/vaults", &headers, body)
            .await
    };
    let first = post("op-1", "a").await;
    let again = post("op-1", "a").await;
    assert_eq!(first.status, again.status);
    assert_eq!(first.read::<Vault>().id, again.read::<Vault>().id);
    assert_eq!(first.header("operation-id"), Some("op-1"));
    assert_eq!(again.header("operation-id"), Some("op-1"));
    assert_eq!(first.header("idempotent-replayed"), None);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    let other = post("op-1", "b").await;
    assert_eq!(
        other.refusal(409),
        named("idempotency_key_reused", "Idempotency-Key")
    );
    assert_eq!(
        post("spaces are wrong", "c").await.refusal(400),
        named("invalid_header", "Idempotency-Key")
    );
    assert_eq!(
        post("op-2", "a").await.refusal(409),
        named("name_taken", "name")
    );
}

#[tokio::test]
async fn lists_are_paged_without_gaps() {
    let coordinator = Coordinator::new();
    for n in 0..7 {
        coordinator.vault(&format!("v{n}")).await;
    }
    let mut path = "/api/v4/vaults?limit=3&name=v".to_owned();
    let mut seen = Vec::new();
    loop {
        let list: VaultList = coordinator.get(&path).await.read();
        assert_eq!(list.page.total_count, 7);
        seen.extend(list.vaults.into_iter().map(|vault| vault.name));
        match list.page.next {
            Some(next) => path = next.href,
            None => break,
        }
    }
    let expected: Vec<String> = (0..7).map(|n| format!("v{n}")).collect();
    assert_eq!(seen, expected);
    for (query, target) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=many", "limit"),
        ("offset=-1", "offset"),
        ("sort=colour", "sort"),
        ("wait=1", "wait"),
        ("limit=1&limit=2", "limit"),
    ] {
        let answer = coordinator.get(&format!("/api/v4/vaults?{query}")).await;
        let (_code, named) = answer.refusal(400);
        assert_eq!(named.as_deref(), Some(target), "{query}");
    }
    let later = coordinator.get("/api/v4/managed_keys?size=256").await;
    assert_eq!(later.refusal(501), named("not_built_yet", "size"));
}

#[tokio::test]
async fn a_key_lives_and_dies() {
    let coordinator = Coordinator::new();
    let vault = coordinator.vault("v").await;
    coordinator
        .keystore(&vault, "home", Variant::Internal)
        .await;
    coordinator
        .keystore(&vault, "tokyo", Variant::External)
        .await;
    let template = coordinator.template(&vault, "T", json!({})).await;
    let (key, etag) = coordinator.key(&vault, &template, "k1").await;
    assert_eq!(key.state, ManagedState::PreActivation);
    assert_eq!(key.key_material_present, ["repository"]);
    assert_eq!(key.referenced_keystores.len(), 2);
    let path = |action: &str| format!("/api/v4/managed_keys/{}{action}", key.id);

    let answer = coordinator.act(&path("/deactivate"), &etag).await;
    let refused = answer.refused(409);
    assert_eq!(refused.code, "state_conflict");
    assert_eq!(
        refused.message_params,
        ["pre_activation", "activate", "destroy"]
    );
    assert_eq!(answer.etag(), etag);

    let answer = coordinator.act(&path("/activate"), &etag).await;
    let active: ManagedKey = answer.read();
    assert_eq!(active.state, ManagedState::Active);
    assert_eq!(active.progress.phase, Phase::InStep);
    assert_eq!((active.progress.confirmed, active.progress.total), (2, 2));
    for item in &active.status_in_keystores {
        assert_eq!(item.status, FoundStatus::Active);
        assert_eq!(item.keystore_sync_flag, SyncFlag::Ok);
        assert_eq!(item.proof.as_ref().unwrap().answer, "CKR_OK");
    }
    let same = coordinator.act(&path("/activate"), &answer.etag()).await;
    assert_eq!(same.etag(), answer.etag());

    let answer = coordinator.act(&path("/deactivate"), &same.etag()).await;
    let off: ManagedKey = answer.read();
    assert_eq!(off.state, ManagedState::Deactivated);
    assert_eq!(off.progress.phase, Phase::InStep);
    let answer = coordinator.act(&path("/destroy"), &answer.etag()).await;
    let gone: ManagedKey = answer.read();
    assert_eq!(gone.state, ManagedState::Destroyed);
    let list: ManagedKeyList = coordinator.get("/api/v4/managed_keys").await.read();
    assert_eq!(list.page.total_count, 0);
    let all = "/api/v4/managed_keys?state=destroyed,active";
    let list: ManagedKeyList = coordinator.get(all).await.read();
    assert_eq!(list.page.total_count, 1);
    let etag = answer.etag();
    let removed = coordinator
        .ask("DELETE", &path(""), &[("if-match", &etag)], None)
        .await;
    assert_eq!(removed.status, 204, "{}", removed.text());
    assert_eq!(code(&coordinator.get(&path("")).await, 404), "not_found");
}

#[tokio::test]
async fn a_keystore_that_is_down_is_told_and_not_waited_for() {
    let coordinator = Coordinator::new();
    let vault = coordinator.vault("v").await;
    coordinator
        .keystore(&vault, "home", Variant::Internal)
        .await;
    let tokyo = coordinator
        .keystore(&vault, "tokyo", Variant::External)
        .await;
    let template = coordinator.template(&vault, "T", json!({})).await;
    let (key, etag) = coordinator.key(&vault, &template, "k1").await;
    coordinator.fleet.set_up(tokyo, false);
    let path = |action: &str| format!("/api/v4/managed_keys/{}/{action}", key.id);
    let answer = coordinator.act(&path("activate?wait=60"), &etag).await;
    let key: ManagedKey = answer.read();
    assert_eq!(key.state, ManagedState::Active);
    assert_eq!((key.progress.confirmed, key.progress.total), (1, 2));
    assert_eq!(key.progress.unconfirmed[0].keystore.name, "tokyo");
    let answer = coordinator.get(&path("status_in_keystores")).await;
    let status: StatusInKeystores = answer.read();
    let tokyo_status = &status.status_in_keystores[1];
    assert_eq!(tokyo_status.status, FoundStatus::Unknown);
    assert_eq!(tokyo_status.keystore_sync_flag, SyncFlag::Error);
    let error = tokyo_status.error.as_ref().unwrap();
    assert_eq!(error.errors[0].code, "connection_error");
    coordinator.fleet.set_up(tokyo, true);
}

#[tokio::test]
async fn a_slow_keystore_is_pending_and_respond_async_does_not_wait() {
    let coordinator = Coordinator::new();
    let vault = coordinator.vault("v").await;
    let home = coordinator
        .keystore(&vault, "home", Variant::Internal)
        .await;
    coordinator.fleet.set_obedient(home, false);
    let template = coordinator.template(&vault, "T", json!({})).await;
    let (key, etag) = coordinator.key(&vault, &template, "k1").await;
    let path = |action: &str| format!("/api/v4/managed_keys/{}/{action}", key.id);
    let headers = [("if-match", etag.as_str()), ("prefer", "respond-async")];
    let answer = coordinator
        .ask("POST", &path("activate?wait=60"), &headers, None)
        .await;
    let pending: ManagedKey = answer.read();
    assert_eq!(pending.state, ManagedState::Active);
    assert_eq!(pending.progress.phase, Phase::Changing);
    assert!(pending.status_in_keystores[0].pending_since.is_some());
    assert_eq!(
        coordinator
            .act(&path("deactivate?wait=61"), &answer.etag())
            .await
            .refusal(400),
        named("invalid_parameter", "wait")
    );
}

#[tokio::test]
async fn the_vault_in_the_header_must_be_the_objects() {
    let coordinator = Coordinator::new();
    let (one, two) = (
        coordinator.vault("one").await,
        coordinator.vault("two").await,
    );
    let template = coordinator.template(&one, "T", json!({})).await;
    let path = format!("/api/v4/templates/{}", template.id);
    let get = async |vault: &str| {
        let headers = [("uko-vault", vault)];
        coordinator.ask("GET", &path, &headers, None).await
    };
    assert_eq!(get(&one.id).await.status, 200);
    assert_eq!(
        get(&two.id).await.refusal(400),
        named("vault_mismatch", "UKO-Vault")
    );
    assert_eq!(
        get("x").await.refusal(400),
        named("invalid_header", "UKO-Vault")
    );
}

#[tokio::test]
async fn what_is_not_built_says_so() {
    let coordinator = Coordinator::new();
    let id = "5b4c0a8e-1f7e-4b3a-9d2c-0123456789ab";
    let path = format!("/api/v4/templates/{id}/expose");
    let answer = coordinator.act(&path, "\"1\"").await;
    assert_eq!(code(&answer, 501), "not_built_yet");
    for path in ["/api/openapi.json", "/api/lockstep/v1/approvals"] {
        assert_eq!(code(&coordinator.get(path).await, 501), "not_built_yet");
    }
    let zip = [("accept", "application/vnd.ibm.uko.vault-list.v4.1.csv+zip")];
    let answer = coordinator.ask("GET", "/api/v4/vaults", &zip, None).await;
    assert_eq!(answer.refusal(501), named("not_built_yet", "Accept"));
}

#[tokio::test]
async fn what_is_not_there_says_so_in_one_shape() {
    let coordinator = Coordinator::new();
    for (path, status) in [
        ("/api/v4/nothing", 404),
        ("/api/lockstep/v1/nothing", 404),
        ("/api/v4/vaults/%FF", 400),
        ("/nothing", 404),
    ] {
        let answer = coordinator.get(path).await;
        assert!(!code(&answer, status).is_empty(), "{path}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
}
