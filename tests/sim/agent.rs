//! An agent process: the real machine, and around it what `agent::driver` does, in the same order. What is durable outlives a
//! crash, nothing else.

use std::collections::{BTreeMap, VecDeque};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use lockstep::decide::agent::Machine;
use lockstep::decide::agent::io::{Input, Output, Pace, Setup, StreamId, Ticket};
use lockstep::decide::agent::record::{JournalRecord, Phase, Record};
use lockstep::keystore::Keystore as _;
use lockstep::keystore::memory::MemoryToken;
use lockstep::model::canonical::sha256;
use lockstep::model::desired::Want;
use lockstep::model::ids::{BootId, Digest, Epoch, KeystoreId, SessionNumber, Term};
use lockstep::model::job::{Prepared, TokenJob, TokenOutcome};
use lockstep::model::keystore::{Health, Marker, Variant};
use lockstep::model::material::{Signed, Statement};
use lockstep::model::protocol::{Up, UpBody};
use uuid::Uuid;

use crate::bugs::Bug;
use crate::dice::Dice;
use crate::network::UpFrame;
use crate::plan::Class;
use crate::world::{Event, World};

/// A keystore with its agent.
pub(crate) struct Agent {
    pub(crate) id: KeystoreId,
    pub(crate) variant: Variant,
    pub(crate) token: MemoryToken,
    identity: Ed25519KeyPair,
    /// What survives.
    pub(crate) disk: Vec<JournalRecord>,
    pub(crate) boot: u64,
    pub(crate) run: Option<Run>,
    pub(crate) skew_ms: i64,
    pub(crate) disk_full_until: u64,
    pub(crate) slow_until: u64,
    /// When a look last missed a CKA_ID.
    pub(crate) missed_at: BTreeMap<Vec<u8>, u64>,
    pub(crate) highest_term: Term,
}

/// What dies with the process.
pub(crate) struct Run {
    pub(crate) machine: Machine,
    inputs: VecDeque<Input>,
    writing: VecDeque<(Ticket, JournalRecord)>,
    syncing: bool,
    pub(crate) machine_jobs: VecDeque<(Ticket, TokenJob, Option<Acting>)>,
    pub(crate) calls: VecDeque<u64>,
    in_a_row: u32,
    pub(crate) under_way: Option<UnderWay>,
    jobs: u64,
    prepare: Prepare,
    pub(crate) prepared: Option<Prepared>,
    health: Option<Health>,
    timer: Option<u64>,
    pub(crate) streams: BTreeMap<StreamId, u64>,
    pub(crate) opened: BTreeMap<StreamId, Term>,
    pub(crate) live: Option<StreamId>,
    /// Sessions by their streams.
    pub(crate) sessions: BTreeMap<StreamId, SessionNumber>,
}

/// The durable intent that a run serves.
#[derive(Debug, Clone)]
pub(crate) struct Acting {
    pub(crate) intent: lockstep::model::desired::Intent,
}

pub(crate) struct UnderWay {
    pub(crate) number: u64,
    pub(crate) owner: Owner,
    pub(crate) job: TokenJob,
    pub(crate) acting: Option<Acting>,
    pub(crate) outcome: Option<TokenOutcome>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Owner {
    Machine(Ticket),
    Call(u64),
    Prepare,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prepare {
    Wanted(u64),
    UnderWay,
    Done,
}

impl Agent {
    pub(crate) fn new(k: usize, seed: u64, slice: Option<usize>) -> Self {
        let mut dice = Dice::new(seed, &format!("agent {k}"));
        let id = KeystoreId::from_uuid(Uuid::from_bytes(dice.bytes()));
        let secret = sha256(&dice.bytes());
        let identity = Ed25519KeyPair::from_seed_unchecked(&secret.0).expect("32 bytes are a seed");
        let mut token = MemoryToken::new(&format!("token-{k}"), seed);
        if let Some(objects) = slice {
            token.scan_in_slices(objects);
        }
        let marker = Marker {
            keystore: id,
            epoch: Epoch(1),
        };
        let bound = token.perform(&TokenJob::Bind(marker));
        assert!(matches!(bound, TokenOutcome::Done(_)));
        Self {
            id,
            variant: if k == 0 {
                Variant::Internal
            } else {
                Variant::External
            },
            token,
            identity,
            disk: vec![JournalRecord::V1(Record::Bound(marker))],
            boot: 0,
            run: None,
            skew_ms: 0,
            disk_full_until: 0,
            slow_until: 0,
            missed_at: BTreeMap::new(),
            highest_term: Term(0),
        }
    }

    pub(crate) fn identity(&self) -> Digest {
        sha256(self.identity.public_key().as_ref())
    }

    pub(crate) fn sign<T: Statement>(&self, body: T) -> Signed<T> {
        let signature = self.identity.sign(&body.canonical()).as_ref().to_vec();
        Signed {
            body,
            signer: self.identity.public_key().as_ref().to_vec(),
            signature,
        }
    }

    pub(crate) fn session(&self) -> Option<SessionNumber> {
        self.run.as_ref()?.machine.session()
    }

    pub(crate) fn is_well(&self) -> bool {
        self.run
            .as_ref()
            .is_some_and(|run| run.machine.health() == Health::Ok)
    }
}

impl World {
    pub(crate) fn agent_start(&mut self, k: usize) {
        if self.agents[k].run.is_some() {
            return;
        }
        let now = self.now;
        let clock = self.unix(self.agents[k].skew_ms);
        let rewrites = self.process_dice.chance(800);
        let bug = self.bug;
        let agent = &mut self.agents[k];
        agent.boot += 1;
        if let Some(bug) = bug.filter(|_| agent.boot > 1) {
            spoil_journal(bug, &mut agent.disk);
        }
        let setup = Setup {
            keystore: Some(agent.id),
            epoch: Epoch(1),
            boot: BootId::from_uuid(Uuid::from_u64_pair(
                u64::try_from(k).unwrap_or(0),
                agent.boot,
            )),
            token_label: format!("token-{k}"),
            token_serial: String::new(),
            clock,
            pace: Pace::default(),
        };
        let machine = Machine::recover(setup, agent.disk.clone(), now);
        // The process rewrites its journal with what counts, whole or not at all.
        if rewrites {
            agent.disk = machine.records();
        }
        agent.run = Some(Run {
            machine,
            inputs: VecDeque::new(),
            writing: VecDeque::new(),
            syncing: false,
            machine_jobs: VecDeque::new(),
            calls: VecDeque::new(),
            in_a_row: 0,
            under_way: None,
            jobs: 0,
            prepare: Prepare::Wanted(0),
            prepared: None,
            health: None,
            timer: None,
            streams: BTreeMap::new(),
            opened: BTreeMap::new(),
            live: None,
            sessions: BTreeMap::new(),
        });
        self.note(&format!("agent {k} starts"));
        self.agent_input(k, Input::Tick);
    }

    pub(crate) fn agent_crash(&mut self, k: usize, down_ms: u64, host_finishes: bool) {
        let Some(mut run) = self.agents[k].run.take() else {
            return;
        };
        self.note(&format!("agent {k} crashes"));
        // The module host finishes its call on its own, or had not begun.
        if host_finishes && let Some(under_way) = run.under_way.take_if(|job| job.outcome.is_none())
        {
            let _nobody_hears = self.do_job(k, &under_way);
        }
        // Records may be durable although nobody was told; the last one may be torn, and counts for nothing.
        if self.strikes(Class::TornTail) {
            let survive = self.disk_dice.index(run.writing.len() + 1);
            for (_, record) in run.writing.drain(..survive) {
                self.check_durable(k, &record);
                self.agents[k].disk.push(record);
            }
        }
        let lines: Vec<u64> = run.streams.values().copied().collect();
        for line in lines {
            let is_told = self.process_dice.chance(700);
            self.break_line(line, false, is_told);
        }
        self.after(down_ms, Event::AgentStart { k });
    }

    pub(crate) fn agent_tick(&mut self, k: usize, boot: u64) {
        let now = self.now;
        let agent = &mut self.agents[k];
        if agent.boot != boot {
            return;
        }
        let Some(run) = &mut agent.run else { return };
        let is_due = run.timer.is_some_and(|at| at <= now);
        let prepares = matches!(run.prepare, Prepare::Wanted(at) if at <= now);
        if is_due {
            run.timer = None;
            self.agent_input(k, Input::Tick);
        } else if prepares {
            self.agent_goes_on(k);
        }
    }

    /// Gives the machine an input and carries out what it says, and then what follows.
    pub(crate) fn agent_input(&mut self, k: usize, input: Input) {
        if let Some(run) = &mut self.agents[k].run {
            run.inputs.push_back(input);
        }
        self.agent_goes_on(k);
    }

    /// A call waits: perhaps the host has nothing to do.
    pub(crate) fn agent_nudged(&mut self, k: usize) {
        self.agent_goes_on(k);
    }

    fn agent_goes_on(&mut self, k: usize) {
        while let Some(input) = self.agents[k]
            .run
            .as_mut()
            .and_then(|run| run.inputs.pop_front())
        {
            self.agent_step(k, input);
        }
        self.start_job(k);
    }

    fn agent_step(&mut self, k: usize, input: Input) {
        let now = self.now;
        let from = match &input {
            Input::Intent { stream, .. } => Some(*stream),
            _ => None,
        };
        let mut out = Vec::new();
        let Some(run) = &mut self.agents[k].run else {
            return;
        };
        run.machine.step(now, input, &mut out);
        if out.len() > 500 {
            self.fail(
                "I16",
                format!("agent {k} puts out {} things at once", out.len()),
            );
        }
        for output in out {
            self.carry_out(k, output, from);
        }
        self.show(k);
    }

    fn carry_out(&mut self, k: usize, output: Output, from: Option<StreamId>) {
        let boot = self.agents[k].boot;
        match output {
            Output::Journal { ticket, record } => {
                self.check_journaled(k, &record, from);
                let record = self.spoil_record(record);
                let early = self.bug == Some(Bug::AnswersBeforeFsync);
                let wait = self.disk_dice.between(1, if early { 900 } else { 15 });
                let Some(run) = &mut self.agents[k].run else {
                    return;
                };
                run.writing.push_back((ticket, record));
                if early {
                    run.inputs.push_back(Input::JournalWritten {
                        ticket,
                        result: Ok(()),
                    });
                }
                if !std::mem::replace(&mut run.syncing, true) {
                    self.after(wait, Event::Fsync { k, boot });
                }
            }
            Output::Token { ticket, job, .. } => {
                let acting = self.check_job(k, &job);
                if let Some(run) = &mut self.agents[k].run {
                    run.machine_jobs.push_back((ticket, job, acting));
                }
            }
            Output::Send { stream, up } => self.agent_sends(k, stream, up),
            Output::Close { stream } => {
                let line = self.agents[k]
                    .run
                    .as_mut()
                    .and_then(|run| run.streams.remove(&stream));
                if let Some(line) = line {
                    self.send_up(line, UpFrame::End);
                }
            }
            Output::Timer { at_ms } => {
                if let Some(run) = &mut self.agents[k].run {
                    run.timer = Some(at_ms);
                }
                let wait = at_ms.saturating_sub(self.now);
                self.after(wait, Event::AgentTick { k, boot });
            }
            Output::Proved { .. } => {}
        }
    }

    fn agent_sends(&mut self, k: usize, stream: StreamId, mut up: Up) {
        if let UpBody::Accepted { session, .. } = &up.body {
            self.check_accepted(k, stream, *session);
            if let Some(run) = &mut self.agents[k].run {
                run.live = Some(stream);
                run.sessions.insert(stream, *session);
            }
        }
        self.spoil_up(&mut up);
        self.check_up(k, &up);
        self.detail(|| format!("agent {k} says {up:?}"));
        let Some(line) = self.agents[k]
            .run
            .as_ref()
            .and_then(|run| run.streams.get(&stream).copied())
        else {
            return;
        };
        let sent_at = self.now;
        self.send_up(
            line,
            UpFrame::Frame {
                sent_at,
                up: Box::new(up),
            },
        );
    }

    pub(crate) fn fsync(&mut self, k: usize, boot: u64) {
        if self.agents[k].boot != boot || self.agents[k].run.is_none() {
            return;
        }
        let fails = self.now < self.agents[k].disk_full_until || self.strikes(Class::JournalFails);
        if !fails {
            let writing = self.agents[k].run.as_ref().map(|run| run.writing.clone());
            for (_, record) in writing.into_iter().flatten() {
                self.check_durable(k, &record);
            }
        }
        let agent = &mut self.agents[k];
        let Some(run) = &mut agent.run else { return };
        run.syncing = false;
        // One fsync for all that waits: all of it counts, or nothing.
        for (ticket, record) in std::mem::take(&mut run.writing) {
            let result = if fails {
                Err("no space left on device".to_owned())
            } else {
                Ok(())
            };
            if !fails {
                agent.disk.push(record);
            }
            run.inputs
                .push_back(Input::JournalWritten { ticket, result });
        }
        if fails {
            self.note(&format!("agent {k} cannot write its journal"));
        }
        self.agent_goes_on(k);
        // The process rewrites its journal while it runs too, when nothing is on its way there; here far more often.
        let is_time = self.now.is_multiple_of(4);
        let agent = &mut self.agents[k];
        if let Some(run) = agent.run.as_ref().filter(|_| is_time)
            && run.machine.is_written()
        {
            agent.disk = run.machine.records();
        }
    }

    /// What the driver does when health changes.
    fn show(&mut self, k: usize) {
        let Some(run) = &mut self.agents[k].run else {
            return;
        };
        let health = run.machine.health();
        if run.health.as_ref() != Some(&health) {
            if run.health == Some(Health::Ok) {
                run.prepare = Prepare::Wanted(0);
            }
            if health != Health::Ok {
                run.prepared = None;
            }
            run.health = Some(health.clone());
            self.note(&format!("agent {k}: {health}"));
        }
        let Some(run) = &mut self.agents[k].run else {
            return;
        };
        if run.machine.session().is_none() {
            run.live = None;
        }
    }

    /// Gives the host its next job, if it has none: the machine's first, then what calls ask for.
    fn start_job(&mut self, k: usize) {
        let now = self.now;
        let agent = &mut self.agents[k];
        let is_internal = agent.variant == Variant::Internal;
        let is_well = agent.is_well();
        let Some(run) = &mut agent.run else { return };
        if run.under_way.is_some() {
            return;
        }
        if let Prepare::Wanted(at) = run.prepare
            && is_well
            && now >= at
        {
            run.prepare = Prepare::UnderWay;
            let job = TokenJob::Prepare {
                internal: is_internal,
            };
            return self.begin_job(k, Owner::Prepare, job, None);
        }
        loop {
            let Some(run) = &mut self.agents[k].run else {
                return;
            };
            let watches = |job: &TokenJob| {
                matches!(job, TokenJob::Scan | TokenJob::ScanOn | TokenJob::Survey(_))
            };
            let most = if run
                .machine_jobs
                .front()
                .is_some_and(|(_, job, _)| watches(job))
            {
                1
            } else {
                8
            };
            let call_first = run.in_a_row >= most && !run.calls.is_empty();
            if !call_first && let Some((ticket, job, acting)) = run.machine_jobs.pop_front() {
                run.in_a_row += 1;
                return self.begin_job(k, Owner::Machine(ticket), job, acting);
            }
            run.in_a_row = 0;
            let Some(call) = run.calls.pop_front() else {
                return;
            };
            match self.call_job(k, call) {
                Ok(job) => return self.begin_job(k, Owner::Call(call), job, None),
                Err(failure) => self.answer_call(call, Err(failure)),
            }
        }
    }

    fn begin_job(&mut self, k: usize, owner: Owner, job: TokenJob, acting: Option<Acting>) {
        let slow = self.now < self.agents[k].slow_until || self.strikes(Class::TokenSlow);
        let wait = if slow {
            self.token_dice.between(500, 6_000)
        } else {
            self.token_dice.between(1, 25)
        };
        let agent = &mut self.agents[k];
        let boot = agent.boot;
        let Some(run) = &mut agent.run else { return };
        run.jobs += 1;
        let number = run.jobs;
        run.under_way = Some(UnderWay {
            number,
            owner,
            job,
            acting,
            outcome: None,
        });
        self.after(
            wait,
            Event::Effect {
                k,
                boot,
                job: number,
            },
        );
    }

    pub(crate) fn landed(&mut self, k: usize, boot: u64, number: u64) {
        let now = self.now;
        let agent = &mut self.agents[k];
        if agent.boot != boot {
            return;
        }
        let Some(run) = &mut agent.run else { return };
        let Some(done) = run.under_way.take_if(|job| job.number == number) else {
            return;
        };
        let Some(outcome) = done.outcome else { return };
        if let TokenOutcome::Done(lockstep::model::job::TokenAnswer::Prepared(prepared)) = &outcome
        {
            if run.machine.health() == Health::Ok {
                run.prepared = Some(prepared.clone());
            }
            run.inputs
                .push_back(Input::Probed(Box::new(prepared.capabilities.clone())));
        }
        match done.owner {
            Owner::Machine(ticket) => self.agent_step(k, Input::Token { ticket, outcome }),
            Owner::Call(call) => self.call_done(k, call, outcome),
            Owner::Prepare => match outcome {
                TokenOutcome::Done(_) => {
                    if run.prepare == Prepare::UnderWay {
                        run.prepare = Prepare::Done;
                    }
                }
                TokenOutcome::Failed(_) | TokenOutcome::Unknown { .. } => {
                    run.prepare = Prepare::Wanted(now + 5_000);
                    self.after(5_000, Event::AgentTick { k, boot });
                }
            },
        }
        self.agent_goes_on(k);
    }

    fn spoil_record(&self, record: JournalRecord) -> JournalRecord {
        let JournalRecord::V1(Record::Intent {
            intent,
            phase: Phase::Intent,
        }) = &record
        else {
            return record;
        };
        if self.bug == Some(Bug::DoneTooEarly) {
            let phase = Phase::Done { proof: None };
            return JournalRecord::V1(Record::Intent {
                intent: intent.clone(),
                phase,
            });
        }
        record
    }
}

fn spoil_journal(bug: Bug, disk: &mut Vec<JournalRecord>) {
    match bug {
        Bug::JournalForgotten => disk.truncate(1),
        Bug::JournalBackwards => {
            let mut seen = std::collections::BTreeSet::new();
            disk.retain(|JournalRecord::V1(record)| match record {
                Record::Intent { intent, .. } => seen.insert(intent.version),
                Record::Bound(_) | Record::Session { .. } => true,
            });
        }
        Bug::TombstonesForgotten => disk.retain(|JournalRecord::V1(record)| {
            !matches!(record, Record::Intent { intent, .. } if intent.want == Want::Destroyed)
        }),
        _ => {}
    }
}
