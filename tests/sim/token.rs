//! What a token does with a job: the real in-memory token, with the sins that were measured on SoftHSM2 and others scripted
//! into it, and people who change it past everybody.

use lockstep::keystore::Keystore as _;
use lockstep::keystore::memory::Fault;
use lockstep::model::desired::ObjectPlan;
use lockstep::model::ids::KeyVersionId;
use lockstep::model::job::{FailureKind, TokenAnswer, TokenFailure, TokenJob, TokenOutcome};
use lockstep::model::key::{Usage, UsageSet};
use lockstep::model::observed::{Found, ObjectClass};
use lockstep::model::step::Step;

use crate::agent::UnderWay;
use crate::bugs::Bug;
use crate::plan::{Class, Tampering};
use crate::world::{Event, Spoiled, World};

/// A key is not missed again within this time: two looks that miss the same key are a loss as far as anybody can tell.
const MISSED_AGAIN_MS: u64 = 12_000;

impl World {
    /// The token does the job; the answer is on its way.
    pub(crate) fn effect(&mut self, k: usize, boot: u64, number: u64) {
        if self.agents[k].boot != boot {
            return;
        }
        let Some(run) = &mut self.agents[k].run else {
            return;
        };
        let Some(job) = run.under_way.take_if(|job| job.number == number) else {
            return;
        };
        let outcome = self.do_job(k, &job);
        let slow = self.now < self.agents[k].slow_until;
        let wait = if slow {
            self.token_dice.between(100, 2_000)
        } else {
            self.token_dice.between(0, 8)
        };
        if let Some(run) = &mut self.agents[k].run {
            run.under_way = Some(UnderWay {
                outcome: Some(outcome),
                ..job
            });
        }
        self.after(
            wait,
            Event::Landed {
                k,
                boot,
                job: number,
            },
        );
    }

    /// Does the job with whatever fault strikes, and checks what became of the token.
    pub(crate) fn do_job(&mut self, k: usize, under_way: &UnderWay) -> TokenOutcome {
        let job = &under_way.job;
        let fault = self.pick_fault(k, job);
        if fault != Fault::Pass {
            self.note(&format!("token {k}: {fault:?}"));
        }
        let killed = matches!(fault, Fault::LostAt(_) | Fault::LostAfter);
        self.agents[k].token.script([fault]);
        let mut outcome = self.agents[k].token.perform(job);
        self.detail(|| format!("token {k}: {job:?} -> {outcome:?}"));
        if let (TokenJob::Run(run), Some(acting)) = (job, &under_way.acting) {
            let version = acting.intent.version;
            if killed && self.strikes(Class::TokenKilled) {
                self.kill_mid_write(k, &run.object);
            }
            if self.bug == Some(Bug::MadeTwice)
                && matches!(outcome, TokenOutcome::Unknown { .. })
                && run.steps.contains(&Step::Install)
            {
                let _second = self.agents[k].token.perform(job);
                self.agents[k].token.duplicate(&run.object.cka_id);
            }
            self.check_effect(k, &acting.intent);
            self.see(k, version);
        }
        self.spoil_outcome(k, under_way, &mut outcome);
        outcome
    }

    fn pick_fault(&mut self, k: usize, job: &TokenJob) -> Fault {
        let failure = |kind, rv: &str| TokenFailure {
            kind,
            function: "C_Simulated".to_owned(),
            rv: rv.to_owned(),
            detail: String::new(),
        };
        if self.strikes(Class::TokenUnknown) {
            return match self.token_dice.below(3) {
                0 => Fault::LostBefore,
                1 => Fault::LostAfter,
                _ => Fault::LostAt(u32::try_from(self.token_dice.below(3)).unwrap_or(0)),
            };
        }
        if self.strikes(Class::TokenFails) {
            let failure = if self.token_dice.chance(500) {
                failure(FailureKind::Retry, "CKR_FUNCTION_FAILED")
            } else {
                failure(FailureKind::Restart, "CKR_DEVICE_ERROR")
            };
            return if self.token_dice.chance(500) {
                Fault::Fails(failure)
            } else {
                Fault::FailsAt(
                    u32::try_from(self.token_dice.below(3)).unwrap_or(0),
                    failure,
                )
            };
        }
        if matches!(job, TokenJob::Run(_)) && self.strikes(Class::TokenKeeps) {
            return Fault::KeepsUsage;
        }
        let looks = matches!(
            job,
            TokenJob::Scan | TokenJob::ScanOn | TokenJob::Inspect(_) | TokenJob::Survey(_)
        );
        if looks && self.strikes(Class::TokenMisses) {
            let ids = self.ids_on(k);
            let Some(id) = ids.get(self.token_dice.index(ids.len())).cloned() else {
                return Fault::Pass;
            };
            let now = self.now;
            let last = self.agents[k].missed_at.get(&id).copied();
            if last.is_none_or(|last| now - last > MISSED_AGAIN_MS) {
                self.agents[k].missed_at.insert(id.clone(), now);
                return Fault::Misses(id);
            }
        }
        Fault::Pass
    }

    /// A kill in the midst of a write costs SoftHSM2 the private or secret object.
    fn kill_mid_write(&mut self, k: usize, plan: &ObjectPlan) {
        self.note(&format!(
            "token {k}: the write that was killed costs an object"
        ));
        let class = if self.token_dice.chance(500) {
            ObjectClass::Secret
        } else {
            ObjectClass::Private
        };
        self.agents[k].token.destroy(&plan.cka_id, class);
        self.spoiled.insert((k, Spoiled::Objects));
    }

    fn ids_on(&self, k: usize) -> Vec<Vec<u8>> {
        let mut ids: Vec<Vec<u8>> = self.agents[k]
            .token
            .objects()
            .into_iter()
            .map(|o| o.cka_id)
            .collect();
        ids.sort();
        ids.dedup();
        ids
    }

    /// Somebody changes a key on the token.
    pub(crate) fn tamper(&mut self, k: usize, tampering: Tampering, which: u64) {
        let ids = self.ids_on(k);
        let Ok(which) = usize::try_from(which) else {
            return;
        };
        if ids.is_empty() {
            return;
        }
        let id = ids[which % ids.len()].clone();
        let token = &self.agents[k].token;
        match tampering {
            Tampering::Enable => token.set_usage(
                &id,
                UsageSet::of(&[Usage::Sign, Usage::Verify, Usage::Encrypt, Usage::Decrypt]),
            ),
            Tampering::Disable => token.set_usage(&id, UsageSet::NONE),
            Tampering::Destroy => {
                for class in [
                    ObjectClass::Secret,
                    ObjectClass::Private,
                    ObjectClass::Public,
                ] {
                    token.destroy(&id, class);
                }
            }
            Tampering::HalfDestroyed => token.destroy(&id, ObjectClass::Public),
            Tampering::Duplicate => token.duplicate(&id),
            Tampering::Rename => token.set_label(&id, "somebody's"),
            Tampering::ChangeId => token.set_id(&id, &[7; 16]),
            Tampering::Swap => token.swap_material(&id),
            Tampering::Reinitialise => token.reinitialise(),
        }
        self.note(&format!("somebody at token {k}: {tampering:?}"));
        self.spoiled.insert((k, Spoiled::Objects));
        let versions: Vec<KeyVersionId> = self
            .oracle
            .plans
            .keys()
            .filter(|(at, _)| *at == k)
            .map(|(_, v)| *v)
            .collect();
        for version in versions {
            self.see(k, version);
        }
    }

    /// What the token truly holds of an instance: by a look of its own, which no fault meets.
    pub(crate) fn truth(&mut self, k: usize, plan: &ObjectPlan) -> Found {
        match self.agents[k]
            .token
            .perform(&TokenJob::Inspect(plan.clone()))
        {
            TokenOutcome::Done(TokenAnswer::Found(found)) => found,
            other => panic!("a plain look failed: {other:?}"),
        }
    }

    /// What the planted bugs make of an answer.
    fn spoil_outcome(&mut self, k: usize, under_way: &UnderWay, outcome: &mut TokenOutcome) {
        match self.bug {
            Some(Bug::FingerprintNotCompared) => {
                let right = |plan: &ObjectPlan, found: &mut Found| {
                    let known = self.oracle.fingerprint_of(k, &plan.cka_id);
                    if found.fingerprint.is_some() {
                        found.fingerprint = known.or(found.fingerprint);
                    }
                };
                match (&under_way.job, outcome) {
                    (TokenJob::Inspect(plan), TokenOutcome::Done(TokenAnswer::Found(found))) => {
                        right(plan, found)
                    }
                    (
                        TokenJob::Survey(glances),
                        TokenOutcome::Done(TokenAnswer::Surveyed(surveyed)),
                    ) => {
                        for (glance, found) in glances.iter().zip(surveyed) {
                            if let Some(found) = found {
                                right(&glance.object, found);
                            }
                        }
                    }
                    _ => {}
                }
            }
            Some(Bug::NotReadBack) => {
                if let (Some(acting), TokenOutcome::Done(TokenAnswer::Ran(ran))) =
                    (&under_way.acting, outcome)
                {
                    ran.failure = None;
                    for facts in &mut ran.found.objects {
                        facts.usage = acting
                            .intent
                            .object
                            .usage_under(acting.intent.want, facts.class);
                    }
                }
            }
            Some(Bug::UnknownIsSuccess) => {
                if let (Some(acting), TokenJob::Run(run), TokenOutcome::Unknown { .. }) =
                    (&under_way.acting, &under_way.job, &*outcome)
                {
                    let plan = &acting.intent.object;
                    let mut found = self.truth(k, plan);
                    for facts in &mut found.objects {
                        facts.usage = plan.usage_under(acting.intent.want, facts.class);
                    }
                    *outcome =
                        TokenOutcome::Done(TokenAnswer::Ran(Box::new(lockstep::model::job::Ran {
                            done: u32::try_from(run.steps.len()).unwrap_or(0),
                            failure: None,
                            proof: Some(lockstep::model::observed::Proof {
                                kind: lockstep::model::observed::ProofKind::Tried,
                                operation: "none".to_owned(),
                                answer: "none".to_owned(),
                            }),
                            found,
                        })));
                }
            }
            _ => {}
        }
    }
}
