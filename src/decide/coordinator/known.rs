//! What the reports of the live session say, with the age of each.

use std::collections::BTreeMap;

use crate::decide::coordinator::Machine;
use crate::model::desired::Instance;
use crate::model::difference::Reason;
use crate::model::ids::{BootId, Generation, KeyVersionId, SessionNumber};
use crate::model::keystore::Health;
use crate::model::live::{Connection, Differing, Live};
use crate::model::observed::ObjectFacts;
use crate::model::protocol::{Cursor, Refusal, Report};
use crate::model::vault::UnixMs;

/// A look older than this counts for nothing: twice the slowest usual scan and 30 s (promises 1.3).
pub const FRESH_FOR_MS: u64 = 60_000;

/// A report and when it came.
#[derive(Debug, Clone)]
struct Held {
    report: Report,
    received_ms: u64,
}

/// Everything that agents said. Reports outlive a session only to spare the agent repeating them: while there is no
/// live session nothing of it counts, and another boot of the agent voids it.
#[derive(Debug, Default)]
pub struct Known {
    /// The live session's number.
    pub session: Option<SessionNumber>,
    /// The token's health as told in this session.
    pub health: Option<Health>,
    /// Keys on the token that no intent speaks of.
    pub unmanaged: Vec<ObjectFacts>,
    /// Refusals that no newer report or intent has overtaken.
    pub refused: BTreeMap<KeyVersionId, (Generation, Refusal)>,
    /// Why material could not be had, for the generation in force.
    pub material_failures: BTreeMap<KeyVersionId, (Generation, String)>,
    boot: Option<BootId>,
    seq: u64,
    reports: BTreeMap<KeyVersionId, Held>,
    since: BTreeMap<KeyVersionId, BTreeMap<Reason, UnixMs>>,
    scanned_at_ms: Option<u64>,
}

impl Known {
    /// What the coordinator still holds of the agent's last run.
    #[must_use]
    pub fn cursor(&self) -> Option<Cursor> {
        self.boot.map(|boot| Cursor {
            boot,
            seq: self.seq,
        })
    }

    /// A session counts from here. Unless the agent goes on where it stopped, all that was held is void.
    pub fn session_began(&mut self, session: SessionNumber, boot: BootId, full: bool, seq: u64) {
        if full || self.boot != Some(boot) {
            self.reports.clear();
            self.unmanaged.clear();
        }
        self.session = Some(session);
        self.boot = Some(boot);
        self.seq = seq;
        self.refused.clear();
        self.health = None;
        self.scanned_at_ms = None;
    }

    /// The stream ended.
    pub fn session_ended(&mut self) {
        self.session = None;
        self.health = None;
        self.scanned_at_ms = None;
    }

    /// Whether a frame comes after all frames before it (promises R9); notes it if so.
    pub const fn in_sequence(&mut self, seq: u64) -> bool {
        let above = seq > self.seq;
        if above {
            self.seq = seq;
        }
        above
    }

    /// Takes a report.
    pub fn report(&mut self, now_ms: u64, report: Report) {
        let version = report.version;
        if let (Some(applied), Some((generation, _))) = (report.applied, self.refused.get(&version))
            && applied.generation >= *generation
        {
            self.refused.remove(&version);
        }
        self.reports.insert(
            version,
            Held {
                report,
                received_ms: now_ms,
            },
        );
    }

    /// A complete scan ended so many milliseconds ago.
    pub fn scanned(&mut self, now_ms: u64, scan_age_ms: u64) {
        self.scanned_at_ms = Some(now_ms.saturating_sub(scan_age_ms));
    }

    /// Age of the last complete scan.
    #[must_use]
    pub fn scan_age_ms(&self, now_ms: u64) -> Option<u64> {
        self.scanned_at_ms.map(|at| now_ms.saturating_sub(at))
    }

    /// The report on an instance.
    #[must_use]
    pub fn report_of(&self, version: KeyVersionId) -> Option<&Report> {
        self.reports.get(&version).map(|held| &held.report)
    }

    /// All reports.
    pub fn reports(&self) -> impl Iterator<Item = &Report> {
        self.reports.values().map(|held| &held.report)
    }

    /// Drops refusals and failures that a newer intent has overtaken.
    pub fn forget_superseded(&mut self, desired: &BTreeMap<KeyVersionId, Instance>) {
        let current = |version: &KeyVersionId, generation: Generation| {
            desired
                .get(version)
                .is_some_and(|i| i.intent.generation <= generation)
        };
        self.refused
            .retain(|version, (generation, _)| current(version, *generation));
        self.material_failures
            .retain(|version, (generation, _)| current(version, *generation));
        self.since
            .retain(|version, _| desired.contains_key(version));
    }

    /// Whether no report on it was compared with what is wanted of it.
    #[must_use]
    pub fn is_undated(&self, version: KeyVersionId) -> bool {
        !self.since.contains_key(&version)
    }

    /// The same for one instance, of which the intent in force has this generation; none: it is not wanted any more.
    pub fn forget_superseded_by(&mut self, version: KeyVersionId, wanted: Option<Generation>) {
        let overtaken = |of: Option<Generation>| {
            of.is_some_and(|generation| wanted.is_none_or(|wanted| wanted > generation))
        };
        if overtaken(self.refused.get(&version).map(|(of, _)| *of)) {
            self.refused.remove(&version);
        }
        if overtaken(self.material_failures.get(&version).map(|(of, _)| *of)) {
            self.material_failures.remove(&version);
        }
        if wanted.is_none() {
            self.since.remove(&version);
        }
    }

    /// Notes since when each reason has been there; a reason that went away is forgotten.
    pub fn date_reasons(&mut self, version: KeyVersionId, reasons: Vec<Reason>, at: UnixMs) {
        let dated = self.since.entry(version).or_default();
        dated.retain(|reason, _| reasons.contains(reason));
        for reason in reasons {
            dated.entry(reason).or_insert(at);
        }
    }
}

impl Machine {
    /// The instances with differences, as the reports of the session tell; none while they do not count.
    #[must_use]
    pub fn differing(&self) -> Differing {
        if *self.connection() != Connection::Live {
            return Differing::default();
        }
        let dated = self.known().since.iter();
        Differing {
            of: self.known().reports.len(),
            instances: dated
                .filter(|(_, reasons)| !reasons.is_empty())
                .map(|(version, reasons)| (*version, reasons.keys().copied().collect()))
                .collect(),
        }
    }

    /// One instance as the live session knows it.
    #[must_use]
    pub fn live(&self, version: KeyVersionId, now_ms: u64) -> Live {
        let known = self.known();
        let held = known.reports.get(&version);
        // A scan says anew what the token holds; it proves nothing anew, so the proof's age runs on from the report.
        let report = held.map(|held| {
            let waited = now_ms.saturating_sub(held.received_ms);
            let mut report = held.report.clone();
            report.look_age_ms = report.look_age_ms.saturating_add(waited);
            report.proof_age_ms = report.proof_age_ms.saturating_add(waited);
            report
        });
        let own_age = report
            .as_ref()
            .map_or(u64::MAX, |report| report.look_age_ms);
        let scan_age = known.scan_age_ms(now_ms).unwrap_or(u64::MAX);
        Live {
            connection: self.connection().clone(),
            health: known.health.clone(),
            report,
            look_age_ms: own_age.min(scan_age),
            fresh_for_ms: FRESH_FOR_MS,
            refused: known.refused.get(&version).cloned(),
            material_failure: known
                .material_failures
                .get(&version)
                .map(|(_, why)| why.clone()),
            since: known
                .since
                .get(&version)
                .map(|dated| dated.iter().map(|(reason, at)| (*reason, *at)).collect())
                .unwrap_or_default(),
        }
    }
}
