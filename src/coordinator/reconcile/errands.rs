//! Calls that need the live session of a keystore: made here where this coordinator has it, else by the one that does, which
//! is asked through the store.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout, timeout_at};
use uuid::Uuid;

use crate::coordinator::ops::fleet::FleetError;
use crate::coordinator::reconcile::calls::{self, CALL_WITHIN};
use crate::coordinator::reconcile::fleet::Shared;
use crate::coordinator::reconcile::keeper::Keeper;
use crate::coordinator::reconcile::{sharing, told};
use crate::coordinator::store::sharing::{Errand, Hint, Sharing};
use crate::model::adoption::{Candidate, Examined};
use crate::model::ids::{Generation, KeyVersionId, KeystoreId};
use crate::model::key::KeySpec;
use crate::model::material::{Endorsement, Envelope, RepositoryCopy, Signed};
use crate::model::observed::Proof;
use crate::tls::error::chain;

/// A look that has been asked for must have been reported after this long.
const LOOK_WITHIN: Duration = Duration::from_secs(30);

/// Between looks for an answer when no hint came.
const POLL: Duration = Duration::from_millis(500);

/// What is asked of a session.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Generate {
        version: KeyVersionId,
        spec: KeySpec,
        salt: Vec<u8>,
    },
    Look {
        version: Option<KeyVersionId>,
    },
    Prove {
        version: KeyVersionId,
    },
    Probe {
        accept: bool,
    },
    Examine {
        salt: Vec<u8>,
        keys: Vec<Candidate>,
    },
    Rewrap {
        copy: Box<RepositoryCopy>,
        target: Box<Signed<Endorsement>>,
        generation: Generation,
    },
}

/// What it answered.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Copy(Box<RepositoryCopy>),
    Done,
    Proof(Proof),
    Examined(Vec<Examined>),
    Envelope(Box<Signed<Envelope>>),
}

type Answer = Result<Reply, FleetError>;

/// Asks the session of a keystore, wherever it is.
///
/// # Errors
/// The session's; `Unreachable` where no coordinator has it, `Late` where its holder does not answer.
pub(crate) async fn ask(shared: &Arc<Shared>, keystore: KeystoreId, request: Request) -> Answer {
    if let Some(keeper) = shared.keeper(keystore) {
        return perform(shared, &keeper, request).await;
    }
    match shared.store.sharing() {
        None => Err(FleetError::Unreachable {
            why: "no such keystore".to_owned(),
        }),
        Some(store) => sent(shared, store, keystore, &request).await,
    }
}

async fn sent(
    shared: &Arc<Shared>,
    store: &dyn Sharing,
    keystore: KeystoreId,
    request: &Request,
) -> Answer {
    let lost = |why: String| FleetError::Unreachable { why };
    // One that has just moved is told of before the next round says who has it.
    if shared.holder(keystore).is_none() && !shared.is_told_of(keystore) {
        return Err(lost("no coordinator has it at the moment".to_owned()));
    }
    let mut hints = store.hints();
    let errand = Errand {
        id: Uuid::new_v4(),
        keystore,
        request: serde_json::to_string(request).map_err(|error| lost(error.to_string()))?,
    };
    let id = errand.id;
    let put = store.errand_put(errand, CALL_WITHIN).await;
    put.map_err(|error| lost(chain(&error)))?;
    // A hint that is lost costs time alone.
    let _lost = store.hint(Hint::Errand).await;
    let deadline = Instant::now() + CALL_WITHIN;
    loop {
        let answered = store.errand_answer(id).await;
        if let Some(text) = answered.map_err(|_unknown| FleetError::Late)? {
            // What it did to the token is in what its session told: shown to whoever asked.
            sharing::refresh(shared, store).await;
            let answer: Answer =
                serde_json::from_str(&text).map_err(|error| lost(error.to_string()))?;
            return answer;
        }
        if Instant::now() >= deadline || shared.stop.is_cancelled() {
            return Err(FleetError::Late);
        }
        let hinted = async { while !matches!(hints.recv().await, Ok(Hint::Errand) | Err(_)) {} };
        let _polled = timeout_at(deadline.min(Instant::now() + POLL), hinted).await;
    }
}

/// Does what other coordinators ask of the sessions here, each side by side.
pub(crate) async fn serve(shared: &Arc<Shared>, store: &dyn Sharing) {
    let errands = match store.errands().await {
        Ok(errands) => errands,
        Err(error) => {
            tracing::debug!(error = chain(&error), "cannot read what others ask");
            return;
        }
    };
    for errand in errands {
        let shared = Arc::clone(shared);
        let tasks = shared.tasks.clone();
        tasks.spawn(async move {
            let answer = carried_out(&shared, &errand).await;
            let Some(store) = shared.store.sharing() else {
                return;
            };
            let left = match serde_json::to_string(&answer) {
                Ok(text) => store.errand_done(errand.id, text).await,
                Err(_no_text) => return,
            };
            match left {
                Ok(()) => {
                    let _lost = store.hint(Hint::Errand).await;
                }
                Err(error) => tracing::warn!(error = chain(&error), "an answer was not left"),
            }
        });
    }
}

async fn carried_out(shared: &Arc<Shared>, errand: &Errand) -> Answer {
    let unreachable = |why: String| FleetError::Unreachable { why };
    let request = serde_json::from_str(&errand.request).map_err(|error| {
        unreachable(format!(
            "the holder of the keystore does not understand it: {error}"
        ))
    })?;
    let keeper = shared.keeper(errand.keystore);
    let keeper = keeper.ok_or_else(|| unreachable("the keystore moved: ask again".to_owned()))?;
    perform(shared, &keeper, request).await
}

async fn perform(shared: &Arc<Shared>, keeper: &Arc<Keeper>, request: Request) -> Answer {
    let keystore = keeper.keystore();
    if let Request::Look { version } = request {
        return look(shared, keeper, version).await.map(|()| Reply::Done);
    }
    let (mut client, session) = keeper.line()?;
    Ok(match request {
        Request::Look { .. } => Reply::Done,
        Request::Generate {
            version,
            spec,
            salt,
        } => {
            let copy = calls::generate(&mut client, session, keystore, version, spec, salt);
            Reply::Copy(Box::new(copy.await?))
        }
        Request::Prove { version } => {
            Reply::Proof(calls::prove(&mut client, session, version).await?)
        }
        Request::Probe { accept } => {
            let description = calls::probe(&mut client, session, accept).await?;
            keeper.describe_as(description);
            told::tell(shared, keeper, &[]).await;
            shared.changed();
            Reply::Done
        }
        Request::Examine { salt, keys } => {
            Reply::Examined(calls::examine(&mut client, session, salt, keys).await?)
        }
        Request::Rewrap {
            copy,
            target,
            generation,
        } => {
            let envelope = calls::rewrap(&mut client, session, &copy, *target, generation);
            Reply::Envelope(Box::new(envelope.await?))
        }
    })
}

async fn look(
    shared: &Shared,
    keeper: &Keeper,
    version: Option<KeyVersionId>,
) -> Result<(), FleetError> {
    let mut changes = shared.changes.subscribe();
    let asked_at = shared.now_ms();
    keeper.ask_look(version)?;
    let seen = async {
        while !keeper.looked_since(version, asked_at, shared.now_ms()) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    };
    timeout(LOOK_WITHIN, seen)
        .await
        .map_err(|_elapsed| FleetError::Late)?;
    told::tell(shared, keeper, version.as_slice()).await;
    Ok(())
}

impl Reply {
    /// The copy, if it is one.
    pub(crate) fn copy(self) -> Result<RepositoryCopy, FleetError> {
        if let Self::Copy(copy) = self {
            return Ok(*copy);
        }
        Err(mixed_up())
    }

    /// Nothing, if it is that.
    pub(crate) fn done(self) -> Result<(), FleetError> {
        if let Self::Done = self {
            return Ok(());
        }
        Err(mixed_up())
    }

    /// The proof, if it is one.
    pub(crate) fn proof(self) -> Result<Proof, FleetError> {
        if let Self::Proof(proof) = self {
            return Ok(proof);
        }
        Err(mixed_up())
    }

    /// What was examined, if it is that.
    pub(crate) fn examined(self) -> Result<Vec<Examined>, FleetError> {
        if let Self::Examined(examined) = self {
            return Ok(examined);
        }
        Err(mixed_up())
    }

    /// The envelope, if it is one.
    pub(crate) fn envelope(self) -> Result<Box<Signed<Envelope>>, FleetError> {
        if let Self::Envelope(envelope) = self {
            return Ok(envelope);
        }
        Err(mixed_up())
    }
}

/// An answer to another question: of another program's version.
fn mixed_up() -> FleetError {
    FleetError::Unreachable {
        why: "the holder of the keystore answered another question".to_owned(),
    }
}
