//! The repository: every internal keystore of a vault takes over the keys that it has no copy of, one after the other, so that
//! the loss of one costs nothing that another has.

use std::sync::Arc;

use uuid::Uuid;

use crate::clock;
use crate::coordinator::reconcile::calls;
use crate::coordinator::reconcile::fleet::Shared;
use crate::coordinator::reconcile::keeper::Keeper;
use crate::coordinator::reconcile::material;
use crate::coordinator::store::{Change, StoreError, Write};
use crate::model::audit::AuditEntry;
use crate::model::ids::{Generation, KeyVersionId, OperationId, VaultId};
use crate::model::material::RepositoryCopy;

/// Versions read from the store at once.
const BATCH: u32 = 100;

/// Whether a task takes keys over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Taking {
    /// None.
    #[default]
    Idle,
    /// One does.
    UnderWay,
    /// One does, and looks once more when it is done.
    Again,
}

impl Taking {
    /// Whether a task is to be started; one that is under way looks once more instead.
    pub(crate) fn begin(&mut self) -> bool {
        let begun = *self == Self::Idle;
        *self = if begun { Self::UnderWay } else { Self::Again };
        begun
    }

    /// Whether the task is to look once more; else it is over.
    pub(crate) fn again(&mut self) -> bool {
        let again = *self == Self::Again;
        *self = if again { Self::UnderWay } else { Self::Idle };
        again
    }
}

/// Has an internal keystore take over what it lacks; nothing happens for an external one, or one that is not well.
pub(crate) fn wake(shared: &Arc<Shared>, keeper: &Arc<Keeper>) {
    let Some(vault) = keeper.begin_taking() else {
        return;
    };
    let (shared, keeper) = (Arc::clone(shared), Arc::clone(keeper));
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        loop {
            let (taken, left) = take_over_all(&shared, &keeper, vault).await;
            if taken > 0 {
                tracing::info!(taken, keystore = %keeper.keystore(), "keys were taken over");
            }
            if !keeper.take_again(left) {
                return;
            }
        }
    });
}

/// Takes over what is lacking. What one key stands in the way of the others does not: it is told and left for the next time.
/// Gives how many were taken over, and whether some are left.
async fn take_over_all(shared: &Arc<Shared>, keeper: &Arc<Keeper>, vault: VaultId) -> (u64, bool) {
    let (mut after, mut taken, mut left) = (None, 0_u64, false);
    loop {
        let lacking = shared
            .store
            .copies_lacking(vault, keeper.keystore(), after, BATCH);
        let lacking = match lacking.await {
            Ok(lacking) => lacking,
            Err(error) => {
                tracing::warn!(%error, "cannot read which copies are lacking");
                return (taken, true);
            }
        };
        for version in &lacking {
            if shared.stop.is_cancelled() || keeper.line().is_err() {
                return (taken, true);
            }
            match take_over(shared, keeper, *version).await {
                Ok(()) => taken = taken.saturating_add(1),
                Err(why) => {
                    left = true;
                    tracing::warn!(%version, keystore = %keeper.keystore(), why, "not taken over");
                }
            }
        }
        after = lacking.last().copied();
        if after.is_none() {
            return (taken, left);
        }
    }
}

async fn take_over(
    shared: &Arc<Shared>,
    keeper: &Arc<Keeper>,
    version: KeyVersionId,
) -> Result<(), String> {
    // No intent is served by it.
    let envelope = material::fetch(shared, keeper, version, Generation(0)).await?;
    let (mut client, session) = keeper.line().map_err(|error| error.to_string())?;
    let fingerprint = envelope.body.fingerprint;
    let copy = calls::take_over(&mut client, session, *envelope)
        .await
        .map_err(|error| error.to_string())?;
    let birth = &copy.birth.body;
    let is_it = copy.keystore == keeper.keystore()
        && birth.version == version
        && birth.fingerprint == fingerprint;
    if !is_it {
        return Err("the agent took over another key than it was sent".to_owned());
    }
    match shared.store.commit(change(version, copy)).await {
        Ok(_) => {
            shared.changed();
            Ok(())
        }
        // Destroyed meanwhile: the copy is not kept.
        Err(StoreError::Conflict { .. }) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn change(version: KeyVersionId, copy: RepositoryCopy) -> Change {
    let at = clock::unix_ms();
    let entry = AuditEntry {
        at,
        actor: "reconciler".to_owned(),
        action: "repository.take_over".to_owned(),
        subject: format!("keystore/{}", copy.keystore),
        operation: OperationId::from_uuid(Uuid::new_v4()),
        intents: Vec::new(),
        detail: format!("key version {version}"),
        bulk: None,
    };
    Change {
        operation: None,
        writes: vec![Write::CopyAdd { version, copy }],
        audit: vec![entry],
    }
}
