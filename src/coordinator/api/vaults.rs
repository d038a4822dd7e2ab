//! Vaults.

use axum::Json;
use axum::Router;
use axum::extract::{OriginalUri, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::coordinator::api::incoming::Incoming;
use crate::coordinator::api::refusal::Refusal;
use crate::coordinator::api::{Api, answer};
use crate::coordinator::ops::access::Call;
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::vaults::{VaultNew, VaultPatch, VaultView};
use crate::model::ids::{Revision, VaultId};
use crate::rest::list::NamedRef;
use crate::rest::vault as rest;

/// Paths of vaults.
pub(crate) fn routes() -> Router<Api> {
    Router::new()
        .route("/api/v4/vaults", get(list).post(create))
        .route("/api/v4/vaults/{id}", get(one).patch(update).delete(remove))
}

async fn list(
    State(api): State<Api>,
    OriginalUri(uri): OriginalUri,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    let page = incoming.parameters.take_page()?;
    let name = incoming.parameters.take("name");
    incoming.parameters.take_sort(&["name"])?;
    incoming.done(&["description"])?;
    let found = api.ops.vault_list(&incoming.call, name, page).await?;
    let page = answer::page_info(&uri, page, &found);
    let vaults = found.items.iter().map(body).collect();
    Ok(Json(rest::VaultList { page, vaults }).into_response())
}

async fn create(State(api): State<Api>, mut incoming: Incoming) -> Result<Response, Refusal> {
    incoming.done(&[])?;
    let asked: rest::VaultCreate = incoming.body()?;
    let new = VaultNew {
        name: asked.name,
        description: asked.description.unwrap_or_default(),
        recovery_key_label: asked.recovery_key_label,
        strategy: asked.pkcs11_strategy,
        min_copies: asked.min_copies,
        destruction_hold: asked.destruction_hold,
        drift_policy: asked.drift_policy,
    };
    let done = api.ops.vault_create(&incoming.call, new).await?;
    let revision = done.value.vault.revision;
    let done = answer::map(done, |view| body(&view));
    Ok(answer::changed(StatusCode::CREATED, &done, revision))
}

async fn one(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    incoming.done(&[])?;
    let view = api.ops.vault(&incoming.call, parse(&id)?).await?;
    Ok(answer::object(view.vault.revision, body(&view)))
}

async fn update(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    let id = parse(&id)?;
    let result = async {
        incoming.done(&[])?;
        incoming.check_vault(id)?;
        let asked: rest::VaultPatch = incoming.body()?;
        let patch = VaultPatch {
            name: asked.name,
            description: asked.description,
            recovery_key_label: asked.recovery_key_label,
            strategy: asked.pkcs11_strategy,
            min_copies: asked.min_copies,
            destruction_hold: asked.destruction_hold,
            drift_policy: asked.drift_policy,
        };
        let done = api.ops.vault_update(&incoming.call, id, patch).await?;
        let revision = done.value.vault.revision;
        let done = answer::map(done, |view| body(&view));
        Ok(answer::changed(StatusCode::OK, &done, revision))
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
        incoming.done(&[])?;
        incoming.check_vault(id)?;
        incoming.no_body()?;
        let done = api.ops.vault_delete(&incoming.call, id).await?;
        Ok(answer::removed(&done))
    };
    let result = result.await;
    answer::with_etag(result, current(&api, &incoming.call, id)).await
}

async fn current(api: &Api, call: &Call, id: VaultId) -> Result<Revision, OpsError> {
    Ok(api.ops.vault(call, id).await?.vault.revision)
}

fn parse(id: &str) -> Result<VaultId, Refusal> {
    id.parse()
        .map_err(|_not_a_uuid| Refusal::not_found("vault", id))
}

/// The vault that a body names.
pub(crate) fn named(id: &str) -> Result<VaultId, Refusal> {
    id.parse()
        .map_err(|_not_a_uuid| Refusal::field("vault.id", "invalid_value", "must be a UUID"))
}

/// How other records name a vault.
pub(crate) fn reference(id: VaultId, name: &str) -> NamedRef {
    NamedRef {
        id: id.to_string(),
        name: name.to_owned(),
        href: href(id),
    }
}

fn href(id: VaultId) -> String {
    format!("/api/v4/vaults/{id}")
}

fn body(view: &VaultView) -> rest::Vault {
    let vault = &view.vault;
    rest::Vault {
        id: vault.id.to_string(),
        name: vault.name.clone(),
        description: vault.description.clone(),
        recovery_key_label: vault.recovery_key_label.clone(),
        pkcs11_strategy: vault.strategy,
        min_copies: vault.min_copies,
        destruction_hold: vault.destruction_hold.clone(),
        drift_policy: vault.drift_policy,
        keys_count: view.keys_count,
        key_templates_count: view.templates_count,
        keystores_count: view.keystores_count,
        stamps: answer::stamps(&vault.stamps, href(vault.id)),
    }
}
