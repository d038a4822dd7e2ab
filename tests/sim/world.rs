//! The world of one run: everything in it, one queue of events in the order of (virtual time, number), and nothing else
//! that could tell one run from another: no thread, no clock, no hash map.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use lockstep::coordinator::store::sqlite::SqliteStore;
use lockstep::model::ids::{KeyVersionId, KeystoreId};
use lockstep::model::vault::UnixMs;

use crate::agent::Agent;
use crate::bugs::Bug;
use crate::calls::{Call, Fetch};
use crate::checks::{Failure, Oracle};
use crate::coordinator::Coordinator;
use crate::dice::Dice;
use crate::network::{Line, Net};
use crate::people::Asked;
use crate::plan::{Class, Happening, Plan};

/// The wall clock at virtual time 0.
pub(crate) const EPOCH_MS: i64 = 1_700_000_000_000;

/// More events than this are a livelock.
const EVENTS_MAX: u64 = 400_000;

/// What is to happen at a time. Those that name a boot are void after it.
#[derive(Debug)]
pub(crate) enum Event {
    AgentStart {
        k: usize,
    },
    AgentTick {
        k: usize,
        boot: u64,
    },
    Fsync {
        k: usize,
        boot: u64,
    },
    Effect {
        k: usize,
        boot: u64,
        job: u64,
    },
    Landed {
        k: usize,
        boot: u64,
        job: u64,
    },
    DownDue {
        line: u64,
    },
    UpDue {
        line: u64,
    },
    StrayDown {
        line: u64,
        frame: crate::network::DownFrame,
    },
    StrayUp {
        line: u64,
        frame: crate::network::UpFrame,
    },
    CallArrives {
        call: u64,
    },
    CallAnswered {
        call: u64,
        answer: crate::calls::Answer,
    },
    Dial {
        c: usize,
        boot: u64,
        k: usize,
    },
    KeeperTick {
        c: usize,
        boot: u64,
        k: usize,
        line: u64,
    },
    Wake {
        c: usize,
        boot: u64,
        k: usize,
    },
    Wanted {
        c: usize,
        boot: u64,
        k: usize,
        version: KeyVersionId,
    },
    Poll {
        c: usize,
        boot: u64,
    },
    CoordinatorStart {
        c: usize,
    },
    Happens(Happening),
    Retry {
        ask: u64,
    },
    Heal,
    Settle {
        until: u64,
        since: u64,
        tidied: bool,
    },
    End,
}

/// One run.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) bug: Option<Bug>,
    pub(crate) now: u64,
    events: BTreeMap<(u64, u64), Event>,
    number: u64,
    pub(crate) healed: bool,
    pub(crate) net: Net,
    pub(crate) token_dice: Dice,
    pub(crate) disk_dice: Dice,
    pub(crate) process_dice: Dice,
    pub(crate) agents: Vec<Agent>,
    pub(crate) coordinators: Vec<Coordinator>,
    /// The coordinator that people talk to.
    pub(crate) front: usize,
    pub(crate) lines: BTreeMap<u64, Line>,
    pub(crate) calls: BTreeMap<u64, Call>,
    pub(crate) fetches: BTreeMap<u64, Fetch>,
    pub(crate) asks: BTreeMap<u64, Asked>,
    /// Ids of the keys that were asked for, as far as people were told.
    pub(crate) keys: BTreeMap<usize, lockstep::model::ids::KeyId>,
    pub(crate) backup: Option<(Arc<SqliteStore>, crate::checks::Wanted)>,
    pub(crate) oracle: Oracle,
    pub(crate) trace: Trace,
    /// Something that only a person can put right was done on the keystore.
    pub(crate) spoiled: BTreeSet<(usize, Spoiled)>,
    pub(crate) past_rewritten: bool,
}

/// What was done to a keystore that the machines are not meant to heal by themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Spoiled {
    /// Objects were changed past everybody, or lost in a kill.
    Objects,
    /// The journal or the whole token is gone.
    Gone,
}

/// What happened, as a hash and, if somebody listens, in words.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) hash: u64,
    pub(crate) loud: bool,
    /// Every frame and job, not only what happens.
    pub(crate) details: bool,
    pub(crate) text: String,
}

impl Trace {
    fn note(&mut self, now: u64, what: &str) {
        for byte in now.to_le_bytes().iter().chain(what.as_bytes()) {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        if self.loud {
            let _string_takes_all =
                writeln!(self.text, "{:>7}.{:03} {what}", now / 1000, now % 1000);
        }
    }
}

impl World {
    /// The world of a plan, before anything has happened.
    pub(crate) fn new(plan: Plan, bug: Option<Bug>, loud: bool) -> Self {
        let seed = plan.seed;
        let mut world = Self {
            bug,
            now: 0,
            events: BTreeMap::new(),
            number: 0,
            healed: false,
            net: Net::new(seed, plan.keystores),
            token_dice: Dice::new(seed, "token"),
            disk_dice: Dice::new(seed, "disk"),
            process_dice: Dice::new(seed, "process"),
            agents: Vec::new(),
            coordinators: Vec::new(),
            front: 0,
            lines: BTreeMap::new(),
            calls: BTreeMap::new(),
            fetches: BTreeMap::new(),
            asks: BTreeMap::new(),
            keys: BTreeMap::new(),
            backup: None,
            oracle: Oracle::default(),
            trace: Trace {
                hash: 0xcbf2_9ce4_8422_2325,
                loud,
                details: false,
                text: String::new(),
            },
            spoiled: BTreeSet::new(),
            past_rewritten: false,
            plan,
        };
        for k in 0..world.plan.keystores {
            world.agents.push(Agent::new(k, seed, world.plan.slice));
            world.after(0, Event::AgentStart { k });
        }
        let store = crate::coordinator::furnish(&world.agents, world.plan.strategy, seed);
        world.coordinators.push(Coordinator::new(0, store));
        world.after(1, Event::CoordinatorStart { c: 0 });
        for (at, happening) in world.plan.script.clone() {
            world.after(at, Event::Happens(happening));
        }
        world.after(world.plan.chaos_ms, Event::Heal);
        world
    }

    /// Puts an event into the queue.
    pub(crate) fn after(&mut self, ms: u64, event: Event) {
        self.number += 1;
        self.events.insert((self.now + ms, self.number), event);
    }

    /// Notes something in the trace. Short, and nothing that differs between runs.
    pub(crate) fn note(&mut self, what: &str) {
        self.trace.note(self.now, what);
    }

    /// Notes details where somebody listens.
    pub(crate) fn detail(&mut self, what: impl FnOnce() -> String) {
        if self.trace.loud && self.trace.details {
            let what = what();
            self.trace.note(self.now, &what);
        }
    }

    /// Whether a fault of the class comes now.
    pub(crate) fn strikes(&mut self, class: Class) -> bool {
        if self.healed {
            return false;
        }
        let rate = self.plan.rate(class);
        let dice = match class {
            Class::TokenFails
            | Class::TokenUnknown
            | Class::TokenMisses
            | Class::TokenKeeps
            | Class::TokenKilled
            | Class::TokenSlow => &mut self.token_dice,
            Class::JournalFails | Class::TornTail | Class::CommitFails => &mut self.disk_dice,
            _ => &mut self.net.dice,
        };
        dice.chance(rate)
    }

    pub(crate) fn unix(&self, skew_ms: i64) -> UnixMs {
        UnixMs(EPOCH_MS + i64::try_from(self.now).unwrap_or(0) + skew_ms)
    }

    pub(crate) fn index_of(&self, id: KeystoreId) -> usize {
        self.agents
            .iter()
            .position(|agent| agent.id == id)
            .unwrap_or(0)
    }

    pub(crate) fn fail(&mut self, invariant: &'static str, what: impl Into<String>) {
        let what = what.into();
        self.note(&format!("BROKEN {invariant}: {what}"));
        let now = self.now;
        self.oracle.failure.get_or_insert(Failure {
            invariant,
            at_ms: now,
            what,
        });
    }

    /// Runs to the end or to the first broken invariant.
    pub(crate) fn run(&mut self) {
        let mut events = 0_u64;
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.now = at;
            if matches!(event, Event::End) {
                self.final_checks();
                return;
            }
            self.handle(event);
            events += 1;
            if events > EVENTS_MAX {
                self.fail("I16", "the run does not come to an end");
            }
            if self.oracle.failure.is_some() {
                return;
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::AgentStart { k } => self.agent_start(k),
            Event::AgentTick { k, boot } => self.agent_tick(k, boot),
            Event::Fsync { k, boot } => self.fsync(k, boot),
            Event::Effect { k, boot, job } => self.effect(k, boot, job),
            Event::Landed { k, boot, job } => self.landed(k, boot, job),
            Event::DownDue { line } => self.down_due(line),
            Event::UpDue { line } => self.up_due(line),
            Event::StrayDown { line, frame } => self.arrives_down(line, frame),
            Event::StrayUp { line, frame } => self.arrives_up(line, frame),
            Event::CallArrives { call } => self.call_arrives(call),
            Event::CallAnswered { call, answer } => self.call_answered(call, answer),
            Event::Dial { c, boot, k } => self.dial(c, boot, k),
            Event::KeeperTick { c, boot, k, line } => self.keeper_tick(c, boot, k, line),
            Event::Wake { c, boot, k } => self.keeper_wake(c, boot, k),
            Event::Wanted {
                c,
                boot,
                k,
                version,
            } => self.keeper_wanted(c, boot, k, version),
            Event::Poll { c, boot } => self.poll(c, boot),
            Event::CoordinatorStart { c } => self.coordinator_start(c),
            Event::Happens(happening) => self.happens(happening),
            Event::Retry { ask } => self.ask(ask),
            Event::Heal => self.heal(),
            Event::Settle {
                until,
                since,
                tidied,
            } => self.settle(until, since, tidied),
            Event::End => {}
        }
    }
}
