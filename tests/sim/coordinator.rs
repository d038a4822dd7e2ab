//! A coordinator process: the real use cases over the real statements, their futures polled by the scheduler, so that a crash
//! may come at any await; and a keeper for each keystore.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use lockstep::coordinator::ops::{Limits, Ops};
use lockstep::coordinator::store::sqlite::SqliteStore;
use lockstep::coordinator::store::{Change, Store as _, Write};
use lockstep::model::capabilities::Strategy;
use lockstep::model::ids::{Epoch, Revision, TemplateId, VaultId};
use lockstep::model::key::{Algorithm, DeactivatedUsage, KeySpec};
use lockstep::model::keystore::{KeystoreRecord, TokenInfo};
use lockstep::model::lifecycle::ManagedState;
use lockstep::model::template::{KeyTemplate, OnExpiry};
use lockstep::model::vault::{DriftPolicy, NO_HOLD, Stamps, UnixMs, Vault};
use uuid::Uuid;

use crate::agent::Agent;
use crate::bugs::Bug;
use crate::calls::{Asking, Waiting};
use crate::dice::Dice;
use crate::keeper::Keeper;
use crate::people::Answer;
use crate::plan::Class;
use crate::port::{Desk, SharedDesk, SimEntropy, SimFleet, SimStore, at_once, lock};
use crate::world::{Event, World};

pub(crate) const VAULT: VaultId = VaultId::from_uuid(Uuid::from_u128(1));
const TEMPLATE: u128 = 2;

pub(crate) type Task = Pin<Box<dyn Future<Output = Answer>>>;

/// One coordinator.
pub(crate) struct Coordinator {
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) desk: SharedDesk,
    pub(crate) ops: Option<Ops>,
    pub(crate) up: bool,
    pub(crate) boot: u64,
    pub(crate) skew_ms: i64,
    pub(crate) tasks: BTreeMap<u64, Task>,
    pub(crate) disk_full_until: u64,
}

impl Coordinator {
    pub(crate) fn new(number: u64, store: Arc<SqliteStore>) -> Self {
        Self {
            store,
            desk: desk(Dice::new(number, "idle"), BTreeMap::new()),
            ops: None,
            up: false,
            boot: 0,
            skew_ms: 0,
            tasks: BTreeMap::new(),
            disk_full_until: 0,
        }
    }
}

fn desk(dice: Dice, keepers: BTreeMap<lockstep::model::ids::KeystoreId, Keeper>) -> SharedDesk {
    Arc::new(Mutex::new(Desk {
        now: 0,
        unix: UnixMs(0),
        keepers,
        behind: false,
        wakes: Vec::new(),
        wanted: Vec::new(),
        generates: Vec::new(),
        pauses: Vec::new(),
        committed: Vec::new(),
        commit_fails: 0,
        disk_full: false,
        answers_first: false,
        owed: Vec::new(),
        promised: Vec::new(),
        dice,
    }))
}

/// A store with a vault, its keystores and a template for secret keys and one for pairs.
pub(crate) fn furnish(agents: &[Agent], strategy: Strategy, seed: u64) -> Arc<SqliteStore> {
    thread_local! {
        static EMPTY: SqliteStore = SqliteStore::in_memory().expect("a store in memory");
    }
    let store = EMPTY.with(|empty| empty.copy_in_memory().expect("a copy in memory"));
    let stamps = Stamps::new(UnixMs(0), "setup");
    let mut writes = vec![Write::VaultInsert(Vault {
        id: VAULT,
        name: "V".to_owned(),
        description: String::new(),
        recovery_key_label: None,
        salt: seed.to_be_bytes().repeat(4),
        strategy,
        min_copies: 1,
        destruction_hold: NO_HOLD.to_owned(),
        drift_policy: DriftPolicy::Report,
        revision: Revision(1),
        stamps: stamps.clone(),
    })];
    for (k, agent) in agents.iter().enumerate() {
        writes.push(Write::KeystoreInsert(KeystoreRecord {
            id: agent.id,
            vault: VAULT,
            name: format!("k{k}"),
            description: String::new(),
            location: String::new(),
            groups: ["all".to_owned()].into(),
            variant: agent.variant,
            endpoint: format!("https://k{k}:1"),
            agent_name: format!("spiffe://lockstep/agent/k{k}"),
            identity: agent.identity(),
            epoch: Epoch(1),
            strategy: None,
            token: TokenInfo::default(),
            revision: Revision(1),
            stamps: stamps.clone(),
        }));
    }
    for (number, (name, algorithm)) in [("secret", Algorithm::Aes), ("pair", Algorithm::Ec)]
        .into_iter()
        .enumerate()
    {
        writes.push(Write::TemplateInsert(template(
            number, name, algorithm, &stamps,
        )));
    }
    let change = Change {
        operation: None,
        writes,
        audit: Vec::new(),
    };
    at_once(store.commit(change)).expect("an empty store takes it");
    Arc::new(store)
}

fn template(number: usize, name: &str, algorithm: Algorithm, stamps: &Stamps) -> KeyTemplate {
    let spec = KeySpec::new(algorithm, 256).expect("a size that there is");
    KeyTemplate {
        id: TemplateId::from_uuid(Uuid::from_u128(
            TEMPLATE + u128::try_from(number).unwrap_or(0),
        )),
        vault: VAULT,
        version: 1,
        name: name.to_owned(),
        description: String::new(),
        naming_scheme: None,
        spec,
        usage: spec.default_usage(),
        deactivated_usage: DeactivatedUsage::None,
        allow_mixed_usage: false,
        initial_state: ManagedState::PreActivation,
        activation_period: "P1Y".to_owned(),
        expiration_period: "P2Y".to_owned(),
        deactivate_on_rotation: false,
        rotation_interval: None,
        on_expiry: OnExpiry::Warn,
        group: "all".to_owned(),
        archived: false,
        revision: Revision(1),
        stamps: stamps.clone(),
    }
}

impl World {
    pub(crate) fn coordinator_start(&mut self, c: usize) {
        if self.coordinators[c].up {
            return;
        }
        let keepers = self
            .agents
            .iter()
            .map(|a| (a.id, Keeper::new(a.id, a.identity(), a.variant)))
            .collect();
        let commit_fails = if self.healed {
            0
        } else {
            self.plan.rate(Class::CommitFails)
        };
        let number = u64::try_from(c).unwrap_or(0);
        let coordinator = &mut self.coordinators[c];
        coordinator.boot += 1;
        let cause = format!("coordinator {number} boot {}", coordinator.boot);
        coordinator.desk = desk(Dice::new(self.plan.seed, &cause), keepers);
        {
            let mut desk = lock(&coordinator.desk);
            desk.commit_fails = commit_fails;
            desk.answers_first = self.bug == Some(Bug::AnswersBeforeCommit);
        }
        let store = SimStore {
            inner: coordinator.store.clone(),
            desk: coordinator.desk.clone(),
        };
        let entropy = SimEntropy(Mutex::new(Dice::new(
            self.plan.seed,
            &format!("ids {cause}"),
        )));
        let fleet = SimFleet(coordinator.desk.clone());
        coordinator.ops = Some(Ops::new(
            Arc::new(store),
            Arc::new(fleet),
            Arc::new(entropy),
            Limits::default(),
        ));
        coordinator.up = true;
        let boot = coordinator.boot;
        self.note(&format!("coordinator {c} starts"));
        for k in 0..self.agents.len() {
            self.oracle.forget_looks(c, k);
            self.after(
                u64::try_from(k).unwrap_or(0) + 1,
                Event::Dial { c, boot, k },
            );
        }
    }

    pub(crate) fn coordinator_crash(&mut self, c: usize) {
        if !self.coordinators[c].up {
            return;
        }
        self.note(&format!("coordinator {c} crashes"));
        let lines: Vec<u64> = lock(&self.coordinators[c].desk)
            .keepers
            .values()
            .filter_map(|k| k.line)
            .collect();
        let coordinator = &mut self.coordinators[c];
        coordinator.up = false;
        // Everything that was being asked for is dropped where it waits.
        coordinator.tasks.clear();
        coordinator.ops = None;
        for line in lines {
            let told = self.healed || self.process_dice.chance(700);
            self.end_at_agent(line, told);
        }
        // Who asked gets no answer, and asks again.
        let lost: Vec<u64> = self
            .asks
            .iter()
            .filter(|(_, ask)| ask.under_way == Some(c))
            .map(|(id, _)| *id)
            .collect();
        for ask in lost {
            self.unanswered(ask);
        }
    }

    /// Lets everything that waits in a coordinator look again.
    pub(crate) fn poll(&mut self, c: usize, boot: u64) {
        if !self.coordinators[c].up || self.coordinators[c].boot != boot {
            return;
        }
        self.set_desk(c);
        let tasks: Vec<u64> = self.coordinators[c].tasks.keys().copied().collect();
        let mut context = Context::from_waker(Waker::noop());
        for task in tasks {
            let Some(future) = self.coordinators[c].tasks.get_mut(&task) else {
                continue;
            };
            let polled = future.as_mut().poll(&mut context);
            self.take_notes(c);
            if let Poll::Ready(answer) = polled {
                self.coordinators[c].tasks.remove(&task);
                self.answered(c, task, answer);
            }
        }
    }

    fn set_desk(&mut self, c: usize) {
        let unix = self.unix(self.coordinators[c].skew_ms);
        let coordinator = &self.coordinators[c];
        let mut desk = lock(&coordinator.desk);
        desk.now = self.now;
        desk.unix = unix;
        desk.disk_full = self.now < coordinator.disk_full_until;
    }

    /// Takes what the use cases left on the desk.
    fn take_notes(&mut self, c: usize) {
        let boot = self.coordinators[c].boot;
        let now = self.now;
        let (committed, wakes, wanted, generates, pauses, owed, promised) = {
            let mut desk = lock(&self.coordinators[c].desk);
            let due: Vec<_> = desk.owed.extract_if(.., |(at, _)| *at <= now).collect();
            (
                std::mem::take(&mut desk.committed),
                std::mem::take(&mut desk.wakes),
                std::mem::take(&mut desk.wanted),
                std::mem::take(&mut desk.generates),
                std::mem::take(&mut desk.pauses),
                due,
                std::mem::take(&mut desk.promised),
            )
        };
        self.oracle.promised(promised);
        for (_, change) in owed {
            let _too_late = at_once(self.coordinators[c].store.commit(change.clone()));
            self.oracle.committed(c, &change);
        }
        for change in committed {
            self.note(&format!("coordinator {c} commits {}", words(&change)));
            self.oracle.committed(c, &change);
        }
        for id in wakes {
            if self.strikes(Class::HintLost) {
                continue;
            }
            let k = self.index_of(id);
            self.after(1, Event::Wake { c, boot, k });
        }
        for (id, version) in wanted {
            if self.strikes(Class::HintLost) {
                continue;
            }
            let k = self.index_of(id);
            self.after(
                1,
                Event::Wanted {
                    c,
                    boot,
                    k,
                    version,
                },
            );
        }
        for asked in generates {
            let k = self.index_of(asked.keystore);
            let session = lock(&self.coordinators[c].desk).keepers[&asked.keystore].session();
            let asking = Asking::Generate {
                version: asked.version,
                spec: asked.spec,
                salt: asked.salt,
            };
            self.call(c, k, session, asking, Waiting::Slot(asked.slot));
        }
        for at in pauses {
            self.after(at.saturating_sub(now), Event::Poll { c, boot });
        }
    }
}

fn words(change: &Change) -> String {
    let said = change
        .audit
        .iter()
        .map(|entry| format!("{} {}", entry.action, entry.subject));
    said.collect::<Vec<_>>().join(", ")
}
