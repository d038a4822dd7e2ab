//! The rotation of an internal keystore's wrapping key: goes on from wherever the store says that it is. A crash of anybody at
//! any point is the same as a pause.
//!
//! ```text
//! look ─▶ make the next key ─▶ COMMIT: it is demanded ─▶ copy by copy: wrap, COMMIT ─▶ none left ─▶ destroy the old ─▶ COMMIT: done
//! ```

use std::sync::Arc;

use uuid::Uuid;

use crate::clock;
use crate::coordinator::ops::fleet::FleetError;
use crate::coordinator::reconcile::calls;
use crate::coordinator::reconcile::fleet::Shared;
use crate::coordinator::reconcile::keeper::Keeper;
use crate::coordinator::store::{Change, StoreError, Write};
use crate::model::audit::AuditEntry;
use crate::model::ids::{KeyVersionId, KeystoreId, OperationId, Revision};
use crate::model::kek::{KekJob, KekNumber, KekRotation, RotationState};
use crate::model::material::RepositoryCopy;
use crate::tls::error::chain;

/// Copies read from the store at once.
const BATCH: u32 = 100;

/// Goes on with the rotation of a keystore's wrapping key, if one is under way and the keystore is well.
pub(crate) fn wake(shared: &Arc<Shared>, keeper: &Arc<Keeper>) {
    if !keeper.begin_rotating() {
        return;
    }
    let (shared, keeper) = (Arc::clone(shared), Arc::clone(keeper));
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        loop {
            if let Err(why) = go_on(&shared, &keeper).await {
                tracing::warn!(keystore = %keeper.keystore(), why, "the wrapping key is not rotated yet");
            }
            if !keeper.rotate_again() {
                return;
            }
        }
    });
}

/// Reads how far the rotation is and goes on, as far as it can now. What stands in its way is told, and left for the next time.
async fn go_on(shared: &Shared, keeper: &Keeper) -> Result<(), String> {
    let found = shared.store.kek_rotation(keeper.keystore()).await;
    let Some(mut rotation) = found.map_err(|error| error.to_string())? else {
        return Ok(());
    };
    if !rotation.is_under_way() {
        return Ok(());
    }
    let ended = advance(shared, keeper, &mut rotation).await;
    if let Err(why) = &ended
        && rotation.trouble.as_ref() != Some(why)
    {
        let troubled = KekRotation {
            trouble: Some(why.clone()),
            ..rotation.clone()
        };
        put(shared, &mut rotation, troubled, None).await?;
    }
    ended
}

async fn advance(
    shared: &Shared,
    keeper: &Keeper,
    rotation: &mut KekRotation,
) -> Result<(), String> {
    let (to, total) = match rotation.state {
        RotationState::Asked => demand(shared, keeper, rotation).await?,
        RotationState::Rewrapping { to, total } => (to, total),
        RotationState::Done { .. } => return Ok(()),
    };
    // Also after a restart: nothing is wrapped under a key that is not there.
    let there = act(keeper, KekJob::Make(to)).await?;
    rewrap_all(shared, keeper, to).await?;
    let left = shared.store.copies_below_count(keeper.keystore(), to);
    match left.await.map_err(|error| error.to_string())? {
        0 => {}
        left => {
            return Err(format!(
                "{left} copies are still under an older wrapping key"
            ));
        }
    }
    for old in there.into_iter().filter(|number| *number < to) {
        act(keeper, KekJob::Destroy(old)).await?;
    }
    let at = clock::unix_ms();
    let done = KekRotation {
        state: RotationState::Done { to, total, at },
        trouble: None,
        ..rotation.clone()
    };
    let entry = entry(
        keeper.keystore(),
        "keystore.kek_rotated",
        format!("all copies are under wrapping key {to}; the older ones were destroyed"),
    );
    put(shared, rotation, done, Some(entry)).await?;
    tracing::info!(keystore = %keeper.keystore(), kek = %to, "the wrapping key was rotated");
    // A key that was being taken over may have been turned away.
    keeper.wake();
    Ok(())
}

/// Makes the next wrapping key, or finds the one of a rotation that was interrupted; from the commit on, it is demanded.
async fn demand(
    shared: &Shared,
    keeper: &Keeper,
    rotation: &mut KekRotation,
) -> Result<(KekNumber, u64), String> {
    let there = act(keeper, KekJob::Look).await?;
    let to = match there.as_slice() {
        [] => return Err("the agent has no wrapping key".to_owned()),
        [only] => only.next().ok_or("the numbers are used up")?,
        [.., newest] => *newest,
    };
    act(keeper, KekJob::Make(to)).await?;
    let total = shared.store.copies_below_count(keeper.keystore(), to);
    let total = total.await.map_err(|error| error.to_string())?;
    let demanded = KekRotation {
        state: RotationState::Rewrapping { to, total },
        trouble: None,
        ..rotation.clone()
    };
    let entry = entry(
        keeper.keystore(),
        "keystore.kek_made",
        format!("wrapping key {to} is demanded; {total} copies are to be wrapped under it"),
    );
    put(shared, rotation, demanded, Some(entry)).await?;
    Ok((to, total))
}

/// Wraps all copies that are under older keys. What one of them stands in the way of the others does not; the first is told.
async fn rewrap_all(shared: &Shared, keeper: &Keeper, to: KekNumber) -> Result<(), String> {
    let (mut after, mut trouble) = (None, None);
    loop {
        let below = shared
            .store
            .copies_below(keeper.keystore(), to, after, BATCH);
        let below = below.await.map_err(|error| error.to_string())?;
        let Some((last, _)) = below.last() else {
            return trouble.map_or(Ok(()), Err);
        };
        after = Some(*last);
        for (version, copy) in below {
            if shared.stop.is_cancelled() {
                return Err("the coordinator is stopping".to_owned());
            }
            // Without a line none of the others would fare better.
            keeper.line().map_err(|error| error.to_string())?;
            if let Err(why) = rewrap(shared, keeper, version, &copy, to).await {
                tracing::warn!(%version, why, "a copy was not wrapped again");
                trouble.get_or_insert(format!("key version {version}: {why}"));
            }
        }
    }
}

async fn rewrap(
    shared: &Shared,
    keeper: &Keeper,
    version: KeyVersionId,
    old: &RepositoryCopy,
    to: KekNumber,
) -> Result<(), String> {
    let (mut client, session) = keeper.line().map_err(|error| error.to_string())?;
    let wrapped = calls::rewrap_copy(&mut client, session, old).await;
    let new = wrapped.map_err(|error| error.to_string())?;
    let (was, is) = (&old.birth.body, &new.birth.body);
    let same = new.keystore == keeper.keystore()
        && is.version == version
        && (is.spec, is.fingerprint) == (was.spec, was.fingerprint)
        && (&is.salt, &is.spki) == (&was.salt, &was.spki)
        && new.birth.signer == old.birth.signer;
    if !same {
        return Err("the agent wrapped another key than it was sent".to_owned());
    }
    if new.kek < to {
        return Err(format!(
            "the agent wrapped it under wrapping key {}",
            new.kek
        ));
    }
    let entry = entry(
        keeper.keystore(),
        "repository.rewrap",
        format!("key version {version}, under wrapping key {}", new.kek),
    );
    let change = Change {
        operation: None,
        writes: vec![Write::CopyAdd { version, copy: new }],
        audit: vec![entry],
    };
    match shared.store.commit(change).await {
        // Destroyed meanwhile: the copy is not kept.
        Ok(_) | Err(StoreError::Conflict { .. }) => {
            shared.changed();
            Ok(())
        }
        Err(error) => Err(error.to_string()),
    }
}

async fn act(keeper: &Keeper, job: KekJob) -> Result<Vec<KekNumber>, String> {
    let asked = async {
        let (mut client, session) = keeper.line()?;
        calls::kek(&mut client, session, job).await
    };
    asked.await.map_err(|error: FleetError| chain(&error))
}

/// Commits the next state; the caller's is that one then.
async fn put(
    shared: &Shared,
    rotation: &mut KekRotation,
    mut next: KekRotation,
    entry: Option<AuditEntry>,
) -> Result<(), String> {
    next.revision = Revision(rotation.revision.0.saturating_add(1));
    let change = Change {
        operation: None,
        writes: vec![Write::KekRotationPut {
            record: next.clone(),
            expected: Some(rotation.revision),
        }],
        audit: entry.into_iter().collect(),
    };
    let committed = shared.store.commit(change).await;
    committed.map_err(|error| error.to_string())?;
    *rotation = next;
    shared.changed();
    Ok(())
}

fn entry(keystore: KeystoreId, action: &str, detail: String) -> AuditEntry {
    AuditEntry {
        at: clock::unix_ms(),
        actor: "reconciler".to_owned(),
        action: action.to_owned(),
        subject: format!("keystore/{keystore}"),
        operation: OperationId::from_uuid(Uuid::new_v4()),
        intents: Vec::new(),
        detail,
        bulk: None,
    }
}
