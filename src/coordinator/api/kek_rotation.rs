//! Rotation of wrapping keys, an extension: GET says how far it is, POST asks for one.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};

use crate::coordinator::api::Api;
use crate::coordinator::api::answer;
use crate::coordinator::api::incoming::Incoming;
use crate::coordinator::api::keystore_body::reference;
use crate::coordinator::api::keystores::{check_vault, parse};
use crate::coordinator::api::refusal::Refusal;
use crate::coordinator::ops::kek_rotation::KekRotationView;
use crate::model::ids::Revision;
use crate::model::kek::{KekNumber, RotationState};
use crate::rest::kek::{KekRotation, KekRotationState};

pub(crate) async fn one(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    let id = parse(&id)?;
    incoming.done(&[])?;
    check_vault(&api, &incoming, id).await?;
    let view = api.ops.kek_rotation(&incoming.call, id).await?;
    Ok(Json(body(&view)).into_response())
}

pub(crate) async fn rotate(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut incoming: Incoming,
) -> Result<Response, Refusal> {
    let id = parse(&id)?;
    incoming.done(&[])?;
    incoming.no_body()?;
    check_vault(&api, &incoming, id).await?;
    let done = api.ops.kek_rotate(&incoming.call, id).await?;
    let rotation = done.value.rotation.as_ref();
    let revision = rotation.map_or(Revision(0), |rotation| rotation.revision);
    let done = answer::map(done, |view| body(&view));
    Ok(answer::changed(StatusCode::ACCEPTED, &done, revision))
}

fn body(view: &KekRotationView) -> KekRotation {
    let (state, kek, total, done_at) = match view.rotation.as_ref().map(|one| one.state) {
        None => (KekRotationState::None, None, 0, None),
        Some(RotationState::Asked) => (KekRotationState::Asked, None, 0, None),
        Some(RotationState::Rewrapping { to, total }) => {
            (KekRotationState::Rewrapping, Some(to), total, None)
        }
        Some(RotationState::Done { to, total, at }) => {
            (KekRotationState::Done, Some(to), total, Some(at))
        }
    };
    let asked_at = view.rotation.as_ref().map(|one| one.asked_at);
    KekRotation {
        keystore: reference(view.keystore.id, &view.keystore.name),
        state,
        kek: kek.map(KekNumber::get),
        // Copies may have been destroyed meanwhile, and new ones may have come in the last moment.
        rewrapped: total.saturating_sub(view.left),
        total,
        asked_at: asked_at.map(answer::time).unwrap_or_default(),
        done_at: done_at.map(answer::time).unwrap_or_default(),
        waiting_for: view.waiting_for.clone().unwrap_or_default(),
    }
}
