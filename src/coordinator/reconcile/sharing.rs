//! Shares the keystores out among the coordinators of one store: keeps those whose lease it holds, leaves the others alone.
//!
//! ```text
//! steward: round (renew, take what is free) ─▶ start and stop keepers; without a round in time: stop them all
//! courier: hints and a timer ─▶ wake keepers, read what others told, do what others ask
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use crate::coordinator::reconcile::fleet::Shared;
use crate::coordinator::reconcile::lease::Lease;
use crate::coordinator::reconcile::mirror::Mirror;
use crate::coordinator::reconcile::{errands, guard};
use crate::coordinator::store::sharing::{Hint, Round, Sharing};
use crate::model::ids::KeystoreId;
use crate::tls::error::chain;

/// Between reads of what others told or ask, when no hint came.
const POLL: Duration = Duration::from_millis(1000);

/// What hints bring together is read once in this time.
const GATHER: Duration = Duration::from_millis(50);

/// How long a keeper may take to end before its keystore is let go.
const END_WITHIN: Duration = Duration::from_secs(2);

/// What the tasks share.
#[derive(Debug)]
pub(crate) struct Shares {
    pub(crate) lease: Arc<Lease>,
    pub(crate) mirror: Mutex<Mirror>,
    others: Mutex<BTreeMap<KeystoreId, String>>,
    /// Tells the steward that there may be a keystore to take.
    pub(crate) poke: Notify,
}

impl Shares {
    pub(crate) fn new(lease: Arc<Lease>) -> Self {
        Self {
            lease,
            mirror: Mutex::default(),
            others: Mutex::default(),
            poke: Notify::new(),
        }
    }

    pub(crate) fn mirror(&self) -> MutexGuard<'_, Mirror> {
        self.mirror.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where people reach the holder of a keystore, if it is not this coordinator.
    pub(crate) fn holder(&self, keystore: KeystoreId) -> Option<String> {
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        others.get(&keystore).cloned()
    }

    fn set_others(&self, holders: BTreeMap<KeystoreId, String>) {
        *self.others.lock().unwrap_or_else(PoisonError::into_inner) = holders;
    }
}

/// Takes part until the process stops, then lets all go.
pub(crate) async fn steward(shared: Arc<Shared>) {
    let (Some(store), Some(shares)) = (shared.store.sharing(), &shared.shares) else {
        return;
    };
    let lasts = store.lasts();
    // Five rounds in a lease; it ends for us a sixth earlier than for the others.
    let (pace, margin) = (lasts / 5, lasts / 6);
    let mut let_go = Vec::new();
    loop {
        let asked_ms = shared.now_ms();
        let round = timeout(lasts / 3, store.round(&let_go, &shared.scan_ages())).await;
        match round {
            Ok(Ok(round)) => {
                let usable = lasts.saturating_sub(margin).as_millis();
                let usable = u64::try_from(usable).unwrap_or(u64::MAX);
                shares.lease.renew(asked_ms.saturating_add(usable));
                let _late = timeout(lasts / 6, guard::refresh(&shared)).await;
                let_go = keep(&shared, shares, round).await;
                if !let_go.is_empty() {
                    continue;
                }
            }
            Ok(Err(error)) => tracing::warn!(error = chain(&error), "leases not renewed"),
            Err(_elapsed) => tracing::warn!("leases not renewed: the store does not answer"),
        }
        if !shares.lease.holds() {
            // What was held may be another's by now.
            let all = shared.kept();
            if !all.is_empty() {
                tracing::warn!(keystores = all.len(), "leases ran out: sessions end");
                end(&shared, &all).await;
                shared.changed();
            }
        }
        let left = Duration::from_millis(shares.lease.left_ms().max(1));
        let wait = if shares.lease.holds() {
            pace.min(left)
        } else {
            pace
        };
        tokio::select! {
            () = shared.stop.cancelled() => break,
            () = shares.poke.notified() => {}
            () = sleep(wait) => {}
        }
    }
    let all = shared.kept();
    end(&shared, &all).await;
    if let Ok(Err(error)) = timeout(lasts, store.leave()).await {
        tracing::warn!(error = chain(&error), "leases not let go");
    }
}

/// Keeps what is held, ends what is not; gives what is to be let go, which nothing is done with any more.
async fn keep(shared: &Arc<Shared>, shares: &Shares, round: Round) -> Vec<KeystoreId> {
    let surplus: BTreeSet<KeystoreId> = round.surplus.iter().copied().collect();
    let gone: Vec<KeystoreId> = shared
        .kept()
        .into_iter()
        .filter(|keystore| !round.held.contains(keystore) || surplus.contains(keystore))
        .collect();
    end(shared, &gone).await;
    let mut is_new = !gone.is_empty();
    let kept: Vec<KeystoreId> = round.held.difference(&surplus).copied().collect();
    let kept_before = shared.kept();
    let news = kept
        .iter()
        .filter(|keystore| !kept_before.contains(keystore));
    shared.guard.expect(news.copied());
    for keystore in kept {
        is_new |= shared.start_keeping(keystore);
    }
    shares.set_others(round.others);
    if is_new {
        let kept = shared.kept().len();
        tracing::info!(kept, let_go = surplus.len(), "keystores were shared out");
        shared.changed();
    }
    round.surplus
}

/// Ends keepers and waits until they have ended.
async fn end(shared: &Shared, keystores: &[KeystoreId]) {
    let ended: Vec<_> = keystores
        .iter()
        .filter_map(|keystore| shared.stop_keeping(*keystore))
        .collect();
    for keeper in ended {
        let _late = timeout(END_WITHIN, keeper.ended()).await;
        // It is for whoever comes after to try it.
        if shared.guard.tried(keeper.keystore()) {
            shared.wake_all();
        }
    }
}

/// Carries hints, news and errands until the process stops.
pub(crate) async fn courier(shared: Arc<Shared>) {
    let Some(store) = shared.store.sharing() else {
        return;
    };
    let mut hints = store.hints();
    loop {
        let hint = tokio::select! {
            () = shared.stop.cancelled() => return,
            hint = timeout(POLL, hints.recv()) => hint,
        };
        let (mut live, mut errand) = (false, false);
        let mut next = match hint {
            Ok(hint) => hint.ok(),
            // No hint, or some were lost: the timer finds it all.
            Err(_elapsed) => None,
        };
        if next.is_none() {
            (live, errand) = (true, true);
        } else {
            sleep(GATHER).await;
        }
        while let Some(hint) = next {
            match hint {
                Hint::Wake(keystore) => shared.wake_if_kept(keystore),
                Hint::Live => live = true,
                Hint::Errand => errand = true,
            }
            next = hints.try_recv().ok();
        }
        if errand {
            errands::serve(&shared, store).await;
        }
        if live {
            refresh(&shared, store).await;
        }
    }
}

/// Reads what the others told.
pub(crate) async fn refresh(shared: &Shared, store: &dyn Sharing) {
    let Some(shares) = &shared.shares else { return };
    let cursor = shares.mirror().cursor;
    match store.news(cursor).await {
        Ok(news) => {
            let is_new = shares.mirror().take(news, shared.now_ms());
            if is_new {
                shared.changed();
            }
        }
        Err(error) => tracing::debug!(error = chain(&error), "cannot read what others told"),
    }
}
