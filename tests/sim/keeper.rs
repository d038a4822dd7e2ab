//! One keystore's line as `reconcile::keeper` keeps it: dials, opens a session, carries frames between the line and the real
//! machine, rereads what is wanted.

use std::sync::Arc;

use lockstep::agent::identity::verify;
use lockstep::coordinator::ops::fleet::LiveKeystore;
use lockstep::coordinator::store::Store as _;
use lockstep::decide::agent::io::Input as AgentInput;
use lockstep::decide::coordinator::{Input, Machine, Moment, Output};
use lockstep::model::canonical::sha256;
use lockstep::model::capabilities::Capabilities;
use lockstep::model::desired::{Instance, Want};
use lockstep::model::ids::{Digest, Epoch, KeyVersionId, KeystoreId, SessionNumber, Term};
use lockstep::model::keystore::{Health, TokenInfo, Variant};
use lockstep::model::live::Terms;
use lockstep::model::material::{Endorsement, Envelope, Signed};
use lockstep::model::protocol::{Description, Down, Up};
use lockstep::model::vault::UnixMs;

use crate::bugs::Bug;
use crate::calls::{Answer, Asking, Good, Waiting};
use crate::network::{DownFrame, UpFrame};
use crate::plan::Class;
use crate::port::{at_once, lock};
use crate::world::{Event, World};

const TICK_MS: u64 = 1_000;
const REREAD_TICKS: u32 = 10;
const SILENT_FOR_MS: u64 = 16_000;
const RECONNECT_MIN_MS: u64 = 200;
const RECONNECT_MAX_MS: u64 = 5_000;

/// What a coordinator keeps of one keystore, gone when it crashes.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) machine: Machine,
    pub(crate) line: Option<u64>,
    pub(crate) endorsement: Option<Signed<Endorsement>>,
    identity: Digest,
    variant: Variant,
    id: KeystoreId,
    above: Term,
    has_rival: bool,
    pause_ms: u64,
    worked: bool,
    since_read: u32,
    pub(crate) heard: u64,
}

impl Keeper {
    pub(crate) fn new(id: KeystoreId, identity: Digest, variant: Variant) -> Self {
        Self {
            machine: Machine::new(id),
            line: None,
            endorsement: None,
            identity,
            variant,
            id,
            above: Term::default(),
            has_rival: false,
            pause_ms: RECONNECT_MIN_MS,
            worked: false,
            since_read: 0,
            heard: 0,
        }
    }

    /// The live session, if there is a line.
    pub(crate) fn session(&self) -> Option<SessionNumber> {
        self.line.and(self.machine.known().session)
    }

    pub(crate) fn told(&self, now: u64) -> LiveKeystore {
        let known = self.machine.known();
        LiveKeystore {
            connection: self.machine.connection().clone(),
            health: known.health.clone(),
            description: Some(Arc::new(Description {
                keystore: Some(self.id),
                epoch: Epoch(1),
                version: String::new(),
                identity: self.identity,
                variant: self.variant,
                token: TokenInfo::default(),
                capabilities: Some(Capabilities::best()),
                accepted: None,
                health: known.health.clone().unwrap_or(Health::Starting),
                journal_records: 0,
                clock: UnixMs(0),
            })),
            unmanaged: known.unmanaged.clone(),
            scan_age_ms: known.scan_age_ms(now),
        }
    }
}

impl World {
    /// What is demanded of all keys; nothing is said of what tokens can do.
    pub(crate) fn terms(&self) -> Terms {
        Terms {
            strategy: Some(self.plan.strategy),
            described: None,
        }
    }

    fn is_this(&self, c: usize, boot: u64) -> bool {
        self.coordinators[c].up && self.coordinators[c].boot == boot
    }

    fn with_keeper<T>(&self, c: usize, k: usize, act: impl FnOnce(&mut Keeper) -> T) -> T {
        let mut desk = lock(&self.coordinators[c].desk);
        act(desk
            .keepers
            .get_mut(&self.agents[k].id)
            .expect("a keeper for each keystore"))
    }

    pub(crate) fn dial(&mut self, c: usize, boot: u64, k: usize) {
        if self.is_this(c, boot) && self.with_keeper(c, k, |keeper| keeper.line.is_none()) {
            self.call(c, k, None, Asking::Describe, Waiting::Dial);
        }
    }

    /// The agent has said who it is: a term is taken, what is wanted is read, the session is opened.
    pub(crate) fn dialled(&mut self, c: usize, k: usize, answer: Answer) {
        if !matches!(answer, Ok(Good::Described))
            || self.agents[k].run.is_none()
            || self.blocked(k, true)
        {
            return self.keeper_ended(c, k, "not reachable");
        }
        let id = self.agents[k].id;
        let (above, has_rival) = self.with_keeper(c, k, |keeper| {
            (std::mem::take(&mut keeper.above), keeper.has_rival)
        });
        let store = self.coordinators[c].store.clone();
        if self.now < self.coordinators[c].disk_full_until || self.strikes(Class::CommitFails) {
            return self.keeper_ended(c, k, "the store failed");
        }
        let Ok(mut term) = at_once(store.lease_take(id, Term::default())) else {
            return self.keeper_ended(c, k, "the store failed");
        };
        if term <= above {
            // The store never gave the term under which the agent has served.
            if !has_rival {
                lock(&self.coordinators[c].desk).behind = true;
            }
            term = at_once(store.lease_take(id, above)).unwrap_or(term);
        }
        let desired = self.read_desired(c, k);
        let line = self.open_line(c, k);
        self.with_keeper(c, k, |keeper| {
            (keeper.line, keeper.since_read) = (Some(line), 0)
        });
        let now = self.now;
        self.with_keeper(c, k, |keeper| keeper.heard = now);
        self.keeper_input(c, k, Input::Desired(desired));
        self.keeper_input(c, k, Input::Connected { term });
        let boot = self.coordinators[c].boot;
        self.after(TICK_MS, Event::KeeperTick { c, boot, k, line });
    }

    fn read_desired(&self, c: usize, k: usize) -> Vec<Instance> {
        let rows = at_once(
            self.coordinators[c]
                .store
                .keystore_instances(self.agents[k].id),
        );
        rows.unwrap_or_default()
            .into_iter()
            .map(|row| row.instance)
            .collect()
    }

    pub(crate) fn keeper_tick(&mut self, c: usize, boot: u64, k: usize, line: u64) {
        if !self.is_this(c, boot) || self.with_keeper(c, k, |keeper| keeper.line) != Some(line) {
            return;
        }
        let now = self.now;
        let (heard, since_read) = self.with_keeper(c, k, |keeper| {
            keeper.since_read += 1;
            (keeper.heard, keeper.since_read)
        });
        if now - heard > SILENT_FOR_MS {
            return self.keeper_ended(c, k, "the agent fell silent");
        }
        self.after(TICK_MS, Event::KeeperTick { c, boot, k, line });
        self.keeper_input(c, k, Input::Tick);
        if since_read >= REREAD_TICKS {
            self.reread(c, k);
        }
        self.check_shown(c, k);
    }

    pub(crate) fn keeper_wake(&mut self, c: usize, boot: u64, k: usize) {
        if self.is_this(c, boot) && self.with_keeper(c, k, |keeper| keeper.line.is_some()) {
            self.reread(c, k);
        }
    }

    pub(crate) fn keeper_wanted(&mut self, c: usize, boot: u64, k: usize, version: KeyVersionId) {
        if !self.is_this(c, boot) || self.with_keeper(c, k, |keeper| keeper.line.is_none()) {
            return;
        }
        let store = &self.coordinators[c].store;
        // Without the store nothing changes.
        if let Ok(found) = at_once(store.instances_on(self.agents[k].id, vec![version])) {
            self.keeper_input(c, k, Input::DesiredOf(vec![version], found));
        }
    }

    fn reread(&mut self, c: usize, k: usize) {
        self.with_keeper(c, k, |keeper| keeper.since_read = 0);
        let desired = self.read_desired(c, k);
        self.keeper_input(c, k, Input::Desired(desired));
    }

    pub(crate) fn keeper_input(&mut self, c: usize, k: usize, input: Input) {
        let at = Moment {
            now_ms: self.now,
            unix: self.unix(self.coordinators[c].skew_ms),
        };
        let mut outputs = Vec::new();
        let behind = lock(&self.coordinators[c].desk).behind;
        self.with_keeper(c, k, |keeper| {
            let gathers = Input::Gather(behind);
            keeper.machine.step(at, gathers, &mut outputs);
            keeper.machine.step(at, input, &mut outputs);
        });
        self.check_order(&outputs);
        if self.bug == Some(Bug::RestrictiveLast) {
            outputs.reverse();
        }
        for output in outputs {
            match output {
                Output::Send(down) => {
                    let line = self.with_keeper(c, k, |keeper| keeper.line);
                    if let Some(line) = line {
                        let down = self.spoil_down(c, k, down);
                        self.detail(|| format!("coordinator {c} to {k}: {down:?}"));
                        self.send_down(line, DownFrame::Frame(down));
                    }
                }
                Output::FetchMaterial {
                    version,
                    generation,
                } => self.fetch(c, k, version, generation),
                Output::Changed(_) => {}
                Output::Evidence(evidence) => {
                    self.note(&format!("coordinator {c} finds its store old: {evidence}"));
                    lock(&self.coordinators[c].desk).behind = true;
                }
                // Who raises when is `reconcile::contest`'s; here rivals meet as often as they can.
                Output::RaiseLease { highest, by_rival } => self.with_keeper(c, k, |keeper| {
                    keeper.above = highest;
                    keeper.has_rival |= by_rival;
                }),
                Output::Close { why } => return self.keeper_ended(c, k, &why),
            }
        }
    }

    /// A session ended, or none began: dials again after a pause.
    pub(crate) fn keeper_ended(&mut self, c: usize, k: usize, why: &str) {
        self.note(&format!("coordinator {c}: no session with {k}: {why}"));
        let line = self.with_keeper(c, k, |keeper| keeper.line.take());
        if let Some(line) = line {
            let told = self.healed || self.process_dice.chance(850);
            self.end_at_agent(line, told);
        }
        self.keeper_input(
            c,
            k,
            Input::Gone {
                why: why.to_owned(),
            },
        );
        let pause = self.with_keeper(c, k, |keeper| {
            keeper.endorsement = None;
            keeper.pause_ms = if std::mem::take(&mut keeper.worked) {
                RECONNECT_MIN_MS
            } else {
                (keeper.pause_ms * 2).min(RECONNECT_MAX_MS)
            };
            keeper.pause_ms
        });
        let boot = self.coordinators[c].boot;
        self.after(pause, Event::Dial { c, boot, k });
    }

    /// A frame reaches the coordinator.
    pub(crate) fn arrives_up(&mut self, line: u64, frame: UpFrame) {
        let Some(open) = self.lines.get(&line) else {
            return;
        };
        let (c, k, boot, dead) = (open.c, open.k, open.c_boot, open.dead);
        if !self.is_this(c, boot) || self.with_keeper(c, k, |keeper| keeper.line) != Some(line) {
            return;
        }
        match frame {
            UpFrame::End => self.keeper_ended(c, k, "the agent ended the session"),
            UpFrame::Frame { .. } if dead => {}
            UpFrame::Frame { sent_at, mut up } => {
                let now = self.now;
                self.with_keeper(c, k, |keeper| (keeper.heard, keeper.worked) = (now, true));
                let up = if self.bug == Some(Bug::OldReportsTaken) {
                    self.oracle.false_seq += 1;
                    up.seq = 1_000_000 + self.oracle.false_seq;
                    up
                } else {
                    up
                };
                let before = self.with_keeper(c, k, |keeper| keeper.machine.known().session);
                self.note_looks(c, k, sent_at, &up, before);
                self.keeper_input(c, k, Input::Up(up));
                self.check_shown(c, k);
            }
        }
    }

    /// A frame reaches an agent.
    pub(crate) fn arrives_down(&mut self, line: u64, frame: DownFrame) {
        let Some(open) = self.lines.get(&line) else {
            return;
        };
        let (k, boot, dead) = (open.k, open.k_boot, open.dead);
        let mut stream = open.stream;
        if self.agents[k].boot != boot {
            return;
        }
        let Some(run) = &mut self.agents[k].run else {
            return;
        };
        let down = match frame {
            DownFrame::End => {
                run.streams.remove(&stream);
                return self.agent_input(k, AgentInput::StreamGone { stream });
            }
            DownFrame::Frame(_) if dead => return,
            DownFrame::Frame(down) => down,
        };
        let is_intent = matches!(*down, Down::Intent { .. });
        if self.bug == Some(Bug::CommandsOutliveSession) && is_intent {
            stream = run.live.unwrap_or(stream);
            self.oracle.sneaked = (stream != open.stream).then_some(open.stream);
        } else if !run.streams.contains_key(&stream) {
            // The stream has ended: nobody reads it any more.
            return;
        }
        let input = match *down {
            Down::Open {
                mut term,
                keystore,
                cursor,
            } => {
                run.opened.insert(stream, term);
                if self.bug == Some(Bug::StaleTermTaken) {
                    term = term.max(self.agents[k].highest_term);
                }
                AgentInput::Open {
                    stream,
                    term,
                    keystore,
                    cursor,
                }
            }
            Down::Intent { intent, envelope } => {
                let envelope = envelope.map(|envelope| self.believed(k, *envelope));
                AgentInput::Intent {
                    stream,
                    intent,
                    envelope,
                }
            }
            Down::Look { version } => AgentInput::Look { stream, version },
            Down::Heartbeat { wanted } => AgentInput::Heartbeat { stream, wanted },
        };
        self.agent_input(k, input);
        self.oracle.sneaked = None;
    }

    /// What `agent::service::trust` checks of an envelope.
    fn believed(&self, k: usize, envelope: Signed<Envelope>) -> Result<Box<Envelope>, String> {
        let body = &envelope.body;
        let run = self.agents[k].run.as_ref();
        let Some(prepared) = run.and_then(|run| run.prepared.as_ref()) else {
            return Err("not_ready".to_owned());
        };
        let is_listed = self
            .agents
            .iter()
            .any(|a| a.id == body.source && a.identity() == envelope.signer_digest());
        if !is_listed || !verify(&envelope) {
            return Err("peer_not_listed".to_owned());
        }
        if body.target != self.agents[k].id {
            return Err("wrong_target".to_owned());
        }
        if body.transport != sha256(&prepared.transport_spki) {
            return Err("wrong_transport_key".to_owned());
        }
        Ok(Box::new(envelope.body))
    }

    /// A restored store that wins: what the agent holds is overtaken by what the store says.
    fn spoil_down(&self, c: usize, k: usize, mut down: Box<Down>) -> Box<Down> {
        if self.bug == Some(Bug::StoreWins)
            && let Down::Heartbeat { .. } = *down
        {
            let ahead = self.with_keeper(c, k, |keeper| {
                let desired = keeper.machine.desired().values();
                desired
                    .filter_map(|instance| {
                        let report = keeper.machine.known().report_of(instance.intent.version)?;
                        let applied = report.applied?;
                        let is_ahead = applied.generation > instance.intent.generation;
                        let mut intent = instance.intent.clone();
                        intent.generation = applied.generation.next();
                        (is_ahead && intent.want != Want::Destroyed).then_some(intent)
                    })
                    .next()
            });
            if let Some(intent) = ahead {
                *down = Down::Intent {
                    intent: Box::new(intent),
                    envelope: None,
                };
            }
        }
        down
    }

    /// What the planted bugs make of a frame up.
    pub(crate) fn spoil_up(&self, up: &mut Up) {
        use lockstep::model::observed::Observation;
        use lockstep::model::protocol::{Progress, UpBody};
        if let (Some(Bug::AgelessLooks), UpBody::Heartbeat { scan_age_ms, .. }) =
            (self.bug, &mut up.body)
        {
            *scan_age_ms = 0;
        }
        let UpBody::Reports(reports) = &mut up.body else {
            return;
        };
        for report in reports {
            match self.bug {
                Some(Bug::SuspicionBelieved) => {
                    if matches!(report.observation, Observation::Suspected { .. }) {
                        report.observation = Observation::Absent {
                            same_label: Vec::new(),
                        };
                    }
                }
                Some(Bug::BusyIsDone) if report.progress == Progress::Busy => {
                    report.progress = Progress::Done;
                }
                _ => {}
            }
        }
    }
}
