//! The one live session: who may speak, and what dies with it (promises 0.5).

use crate::decide::agent::io::{Output, StreamId, Ticket};
use crate::decide::agent::queue::Task;
use crate::decide::agent::record::{JournalRecord, Record};
use crate::decide::agent::take::Writing;
use crate::decide::agent::{Machine, Turn};
use crate::model::ids::{KeyVersionId, KeystoreId, SessionNumber, Term};
use crate::model::protocol::{Cursor, SessionRefusal, UpBody, wanted_digest};

/// The line to the coordinator.
#[derive(Debug)]
pub(crate) enum Line {
    /// Nobody.
    Closed,
    /// A session's record is being written.
    Opening {
        /// On which stream.
        stream: StreamId,
        /// Its record.
        ticket: Ticket,
        /// Its number.
        number: SessionNumber,
        /// Its term.
        term: Term,
        /// What the coordinator holds.
        cursor: Option<Cursor>,
    },
    /// Accepted.
    Live {
        /// On which stream.
        stream: StreamId,
        /// Its number.
        number: SessionNumber,
        /// Whether all that was known has been said.
        caught_up: bool,
    },
}

impl Machine {
    /// Whether the stream is the live session's.
    pub(crate) const fn is_live(&self, stream: StreamId) -> bool {
        match self.line {
            Line::Live { stream: live, .. } => live.0 == stream.0,
            Line::Closed | Line::Opening { .. } => false,
        }
    }

    /// A coordinator asks for a session.
    pub(crate) fn open(
        &mut self,
        turn: &mut Turn<'_>,
        stream: StreamId,
        term: Term,
        keystore: KeystoreId,
        cursor: Option<Cursor>,
    ) {
        if self.setup.keystore != Some(keystore) {
            let actual = self.setup.keystore;
            return self.reject(turn, stream, SessionRefusal::WrongKeystore { actual });
        }
        let highest = match self.line {
            Line::Opening { term, .. } => self.highest.max(term),
            Line::Closed | Line::Live { .. } => self.highest,
        };
        if term < highest {
            return self.reject(turn, stream, SessionRefusal::StaleTerm { highest });
        }
        // The running session ends here: nothing that comes on it afterwards counts.
        match self.line {
            Line::Live { stream: old, .. } | Line::Opening { stream: old, .. } if old != stream => {
                self.reject(turn, old, SessionRefusal::TakenOver { term });
            }
            Line::Closed | Line::Live { .. } | Line::Opening { .. } => {}
        }
        self.end_session();
        self.number = self.number.next();
        let ticket = self.ticket();
        let number = self.number;
        self.line = Line::Opening {
            stream,
            ticket,
            number,
            term,
            cursor,
        };
        self.writing.insert(
            ticket,
            Writing::Session {
                stream,
                highest: term,
            },
        );
        let record = JournalRecord::V1(Record::Session {
            number,
            highest: term,
        });
        turn.out.push(Output::Journal { ticket, record });
    }

    /// The stream is told why, and ends.
    fn reject(&mut self, turn: &mut Turn<'_>, stream: StreamId, why: SessionRefusal) {
        self.send(turn, stream, UpBody::Rejected(why));
        turn.out.push(Output::Close { stream });
    }

    /// The record of a session is durable, or not.
    pub(crate) fn session_written(
        &mut self,
        turn: &mut Turn<'_>,
        written: Ticket,
        stream: StreamId,
        highest: Term,
        result: Result<(), String>,
    ) {
        if result.is_ok() {
            self.highest = self.highest.max(highest);
        }
        let Line::Opening {
            ticket,
            number,
            cursor,
            ..
        } = self.line
        else {
            return;
        };
        if ticket != written {
            return;
        }
        if let Err(detail) = result {
            self.line = Line::Closed;
            let detail = format!("the journal cannot be written: {detail}");
            return self.reject(turn, stream, SessionRefusal::Protocol { detail });
        }
        let known = cursor.filter(|c| c.boot == self.setup.boot && c.seq <= self.telling.seq);
        self.line = Line::Live {
            stream,
            number,
            caught_up: false,
        };
        let accepted = UpBody::Accepted {
            session: number,
            boot: self.setup.boot,
            full: known.is_none(),
        };
        self.send(turn, stream, accepted);
        self.tell_since(known.map_or(0, |cursor| cursor.seq));
    }

    /// A stream ended.
    pub(crate) fn stream_gone(&mut self, gone: StreamId) {
        match self.line {
            Line::Live { stream, .. } | Line::Opening { stream, .. } if stream == gone => {
                self.end_session();
            }
            Line::Closed | Line::Live { .. } | Line::Opening { .. } => {}
        }
    }

    /// Forgets what only the session asked for. Journaled intents are carried on: they are durable promises.
    fn end_session(&mut self) {
        self.line = Line::Closed;
        self.queue.retain(|task| match task {
            Task::Look(_) => false,
            Task::Carry(_) | Task::Recheck(_) | Task::Survey(_) | Task::Prove(_) => true,
        });
        self.watch.scan_asked = false;
    }

    /// Answers with what the journal holds.
    pub(crate) fn heartbeat(&mut self, turn: &mut Turn<'_>, stream: StreamId) {
        if !self.is_live(stream) {
            return;
        }
        let instances = self.instances.iter().map(|(&version, instance)| {
            let intent = &instance.intent;
            (version, intent.generation, intent.want)
        });
        let body = UpBody::Heartbeat {
            wanted: wanted_digest(instances),
            scan_age_ms: self.scan_age_ms(turn.now),
        };
        self.send(turn, stream, body);
    }

    /// A coordinator asks for a look.
    pub(crate) fn look_asked(
        &mut self,
        turn: &mut Turn<'_>,
        stream: StreamId,
        version: Option<KeyVersionId>,
    ) {
        if !self.is_live(stream) {
            return;
        }
        match version {
            None => {
                self.watch.scan_asked = true;
                self.watch.scan_at = turn.now;
            }
            Some(version) => self.look_at(turn, stream, version),
        }
    }
}
