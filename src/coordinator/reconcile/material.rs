//! The way of a key: from the repository copy of an internal keystore to an envelope for one target.

use std::sync::Arc;

use crate::coordinator::ops::fleet::FleetError;
use crate::coordinator::reconcile::errands::{Reply, Request, ask};
use crate::coordinator::reconcile::fleet::Shared;
use crate::coordinator::reconcile::keeper::Keeper;
use crate::model::ids::{Generation, KeyVersionId};
use crate::model::live::Connection;
use crate::model::material::{Envelope, Signed};

/// Gets an envelope for one instance: tries each internal keystore that has a copy, in the store's order.
///
/// # Errors
/// For people: why no copy could be wrapped for the target.
pub(crate) async fn fetch(
    shared: &Arc<Shared>,
    target: &Arc<Keeper>,
    version: KeyVersionId,
    generation: Generation,
) -> Result<Box<Signed<Envelope>>, String> {
    let copies = shared
        .store
        .copies(version)
        .await
        .map_err(|error| error.to_string())?;
    if copies.is_empty() {
        return Err("no_repository_copy: no internal keystore has a copy of this key".to_owned());
    }
    let endorsement = match target.endorsement().await {
        Ok(endorsement) => endorsement,
        Err(error) => return Err(format!("transport key of the target: {error}")),
    };
    let mut reasons = Vec::new();
    for copy in copies {
        let source = copy.keystore;
        let rewrap = Request::Rewrap {
            copy: Box::new(copy),
            target: Box::new(endorsement.clone()),
            generation,
        };
        let wrapped = ask(shared, source, rewrap).await;
        match wrapped.and_then(Reply::envelope) {
            Ok(envelope) => return Ok(envelope),
            Err(FleetError::Refused { code, reason }) => reasons.push(format!("{code}: {reason}")),
            Err(error) => reasons.push(error.to_string()),
        }
    }
    Err(reasons.join("; "))
}

/// A keystore can be used again: what could not be had for it, or from it, is asked for at once and not after ever longer pauses.
pub(crate) fn may_come(shared: &Shared, keeper: &Arc<Keeper>) {
    let (is_usable, is_source) = {
        let state = keeper.lock();
        let described = state.description.as_ref();
        let can = described.is_some_and(|of| of.capabilities.is_some());
        let is_live = *state.machine.connection() == Connection::Live;
        (is_live && can, state.repository.is_some())
    };
    if !is_usable {
        return;
    }
    let targets = if is_source {
        shared.keepers()
    } else {
        vec![Arc::clone(keeper)]
    };
    for target in targets {
        if target.lock().machine.forget_missing_material() {
            target.wake();
        }
    }
}
