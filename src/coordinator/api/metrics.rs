//! The counts for Prometheus, in the OpenMetrics text format. docs/metrics.md names each.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::coordinator::api::Api;
use crate::coordinator::api::incoming::Incoming;
use crate::coordinator::api::refusal::Refusal;
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::metrics::{Measured, MeasuredKeystore, Queues};

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;

/// GET /metrics
pub(crate) async fn metrics(
    State(api): State<Api>,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    incoming.done(&[])?;
    let measured = api.ops.measured(&incoming.call).await?;
    let queues = api.ops.queues(&measured);
    let text = text(&measured, &queues).map_err(|error| OpsError::Unavailable {
        detail: format!("the metrics cannot be written: {error}"),
    })?;
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response())
}

fn text(measured: &Measured, queues: &Queues) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("lockstep");
    let mut gauge = |name: &str, help: &str| {
        let family = Family::<Labels, Gauge>::default();
        registry.register(name, help, family.clone());
        family
    };
    let build = gauge("build_info", "1, with the coordinator's version");
    let version = vec![("version", env!("CARGO_PKG_VERSION").to_owned())];
    set(&build, version, 1);
    let keys = gauge("keys", "Managed keys by wanted state");
    for (state, count) in &measured.keys {
        set(&keys, vec![("state", (*state).to_owned())], *count);
    }
    let phases = gauge("key_phases", "Keys by phase: the worst of their keystores");
    for (phase, count) in &measured.phases {
        set(&phases, vec![("phase", (*phase).to_owned())], *count);
    }
    let bulk = gauge("bulk_changes", "Bulk changes that are running or paused");
    for (state, count) in &measured.bulk_changes {
        set(&bulk, vec![("state", (*state).to_owned())], *count);
    }
    let bulk = gauge("bulk_keys", "Keys of open bulk changes, by outcome");
    for (outcome, count) in &measured.bulk_keys {
        set(&bulk, vec![("outcome", (*outcome).to_owned())], *count);
    }
    let health = gauge("keystore_health", "1 for the health that a keystore has");
    let session = gauge("keystore_session", "1 while a keystore has a live session");
    let scan = gauge(
        "keystore_scan_age_seconds",
        "Age of the last complete scan of a token",
    );
    let unmanaged = gauge("unmanaged_keys", "Keys on a token that nobody manages");
    let instances = gauge("instances", "Key instances by status");
    let differences = gauge("differences", "Key instances with a difference, by reason");
    for keystore in &measured.keystores {
        let at = labels(keystore);
        set(&health, with(&at, "health", keystore.health), 1);
        set(&session, at.clone(), u64::from(keystore.has_session));
        if let Some(age_ms) = keystore.scan_age_ms {
            set(&scan, at.clone(), age_ms / 1000);
        }
        set(&unmanaged, at.clone(), keystore.unmanaged);
        for (status, count) in &keystore.instances {
            set(&instances, with(&at, "status", status), *count);
        }
        for (reason, count) in &keystore.differences {
            set(&differences, with(&at, "reason", reason), *count);
        }
    }
    let overdue: Gauge = Gauge::default();
    overdue.set(i64::try_from(measured.dates_overdue).unwrap_or(i64::MAX));
    let help = "Dates that have come and have not acted";
    registry.register("dates_overdue", help, overdue);
    waiting(&mut registry, measured, queues);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn waiting(registry: &mut Registry, measured: &Measured, queues: &Queues) {
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let mut gauge = |name: &str, help: &str| {
        let family = Family::<Labels, Gauge>::default();
        registry.register(name, help, family.clone());
        family
    };
    if let Some((writes, reads)) = queues.store {
        let help = "Changes that the store has not written yet";
        set(
            &gauge("store_writes_waiting", help),
            Vec::new(),
            number(writes),
        );
        let help = "Queries that the store has not begun yet";
        set(
            &gauge("store_reads_waiting", help),
            Vec::new(),
            number(reads),
        );
    }
    let help = "What a keystore's session was told and has not taken yet";
    let notes = gauge("keystore_notes_waiting", help);
    let help = "Frames that a keystore's agent has not read yet";
    let frames = gauge("keystore_frames_waiting", help);
    for (keystore, waiting) in measured.keystores.iter().zip(&queues.keystores) {
        set(&notes, labels(keystore), number(waiting.notes));
        set(&frames, labels(keystore), number(waiting.frames));
    }
}

fn labels(keystore: &MeasuredKeystore) -> Labels {
    vec![
        ("vault", keystore.vault.clone()),
        ("keystore", keystore.name.clone()),
    ]
}

fn with(labels: &Labels, name: &'static str, value: &str) -> Labels {
    let mut labels = labels.clone();
    labels.push((name, value.to_owned()));
    labels
}

fn set(family: &Family<Labels, Gauge>, labels: Labels, value: u64) {
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    let _before = family.get_or_create(&labels).set(value);
}
