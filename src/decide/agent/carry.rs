//! Carrying a journaled intent out: look, steps, read-back, done (promises R4 to R7). Nothing here is believed before it was
//! read back, and no failure means that nothing happened.

use crate::decide::agent::health::pause_ms;
use crate::decide::agent::instance::{Carrying, Gone, Kept, Trouble};
use crate::decide::agent::io::Output;
use crate::decide::agent::job::{Doing, Miss};
use crate::decide::agent::look::Why;
use crate::decide::agent::record::{JournalRecord, Phase, Record};
use crate::decide::agent::take::Writing;
use crate::decide::agent::{Machine, Turn};
use crate::decide::effects::{effects, met, restricting};
use crate::model::desired::{Applied, Want};
use crate::model::ids::KeyVersionId;
use crate::model::job::{FailureKind, Ran, RunJob, TokenFailure, TokenJob};
use crate::model::keystore::Health;
use crate::model::observed::{Found, Proof};
use crate::model::step::Step;

/// Steps that are out.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) version: KeyVersionId,
    /// Which intent they serve: a newer one may have come meanwhile.
    applied: Applied,
    /// Whether more has to follow: only what restricts was run.
    partial: bool,
}

impl Machine {
    /// Starts with a look.
    pub(crate) fn carry(&mut self, turn: &mut Turn<'_>, version: KeyVersionId) {
        let second_look_ms = self.setup.pace.second_look_ms;
        let Some(carrying) = self.carrying(version) else {
            return;
        };
        if carrying.finishing {
            return;
        }
        if let Some(gone) = carrying.gone {
            let due = gone.at_ms.saturating_add(second_look_ms);
            if !gone.by_us && turn.now < due {
                self.later.insert((due, version));
                return;
            }
        }
        self.inspect(turn, version, Why::Carry);
    }

    fn carrying(&mut self, version: KeyVersionId) -> Option<&mut Carrying> {
        self.instances.get_mut(&version)?.carrying()
    }

    /// The look is here: decide and act.
    pub(crate) fn act(&mut self, turn: &mut Turn<'_>, version: KeyVersionId, found: Found) {
        self.believe(turn.began, version, found);
        let strategy = self.strategy_of(version);
        let is_lost = self.token_health == Health::JournalLost;
        let Some(instance) = self.instances.get_mut(&version) else {
            return;
        };
        let intent = instance.intent.clone();
        let applied = instance.applied;
        if intent.want == Want::Active && instance.is_unprinted_at_first() {
            return self.resume(version);
        }
        let Some(seen) = &instance.sight.last else {
            return;
        };
        let found = seen.found.clone();
        let Some(carrying) = instance.carrying() else {
            return;
        };
        let mut steps = match effects(&intent, &found, strategy) {
            Ok(steps) => steps,
            Err(obstacle) => return self.halt(version, Trouble::Failed(obstacle.failure())),
        };
        if intent.want == Want::Destroyed {
            if steps.is_empty() {
                return self.not_found(turn, version);
            }
            carrying.gone = None;
        }
        let mut partial = false;
        if steps.iter().any(Step::needs_material) && (is_lost || carrying.material.is_none()) {
            steps = restricting(steps);
            if steps.is_empty() {
                let trouble = if is_lost {
                    quarantined()
                } else {
                    no_material(carrying)
                };
                return self.halt(version, trouble);
            }
            partial = true;
        }
        let installs = steps.iter().any(Step::needs_material);
        let job = RunJob {
            object: intent.object,
            fingerprint: intent.fingerprint,
            steps,
            envelope: carrying.material.clone().filter(|_| installs),
            hints: found.objects,
        };
        let run = Run {
            version,
            applied,
            partial,
        };
        self.put_out(turn, Doing::Run(run), TokenJob::Run(Box::new(job)));
    }

    /// Steps were run, or not.
    pub(crate) fn run_landed(
        &mut self,
        turn: &mut Turn<'_>,
        run: &Run,
        result: Result<Box<Ran>, Miss>,
    ) {
        let version = run.version;
        if !self.is_current(version, run.applied) {
            return self.outdated(turn, version, result.err());
        }
        let ran = match result {
            Ok(ran) => ran,
            Err(miss) => return self.stumble(turn, version, miss),
        };
        self.believe(turn.began, version, ran.found);
        let strategy = self.strategy_of(version);
        let Some(instance) = self.instances.get_mut(&version) else {
            return;
        };
        if let Some(failure) = ran.failure {
            return self.stumble(turn, version, Miss::Failed(failure));
        }
        let last = instance.sight.last.as_ref();
        let is_met = last.is_some_and(|seen| met(&instance.intent, &seen.found, strategy));
        let want = instance.intent.want;
        let again = run.partial || instance.is_unprinted_at_first();
        if let Some(carrying) = instance.carrying() {
            carrying.trouble = None;
            if want == Want::Destroyed && is_met {
                carrying.gone = Some(Gone {
                    at_ms: turn.now,
                    by_us: true,
                });
            }
        }
        match want {
            _ if again => self.resume(version),
            Want::Destroyed if is_met => self.resume(version),
            Want::Active | Want::Deactivated if is_met => self.finish(turn, version, ran.proof),
            Want::Active | Want::Deactivated | Want::Destroyed => {
                let failure = TokenFailure {
                    kind: FailureKind::Retry,
                    function: "read_back".to_owned(),
                    rv: String::new(),
                    detail: "the token said yes, and holds something else".to_owned(),
                };
                self.stumble(turn, version, Miss::Failed(failure));
            }
        }
    }

    /// A destroyed key is not there. It counts the second time, with the token known to be ours in between.
    fn not_found(&mut self, turn: &mut Turn<'_>, version: KeyVersionId) {
        let second_look_ms = self.setup.pace.second_look_ms;
        let identity_at = self.watch.identity_at;
        let Some(carrying) = self.carrying(version) else {
            return;
        };
        match carrying.gone {
            Some(gone) if gone.by_us || identity_at.is_some_and(|at| at > gone.at_ms) => {
                self.finish(turn, version, None);
            }
            Some(gone) => {
                self.watch.identity_wanted = true;
                self.later
                    .insert((gone.at_ms.saturating_add(second_look_ms), version));
            }
            None => {
                carrying.gone = Some(Gone {
                    at_ms: turn.now,
                    by_us: false,
                });
                self.later
                    .insert((turn.now.saturating_add(second_look_ms), version));
            }
        }
    }

    /// Carried out and read back: says so in the journal, and only then to anybody.
    fn finish(&mut self, turn: &mut Turn<'_>, version: KeyVersionId, proof: Option<Proof>) {
        // A newer intent is on its way to the journal: this one's record must not come after it.
        if self.taking.contains_key(&version) {
            return;
        }
        let at = self.wall(turn.now);
        let ticket = self.ticket();
        let Some(instance) = self.instances.get_mut(&version) else {
            return;
        };
        instance.proof = proof.map(|proof| Kept { proof, at });
        let applied = instance.applied;
        let record = Record::Intent {
            intent: Box::new(instance.intent.clone()),
            phase: Phase::Done {
                proof: instance.proof.as_ref().map(Kept::proved),
            },
        };
        if let Some(carrying) = instance.carrying() {
            carrying.finishing = true;
        }
        self.writing
            .insert(ticket, Writing::Done { version, applied });
        let record = JournalRecord::V1(record);
        turn.out.push(Output::Journal { ticket, record });
    }

    /// Something went wrong on the way. What happened is told by the next look, never by the failure.
    pub(crate) fn stumble(&mut self, turn: &mut Turn<'_>, version: KeyVersionId, miss: Miss) {
        self.missed_one(turn, &miss);
        let trouble = match miss {
            Miss::Unknown(why) => Trouble::Unknown(why),
            Miss::Failed(failure) => match failure.kind {
                FailureKind::Retry => Trouble::Again(failure),
                FailureKind::Restart
                | FailureKind::WrongPin
                | FailureKind::PinLocked
                | FailureKind::NoToken => Trouble::Unknown(failure.to_string()),
                FailureKind::NeedsMaterial if failure.rv.is_empty() => Trouble::NeedsMaterial,
                // What came was not taken: other material may be, and until then people are told why.
                FailureKind::NeedsMaterial
                | FailureKind::Refused
                | FailureKind::WrongKey
                | FailureKind::LabelTaken => Trouble::Failed(failure),
            },
        };
        let Some(carrying) = self.carrying(version) else {
            return;
        };
        match trouble {
            Trouble::Again(_) | Trouble::Unknown(_) => {
                let at = turn.now.saturating_add(pause_ms(carrying.tries));
                carrying.tries = carrying.tries.saturating_add(1);
                carrying.trouble = Some(trouble);
                self.telling.dirty.insert(version);
                self.later.insert((at, version));
            }
            Trouble::NeedsMaterial | Trouble::Failed(_) => {
                // Material that did not do is not tried twice.
                carrying.material = None;
                self.halt(version, trouble);
            }
        }
    }

    /// Waits for the coordinator.
    fn halt(&mut self, version: KeyVersionId, trouble: Trouble) {
        if let Some(carrying) = self.carrying(version) {
            carrying.trouble = Some(trouble);
            self.telling.dirty.insert(version);
        }
    }
}

/// Material is missing: because none came, or because what came was not taken.
/// An agent without its journal does not know what it destroyed: nothing is installed until a person has looked.
fn quarantined() -> Trouble {
    Trouble::Failed(TokenFailure {
        kind: FailureKind::Refused,
        function: "quarantine".to_owned(),
        rv: String::new(),
        detail: Health::JournalLost.to_string(),
    })
}

fn no_material(carrying: &Carrying) -> Trouble {
    match &carrying.envelope_refused {
        None => Trouble::NeedsMaterial,
        Some(reason) => Trouble::Failed(TokenFailure {
            kind: FailureKind::NeedsMaterial,
            function: "envelope".to_owned(),
            rv: String::new(),
            detail: reason.clone(),
        }),
    }
}
