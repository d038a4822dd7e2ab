//! What a keeper is told and has not taken yet. Never more than its keystore has keys, however long nobody takes any of it: a
//! keystore that cannot be reached for days is told of every change all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::model::ids::{Generation, KeyVersionId};
use crate::model::material::{Envelope, Signed};

/// Instances that are named one by one; where more changed, everything is read again, which costs no more.
const WANTED_MAX: usize = 256;

/// An envelope, or for people why there is none.
pub(crate) type Fetched = Result<Box<Signed<Envelope>>, String>;

/// One of the things that a keeper is told.
#[derive(Debug)]
pub(crate) enum Note {
    /// Anything may be wanted of the keystore.
    Wake,
    /// Something else is wanted of these instances.
    Wanted(Vec<KeyVersionId>),
    /// Somebody asks for a look at one instance, or at the token.
    Look(Option<KeyVersionId>),
    /// Material was fetched, or not.
    Material(KeyVersionId, Generation, Fetched),
}

/// The inbox: who puts in never waits, and what is said twice is kept once.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    waiting: Mutex<Waiting>,
    bell: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    wake: bool,
    wanted: BTreeSet<KeyVersionId>,
    material: BTreeMap<KeyVersionId, (Generation, Fetched)>,
    looks: BTreeSet<Option<KeyVersionId>>,
}

impl Inbox {
    pub(crate) fn wake(&self) {
        let mut waiting = self.lock();
        waiting.wake = true;
        waiting.wanted.clear();
        drop(waiting);
        self.bell.notify_one();
    }

    pub(crate) fn wanted(&self, version: KeyVersionId) {
        let mut waiting = self.lock();
        if waiting.wake {
            return;
        }
        waiting.wanted.insert(version);
        if waiting.wanted.len() > WANTED_MAX {
            waiting.wake = true;
            waiting.wanted.clear();
        }
        drop(waiting);
        self.bell.notify_one();
    }

    pub(crate) fn look(&self, version: Option<KeyVersionId>) {
        self.lock().looks.insert(version);
        self.bell.notify_one();
    }

    pub(crate) fn material(&self, version: KeyVersionId, of: Generation, fetched: Fetched) {
        self.lock().material.insert(version, (of, fetched));
        self.bell.notify_one();
    }

    /// The next one: what is wanted first. Nothing is lost where this is dropped half way.
    pub(crate) async fn next(&self) -> Note {
        loop {
            if let Some(note) = self.lock().take() {
                return note;
            }
            self.bell.notified().await;
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        let waiting = self.lock();
        usize::from(waiting.wake)
            .saturating_add(waiting.wanted.len())
            .saturating_add(waiting.material.len())
            .saturating_add(waiting.looks.len())
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn take(&mut self) -> Option<Note> {
        if std::mem::take(&mut self.wake) {
            return Some(Note::Wake);
        }
        if !self.wanted.is_empty() {
            let wanted = std::mem::take(&mut self.wanted);
            return Some(Note::Wanted(wanted.into_iter().collect()));
        }
        if let Some((version, (generation, fetched))) = self.material.pop_first() {
            return Some(Note::Material(version, generation, fetched));
        }
        self.looks.pop_first().map(Note::Look)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use crate::coordinator::reconcile::inbox::*;

    fn version(number: usize) -> KeyVersionId {
        KeyVersionId::from_uuid(Uuid::from_u128(u128::try_from(number).unwrap()))
    }

    #[tokio::test]
    async fn nobody_takes_anything_for_days_and_it_stays_small() {
        let inbox = Inbox::default();
        for turn in 0..100_000 {
            inbox.wanted(version(turn % 10));
            inbox.look(Some(version(turn % 3)));
            inbox.material(version(turn % 5), Generation(1), Err(String::new()));
        }
        assert_eq!(inbox.len(), 10 + 3 + 5);
        for number in 0..=WANTED_MAX {
            inbox.wanted(version(number));
        }
        assert_eq!(inbox.len(), 1 + 3 + 5, "everything is read again instead");
        inbox.wanted(version(1));
        inbox.wake();
        assert!(matches!(inbox.next().await, Note::Wake), "said once");
        assert!(matches!(inbox.next().await, Note::Material(..)));
    }

    #[tokio::test]
    async fn what_is_put_in_while_somebody_waits_wakes_him() {
        let inbox = std::sync::Arc::new(Inbox::default());
        let waits = tokio::spawn({
            let inbox = std::sync::Arc::clone(&inbox);
            async move { inbox.next().await }
        });
        tokio::task::yield_now().await;
        inbox.wanted(version(7));
        let note = waits.await.unwrap();
        assert!(matches!(note, Note::Wanted(of) if of == [version(7)]));
        assert_eq!(inbox.len(), 0);
    }
}
