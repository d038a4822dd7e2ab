//! THE AGENT AS A STATE MACHINE, sans-IO: inputs in, outputs out, carried out in order by the process around it.
//!
//! Owns: the fence, the order journal → look → steps → read-back → done → report, the one live session, when to look and
//! what to believe of it (promises 1.2).
//! Never: awaits, reads a clock, draws a random number, touches the token before the intent is durable (R4).
//!
//! ```text
//! intent ──fence──> journal(intent) ──durable──> queue ──> look ──effects──> steps, read-back ──> journal(done) ──> report
//!                                                  ^         |                    |
//!                                                  └─ later ─┴── retry, unknown ──┘   needs material, failed: wait for
//!                                                                                      the coordinator
//! ```
//!
//! A crash is dropping the machine; [`Machine::recover`] is its only constructor. Only what is in `instances` is ever carried
//! out, and only durable records get there: so R4 holds by construction.

mod carry;
pub mod fence;
mod health;
mod instance;
pub mod io;
mod job;
mod look;
mod prove;
mod queue;
pub mod record;
mod report;
mod scan;
mod session;
mod take;

use std::collections::{BTreeMap, BTreeSet};

use crate::decide::agent::instance::{Instance, Kept};
use crate::decide::agent::io::{Input, Output, Setup, Ticket};
use crate::decide::agent::job::Flight;
use crate::decide::agent::queue::{Lane, Queue, Task};
use crate::decide::agent::record::{JournalRecord, Phase, Record};
use crate::decide::agent::report::Telling;
use crate::decide::agent::scan::Watch;
use crate::decide::agent::session::Line;
use crate::decide::agent::take::Writing;
use crate::model::capabilities::{Capabilities, Strategy};
use crate::model::desired::{Applied, Intent};
use crate::model::ids::{KeyVersionId, SessionNumber, Term};
use crate::model::keystore::{Health, Marker};
use crate::model::vault::UnixMs;

/// The agent of one keystore.
#[derive(Debug)]
pub struct Machine {
    setup: Setup,
    /// `now_ms` at `setup.clock`.
    origin_ms: u64,
    tickets: u64,

    // As the journal holds it.
    bound: Option<Marker>,
    number: SessionNumber,
    highest: Term,
    instances: BTreeMap<KeyVersionId, Instance>,
    /// Which instance a CKA_ID belongs to, for ever.
    owners: BTreeMap<Vec<u8>, KeyVersionId>,

    // On its way to the journal.
    writing: BTreeMap<Ticket, Writing>,
    /// The newest intent per instance that is being written.
    taking: BTreeMap<KeyVersionId, Applied>,
    journal_failure: Option<String>,
    /// When the journal is tried again.
    journal_at: u64,

    // The token.
    /// What it can do; none before it was tried in this run.
    capabilities: Option<Box<Capabilities>>,
    token_health: Health,
    flight: Option<Flight>,
    queue: Queue,
    /// Instances that are tried again at a time.
    later: BTreeSet<(u64, KeyVersionId)>,
    watch: Watch,
    proving: BTreeMap<KeyVersionId, Vec<u64>>,

    // The coordinator.
    line: Line,
    telling: Telling,
    /// The last timer that was set and has not fired.
    timer: Option<u64>,
}

/// One input being handled: the time, and where outputs go.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    now: u64,
    /// When the job was begun whose outcome this is; else `now`. What a look saw counts as seen then: the answer may have
    /// been long under way.
    began: u64,
    out: &'a mut Vec<Output>,
}

impl Machine {
    /// The machine as the journal left it. `records` in the order in which they were written; `now_ms` is a clock that never
    /// goes back while the process runs. Give it [`Input::Tick`] next.
    #[must_use]
    pub fn recover(setup: Setup, records: Vec<JournalRecord>, now_ms: u64) -> Self {
        let mut machine = Self {
            setup,
            origin_ms: now_ms,
            tickets: 0,
            bound: None,
            number: SessionNumber::default(),
            highest: Term::default(),
            instances: BTreeMap::new(),
            owners: BTreeMap::new(),
            writing: BTreeMap::new(),
            taking: BTreeMap::new(),
            journal_failure: None,
            journal_at: 0,
            capabilities: None,
            token_health: Health::Starting,
            flight: None,
            queue: Queue::default(),
            later: BTreeSet::new(),
            watch: Watch::starting(now_ms),
            proving: BTreeMap::new(),
            line: Line::Closed,
            telling: Telling::default(),
            timer: None,
        };
        for JournalRecord::V1(record) in records {
            machine.replay(record);
        }
        let unfinished: Vec<_> = machine
            .instances
            .iter()
            .filter(|(_, instance)| !instance.is_done())
            .map(|(&version, instance)| (Lane::of(instance.intent.want), version))
            .collect();
        for (lane, version) in unfinished {
            machine.queue.push(lane, Task::Carry(version));
        }
        machine
    }

    fn replay(&mut self, record: Record) {
        match record {
            Record::Bound(marker) => self.bound = Some(marker),
            Record::Session { number, highest } => {
                self.number = self.number.max(number);
                self.highest = self.highest.max(highest);
            }
            Record::Intent { intent, phase } => {
                let version = intent.version;
                let newest = self.instances.get(&version);
                // A record of an older generation never comes after a newer one; if it does, it is not believed.
                if newest.is_none_or(|known| known.intent.generation <= intent.generation) {
                    self.adopt(*intent, phase);
                }
            }
        }
    }

    /// Puts a durable intent in place of the one before; what was seen of the token stays.
    fn adopt(&mut self, intent: Intent, phase: Phase) {
        let version = intent.version;
        self.owners.insert(intent.object.cka_id.clone(), version);
        let fresh = Instance::new(intent, phase);
        let sight = self.instances.remove(&version).map(|before| before.sight);
        let instance = match sight {
            Some(sight) => Instance { sight, ..fresh },
            None => fresh,
        };
        self.instances.insert(version, instance);
    }

    /// Takes one input and appends what is to be done. `now_ms` never goes back.
    pub fn step(&mut self, now_ms: u64, input: Input, out: &mut Vec<Output>) {
        let mut turn = Turn {
            now: now_ms,
            began: now_ms,
            out,
        };
        let turn = &mut turn;
        match input {
            Input::Tick => self.timer = None,
            Input::Open {
                stream,
                term,
                keystore,
                cursor,
            } => self.open(turn, stream, term, keystore, cursor),
            Input::StreamGone { stream } => self.stream_gone(stream),
            Input::Intent {
                stream,
                intent,
                envelope,
            } => self.take(turn, stream, intent, envelope),
            Input::Look { stream, version } => self.look_asked(turn, stream, version),
            Input::Heartbeat { stream, wanted: _ } => self.heartbeat(turn, stream),
            Input::JournalWritten { ticket, result } => self.written(turn, ticket, result),
            Input::Token { ticket, outcome } => self.landed(turn, ticket, outcome),
            Input::Probed(capabilities) => self.probed(capabilities),
            Input::Prove { request, version } => self.prove_asked(turn, request, version),
        }
        self.due(turn);
        self.tell(turn);
        self.dispatch(turn);
        self.set_timer(turn);
    }

    /// How well the token is, for `Describe` and the health service.
    #[must_use]
    pub fn health(&self) -> Health {
        match (&self.token_health, &self.journal_failure) {
            (Health::Ok | Health::Starting, Some(detail)) => Health::JournalFailed {
                detail: detail.clone(),
            },
            (health, _) => health.clone(),
        }
    }

    /// Number of the live session: unary calls with another one are refused.
    #[must_use]
    pub const fn session(&self) -> Option<SessionNumber> {
        match self.line {
            Line::Live { number, .. } => Some(number),
            Line::Closed | Line::Opening { .. } => None,
        }
    }

    /// How many instances the journal holds, tombstones too.
    #[must_use]
    pub fn instances(&self) -> usize {
        self.instances.len()
    }

    /// Whether nothing that was to be journaled is under way.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.writing.is_empty()
    }

    /// The fewest records that recover to what the journal says: the process may rewrite it with them at a start, and whenever
    /// [`Self::is_written`].
    #[must_use]
    pub fn records(&self) -> Vec<JournalRecord> {
        let session = Record::Session {
            number: self.number,
            highest: self.highest,
        };
        let intents = self.instances.values().map(|instance| Record::Intent {
            intent: Box::new(instance.intent.clone()),
            phase: match &instance.state {
                instance::State::Done => Phase::Done {
                    proof: instance.proof.as_ref().map(Kept::proved),
                },
                instance::State::Open(_) => Phase::Intent,
            },
        });
        self.bound
            .map(Record::Bound)
            .into_iter()
            .chain([session])
            .chain(intents)
            .map(JournalRecord::V1)
            .collect()
    }

    /// What was found decides how keys are enabled and disabled from now on; what is there is told again by it.
    fn probed(&mut self, capabilities: Box<Capabilities>) {
        if self.capabilities.as_ref() != Some(&capabilities) {
            self.capabilities = Some(capabilities);
            self.telling.dirty.extend(self.instances.keys());
        }
    }

    /// How an instance is enabled and disabled.
    fn strategy_of(&self, version: KeyVersionId) -> Strategy {
        let plan = self.instances.get(&version).map(|it| &it.intent.object);
        match (&self.capabilities, plan) {
            (Some(capabilities), Some(plan)) => capabilities.strategy(plan),
            (None, Some(plan)) => plan.strategy,
            (_, None) => Strategy::Flags,
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets = self.tickets.saturating_add(1);
        Ticket(self.tickets)
    }

    /// The wall clock, from the one that never goes back.
    fn wall(&self, now: u64) -> UnixMs {
        let since = now.saturating_sub(self.origin_ms);
        let since = i64::try_from(since).unwrap_or(i64::MAX);
        UnixMs(self.setup.clock.0.saturating_add(since))
    }

    /// Asks to be woken when the next thing is due; while the token works, its answer wakes.
    fn set_timer(&mut self, turn: &mut Turn<'_>) {
        if self.flight.is_some() {
            return;
        }
        let due = self.next_due().max(turn.now.saturating_add(1));
        if self.timer != Some(due) {
            self.timer = Some(due);
            turn.out.push(Output::Timer { at_ms: due });
        }
    }
}

#[cfg(test)]
mod tests;
