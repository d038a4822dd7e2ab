//! A machine with a tiny token, a journal and a clock around it. Every output is checked against the invariants of
//! promises 1.5 as it is carried out.

use std::collections::{BTreeMap, VecDeque};

use uuid::Uuid;

use crate::decide::agent::Machine;
use crate::decide::agent::io::{Input, Output, Pace, ProveFailure, Setup, StreamId, Ticket};
use crate::decide::agent::record::{JournalRecord, Phase, Record};
use crate::decide::agent::tests::token::{Token, fingerprint};
use crate::model::capabilities::Strategy;
use crate::model::desired::{Intent, ObjectPlan, Want};
use crate::model::ids::Digest;
use crate::model::ids::{BootId, Epoch, Generation, KeyVersionId, KeystoreId, SessionNumber, Term};
use crate::model::job::TokenJob;
use crate::model::key::{Algorithm, DeactivatedUsage, KeySpec};
use crate::model::keystore::{Health, Marker, OaepHash, Route, Wrapping};
use crate::model::material::Envelope;
use crate::model::protocol::{Cursor, Progress, Refusal, Report, Up, UpBody};
use crate::model::step::Step;
use crate::model::vault::UnixMs;

pub(crate) const KEYSTORE: KeystoreId = KeystoreId::from_uuid(Uuid::from_u128(0xcafe));
pub(crate) const MARKER: Marker = Marker {
    keystore: KEYSTORE,
    epoch: Epoch(1),
};
pub(crate) const STREAM: StreamId = StreamId(1);

pub(crate) const fn version(number: u8) -> KeyVersionId {
    KeyVersionId::from_uuid(Uuid::from_bytes([number; 16]))
}

pub(crate) fn cka_id(number: u8) -> Vec<u8> {
    version(number).uuid().as_bytes().to_vec()
}

/// Odd numbers are secret keys, even ones pairs; the number is the material.
pub(crate) fn intent(number: u8, generation: u64, want: Want) -> Intent {
    let algorithm = if number % 2 == 1 {
        Algorithm::Aes
    } else {
        Algorithm::Ec
    };
    let spec = KeySpec::new(algorithm, 256).unwrap();
    Intent {
        version: version(number),
        keystore: KEYSTORE,
        generation: Generation(generation),
        want,
        object: ObjectPlan {
            cka_id: cka_id(number),
            label: format!("key-{number}"),
            spec,
            usage: spec.default_usage(),
            deactivated_usage: DeactivatedUsage::None,
            salt: vec![7; 32],
            strategy: Strategy::Flags,
        },
        fingerprint: fingerprint(spec.class().objects()[0], number),
    }
}

pub(crate) fn envelope(intent: &Intent) -> Box<Envelope> {
    Box::new(Envelope {
        version: intent.version,
        spec: intent.object.spec,
        fingerprint: intent.fingerprint,
        salt: intent.object.salt.clone(),
        spki: None,
        source: KeystoreId::from_uuid(Uuid::from_u128(0xbeef)),
        target: intent.keystore,
        generation: intent.generation,
        transport: Digest([3; 32]),
        route: Route {
            wrapping: Wrapping::Rfc5649,
            oaep_hash: OaepHash::Sha256,
        },
        wrapped_kek: vec![1],
        wrapped_key: vec![intent.fingerprint.value.0[0]],
        at: UnixMs(0),
    })
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) boot: u128,
    pub(crate) machine: Machine,
    pub(crate) journal: Vec<JournalRecord>,
    /// The system's error for writes, as long as it is set.
    pub(crate) disk_full: bool,
    pub(crate) token: Token,
    pub(crate) writes: VecDeque<(Ticket, JournalRecord)>,
    pub(crate) job: Option<(Ticket, TokenJob)>,
    pub(crate) timer: Option<u64>,
    pub(crate) ups: Vec<(StreamId, Up)>,
    /// The last sequence number of this boot.
    seq: u64,
    pub(crate) closed: Vec<StreamId>,
    pub(crate) proved: Vec<(u64, Result<Box<Report>, ProveFailure>)>,
    /// How many outputs were carried out; the run ends in a crash when it reaches `crash_at`.
    pub(crate) outputs: usize,
    pub(crate) crash_at: Option<usize>,
}

/// The reports in a frame; none in any other.
pub(crate) fn reports(body: &UpBody) -> &[Report] {
    if let UpBody::Reports(reports) = body {
        reports
    } else {
        &[]
    }
}

/// The machine was dropped.
#[derive(Debug)]
pub(crate) struct Crashed;

fn setup(boot: u128) -> Setup {
    Setup {
        keystore: Some(KEYSTORE),
        epoch: Epoch(1),
        boot: BootId::from_uuid(Uuid::from_u128(boot)),
        token_label: "tiny".to_owned(),
        token_serial: String::new(),
        clock: UnixMs(1_700_000_000_000),
        pace: Pace::default(),
    }
}

impl World {
    /// A bound token, an agent that has just started, and nobody connected.
    pub(crate) fn new() -> Self {
        let journal = vec![JournalRecord::V1(Record::Bound(MARKER))];
        Self::with_journal(journal)
    }

    pub(crate) fn with_journal(journal: Vec<JournalRecord>) -> Self {
        let token = Token {
            markers: vec![MARKER],
            ..Token::default()
        };
        Self {
            now: 1_000,
            boot: 1,
            machine: Machine::recover(setup(1), journal.clone(), 1_000),
            journal,
            disk_full: false,
            token,
            writes: VecDeque::new(),
            job: None,
            timer: None,
            ups: Vec::new(),
            seq: 0,
            closed: Vec::new(),
            proved: Vec::new(),
            outputs: 0,
            crash_at: None,
        }
    }

    /// An agent with a live session that has said all.
    pub(crate) fn live() -> Self {
        let mut world = Self::new();
        world.go(Input::Tick);
        world.open(STREAM, 1, None);
        assert!(matches!(world.last_up(), UpBody::CaughtUp { .. }));
        world.ups.clear();
        world
    }

    pub(crate) fn open(&mut self, stream: StreamId, term: u64, cursor: Option<Cursor>) {
        self.go(Input::Open {
            stream,
            term: Term(term),
            keystore: KEYSTORE,
            cursor,
        });
    }

    /// Drops the machine and starts it again from the journal. What was not written is lost.
    pub(crate) fn restart(&mut self) {
        self.boot += 1;
        self.now += 10;
        self.writes.clear();
        self.job = None;
        self.timer = None;
        self.crash_at = None;
        self.seq = 0;
        self.machine = Machine::recover(setup(self.boot), self.journal.clone(), self.now);
    }

    /// Gives an input and lets all that follows from it happen, but no time pass.
    pub(crate) fn go(&mut self, input: Input) {
        self.try_go(input).expect("no crash was asked for");
    }

    pub(crate) fn try_go(&mut self, input: Input) -> Result<(), Crashed> {
        self.give(input)?;
        while self.follow()? {}
        Ok(())
    }

    /// The next thing that follows from what was put out: a record first, then a job. False if there is nothing.
    pub(crate) fn follow(&mut self) -> Result<bool, Crashed> {
        if let Some((ticket, record)) = self.writes.pop_front() {
            self.write(ticket, record)?;
        } else if let Some((ticket, job)) = self.job.take() {
            let outcome = self.token.perform(&job);
            self.give(Input::Token { ticket, outcome })?;
        } else {
            return Ok(false);
        }
        Ok(true)
    }

    pub(crate) fn write(&mut self, ticket: Ticket, record: JournalRecord) -> Result<(), Crashed> {
        let result = if self.disk_full {
            Err("no space left".to_owned())
        } else {
            self.journal.push(record);
            Ok(())
        };
        self.give(Input::JournalWritten { ticket, result })
    }

    /// Lets time pass, with its timers.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.try_pass(ms).expect("no crash was asked for");
    }

    pub(crate) fn try_pass(&mut self, ms: u64) -> Result<(), Crashed> {
        let end = self.now + ms;
        while let Some(at) = self.timer.filter(|&at| at <= end) {
            self.now = self.now.max(at);
            self.try_go(Input::Tick)?;
        }
        self.now = end;
        Ok(())
    }

    /// Gives one input and carries out nothing but what needs no answer.
    pub(crate) fn give(&mut self, input: Input) -> Result<(), Crashed> {
        let mut out = Vec::new();
        if input == Input::Tick {
            self.timer = None;
        }
        self.machine.step(self.now, input, &mut out);
        for output in out {
            if self.crash_at == Some(self.outputs) {
                return Err(Crashed);
            }
            self.outputs += 1;
            self.carry_out(output);
        }
        Ok(())
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Journal { ticket, record } => self.writes.push_back((ticket, record)),
            Output::Token {
                ticket,
                job,
                writes,
            } => {
                assert!(self.job.is_none(), "two jobs at once");
                self.check_job(&job, writes);
                self.job = Some((ticket, job));
            }
            Output::Send { stream, up } => {
                self.check_up(&up);
                self.seq = up.seq;
                self.ups.push((stream, up));
            }
            Output::Close { stream } => self.closed.push(stream),
            Output::Timer { at_ms } => {
                assert!(at_ms > self.now, "a timer in the past spins");
                self.timer = Some(at_ms);
            }
            Output::Proved { request, result } => self.proved.push((request, result)),
        }
    }

    /// The newest durable intent of each instance, and whether it is durably done.
    pub(crate) fn durable(&self) -> BTreeMap<KeyVersionId, (Intent, bool)> {
        let mut newest = BTreeMap::new();
        for JournalRecord::V1(record) in &self.journal {
            if let Record::Intent { intent, phase } = record {
                let done = matches!(phase, Phase::Done { .. });
                newest.insert(intent.version, (Intent::clone(intent), done));
            }
        }
        newest
    }

    /// R4, I1, I2, I3, I7: a job acts for the newest durable intent and for no other, and nothing is made or enabled against
    /// a restriction or a tombstone.
    fn check_job(&self, job: &TokenJob, writes: bool) {
        let TokenJob::Run(run) = job else {
            assert!(!writes);
            return;
        };
        let durable = self.durable();
        let (intent, done) = durable
            .values()
            .find(|(intent, _)| intent.object.cka_id == run.object.cka_id)
            .expect("a job without a durable intent");
        assert_eq!(run.object, intent.object);
        assert_eq!(run.fingerprint, intent.fingerprint);
        let proves = |step: &Step| matches!(step, Step::ProveEnabled | Step::ProveDisabled);
        assert!(
            !done || run.steps.iter().all(proves),
            "an effect for an intent that was done: {run:?}"
        );
        for step in &run.steps {
            match step {
                Step::Install => assert_ne!(intent.want, Want::Destroyed, "I3"),
                Step::InstallEnabled => assert_eq!(intent.want, Want::Active, "I2"),
                Step::Withdraw { .. } => {
                    assert_eq!(intent.object.strategy, Strategy::Withdraw);
                    assert_ne!(intent.want, Want::Destroyed);
                }
                Step::SetUsage { usage, .. } | Step::Replace { usage, .. } => {
                    assert_ne!(intent.want, Want::Destroyed, "I3");
                    assert!(
                        usage.is_empty() || intent.want == Want::Active,
                        "I2: {run:?}"
                    );
                }
                Step::Destroy { .. } => {
                    let reinstalls = run.steps.contains(&Step::Install);
                    assert!(intent.want == Want::Destroyed || reinstalls);
                }
                Step::SetLabel { .. } | Step::ProveEnabled | Step::ProveDisabled => {}
            }
        }
    }

    /// I8: nothing is called done that is not durably so, as a read-back found it.
    fn check_up(&self, up: &Up) {
        assert!(self.seq < up.seq, "sequence numbers grow within a boot");
        let UpBody::Reports(reports) = &up.body else {
            return;
        };
        for report in reports {
            if let (Progress::Done, Some(applied)) = (&report.progress, report.applied) {
                let durable = self.durable();
                let (intent, done) = &durable[&report.version];
                let newer = intent.generation > applied.generation;
                assert!(newer || (*done && intent.digest() == applied.digest), "I8");
            }
        }
    }

    pub(crate) fn send(&mut self, intent: &Intent) {
        self.go(Input::Intent {
            stream: STREAM,
            intent: Box::new(intent.clone()),
            envelope: None,
        });
    }

    pub(crate) fn send_with_material(&mut self, intent: &Intent) {
        self.go(Input::Intent {
            stream: STREAM,
            intent: Box::new(intent.clone()),
            envelope: Some(Ok(envelope(intent))),
        });
    }

    /// The last thing said.
    pub(crate) fn last_up(&self) -> &UpBody {
        &self.ups.last().expect("something was said").1.body
    }

    /// The last report of an instance.
    pub(crate) fn report(&self, number: u8) -> Report {
        self.try_report(number).expect("a report")
    }

    pub(crate) fn try_report(&self, number: u8) -> Option<Report> {
        for (_, up) in self.ups.iter().rev() {
            let mut ours = reports(&up.body).iter();
            if let Some(report) = ours.find(|r| r.version == version(number)) {
                return Some(report.clone());
            }
        }
        None
    }

    pub(crate) fn last_refusal(&self) -> &Refusal {
        for (_, up) in self.ups.iter().rev() {
            if let UpBody::Refused { refusal, .. } = &up.body {
                return refusal;
            }
        }
        panic!("nothing was refused: {:?}", self.ups)
    }

    pub(crate) fn last_health(&self) -> Health {
        for (_, up) in self.ups.iter().rev() {
            if let UpBody::Health(health) = &up.body {
                return health.clone();
            }
        }
        panic!("no health was told")
    }

    pub(crate) fn session(&self) -> Option<SessionNumber> {
        self.machine.session()
    }

    /// What is on the token of an instance: `private:sign public:verify`.
    pub(crate) fn on_token(&self, number: u8) -> String {
        let mut parts: Vec<String> = self
            .token
            .objects
            .iter()
            .filter(|o| o.cka_id == cka_id(number))
            .map(|o| format!("{} {}", o.class.name(), o.usage))
            .collect();
        parts.sort();
        parts.join("; ")
    }
}
