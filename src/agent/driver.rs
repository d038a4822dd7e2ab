//! The loop around `decide::agent`: feeds it what happened, carries out what it says, in order. One job at a time goes to
//! the module host: the machine's own first, then what unary calls ask for.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::agent::jobs::{Job, Jobs, Owner};
use crate::agent::journal::rewriting::Rewriting;
use crate::agent::journal::writer::{JournalWriter, Written};
use crate::agent::messages::{CallFailure, Message, Shown};
use crate::agent::milestones::{self, Entry};
use crate::agent::probes::Probes;
use crate::clock::Monotonic;
use crate::decide::agent::Machine;
use crate::decide::agent::io::{Input, Output, StreamId};
use crate::decide::agent::record::JournalRecord;
use crate::keystore::host::handle::HostHandle;
use crate::model::ids::{KeyVersionId, SessionNumber};
use crate::model::job::{Prepared, TokenAnswer, TokenJob, TokenOutcome};
use crate::model::keystore::Health;
use crate::model::protocol::{Report, Up};

/// Most messages that wait for the loop; whoever has one more waits with it.
pub const MESSAGES_MAX: usize = 1024;

/// Most frames that wait for a coordinator to read them. One that reads slower is cut off and starts again with its cursor.
pub const FRAMES_MAX: usize = 1024;

/// Most streams at once: the live one, and those that are about to end.
const STREAMS_MAX: usize = 16;

/// Most calls that wait for the token.
const CALLS_MAX: usize = 256;

/// A failed `Prepare` is tried again after the first of these, such as one whose host died; after the second if it failed before.
const PREPARE_AGAIN_MS: u64 = 250;
const PREPARE_PAUSE_MS: u64 = 5_000;

/// The loop and all it owns.
#[derive(Debug)]
pub struct Driver {
    machine: Machine,
    started: Monotonic,
    internal: bool,
    journal: JournalWriter<JournalRecord, Entry>,
    written: mpsc::UnboundedReceiver<Written<Entry>>,
    rewriting: Rewriting,
    messages: mpsc::Receiver<Message>,
    jobs: Jobs,
    streams: BTreeMap<StreamId, Stream>,
    proofs: BTreeMap<u64, oneshot::Sender<Result<Box<Report>, CallFailure>>>,
    next_request: u64,
    /// What the loop itself has to tell the machine.
    inputs: VecDeque<Input>,
    timer_ms: Option<u64>,
    prepare: Prepare,
    probes: Probes,
    shown: watch::Sender<Shown>,
}

#[derive(Debug)]
struct Stream {
    frames: mpsc::Sender<Up>,
    _closed: DropGuard,
}

/// Whether the token's own keys and capabilities have been looked at since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prepare {
    Wanted { not_before_ms: u64 },
    UnderWay,
    Done,
}

/// What the loop is made of.
#[derive(Debug)]
pub struct Parts {
    /// The machine, recovered, before its first step.
    pub machine: Machine,
    /// The moment that was its time 0.
    pub started: Monotonic,
    /// Whether the keystore may generate keys.
    pub internal: bool,
    /// The journal.
    pub journal: JournalWriter<JournalRecord, Entry>,
    /// Its answers.
    pub written: mpsc::UnboundedReceiver<Written<Entry>>,
    /// Records in it.
    pub journal_records: u64,
    /// The token.
    pub host: HostHandle,
    /// What it could do when it was last probed.
    pub probes: Probes,
}

impl Driver {
    /// The loop, how to reach it, and what it shows.
    #[must_use]
    pub fn new(parts: Parts) -> (Self, mpsc::Sender<Message>, watch::Receiver<Shown>) {
        let (sender, messages) = mpsc::channel(MESSAGES_MAX);
        let (shown, seen) = watch::channel(Shown {
            journal_records: parts.journal_records,
            ..Shown::default()
        });
        let driver = Self {
            machine: parts.machine,
            started: parts.started,
            internal: parts.internal,
            journal: parts.journal,
            written: parts.written,
            rewriting: Rewriting::default(),
            messages,
            jobs: Jobs::new(parts.host, CALLS_MAX),
            streams: BTreeMap::new(),
            proofs: BTreeMap::new(),
            next_request: 0,
            inputs: VecDeque::new(),
            timer_ms: None,
            prepare: Prepare::Wanted { not_before_ms: 0 },
            probes: parts.probes,
            shown,
        };
        (driver, sender, seen)
    }

    /// Runs until it is told to stop: then it ends the streams, waits for the job under way, makes its outcome durable, and
    /// stops the module host.
    pub async fn run(mut self, stop: CancellationToken) {
        self.inputs.push_back(Input::Tick);
        loop {
            while let Some(input) = self.inputs.pop_front() {
                self.step(input).await;
            }
            self.start_job();
            let wait = self.wait();
            tokio::select! {
                () = stop.cancelled() => break,
                Some(written) = self.written.recv() => self.journal_written(written).await,
                (owner, outcome) = self.jobs.outcome() => self.token_answered(owner, outcome).await,
                Some(message) = self.messages.recv() => self.take(message).await,
                () = tokio::time::sleep(wait) => self.tick().await,
            }
        }
        self.finish().await;
    }

    async fn finish(mut self) {
        self.messages.close();
        self.streams.clear();
        if self.jobs.busy() {
            let (owner, outcome) = self.jobs.outcome().await;
            self.token_answered(owner, outcome).await;
        }
        let host = self.jobs.into_host();
        let written = tokio::task::spawn_blocking(move || self.journal.finish()).await;
        if written.is_err() {
            tracing::error!("the journal could not be finished");
        }
        let deadline = crate::keystore::host::protocol::deadline(&TokenJob::Stop);
        match host.perform(TokenJob::Stop, deadline).await {
            TokenOutcome::Done(_) => tracing::info!("the module host was stopped"),
            TokenOutcome::Failed(failure) => {
                tracing::debug!(%failure, "the module host was not running");
            }
            TokenOutcome::Unknown { why } => {
                tracing::warn!(why, "the module host did not stop by itself");
            }
        }
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed_ms()
    }

    /// How long nothing happens by itself.
    fn wait(&self) -> Duration {
        let idle = !self.jobs.busy() && self.healthy();
        let prepare = match self.prepare {
            Prepare::Wanted { not_before_ms } if idle => Some(not_before_ms),
            Prepare::Wanted { .. } | Prepare::UnderWay | Prepare::Done => None,
        };
        let at_ms = match (self.timer_ms, prepare) {
            (Some(one), Some(other)) => one.min(other),
            (Some(one), None) | (None, Some(one)) => one,
            // The machine always sets a timer; without one, looking once a minute harms nothing.
            (None, None) => return Duration::from_secs(60),
        };
        Duration::from_millis(at_ms.saturating_sub(self.now_ms()))
    }

    async fn tick(&mut self) {
        // The machine sets the next one; without that, nothing happens rather than everything at once.
        if self.timer_ms.is_some_and(|at_ms| at_ms <= self.now_ms()) {
            self.timer_ms = None;
        }
        self.step(Input::Tick).await;
    }

    fn healthy(&self) -> bool {
        self.machine.health() == Health::Ok
    }

    async fn step(&mut self, input: Input) {
        let mut outputs = Vec::new();
        self.machine.step(self.now_ms(), input, &mut outputs);
        for output in outputs {
            self.carry_out(output).await;
        }
        self.show();
    }

    async fn carry_out(&mut self, output: Output) {
        match output {
            Output::Journal { ticket, record } => {
                let appended = milestones::append(&self.journal, ticket, record).await;
                if let Err(error) = appended {
                    let result = Err(error.to_string());
                    self.inputs
                        .push_back(Input::JournalWritten { ticket, result });
                }
            }
            Output::Token { ticket, job, .. } => self.jobs.machine_wants(ticket, job),
            Output::Send { stream, up } => self.send(stream, up),
            Output::Close { stream } => drop(self.streams.remove(&stream)),
            Output::Timer { at_ms } => self.timer_ms = Some(at_ms),
            Output::Proved { request, result } => {
                if let Some(reply) = self.proofs.remove(&request) {
                    tell(reply, result.map_err(CallFailure::Prove));
                }
            }
        }
    }

    fn send(&mut self, stream: StreamId, up: Up) {
        let Some(open) = self.streams.get(&stream) else {
            return;
        };
        if !milestones::report(up, |up| open.frames.try_send(up).is_ok()) {
            tracing::warn!(
                stream = stream.0,
                "a coordinator does not read its stream; it is cut off"
            );
            drop(self.streams.remove(&stream));
            self.inputs.push_back(Input::StreamGone { stream });
        }
    }

    async fn take(&mut self, message: Message) {
        milestones::received(&message);
        match message {
            Message::Stream {
                stream,
                frames,
                closed,
            } => {
                if self.streams.len() < STREAMS_MAX {
                    let open = Stream {
                        frames,
                        _closed: closed,
                    };
                    self.streams.insert(stream, open);
                } else {
                    tracing::warn!("too many streams are open; a new one is turned away");
                }
            }
            Message::Input(Input::StreamGone { stream }) => {
                drop(self.streams.remove(&stream));
                self.step(Input::StreamGone { stream }).await;
            }
            Message::Input(input) => self.step(input).await,
            Message::Call {
                session,
                job,
                reply,
            } => match self.check_call(session) {
                Ok(()) => self.jobs.call(session, job, reply),
                Err(failure) => tell(reply, Err(failure)),
            },
            Message::Accept { reply } => {
                self.compare(true);
                tell(reply, ());
            }
            Message::Prove {
                session,
                version,
                reply,
            } => match self.check_session(session) {
                Ok(()) => self.prove(version, reply).await,
                Err(failure) => tell(reply, Err(failure)),
            },
        }
    }

    async fn prove(
        &mut self,
        version: KeyVersionId,
        reply: oneshot::Sender<Result<Box<Report>, CallFailure>>,
    ) {
        let request = self.next_request;
        self.next_request = request.saturating_add(1);
        // Those whose callers have gone away need no place.
        self.proofs.retain(|_, waiting| !waiting.is_closed());
        self.proofs.insert(request, reply);
        self.step(Input::Prove { request, version }).await;
    }

    fn check_session(&self, session: SessionNumber) -> Result<(), CallFailure> {
        let live = self.machine.session();
        if live == Some(session) {
            Ok(())
        } else {
            Err(CallFailure::StaleSession { live })
        }
    }

    fn check_call(&self, session: SessionNumber) -> Result<(), CallFailure> {
        self.check_session(session)?;
        let health = self.machine.health();
        if health == Health::Ok {
            Ok(())
        } else {
            Err(CallFailure::Unhealthy(health))
        }
    }

    async fn journal_written(&mut self, written: Written<Entry>) {
        let entry = written.ticket;
        let result = written.result.map(|records| {
            self.shown.send_if_modified(|shown| {
                let changed = shown.journal_records != records;
                shown.journal_records = records;
                changed
            });
        });
        match &result {
            Ok(()) => entry.written(),
            Err(error) => tracing::error!(error, "the journal cannot be written"),
        }
        let ticket = entry.ticket;
        self.step(Input::JournalWritten { ticket, result }).await;
        let records = self.shown.borrow().journal_records;
        if self.machine.is_written() && self.rewriting.is_due(records, self.machine.instances()) {
            self.journal.replace(self.machine.records()).await;
        }
    }

    /// Gives the host its next job, if it has none.
    fn start_job(&mut self) {
        if self.jobs.busy() {
            return;
        }
        let now_ms = self.now_ms();
        if let Prepare::Wanted { not_before_ms } = self.prepare
            && self.healthy()
            && now_ms >= not_before_ms
        {
            self.prepare = Prepare::UnderWay;
            self.jobs.prepare(self.internal);
            return;
        }
        while let Some(job) = self.jobs.take_next() {
            match job {
                Job::Machine { ticket, job } => {
                    return self.jobs.start(Owner::Machine(ticket), job);
                }
                Job::Call {
                    session,
                    job,
                    reply,
                } => match self.check_call(session) {
                    Ok(()) => return self.jobs.start(Owner::Call(reply), job),
                    Err(failure) => tell(reply, Err(failure)),
                },
            }
        }
    }

    async fn token_answered(&mut self, owner: Owner, outcome: TokenOutcome) {
        let outcome = milestones::read_back(outcome);
        self.notice_token(&outcome);
        if let TokenOutcome::Done(TokenAnswer::Prepared(prepared)) = &outcome {
            self.notice_prepared(prepared);
            let probed = Input::Probed(Box::new(prepared.capabilities.clone()));
            self.inputs.push_back(probed);
        }
        match owner {
            Owner::Machine(ticket) => self.step(Input::Token { ticket, outcome }).await,
            Owner::Call(reply) => {
                milestones::reply(outcome, |outcome| tell(reply, answer(outcome)));
            }
            Owner::Prepare => self.prepared(outcome),
        }
    }

    fn notice_token(&self, outcome: &TokenOutcome) {
        let info = match outcome {
            TokenOutcome::Done(TokenAnswer::Identity(identity)) => &identity.info,
            TokenOutcome::Done(TokenAnswer::Inventory(inventory)) => &inventory.identity.info,
            TokenOutcome::Done(_) | TokenOutcome::Failed(_) | TokenOutcome::Unknown { .. } => {
                return;
            }
        };
        self.shown.send_if_modified(|shown| {
            let changed = shown.token != *info;
            if changed {
                info.clone_into(&mut shown.token);
            }
            changed
        });
    }

    fn notice_prepared(&mut self, prepared: &Prepared) {
        if !self.healthy() {
            return;
        }
        tracing::info!(capabilities = ?prepared.capabilities, "the token was prepared");
        self.shown.send_modify(|shown| {
            shown.prepared = Some(prepared.clone());
            shown.prepare_failure = None;
        });
        self.compare(false);
    }

    /// Compares what the token can do with what it could.
    fn compare(&self, accept: bool) {
        let (token, prepared) = {
            let shown = self.shown.borrow();
            (shown.token.clone(), shown.prepared.clone())
        };
        let Some(prepared) = prepared else { return };
        match self.probes.compare(&token, &prepared.capabilities, accept) {
            Ok(accepted) => {
                let could = accepted.iter();
                for what in could.flat_map(|could| could.regressions(&prepared.capabilities)) {
                    tracing::warn!(%what, "the token could do this once and cannot now");
                }
                self.shown.send_modify(|shown| shown.accepted = accepted);
            }
            Err(error) => tracing::error!(%error, "what the token can do could not be kept"),
        }
    }

    fn prepared(&mut self, outcome: TokenOutcome) {
        match answer(outcome) {
            // Unless the token was lost meanwhile: then it is done again.
            Ok(TokenAnswer::Prepared(_)) => {
                if self.prepare == Prepare::UnderWay {
                    self.prepare = Prepare::Done;
                }
            }
            Ok(other) => self.prepare_failed(&format!("the token answered {other:?}")),
            Err(failure) => self.prepare_failed(&failure.to_string()),
        }
    }

    fn prepare_failed(&mut self, why: &str) {
        tracing::error!(why, "the token could not be prepared; it is tried again");
        let failed_before = self.shown.borrow().prepare_failure.is_some();
        let pause_ms = if failed_before {
            PREPARE_PAUSE_MS
        } else {
            PREPARE_AGAIN_MS
        };
        let not_before_ms = self.now_ms().saturating_add(pause_ms);
        self.prepare = Prepare::Wanted { not_before_ms };
        self.shown
            .send_modify(|shown| shown.prepare_failure = Some(why.to_owned()));
    }

    /// Shows health and session as they are after a step.
    fn show(&mut self) {
        let health = self.machine.health();
        let session = self.machine.session();
        let before = self.shown.borrow().health.clone();
        if before.as_ref() != Some(&health) {
            if health == Health::Ok {
                tracing::info!("the token is ours and open");
            } else if let Health::BelongsTo(marker) = &health {
                tracing::error!(keystore = %marker.keystore, "token_belongs_to");
            } else {
                tracing::warn!(%health, "the token cannot be used");
            }
            if before == Some(Health::Ok) {
                // Whatever comes back may be another token: its keys are looked at again.
                self.prepare = Prepare::Wanted { not_before_ms: 0 };
            }
        }
        let forget = health != Health::Ok;
        self.shown.send_if_modified(|shown| {
            let changed = shown.health.as_ref() != Some(&health) || shown.session != session;
            if changed {
                shown.health = Some(health.clone());
                shown.session = session;
                if forget {
                    shown.prepared = None;
                    shown.prepare_failure = None;
                }
            }
            changed
        });
    }
}

fn answer(outcome: TokenOutcome) -> Result<TokenAnswer, CallFailure> {
    match outcome {
        TokenOutcome::Done(answer) => Ok(answer),
        TokenOutcome::Failed(failure) => Err(CallFailure::Token(failure)),
        TokenOutcome::Unknown { why } => Err(CallFailure::Unknown { why }),
    }
}

/// Answers a caller that may have gone away.
fn tell<T>(reply: oneshot::Sender<T>, value: T) {
    if reply.send(value).is_err() {
        tracing::debug!("nobody waits for the answer any more");
    }
}
