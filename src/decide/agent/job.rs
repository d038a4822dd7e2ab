//! The one job that the token does: which is next, and to whom its outcome goes.

use crate::decide::agent::carry::Run;
use crate::decide::agent::io::{Output, ProveFailure, Ticket};
use crate::decide::agent::look::Why;
use crate::decide::agent::queue::{Lane, Task};
use crate::decide::agent::{Machine, Turn};
use crate::model::desired::Applied;
use crate::model::ids::KeyVersionId;
use crate::model::job::{
    FailureKind, Ran, SURVEY_PLANS_MAX, TokenAnswer, TokenFailure, TokenJob, TokenOutcome,
};
use crate::model::keystore::Health;
use crate::model::observed::Found;

/// The job that is out.
#[derive(Debug)]
pub(crate) struct Flight {
    ticket: Ticket,
    started: u64,
    pub(crate) doing: Doing,
}

/// What it is for.
#[derive(Debug)]
pub(crate) enum Doing {
    /// Who is the token?
    Identify,
    /// What is on it?
    Scan,
    /// One instance.
    Look {
        /// Which.
        version: KeyVersionId,
        /// By which intent it is known where to look.
        applied: Applied,
        /// Why.
        why: Why,
    },
    /// Several instances, each with the intent by which it is known where to look.
    Survey {
        /// Which.
        looks: Vec<(KeyVersionId, Applied)>,
        /// Why.
        why: Why,
    },
    /// Steps of an intent.
    Run(Run),
    /// Its operations are tried.
    Prove {
        /// Which.
        version: KeyVersionId,
        /// Under which intent.
        applied: Applied,
    },
}

impl Machine {
    /// What time alone brings about.
    pub(crate) fn due(&mut self, turn: &mut Turn<'_>) {
        while let Some(&(at, version)) = self.later.first() {
            if at > turn.now {
                break;
            }
            self.later.pop_first();
            self.resume(version);
        }
        self.check_journal(turn);
    }

    /// When something is due by time alone.
    pub(crate) fn next_due(&self) -> u64 {
        let token = if self.is_workable() {
            let scan_on = self.watch.scan.as_ref().map(|_| 0);
            Some(scan_on.unwrap_or(self.watch.scan_at))
        } else {
            Some(self.watch.identify_at)
        };
        let rotation = self.rotation_due().filter(|_| self.is_workable());
        let later = self.later.first().map(|&(at, _)| at);
        let journal = self.journal_failure.as_ref().map(|_| self.journal_at);
        [token, rotation, later, journal]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Gives the token its next job, if it has none.
    pub(crate) fn dispatch(&mut self, turn: &mut Turn<'_>) {
        while self.flight.is_none() {
            if !self.is_workable() {
                if turn.now >= self.watch.identify_at {
                    self.put_out(turn, Doing::Identify, TokenJob::Identify);
                }
                return;
            }
            if self.watch.identity_wanted {
                return self.put_out(turn, Doing::Identify, TokenJob::Identify);
            }
            let Some(task) = self.next_task(turn) else {
                return;
            };
            self.begin(turn, task);
        }
    }

    /// The most urgent task; scans and the rotation are put out here, when nothing else waits.
    fn next_task(&mut self, turn: &mut Turn<'_>) -> Option<Task> {
        let may_write = self.journal_failure.is_none();
        let scan_first = self.scan_goes_first(turn.now);
        let may_enable = may_write && self.token_health == Health::Ok && !scan_first;
        let lanes = [
            (Lane::Restrict, may_write),
            (Lane::Enable, may_enable),
            (Lane::Ask, true),
            (Lane::Recheck, !scan_first),
        ];
        for lane in lanes.into_iter().filter(|&(_, open)| open) {
            if let Some(task) = self.queue.pop(lane.0) {
                return Some(task);
            }
        }
        if self.scan_is_due(turn.now) {
            self.scan_on(turn);
            return None;
        }
        let versions = self.rotate(turn.now);
        self.survey(turn, &versions, Why::Rotation);
        None
    }

    fn begin(&mut self, turn: &mut Turn<'_>, task: Task) {
        match task {
            Task::Carry(version) => self.carry(turn, version),
            Task::Look(version) => self.inspect(turn, version, Why::Asked),
            Task::Recheck(version) => self.inspect(turn, version, Why::Seen),
            Task::Survey(version) => {
                let others = self.queue.pop_surveys(SURVEY_PLANS_MAX.saturating_sub(1));
                let versions = [&[version], others.as_slice()].concat();
                self.survey(turn, &versions, Why::Seen);
            }
            Task::Prove(version) => self.prove(turn, version),
        }
    }

    /// Puts a job out: the only place where one is.
    pub(crate) fn put_out(&mut self, turn: &mut Turn<'_>, doing: Doing, job: TokenJob) {
        let ticket = self.ticket();
        let writes = match &doing {
            Doing::Run(_) => true,
            Doing::Identify
            | Doing::Scan
            | Doing::Look { .. }
            | Doing::Survey { .. }
            | Doing::Prove { .. } => false,
        };
        self.watch.sliced = matches!(doing, Doing::Scan);
        match &doing {
            Doing::Look { version, .. } | Doing::Prove { version, .. } => self.touch(*version),
            Doing::Run(run) => self.touch(run.version),
            Doing::Identify | Doing::Scan | Doing::Survey { .. } => {}
        }
        self.flight = Some(Flight {
            ticket,
            started: turn.now,
            doing,
        });
        turn.out.push(Output::Token {
            ticket,
            job,
            writes,
        });
    }

    /// A job came to its end.
    pub(crate) fn landed(&mut self, turn: &mut Turn<'_>, ticket: Ticket, outcome: TokenOutcome) {
        let Some(flight) = self.flight.take_if(|flight| flight.ticket == ticket) else {
            return;
        };
        turn.began = flight.started;
        let result = match outcome {
            TokenOutcome::Done(answer) => Ok(answer),
            TokenOutcome::Failed(failure) => Err(Miss::Failed(failure)),
            TokenOutcome::Unknown { why } => Err(Miss::Unknown(why)),
        };
        match flight.doing {
            Doing::Identify => self.identify_landed(turn, result),
            Doing::Scan => {
                let took_ms = turn.now.saturating_sub(flight.started);
                self.scan_landed(turn, result, took_ms);
            }
            Doing::Look {
                version,
                applied,
                why,
            } => {
                if why == Why::Rotation {
                    self.pace_rotation(turn.now.saturating_sub(flight.started));
                }
                let result = expect_found(result);
                if self.is_current(version, applied) {
                    self.look_landed(turn, version, why, result);
                } else {
                    self.outdated(turn, version, result.err());
                }
            }
            Doing::Survey { looks, why } => {
                if why == Why::Rotation {
                    self.pace_rotation(turn.now.saturating_sub(flight.started));
                }
                self.survey_landed(turn, &looks, why, expect_surveyed(result));
            }
            Doing::Run(run) => self.run_landed(turn, &run, expect_ran(result)),
            Doing::Prove { version, applied } => {
                let result = expect_ran(result);
                if self.is_current(version, applied) {
                    self.prove_landed(turn, version, result);
                } else {
                    self.outdated(turn, version, result.err());
                }
            }
        }
    }

    /// Whether the intent that a job was put out under is still the one in force.
    pub(crate) fn is_current(&self, version: KeyVersionId, applied: Applied) -> bool {
        self.instances
            .get(&version)
            .is_some_and(|instance| instance.applied == applied)
    }

    /// A newer intent came while the token worked: it waits in its lane, and looks for itself.
    pub(crate) fn outdated(
        &mut self,
        turn: &mut Turn<'_>,
        version: KeyVersionId,
        miss: Option<Miss>,
    ) {
        if let Some(miss) = miss {
            self.missed_one(turn, &miss);
        }
        self.answer_prove(turn, version, &Err(ProveFailure::Unfinished));
    }

    fn identify_landed(&mut self, turn: &mut Turn<'_>, result: Result<TokenAnswer, Miss>) {
        match result {
            Ok(TokenAnswer::Identity(identity)) => {
                self.watch.failures = 0;
                self.identified(turn, &identity);
            }
            Ok(_) => self.module_failed(turn, WRONG_ANSWER.to_owned()),
            Err(miss) => self.missed(turn, &miss),
        }
    }

    fn scan_landed(
        &mut self,
        turn: &mut Turn<'_>,
        result: Result<TokenAnswer, Miss>,
        took_ms: u64,
    ) {
        match result {
            Ok(TokenAnswer::Slice(slice)) => self.slice_landed(slice, took_ms),
            Ok(TokenAnswer::Inventory(inventory)) => self.scanned(turn, inventory, took_ms),
            Ok(_) => self.scan_failed(turn, &Miss::Unknown(WRONG_ANSWER.to_owned())),
            Err(miss) => self.scan_failed(turn, &miss),
        }
    }

    /// The whole token could not be asked.
    pub(crate) fn missed(&mut self, turn: &mut Turn<'_>, miss: &Miss) {
        match miss {
            Miss::Failed(failure) => self.token_failed(turn, failure),
            Miss::Unknown(why) => self.module_failed(turn, why.clone()),
        }
    }

    /// One instance could not be asked: what that says of the whole token. True if the token itself is in trouble.
    pub(crate) fn missed_one(&mut self, turn: &mut Turn<'_>, miss: &Miss) -> bool {
        let is_whole = match miss {
            Miss::Unknown(_) => true,
            Miss::Failed(failure) => match failure.kind {
                FailureKind::Restart
                | FailureKind::WrongPin
                | FailureKind::PinLocked
                | FailureKind::NoToken => true,
                FailureKind::Retry
                | FailureKind::Refused
                | FailureKind::NeedsMaterial
                | FailureKind::WrongKey
                | FailureKind::LabelTaken => false,
            },
        };
        if is_whole {
            self.missed(turn, miss);
        }
        is_whole
    }
}

/// No answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Miss {
    /// The token, or our own check, says why.
    Failed(TokenFailure),
    /// Nobody knows.
    Unknown(String),
}

impl Miss {
    /// Whether the same may go well at once.
    pub(crate) const fn may_be_tried_again(&self) -> bool {
        match self {
            Self::Failed(failure) => matches!(failure.kind, FailureKind::Retry),
            Self::Unknown(_) => false,
        }
    }
}

const WRONG_ANSWER: &str = "the module host's answer does not belong to the job";

fn expect_found(result: Result<TokenAnswer, Miss>) -> Result<Found, Miss> {
    match result? {
        TokenAnswer::Found(found) => Ok(found),
        TokenAnswer::Identity(_)
        | TokenAnswer::Bound
        | TokenAnswer::Prepared(_)
        | TokenAnswer::Slice(_)
        | TokenAnswer::Inventory(_)
        | TokenAnswer::Surveyed(_)
        | TokenAnswer::Ran(_)
        | TokenAnswer::Generated(_)
        | TokenAnswer::Rewrapped(_)
        | TokenAnswer::TakenOver(_)
        | TokenAnswer::Keks(_)
        | TokenAnswer::Stopping => Err(Miss::Unknown(WRONG_ANSWER.to_owned())),
    }
}

fn expect_surveyed(result: Result<TokenAnswer, Miss>) -> Result<Vec<Option<Found>>, Miss> {
    match result? {
        TokenAnswer::Surveyed(surveyed) => Ok(surveyed),
        TokenAnswer::Identity(_)
        | TokenAnswer::Bound
        | TokenAnswer::Prepared(_)
        | TokenAnswer::Slice(_)
        | TokenAnswer::Inventory(_)
        | TokenAnswer::Found(_)
        | TokenAnswer::Ran(_)
        | TokenAnswer::Generated(_)
        | TokenAnswer::Rewrapped(_)
        | TokenAnswer::TakenOver(_)
        | TokenAnswer::Keks(_)
        | TokenAnswer::Stopping => Err(Miss::Unknown(WRONG_ANSWER.to_owned())),
    }
}

fn expect_ran(result: Result<TokenAnswer, Miss>) -> Result<Box<Ran>, Miss> {
    match result? {
        TokenAnswer::Ran(ran) => Ok(ran),
        TokenAnswer::Identity(_)
        | TokenAnswer::Bound
        | TokenAnswer::Prepared(_)
        | TokenAnswer::Slice(_)
        | TokenAnswer::Inventory(_)
        | TokenAnswer::Found(_)
        | TokenAnswer::Surveyed(_)
        | TokenAnswer::Generated(_)
        | TokenAnswer::Rewrapped(_)
        | TokenAnswer::TakenOver(_)
        | TokenAnswer::Keks(_)
        | TokenAnswer::Stopping => Err(Miss::Unknown(WRONG_ANSWER.to_owned())),
    }
}
