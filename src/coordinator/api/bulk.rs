//! Bulk changes, an extension.

use axum::extract::{OriginalUri, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};

use crate::coordinator::api::incoming::Incoming;
use crate::coordinator::api::refusal::Refusal;
use crate::coordinator::api::{Api, answer, bulk_body};
use crate::coordinator::ops::access::Call;
use crate::coordinator::ops::bulk::{BulkKeysQuery, BulkNew, BulkScope, BulkView};
use crate::coordinator::ops::commit::Done;
use crate::coordinator::ops::errors::OpsError;
use crate::model::bulk::{BulkFilter, BulkState, KEYS_MAX, Outcome};
use crate::model::ids::{BulkId, Revision};
use crate::model::lifecycle::ManagedState;
use crate::rest::bulk as rest;

/// Paths of bulk changes.
pub(crate) fn routes() -> Router<Api> {
    const BULK: &str = "/api/lockstep/v1/bulk_changes";
    let at = |action: &str| format!("{BULK}/{{id}}{action}");
    Router::new()
        .route(BULK, get(list).post(create))
        .route(&at(""), get(one))
        .route(&at("/managed_keys"), get(keys))
        .route(&at("/pause"), post(pause))
        .route(&at("/resume"), post(resume))
        .route(&at("/cancel"), post(cancel))
}

async fn create(State(api): State<Api>, mut incoming: Incoming) -> Result<Response, Refusal> {
    let dry_run = incoming.parameters.take_flag("dry_run")?;
    incoming.done(&[])?;
    let asked: rest::BulkCreate = incoming.body()?;
    let new = new(&asked)?;
    if dry_run {
        let plan = api.ops.bulk_plan(&incoming.call, &new).await?;
        return Ok(Json(bulk_body::plan(&plan)).into_response());
    }
    let done = api.ops.bulk_create(&incoming.call, new).await?;
    Ok(shown(StatusCode::CREATED, done))
}

fn new(asked: &rest::BulkCreate) -> Result<BulkNew, Refusal> {
    let scope = match (&asked.filter, &asked.managed_keys) {
        (Some(filter), None) => BulkScope::Filter(filter_of(filter)?),
        (None, Some(keys)) if keys.len() <= KEYS_MAX => {
            let ids = keys.iter().enumerate().map(|(place, named)| {
                named
                    .id
                    .parse()
                    .map_err(|_not_a_uuid| not_an_id(&format!("managed_keys[{place}].id")))
            });
            BulkScope::Keys(ids.collect::<Result<_, _>>()?)
        }
        (None, Some(_)) => {
            let message = format!("at most {KEYS_MAX} keys");
            return Err(Refusal::field("managed_keys", "too_many", message));
        }
        (Some(_), Some(_)) | (None, None) => {
            let message = "either a filter (an empty one means all keys) or managed_keys";
            return Err(Refusal::field("filter", "invalid_value", message));
        }
    };
    let plan = asked.plan_digest.as_deref();
    let plan = plan.map(|text| {
        text.parse().map_err(|_not_a_digest| {
            Refusal::field("plan_digest", "invalid_value", "must be a plan's digest")
        })
    });
    Ok(BulkNew {
        action: asked.action,
        scope,
        sizes: asked.waves.clone(),
        stop_on: asked.stop_on,
        confirm_within_s: asked.confirm_within_s,
        late: asked.late,
        plan: plan.transpose()?,
    })
}

fn filter_of(asked: &rest::BulkFilter) -> Result<BulkFilter, Refusal> {
    let states = asked.state.as_deref().map(|text| {
        let states: Option<Vec<_>> = text.split(',').map(ManagedState::from_name).collect();
        let message = "must be states of keys, joined by commas";
        states.ok_or_else(|| Refusal::field("filter.state", "invalid_value", message))
    });
    Ok(BulkFilter {
        vault: id("filter.vault.id", asked.vault.as_deref())?,
        states: states.transpose()?.unwrap_or_default(),
        label: asked.label.clone(),
        template: id("filter.template.id", asked.template.as_deref())?,
        keystore: id("filter.keystore.id", asked.keystore.as_deref())?,
    })
}

fn id<T: std::str::FromStr>(field: &str, text: Option<&str>) -> Result<Option<T>, Refusal> {
    let read = |text: &str| text.parse().map_err(|_not_a_uuid| not_an_id(field));
    text.map(read).transpose()
}

fn not_an_id(field: &str) -> Refusal {
    Refusal::field(field, "invalid_value", "must be a UUID")
}

async fn list(
    State(api): State<Api>,
    OriginalUri(uri): OriginalUri,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    let page = incoming.parameters.take_page()?;
    let must = "running, paused, cancelled or done; several joined by commas";
    let states = incoming.parameters.take_as("state", must, |text| {
        let known = |name: &str| BulkState::NAMES.into_iter().find(|one| *one == name);
        text.split(',').map(known).collect::<Option<Vec<_>>>()
    })?;
    incoming.done(&[])?;
    let states = states.unwrap_or_default();
    let found = api.ops.bulk_list(&incoming.call, states, page).await?;
    let body = rest::BulkList {
        page: answer::page_info(&uri, page, &found),
        bulk_changes: found.items.iter().map(bulk_body::body).collect(),
    };
    Ok(Json(body).into_response())
}

async fn one(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    incoming.done(&[])?;
    let view = api.ops.bulk(&incoming.call, parse(&id)?).await?;
    Ok(answer::object(view.bulk.revision, bulk_body::body(&view)))
}

async fn keys(
    State(api): State<Api>,
    Path(id): Path<String>,
    OriginalUri(uri): OriginalUri,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    let parameters = &mut incoming.parameters;
    let page = parameters.take_page()?;
    let must = "pending, changing, done, refused or skipped; several joined by commas";
    let outcomes = parameters.take_as("outcome", must, |text| {
        text.split(',').map(Outcome::from_name).collect()
    })?;
    let query = BulkKeysQuery {
        wave: parameters.take_as("wave", "a number, 0 or more", |text| text.parse().ok())?,
        outcomes: outcomes.unwrap_or_default(),
    };
    incoming.done(&[])?;
    let found = api
        .ops
        .bulk_keys(&incoming.call, parse(&id)?, query, page)
        .await?;
    let body = rest::BulkKeyList {
        page: answer::page_info(&uri, page, &found),
        managed_keys: found.items.iter().map(bulk_body::key).collect(),
    };
    Ok(Json(body).into_response())
}

async fn pause(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    let id = parse(&id)?;
    incoming.done(&[])?;
    incoming.no_body()?;
    let done = api.ops.bulk_pause(&incoming.call, id).await;
    changed(&api, &incoming.call, id, done).await
}

async fn cancel(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    let id = parse(&id)?;
    incoming.done(&[])?;
    incoming.no_body()?;
    let done = api.ops.bulk_cancel(&incoming.call, id).await;
    changed(&api, &incoming.call, id, done).await
}

async fn resume(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    let id = parse(&id)?;
    incoming.done(&[])?;
    let asked: rest::BulkResume = if incoming.has_body() {
        incoming.body()?
    } else {
        rest::BulkResume::default()
    };
    let done = api.ops.bulk_resume(&incoming.call, id, asked.leave_behind);
    let done = done.await;
    changed(&api, &incoming.call, id, done).await
}

async fn changed(
    api: &Api,
    call: &Call,
    id: BulkId,
    done: Result<Done<BulkView>, OpsError>,
) -> Result<Response, Refusal> {
    let result = done
        .map(|done| shown(StatusCode::OK, done))
        .map_err(Refusal::from);
    let current = async {
        let view = api.ops.bulk(call, id).await?;
        Ok::<Revision, OpsError>(view.bulk.revision)
    };
    answer::with_etag(result, current).await
}

fn shown(status: StatusCode, done: Done<BulkView>) -> Response {
    let revision = done.value.bulk.revision;
    let done = answer::map(done, |view| bulk_body::body(&view));
    answer::changed(status, &done, revision)
}

fn parse(id: &str) -> Result<BulkId, Refusal> {
    id.parse()
        .map_err(|_not_a_uuid| Refusal::not_found("bulk change", id))
}
