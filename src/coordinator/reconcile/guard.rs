//! Whether anything may be enabled: not while the store may be older than what its agents know (promises 2.6).
//!
//! What an agent knows and the store cannot have forgotten is kept in the store, and holds everything back until an operator has
//! looked. After a start nothing is enabled before every keystore was tried once: the one that would tell must not be the last.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use crate::clock::{self, Monotonic};
use crate::coordinator::reconcile::fleet::Shared;
use crate::coordinator::store::{Change, Store, StoreError, Write};
use crate::model::audit::AuditEntry;
use crate::model::ids::{KeystoreId, OperationId, Revision, Term};
use crate::model::recovery::{EVIDENCE_MAX, Evidence, Recovery};
use crate::tls::error::chain;

/// A keystore that neither answers nor fails is not waited for any longer.
const HOLD_MAX: Duration = Duration::from_secs(15);

/// What holds back.
#[derive(Debug)]
pub(crate) struct Guard {
    started: Monotonic,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    recovery: Option<Recovery>,
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
                recovery,
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

    /// An operator has looked.
    pub(crate) fn lift(&self) {
        self.lock().recovery = None;
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
        state.recovery = Some(known.clone());
        Some((known, expected))
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
    let Some((record, expected)) = shared.guard.take(evidence) else {
        return;
    };
    shared.changed();
    // It counts without the store too; after a restart the agents show it again.
    if let Err(error) = keep(shared.store.as_ref(), record, expected).await {
        tracing::warn!(
            error = chain(&error),
            "cannot keep why the store is taken to be old"
        );
    }
}

/// A lease above every earlier one. An agent that has served under a term which this store never gave shows that the store is
/// an old copy.
pub(crate) async fn lease(
    shared: &Shared,
    keystore: KeystoreId,
    served: Term,
) -> Result<Term, StoreError> {
    let term = shared.store.lease_take(keystore, Term::default()).await?;
    if term > served {
        return Ok(term);
    }
    let evidence = Evidence::HigherTerm {
        keystore,
        served,
        given: term,
    };
    note(shared, evidence).await;
    shared.store.lease_take(keystore, served).await
}

async fn keep(
    store: &dyn Store,
    record: Recovery,
    expected: Option<Revision>,
) -> Result<(), StoreError> {
    let detail = record.evidence.last().map(ToString::to_string);
    let audit = AuditEntry {
        at: clock::unix_ms(),
        actor: "reconciler".to_owned(),
        action: "store.behind".to_owned(),
        subject: "store".to_owned(),
        operation: OperationId::from_uuid(Uuid::new_v4()),
        intents: Vec::new(),
        detail: detail.unwrap_or_default(),
    };
    let change = Change {
        operation: None,
        writes: vec![Write::RecoveryPut {
            record: Some(record),
            expected,
        }],
        audit: vec![audit],
    };
    store.commit(change).await.map(drop)
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
    fn enough_is_enough() {
        let guard = Guard::new(None, BTreeSet::new());
        let kept = (0..100).filter(|&served| guard.take(term(served)).is_some());
        assert_eq!(kept.count(), EVIDENCE_MAX);
    }
}
