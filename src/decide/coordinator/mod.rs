//! One keystore's session, seen from the coordinator, as a state machine: what to send, and what is known.
//!
//! Owns: which intents the last reports do not yet meet, in which order they go, when material is asked for, and the
//! reports of the live session. Never: stores what is wanted, claims anything of an earlier session, retries in a loop:
//! recovery is the next pass, which is just the next input.
//!
//! ```text
//!   Down ──Connected──▶ Opening ──Accepted──▶ CatchingUp ──CaughtUp──▶ Live
//!    ▲                      │ Rejected              │                   │
//!    └──────────────────────┴──────── Gone ─────────┴───────────────────┘
//! ```

pub mod known;
pub mod pass;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::decide::coordinator::known::Known;
use crate::decide::coordinator::pass::Sent;
use crate::decide::difference::differences;
use crate::decide::recovery::evidence;
use crate::model::desired::Instance;
use crate::model::ids::{Generation, KeyVersionId, KeystoreId, Term};
use crate::model::keystore::Health;
use crate::model::live::{Connection, Terms};
use crate::model::material::{Envelope, Signed};
use crate::model::protocol::{Cursor, Down, Report, SessionRefusal, Up, UpBody};
use crate::model::recovery::Evidence;
use crate::model::vault::UnixMs;

/// A change of ours that takes longer than this is called late, milliseconds.
pub const LATE_AFTER_MS: i64 = 60_000;

/// What happens to the machine.
#[derive(Debug)]
pub enum Input {
    /// The stream is open; nothing has been said yet.
    Connected {
        /// The lease's term.
        term: Term,
    },
    /// A frame came.
    Up(Box<Up>),
    /// The stream ended or never opened.
    Gone {
        /// For people.
        why: String,
    },
    /// All that is wanted on the keystore, read in one snapshot.
    Desired(Vec<Instance>),
    /// What is wanted of these versions, read in one snapshot; those of which there is none are wanted no more.
    DesiredOf(Vec<KeyVersionId>, Vec<Instance>),
    /// The answer to [`Output::FetchMaterial`].
    Material {
        /// Which instance.
        version: KeyVersionId,
        /// For which generation.
        generation: Generation,
        /// The envelope, or why there is none.
        envelope: Result<Box<Signed<Envelope>>, String>,
    },
    /// Whether nothing may be enabled: the store may be older than its agents.
    Gather(bool),
    /// Time passed.
    Tick,
}

/// What is to be done, in this order.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a frame.
    Send(Box<Down>),
    /// Get an envelope for an instance from an internal keystore.
    FetchMaterial {
        /// Which instance.
        version: KeyVersionId,
        /// For which generation.
        generation: Generation,
    },
    /// Something that people see changed for these; empty: for the keystore as a whole.
    Changed(Vec<KeyVersionId>),
    /// The agent knows what the store cannot have forgotten by itself: told once in each session.
    Evidence(Box<Evidence>),
    /// The agent accepted a higher term: take a lease above it, then open again.
    RaiseLease {
        /// The highest so far.
        highest: Term,
        /// Whether it ended a session of ours: then another coordinator is at work now, and our store need not be old.
        by_rival: bool,
    },
    /// End the stream.
    Close {
        /// For people.
        why: String,
    },
}

/// The moment of an input: monotonic milliseconds decide, Unix milliseconds are for people.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// Monotonic milliseconds since the process started.
    pub now_ms: u64,
    /// The wall clock.
    pub unix: UnixMs,
}

/// The machine.
#[derive(Debug)]
pub struct Machine {
    keystore: KeystoreId,
    connection: Connection,
    desired: BTreeMap<KeyVersionId, Instance>,
    known: Known,
    sent: BTreeMap<KeyVersionId, Sent>,
    /// Those whose last report may not meet what is wanted: a pass looks at no others.
    unmet: BTreeSet<KeyVersionId>,
    heartbeat_due_ms: u64,
    gathers: bool,
    shown: BTreeSet<KeyVersionId>,
}

impl Machine {
    /// A keystore of which nothing is known.
    #[must_use]
    pub fn new(keystore: KeystoreId) -> Self {
        Self {
            keystore,
            connection: Connection::Never {
                why: "not connected yet".to_owned(),
            },
            desired: BTreeMap::new(),
            known: Known::default(),
            sent: BTreeMap::new(),
            unmet: BTreeSet::new(),
            heartbeat_due_ms: 0,
            gathers: false,
            shown: BTreeSet::new(),
        }
    }

    /// The line.
    #[must_use]
    pub const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// What the live session knows.
    #[must_use]
    pub const fn known(&self) -> &Known {
        &self.known
    }

    /// What is wanted, by the last snapshot.
    #[must_use]
    pub const fn desired(&self) -> &BTreeMap<KeyVersionId, Instance> {
        &self.desired
    }

    /// Takes an input and says what is to be done.
    pub fn step(&mut self, at: Moment, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Connected { term } => self.connected(term, out),
            Input::Up(up) => self.up(at, *up, out),
            Input::Gone { why } => self.gone(at, why, out),
            Input::Desired(instances) => {
                self.desired = instances
                    .into_iter()
                    .map(|i| (i.intent.version, i))
                    .collect();
                self.sent
                    .retain(|version, _| self.desired.contains_key(version));
                self.known.forget_superseded(&self.desired);
                self.date_all(at, Known::is_undated);
                self.look_at_all();
                self.pass(at, out);
            }
            Input::DesiredOf(versions, instances) => {
                self.desired_of(&versions, instances);
                self.pass(at, out);
            }
            Input::Material {
                version,
                generation,
                envelope,
            } => {
                self.material(at, version, generation, envelope, out);
            }
            Input::Gather(gathers) if gathers == self.gathers => {}
            Input::Gather(gathers) => {
                self.gathers = gathers;
                self.pass(at, out);
            }
            Input::Tick => {
                self.heartbeat(at, out);
                self.pass(at, out);
            }
        }
    }

    fn desired_of(&mut self, versions: &[KeyVersionId], instances: Vec<Instance>) {
        for version in versions {
            self.desired.remove(version);
        }
        let put = instances.into_iter().map(|i| (i.intent.version, i));
        self.desired.extend(put);
        for version in versions {
            let wanted = self.desired.get(version).map(|i| i.intent.generation);
            self.known.forget_superseded_by(*version, wanted);
            if wanted.is_none() {
                self.sent.remove(version);
            }
            self.unmet.insert(*version);
        }
    }

    /// The next pass looks at every instance.
    fn look_at_all(&mut self) {
        self.unmet.extend(self.desired.keys());
    }

    fn connected(&mut self, term: Term, out: &mut Vec<Output>) {
        let cursor: Option<Cursor> = self.known.cursor();
        out.push(Output::Send(Box::new(Down::Open {
            term,
            keystore: self.keystore,
            cursor,
        })));
    }

    fn gone(&mut self, at: Moment, why: String, out: &mut Vec<Output>) {
        self.connection = match &self.connection {
            Connection::CatchingUp | Connection::Live => Connection::Down {
                why,
                since: at.unix,
            },
            Connection::Never { .. } => Connection::Never { why },
            Connection::Down { since, .. } => Connection::Down { why, since: *since },
        };
        self.sent.clear();
        self.shown.clear();
        self.known.session_ended();
        out.push(Output::Changed(Vec::new()));
    }

    fn up(&mut self, at: Moment, up: Up, out: &mut Vec<Output>) {
        if let UpBody::Accepted {
            session,
            boot,
            full,
        } = up.body
        {
            if matches!(self.connection, Connection::CatchingUp | Connection::Live) {
                return out.push(Output::Close {
                    why: "the session was accepted twice".to_owned(),
                });
            }
            self.known.session_began(session, boot, full, up.seq);
            self.look_at_all();
            self.connection = Connection::CatchingUp;
            self.heartbeat_due_ms = at.now_ms;
            out.push(Output::Changed(Vec::new()));
            return;
        }
        if let UpBody::Rejected(refusal) = up.body {
            return Self::rejected(refusal, out);
        }
        if !matches!(self.connection, Connection::CatchingUp | Connection::Live) {
            return out.push(Output::Close {
                why: "a frame came before the session".to_owned(),
            });
        }
        if !self.known.in_sequence(up.seq) {
            return out.push(Output::Close {
                why: "reports came out of sequence".to_owned(),
            });
        }
        let mut changed = Vec::new();
        match up.body {
            UpBody::Reports(reports) => {
                for report in reports {
                    changed.push(report.version);
                    self.show_evidence(&report, out);
                    self.reported(at, report);
                }
            }
            UpBody::Unmanaged(objects) => self.known.unmanaged = objects,
            UpBody::CaughtUp { scan_age_ms } => {
                self.connection = Connection::Live;
                self.known.scanned(at.now_ms, scan_age_ms);
                // What came before counted for nothing yet, so no reason had a beginning.
                self.date_all(at, |_, _| true);
            }
            UpBody::Refused {
                version,
                generation,
                refusal,
            } => {
                self.known.refused.insert(version, (generation, refusal));
                self.unmet.insert(version);
                changed.push(version);
            }
            UpBody::Health(health) => {
                if health == Health::Ok {
                    changed = self.forget_refused_while_unwell();
                }
                self.known.health = Some(health);
            }
            UpBody::Heartbeat { scan_age_ms, .. } => {
                return self.known.scanned(at.now_ms, scan_age_ms);
            }
            UpBody::Accepted { .. } | UpBody::Rejected(_) => {}
        }
        out.push(Output::Changed(changed));
        self.pass(at, out);
    }

    fn reported(&mut self, at: Moment, report: Report) {
        let version = report.version;
        self.known.report(at.now_ms, report);
        self.unmet.insert(version);
        self.date(at, version);
    }

    fn date_all(&mut self, at: Moment, is_meant: impl Fn(&Known, KeyVersionId) -> bool) {
        let reported = self.known.reports().map(|report| report.version);
        let meant: Vec<KeyVersionId> = reported
            .filter(|version| is_meant(&self.known, *version))
            .collect();
        for version in meant {
            self.date(at, version);
        }
    }

    fn date(&mut self, at: Moment, version: KeyVersionId) {
        if let Some(instance) = self.desired.get(&version) {
            let live = self.live(version, at.now_ms);
            let found = differences(instance, &live, &Terms::default(), at.unix, LATE_AFTER_MS);
            let reasons = found
                .into_iter()
                .map(|difference| difference.reason)
                .collect();
            self.known.date_reasons(version, reasons, at.unix);
        }
    }

    fn show_evidence(&mut self, report: &Report, out: &mut Vec<Output>) {
        let instance = self.desired.get(&report.version);
        if let Some(shown) = evidence(self.keystore, instance, report)
            && self.shown.insert(report.version)
        {
            out.push(Output::Evidence(Box::new(shown)));
        }
    }

    /// What the agent keeps and the store does not know.
    pub fn strangers(&self) -> impl Iterator<Item = &Report> {
        self.known
            .reports()
            .filter(|report| !self.desired.contains_key(&report.version))
            .filter(|report| evidence(self.keystore, None, report).is_some())
    }

    fn rejected(refusal: SessionRefusal, out: &mut Vec<Output>) {
        let raise = match refusal {
            SessionRefusal::StaleTerm { highest } => Some((highest, false)),
            SessionRefusal::TakenOver { term } => Some((term, true)),
            SessionRefusal::WrongKeystore { .. } | SessionRefusal::Protocol { .. } => None,
        };
        out.extend(raise.map(|(highest, by_rival)| Output::RaiseLease { highest, by_rival }));
        out.push(Output::Close {
            why: refusal.to_string(),
        });
    }
}
