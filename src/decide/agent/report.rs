//! What is said, when, and in which order: reports rest on read-backs and looks alone.

use std::collections::BTreeSet;

use crate::decide::agent::instance::{Instance, Kept};
use crate::decide::agent::io::{Output, StreamId};
use crate::decide::agent::job::Doing;
use crate::decide::agent::look::Why;
use crate::decide::agent::queue::Lane;
use crate::decide::agent::session::Line;
use crate::decide::agent::{Machine, Turn};
use crate::model::ids::KeyVersionId;
use crate::model::keystore::Health;
use crate::model::observed::ObjectFacts;
use crate::model::protocol::{REPORTS_PER_FRAME_MAX, Report, Up, UpBody};

/// What was said, and what is to be said.
#[derive(Debug, Default)]
pub(crate) struct Telling {
    /// The last sequence number of this run.
    pub(crate) seq: u64,
    /// Instances whose report is not yet said.
    pub(crate) dirty: BTreeSet<KeyVersionId>,
    /// The health that this session was told.
    health: Option<Health>,
    /// Objects that no intent speaks of.
    unmanaged: Vec<ObjectFacts>,
    /// Sequence number of the last word about them; none: to be said.
    unmanaged_told: Option<u64>,
}

impl Machine {
    /// Says something on a stream. Gives its sequence number.
    pub(crate) fn send(&mut self, turn: &mut Turn<'_>, stream: StreamId, body: UpBody) -> u64 {
        self.telling.seq = self.telling.seq.saturating_add(1);
        let seq = self.telling.seq;
        let up = Up { seq, body };
        turn.out.push(Output::Send { stream, up });
        seq
    }

    /// A new session holds everything up to this number; 0: nothing. What was not looked at yet is told when it was.
    pub(crate) fn tell_since(&mut self, seq: u64) {
        self.telling.health = None;
        if self.telling.unmanaged_told.is_some_and(|told| told > seq) {
            self.telling.unmanaged_told = None;
        }
        let untold = self
            .instances
            .iter()
            .filter(|(_, instance)| is_ready(instance))
            .filter(|(_, instance)| instance.told == 0 || instance.told > seq)
            .map(|(&version, _)| version);
        self.telling.dirty.extend(untold);
    }

    /// The objects that are not ours, as of now.
    pub(crate) fn set_unmanaged(&mut self, objects: Vec<ObjectFacts>) {
        if !same_strangers(&self.telling.unmanaged, &objects) {
            self.telling.unmanaged = objects;
            self.telling.unmanaged_told = None;
        }
    }

    /// Says all that is to be said, if somebody listens.
    pub(crate) fn tell(&mut self, turn: &mut Turn<'_>) {
        let Line::Live {
            stream, caught_up, ..
        } = self.line
        else {
            return;
        };
        let health = self.health();
        if self.telling.health.as_ref() != Some(&health) {
            self.send(turn, stream, UpBody::Health(health.clone()));
            self.telling.health = Some(health);
        }
        self.tell_reports(turn, stream);
        if !self.watch.is_unseen && !self.has_rechecks() {
            self.watch.told_at = self.watch.scanned_at;
        }
        if self.telling.unmanaged_told.is_none() && self.watch.scanned_at.is_some() {
            let objects = self.telling.unmanaged.clone();
            let seq = self.send(turn, stream, UpBody::Unmanaged(objects));
            self.telling.unmanaged_told = Some(seq);
        }
        if !caught_up && self.has_said_all() {
            let scan_age_ms = self.scan_age_ms(turn.now);
            self.send(turn, stream, UpBody::CaughtUp { scan_age_ms });
            if let Line::Live { caught_up, .. } = &mut self.line {
                *caught_up = true;
            }
        }
    }

    fn tell_reports(&mut self, turn: &mut Turn<'_>, stream: StreamId) {
        let ready: Vec<KeyVersionId> = self
            .telling
            .dirty
            .iter()
            .filter(|version| self.instances.get(version).is_some_and(is_ready))
            .copied()
            .collect();
        for batch in ready.chunks(REPORTS_PER_FRAME_MAX) {
            let reports = batch
                .iter()
                .filter_map(|&version| {
                    let instance = self.instances.get(&version)?;
                    Some(self.report(turn.now, version, instance))
                })
                .collect();
            let seq = self.send(turn, stream, UpBody::Reports(reports));
            for version in batch {
                self.telling.dirty.remove(version);
                if let Some(instance) = self.instances.get_mut(version) {
                    instance.told = seq;
                }
            }
        }
    }

    /// Whether nothing of what the last scan saw is still to be looked at or said. On a token that is not ours there is
    /// nothing more to say.
    fn has_said_all(&self) -> bool {
        let has_looked = match &self.token_health {
            Health::Starting => false,
            Health::Ok | Health::JournalLost => {
                self.watch.scanned_at.is_some() && !self.watch.scan_asked
            }
            Health::TokenNotFound { .. }
            | Health::WrongPin
            | Health::PinLocked
            | Health::MarkerMissing
            | Health::BelongsTo(_)
            | Health::OtherEpoch(_)
            | Health::JournalFailed { .. }
            | Health::ModuleFailed { .. } => true,
        };
        has_looked
            && self.telling.dirty.is_empty()
            && !self.has_rechecks()
            && self.queue.is_empty(Lane::Recheck)
    }

    /// Whether something that a scan saw is still to be looked at.
    fn has_rechecks(&self) -> bool {
        let is_under_way = match self.flight.as_ref().map(|flight| &flight.doing) {
            Some(Doing::Look { why, .. } | Doing::Survey { why, .. }) => *why == Why::Seen,
            Some(Doing::Identify | Doing::Scan | Doing::Run(_) | Doing::Prove { .. }) | None => {
                false
            }
        };
        is_under_way || self.queue.has_rechecks()
    }

    /// What is known of an instance.
    pub(crate) fn report(&self, now: u64, version: KeyVersionId, instance: &Instance) -> Report {
        let wall = self.wall(now);
        let seen = instance.sight.last.as_ref();
        let proof = instance.proof.as_ref().filter(|_| instance.is_done());
        Report {
            version,
            applied: Some(instance.applied),
            progress: instance.progress(),
            observation: instance.sight.observation(),
            proof: proof.map(|kept: &Kept| kept.proof.clone()),
            proof_age_ms: proof.map_or(0, |kept| kept.age_ms(wall)),
            look_age_ms: seen.map_or(0, |seen| now.saturating_sub(seen.at_ms)),
            strategy: self.strategy_of(version),
        }
    }
}

/// Whether two scans saw the same objects, whatever their handles and their order.
fn same_strangers(before: &[ObjectFacts], now: &[ObjectFacts]) -> bool {
    fn sorted(objects: &[ObjectFacts]) -> Vec<impl Ord> {
        let mut keys: Vec<_> = objects
            .iter()
            .map(|o| {
                let name = (o.class, o.cka_id.as_slice(), o.label.as_str());
                let rights = (
                    o.usage,
                    o.sensitive,
                    o.extractable,
                    o.modifiable,
                    o.copyable,
                );
                (name, rights, o.key_type, o.bits, o.public_digest)
            })
            .collect();
        keys.sort_unstable();
        keys
    }
    before.len() == now.len() && sorted(before) == sorted(now)
}

/// Whether a report would say something: an instance that is done is not spoken of before it was looked at.
const fn is_ready(instance: &Instance) -> bool {
    !instance.is_done() || instance.sight.is_something()
}
