//! What can be asked of a key: transitions, targets, sync, looks and proofs.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;

use crate::coordinator::api::incoming::Incoming;
use crate::coordinator::api::managed_keys::parse;
use crate::coordinator::api::refusal::Refusal;
use crate::coordinator::api::{Api, answer, key_body, status_body};
use crate::coordinator::ops::access::Call;
use crate::coordinator::ops::commit::Done;
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::keys::KeyView;
use crate::model::ids::{KeyId, KeystoreId, Revision};
use crate::model::lifecycle::Action;
use crate::rest::extension::TargetsPut;
use crate::rest::list::IdRef;

type Answer = Result<Response, Refusal>;

/// POST …/activate
pub(crate) async fn activate(api: State<Api>, id: Path<String>, incoming: Incoming) -> Answer {
    act(api, id, incoming, Action::Activate).await
}

/// POST …/deactivate
pub(crate) async fn deactivate(api: State<Api>, id: Path<String>, incoming: Incoming) -> Answer {
    act(api, id, incoming, Action::Deactivate).await
}

/// POST …/compromise
pub(crate) async fn compromise(api: State<Api>, id: Path<String>, incoming: Incoming) -> Answer {
    act(api, id, incoming, Action::Compromise).await
}

/// POST …/destroy
pub(crate) async fn destroy(api: State<Api>, id: Path<String>, incoming: Incoming) -> Answer {
    act(api, id, incoming, Action::Destroy).await
}

async fn act(api: State<Api>, id: Path<String>, incoming: Incoming, action: Action) -> Answer {
    let State(state) = api.clone();
    change(api, id, incoming, |call, id| async move {
        state.ops.key_act(&call, id, action).await
    })
    .await
}

/// POST …/rotate
pub(crate) async fn rotate(api: State<Api>, id: Path<String>, incoming: Incoming) -> Answer {
    let State(state) = api.clone();
    change(api, id, incoming, |call, id| async move {
        state.ops.key_rotate(&call, id).await
    })
    .await
}

/// POST …/cancel_destruction
pub(crate) async fn cancel_destruction(
    api: State<Api>,
    id: Path<String>,
    incoming: Incoming,
) -> Answer {
    let State(state) = api.clone();
    change(api, id, incoming, |call, id| async move {
        state.ops.key_cancel_destruction(&call, id).await
    })
    .await
}

async fn change<F: Future<Output = Result<Done<KeyView>, OpsError>>>(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut incoming: Incoming,
    ask: impl FnOnce(Call, KeyId) -> F,
) -> Answer {
    let id = parse(&id)?;
    let result = async {
        incoming.no_body()?;
        let wait = begin(&api, &mut incoming, id).await?;
        let done = ask(incoming.call.clone(), id).await?;
        let done = settle(&api, &incoming, done, wait).await;
        Ok(shown(StatusCode::OK, done, &incoming))
    };
    let result = result.await;
    answer::with_etag(result, current(&api, &incoming.call, id)).await
}

/// POST …/update_from_template
pub(crate) async fn update_from_template(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut incoming: Incoming,
) -> Answer {
    let id = parse(&id)?;
    let result = async {
        incoming.no_body()?;
        let dry_run = incoming.parameters.take_flag("dry_run")?;
        let wait = begin(&api, &mut incoming, id).await?;
        let done = api
            .ops
            .key_update_from_template(&incoming.call, id, dry_run)
            .await?;
        let wait = if dry_run { Duration::ZERO } else { wait };
        let done = settle(&api, &incoming, done, wait).await;
        Ok(shown(StatusCode::OK, done, &incoming))
    };
    let result = result.await;
    answer::with_etag(result, current(&api, &incoming.call, id)).await
}

/// PUT …/targets
pub(crate) async fn targets(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut incoming: Incoming,
) -> Answer {
    let id = parse(&id)?;
    let result = async {
        let asked: TargetsPut = incoming.body()?;
        let targets = keystores(&asked.keystores)?;
        let wait = begin(&api, &mut incoming, id).await?;
        let done = api.ops.key_targets_put(&incoming.call, id, targets).await?;
        let done = settle(&api, &incoming, done, wait).await;
        Ok(shown(StatusCode::OK, done, &incoming))
    };
    let result = result.await;
    answer::with_etag(result, current(&api, &incoming.call, id)).await
}

/// Keystores that a body names.
pub(crate) fn keystores(named: &[IdRef]) -> Result<BTreeSet<KeystoreId>, Refusal> {
    named
        .iter()
        .enumerate()
        .map(|(place, named)| {
            named.id.parse().map_err(|_not_a_uuid| {
                let field = format!("keystores[{place}].id");
                Refusal::field(&field, "invalid_value", "must be a UUID")
            })
        })
        .collect()
}

/// POST …/sync_status_in_keystores
pub(crate) async fn sync(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut incoming: Incoming,
) -> Answer {
    let id = parse(&id)?;
    let result = async {
        incoming.no_body()?;
        let wait = begin(&api, &mut incoming, id).await?;
        let done = api.ops.key_sync(&incoming.call, id).await?;
        let done = settle(&api, &incoming, done, wait).await;
        let revision = done.value.key.revision;
        let done = answer::map(done, |view| status_body::all(&view, &incoming.trace));
        Ok(answer::changed(StatusCode::OK, &done, revision))
    };
    let result = result.await;
    answer::with_etag(result, current(&api, &incoming.call, id)).await
}

/// POST …/verify: every keystore of the key is looked at now.
pub(crate) async fn verify(api: State<Api>, id: Path<String>, incoming: Incoming) -> Answer {
    let State(state) = api.clone();
    look(api, id, incoming, |call, id| async move {
        state.ops.key_verify(&call, id).await
    })
    .await
}

/// POST …/prove: every keystore of the key tries it now.
pub(crate) async fn prove(api: State<Api>, id: Path<String>, incoming: Incoming) -> Answer {
    let State(state) = api.clone();
    look(api, id, incoming, |call, id| async move {
        state.ops.key_prove(&call, id).await
    })
    .await
}

async fn look<F: Future<Output = Result<KeyView, OpsError>>>(
    State(api): State<Api>,
    Path(id): Path<String>,
    mut incoming: Incoming,
    ask: impl FnOnce(Call, KeyId) -> F,
) -> Answer {
    let id = parse(&id)?;
    let result = async {
        incoming.no_body()?;
        incoming.done(&[])?;
        check_vault(&api, &incoming, id).await?;
        let view = ask(incoming.call.clone(), id).await?;
        let body = status_body::all(&view, &incoming.trace);
        Ok(answer::object(view.key.revision, body))
    };
    let result = result.await;
    answer::with_etag(result, current(&api, &incoming.call, id)).await
}

/// What every change of a key begins with: the query and the vault. Gives how long to wait for convergence.
async fn begin(api: &Api, incoming: &mut Incoming, id: KeyId) -> Result<Duration, Refusal> {
    let wait = incoming.take_wait()?;
    incoming.done(&[])?;
    check_vault(api, incoming, id).await?;
    Ok(wait)
}

/// Checks the vault in the header, if one was sent.
pub(crate) async fn check_vault(api: &Api, incoming: &Incoming, id: KeyId) -> Result<(), Refusal> {
    if incoming.names_vault() {
        let view = api.ops.key(&incoming.call, id).await?;
        incoming.check_vault(view.key.vault)?;
    }
    Ok(())
}

/// The ETag of a key as it is now.
pub(crate) async fn current(api: &Api, call: &Call, id: KeyId) -> Result<Revision, OpsError> {
    Ok(api.ops.key(call, id).await?.key.revision)
}

/// Waits for convergence. The change is done whatever comes of waiting, so a failure here is only logged.
pub(crate) async fn settle(
    api: &Api,
    incoming: &Incoming,
    done: Done<KeyView>,
    wait: Duration,
) -> Done<KeyView> {
    if wait.is_zero() {
        return done;
    }
    match api
        .ops
        .key_wait(&incoming.call, done.value.key.id, wait)
        .await
    {
        Ok(view) => answer::map(done, |_before| view),
        Err(error) => {
            tracing::warn!(%error, "could not wait for convergence");
            done
        }
    }
}

/// A key that was changed or made.
pub(crate) fn shown(status: StatusCode, done: Done<KeyView>, incoming: &Incoming) -> Response {
    let revision = done.value.key.revision;
    let done = answer::map(done, |view| key_body::body(&view, &incoming.trace));
    answer::changed(status, &done, revision)
}
