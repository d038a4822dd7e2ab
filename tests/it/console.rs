//! The pages, as a browser without scripts asks for them.

use axum::body::Body;
use axum::http::Request;
use lockstep::model::difference::Reason;
use lockstep::model::ids::KeystoreId;
use lockstep::model::keystore::Variant;
use lockstep::model::observed::Observation;
use lockstep::rest::managed_key::ManagedKey;
use serde_json::json;

use crate::support::rest::{ADMIN, Answer, Coordinator};

const SAME_ORIGIN: (&str, &str) = ("sec-fetch-site", "same-origin");

async fn ask(
    coordinator: &Coordinator,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    form: &str,
) -> Answer {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "127.0.0.1:1");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Body::from(form.to_owned())).unwrap();
    coordinator.send(request).await
}

/// The cookie of a session that began with this token.
async fn sign_in(coordinator: &Coordinator, token: &str) -> Option<String> {
    let form = format!("token={token}");
    let answer = ask(coordinator, "POST", "/sign-in", &[SAME_ORIGIN], &form).await;
    let cookie = answer.header("set-cookie")?;
    assert!(cookie.contains("; HttpOnly; SameSite=Strict"), "{cookie}");
    assert!(!cookie.contains(token));
    Some(cookie.split(';').next().unwrap().to_owned())
}

#[tokio::test]
async fn nothing_is_shown_before_sign_in() {
    let coordinator = Coordinator::new();
    coordinator.vault("Payments").await;
    for cookie in ["", "lockstep_session=", "lockstep_session=0123"] {
        let answer = ask(&coordinator, "GET", "/", &[("cookie", cookie)], "").await;
        assert_eq!(answer.status, 303);
        assert_eq!(answer.header("location"), Some("/sign-in"));
        assert!(!answer.text().contains("Payments"));
    }
    assert_eq!(sign_in(&coordinator, "wrong").await, None);
    let form = format!("token={ADMIN}");
    let elsewhere = [("sec-fetch-site", "cross-site")];
    let answer = ask(&coordinator, "POST", "/sign-in", &elsewhere, &form).await;
    assert_eq!(answer.status, 403);
    assert_eq!(answer.header("set-cookie"), None);

    let cookie = sign_in(&coordinator, ADMIN).await.unwrap();
    let session = [("cookie", cookie.as_str()), SAME_ORIGIN];
    let page = ask(&coordinator, "GET", "/", &session, "").await;
    assert_eq!(page.status, 200);
    assert!(page.text().contains("Payments"));
    // The session is for pages: the API knows tokens only.
    let api = ask(&coordinator, "GET", "/api/v4/vaults", &session, "").await;
    assert_eq!(api.status, 401);
    let out = ask(&coordinator, "POST", "/sign-out", &session, "").await;
    assert!(out.header("set-cookie").unwrap().contains("Max-Age=0"));
    assert_eq!(
        ask(&coordinator, "GET", "/", &session, "").await.status,
        303
    );
}

#[tokio::test]
async fn pages_let_nothing_in() {
    let coordinator = Coordinator::new();
    for path in ["/", "/sign-in", "/assets/console.css", "/assets/icon.svg"] {
        let answer = ask(&coordinator, "GET", path, &[], "").await;
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'self';"));
        assert!(!policy.contains("unsafe"), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        let text = answer.text();
        assert!(
            !text.contains("<script") && !text.contains("style="),
            "{path}"
        );
    }
}

/// One active key on an internal and an external keystore, and somebody who is signed in.
struct Scene {
    coordinator: Coordinator,
    tokyo: KeystoreId,
    key: ManagedKey,
    etag: String,
    cookie: String,
}

impl Scene {
    async fn new() -> Self {
        let coordinator = Coordinator::new();
        let vault = coordinator.vault("Payments").await;
        coordinator
            .keystore(&vault, "home", Variant::Internal)
            .await;
        let tokyo = coordinator
            .keystore(&vault, "tokyo", Variant::External)
            .await;
        let key = json!({"state": "active"});
        let template = coordinator.template(&vault, "T", key).await;
        let (key, etag) = coordinator.key(&vault, &template, "CARD-1").await;
        let cookie = sign_in(&coordinator, ADMIN).await.unwrap();
        Self {
            coordinator,
            tokyo,
            key,
            etag,
            cookie,
        }
    }

    async fn page(&self) -> String {
        let session = [("cookie", self.cookie.as_str())];
        let answer = ask(&self.coordinator, "GET", "/?live", &session, "").await;
        answer.text()
    }
}

#[tokio::test]
async fn the_matrix_tells_what_is_wrong_in_words() {
    let scene = Scene::new().await;

    let calm = scene.page().await;
    assert_eq!(calm.matches("<td class=\"active\"").count(), 2, "{calm}");
    assert!(calm.contains("CARD-1") && !calm.contains("class=\"troubles"));

    let version = scene.key.instances[0].id.parse().unwrap();
    let label = "<script>alert(1)</script>\u{202e}";
    scene
        .coordinator
        .fleet
        .tamper(scene.tokyo, version, Reason::LabelChanged, |seen| {
            let Observation::Present(found) = seen else {
                panic!("{seen:?}");
            };
            label.clone_into(&mut found.objects[0].label);
        });
    let drifted = scene.page().await;
    assert_eq!(drifted.matches("<td class=\"wrong\"").count(), 1);
    assert!(drifted.contains("Label changed"), "{drifted}");
    assert!(drifted.contains("changed on the token by somebody else"));
    assert!(!drifted.contains("<script") && !drifted.contains('\u{202e}'));

    scene.coordinator.fleet.set_up(scene.tokyo, false);
    let dark = scene.page().await;
    assert_eq!(dark.matches("<td class=\"unknown\"").count(), 1);
    assert!(dark.contains("not reachable") && dark.contains("connection refused"));
}

#[tokio::test]
async fn what_a_token_lost_stands_on_top_with_what_helps() {
    let scene = Scene::new().await;
    scene
        .coordinator
        .fleet
        .lose(scene.tokyo, |can| can.cbc_pad = false);
    let mild = scene.page().await;
    assert!(
        mild.contains("the token can do less than it could"),
        "{mild}"
    );
    assert!(mild.contains("AES-CBC-PAD key wrapping") && mild.contains("keystore probe --accept"));
    assert_eq!(
        mild.matches("<td class=\"active\"").count(),
        2,
        "the key is as wanted"
    );
    scene
        .coordinator
        .fleet
        .lose(scene.tokyo, |can| can.unextractable = Some(false));
    let bad = scene.page().await;
    assert_eq!(bad.matches("<td class=\"wrong\"").count(), 1);
    assert!(bad.contains("Token lost it"), "{bad}");
}

#[tokio::test]
async fn an_older_version_that_is_out_of_step_is_shown() {
    let scene = Scene::new().await;
    let first = scene.key.instances[0].id.parse().unwrap();
    let rotate = format!("/api/v4/managed_keys/{}/rotate", scene.key.id);
    scene.coordinator.act(&rotate, &scene.etag).await;
    let calm = scene.page().await;
    assert_eq!(calm.matches("<th scope=\"row\"").count(), 1, "{calm}");
    let missing = Observation::Absent { same_label: vec![] };
    scene
        .coordinator
        .fleet
        .tamper(scene.tokyo, first, Reason::Missing, |seen| *seen = missing);
    let told = scene.page().await;
    assert_eq!(told.matches("<th scope=\"row\"").count(), 2, "{told}");
    // Once in the matrix, once among what is not as wanted.
    assert_eq!(told.matches("CARD-1, version 1").count(), 2, "{told}");
    assert_eq!(told.matches("<td class=\"wrong\"").count(), 1, "{told}");
    assert!(told.contains("1 of 2 confirmed"), "{told}");
}
