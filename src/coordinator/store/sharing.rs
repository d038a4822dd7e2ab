//! What several coordinators tell each other through the store that they share: who has which keystore, what its session knows,
//! what one is asked to do for another, and hints.
//!
//! All of it may be lost or late and nothing is wrong: what is wanted is in the records, what is done is fenced by the agents.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::coordinator::store::StoreError;
use crate::model::ids::{KeyVersionId, KeystoreId, Term};

/// What a round of sharing out came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Round {
    /// Keystores whose lease this coordinator holds now.
    pub held: BTreeSet<KeystoreId>,
    /// Those of them that are more than its share: to be let go when nothing is done with them any more.
    pub surplus: Vec<KeystoreId>,
    /// Where people reach the holders of the others.
    pub others: BTreeMap<KeystoreId, String>,
}

/// What changed of what other coordinators' sessions know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct News {
    /// Give it to the next call: the database's time.
    pub cursor: i64,
    /// Every keystore that another coordinator holds and has told of under its present term.
    pub lines: Vec<Line>,
    /// Instances that changed since the last call.
    pub instances: Vec<InstanceNews>,
}

/// What a session knows of its keystore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Which.
    pub keystore: KeystoreId,
    /// The lease under which it was told.
    pub term: Term,
    /// How long ago the holder confirmed it, milliseconds.
    pub age_ms: u64,
    /// Age of the last complete scan, milliseconds, as of now.
    pub scan_age_ms: Option<u64>,
    /// The record, if it changed.
    pub record: Option<String>,
}

/// What a session knows of an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceNews {
    /// On which keystore.
    pub keystore: KeystoreId,
    /// Of which version.
    pub version: KeyVersionId,
    /// The lease under which it was told.
    pub term: Term,
    /// How long ago it was told, milliseconds.
    pub age_ms: u64,
    /// The record.
    pub record: String,
}

/// What a holder tells.
#[derive(Debug, Clone, Default)]
pub struct Telling {
    /// The lease's term.
    pub term: Term,
    /// What is known of line and token, if it changed.
    pub line: Option<String>,
    /// Age of the last complete scan, milliseconds.
    pub scan_age_ms: Option<u64>,
    /// Instances that changed.
    pub instances: Vec<(KeyVersionId, String)>,
}

/// Something that the holder of a keystore is asked to do for another coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errand {
    /// Its id.
    pub id: Uuid,
    /// On which keystore.
    pub keystore: KeystoreId,
    /// What.
    pub request: String,
}

/// A hint: the timers would find it too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hint {
    /// Something is wanted of this keystore.
    Wake(KeystoreId),
    /// Something was told of a session.
    Live,
    /// An errand is there or was done.
    Errand,
}

/// The shared part of a store. A store that serves one coordinator has none.
#[async_trait]
pub trait Sharing: Send + Sync + std::fmt::Debug {
    /// How long a lease lasts without a round.
    fn lasts(&self) -> Duration;
    /// Renews what is held and confirms what was told of it, with the ages of the last scans; lets these go, takes what nobody
    /// holds up to a fair share.
    async fn round(
        &self,
        let_go: &[KeystoreId],
        scans: &[(KeystoreId, Option<u64>)],
    ) -> Result<Round, StoreError>;
    /// Lets all go.
    async fn leave(&self) -> Result<(), StoreError>;

    /// Tells what the session of a keystore knows. Nothing happens under a term that is not the lease's any more.
    async fn tell(&self, keystore: KeystoreId, telling: Telling) -> Result<(), StoreError>;
    /// What others told since a cursor; 0: all.
    async fn news(&self, cursor: i64) -> Result<News, StoreError>;

    /// Leaves an errand for the holder of its keystore; it is forgotten after `within`.
    async fn errand_put(&self, errand: Errand, within: Duration) -> Result<(), StoreError>;
    /// The answer, once it is there; then the errand is gone.
    async fn errand_answer(&self, id: Uuid) -> Result<Option<String>, StoreError>;
    /// Errands for what this coordinator holds, each given once.
    async fn errands(&self) -> Result<Vec<Errand>, StoreError>;
    /// Leaves the answer.
    async fn errand_done(&self, id: Uuid, answer: String) -> Result<(), StoreError>;

    /// Gives a hint to all coordinators.
    async fn hint(&self, hint: Hint) -> Result<(), StoreError>;
    /// Hints of all coordinators, this one too.
    fn hints(&self) -> broadcast::Receiver<Hint>;
}
