//! Use cases: everything that people and programs can ask, a file per noun. REST, console and CLI enter here.
//!
//! Owns: authorising, asking `model` and `decide` whether and what, writing the change in one commit, waking keystores; and the
//! port [`fleet::Fleet`]. Never: speaks HTTP, SQL or gRPC; never sends anything before the commit.
//!
//! The way of each change: authorise (`access`), read, check If-Match and the transition, write record, intents, audit
//! entry and operation in ONE `Store::commit` (`commit`), wake the keystores concerned, answer with what is known now.

pub mod access;
pub mod adopt;
mod adopting;
pub mod audit;
pub mod auth;
pub mod backup;
pub mod birth;
pub mod bulk;
pub mod bulk_plan;
pub mod bulk_run;
pub mod calendar;
pub mod commit;
pub mod dates;
pub mod differences;
pub(crate) mod distribution;
pub mod doctor;
pub mod drift;
pub mod entropy;
pub mod errors;
pub mod fleet;
pub mod found;
pub mod ignore;
pub mod intents;
pub mod kek_rotation;
mod key_change;
pub mod keys;
mod keystore_findings;
pub mod keystore_removal;
pub mod keystores;
pub mod lifecycle;
pub mod lists;
mod material;
pub mod metrics;
pub mod naming;
pub mod plan;
pub mod ready;
pub mod recovery;
pub mod repository;
pub mod rotate;
pub mod schedule;
pub mod sessions;
pub mod status;
mod strategies;
pub mod sync;
pub mod targets;
pub mod templates;
pub mod vaults;
pub mod words;

use std::sync::Arc;

use tokio::sync::{Mutex, Notify};

use crate::clock::{Monotonic, WallClock};
use crate::coordinator::ops::bulk_run::Riding;
use crate::coordinator::ops::entropy::Entropy;
use crate::coordinator::ops::fleet::Fleet;
use crate::coordinator::ops::metrics::Measured;
use crate::coordinator::store::Store;
use crate::decide::coordinator::LATE_AFTER_MS;

/// The use cases, over a store and a fleet.
#[derive(Debug, Clone)]
pub struct Ops {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) fleet: Arc<dyn Fleet>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) limits: Limits,
    pub(crate) clock: WallClock,
    /// What is written with the next change: the row of a bulk change that it belongs to.
    pub(crate) riding: Option<Riding>,
    /// Told when a bulk change is made or resumed.
    pub(crate) bulk_begins: Arc<Notify>,
    /// The last measurement, and when it was taken.
    pub(crate) measured: Arc<Mutex<Option<(Monotonic, Measured)>>>,
}

/// How much of anything there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Groups of one keystore.
    pub groups_max: usize,
    /// Targets of one key: each costs an intent in the one transaction of a change.
    pub targets_max: usize,
    /// Longest time a request waits for convergence, seconds.
    pub wait_s_max: u64,
    /// A change of ours that takes longer than this is called late, milliseconds.
    pub late_after_ms: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            groups_max: 100,
            targets_max: 1000,
            wait_s_max: 60,
            late_after_ms: LATE_AFTER_MS,
        }
    }
}

impl Ops {
    /// Joins a store, a fleet and a source of randomness.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        fleet: Arc<dyn Fleet>,
        entropy: Arc<dyn Entropy>,
        limits: Limits,
    ) -> Self {
        Self {
            store,
            fleet,
            entropy,
            limits,
            clock: WallClock::system(),
            riding: None,
            bulk_begins: Arc::default(),
            measured: Arc::default(),
        }
    }

    /// The same by another clock: dates act by what it says.
    #[must_use]
    pub fn by_clock(self, clock: WallClock) -> Self {
        Self { clock, ..self }
    }

    /// The agents, for pages that show their lines.
    #[must_use]
    pub fn fleet(&self) -> &dyn Fleet {
        self.fleet.as_ref()
    }
}
