//! Keys found on a token: listing, adopting, ignoring.

use axum::extract::{OriginalUri, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};

use crate::coordinator::api::incoming::Incoming;
use crate::coordinator::api::keystores::{check_vault, parse};
use crate::coordinator::api::refusal::Refusal;
use crate::coordinator::api::{Api, answer, found_body, keystore_body};
use crate::coordinator::ops::commit::Done;
use crate::coordinator::ops::found::{FoundQuery, Select};
use crate::model::adoption::{FoundKey, FoundState};
use crate::model::ids::KeystoreId;
use crate::model::key::Algorithm;
use crate::rest::found as rest;

/// Paths of keys found on tokens.
pub(crate) fn routes() -> Router<Api> {
    const FOUND: &str = "/api/lockstep/v1/keystores/{id}/unmanaged";
    let at = |action: &str| format!("{FOUND}/{action}");
    Router::new()
        .route(FOUND, get(list))
        .route(&at("adopt"), post(adopt))
        .route(&at("ignore"), post(ignore))
        .route(&at("unignore"), post(unignore))
}

async fn list(
    State(api): State<Api>,
    Path(id): Path<String>,
    OriginalUri(uri): OriginalUri,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    let id = parse(&id)?;
    let parameters = &mut incoming.parameters;
    let page = parameters.take_page()?;
    let must = "managed, unmanaged, ignored or all; several joined by commas";
    let states = parameters.take_as("state", must, states)?;
    let must = "aes, des, ec, hmac or rsa";
    let algorithm = parameters.take_as("algorithm", must, Algorithm::from_name)?;
    let must = "at most 1024 bytes";
    let label = parameters.take_as("label_in_keystore", must, |text| {
        (text.len() <= found_body::PATTERN_BYTES_MAX).then(|| text.to_owned())
    })?;
    let query = FoundQuery {
        states: states.unwrap_or_else(|| vec![FoundState::Unmanaged]),
        select: Select {
            cka_id: None,
            label,
            algorithm,
        },
        fingerprints: parameters.take_flag("fingerprints")?,
    };
    incoming.done(&[])?;
    check_vault(&api, &incoming, id).await?;
    let call = &incoming.call;
    let found = api.ops.keystore_found(call, id, &query, page).await?;
    let page = answer::page_info(&uri, page, &found);
    let found_keys = found.items.iter().map(found_body::found).collect();
    Ok(Json(rest::FoundKeyList { page, found_keys }).into_response())
}

fn states(text: &str) -> Option<Vec<FoundState>> {
    if text == "all" {
        return Some(FoundState::ALL.to_vec());
    }
    text.split(',').map(FoundState::from_name).collect()
}

async fn adopt(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    let id = parse(&id)?;
    let dry_run = incoming.parameters.take_flag("dry_run")?;
    let wait = incoming.take_wait()?;
    incoming.done(&[])?;
    let new = found_body::adopt(incoming.body()?)?;
    check_vault(&api, &incoming, id).await?;
    let call = &incoming.call;
    let done = api
        .ops
        .keystore_adopt(call, id, &new, dry_run, wait)
        .await?;
    let revision = api.ops.keystore(call, id).await?.record.revision;
    let done = answer::map(done, |view| found_body::adopted(&view, dry_run));
    Ok(answer::changed(StatusCode::OK, &done, revision))
}

async fn ignore(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    let id = parse(&id)?;
    incoming.done(&[])?;
    let asked: rest::Ignore = incoming.body()?;
    let select = which(&asked)?;
    let Some(reason) = &asked.reason else {
        let message = "say why, in 1 to 200 characters";
        return Err(Refusal::field("reason", "missing_field", message));
    };
    check_vault(&api, &incoming, id).await?;
    let call = &incoming.call;
    let done = api.ops.keystore_ignore(call, id, &select, reason).await?;
    shown(&api, &incoming, id, done).await
}

async fn unignore(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    let id = parse(&id)?;
    incoming.done(&[])?;
    let asked: rest::Ignore = incoming.body()?;
    let select = which(&asked)?;
    if asked.reason.is_some() {
        let message = "a reason goes with ignore";
        return Err(Refusal::field("reason", "unknown_field", message));
    }
    check_vault(&api, &incoming, id).await?;
    let call = &incoming.call;
    let done = api.ops.keystore_unignore(call, id, &select).await?;
    shown(&api, &incoming, id, done).await
}

fn which(asked: &rest::Ignore) -> Result<Select, Refusal> {
    found_body::select(
        asked.key_id_in_keystore.as_deref(),
        asked.label_in_keystore.as_deref(),
        asked.algorithm,
        asked.all,
    )
}

async fn shown(
    api: &Api,
    incoming: &Incoming,
    id: KeystoreId,
    done: Done<Vec<FoundKey>>,
) -> Result<Response, Refusal> {
    let record = api.ops.keystore(&incoming.call, id).await?.record;
    let done = answer::map(done, |keys| rest::IgnoreDone {
        keystore: keystore_body::reference(id, &record.name),
        keys: found_body::named(&keys),
    });
    Ok(answer::changed(StatusCode::OK, &done, record.revision))
}
