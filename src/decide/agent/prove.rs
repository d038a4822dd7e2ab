//! Trying an instance again: because somebody asks, or because what was proved before is no longer what is there.

use crate::decide::agent::instance::Kept;
use crate::decide::agent::io::{Output, ProveFailure};
use crate::decide::agent::job::{Doing, Miss};
use crate::decide::agent::look::Why;
use crate::decide::agent::queue::{Lane, Task};
use crate::decide::agent::{Machine, Turn};
use crate::model::desired::{ObjectPlan, Want};
use crate::model::ids::KeyVersionId;
use crate::model::job::{FailureKind, Ran, RunJob, TokenJob};
use crate::model::step::Step;

/// Most calls that wait for one instance.
const WAITING_MAX: usize = 16;

impl Machine {
    /// Somebody asks for a proof.
    pub(crate) fn prove_asked(&mut self, turn: &mut Turn<'_>, request: u64, version: KeyVersionId) {
        let failure = match self.instances.get(&version) {
            None => Some(ProveFailure::Unmanaged),
            Some(_) if !self.is_workable() => {
                Some(ProveFailure::Unhealthy(self.token_health.clone()))
            }
            Some(instance) if !instance.is_done() => Some(ProveFailure::Unfinished),
            Some(_) => None,
        };
        let waiting = self.proving.get(&version).map_or(0, Vec::len);
        let failure = failure.or((waiting >= WAITING_MAX).then_some(ProveFailure::TooMany));
        if let Some(failure) = failure {
            let result = Err(failure);
            return turn.out.push(Output::Proved { request, result });
        }
        self.proving.entry(version).or_default().push(request);
        self.queue.push(Lane::Ask, Task::Prove(version));
    }

    /// Tries the operations that the want allows or forbids.
    pub(crate) fn prove(&mut self, turn: &mut Turn<'_>, version: KeyVersionId) {
        let strategy = self.strategy_of(version);
        let Some(instance) = self.instances.get_mut(&version) else {
            return;
        };
        if !instance.is_done() {
            let result = Err(ProveFailure::Unfinished);
            return self.answer_prove(turn, version, &result);
        }
        let step = match instance.intent.want {
            want if !ObjectPlan::is_present(want, strategy) => {
                return self.inspect(turn, version, Why::Prove);
            }
            Want::Active => Step::ProveEnabled,
            Want::Deactivated | Want::Destroyed => Step::ProveDisabled,
        };
        instance.sight.proof_tried = true;
        let hints = instance.sight.last.as_ref();
        let job = RunJob {
            object: instance.intent.object.clone(),
            fingerprint: instance.intent.fingerprint,
            steps: vec![step],
            envelope: None,
            hints: hints.map_or_else(Vec::new, |seen| seen.found.objects.clone()),
        };
        let applied = instance.applied;
        let job = TokenJob::Run(Box::new(job));
        self.put_out(turn, Doing::Prove { version, applied }, job);
    }

    /// What came of it.
    pub(crate) fn prove_landed(
        &mut self,
        turn: &mut Turn<'_>,
        version: KeyVersionId,
        result: Result<Box<Ran>, Miss>,
    ) {
        let at = self.wall(turn.now);
        let result = match result {
            Ok(ran) => {
                self.observe(turn.began, version, ran.found);
                if let Some(instance) = self.instances.get_mut(&version)
                    && instance.is_done()
                {
                    // What failed by the way is tried again after the next look.
                    let again = ran.failure.as_ref().is_some_and(|failure| {
                        matches!(failure.kind, FailureKind::Retry | FailureKind::Restart)
                    });
                    instance.sight.proof_tried = !again;
                    let proof = ran.proof.filter(|_| ran.failure.is_none());
                    instance.proof = proof.map(|proof| Kept { proof, at });
                    self.telling.dirty.insert(version);
                }
                ran.failure
                    .map_or(Ok(()), |failure| Err(ProveFailure::Failed(failure)))
            }
            Err(miss) => {
                self.missed_one(turn, &miss);
                if let Some(instance) = self.instances.get_mut(&version) {
                    instance.sight.proof_tried = false;
                }
                Err(match miss {
                    Miss::Failed(failure) => ProveFailure::Failed(failure),
                    Miss::Unknown(why) => ProveFailure::Unknown { why },
                })
            }
        };
        self.answer_prove(turn, version, &result);
    }

    /// Answers everybody who waits for the instance.
    pub(crate) fn answer_prove(
        &mut self,
        turn: &mut Turn<'_>,
        version: KeyVersionId,
        result: &Result<(), ProveFailure>,
    ) {
        for request in self.proving.remove(&version).unwrap_or_default() {
            let result = match (result, self.instances.get(&version)) {
                (Err(failure), _) => Err(failure.clone()),
                (Ok(()), None) => Err(ProveFailure::Unmanaged),
                (Ok(()), Some(instance)) => Ok(Box::new(self.report(turn.now, version, instance))),
            };
            turn.out.push(Output::Proved { request, result });
        }
    }
}
