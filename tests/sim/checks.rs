//! The invariants of promises 1.5, checked as things happen: what the machines say against what the token truly holds, and
//! what is durable.

use std::collections::{BTreeMap, BTreeSet};

use lockstep::coordinator::store::{Change as Commit, Store as _, Write};
use lockstep::decide::agent::io::{SECOND_LOOK_MS, StreamId};
use lockstep::decide::agent::record::{JournalRecord, Phase, Record};
use lockstep::decide::check::Invariant;
use lockstep::decide::check::history::{Approvals, Change, Event, Place, Watch};
use lockstep::decide::check::moment::holds;
use lockstep::decide::coordinator::Output;
use lockstep::decide::coordinator::known::FRESH_FOR_MS;
use lockstep::decide::status::status;
use lockstep::model::desired::{Instance, Intent, ObjectPlan, Want};
use lockstep::model::difference::Status;
use lockstep::model::ids::{Digest, KeyVersionId, KeystoreId, SessionNumber};
use lockstep::model::job::TokenJob;
use lockstep::model::keystore::Health;
use lockstep::model::live::Connection;
use lockstep::model::observed::{Fingerprint, Found, Observation};
use lockstep::model::protocol::{Down, Progress, Up, UpBody};
use lockstep::model::step::Step;

use crate::agent::Acting;
use crate::bugs::Bug;
use crate::port::{at_once, lock};
use crate::world::World;

/// Frames may be under way for so long before the line counts as dead.
const SILENT_FOR_MS: u64 = 16_000;

/// A replaced key is seen so late at most, also while the token fails now and then (30 s without that).
const ROTATION_MS: u64 = 60_000;

/// The next scan is done in this time, also where the token is slow: it waits four times as long as the last one took.
const NEXT_SCANS_MS: u64 = 40_000;

/// What was broken first.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) invariant: &'static str,
    pub(crate) at_ms: u64,
    pub(crate) what: String,
}

/// The instances that a store wants.
pub(crate) type Wanted = BTreeMap<(KeystoreId, KeyVersionId), Instance>;

/// All that is known of the truth.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) failure: Option<Failure>,
    watch: Watch,
    order: u64,
    /// Two stores go on from one: a generation may mean two things.
    is_split: bool,
    current: BTreeMap<usize, Wanted>,
    pub(crate) plans: BTreeMap<(usize, KeyVersionId), Intent>,
    history: BTreeMap<(usize, KeyVersionId), Vec<(u64, Found)>>,
    /// When the look that a coordinator knows was truly had.
    looks: BTreeMap<(usize, usize, KeyVersionId), u64>,
    scans: BTreeMap<(usize, usize), u64>,
    operations: BTreeSet<String>,
    told: BTreeSet<String>,
    pub(crate) next_call: u64,
    pub(crate) next_ask: u64,
    pub(crate) false_seq: u64,
    /// A frame of an ended stream is being given to the live one.
    pub(crate) sneaked: Option<StreamId>,
    keystores: BTreeMap<KeystoreId, usize>,
}

impl Oracle {
    /// A change is durable.
    pub(crate) fn committed(&mut self, c: usize, change: &Commit) {
        self.order += 1;
        let order = self.order;
        let audited: BTreeSet<Digest> = change
            .audit
            .iter()
            .flat_map(|entry| entry.intents.clone())
            .collect();
        self.operations.extend(
            change
                .operation
                .iter()
                .map(|operation| operation.key.clone()),
        );
        for write in &change.writes {
            if let Write::InstancePut { instance, .. } = write {
                let intent = &instance.intent;
                if audited.contains(&intent.digest()) {
                    let (place, applied) = (Place::of(intent), intent.applied());
                    let approvals = Approvals::default();
                    self.watch.see(
                        &Event::Committed {
                            place,
                            applied,
                            order,
                            approvals,
                        },
                        &mut Vec::new(),
                    );
                }
                let wanted = self.current.entry(c).or_default();
                wanted.insert((intent.keystore, intent.version), (**instance).clone());
                if let Some(&k) = self.keystores.get(&intent.keystore) {
                    self.plans.insert((k, intent.version), intent.clone());
                }
            }
        }
    }

    /// A store says that these are durable.
    pub(crate) fn promised(&mut self, operations: Vec<String>) {
        self.operations.extend(operations);
    }

    pub(crate) fn wanted_by(&self, c: usize) -> Wanted {
        self.current.get(&c).cloned().unwrap_or_default()
    }

    /// A coordinator goes on from an older state: what was told since then may be lost.
    pub(crate) fn restored(&mut self, c: usize, wanted: Wanted) {
        self.current.insert(c, wanted);
        self.told.clear();
        self.operations.clear();
    }

    pub(crate) fn split(&mut self) {
        self.is_split = true;
    }

    pub(crate) fn told(&mut self, operation: String) {
        if self.operations.contains(&operation) {
            self.told.insert(operation);
        }
    }

    pub(crate) fn forget_looks(&mut self, c: usize, k: usize) {
        self.looks.retain(|(at, on, _), _| (*at, *on) != (c, k));
        self.scans.remove(&(c, k));
    }

    pub(crate) fn fingerprint_of(&self, k: usize, cka_id: &[u8]) -> Option<Fingerprint> {
        let mut plans = self.plans.iter();
        plans
            .find(|((at, _), intent)| *at == k && intent.object.cka_id == cka_id)
            .map(|(_, intent)| intent.fingerprint)
    }
}

/// The newest durable intent of each instance in a journal, and whether it is done.
fn durable(disk: &[JournalRecord]) -> BTreeMap<KeyVersionId, (&Intent, bool)> {
    let mut newest = BTreeMap::new();
    for JournalRecord::V1(record) in disk {
        if let Record::Intent { intent, phase } = record {
            newest.insert(
                intent.version,
                (&**intent, matches!(phase, Phase::Done { .. })),
            );
        }
    }
    newest
}

/// Whether what is on the token is what an instance claims when it is called in sync.
fn matches(instance: &Instance, found: &Found) -> bool {
    let is_there = !found.objects.is_empty() && instance.is_target;
    holds(instance, found, instance.intent.object.strategy)
        && (!is_there || found.fingerprint == Some(instance.intent.fingerprint))
}

/// Whether something there can do what the key may do while it is active only.
fn is_usable(plan: &ObjectPlan, found: &Found) -> bool {
    let idle = |class| plan.usage_under(Want::Deactivated, class);
    found
        .objects
        .iter()
        .any(|facts| !idle(facts.class).contains(facts.usage))
}

impl World {
    /// Remembers what the token holds from now on.
    pub(crate) fn see(&mut self, k: usize, version: KeyVersionId) {
        let Some(intent) = self.oracle.plans.get(&(k, version)) else {
            return;
        };
        let plan = intent.object.clone();
        let found = self.truth(k, &plan);
        let now = self.now;
        let history = self.oracle.history.entry((k, version)).or_default();
        if history.last().is_none_or(|(_, last)| *last != found) {
            history.push((now, found));
        }
    }

    /// Whether the token held what is claimed at some time from `since` on.
    fn was_so(
        &self,
        k: usize,
        version: KeyVersionId,
        since: u64,
        holds: impl Fn(&Found) -> bool,
    ) -> bool {
        let empty = Found::default();
        let Some(history) = self.oracle.history.get(&(k, version)) else {
            return holds(&empty);
        };
        let begun = history.iter().rposition(|(at, _)| *at <= since);
        // What changed within this very moment may have been seen before or after.
        let from = begun.map_or(0, |begun| {
            if history[begun].0 == since {
                begun.saturating_sub(1)
            } else {
                begun
            }
        });
        (begun.is_none_or(|begun| history[begun].0 == since && begun == 0) && holds(&empty))
            || history[from..].iter().any(|(_, found)| holds(found))
    }

    /// Tells the watch what happened.
    pub(crate) fn watch(&mut self, event: &Event) {
        let mut broken = Vec::new();
        self.oracle.watch.see(event, &mut broken);
        // With two stores a generation may mean two things: what one of them orders late may undo the other's.
        let split = self.oracle.is_split;
        broken
            .retain(|violation| !(split && violation.invariant == Invariant::NoStaleReactivation));
        for violation in broken {
            self.fail(violation.invariant.id(), violation.what);
        }
    }

    /// I9: an intent is taken past the fence.
    pub(crate) fn check_journaled(
        &mut self,
        k: usize,
        JournalRecord::V1(record): &JournalRecord,
        from: Option<StreamId>,
    ) {
        let Record::Intent {
            intent,
            phase: Phase::Intent,
        } = record
        else {
            return;
        };
        let id = self.agents[k].id;
        self.oracle.keystores.insert(id, k);
        self.oracle
            .plans
            .entry((k, intent.version))
            .or_insert_with(|| (**intent).clone());
        let came_on = self.oracle.sneaked.or(from);
        let run = self.agents[k].run.as_ref();
        let session =
            came_on.and_then(|stream| run.and_then(|run| run.sessions.get(&stream).copied()));
        let (place, applied) = (Place::of(intent), intent.applied());
        self.watch(&Event::Taken {
            place,
            session: session.unwrap_or_default(),
            applied,
        });
    }

    /// A record is durable.
    pub(crate) fn check_durable(&mut self, k: usize, JournalRecord::V1(record): &JournalRecord) {
        let Record::Intent { intent, phase } = record else {
            return;
        };
        let done = match phase {
            Phase::Intent => None,
            Phase::Done { .. } => {
                let instance = plain((**intent).clone());
                Some(self.was_so(k, intent.version, 0, |found| matches(&instance, found)))
            }
        };
        self.watch(&Event::Journaled {
            place: Place::of(intent),
            applied: intent.applied(),
            done,
        });
    }

    /// I9: sessions are numbered upwards, and terms never go back.
    pub(crate) fn check_accepted(&mut self, k: usize, stream: StreamId, session: SessionNumber) {
        let agent = &mut self.agents[k];
        let keystore = agent.id;
        let term = agent
            .run
            .as_ref()
            .and_then(|run| run.opened.get(&stream))
            .copied()
            .unwrap_or_default();
        let highest = agent.highest_term;
        agent.highest_term = highest.max(term);
        self.watch(&Event::Accepted { keystore, session });
        if term < highest {
            self.fail("I9", format!("agent {k} takes term {term} after {highest}"));
        }
    }

    /// R4, I8: steps are put out for the newest durable intent alone, and none but proofs for one that is done.
    pub(crate) fn check_job(&mut self, k: usize, job: &TokenJob) -> Option<Acting> {
        let TokenJob::Run(run) = job else { return None };
        let newest = durable(&self.agents[k].disk);
        let found = newest.values().find(|(intent, _)| {
            intent.object == run.object && intent.fingerprint == run.fingerprint
        });
        let Some((intent, done)) = found.map(|(intent, done)| ((*intent).clone(), *done)) else {
            self.fail(
                "R4",
                format!("agent {k} acts for an intent that is not durable: {run:?}"),
            );
            return None;
        };
        let proves = |step: &Step| matches!(step, Step::ProveEnabled | Step::ProveDisabled);
        if done && !run.steps.iter().all(proves) {
            self.fail(
                "R4",
                format!("agent {k} acts for an intent that is done: {run:?}"),
            );
        }
        // What restricts goes first: nothing is enabled while a restriction could be carried out.
        Some(Acting { intent })
    }

    /// I1 to I4, I7: what a run did to the token.
    pub(crate) fn check_effect(&mut self, k: usize, intent: &Intent) {
        let version = intent.version;
        let after = self.truth(k, &intent.object);
        let history = self.oracle.history.get(&(k, version));
        let before = history
            .and_then(|history| history.last())
            .map(|(_, found)| found.clone())
            .unwrap_or_default();
        if before == after {
            return;
        }
        let change = Change::between(intent, &before.objects, &after.objects);
        self.watch(&Event::Effect {
            place: Place::of(intent),
            applied: intent.applied(),
            change,
        });
        let is_other = after
            .fingerprint
            .is_some_and(|seen| seen != intent.fingerprint);
        if change.enabled && is_other && before.fingerprint == after.fingerprint {
            self.fail("I4", format!("another key is enabled on {k}"));
        }
    }

    /// I8: nothing is called done that is not durably so. R13: nothing is called absent that is there.
    pub(crate) fn check_up(&mut self, k: usize, up: &Up) {
        let UpBody::Reports(reports) = &up.body else {
            return;
        };
        let keystore = self.agents[k].id;
        for report in reports {
            let Some(applied) = report.applied else {
                continue;
            };
            let version = report.version;
            let done = report.progress == Progress::Done;
            self.watch(&Event::Reported {
                place: Place { keystore, version },
                applied,
                done,
            });
            if done && let Observation::Absent { .. } = report.observation {
                let since = self
                    .now
                    .saturating_sub(report.look_age_ms + SECOND_LOOK_MS + 1_000);
                if !self.was_so(k, version, since, |found| found.objects.is_empty()) {
                    self.fail("R13", format!("agent {k} calls absent what is there"));
                }
            }
        }
    }

    /// What reduces use goes first in each pass.
    pub(crate) fn check_order(&mut self, outputs: &[Output]) {
        let reversed = self.bug == Some(Bug::RestrictiveLast);
        let mut wants: Vec<Want> = outputs
            .iter()
            .filter_map(|output| match output {
                Output::Send(down) => match &**down {
                    Down::Intent { intent, .. } => Some(intent.want),
                    _ => None,
                },
                _ => None,
            })
            .collect();
        if reversed {
            wants.reverse();
        }
        // An envelope that has come goes first: it is one intent, and the pass follows.
        let pass = &wants[usize::from(wants.len() > 1 && wants[0] == Want::Active && !reversed)..];
        if pass.windows(2).any(|pair| pair[0] < pair[1]) {
            self.fail(
                "R2",
                format!("what enables goes before what restricts: {wants:?}"),
            );
        }
    }

    /// Notes when the looks that a frame tells of were truly had.
    pub(crate) fn note_looks(
        &mut self,
        c: usize,
        k: usize,
        sent_at: u64,
        up: &Up,
        _session: Option<SessionNumber>,
    ) {
        match &up.body {
            UpBody::Accepted { .. } => {
                self.oracle.scans.remove(&(c, k));
            }
            UpBody::Reports(reports) => {
                for report in reports {
                    let at = sent_at.saturating_sub(report.look_age_ms);
                    self.oracle.looks.insert((c, k, report.version), at);
                }
            }
            UpBody::CaughtUp { scan_age_ms } | UpBody::Heartbeat { scan_age_ms, .. } => {
                self.oracle
                    .scans
                    .insert((c, k), sent_at.saturating_sub(*scan_age_ms));
            }
            _ => {}
        }
    }

    /// I5, I10: what people are shown is true.
    pub(crate) fn check_shown(&mut self, c: usize, k: usize) {
        if !self.coordinators[c].up {
            return;
        }
        let id = self.agents[k].id;
        let terms = self.terms();
        self.oracle.keystores.insert(id, k);
        let range = (id, KeyVersionId::from_uuid(uuid::Uuid::nil()))
            ..=(id, KeyVersionId::from_uuid(uuid::Uuid::max()));
        let Some(wanted) = self.oracle.current.get(&c) else {
            return;
        };
        let shown: Vec<(Instance, u64)> = {
            let desk = lock(&self.coordinators[c].desk);
            let machine = &desk.keepers[&id].machine;
            let rows = wanted.range(range).filter_map(|((_, version), instance)| {
                machine.known().report_of(*version)?;
                let mut live = machine.live(*version, self.now);
                if self.bug == Some(Bug::RememberedInSync) {
                    (live.connection, live.health) = (Connection::Live, Some(Health::Ok));
                    live.look_age_ms = 0;
                }
                matches!(status(instance, &live, &terms), Status::InSync(_))
                    .then(|| (instance.clone(), live.look_age_ms))
            });
            rows.collect()
        };
        let silent = {
            let desk = lock(&self.coordinators[c].desk);
            let keeper = &desk.keepers[&id];
            keeper.line.is_none() || self.now.saturating_sub(keeper.heard) > SILENT_FOR_MS + 2_000
        };
        if silent && !shown.is_empty() {
            self.fail(
                "I5",
                format!("{k} is shown in sync while nobody hears of it"),
            );
        }
        for (instance, _) in shown {
            self.check_claim(c, k, &instance);
        }
    }

    /// One claim of "in sync".
    fn check_claim(&mut self, c: usize, k: usize, instance: &Instance) {
        let version = instance.intent.version;
        let look = self
            .oracle
            .looks
            .get(&(c, k, version))
            .copied()
            .unwrap_or(0);
        let scan = self.oracle.scans.get(&(c, k)).copied().unwrap_or(0);
        let since = look.max(scan);
        if self.now.saturating_sub(since) > FRESH_FOR_MS + SILENT_FOR_MS {
            self.fail("I5", format!("{k} is shown in sync by a look of {since}"));
        }
        // A scan does not take fingerprints: another key in the same place is found when its turn comes.
        let looks_so = self.was_so(k, version, since, |found| {
            matches(
                instance,
                &Found {
                    fingerprint: Some(instance.intent.fingerprint),
                    ..found.clone()
                },
            )
        });
        let fingerprinted = since.saturating_sub(ROTATION_MS);
        // Who is there twice and was missed once in a look looks like one: the next scan tells.
        let id = &instance.intent.object.cka_id;
        let missed = self.agents[k].missed_at.get(id).copied();
        if missed.is_some_and(|at| self.now - at < NEXT_SCANS_MS) && self.is_doubled(k, version) {
            return;
        }
        if self.is_torn(k, version, since, instance) {
            return;
        }
        if !looks_so || !self.was_so(k, version, fingerprinted, |found| matches(instance, found)) {
            let history = self
                .oracle
                .history
                .get(&(k, version))
                .and_then(|h| h.last())
                .cloned();
            let want = instance.intent.want;
            self.fail("I5", format!("coordinator {c} shows {want:?} in sync on {k}, looked at {since}, last {history:?}"));
        }
        let plan = &instance.intent.object;
        if instance.intent.want != Want::Active
            && !self.was_so(k, version, since, |found| !is_usable(plan, found))
        {
            self.fail("I10", format!("{k} is shown not active and is usable"));
        }
    }

    /// A scan in slices shows no one moment: one met the first of two copies, and somebody took both before it met the second.
    /// I5 says nothing of what is changed after a scan was begun; the next one tells.
    fn is_torn(&self, k: usize, version: KeyVersionId, since: u64, instance: &Instance) -> bool {
        let history = self.oracle.history.get(&(k, version));
        let is_changed = history.is_some_and(|h| h.last().is_some_and(|(at, _)| *at > since));
        is_changed
            && self.was_so(k, version, since, |found| {
                let mut classes = BTreeSet::new();
                let mut met = found.clone();
                met.objects.retain(|facts| classes.insert(facts.class));
                met.fingerprint = Some(instance.intent.fingerprint);
                matches(instance, &met)
            })
    }

    fn is_doubled(&self, k: usize, version: KeyVersionId) -> bool {
        let history = self.oracle.history.get(&(k, version));
        let objects = history
            .and_then(|history| history.last())
            .map(|(_, found)| &found.objects);
        objects.is_some_and(|objects| {
            let classes: BTreeSet<_> = objects.iter().map(|facts| facts.class).collect();
            classes.len() < objects.len()
        })
    }

    /// I17: what was answered is there. I4: nothing is there twice.
    pub(crate) fn final_checks(&mut self) {
        let store = self.coordinators[self.front].store.clone();
        for operation in self.oracle.told.clone() {
            if !matches!(at_once(store.operation(&operation)), Ok(Some(_))) {
                self.fail("I17", format!("{operation} was answered and is gone"));
            }
        }
        self.check_settled();
    }
}

fn plain(intent: Intent) -> Instance {
    Instance {
        intent,
        is_target: true,
        since: lockstep::model::vault::UnixMs(0),
        revision: lockstep::model::ids::Revision(0),
        adoption: None,
    }
}
