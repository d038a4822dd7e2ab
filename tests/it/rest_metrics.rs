//! The counts for Prometheus: what is true of five keystores, of which one refuses and one is away; docs/metrics.md names them all.

use std::collections::BTreeSet;

use lockstep::model::ids::KeystoreId;
use lockstep::model::keystore::Variant;
use serde_json::json;

use crate::support::rest::Coordinator;

async fn scene() -> (Coordinator, Vec<KeystoreId>) {
    let coordinator = Coordinator::new();
    let vault = coordinator.vault("v").await;
    let mut ids = Vec::new();
    for (name, variant) in [
        ("home", Variant::Internal),
        ("berlin", Variant::External),
        ("lima", Variant::External),
        ("oslo", Variant::External),
        ("tokyo", Variant::External),
    ] {
        ids.push(coordinator.keystore(&vault, name, variant).await);
    }
    coordinator.fleet.set_refusing(ids[2], true);
    coordinator.fleet.set_up(ids[3], false);
    let template = coordinator
        .template(&vault, "T", json!({"state": "active"}))
        .await;
    coordinator.key(&vault, &template, "k1").await;
    (coordinator, ids)
}

#[tokio::test]
async fn partial_success_is_counted_as_it_is() {
    let (coordinator, _ids) = scene().await;
    let answer = coordinator.get("/metrics").await;
    let kind = answer.header("content-type").unwrap();
    assert!(
        kind.starts_with("application/openmetrics-text; version=1.0.0"),
        "{kind}"
    );
    let text = answer.text();
    let has = |line: &str| assert!(text.lines().any(|one| one == line), "{line}\n{text}");
    has("lockstep_keys{state=\"active\"} 1");
    has("lockstep_keys{state=\"destroyed\"} 0");
    has("lockstep_key_phases{phase=\"out_of_step\"} 1");
    has("lockstep_key_phases{phase=\"in_step\"} 0");
    for name in ["berlin", "home", "tokyo"] {
        has(&format!(
            "lockstep_instances{{vault=\"v\",keystore=\"{name}\",status=\"in_sync\"}} 1"
        ));
    }
    has("lockstep_instances{vault=\"v\",keystore=\"lima\",status=\"failed\"} 1");
    has("lockstep_instances{vault=\"v\",keystore=\"oslo\",status=\"unknown\"} 1");
    has("lockstep_differences{vault=\"v\",keystore=\"lima\",reason=\"label_taken\"} 1");
    has("lockstep_differences{vault=\"v\",keystore=\"oslo\",reason=\"unreachable\"} 1");
    has("lockstep_keystore_session{vault=\"v\",keystore=\"oslo\"} 0");
    has("lockstep_keystore_session{vault=\"v\",keystore=\"home\"} 1");
    has("lockstep_keystore_health{vault=\"v\",keystore=\"oslo\",health=\"not_responding\"} 1");
    has("lockstep_dates_overdue 0");
    assert!(
        !text.contains("scan_age_seconds{vault=\"v\",keystore=\"oslo\"}"),
        "{text}"
    );
    assert_eq!(text.lines().last(), Some("# EOF"));
}

/// Each name that is served is documented, and the other way round.
#[tokio::test]
async fn every_metric_is_documented() {
    let (coordinator, _ids) = scene().await;
    let text = coordinator.get("/metrics").await.text();
    let served: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    let page = std::fs::read_to_string("docs/metrics.md").unwrap();
    let documented: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|line| line.split(['`', '{']).next().unwrap().to_owned())
        .collect();
    assert_eq!(served, documented);
}
