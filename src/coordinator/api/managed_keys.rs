//! Managed keys: list, make, read, write about, remove.

use axum::Json;
use axum::extract::{OriginalUri, Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use crate::coordinator::api::incoming::Incoming;
use crate::coordinator::api::refusal::Refusal;
use crate::coordinator::api::{Api, answer, key_actions, key_body, keystores, status_body, vaults};
use crate::coordinator::ops::keys::{KeyNew, KeyPatch, KeyQuery, KeyView};
use crate::coordinator::ops::lists::{Page, Paged};
use crate::model::ids::KeyId;
use crate::model::lifecycle::ManagedState;
use crate::rest::managed_key as rest;

/// Fields to sort by.
const SORT: [&str; 8] = [
    "label",
    "algorithm",
    "state",
    "activation_date",
    "created_at",
    "updated_at",
    "size",
    "vault.id",
];

/// Filters of API v4 that are not there yet.
const LATER: [&str; 31] = [
    "algorithm",
    "activation_date",
    "activation_date_min",
    "activation_date_max",
    "deactivation_date",
    "deactivation_date_min",
    "deactivation_date_max",
    "expiration_date",
    "expiration_date_min",
    "expiration_date_max",
    "created_at",
    "created_at_min",
    "created_at_max",
    "updated_at",
    "updated_at_min",
    "updated_at_max",
    "rotated_at_min",
    "rotated_at_max",
    "size",
    "size_min",
    "size_max",
    "referenced_keystores[].type",
    "referenced_keystores[].name",
    "instances[].keystore.type",
    "template.name",
    "template.type[]",
    "status_in_keystores[].keystore_sync_flag",
    "template.alignment_status",
    "key_material_present",
    "managing_systems",
    "phase",
];

/// GET …/managed_keys
pub(crate) async fn list(
    State(api): State<Api>,
    OriginalUri(uri): OriginalUri,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    let (mut query, page) = take_query(&mut incoming)?;
    query.vault = incoming
        .parameters
        .take_as("vault.id", "a vault's UUID", |id| id.parse().ok())?;
    query.keystore = incoming
        .parameters
        .take_as("keystore.id", "a keystore's UUID", |id| id.parse().ok())?;
    if query.states.is_empty() {
        query.states = not_destroyed(true);
    }
    listed(&api, &uri, incoming, query, page).await
}

/// GET …/keystores/{id}/managed_keys: never pre-active or destroyed ones.
pub(crate) async fn on_keystore(
    State(api): State<Api>,
    Path(id): Path<String>,
    OriginalUri(uri): OriginalUri,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    let keystore = keystores::parse(&id)?;
    let view = api.ops.keystore(&incoming.call, keystore).await?;
    incoming.check_vault(view.record.vault)?;
    let (mut query, page) = take_query(&mut incoming)?;
    query.keystore = Some(keystore);
    let there = not_destroyed(false);
    if query.states.is_empty() {
        query.states = there;
    } else {
        query.states.retain(|state| there.contains(state));
        if query.states.is_empty() {
            return Ok(page_of(&uri, page, &empty(), &incoming.trace));
        }
    }
    listed(&api, &uri, incoming, query, page).await
}

/// What every list of keys takes.
fn take_query(incoming: &mut Incoming) -> Result<(KeyQuery, Page), Refusal> {
    let parameters = &mut incoming.parameters;
    let page = parameters.take_page()?;
    let states = parameters.take_as("state", "states of keys, joined by commas", |text| {
        text.split(',').map(ManagedState::from_name).collect()
    })?;
    let query = KeyQuery {
        vault: None,
        states: states.unwrap_or_default(),
        label: parameters.take("label"),
        template: parameters.take_as("template.id", "a template's UUID", |id| id.parse().ok())?,
        keystore: None,
        sort: parameters.take_sort(&SORT)?,
    };
    Ok((query, page))
}

/// Destroyed keys are listed only if asked for by `state`.
fn not_destroyed(with_pre_active: bool) -> Vec<ManagedState> {
    ManagedState::ALL
        .into_iter()
        .filter(|state| !state.is_destroyed())
        .filter(|state| with_pre_active || *state != ManagedState::PreActivation)
        .collect()
}

async fn listed(
    api: &Api,
    uri: &Uri,
    mut incoming: Incoming,
    query: KeyQuery,
    page: Page,
) -> Result<Response, Refusal> {
    incoming.done(&LATER)?;
    let found = api.ops.key_list(&incoming.call, query, page).await?;
    Ok(page_of(uri, page, &found, &incoming.trace))
}

const fn empty() -> Paged<KeyView> {
    Paged {
        total: 0,
        items: Vec::new(),
    }
}

fn page_of(uri: &Uri, page: Page, found: &Paged<KeyView>, trace: &str) -> Response {
    let page = answer::page_info(uri, page, found);
    let managed_keys = found
        .items
        .iter()
        .map(|view| key_body::body(view, trace))
        .collect();
    Json(rest::ManagedKeyList { page, managed_keys }).into_response()
}

/// POST …/managed_keys
pub(crate) async fn create(
    State(api): State<Api>,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    let wait = incoming.take_wait()?;
    incoming.done(&[])?;
    let asked: rest::ManagedKeyCreate = incoming.body()?;
    let new = KeyNew {
        vault: vaults::named(&asked.vault.id)?,
        template_name: asked.template_name,
        label: asked.label,
        label_tags: asked
            .tags
            .unwrap_or_default()
            .into_iter()
            .map(|tag| (tag.name, tag.value))
            .collect(),
        description: asked.description.unwrap_or_default(),
    };
    incoming.check_vault(new.vault)?;
    let done = api.ops.key_create(&incoming.call, new).await?;
    let done = key_actions::settle(&api, &incoming, done, wait).await;
    Ok(key_actions::shown(StatusCode::CREATED, done, &incoming))
}

/// GET …/managed_keys/{id}
pub(crate) async fn one(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    incoming.done(&[])?;
    let view = api.ops.key(&incoming.call, parse(&id)?).await?;
    incoming.check_vault(view.key.vault)?;
    let body = key_body::body(&view, &incoming.trace);
    Ok(answer::object(view.key.revision, body))
}

/// GET …/managed_keys/{id}/versions, the one in use first, then newest first.
pub(crate) async fn versions(
    State(api): State<Api>,
    Path(id): Path<String>,
    OriginalUri(uri): OriginalUri,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    let (query, page) = take_query(&mut incoming)?;
    incoming.done(&LATER)?;
    let mut views = api.ops.key_versions(&incoming.call, parse(&id)?).await?;
    if let Some(view) = views.first() {
        incoming.check_vault(view.key.vault)?;
    }
    views.retain(|view| {
        (query.states.is_empty() || query.states.contains(&view.key.state))
            && (query.label.as_deref()).is_none_or(|label| label == view.key.label.as_str())
            && (query.template).is_none_or(|template| template == view.key.template)
    });
    let mut found = empty();
    found.total = u64::try_from(views.len()).unwrap_or(u64::MAX);
    let place = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let shown = views.into_iter().skip(place(page.offset));
    found.items.extend(shown.take(place(page.limit)));
    Ok(page_of(&uri, page, &found, &incoming.trace))
}

/// GET …/managed_keys/{id}/status_in_keystores
pub(crate) async fn status_in_keystores(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    incoming.done(&[])?;
    let view = api.ops.key(&incoming.call, parse(&id)?).await?;
    incoming.check_vault(view.key.vault)?;
    let body = status_body::all(&view, &incoming.trace);
    Ok(answer::object(view.key.revision, body))
}

/// GET …/managed_keys/{id}/associated_resources
pub(crate) async fn associated_resources() -> Refusal {
    Refusal::not_built_yet("the list of a key's associated resources")
}

/// PATCH …/managed_keys/{id}
pub(crate) async fn update(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    let id = parse(&id)?;
    let result = async {
        let wait = incoming.take_wait()?;
        incoming.done(&[])?;
        let asked: rest::ManagedKeyPatch = incoming.body()?;
        key_actions::check_vault(&api, &incoming, id).await?;
        let patch = KeyPatch {
            label: asked.label,
            description: asked.description,
            activation_date: asked.activation_date.map(Option::unwrap_or_default),
            expiration_date: asked.expiration_date.map(Option::unwrap_or_default),
        };
        let done = api.ops.key_update(&incoming.call, id, patch).await?;
        let done = key_actions::settle(&api, &incoming, done, wait).await;
        Ok(key_actions::shown(StatusCode::OK, done, &incoming))
    };
    let result = result.await;
    answer::with_etag(result, key_actions::current(&api, &incoming.call, id)).await
}

/// DELETE …/managed_keys/{id}
pub(crate) async fn remove(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    let id = parse(&id)?;
    let result = async {
        let force = incoming.parameters.take_flag("force")?;
        incoming.done(&[])?;
        incoming.no_body()?;
        key_actions::check_vault(&api, &incoming, id).await?;
        let done = api.ops.key_remove(&incoming.call, id, force).await?;
        Ok(answer::removed(&done))
    };
    let result = result.await;
    answer::with_etag(result, key_actions::current(&api, &incoming.call, id)).await
}

/// The key that a path names.
pub(crate) fn parse(id: &str) -> Result<KeyId, Refusal> {
    id.parse()
        .map_err(|_not_a_uuid| Refusal::not_found("managed key", id))
}
