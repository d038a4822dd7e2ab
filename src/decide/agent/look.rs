//! Looks at one instance, and what is believed of them.

use crate::decide::agent::instance::{Instance, Seen, handles_of, same_objects};
use crate::decide::agent::io::StreamId;
use crate::decide::agent::job::{Doing, Miss};
use crate::decide::agent::queue::{Lane, Task};
use crate::decide::agent::{Machine, Turn};
use crate::decide::effects::met;
use crate::model::capabilities::Strategy;
use crate::model::desired::{Applied, Intent, ObjectPlan};
use crate::model::ids::KeyVersionId;
use crate::model::job::{Glance, TokenJob};
use crate::model::observed::{Found, Observation};
use crate::model::protocol::{Progress, Report, UpBody};

/// Why one instance is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// To carry its intent out.
    Carry,
    /// Somebody asked.
    Asked,
    /// A scan saw something.
    Seen,
    /// Its turn.
    Rotation,
    /// A destroyed key is proved by not being found.
    Prove,
}

impl Machine {
    /// A coordinator asks for one instance.
    pub(crate) fn look_at(&mut self, turn: &mut Turn<'_>, stream: StreamId, version: KeyVersionId) {
        if self.instances.contains_key(&version) {
            self.queue.push(Lane::Ask, Task::Look(version));
            return;
        }
        // Where it would be is said by an intent alone.
        let report = Report {
            version,
            applied: None,
            progress: Progress::Done,
            observation: Observation::Unknown {
                why: "this agent has no intent for that key version".to_owned(),
            },
            proof: None,
            proof_age_ms: 0,
            look_age_ms: 0,
            strategy: Strategy::Flags,
        };
        self.send(turn, stream, UpBody::Reports(vec![report]));
    }

    /// Looks at one instance.
    pub(crate) fn inspect(&mut self, turn: &mut Turn<'_>, version: KeyVersionId, why: Why) {
        if let Some(instance) = self.instances.get(&version) {
            let applied = instance.applied;
            let job = TokenJob::Inspect(instance.intent.object.clone());
            let doing = Doing::Look {
                version,
                applied,
                why,
            };
            self.put_out(turn, doing, job);
        }
    }

    /// Looks at several instances in one job.
    pub(crate) fn survey(&mut self, turn: &mut Turn<'_>, versions: &[KeyVersionId], why: Why) {
        let (mut looks, mut glances) = (Vec::new(), Vec::new());
        for version in versions {
            if let Some(instance) = self.instances.get(version) {
                looks.push((*version, instance.applied));
                glances.push(Glance {
                    object: instance.intent.object.clone(),
                    handles: instance.sight.handles.clone(),
                });
            }
        }
        if !looks.is_empty() {
            self.put_out(
                turn,
                Doing::Survey { looks, why },
                TokenJob::Survey(glances),
            );
        }
    }

    /// Looks at several instances came to their end.
    pub(crate) fn survey_landed(
        &mut self,
        turn: &mut Turn<'_>,
        looks: &[(KeyVersionId, Applied)],
        why: Why,
        result: Result<Vec<Option<Found>>, Miss>,
    ) {
        let (surveyed, is_whole) = match result {
            Ok(surveyed) => (surveyed, false),
            Err(miss) => {
                let is_whole = self.missed_one(turn, &miss);
                self.watch.is_unseen |= why == Why::Seen;
                for &(version, _) in looks.iter().filter(|_| is_whole) {
                    self.not_seen(version, &miss);
                }
                (looks.iter().map(|_| None).collect(), is_whole)
            }
        };
        let (reached, rest) = looks.split_at(surveyed.len().min(looks.len()));
        for (&(version, applied), found) in reached.iter().zip(surveyed) {
            // A newer intent that came meanwhile looks for itself.
            if !self.is_current(version, applied) {
                continue;
            }
            match found {
                // A look by handles meets no others: it cannot clear what a look at all suspected.
                Some(_) if self.is_suspected(version) => {}
                Some(found) => self.observe_by_handles(turn.began, version, found),
                // The token is in trouble: the next scan brings it up again.
                None if is_whole => {}
                None => self.queue.push(Lane::Recheck, Task::Recheck(version)),
            }
        }
        // There was no time for these. In rotation they are the oldest now.
        for &(version, _) in rest.iter().filter(|_| why == Why::Seen) {
            self.queue.push(Lane::Recheck, Task::Survey(version));
        }
    }

    /// A look by handles meets no others beside them: how many there are is known since what met all that there were.
    fn observe_by_handles(&mut self, now: u64, version: KeyVersionId, found: Found) {
        let seen_at = |instance: &Instance| instance.sight.last.as_ref().map(|seen| seen.at_ms);
        let met_at = self.instances.get(&version).and_then(seen_at);
        let met_at = met_at.or(self.watch.scanned_at);
        self.observe(now, version, found);
        let instance = self.instances.get_mut(&version);
        if let Some(seen) = instance.and_then(|instance| instance.sight.last.as_mut()) {
            seen.at_ms = met_at.map_or(seen.at_ms, |at| at.min(seen.at_ms));
        }
    }

    fn is_suspected(&self, version: KeyVersionId) -> bool {
        let instance = self.instances.get(&version);
        instance.is_some_and(|instance| instance.sight.suspicion.is_some())
    }

    /// A look came to its end.
    pub(crate) fn look_landed(
        &mut self,
        turn: &mut Turn<'_>,
        version: KeyVersionId,
        why: Why,
        result: Result<Found, Miss>,
    ) {
        match (result, why) {
            (Ok(found), Why::Carry) => self.act(turn, version, found),
            (Err(miss), Why::Carry) => self.stumble(turn, version, miss),
            (Ok(found), Why::Asked | Why::Seen | Why::Rotation | Why::Prove) => {
                self.observe(turn.began, version, found);
            }
            (Err(miss), Why::Asked | Why::Seen | Why::Rotation | Why::Prove) => {
                self.missed_one(turn, &miss);
                self.watch.is_unseen |= why == Why::Seen;
                self.not_seen(version, &miss);
            }
        }
        match why {
            Why::Asked => {
                self.telling.dirty.insert(version);
            }
            Why::Prove => self.answer_prove(turn, version, &Ok(())),
            Why::Carry | Why::Seen | Why::Rotation => {}
        }
    }

    /// A look that was asked for by nobody's intent: what is missing or doubled waits for a second one.
    pub(crate) fn observe(&mut self, now: u64, version: KeyVersionId, found: Found) {
        let pause = self.setup.pace.second_look_ms;
        let identity_at = self.watch.identity_at;
        let Some(instance) = self.instances.get_mut(&version) else {
            return;
        };
        if instance.is_resting() && instance.is_suspicious(&found.objects) {
            let since = instance.sight.suspect(now, &found.objects);
            let due = since.saturating_add(pause);
            if now < due || identity_at.is_none_or(|at| at < due) {
                self.telling.dirty.insert(version);
                return;
            }
        }
        self.believe(now, version, found);
    }

    /// Takes a look as true.
    pub(crate) fn believe(&mut self, now: u64, version: KeyVersionId, found: Found) {
        let strategy = self.strategy_of(version);
        let Some(instance) = self.instances.get_mut(&version) else {
            return;
        };
        self.watch.renewed.remove(&version);
        let changed = match (&instance.sight.last, instance.sight.suspicion) {
            (Some(seen), None) => differs(&seen.found, &found),
            (None, _) | (Some(_), Some(_)) => true,
        };
        let is_met = holds_what_is_proved(&instance.intent, &found, strategy);
        instance.sight.suspicion = None;
        instance.sight.why_unknown = None;
        instance.sight.handles = handles_of(&found.objects);
        let is_unprinted = found.fingerprint_failure.is_some();
        instance.sight.last = Some(Seen {
            found,
            at_ms: now,
            fingerprint_at_ms: now,
        });
        if changed {
            instance.sight.proof_tried = false;
            self.telling.dirty.insert(version);
        }
        if !instance.is_done() {
            return;
        }
        if changed && is_unprinted {
            // What failed once may have failed in passing; what fails again waits for its turn.
            self.watch.renewed.insert(version);
        }
        if !is_met {
            // What was proved is no longer there.
            instance.proof = None;
        } else if instance.proof.is_none()
            && !instance.sight.proof_tried
            && ObjectPlan::is_present(instance.intent.want, strategy)
        {
            self.queue.push(Lane::Recheck, Task::Prove(version));
        }
    }

    fn not_seen(&mut self, version: KeyVersionId, miss: &Miss) {
        let Some(instance) = self.instances.get_mut(&version) else {
            return;
        };
        if instance.sight.last.is_none() {
            let why = match miss {
                Miss::Failed(failure) => failure.to_string(),
                Miss::Unknown(why) => why.clone(),
            };
            instance.sight.why_unknown = Some(why);
            self.telling.dirty.insert(version);
        }
    }
}

/// Whether what a proof says of an intent may be true of what was found. A proof speaks of usage; a label proves nothing.
fn holds_what_is_proved(intent: &Intent, found: &Found, strategy: Strategy) -> bool {
    let mut named = found.clone();
    for object in &mut named.objects {
        object.label.clone_from(&intent.object.label);
    }
    met(intent, &named, strategy)
}

/// Whether a look says something else than the one before, handles aside.
fn differs(before: &Found, now: &Found) -> bool {
    before.fingerprint != now.fingerprint
        || before.fingerprint_failure != now.fingerprint_failure
        || !same_objects(&before.objects, &now.objects)
        || !same_objects(&before.same_label, &now.same_label)
}
