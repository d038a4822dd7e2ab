//! Whether anything may be enabled: not while the store may be older than what its agents know (promises 2.6).
//!
//! What an agent knows and the store cannot have forgotten is kept in the store, and holds everything back until an operator has
//! looked. After a start nothing is enabled before every keystore was tried once: the one that would tell must not be the last.
//! Coordinators that share a store try their own keystores, and read with each lease round what the others found.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use crate::clock::{self, Monotonic};
use crate::coordinator::reconcile::fleet::Shared;
use crate::coordinator::store::{Change, StoreError, Write};
use crate::model::audit::AuditEntry;
use crate::model::ids::{KeystoreId, OperationId, Revision, Term};
use crate::model::recovery::{EVIDENCE_MAX, Evidence, Recovery};
use crate::tls::error::chain;

/// A keystore that neither answers nor fails is not waited for any longer.
const HOLD_MAX: Duration = Duration::from_secs(15);

/// How often evidence is added to what others have found meanwhile.
const KEEP_TRIES: u32 = 5;

/// What holds back.
#[derive(Debug)]
pub(crate) struct Guard {
    started: Monotonic,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    recovery: Option<Recovery>,
    /// Whether the store says so too, as far as is known.
    is_kept: bool,
    /// +1 with each change of the two above: what was read from the store before it counts for nothing.
    changes: u64,
    untried: BTreeSet<KeystoreId>,
}

impl Guard {
    /// What the store says, and the keystores that are to be tried.
    pub(crate) fn new(recovery: Option<Recovery>, keystores: BTreeSet<KeystoreId>) -> Self {
        if let Some(recovery) = &recovery {
            tell(recovery);
        }
        Self {
            started: Monotonic::now(),
            state: Mutex::new(State {
                is_kept: recovery.is_some(),
                recovery,
                changes: 0,
                untried: keystores,
            }),
        }
    }

    /// Whether nothing may be enabled now.
    pub(crate) fn gathers(&self) -> bool {
        let state = self.lock();
        state.recovery.is_some() || (!state.untried.is_empty() && self.started.elapsed() < HOLD_MAX)
    }

    /// Whether the store is known to be older than its agents.
    pub(crate) fn is_behind(&self) -> bool {
        self.lock().recovery.is_some()
    }

    /// A keystore has told all it knows, or cannot be reached. True for the last of them.
    pub(crate) fn tried(&self, keystore: KeystoreId) -> bool {
        let mut state = self.lock();
        state.untried.remove(&keystore) && state.untried.is_empty()
    }

    /// These are to be tried too; after [`HOLD_MAX`] they hold nothing back.
    pub(crate) fn expect(&self, keystores: impl IntoIterator<Item = KeystoreId>) {
        self.lock().untried.extend(keystores);
    }

    /// An operator has looked.
    pub(crate) fn lift(&self) {
        self.lock().put(None, false);
    }

    /// To be taken before the store is read, for [`Self::follow`].
    pub(crate) fn mark(&self) -> u64 {
        self.lock().changes
    }

    /// Takes over what was read from the store since that mark, unless more is known by now: another coordinator may have
    /// found evidence, or its operator may have looked. What only this process knows goes on to count. Whether anything changed.
    pub(crate) fn follow(&self, mark: u64, read: Option<Recovery>) -> bool {
        let mut state = self.lock();
        let known_alone = state.recovery.is_some() && !state.is_kept;
        if state.changes != mark || state.recovery == read || (read.is_none() && known_alone) {
            return false;
        }
        if let (None, Some(news)) = (&state.recovery, &read) {
            tell(news);
        }
        let is_kept = read.is_some();
        state.put(read, is_kept);
        true
    }

    /// The store has it now, if nothing changed since.
    fn kept(&self, revision: Revision) {
        let mut state = self.lock();
        if state.recovery.as_ref().map(|known| known.revision) == Some(revision) {
            state.is_kept = true;
            state.changes = state.changes.wrapping_add(1);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes evidence in: it counts at once; the recovery that is to be kept, if it is news.
    fn take(&self, evidence: Evidence) -> Option<(Recovery, Option<Revision>)> {
        let mut state = self.lock();
        let before = state.recovery.as_ref();
        let expected = before.map(|known| known.revision);
        let mut known = before.cloned().unwrap_or_else(|| Recovery {
            revision: Revision(0),
            noticed_at: clock::unix_ms(),
            evidence: Vec::new(),
        });
        if known.evidence.len() >= EVIDENCE_MAX || known.evidence.contains(&evidence) {
            return None;
        }
        known.revision = Revision(known.revision.0.saturating_add(1));
        known.evidence.push(evidence);
        if expected.is_none() {
            tell(&known);
        }
        state.put(Some(known.clone()), false);
        Some((known, expected))
    }

    /// Adds what is known here to what the store says now: what is to be kept, if the store does not say it all.
    fn join(&self, read: Option<Recovery>) -> Option<(Recovery, Option<Revision>)> {
        let mut state = self.lock();
        let known = state.recovery.take()?;
        let expected = read.as_ref().map(|read| read.revision);
        let mut joined = read.unwrap_or_else(|| Recovery {
            revision: Revision(0),
            noticed_at: known.noticed_at,
            evidence: Vec::new(),
        });
        let before = joined.evidence.len();
        for evidence in known.evidence {
            if joined.evidence.len() < EVIDENCE_MAX && !joined.evidence.contains(&evidence) {
                joined.evidence.push(evidence);
            }
        }
        if joined.evidence.len() == before {
            state.put(Some(joined), true);
            return None;
        }
        joined.revision = Revision(joined.revision.0.saturating_add(1));
        state.put(Some(joined.clone()), false);
        Some((joined, expected))
    }
}

impl State {
    fn put(&mut self, recovery: Option<Recovery>, is_kept: bool) {
        self.recovery = recovery;
        self.is_kept = is_kept;
        self.changes = self.changes.wrapping_add(1);
    }
}

fn tell(recovery: &Recovery) {
    let why = recovery.evidence.first().map(ToString::to_string);
    tracing::error!(
        why = why.unwrap_or_default(),
        "the store is older than its agents: nothing is enabled until `lockstep recover`"
    );
}

/// An agent knows what the store cannot have forgotten by itself.
pub(crate) async fn note(shared: &Shared, evidence: Evidence) {
    if let Evidence::Stranger {
        keystore, version, ..
    } = &evidence
    {
        match shared.store.strangers(*keystore).await {
            Ok(seen) if seen.iter().any(|one| one.version == *version) => return,
            Ok(_) => {}
            Err(error) => tracing::warn!(error = chain(&error), "cannot read the store"),
        }
    }
    let mut next = shared.guard.take(evidence);
    for _try in 0..KEEP_TRIES {
        let Some((record, expected)) = next else {
            return;
        };
        shared.changed();
        // It counts without the store too; after a restart the agents show it again.
        match keep(shared, record, expected).await {
            Ok(again) => next = again,
            Err(error) => {
                tracing::warn!(
                    error = chain(&error),
                    "cannot keep why the store is taken to be old"
                );
                return;
            }
        }
    }
}

/// Reads what other coordinators found, or that an operator has looked. What cannot be read is read with the next round.
pub(crate) async fn refresh(shared: &Shared) {
    let mark = shared.guard.mark();
    match shared.store.recovery().await {
        Ok(read) => {
            if shared.guard.follow(mark, read) {
                shared.wake_all();
                shared.changed();
            }
        }
        Err(error) => tracing::warn!(error = chain(&error), "cannot read the store"),
    }
}

/// A lease above every earlier one. An agent that has served under a term which this store never gave shows that the store is
/// an old copy, unless a rival took the agent from this very process.
pub(crate) async fn lease(
    shared: &Shared,
    keystore: KeystoreId,
    served: Term,
    has_rival: bool,
) -> Result<Term, StoreError> {
    let term = shared.store.lease_take(keystore, Term::default()).await?;
    if term > served {
        return Ok(term);
    }
    if !has_rival {
        let evidence = Evidence::HigherTerm {
            keystore,
            served,
            given: term,
        };
        note(shared, evidence).await;
    }
    shared.store.lease_take(keystore, served).await
}

/// Keeps it; what is to be kept instead where others have found evidence meanwhile.
async fn keep(
    shared: &Shared,
    record: Recovery,
    expected: Option<Revision>,
) -> Result<Option<(Recovery, Option<Revision>)>, StoreError> {
    let revision = record.revision;
    match shared.store.commit(change(record, expected)).await {
        Ok(_new) => {
            shared.guard.kept(revision);
            Ok(None)
        }
        Err(StoreError::Conflict { .. }) => Ok(shared.guard.join(shared.store.recovery().await?)),
        Err(error) => Err(error),
    }
}

fn change(record: Recovery, expected: Option<Revision>) -> Change {
    let detail = record.evidence.last().map(ToString::to_string);
    let audit = AuditEntry {
        at: clock::unix_ms(),
        actor: "reconciler".to_owned(),
        action: "store.behind".to_owned(),
        subject: "store".to_owned(),
        operation: OperationId::from_uuid(Uuid::new_v4()),
        intents: Vec::new(),
        detail: detail.unwrap_or_default(),
        bulk: None,
    };
    Change {
        operation: None,
        writes: vec![Write::RecoveryPut {
            record: Some(record),
            expected,
        }],
        audit: vec![audit],
    }
}

#[cfg(test)]
mod tests {
    use crate::coordinator::reconcile::guard::*;

    fn keystore(number: u8) -> KeystoreId {
        KeystoreId::from_uuid(Uuid::from_bytes([number; 16]))
    }

    fn term(served: u64) -> Evidence {
        Evidence::HigherTerm {
            keystore: keystore(1),
            served: Term(served),
            given: Term(1),
        }
    }

    #[test]
    fn nothing_is_enabled_before_every_keystore_was_tried() {
        let guard = Guard::new(None, BTreeSet::from([keystore(1), keystore(2)]));
        assert!(guard.gathers());
        assert!(!guard.tried(keystore(3)), "one that was added meanwhile");
        assert!(!guard.tried(keystore(1)));
        assert!(guard.gathers());
        assert!(guard.tried(keystore(2)), "the last one");
        assert!(!guard.gathers());
        assert!(!guard.tried(keystore(2)), "told once");
    }

    #[test]
    fn evidence_counts_at_once_and_until_an_operator_has_looked() {
        let guard = Guard::new(None, BTreeSet::new());
        let (kept, expected) = guard.take(term(5)).unwrap();
        assert!(guard.gathers() && guard.is_behind());
        assert_eq!((kept.revision, expected), (Revision(1), None));
        assert_eq!(guard.take(term(5)), None, "no news");
        let (kept, expected) = guard.take(term(6)).unwrap();
        assert_eq!((kept.revision, expected), (Revision(2), Some(Revision(1))));
        assert_eq!(kept.evidence, [term(5), term(6)]);
        let again = Guard::new(Some(kept), BTreeSet::new());
        assert!(again.gathers(), "after a restart too");
        guard.lift();
        assert!(!guard.gathers() && !guard.is_behind());
    }

    #[test]
    fn what_other_coordinators_found_counts_here_and_what_their_operators_decided() {
        let (here, there) = (
            Guard::new(None, BTreeSet::new()),
            Guard::new(None, BTreeSet::new()),
        );
        let (first, _) = there.take(term(5)).unwrap();
        assert!(here.follow(here.mark(), Some(first.clone())));
        assert!(here.gathers() && here.is_behind());
        assert!(!here.follow(here.mark(), Some(first.clone())), "no news");
        assert!(here.follow(here.mark(), None), "an operator looked there");
        assert!(!here.gathers());
        // Two find evidence at once: the second adds its own to the first one's.
        let mark = here.mark();
        let (own, expected) = here.take(term(6)).unwrap();
        assert_eq!((own.revision, expected), (Revision(1), None));
        assert!(!here.follow(mark, None), "read before it was known");
        assert!(!here.follow(here.mark(), None), "not in the store yet");
        assert!(here.is_behind());
        let (both, expected) = here.join(Some(first)).unwrap();
        assert_eq!((both.revision, expected), (Revision(2), Some(Revision(1))));
        assert_eq!(both.evidence, [term(5), term(6)]);
        here.kept(both.revision);
        assert_eq!(here.join(Some(both)), None, "the store says it all");
        assert!(here.follow(here.mark(), None));
        assert!(!here.is_behind());
    }

    #[test]
    fn enough_is_enough() {
        let guard = Guard::new(None, BTreeSet::new());
        let kept = (0..100).filter(|&served| guard.take(term(served)).is_some());
        assert_eq!(kept.count(), EVIDENCE_MAX);
    }
}
