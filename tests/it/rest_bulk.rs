//! Bulk changes over REST: planned, made once, stopped at the canary, resumed.

use lockstep::coordinator::ops::bulk_run;
use lockstep::model::keystore::Variant;
use lockstep::rest::bulk::{Bulk, BulkKeyList, BulkList, BulkPlan};
use lockstep::rest::vault::Vault;
use serde_json::{Value, json};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::rest::{Answer, Coordinator};

const BULK: &str = "/api/lockstep/v1/bulk_changes";

struct Scene {
    coordinator: Coordinator,
    vault: Vault,
    _ended: DropGuard,
}

impl Scene {
    async fn new(keys: usize) -> Self {
        let coordinator = Coordinator::new();
        let ended = CancellationToken::new();
        let ops = std::sync::Arc::clone(&coordinator.ops);
        tokio::spawn(bulk_run::run(ops, ended.clone()));
        let vault = coordinator.vault("v").await;
        for (name, variant) in [("home", Variant::Internal), ("lima", Variant::External)] {
            coordinator.keystore(&vault, name, variant).await;
        }
        let template = coordinator.template(&vault, "T", json!({})).await;
        for number in 0..keys {
            let label = format!("k{number}");
            coordinator.key(&vault, &template, &label).await;
        }
        Self {
            coordinator,
            vault,
            _ended: ended.drop_guard(),
        }
    }

    async fn make(&self, body: Value) -> Answer {
        self.coordinator.post(BULK, body).await
    }

    /// Waits for a state.
    async fn until(&self, id: &str, state: &str) -> (Bulk, String) {
        let mut news = self.coordinator.ops.fleet().changes();
        loop {
            let answer = self.coordinator.get(&format!("{BULK}/{id}")).await;
            let now: Bulk = answer.read();
            if now.state == state {
                return (now, answer.etag());
            }
            let soon = std::time::Duration::from_millis(50);
            let _either = tokio::time::timeout(soon, news.changed()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_made_once_and_only_as_it_was_seen() {
    let scene = Scene::new(3).await;
    let vault = &scene.vault.id;
    let mut body = json!({"action": "activate", "filter": {"vault.id": vault}});
    let dry = format!("{BULK}?dry_run=true");
    let plan: BulkPlan = scene.coordinator.post(&dry, body.clone()).await.read();
    assert_eq!((plan.change, plan.nothing_to_do, plan.refused), (3, 0, 0));
    assert_eq!(plan.wave_keys, [1, 1, 1]);
    let none: BulkList = scene.coordinator.get(BULK).await.read();
    assert_eq!(none.page.total_count, 0, "nothing is made");
    body["plan_digest"] = json!(plan.digest);
    let key = [("idempotency-key", "once")];
    let ask = || {
        scene
            .coordinator
            .ask("POST", BULK, &key, Some(body.clone()))
    };
    let (first, second) = (ask().await, ask().await);
    assert_eq!(first.status, 201);
    assert_eq!(first.header("operation-id"), Some("once"));
    assert_eq!(second.header("idempotent-replayed"), Some("true"));
    let (first, second): (Bulk, Bulk) = (first.read(), second.read());
    assert_eq!(first.id, second.id);
    let (done, _etag) = scene.until(&first.id, "done").await;
    assert_eq!((done.total.keys, done.total.done), (3, 3));
    let stale = scene.make(body).await.refusal(409);
    assert_eq!(stale.0, "plan_changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_canary_pauses_it_until_somebody_resumes() {
    let scene = Scene::new(4).await;
    let keystores = scene
        .coordinator
        .get("/api/v4/keystores?name=lima")
        .await
        .value();
    let lima = keystores["keystores"][0]["id"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    scene.coordinator.fleet.set_refusing(lima, true);
    let body = json!({"action": "activate", "filter": {}, "waves": ["1", "rest"]});
    let made: Bulk = scene.make(body).await.read();
    let (paused, etag) = scene.until(&made.id, "paused").await;
    let why = paused.paused.unwrap();
    assert_eq!(why.reason.name(), "refused");
    assert!(why.message.starts_with("k0: lima:"), "{}", why.message);
    assert_eq!((paused.total.refused, paused.total.pending), (1, 3));
    let at = format!("{BULK}/{}", made.id);
    let refused = format!("{at}/managed_keys?outcome=refused");
    let refused = scene.coordinator.get(&refused);
    let refused: BulkKeyList = refused.await.read();
    let reason = refused.managed_keys[0].reason.as_ref().unwrap();
    assert_eq!(reason.code, "label_taken");

    let resume = format!("{at}/resume");
    let bare = scene.coordinator.post(&resume, json!({})).await;
    assert_eq!(bare.refusal(428).0, "precondition_required");
    let stale = scene.coordinator.act(&resume, "\"99\"").await;
    assert_eq!(stale.refusal(412).0, "etag_mismatch");
    assert_eq!(stale.etag(), etag);
    scene.coordinator.fleet.set_refusing(lima, false);
    let resumed: Bulk = scene.coordinator.act(&resume, &etag).await.read();
    assert_eq!(resumed.state, "running");
    let (done, etag) = scene.until(&made.id, "done").await;
    assert_eq!(done.total.done, 4);
    let over = scene.coordinator.act(&format!("{at}/pause"), &etag).await;
    assert_eq!(over.refusal(409).0, "not_running");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_understood_is_named() {
    let scene = Scene::new(1).await;
    let check = async |body: Value, code: &str, field: &str| {
        let told = scene.make(body.clone()).await.refusal(400);
        assert_eq!(told, (code.to_owned(), Some(field.to_owned())), "{body}");
    };
    let with = |more: Value| {
        let mut body = json!({"action": "sync", "filter": {}});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    check(json!({"filter": {}}), "missing_field", "action").await;
    check(json!({"action": "sync"}), "invalid_value", "filter").await;
    check(with(json!({"colour": 1})), "unknown_field", "colour").await;
    check(with(json!({"action": "paint"})), "invalid_value", "action").await;
    check(
        with(json!({"waves": ["1", "all"]})),
        "invalid_value",
        "waves[1]",
    )
    .await;
    check(with(json!({"waves": ["1"]})), "invalid_waves", "waves").await;
    check(
        with(json!({"filter": {"phase": "x"}})),
        "unknown_field",
        "filter.phase",
    )
    .await;
    check(
        with(json!({"filter": {"state": "on"}})),
        "invalid_value",
        "filter.state",
    )
    .await;
    check(
        with(json!({"filter": {"label": "nobody"}})),
        "no_keys",
        "filter",
    )
    .await;
    check(with(json!({"managed_keys": []})), "invalid_value", "filter").await;
    let missing = format!("{BULK}/{}", scene.vault.id);
    assert_eq!(
        scene.coordinator.get(&missing).await.refusal(404).0,
        "not_found"
    );
}
