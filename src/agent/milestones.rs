//! Which failpoint belongs to what passes through the loop. Decides nothing: without failpoints all of it is nothing.

use std::io;

use crate::agent::journal::writer::JournalWriter;
use crate::agent::messages::Message;
use crate::decide::agent::io::{Input, Ticket};
use crate::decide::agent::record::{JournalRecord, Phase, Record};
use crate::failpoint::{self, Point};
use crate::model::job::{TokenAnswer, TokenJob, TokenOutcome};
use crate::model::protocol::Up;

/// What the journal is given beside a record, and gives back when it is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The machine's.
    pub ticket: Ticket,
    durable: Option<Point>,
}

impl Entry {
    /// For a record of an intent that was taken, or carried out; for others it only carries the ticket.
    const fn of(ticket: Ticket, record: &JournalRecord) -> Self {
        let JournalRecord::V1(record) = record;
        let durable = match record {
            Record::Intent { phase, .. } => Some(match phase {
                Phase::Intent => Point::Journaled,
                Phase::Done { .. } => Point::Done,
            }),
            Record::Bound(_) | Record::Session { .. } => None,
        };
        Self { ticket, durable }
    }

    /// It is durable.
    pub fn written(&self) {
        if let Some(point) = self.durable {
            failpoint::reach(point);
        }
    }
}

/// Hands a record to the journal.
///
/// # Errors
/// If its thread is gone.
pub async fn append(
    journal: &JournalWriter<JournalRecord, Entry>,
    ticket: Ticket,
    record: JournalRecord,
) -> io::Result<()> {
    let entry = Entry::of(ticket, &record);
    if entry.durable == Some(Point::Journaled) && failpoint::fails(Point::Journaling) {
        return Err(io::ErrorKind::StorageFull.into());
    }
    journal.append(vec![record], entry).await
}

/// Something came from a coordinator.
pub fn received(message: &Message) {
    let is_work = match message {
        Message::Input(Input::Intent { .. }) => true,
        Message::Call { job, .. } => matches!(job, TokenJob::Generate { .. } | TokenJob::Rewrap(_)),
        Message::Input(_) | Message::Stream { .. } | Message::Accept { .. } => false,
        Message::Prove { .. } => false,
    };
    if is_work {
        failpoint::reach(Point::Received);
    }
}

/// The outcome of a job, as the loop is to take it.
#[must_use]
pub fn read_back(outcome: TokenOutcome) -> TokenOutcome {
    if moves_keys(&outcome) && failpoint::fails(Point::ReadBack) {
        return TokenOutcome::Unknown {
            why: "a failpoint".to_owned(),
        };
    }
    outcome
}

/// Whether a job changed the token or moved key material.
fn moves_keys(outcome: &TokenOutcome) -> bool {
    let TokenOutcome::Done(answer) = outcome else {
        return false;
    };
    match answer {
        TokenAnswer::Ran(_) | TokenAnswer::Generated(_) | TokenAnswer::Rewrapped(_) => true,
        TokenAnswer::Identity(_)
        | TokenAnswer::Bound
        | TokenAnswer::Prepared(_)
        | TokenAnswer::Slice(_)
        | TokenAnswer::Inventory(_)
        | TokenAnswer::Found(_)
        | TokenAnswer::Surveyed(_)
        | TokenAnswer::TakenOver(_)
        | TokenAnswer::Keks(_)
        | TokenAnswer::Stopping => false,
    }
}

/// Says something by `say`, which tells whether it was taken. False too if it must not be said.
pub fn report(up: Up, say: impl FnOnce(Up) -> bool) -> bool {
    let tells = up.tells_of_done();
    if tells && failpoint::fails(Point::BeforeReport) {
        return false;
    }
    let said = say(up);
    if tells {
        failpoint::reach(Point::AfterReport);
    }
    said
}

/// Answers a call by `say`.
pub fn reply(outcome: TokenOutcome, say: impl FnOnce(TokenOutcome)) {
    let tells = moves_keys(&outcome);
    if tells {
        failpoint::reach(Point::BeforeReport);
    }
    say(outcome);
    if tells {
        failpoint::reach(Point::AfterReport);
    }
}
