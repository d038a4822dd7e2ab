//! Taking intents: fence, journal, and only then the queue.

use crate::decide::agent::fence::{Verdict, admits, fence, fits};
use crate::decide::agent::instance::{Carrying, State, Trouble};
use crate::decide::agent::io::{Output, StreamId, Ticket};
use crate::decide::agent::queue::{Lane, Task};
use crate::decide::agent::record::{JournalRecord, Phase, Record};
use crate::decide::agent::session::Line;
use crate::decide::agent::{Machine, Turn};
use crate::model::desired::{Applied, Intent, Want};
use crate::model::ids::{KeyVersionId, Term};
use crate::model::job::Wrapped;
use crate::model::material::Envelope;
use crate::model::protocol::{Refusal, UpBody};

/// Most instances a journal holds, tombstones too: what an agent keeps in memory stays bounded.
pub(crate) const INSTANCES_MAX: usize = 200_000;

/// A journal that failed is tried again after this, milliseconds.
const JOURNAL_AGAIN_MS: u64 = 5_000;

/// What is on its way to the journal.
#[derive(Debug)]
pub(crate) enum Writing {
    /// A session's number.
    Session {
        /// On which stream.
        stream: StreamId,
        /// The term that is then the highest.
        highest: Term,
    },
    /// An intent that is being taken.
    Intent {
        /// On which stream it came.
        stream: StreamId,
        /// The intent.
        intent: Box<Intent>,
        /// Its material, or why that was not taken.
        material: Option<Result<Wrapped, String>>,
    },
    /// That an intent was carried out.
    Done {
        /// Which instance.
        version: KeyVersionId,
        /// Which intent.
        applied: Applied,
    },
    /// Whether the journal can be written again.
    Check,
}

impl Machine {
    /// An intent came.
    pub(crate) fn take(
        &mut self,
        turn: &mut Turn<'_>,
        stream: StreamId,
        intent: Box<Intent>,
        envelope: Option<Result<Box<Envelope>, String>>,
    ) {
        if !self.is_live(stream) {
            return;
        }
        let version = intent.version;
        let material = envelope.map(|envelope| {
            let envelope = envelope?;
            fits(&envelope, &intent)?;
            Ok(Wrapped {
                route: envelope.route,
                wrapped_kek: envelope.wrapped_kek,
                wrapped_key: envelope.wrapped_key,
                spki: envelope.spki,
            })
        });
        let known = self.instances.get(&version).map(|known| &known.applied);
        let newest = self.taking.get(&version).or(known);
        match fence(self.setup.keystore, newest, &intent) {
            Verdict::Refuse(refusal) => self.refuse(turn, stream, &intent, refusal),
            Verdict::Again => self.again(turn, stream, &intent, material),
            Verdict::Take => match self.objection(&intent, material.as_ref()) {
                Some(refusal) => self.refuse(turn, stream, &intent, refusal),
                None => self.write_intent(turn, stream, intent, material),
            },
        }
    }

    /// What speaks against taking an intent that the fence lets through.
    fn objection(
        &self,
        intent: &Intent,
        material: Option<&Result<Wrapped, String>>,
    ) -> Option<Refusal> {
        if !admits(&self.token_health, intent.want) {
            return Some(Refusal::Unhealthy(self.token_health.clone()));
        }
        // A CKA_ID belongs to one key version for ever: under another name, a destroyed key would come back.
        if let Some(owner) = self.owners.get(&intent.object.cka_id)
            && *owner != intent.version
            && let Some(other) = self.instances.get(owner)
        {
            return Some(Refusal::Conflict(other.applied));
        }
        let is_new = !self.instances.contains_key(&intent.version);
        if is_new && self.instances.len().saturating_add(self.writing.len()) >= INSTANCES_MAX {
            return Some(Refusal::Journal {
                detail: format!("it holds {INSTANCES_MAX} instances, the most it may"),
            });
        }
        match material {
            // What restricts does not wait for a good envelope.
            Some(Err(reason)) if intent.want == Want::Active => Some(Refusal::Envelope {
                reason: reason.clone(),
            }),
            Some(_) | None => None,
        }
    }

    fn refuse(&mut self, turn: &mut Turn<'_>, stream: StreamId, intent: &Intent, refusal: Refusal) {
        let body = UpBody::Refused {
            version: intent.version,
            generation: intent.generation,
            refusal,
        };
        self.send(turn, stream, body);
    }

    fn write_intent(
        &mut self,
        turn: &mut Turn<'_>,
        stream: StreamId,
        intent: Box<Intent>,
        material: Option<Result<Wrapped, String>>,
    ) {
        let ticket = self.ticket();
        let record = Record::Intent {
            intent: intent.clone(),
            phase: Phase::Intent,
        };
        self.taking.insert(intent.version, intent.applied());
        self.writing.insert(
            ticket,
            Writing::Intent {
                stream,
                intent,
                material,
            },
        );
        let record = JournalRecord::V1(record);
        turn.out.push(Output::Journal { ticket, record });
    }

    /// The intent that is in the journal came again: report what was done, or go on.
    fn again(
        &mut self,
        turn: &mut Turn<'_>,
        stream: StreamId,
        intent: &Intent,
        material: Option<Result<Wrapped, String>>,
    ) {
        let version = intent.version;
        if self.taking.contains_key(&version) {
            return;
        }
        let Some(instance) = self.instances.get_mut(&version) else {
            return;
        };
        self.telling.dirty.insert(version);
        let Some(carrying) = instance.carrying() else {
            return;
        };
        let mut refused = None;
        match material {
            Some(Ok(material)) => {
                carrying.material = Some(material);
                carrying.envelope_refused = None;
            }
            Some(Err(reason)) => {
                carrying.envelope_refused = Some(reason.clone());
                refused = Some(Refusal::Envelope { reason });
            }
            None => {}
        }
        let goes_on = match &carrying.trouble {
            None => false,
            Some(Trouble::NeedsMaterial) => carrying.material.is_some(),
            Some(Trouble::Failed(_) | Trouble::Again(_) | Trouble::Unknown(_)) => true,
        };
        if goes_on {
            carrying.trouble = None;
            carrying.tries = 0;
            self.resume(version);
        }
        if let Some(refusal) = refused {
            self.refuse(turn, stream, intent, refusal);
        }
    }

    /// Puts an unfinished intent into its lane.
    pub(crate) fn resume(&mut self, version: KeyVersionId) {
        if let Some(instance) = self.instances.get(&version) {
            let lane = Lane::of(instance.intent.want);
            self.later.retain(|&(_, waiting)| waiting != version);
            self.queue.push(lane, Task::Carry(version));
        }
    }

    /// A record is durable, or it is not.
    pub(crate) fn written(
        &mut self,
        turn: &mut Turn<'_>,
        ticket: Ticket,
        result: Result<(), String>,
    ) {
        let Some(writing) = self.writing.remove(&ticket) else {
            return;
        };
        match &result {
            Ok(()) => self.journal_failure = None,
            Err(detail) => {
                self.journal_failure = Some(detail.clone());
                self.journal_at = turn.now.saturating_add(JOURNAL_AGAIN_MS);
            }
        }
        match writing {
            Writing::Session { stream, highest } => {
                self.session_written(turn, ticket, stream, highest, result);
            }
            Writing::Intent {
                stream,
                intent,
                material,
            } => self.intent_written(turn, stream, intent, material, result),
            Writing::Done { version, applied } => self.done_written(version, applied, result),
            Writing::Check => {}
        }
    }

    fn intent_written(
        &mut self,
        turn: &mut Turn<'_>,
        stream: StreamId,
        intent: Box<Intent>,
        material: Option<Result<Wrapped, String>>,
        result: Result<(), String>,
    ) {
        let version = intent.version;
        if self.taking.get(&version) == Some(&intent.applied()) {
            self.taking.remove(&version);
        }
        if let Err(detail) = result {
            if self.is_live(stream) {
                self.refuse(turn, stream, &intent, Refusal::Journal { detail });
            }
            // The one before is still in force.
            if self.instances.get(&version).is_some_and(|i| !i.is_done()) {
                self.resume(version);
            }
            return;
        }
        let other_lane = Task::Carry(version);
        self.queue.remove(other_lane);
        self.adopt(*intent, Phase::Intent);
        if let Some(instance) = self.instances.get_mut(&version) {
            let mut carrying = Carrying::default();
            match material {
                Some(Ok(material)) => carrying.material = Some(material),
                Some(Err(reason)) => carrying.envelope_refused = Some(reason),
                None => {}
            }
            instance.state = State::Open(Box::new(carrying));
        }
        self.telling.dirty.insert(version);
        self.resume(version);
    }

    fn done_written(
        &mut self,
        version: KeyVersionId,
        applied: Applied,
        result: Result<(), String>,
    ) {
        let Some(instance) = self.instances.get_mut(&version) else {
            return;
        };
        if instance.applied != applied {
            return;
        }
        self.telling.dirty.insert(version);
        match result {
            Ok(()) => instance.state = State::Done,
            Err(detail) => {
                if let Some(carrying) = instance.carrying() {
                    carrying.finishing = false;
                    let why = format!("done, but the journal cannot be written: {detail}");
                    carrying.trouble = Some(Trouble::Unknown(why));
                }
                self.resume(version);
            }
        }
    }

    /// Tries a journal that failed by writing what is true anyway.
    pub(crate) fn check_journal(&mut self, turn: &mut Turn<'_>) {
        if self.journal_failure.is_none() || turn.now < self.journal_at {
            return;
        }
        self.journal_at = turn.now.saturating_add(JOURNAL_AGAIN_MS);
        let ticket = self.ticket();
        self.writing.insert(ticket, Writing::Check);
        let record = JournalRecord::V1(Record::Session {
            number: self.number,
            highest: self.highest,
        });
        turn.out.push(Output::Journal { ticket, record });
    }

    /// Forgets the live line's promise to have said everything.
    pub(crate) const fn say_caught_up_again(&mut self) {
        if let Line::Live { caught_up, .. } = &mut self.line {
            *caught_up = false;
        }
    }
}
