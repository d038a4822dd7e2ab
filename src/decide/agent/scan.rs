//! The look at the whole token, again and again: what is new, changed, missing or not ours (promises R13).

use std::collections::{BTreeMap, BTreeSet};

use crate::decide::agent::health::pause_ms;
use crate::decide::agent::instance::{same_handles, same_objects};
use crate::decide::agent::io::SCAN_CPU_FACTOR;
use crate::decide::agent::job::Miss;
use crate::decide::agent::queue::{Lane, Task};
use crate::decide::agent::{Machine, Turn};
use crate::model::desired::Want;
use crate::model::ids::KeyVersionId;
use crate::model::job::{Inventory, SURVEY_PLANS_MAX};
use crate::model::observed::{Found, ObjectFacts};

/// A scan that is late by this much goes before intents that enable, milliseconds: a flood of them must not blind us.
pub(crate) const SCAN_LATE_MS: u64 = 10_000;

/// Age of the last scan where there was none: 49 days, which is older than anything counts for.
const SCAN_NEVER_MS: u64 = 0xffff_ffff;

/// When to look, and when was looked.
#[derive(Debug)]
pub(crate) struct Watch {
    /// When the token is asked who it is, while it is not workable.
    pub(crate) identify_at: u64,
    /// When it last said that it is ours.
    pub(crate) identity_at: Option<u64>,
    /// It is to be asked before anything else.
    pub(crate) identity_wanted: bool,
    /// How often in a row the token could not be asked who it is.
    pub(crate) failures: u32,
    /// How often in a row a scan failed.
    pub(crate) scan_failures: u32,
    /// When the next scan is due.
    pub(crate) scan_at: u64,
    /// When the last complete one ended.
    pub(crate) scanned_at: Option<u64>,
    /// A coordinator waits for one.
    pub(crate) scan_asked: bool,
    /// Instances whose objects have new handles: perhaps replaced.
    pub(crate) renewed: BTreeSet<KeyVersionId>,
    /// When the next fingerprint may be taken in rotation.
    pub(crate) rotate_at: u64,
}

impl Watch {
    pub(crate) const fn starting(now: u64) -> Self {
        Self {
            identify_at: now,
            identity_at: None,
            identity_wanted: false,
            failures: 0,
            scan_failures: 0,
            scan_at: now,
            scanned_at: None,
            scan_asked: false,
            renewed: BTreeSet::new(),
            rotate_at: now,
        }
    }

    /// The token is not the one that was looked at.
    pub(crate) fn forget(&mut self, now: u64) {
        self.identity_at = None;
        self.scan_at = now;
        self.scanned_at = None;
        self.renewed.clear();
    }
}

impl Machine {
    /// Age of the last complete scan, milliseconds.
    pub(crate) fn scan_age_ms(&self, now: u64) -> u64 {
        self.watch
            .scanned_at
            .map_or(SCAN_NEVER_MS, |at| now.saturating_sub(at))
    }

    /// A scan ended. `started` is when it was put out.
    pub(crate) fn scanned(&mut self, turn: &mut Turn<'_>, inventory: Inventory, started: u64) {
        self.identified(turn, &inventory.identity);
        if !self.is_workable() {
            return;
        }
        let pause = (inventory.cpu_us / 1000).saturating_mul(SCAN_CPU_FACTOR);
        let pause = pause.max(self.setup.pace.scan_ms);
        self.watch.scan_at = started.saturating_add(pause).max(turn.now);
        self.watch.scanned_at = Some(turn.now);
        self.watch.scan_failures = 0;
        if self.watch.scan_asked {
            self.watch.scan_asked = false;
            self.say_caught_up_again();
        }
        let (ours, others) = self.sort(inventory.objects);
        let versions: Vec<KeyVersionId> = self.instances.keys().copied().collect();
        for version in versions {
            let objects = ours.get(&version).map_or(&[][..], Vec::as_slice);
            self.compare(turn.now, version, objects);
        }
        self.set_unmanaged(others);
    }

    /// A scan failed: the next one waits, the longer the more of them failed.
    pub(crate) fn scan_failed(&mut self, turn: &mut Turn<'_>, miss: &Miss) {
        let pause = pause_ms(self.watch.scan_failures).max(self.setup.pace.scan_ms);
        self.watch.scan_failures = self.watch.scan_failures.saturating_add(1);
        self.watch.scan_at = turn.now.saturating_add(pause);
        self.missed(turn, miss);
    }

    /// Which objects belong to which instance; the rest is not ours.
    fn sort(
        &self,
        objects: Vec<ObjectFacts>,
    ) -> (BTreeMap<KeyVersionId, Vec<ObjectFacts>>, Vec<ObjectFacts>) {
        let mut ours: BTreeMap<KeyVersionId, Vec<ObjectFacts>> = BTreeMap::new();
        let mut others = Vec::new();
        for object in objects {
            // An id that an earlier intent of the instance named is no longer looked at, and is shown as nobody's.
            let owner = self.owners.get(&object.cka_id).filter(|version| {
                let instance = self.instances.get(version);
                instance.is_some_and(|known| known.intent.object.cka_id == object.cka_id)
            });
            match owner {
                Some(&version) => ours.entry(version).or_default().push(object),
                None => others.push(object),
            }
        }
        (ours, others)
    }

    /// Compares what a scan saw of one instance with what was last believed.
    fn compare(&mut self, now: u64, version: KeyVersionId, objects: &[ObjectFacts]) {
        let pause = self.setup.pace.second_look_ms;
        let Some(instance) = self.instances.get_mut(&version) else {
            return;
        };
        // What is under way looks for itself.
        if !instance.is_resting() {
            return;
        }
        if instance.is_suspicious(objects) {
            match instance.sight.suspected_since {
                None => {
                    instance.sight.suspected_since = Some(now);
                    self.telling.dirty.insert(version);
                    // The very next scan decides: one that came a moment too soon would cost another round.
                    self.watch.scan_at = self.watch.scan_at.max(now.saturating_add(pause));
                }
                Some(since) if since.saturating_add(pause) <= now => {
                    self.queue.push(Lane::Recheck, Task::Recheck(version));
                }
                Some(_) => {}
            }
            return;
        }
        if instance.sight.suspected_since.take().is_some() {
            self.telling.dirty.insert(version);
        }
        match &mut instance.sight.last {
            Some(seen) if same_objects(&seen.found.objects, objects) => {
                seen.at_ms = now;
                if !same_handles(&seen.found.objects, objects) {
                    self.watch.renewed.insert(version);
                }
            }
            // A destroyed key that is not there needs no look of its own.
            None if objects.is_empty() && instance.intent.want == Want::Destroyed => {
                self.believe(now, version, Found::default());
            }
            Some(_) | None if instance.intent.object.is_exactly(objects.iter()) => {
                self.queue.push(Lane::Recheck, Task::Survey(version));
            }
            Some(_) | None => self.queue.push(Lane::Recheck, Task::Recheck(version)),
        }
    }

    /// Whose fingerprints are taken next in rotation: what has new handles first, then what was not looked at for longest.
    /// Once one is due, those that are halfway there come along: together they cost little more than one.
    pub(crate) fn rotate(&mut self, now: u64) -> Vec<KeyVersionId> {
        if now < self.watch.rotate_at {
            return Vec::new();
        }
        let renewed = std::mem::take(&mut self.watch.renewed);
        let renewed: Vec<KeyVersionId> = renewed
            .into_iter()
            .filter(|&version| self.fingerprint_at(version).is_some())
            .collect();
        if !renewed.is_empty() {
            let (first, later) = renewed.split_at(renewed.len().min(SURVEY_PLANS_MAX));
            self.watch.renewed.extend(later);
            return first.to_vec();
        }
        let pause = self.setup.pace.fingerprint_ms;
        let mut fingerprints = self.fingerprints();
        fingerprints.retain(|(at, _)| at.saturating_add(pause / 2) <= now);
        fingerprints.sort_unstable();
        let is_due = fingerprints
            .first()
            .is_some_and(|(at, _)| at.saturating_add(pause) <= now);
        if !is_due {
            return Vec::new();
        }
        let oldest = fingerprints.into_iter().take(SURVEY_PLANS_MAX);
        oldest.map(|(_, version)| version).collect()
    }

    /// When the next one is due.
    pub(crate) fn rotation_due(&self) -> Option<u64> {
        let next = if self.watch.renewed.is_empty() {
            let (at, _) = self.oldest_fingerprint()?;
            at.saturating_add(self.setup.pace.fingerprint_ms)
        } else {
            0
        };
        Some(next.max(self.watch.rotate_at))
    }

    /// A fingerprint took this long: the next one waits so that all together stay within their part of a core.
    pub(crate) fn pace_rotation(&mut self, now: u64, took_ms: u64) {
        let pause = took_ms.saturating_mul(SCAN_CPU_FACTOR.saturating_sub(1));
        self.watch.rotate_at = now.saturating_add(pause);
    }

    fn fingerprint_at(&self, version: KeyVersionId) -> Option<u64> {
        let instance = self.instances.get(&version)?;
        let seen = instance.sight.last.as_ref()?;
        (instance.is_resting() && !seen.found.objects.is_empty()).then_some(seen.fingerprint_at_ms)
    }

    fn oldest_fingerprint(&self) -> Option<(u64, KeyVersionId)> {
        self.fingerprints().into_iter().min()
    }

    fn fingerprints(&self) -> Vec<(u64, KeyVersionId)> {
        self.instances
            .keys()
            .filter_map(|&version| Some((self.fingerprint_at(version)?, version)))
            .collect()
    }
}
