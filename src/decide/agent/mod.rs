//! THE AGENT AS A STATE MACHINE, sans-IO: inputs in, outputs out, carried out in order by the process around it.
//!
//! Owns: the fence, the order journal → look → steps → read-back → done → report, the one live session, when to look and
//! what to believe of it (promises 1.2).
//! Never: awaits, reads a clock, draws a random number, touches the token before the intent is durable (R4).
//!
//! A crash is dropping the machine; [`Machine::recover`] is its only constructor.

pub mod io;
pub mod record;

use crate::decide::agent::io::{Input, Output, Setup};
use crate::decide::agent::record::JournalRecord;
use crate::model::ids::SessionNumber;
use crate::model::keystore::Health;

/// The agent of one keystore.
#[derive(Debug)]
pub struct Machine {
    setup: Setup,
    health: Health,
    session: Option<SessionNumber>,
}

impl Machine {
    /// The machine as the journal left it. `records` in the order in which they were written; `now_ms` is a clock that never
    /// goes back while the process runs. Give it [`Input::Tick`] next.
    #[must_use]
    pub fn recover(setup: Setup, records: Vec<JournalRecord>, now_ms: u64) -> Self {
        let _unused = (records, now_ms);
        Self {
            setup,
            health: Health::Starting,
            session: None,
        }
    }

    /// Takes one input and appends what is to be done.
    pub fn step(&mut self, now_ms: u64, input: Input, out: &mut Vec<Output>) {
        let _unused = (now_ms, input, out, &self.setup);
    }

    /// How well the token is, for `Describe` and the health service.
    #[must_use]
    pub const fn health(&self) -> &Health {
        &self.health
    }

    /// Number of the live session: unary calls with another one are refused.
    #[must_use]
    pub const fn session(&self) -> Option<SessionNumber> {
        self.session
    }

    /// The fewest records that recover to what was recovered: the process may rewrite its journal with them at a start,
    /// before the first step.
    #[must_use]
    pub fn records(&self) -> Vec<JournalRecord> {
        Vec::new()
    }
}
