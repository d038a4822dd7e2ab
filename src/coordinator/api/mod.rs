//! REST: API v4 and our extensions, thin over `ops`.
//!
//! Owns: paths, headers, status codes, the error body, and the turning of views into bodies of `rest`; the listener.
//! Never: decides, reads the store, or knows what a keystore is; whoever wants to know what is allowed asks `ops`.
//!
//! The way of a request: `frame` (trace, time limit, token) → `incoming` (query, headers, body) → a handler, in a file per
//! noun → `answer` or `refusal`.

pub mod serve;

pub(crate) mod answer;
pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod body;
pub(crate) mod bulk;
pub(crate) mod bulk_body;
pub(crate) mod calendar;
pub(crate) mod capability_body;
pub(crate) mod differences;
pub(crate) mod doctor;
pub(crate) mod etag;
pub(crate) mod found;
pub(crate) mod found_body;
pub(crate) mod frame;
pub(crate) mod incoming;
pub(crate) mod kek_rotation;
pub(crate) mod key_actions;
pub(crate) mod key_body;
mod keystore_body;
pub(crate) mod keystores;
pub(crate) mod managed_keys;
pub(crate) mod metrics;
pub(crate) mod plan;
pub(crate) mod query;
pub(crate) mod recovery;
pub(crate) mod refusal;
pub(crate) mod status_body;
pub(crate) mod template_body;
pub(crate) mod templates;
pub(crate) mod vaults;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{any, get, post, put};

use crate::coordinator::api::refusal::Refusal;
use crate::coordinator::ops::Ops;
use crate::coordinator::ops::auth::Auth;

/// What handlers need.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) ops: Arc<Ops>,
    pub(crate) auth: Auth,
}

/// All of the API. Everything but `/healthz` and `/readyz` needs a token.
pub fn router(ops: Arc<Ops>, auth: Auth) -> Router {
    let api = Api { ops, auth };
    let guarded = Router::new()
        .merge(vaults::routes())
        .merge(templates::routes())
        .merge(keystores::routes())
        .merge(found::routes())
        .merge(bulk::routes())
        .merge(key_routes())
        .merge(extension_routes())
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(from_fn_with_state(api.clone(), frame::authenticate));
    let open = Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(ready));
    guarded
        .merge(open)
        .layer(from_fn(frame::around))
        .with_state(api)
}

fn key_routes() -> Router<Api> {
    const KEY: &str = "/api/v4/managed_keys/{id}";
    let at = |action: &str| format!("{KEY}/{action}");
    Router::new()
        .route(
            "/api/v4/managed_keys",
            get(managed_keys::list).post(managed_keys::create),
        )
        .route(
            KEY,
            get(managed_keys::one)
                .patch(managed_keys::update)
                .delete(managed_keys::remove),
        )
        .route(&at("versions"), get(managed_keys::versions))
        .route(
            &at("status_in_keystores"),
            get(managed_keys::status_in_keystores),
        )
        .route(
            &at("associated_resources"),
            get(managed_keys::associated_resources),
        )
        .route(&at("activate"), post(key_actions::activate))
        .route(&at("deactivate"), post(key_actions::deactivate))
        .route(&at("destroy"), post(key_actions::destroy))
        .route(&at("sync_status_in_keystores"), post(key_actions::sync))
        .route(
            &at("update_from_template"),
            post(key_actions::update_from_template),
        )
        .route(&at("rotate"), post(key_actions::rotate))
}

fn extension_routes() -> Router<Api> {
    const KEY: &str = "/api/lockstep/v1/managed_keys/{id}";
    let at = |action: &str| format!("{KEY}/{action}");
    Router::new()
        .route(&at("targets"), put(key_actions::targets))
        .route(&at("compromise"), post(key_actions::compromise))
        .route(
            &at("cancel_destruction"),
            post(key_actions::cancel_destruction),
        )
        .route(&at("verify"), post(key_actions::verify))
        .route(&at("prove"), post(key_actions::prove))
        .route("/api/lockstep/v1/plan", post(plan::plan))
        .route("/api/lockstep/v1/differences", get(differences::list))
        .route(
            "/api/lockstep/v1/keystores/{id}/probe",
            post(keystores::probe),
        )
        .route(
            "/api/lockstep/v1/keystores/{id}/kek_rotation",
            get(kek_rotation::one).post(kek_rotation::rotate),
        )
        .route("/api/lockstep/v1/calendar", get(calendar::list))
        .route("/metrics", get(metrics::metrics))
        .route("/api/lockstep/v1/audit", get(audit::list))
        .route("/api/lockstep/v1/backup", post(backup::make))
        .route(
            "/api/lockstep/v1/recovery",
            get(recovery::look).post(recovery::go_on),
        )
        .route("/api/lockstep/v1/doctor", get(doctor::all))
        .route("/api/openapi.json", any(later))
        .route("/api/lockstep/v1/{noun}", any(later_noun))
}

/// What the extensions will have.
const LATER: [&str; 5] = ["approvals", "events", "roles", "tokens", "webhooks"];

async fn later(uri: Uri) -> Refusal {
    Refusal::not_built_yet(uri.path())
}

async fn later_noun(Path(noun): Path<String>, uri: Uri) -> Refusal {
    if LATER.contains(&noun.as_str()) {
        Refusal::not_built_yet(uri.path())
    } else {
        unknown_path(uri).await
    }
}

async fn alive() -> &'static str {
    "ok\n"
}

async fn ready(State(api): State<Api>) -> Result<&'static str, Refusal> {
    api.ops.ready().await?;
    Ok("ready\n")
}

async fn unknown_path(uri: Uri) -> Refusal {
    Refusal::not_found("path", uri.path())
}

async fn unknown_method(method: Method, uri: Uri) -> Refusal {
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("{} does not take {method}", uri.path()),
    )
}
