//! Keeps one host at work: one job at a time, deadlines, kills, pauses between starts.

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::keystore::host::frame;
use crate::keystore::host::handle::{HostConfig, HostState, HostStatus, PinToTry, not_running};
use crate::keystore::host::line::{Line, LineError};
use crate::keystore::host::protocol::{Answer, Pin, Request, Setup, writes};
use crate::keystore::host::refused_pin::RefusedPin;
use crate::model::job::{FailureKind, TokenAnswer, TokenFailure, TokenJob, TokenOutcome};

/// The call that tries a PIN.
const LOGIN: &str = "C_Login";

/// How long a process whose pipe ended may take to exit, so that its own exit status is told and not that of our kill.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A job and who waits for it.
#[derive(Debug)]
pub struct Ask {
    /// The job.
    pub job: TokenJob,
    /// How long it may take once begun.
    pub deadline: Duration,
    /// Where the outcome goes.
    pub reply: oneshot::Sender<TokenOutcome>,
}

/// The one owner of the child.
#[derive(Debug)]
pub struct Supervisor {
    config: HostConfig,
    status: watch::Sender<HostStatus>,
    line: Option<Line>,
    /// A killed process that is still there.
    undead: Option<Box<Line>>,
    next_id: u64,
    opened_at: Option<Instant>,
    not_before: Option<Instant>,
    /// The PIN that was refused last: the host does not give it again even if its source does.
    refused_pin: Option<RefusedPin>,
}

impl Supervisor {
    /// A supervisor without a child yet, and where its status shows.
    #[must_use]
    pub fn new(config: HostConfig) -> (Self, watch::Receiver<HostStatus>) {
        let (status, shown) = watch::channel(HostStatus {
            state: HostState::Idle,
            starts: 0,
            failures: 0,
        });
        let supervisor = Self {
            config,
            status,
            line: None,
            undead: None,
            next_id: 1,
            opened_at: None,
            not_before: None,
            refused_pin: None,
        };
        (supervisor, shown)
    }

    /// Serves until the last handle is gone. Then the child's pipe closes, and it ends after the call under way.
    pub async fn run(mut self, mut queue: mpsc::Receiver<Ask>) {
        loop {
            let ask = match &mut self.line {
                None => queue.recv().await,
                Some(line) => tokio::select! {
                    biased;
                    why = line.ended() => {
                        self.bury(why);
                        continue;
                    }
                    ask = queue.recv() => ask,
                },
            };
            let Some(ask) = ask else { return };
            if !ask.reply.is_closed() {
                self.serve(ask).await;
            }
        }
    }

    async fn serve(&mut self, ask: Ask) {
        let id = self.next_id;
        self.next_id = id.saturating_add(1);
        let Ask {
            job,
            deadline,
            reply,
        } = ask;
        let (write, stop) = (writes(&job), job == TokenJob::Stop);
        if stop && self.line.is_none() {
            tell(reply, TokenOutcome::Done(TokenAnswer::Stopping));
            return;
        }
        let frame = match frame::encode(&Request::Job { id, job }) {
            Ok(frame) => frame,
            Err(error) => {
                let refused = TokenFailure {
                    kind: FailureKind::Refused,
                    ..not_running(error.to_string())
                };
                tell(reply, TokenOutcome::Failed(refused));
                return;
            }
        };
        let mut line = match self.begin(&frame).await {
            Ok(line) => line,
            Err(failure) => {
                tell(reply, TokenOutcome::Failed(failure));
                return;
            }
        };
        match timeout(deadline, outcome_of(&mut line, id)).await {
            Ok(Ok(outcome)) => {
                let stopped = stop && outcome == TokenOutcome::Done(TokenAnswer::Stopping);
                if stopped {
                    self.lay_down(line).await;
                } else if let Some(why) = wants_restart(&outcome) {
                    self.recycle(line, why).await;
                } else {
                    self.line = Some(line);
                }
                tell(reply, outcome);
            }
            Ok(Err(error)) => {
                let ended = self.kill(line, LAST_WORDS).await;
                let why = format!("the module host failed during the job: {error} ({ended})");
                self.bury(why.clone());
                tell(reply, TokenOutcome::Unknown { why });
            }
            Err(_late) => {
                let why = format!("no answer from the module within {deadline:?}");
                tell(reply, TokenOutcome::Unknown { why: why.clone() });
                self.late(line, id, write, why).await;
            }
        }
    }

    /// The answer did not come in time, and the caller knows. A late write may end by itself for a while.
    async fn late(&mut self, mut line: Line, id: u64, write: bool, why: String) {
        if write {
            let grace = self.config.limits.write_grace;
            if let Ok(Ok(_too_late)) = timeout(grace, outcome_of(&mut line, id)).await {
                tracing::warn!("a late write ended within its grace");
                self.line = Some(line);
                return;
            }
        }
        tracing::error!(why, "the module host is killed");
        let ended = self.kill(line, Duration::ZERO).await;
        self.bury(format!("{why}; killed ({ended})"));
    }

    /// Gets a job to a running host: starts one if there is none, and once more if it had died unnoticed.
    async fn begin(&mut self, frame: &[u8]) -> Result<Line, TokenFailure> {
        for _try in 0..2 {
            let mut line = match self.line.take() {
                Some(line) => line,
                None => self.open().await?,
            };
            match line.send(frame).await {
                Ok(()) => return Ok(line),
                Err(_not_begun) => {
                    let ended = self.kill(line, self.config.limits.stop_grace).await;
                    self.bury(ended);
                }
            }
        }
        Err(not_running("the module host dies as soon as it is started"))
    }

    /// Starts a host and waits until its token is open.
    async fn open(&mut self) -> Result<Line, TokenFailure> {
        self.wait_for_turn().await?;
        let PinToTry { pin, unsure } = self.pin().await?;
        let setup = frame::encode_secret(&Request::Setup(Setup {
            module: self.config.module.clone(),
            label: self.config.label.clone(),
            serial: self.config.serial.clone(),
            init_args: self.config.init_args.clone(),
            pin: Pin::new(pin.clone()),
            unsure,
        }))
        .map_err(|error| self.fail(error.to_string()))?;
        let mut line = Line::start(&self.config)
            .map_err(|error| self.fail(format!("the module host cannot be started: {error}")))?;
        let pid = line.pid().unwrap_or_default();
        self.status.send_modify(|status| {
            status.starts = status.starts.saturating_add(1);
            status.state = HostState::Starting { pid };
        });
        let deadline = Instant::now() + self.config.limits.start_deadline;
        let opening = async {
            line.send(&setup).await?;
            line.answer().await
        };
        let answer = timeout_at(deadline, opening).await;
        drop(setup);
        match answer {
            Ok(Ok(Answer::Opened)) => {
                self.opened(pid, pin).await;
                Ok(line)
            }
            Ok(Ok(Answer::NotOpened(failure))) => {
                let _exit_status = self.kill(line, self.config.limits.stop_grace).await;
                Err(self.refuse(failure, pin).await)
            }
            Ok(Ok(Answer::Outcome { .. })) => {
                let ended = self.kill(line, Duration::ZERO).await;
                Err(self.fail(format!("the module host answered out of turn ({ended})")))
            }
            Ok(Err(error)) => {
                let ended = self.kill(line, Duration::ZERO).await;
                Err(self.fail(format!(
                    "the module host failed at its start: {error} ({ended})"
                )))
            }
            // C_Login writes to SoftHSM2's token, so this is a late write.
            Err(_late) => {
                let ended = self.kill(line, self.config.limits.write_grace).await;
                Err(self.fail(format!("the token was not opened in time ({ended})")))
            }
        }
    }

    /// Waits out a short pause. With the circuit open, and with an undead process about, nobody waits.
    async fn wait_for_turn(&mut self) -> Result<(), TokenFailure> {
        if let Some(undead) = self.undead.take()
            && let Err(undead) = undead.end(Duration::ZERO).await
        {
            self.undead = Some(undead);
            return Err(not_running(
                "a killed module host is still there; none is started",
            ));
        }
        let Some(not_before) = self.not_before else {
            return Ok(());
        };
        if Instant::now() < not_before && self.circuit_open() {
            return Err(self.last_failure());
        }
        tokio::time::sleep_until(not_before).await;
        Ok(())
    }

    fn circuit_open(&self) -> bool {
        self.status.borrow().failures >= self.config.limits.failures_max
    }

    fn last_failure(&self) -> TokenFailure {
        let status = self.status.borrow();
        match &status.state {
            HostState::Refused(failure) => failure.clone(),
            HostState::Down { why } => not_running(format!(
                "the module host failed {} times in a row, the last time: {why}",
                status.failures
            )),
            HostState::Idle | HostState::Starting { .. } | HostState::Running { .. } => {
                not_running("the module host is not running")
            }
        }
    }

    async fn pin(&mut self) -> Result<PinToTry, TokenFailure> {
        let source = Arc::clone(&self.config.pin);
        let read = tokio::task::spawn_blocking(move || source.pin()).await;
        let pin = read.unwrap_or_else(|_cancelled| Err(not_running("shutting down")));
        match pin {
            Ok(to_try) => match &self.refused_pin {
                Some(refused) if refused.is(&to_try.pin) => Err(self.show(wrong_pin())),
                Some(_) | None => Ok(to_try),
            },
            Err(failure) => Err(self.show(failure)),
        }
    }

    /// Shows a failure for which no process was started, so that no pause is needed.
    fn show(&self, failure: TokenFailure) -> TokenFailure {
        let state = HostState::Refused(failure.clone());
        self.status.send_modify(|status| status.state = state);
        failure
    }

    async fn opened(&mut self, pid: u32, pin: SecretString) {
        self.opened_at = Some(Instant::now());
        let source = Arc::clone(&self.config.pin);
        let told = tokio::task::spawn_blocking(move || source.taken(&pin)).await;
        if told.is_err() {
            tracing::error!("the source of the PIN failed");
        }
        let state = HostState::Running { pid };
        self.status.send_modify(|status| status.state = state);
        tracing::info!(pid, "the token is open");
    }

    async fn refuse(&mut self, failure: TokenFailure, pin: SecretString) -> TokenFailure {
        if failure.kind == FailureKind::WrongPin {
            // Without random numbers only the source remembers it.
            self.refused_pin = RefusedPin::new(&pin).ok();
            let source = Arc::clone(&self.config.pin);
            let told = tokio::task::spawn_blocking(move || source.refused(&pin)).await;
            if told.is_err() {
                tracing::error!("the source of the PIN failed");
            }
            // The next try waits for another PIN, not for a time.
            return self.show(failure);
        }
        if failure.function != LOGIN {
            let source = Arc::clone(&self.config.pin);
            if tokio::task::spawn_blocking(move || source.unasked())
                .await
                .is_err()
            {
                tracing::error!("the source of the PIN failed");
            }
        }
        self.count_failure();
        self.show(failure)
    }

    fn fail(&mut self, why: String) -> TokenFailure {
        self.bury(why.clone());
        not_running(why)
    }

    /// Kills the process after a grace; how it ended.
    async fn kill(&mut self, line: Line, grace: Duration) -> String {
        match line.end(grace).await {
            Ok(ended) => ended,
            Err(undead) => {
                self.undead = Some(undead);
                "killed, but still there".to_owned()
            }
        }
    }

    /// The module says that only a new process can go on: session or token were lost under it.
    async fn recycle(&mut self, line: Line, why: String) {
        let ended = self.kill(line, self.config.limits.stop_grace).await;
        self.bury(format!("{why}; a new process is needed ({ended})"));
    }

    /// It was told to stop, and stopping is no failure.
    async fn lay_down(&mut self, line: Line) {
        let ended = self.kill(line, self.config.limits.stop_grace).await;
        tracing::info!(ended, "the module host stopped");
        self.status
            .send_modify(|status| status.state = HostState::Idle);
    }

    /// The process is gone, and nobody wanted it.
    fn bury(&mut self, why: String) {
        self.line = None;
        tracing::error!(why, "the module host is down");
        self.count_failure();
        self.status
            .send_modify(|status| status.state = HostState::Down { why });
    }

    fn count_failure(&mut self) {
        let limits = self.config.limits;
        let was_well = self
            .opened_at
            .take()
            .is_some_and(|opened_at| opened_at.elapsed() >= limits.well_after);
        let before = if was_well {
            0
        } else {
            self.status.borrow().failures
        };
        let failures = before.saturating_add(1);
        self.status.send_modify(|status| status.failures = failures);
        // The first new start is at once; from there on the pause doubles.
        let pause = match failures {
            0 | 1 => Duration::ZERO,
            _ if failures >= limits.failures_max => limits.pause_max,
            _ => limits
                .pause_first
                .saturating_mul(1 << failures.saturating_sub(2).min(16))
                .min(limits.pause_max),
        };
        self.not_before = Some(Instant::now() + pause);
    }
}

/// The outcome of the one job that is in the host.
async fn outcome_of(line: &mut Line, wanted: u64) -> Result<TokenOutcome, LineError> {
    match line.answer().await? {
        Answer::Outcome { id, outcome } if id == wanted => Ok(outcome),
        Answer::Outcome { .. } | Answer::Opened | Answer::NotOpened(_) => Err(LineError::Garbled {
            what: "to something else".to_owned(),
        }),
    }
}

/// Why the host must be started again, if an outcome says so.
fn wants_restart(outcome: &TokenOutcome) -> Option<String> {
    let failure = match outcome {
        TokenOutcome::Failed(failure) => Some(failure),
        TokenOutcome::Done(TokenAnswer::Ran(ran)) => ran.failure.as_ref(),
        TokenOutcome::Done(_) | TokenOutcome::Unknown { .. } => None,
    };
    failure
        .filter(|failure| failure.kind == FailureKind::Restart)
        .map(ToString::to_string)
}

fn tell(reply: oneshot::Sender<TokenOutcome>, outcome: TokenOutcome) {
    if reply.send(outcome).is_err() {
        tracing::debug!("nobody waits for an outcome any more");
    }
}

fn wrong_pin() -> TokenFailure {
    TokenFailure {
        kind: FailureKind::WrongPin,
        function: "pin".to_owned(),
        rv: String::new(),
        detail: "the token refused this PIN before; it is not tried again".to_owned(),
    }
}
