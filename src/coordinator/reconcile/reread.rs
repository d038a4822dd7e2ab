//! What is read again while a session lasts: what is wanted, of the store; what its token can do, of the agent. Never decides.

use std::sync::Arc;

use crate::coordinator::reconcile::calls;
use crate::coordinator::reconcile::fleet::Shared;
use crate::coordinator::reconcile::keeper::{Keeper, step};
use crate::coordinator::reconcile::material;
use crate::decide::coordinator::{Input, Output};
use crate::model::ids::KeyVersionId;
use crate::tls::error::chain;

/// An agent that was asked before its token was probed is asked again at once, any other now and then: nothing in the session
/// says what a token can do, and a token that was opened anew may be one that can do less.
pub(crate) fn description(shared: &Arc<Shared>, keeper: &Arc<Keeper>, is_due: bool) {
    let Some(mut client) = keeper.undescribed(is_due) else {
        return;
    };
    let (shared, keeper) = (Arc::clone(shared), Arc::clone(keeper));
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        if let Ok(description) = calls::describe(&mut client).await
            && description.capabilities.is_some()
            && keeper.describe_as(description)
        {
            material::may_come(&shared, &keeper);
            shared.changed();
        }
    });
}

/// What is wanted; without the store nothing changes.
pub(crate) async fn wanted(shared: &Arc<Shared>, keeper: &Arc<Keeper>) -> Vec<Output> {
    match shared.store.keystore(keeper.keystore()).await {
        Ok(Some(_)) => {}
        Ok(None) => {
            return vec![Output::Close {
                why: "the keystore was removed".to_owned(),
            }];
        }
        Err(error) => {
            tracing::warn!(keystore = %keeper.keystore(), error = chain(&error), "cannot read the store");
            return Vec::new();
        }
    }
    match shared.store.keystore_instances(keeper.keystore()).await {
        Ok(rows) => {
            let desired = rows.into_iter().map(|row| row.instance).collect();
            step(shared, keeper, Input::Desired(desired))
        }
        Err(error) => {
            tracing::warn!(keystore = %keeper.keystore(), error = chain(&error), "cannot read the store");
            Vec::new()
        }
    }
}

/// What is wanted of some instances. Without the store nothing changes: the timer finds it.
pub(crate) async fn some(
    shared: &Arc<Shared>,
    keeper: &Arc<Keeper>,
    versions: Vec<KeyVersionId>,
) -> Vec<Output> {
    let rows = shared
        .store
        .instances_on(keeper.keystore(), versions.clone())
        .await;
    match rows {
        Ok(instances) => step(shared, keeper, Input::DesiredOf(versions, instances)),
        Err(error) => {
            tracing::warn!(keystore = %keeper.keystore(), error = chain(&error), "cannot read the store");
            Vec::new()
        }
    }
}
