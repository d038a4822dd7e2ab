//! The look at the whole token, again and again: what is new, changed, missing or not ours (promises R13).

use std::collections::{BTreeMap, BTreeSet};

use crate::decide::agent::health::pause_ms;
use crate::decide::agent::instance::{handles_of, same_objects};
use crate::decide::agent::io::{LOOKS_CPU_FACTOR, LOOKS_TIME_FACTOR};
use crate::decide::agent::job::{Doing, Miss};
use crate::decide::agent::queue::{Lane, Task};
use crate::decide::agent::{Machine, Turn};
use crate::model::desired::Want;
use crate::model::ids::KeyVersionId;
use crate::model::job::{Inventory, SURVEY_PLANS_MAX, Slice, TokenJob};
use crate::model::observed::{Found, ObjectFacts};

/// A scan that is late by this much goes before intents that enable, milliseconds: a flood of them must not blind us.
pub(crate) const SCAN_LATE_MS: u64 = 10_000;

/// Fingerprints may be taken for so long between two scans, whatever these cost, milliseconds.
const ROTATION_MS: u64 = 100;

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
    /// The scan that is under way.
    pub(crate) scan: Option<Scan>,
    /// The last job was a slice of a scan: one of another kind comes next, if any waits.
    pub(crate) sliced: bool,
    /// When the last complete one ended.
    pub(crate) scanned_at: Option<u64>,
    /// Of the last complete scan of which everything was looked at and said.
    pub(crate) told_at: Option<u64>,
    /// Something that the last scan saw could not be looked at: the next one brings it up again.
    pub(crate) is_unseen: bool,
    /// A coordinator waits for one.
    pub(crate) scan_asked: bool,
    /// Instances whose objects have new handles: perhaps replaced.
    pub(crate) renewed: BTreeSet<KeyVersionId>,
    /// What was spent on looks since the last complete scan was begun.
    pub(crate) spent: Spent,
}

/// A scan under way: it is done in slices, and what is more urgent is done in between.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    began: u64,
    met: Slice,
    /// How long the token was busy with it, milliseconds.
    busy_ms: u64,
    /// A slice of it was had.
    is_under_way: bool,
    /// What other jobs looked at or changed meanwhile: they know better.
    touched: BTreeSet<KeyVersionId>,
}

/// What looking costs, in milliseconds. The next scan waits until all of it is within its part of a core and of the token's
/// time ([`LOOKS_CPU_FACTOR`], [`LOOKS_TIME_FACTOR`]).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spent {
    since: u64,
    scan_cpu_ms: u64,
    scan_busy_ms: u64,
    rotation_ms: u64,
}

impl Spent {
    const fn nothing(since: u64) -> Self {
        Self {
            since,
            scan_cpu_ms: 0,
            scan_busy_ms: 0,
            rotation_ms: 0,
        }
    }

    /// When the next scan may begin.
    fn scan_at(self, pace_ms: u64) -> u64 {
        let cpu = self.scan_cpu_ms.saturating_add(self.rotation_ms);
        let busy = self.scan_busy_ms.saturating_add(self.rotation_ms);
        let pause = cpu
            .saturating_mul(LOOKS_CPU_FACTOR)
            .max(busy.saturating_mul(LOOKS_TIME_FACTOR))
            .max(pace_ms);
        self.since.saturating_add(pause)
    }

    /// Whether fingerprints may be taken in rotation: as long as they have not cost as much as the scan.
    const fn rotates(self) -> bool {
        self.rotation_ms < self.scan_cpu_ms || self.rotation_ms < ROTATION_MS
    }
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
            scan: None,
            sliced: false,
            scanned_at: None,
            told_at: None,
            is_unseen: false,
            scan_asked: false,
            renewed: BTreeSet::new(),
            spent: Spent::nothing(now),
        }
    }

    /// The token is not the one that was looked at.
    pub(crate) fn forget(&mut self, now: u64) {
        self.identity_at = None;
        self.scan_at = now;
        self.scan = None;
        self.scanned_at = None;
        self.told_at = None;
        self.renewed.clear();
    }
}

impl Machine {
    /// Age of the last complete scan of which everything was said, milliseconds. A later one has seen something that is yet
    /// to be looked at: what was said before it must not count as seen by it.
    pub(crate) fn scan_age_ms(&self, now: u64) -> u64 {
        self.watch
            .told_at
            .map_or(SCAN_NEVER_MS, |at| now.saturating_sub(at))
    }

    /// The next slice: of the scan under way, or the first one.
    pub(crate) fn scan_on(&mut self, turn: &mut Turn<'_>) {
        let job = if self.watch.scan.is_some() {
            TokenJob::ScanOn
        } else {
            TokenJob::Scan
        };
        self.watch.scan.get_or_insert_with(|| Scan {
            began: turn.now,
            ..Scan::default()
        });
        self.put_out(turn, Doing::Scan, job);
    }

    /// Whether a slice is due.
    pub(crate) const fn scan_is_due(&self, now: u64) -> bool {
        self.watch.scan.is_some() || now >= self.watch.scan_at
    }

    /// Whether a slice goes before intents that enable: every other job then.
    pub(crate) fn scan_goes_first(&self, now: u64) -> bool {
        let due = match &self.watch.scan {
            Some(scan) => scan.began,
            None => self.watch.scan_at,
        };
        now >= due.saturating_add(SCAN_LATE_MS) && !self.watch.sliced
    }

    /// What a job on the instance sees is newer than what the scan under way has seen.
    pub(crate) fn touch(&mut self, version: KeyVersionId) {
        if let Some(scan) = &mut self.watch.scan {
            scan.touched.insert(version);
        }
    }

    /// A slice that is not the last.
    pub(crate) fn slice_landed(&mut self, slice: Slice, took_ms: u64) {
        if let Some(scan) = &mut self.watch.scan {
            scan.met.add(slice);
            scan.is_under_way = true;
            scan.busy_ms = scan.busy_ms.saturating_add(took_ms);
        }
    }

    /// A scan ended. What it met it met since it began, and counts as seen then.
    pub(crate) fn scanned(&mut self, turn: &mut Turn<'_>, inventory: Inventory, took_ms: u64) {
        self.slice_landed(inventory.rest, took_ms);
        let Some(scan) = self.watch.scan.take() else {
            return;
        };
        self.identified(turn, &inventory.identity);
        if !self.is_workable() {
            return;
        }
        self.watch.spent = Spent {
            scan_cpu_ms: scan.met.cpu_us / 1000,
            scan_busy_ms: scan.busy_ms,
            ..Spent::nothing(scan.began)
        };
        self.watch.scan_at = self
            .watch
            .spent
            .scan_at(self.setup.pace.scan_ms)
            .max(turn.now);
        self.watch.scanned_at = Some(scan.began);
        self.watch.is_unseen = false;
        self.watch.scan_failures = 0;
        if self.watch.scan_asked {
            self.watch.scan_asked = false;
            self.say_caught_up_again();
        }
        let (ours, others) = self.sort(scan.met.objects);
        let versions: Vec<KeyVersionId> = self.instances.keys().copied().collect();
        for version in versions.iter().filter(|&one| !scan.touched.contains(one)) {
            let objects = ours.get(version).map_or(&[][..], Vec::as_slice);
            self.compare((scan.began, turn.now), *version, objects);
        }
        self.set_unmanaged(others);
    }

    /// A scan failed: the next one waits, the longer the more of them failed.
    pub(crate) fn scan_failed(&mut self, turn: &mut Turn<'_>, miss: &Miss) {
        let was_begun = self.watch.scan.take().is_some_and(|scan| scan.is_under_way);
        if was_begun && self.watch.scan_failures == 0 && miss.may_be_tried_again() {
            // The host may have started anew for somebody's call.
            self.watch.scan_failures = 1;
            self.watch.scan_at = turn.now;
            return;
        }
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

    /// Compares what a scan saw of one instance between two times with what was last believed.
    fn compare(
        &mut self,
        (began, now): (u64, u64),
        version: KeyVersionId,
        objects: &[ObjectFacts],
    ) {
        let pause = self.setup.pace.second_look_ms;
        let Some(instance) = self.instances.get_mut(&version) else {
            return;
        };
        // What is under way looks for itself.
        if !instance.is_resting() {
            return;
        }
        if instance.is_suspicious(objects) {
            let before = instance.sight.suspicion;
            let since = instance.sight.suspect(now, objects);
            if instance.sight.suspicion != before {
                self.telling.dirty.insert(version);
                // The very next scan decides: one that came a moment too soon would cost another round.
                self.watch.scan_at = self.watch.scan_at.max(now.saturating_add(pause));
            } else if since.saturating_add(pause) <= began {
                self.queue.push(Lane::Recheck, Task::Recheck(version));
            }
            return;
        }
        // What another look suspected is cleared by one that meets what was last believed, or by the look that follows.
        let is_suspected = instance.sight.suspicion.is_some();
        let handles = handles_of(objects);
        let renewed = instance.sight.handles != handles;
        instance.sight.handles = handles;
        match &mut instance.sight.last {
            Some(seen) if same_objects(&seen.found.objects, objects) => {
                seen.at_ms = began;
                if instance.sight.suspicion.take().is_some() {
                    self.telling.dirty.insert(version);
                }
                if renewed {
                    self.watch.renewed.insert(version);
                }
            }
            // A destroyed key that is not there needs no look of its own.
            None if objects.is_empty() && instance.intent.want == Want::Destroyed => {
                self.believe(began, version, Found::default());
            }
            Some(_) | None
                if !is_suspected && instance.intent.object.is_exactly(objects.iter()) =>
            {
                self.queue.push(Lane::Recheck, Task::Survey(version));
            }
            Some(_) | None => self.queue.push(Lane::Recheck, Task::Recheck(version)),
        }
    }

    /// Whose fingerprints are taken next in rotation: what has new handles first, then what was not looked at for longest.
    /// Once one is due, those that are halfway there come along: together they cost little more than one.
    pub(crate) fn rotate(&mut self, now: u64) -> Vec<KeyVersionId> {
        if !self.watch.spent.rotates() {
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
        if !self.watch.spent.rotates() {
            return None;
        }
        if !self.watch.renewed.is_empty() {
            return Some(0);
        }
        let (at, _) = self.oldest_fingerprint()?;
        Some(at.saturating_add(self.setup.pace.fingerprint_ms))
    }

    /// Fingerprints took this long: the next scan waits, so that all looks together stay within their part.
    pub(crate) fn pace_rotation(&mut self, took_ms: u64) {
        let spent = &mut self.watch.spent;
        spent.rotation_ms = spent.rotation_ms.saturating_add(took_ms);
        let scan_at = spent.scan_at(self.setup.pace.scan_ms);
        self.watch.scan_at = self.watch.scan_at.max(scan_at);
    }

    fn fingerprint_at(&self, version: KeyVersionId) -> Option<u64> {
        let instance = self.instances.get(&version)?;
        let seen = instance.sight.last.as_ref()?;
        let is_plain = instance.is_resting() && instance.sight.suspicion.is_none();
        (is_plain && !seen.found.objects.is_empty()).then_some(seen.fingerprint_at_ms)
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
