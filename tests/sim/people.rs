//! People: what they ask of the coordinator, again where no answer came; and the big things that happen to everybody.

use std::sync::Arc;

use lockstep::coordinator::ops::access::{Call, Idempotency, Principal, Rights};
use lockstep::coordinator::ops::errors::OpsError;
use lockstep::coordinator::ops::keys::{KeyNew, KeyPatch};
use lockstep::coordinator::store::Store as _;
use lockstep::decide::check::history::Event as WatchEvent;
use lockstep::model::canonical::sha256;
use lockstep::model::ids::{KeyId, Revision, Term};

use crate::coordinator::{Coordinator, Task, VAULT};
use crate::plan::{Class, Happening, Request, Tampering};
use crate::port::at_once;
use crate::world::{Event, Spoiled, World};

/// Somebody asks again so often.
const TRIES_MAX: u32 = 6;

/// Something that was asked for.
#[derive(Debug)]
pub(crate) struct Asked {
    request: Request,
    if_match: Option<Revision>,
    tries: u32,
    /// By which coordinator it is being done.
    pub(crate) under_way: Option<usize>,
    told: bool,
}

/// What a use case answered.
#[derive(Debug)]
pub(crate) struct Answer(Result<KeyId, OpsError>);

impl World {
    #[expect(clippy::too_many_lines, reason = "a table of what may happen")]
    pub(crate) fn happens(&mut self, happening: Happening) {
        if self.healed {
            return;
        }
        match happening {
            Happening::Ask(request) => self.new_ask(request),
            Happening::AgentCrashes {
                agent,
                down_ms,
                host_finishes,
            } => self.agent_crash(agent, down_ms, host_finishes),
            Happening::CoordinatorCrashes { which, down_ms } => {
                let c = if which == 0 { self.front } else { which };
                self.coordinator_crash(c);
                self.after(down_ms, Event::CoordinatorStart { c });
            }
            Happening::LineBreaks {
                agent,
                agent_hears,
                coordinator_hears,
            } => {
                self.note(&format!("the lines to {agent} break"));
                let lines: Vec<u64> = self
                    .lines
                    .iter()
                    .filter(|(_, line)| line.k == agent && !line.dead)
                    .map(|(id, _)| *id)
                    .collect();
                for line in lines {
                    self.break_line(line, agent_hears, coordinator_hears);
                }
            }
            Happening::Partition {
                agent,
                down,
                up,
                for_ms,
            } => {
                self.note(&format!(
                    "{agent} is cut off (down {down}, up {up}) for {for_ms} ms"
                ));
                self.partition(agent, down, up, for_ms);
            }
            Happening::JournalDiskFull { agent, for_ms } => {
                self.agents[agent].disk_full_until = self.now + for_ms
            }
            Happening::StoreDiskFull { for_ms } => {
                let front = self.front;
                self.coordinators[front].disk_full_until = self.now + for_ms;
            }
            Happening::TokenIsSlow { agent, for_ms } => {
                self.agents[agent].slow_until = self.now + for_ms
            }
            Happening::Tampered {
                agent,
                tampering,
                which,
            } => {
                if tampering == Tampering::Reinitialise {
                    self.spoiled.insert((agent, Spoiled::Gone));
                }
                self.tamper(agent, tampering, which);
            }
            Happening::Backup => self.back_up(),
            Happening::Restore { down_ms } => self.restore(down_ms),
            Happening::SecondCoordinator => self.second_coordinator(),
            Happening::ClockJumps { agent, by_ms } => {
                self.note(&format!("a clock jumps: {agent:?} by {by_ms} ms"));
                match agent {
                    // A running agent keeps the clock it has; the jump shows when it starts again.
                    Some(k) => self.agents[k].skew_ms += by_ms,
                    None => {
                        let front = self.front;
                        self.coordinators[front].skew_ms += by_ms;
                    }
                }
            }
            Happening::JournalLost { agent } => {
                self.note(&format!("the journal of {agent} is lost"));
                self.agent_crash(agent, 300, true);
                let agent_now = &mut self.agents[agent];
                agent_now.disk.clear();
                // Terms are counted afresh: as far as those go, it is another agent.
                agent_now.highest_term = Term(0);
                self.spoiled.insert((agent, Spoiled::Gone));
                let keystore = self.agents[agent].id;
                self.watch(&WatchEvent::JournalRestored {
                    keystore,
                    holds: Vec::new(),
                });
            }
        }
    }

    fn new_ask(&mut self, request: Request) {
        let number = self.oracle.next_ask;
        self.oracle.next_ask += 1;
        let mut if_match = None;
        if let Some(key) = request.key().and_then(|key| self.keys.get(&key)) {
            let known = at_once(self.coordinators[self.front].store.key(*key));
            // People ask about what they saw, which may be a while ago.
            let stale = self.process_dice.chance(30) && self.now < self.plan.chaos_ms;
            if_match = known
                .ok()
                .flatten()
                .map(|known| Revision(known.revision.0 - u64::from(stale)));
        }
        self.asks.insert(
            number,
            Asked {
                request,
                if_match,
                tries: 0,
                under_way: None,
                told: false,
            },
        );
        self.ask(number);
    }

    pub(crate) fn ask(&mut self, number: u64) {
        let c = self.front;
        let Some(asked) = self.asks.get_mut(&number) else {
            return;
        };
        if asked.told || asked.under_way.is_some() || asked.tries >= TRIES_MAX {
            return;
        }
        asked.tries += 1;
        let (request, if_match) = (asked.request, asked.if_match);
        if !self.coordinators[c].up {
            return self.unanswered(number);
        }
        let name = format!("ask-{number}");
        let call = Call {
            principal: Principal {
                name: "somebody".to_owned(),
                rights: Rights::All,
            },
            if_match,
            idempotency: Some(Idempotency {
                key: name,
                request: sha256(format!("{request:?}").as_bytes()),
            }),
        };
        let Some(task) = self.task(c, call, request) else {
            return;
        };
        self.note(&format!("somebody asks: {request:?}"));
        if let Some(asked) = self.asks.get_mut(&number) {
            asked.under_way = Some(c);
        }
        let boot = self.coordinators[c].boot;
        self.coordinators[c].tasks.insert(number, task);
        self.poll(c, boot);
    }

    fn task(&self, c: usize, call: Call, request: Request) -> Option<Task> {
        let ops = self.coordinators[c].ops.clone()?;
        let key = |n: usize| self.keys.get(&n).copied();
        let keystore = |k: usize| self.agents[k].id;
        Some(match request {
            Request::Create { key, pair } => Box::pin(async move {
                let new = KeyNew {
                    vault: VAULT,
                    template_name: if pair { "pair" } else { "secret" }.to_owned(),
                    label: Some(format!("key-{key}")),
                    label_tags: Vec::new(),
                    description: String::new(),
                };
                Answer(
                    ops.key_create(&call, new)
                        .await
                        .map(|done| done.value.key.id),
                )
            }),
            Request::Act { key: n, action } => {
                let id = key(n)?;
                Box::pin(async move { Answer(ops.key_act(&call, id, action).await.map(|_| id)) })
            }
            Request::Assign {
                key: n,
                keystore: k,
            } => {
                let (id, k) = (key(n)?, keystore(k));
                Box::pin(async move { Answer(ops.key_assign(&call, id, k).await.map(|_| id)) })
            }
            Request::Unassign {
                key: n,
                keystore: k,
            } => {
                let (id, k) = (key(n)?, keystore(k));
                Box::pin(async move { Answer(ops.key_unassign(&call, id, k).await.map(|_| id)) })
            }
            Request::Sync { key: n } => {
                let id = key(n)?;
                Box::pin(async move { Answer(ops.key_sync(&call, id).await.map(|_| id)) })
            }
            Request::Rename { key: n, name } => {
                let id = key(n)?;
                let label = Some(format!("key-{n}-{name}"));
                let patch = KeyPatch {
                    label,
                    ..KeyPatch::default()
                };
                Box::pin(async move { Answer(ops.key_update(&call, id, patch).await.map(|_| id)) })
            }
        })
    }

    /// No answer came, or none that says anything.
    pub(crate) fn unanswered(&mut self, number: u64) {
        if let Some(asked) = self.asks.get_mut(&number) {
            asked.under_way = None;
            self.after(3_000, Event::Retry { ask: number });
        }
    }

    pub(crate) fn answered(&mut self, c: usize, number: u64, Answer(answer): Answer) {
        let lost = self.strikes(Class::ReplyLost);
        let Some(asked) = self.asks.get_mut(&number) else {
            return;
        };
        let request = asked.request;
        match answer {
            _ if lost => {
                self.note("an answer to somebody is lost");
                self.unanswered(number);
            }
            Ok(key) => {
                asked.told = true;
                asked.under_way = None;
                if let Request::Create { key: n, .. } = request {
                    self.keys.insert(n, key);
                }
                self.note(&format!("somebody is told: {request:?} is done"));
                // What a coordinator answers that is left behind is kept there alone.
                if c == self.front {
                    self.oracle.told(format!("ask-{number}"));
                }
            }
            Err(error) => {
                self.note(&format!("somebody is told: {request:?}: {error}"));
                let again = matches!(
                    error,
                    OpsError::Full
                        | OpsError::Unavailable { .. }
                        | OpsError::AgentUnreachable { .. }
                        | OpsError::Conflict { .. }
                );
                if again {
                    self.unanswered(number);
                } else {
                    asked_is_over(&mut self.asks, number);
                }
            }
        }
    }

    pub(crate) fn back_up(&mut self) {
        let front = self.front;
        let copy = self.coordinators[front]
            .store
            .copy_in_memory()
            .expect("a copy in memory");
        self.note("the store is backed up");
        self.backup = Some((Arc::new(copy), self.oracle.wanted_by(front)));
    }

    fn restore(&mut self, down_ms: u64) {
        let Some((store, wanted)) = self.backup.take() else {
            return;
        };
        let c = self.front;
        self.coordinator_crash(c);
        self.note("the store is restored from its backup");
        self.coordinators[c].store = store;
        self.oracle.restored(c, wanted);
        self.past_rewritten = true;
        self.after(down_ms, Event::CoordinatorStart { c });
    }

    /// A second coordinator is started from the backup, the first one goes on: people talk to the second one.
    fn second_coordinator(&mut self) {
        let Some((store, wanted)) = self.backup.take() else {
            return;
        };
        let c = self.coordinators.len();
        self.coordinators
            .push(Coordinator::new(u64::try_from(c).unwrap_or(0), store));
        self.note("a second coordinator is started from the backup");
        self.oracle.restored(c, wanted);
        self.oracle.split();
        self.front = c;
        self.past_rewritten = true;
        self.after(1, Event::CoordinatorStart { c });
    }
}

fn asked_is_over(asks: &mut std::collections::BTreeMap<u64, Asked>, number: u64) {
    if let Some(asked) = asks.get_mut(&number) {
        asked.told = true;
        asked.under_way = None;
    }
}

impl Request {
    fn key(self) -> Option<usize> {
        match self {
            Self::Create { .. } => None,
            Self::Act { key, .. }
            | Self::Assign { key, .. }
            | Self::Unassign { key, .. }
            | Self::Sync { key }
            | Self::Rename { key, .. } => Some(key),
        }
    }
}
