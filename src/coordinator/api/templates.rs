//! Key templates.

use axum::Json;
use axum::Router;
use axum::extract::{OriginalUri, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use crate::coordinator::api::incoming::Incoming;
use crate::coordinator::api::refusal::Refusal;
use crate::coordinator::api::{Api, answer, template_body};
use crate::coordinator::ops::access::Call;
use crate::coordinator::ops::commit::Done;
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::lists::Paged;
use crate::coordinator::ops::templates::{TemplateQuery, TemplateView};
use crate::model::ids::{Revision, TemplateId};
use crate::rest::keystore::{OTHER_TYPES, PKCS11};
use crate::rest::template as rest;

/// Filters of API v4 that are not there yet.
const LATER: [&str; 15] = [
    "naming_scheme",
    "key.algorithm",
    "key.size",
    "key.size_min",
    "key.size_max",
    "keystores[].group",
    "created_at",
    "created_at_min",
    "created_at_max",
    "updated_at",
    "updated_at_min",
    "updated_at_max",
    "type[]",
    "state",
    "managing_systems",
];

/// Paths of templates.
pub(crate) fn routes() -> Router<Api> {
    Router::new()
        .route("/api/v4/templates", get(list).post(create))
        .route(
            "/api/v4/templates/{id}",
            get(one).patch(update).delete(remove),
        )
        .route("/api/v4/templates/{id}/archive", post(archive))
        .route("/api/v4/templates/{id}/unarchive", post(unarchive))
        .route("/api/v4/templates/{id}/expose", post(expose))
}

async fn list(
    State(api): State<Api>,
    OriginalUri(uri): OriginalUri,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    let parameters = &mut incoming.parameters;
    let page = parameters.take_page()?;
    parameters.take_sort(&["name"])?;
    let query = TemplateQuery {
        vault: parameters.take_as("vault.id", "a vault's UUID", |id| id.parse().ok())?,
        name: parameters.take("name"),
    };
    let kinds = parameters.take_as("keystores[].type", "types of keystores", kinds)?;
    incoming.done(&LATER)?;
    let found = if kinds.is_none_or(|kinds| kinds.iter().any(|kind| kind == PKCS11)) {
        api.ops.template_list(&incoming.call, query, page).await?
    } else {
        Paged {
            total: 0,
            items: Vec::new(),
        }
    };
    let page = answer::page_info(&uri, page, &found);
    let templates = found.items.iter().map(template_body::body).collect();
    Ok(Json(rest::TemplateList { page, templates }).into_response())
}

/// Known types of keystores, joined by commas.
pub(crate) fn kinds(text: &str) -> Option<Vec<String>> {
    text.split(',')
        .map(|kind| {
            let is_known = kind == PKCS11 || OTHER_TYPES.contains(&kind);
            is_known.then(|| kind.to_owned())
        })
        .collect()
}

async fn create(State(api): State<Api>, mut incoming: Incoming) -> Result<Response, Refusal> {
    incoming.done(&[])?;
    let new = template_body::new(incoming.body()?)?;
    incoming.check_vault(new.vault)?;
    let done = api.ops.template_create(&incoming.call, new).await?;
    Ok(shown(StatusCode::CREATED, done))
}

async fn one(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    incoming.done(&[])?;
    let view = api.ops.template(&incoming.call, parse(&id)?).await?;
    incoming.check_vault(view.template.vault)?;
    Ok(answer::object(
        view.template.revision,
        template_body::body(&view),
    ))
}

async fn update(
    State(api): State<Api>,
    Path(id): Path<String>,
    incoming: Incoming,
) -> Result<Response, Refusal> {
    let id = parse(&id)?;
    let result = async {
        let patch = template_body::patch(incoming.body()?)?;
        begin(&api, &incoming, id).await?;
        let done = api.ops.template_update(&incoming.call, id, patch).await?;
        Ok(shown(StatusCode::OK, done))
    };
    let result = result.await;
    answer::with_etag(result, current(&api, &incoming.call, id)).await
}

async fn archive(
    api: State<Api>,
    id: Path<String>,
    incoming: Incoming,
) -> Result<Response, Refusal> {
    set_archived(api, id, incoming, true).await
}

async fn unarchive(
    api: State<Api>,
    id: Path<String>,
    incoming: Incoming,
) -> Result<Response, Refusal> {
    set_archived(api, id, incoming, false).await
}

async fn set_archived(
    State(api): State<Api>,
    Path(id): Path<String>,
    incoming: Incoming,
    archived: bool,
) -> Result<Response, Refusal> {
    let id = parse(&id)?;
    let result = async {
        incoming.no_body()?;
        begin(&api, &incoming, id).await?;
        let done = api
            .ops
            .template_archive(&incoming.call, id, archived)
            .await?;
        Ok(shown(StatusCode::OK, done))
    };
    let result = result.await;
    answer::with_etag(result, current(&api, &incoming.call, id)).await
}

/// Templates behind keys with properties of their own do not exist yet, so there is none to expose.
async fn expose() -> Refusal {
    Refusal::not_built_yet("exposing the template behind a key")
}

async fn remove(
    State(api): State<Api>,
    Path(id): Path<String>,
    incoming: Incoming,
) -> Result<Response, Refusal> {
    let id = parse(&id)?;
    let result = async {
        incoming.no_body()?;
        begin(&api, &incoming, id).await?;
        let done = api.ops.template_delete(&incoming.call, id).await?;
        Ok(answer::removed(&done))
    };
    let result = result.await;
    answer::with_etag(result, current(&api, &incoming.call, id)).await
}

/// What every change of a template begins with.
async fn begin(api: &Api, incoming: &Incoming, id: TemplateId) -> Result<(), Refusal> {
    incoming.parameters.clone().done(&[])?;
    if incoming.names_vault() {
        let view = api.ops.template(&incoming.call, id).await?;
        incoming.check_vault(view.template.vault)?;
    }
    Ok(())
}

async fn current(api: &Api, call: &Call, id: TemplateId) -> Result<Revision, OpsError> {
    Ok(api.ops.template(call, id).await?.template.revision)
}

fn shown(status: StatusCode, done: Done<TemplateView>) -> Response {
    let revision = done.value.template.revision;
    let done = answer::map(done, |view| template_body::body(&view));
    answer::changed(status, &done, revision)
}

fn parse(id: &str) -> Result<TemplateId, Refusal> {
    id.parse()
        .map_err(|_not_a_uuid| Refusal::not_found("template", id))
}
