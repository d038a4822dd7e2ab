//! What a session showed is kept for the time when its agent cannot be reached, and told to the coordinators that share the
//! store. Both are for people alone: nothing is decided by it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::clock;
use crate::coordinator::ops::fleet::LiveKeystore;
use crate::coordinator::reconcile::fleet::Shared;
use crate::coordinator::reconcile::keeper::Keeper;
use crate::coordinator::reconcile::mirror::Account;
use crate::coordinator::store::sharing::{Hint, Telling};
use crate::decide::status::seen;
use crate::failpoint::{self, Point};
use crate::model::desired::Instance;
use crate::model::ids::{KeyVersionId, Term};
use crate::model::live::{Connection, LastSeen, Live};
use crate::model::vault::UnixMs;
use crate::tls::error::chain;

/// What other coordinators were told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Under this term: under another one it counts for nothing.
    under: Term,
    /// Whether every instance was told.
    all: bool,
    line: String,
}

/// Tells other coordinators what the session knows: of line and token what changed, of these instances all; of every
/// instance when the agent has first reported everything under a term. Nothing is lost if it fails: it is told again.
pub(crate) async fn tell(shared: &Shared, keeper: &Keeper, versions: &[KeyVersionId]) {
    let Some(store) = shared.store.sharing() else {
        return;
    };
    let telling = telling(keeper, shared.now_ms(), versions);
    let Some(telling) = telling else { return };
    if telling.line.is_none() && telling.instances.is_empty() {
        return;
    }
    match store.tell(keeper.keystore(), telling).await {
        Ok(()) => {
            let _lost = store.hint(Hint::Live).await;
        }
        Err(error) => {
            keeper.lock().told = Told::default();
            tracing::debug!(keystore = %keeper.keystore(), error = chain(&error), "not told");
        }
    }
}

fn telling(keeper: &Keeper, now_ms: u64, versions: &[KeyVersionId]) -> Option<Telling> {
    let mut strangers = keeper.strangers();
    for stranger in &mut strangers {
        // What is as it was is not told again.
        (stranger.look_age_ms, stranger.proof_age_ms) = (0, 0);
    }
    let line = Account {
        live: LiveKeystore {
            scan_age_ms: None,
            ..keeper.live_keystore(now_ms)
        },
        strangers,
    };
    let line = serde_json::to_string(&line).ok()?;
    let mut state = keeper.lock();
    if state.told.under != state.term {
        state.told = Told {
            under: state.term,
            ..Told::default()
        };
    }
    let is_live = *state.machine.connection() == Connection::Live;
    let all: Vec<KeyVersionId> = if is_live && !state.told.all {
        state.told.all = true;
        state.machine.desired().keys().copied().collect()
    } else {
        Vec::new()
    };
    let told = match (is_live, all.is_empty()) {
        (true, true) => versions,
        (true, false) => all.as_slice(),
        (false, _) => &[],
    };
    let record = |version: &KeyVersionId| {
        let live = state.machine.live(*version, now_ms);
        Some((*version, serde_json::to_string(&live).ok()?))
    };
    let telling = Telling {
        term: state.term,
        scan_age_ms: state.machine.known().scan_age_ms(now_ms),
        instances: told.iter().filter_map(record).collect(),
        line: (line != state.told.line).then(|| line.clone()),
    };
    state.told.line = line;
    Some(telling)
}

fn last_seen(instance: &Instance, live: &Live, now: UnixMs) -> Option<LastSeen> {
    let report = live.report.as_ref()?;
    let ago = |ms: u64| UnixMs(now.0.saturating_sub(i64::try_from(ms).unwrap_or(i64::MAX)));
    Some(LastSeen {
        seen: seen(instance, &report.observation),
        at: ago(live.look_age_ms),
        proved_at: report.proof.as_ref().map(|_| ago(report.proof_age_ms)),
        proof: report.proof.as_ref().map_or_else(String::new, |proof| {
            format!("{} answered {}", proof.operation, proof.answer)
        }),
    })
}

/// What is to be kept of what was seen.
#[derive(Debug, Default)]
pub(crate) struct Unkept {
    /// Of these there is news; at most all of the keystore's.
    versions: BTreeSet<KeyVersionId>,
    is_under_way: bool,
}

impl Unkept {
    /// There is news of these.
    pub(crate) fn add(&mut self, versions: &[KeyVersionId]) {
        self.versions.extend(versions);
    }
}

/// Keeps beside the session what was last seen: intents do not wait for it. What comes while that is under way is kept next time.
pub(crate) fn keep_seen_soon(shared: &Arc<Shared>, keeper: &Arc<Keeper>) {
    {
        let unkept = &mut keeper.lock().unkept;
        if unkept.versions.is_empty() || unkept.is_under_way {
            return;
        }
        unkept.is_under_way = true;
    }
    let (shared, keeper) = (Arc::clone(shared), Arc::clone(keeper));
    let tasks = shared.tasks.clone();
    tasks.spawn(async move {
        keep_seen(&shared, &keeper).await;
        keeper.lock().unkept.is_under_way = false;
    });
}

/// Keeps what was last seen, for the time when the agent cannot be reached. A cache: failing to write it is no failure.
pub(crate) async fn keep_seen(shared: &Shared, keeper: &Keeper) {
    let now_ms = shared.now_ms();
    let at = clock::unix_ms();
    let seen: Vec<(KeyVersionId, LastSeen)> = {
        let mut state = keeper.lock();
        let versions = std::mem::take(&mut state.unkept.versions);
        let rows = versions.iter().filter_map(|version| {
            let instance = state.machine.desired().get(version)?;
            let live = state.machine.live(*version, now_ms);
            Some((*version, last_seen(instance, &live, at)?))
        });
        rows.collect()
    };
    if seen.is_empty() {
        return;
    }
    if let Err(error) = shared.store.seen_put(keeper.keystore(), seen).await {
        tracing::warn!(keystore = %keeper.keystore(), error = chain(&error), "last seen not kept");
    }
    failpoint::reach(Point::ReportStored);
}
