//! Keystores, their status, and the keys on them.

use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::{OriginalUri, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::coordinator::api::incoming::Incoming;
use crate::coordinator::api::refusal::Refusal;
use crate::coordinator::api::templates::kinds;
use crate::coordinator::api::{Api, answer, keystore_body, managed_keys};
use crate::coordinator::ops::access::Call;
use crate::coordinator::ops::commit::Done;
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::keystore_removal::RemovalMode;
use crate::coordinator::ops::keystores::{HealthStatus, KeystoreQuery, KeystoreView};
use crate::coordinator::ops::lists::Paged;
use crate::model::ids::{KeystoreId, Revision};
use crate::rest::keystore as rest;

/// Filters of API v4 that are not there yet.
const LATER: [&str; 3] = ["description", "groups[]", "location"];

/// Paths of keystores.
pub(crate) fn routes() -> Router<Api> {
    Router::new()
        .route("/api/v4/keystores", get(list).post(create))
        .route(
            "/api/v4/keystores/{id}",
            get(one).patch(update).delete(remove),
        )
        .route("/api/v4/keystores/{id}/status", get(status))
        .route(
            "/api/v4/keystores/{id}/managed_keys",
            get(managed_keys::on_keystore),
        )
        .route(
            "/api/v4/keystores/{id}/associated_resources",
            get(associated_resources),
        )
}

async fn list(
    State(api): State<Api>,
    OriginalUri(uri): OriginalUri,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    let parameters = &mut incoming.parameters;
    let page = parameters.take_page()?;
    parameters.take_sort(&["name"])?;
    let health = "ok, not_responding, configuration_error or pending_check";
    let query = KeystoreQuery {
        vault: parameters.take_as("vault.id", "a vault's UUID", |id| id.parse().ok())?,
        group: parameters.take("group"),
        name: parameters.take("name"),
        health: parameters.take_as("status.health_status", health, health_named)?,
    };
    let kinds = parameters.take_as("type", "types of keystores", kinds)?;
    incoming.done(&LATER)?;
    let found = if kinds.is_none_or(|kinds| kinds.iter().any(|kind| kind == rest::PKCS11)) {
        api.ops.keystore_list(&incoming.call, query, page).await?
    } else {
        Paged {
            total: 0,
            items: Vec::new(),
        }
    };
    let page = answer::page_info(&uri, page, &found);
    let keystores = found
        .items
        .iter()
        .map(|view| keystore_body::body(view, api.ops.now()))
        .collect();
    Ok(Json(rest::KeystoreList { page, keystores }).into_response())
}

fn health_named(name: &str) -> Option<HealthStatus> {
    [
        HealthStatus::Ok,
        HealthStatus::NotResponding,
        HealthStatus::ConfigurationError,
        HealthStatus::PendingCheck,
    ]
    .into_iter()
    .find(|health| health.name() == name)
}

async fn create(State(api): State<Api>, mut incoming: Incoming) -> Result<Response, Refusal> {
    let dry_run = incoming.parameters.take_flag("dry_run")?;
    let wait = incoming.take_wait()?;
    incoming.done(&[])?;
    keystore_body::check_kind(&incoming.body()?)?;
    let new = keystore_body::new(incoming.body()?)?;
    incoming.check_vault(new.vault)?;
    let done = api
        .ops
        .keystore_create(&incoming.call, new, dry_run)
        .await?;
    if dry_run {
        return Ok(Json(keystore_body::body(&done.value, api.ops.now())).into_response());
    }
    let done = settle(&api, &incoming, done, wait).await;
    Ok(shown(&api, StatusCode::CREATED, done))
}

/// Waits until the new keystore can be used, so that what is asked next does not find it unknown. It is added whatever comes
/// of waiting, so a failure here is only logged.
async fn settle(
    api: &Api,
    incoming: &Incoming,
    done: Done<KeystoreView>,
    wait: Duration,
) -> Done<KeystoreView> {
    let id = done.value.record.id;
    match api.ops.keystore_wait(&incoming.call, id, wait).await {
        Ok(view) => answer::map(done, |_before| view),
        Err(error) => {
            tracing::warn!(%error, "could not wait for the keystore");
            done
        }
    }
}

async fn one(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    incoming.done(&[])?;
    let view = api.ops.keystore(&incoming.call, parse(&id)?).await?;
    incoming.check_vault(view.record.vault)?;
    Ok(answer::object(
        view.record.revision,
        keystore_body::body(&view, api.ops.now()),
    ))
}

async fn status(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    incoming.done(&[])?;
    let view = api.ops.keystore(&incoming.call, parse(&id)?).await?;
    incoming.check_vault(view.record.vault)?;
    Ok(answer::object(
        view.record.revision,
        keystore_body::status(&view, api.ops.now()),
    ))
}

async fn update(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    let id = parse(&id)?;
    let result = async {
        incoming.done(&[])?;
        let patch = keystore_body::patch(incoming.body()?);
        check_vault(&api, &incoming, id).await?;
        let done = api.ops.keystore_update(&incoming.call, id, patch).await?;
        Ok(shown(&api, StatusCode::OK, done))
    };
    let result = result.await;
    answer::with_etag(result, current(&api, &incoming.call, id)).await
}

async fn remove(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    let id = parse(&id)?;
    let result = async {
        let must = "restrict, disconnect, deactivate or destroy";
        let mode = incoming
            .parameters
            .take_as("mode", must, RemovalMode::from_name)?
            .unwrap_or(RemovalMode::Restrict);
        incoming.done(&[])?;
        incoming.no_body()?;
        check_vault(&api, &incoming, id).await?;
        let done = api.ops.keystore_delete(&incoming.call, id, mode).await?;
        Ok(answer::removed(&done))
    };
    let result = result.await;
    answer::with_etag(result, current(&api, &incoming.call, id)).await
}

/// POST …/probe: what the token can do is tried again; with `accept=true` it is what it should from now on.
pub(crate) async fn probe(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    let id = parse(&id)?;
    let accept = incoming.parameters.take_flag("accept")?;
    incoming.done(&[])?;
    incoming.no_body()?;
    check_vault(&api, &incoming, id).await?;
    let call = &incoming.call;
    if accept {
        let done = api.ops.keystore_accept(call, id).await?;
        let revision = done.value.record.revision;
        let done = answer::map(done, |view| keystore_body::body(&view, api.ops.now()));
        return Ok(answer::changed(StatusCode::OK, &done, revision));
    }
    let view = api.ops.keystore_probe(call, id).await?;
    let body = keystore_body::body(&view, api.ops.now());
    Ok(answer::object(view.record.revision, body))
}

async fn associated_resources() -> Refusal {
    Refusal::not_built_yet("the list of a keystore's associated resources")
}

/// Checks the vault in the header against the keystore's.
pub(crate) async fn check_vault(
    api: &Api,
    incoming: &Incoming,
    id: KeystoreId,
) -> Result<(), Refusal> {
    if incoming.names_vault() {
        let view = api.ops.keystore(&incoming.call, id).await?;
        incoming.check_vault(view.record.vault)?;
    }
    Ok(())
}

async fn current(api: &Api, call: &Call, id: KeystoreId) -> Result<Revision, OpsError> {
    Ok(api.ops.keystore(call, id).await?.record.revision)
}

fn shown(api: &Api, status: StatusCode, done: Done<KeystoreView>) -> Response {
    let revision = done.value.record.revision;
    let done = answer::map(done, |view| keystore_body::body(&view, api.ops.now()));
    answer::changed(status, &done, revision)
}

/// The keystore that a path names.
pub(crate) fn parse(id: &str) -> Result<KeystoreId, Refusal> {
    id.parse()
        .map_err(|_not_a_uuid| Refusal::not_found("keystore", id))
}
