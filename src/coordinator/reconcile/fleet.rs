//! All keepers, by keystore; what the use cases see of the agents.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Monotonic;
use crate::coordinator::ops::fleet::{Fleet, FleetError, LiveKeystore, Waiting};
use crate::coordinator::reconcile::calls;
use crate::coordinator::reconcile::errands::{Request, ask};
use crate::coordinator::reconcile::guard::Guard;
use crate::coordinator::reconcile::keeper::{self, Keeper};
use crate::coordinator::reconcile::lease::Lease;
use crate::coordinator::reconcile::mirror::{Mirror, untold};
use crate::coordinator::reconcile::sharing::{self, Shares};
use crate::coordinator::reconcile::turns::Turns;
use crate::coordinator::store::sharing::Hint;
use crate::coordinator::store::{Page, Store, StoreError};
use crate::model::adoption::{Candidate, Examined};
use crate::model::ids::{KeyVersionId, KeystoreId};
use crate::model::key::KeySpec;
use crate::model::live::{Connection, Differing, Live};
use crate::model::material::RepositoryCopy;
use crate::model::observed::Proof;
use crate::model::protocol::{Description, Report};
use crate::tls::config::Identity;

/// Keystores read from the store at once when the process starts.
const KEYSTORES_PAGE: u32 = 1_000;

/// What all keepers share.
#[derive(Debug)]
pub struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) tls: Identity,
    pub(crate) started: Monotonic,
    pub(crate) changes: watch::Sender<u64>,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
    pub(crate) guard: Guard,
    pub(crate) turns: Turns,
    /// How the keystores are shared with other coordinators; none: all are kept here.
    pub(crate) shares: Option<Shares>,
    keepers: Mutex<BTreeMap<KeystoreId, Arc<Keeper>>>,
}

impl Shared {
    /// Milliseconds since the process started.
    pub(crate) fn now_ms(&self) -> u64 {
        self.started.elapsed_ms()
    }

    /// Tells everybody who waits that something changed.
    pub(crate) fn changed(&self) {
        self.changes.send_modify(|n| *n = n.wrapping_add(1));
    }

    /// The keeper of a keystore, if it has one.
    pub(crate) fn keeper(&self, keystore: KeystoreId) -> Option<Arc<Keeper>> {
        self.lock().get(&keystore).cloned()
    }

    /// Tells all keepers to look again.
    pub(crate) fn wake_all(&self) {
        for keeper in self.lock().values() {
            keeper.wake();
        }
    }

    /// The keepers that are here.
    pub(crate) fn keepers(&self) -> Vec<Arc<Keeper>> {
        self.lock().values().cloned().collect()
    }

    /// The keystores that are kept here.
    pub(crate) fn kept(&self) -> Vec<KeystoreId> {
        self.lock().keys().copied().collect()
    }

    /// The keystores that are kept here, with the ages of their last scans, milliseconds.
    pub(crate) fn scan_ages(&self) -> Vec<(KeystoreId, Option<u64>)> {
        let now_ms = self.now_ms();
        let keepers = self.lock();
        let age = |(id, keeper): (&KeystoreId, &Arc<Keeper>)| (*id, keeper.scan_age_ms(now_ms));
        keepers.iter().map(age).collect()
    }

    /// Starts a keeper, if there is none; whether one was started.
    pub(crate) fn start_keeping(self: &Arc<Self>, id: KeystoreId) -> bool {
        let mut keepers = self.lock();
        if keepers.get(&id).is_some_and(|keeper| keeper.is_kept()) {
            return false;
        }
        let lease = self.shares.as_ref().map(|shares| Arc::clone(&shares.lease));
        let keeper = Arc::new(Keeper::new(id, lease));
        keepers.insert(id, Arc::clone(&keeper));
        let task = keeper::run(Arc::clone(self), keeper);
        self.tasks.spawn(task);
        true
    }

    /// Ends the keeper of a keystore that is another coordinator's now; it has ended when it says so.
    pub(crate) fn stop_keeping(&self, id: KeystoreId) -> Option<Arc<Keeper>> {
        let keeper = self.lock().remove(&id)?;
        keeper.stop();
        Some(keeper)
    }

    pub(crate) fn wake_if_kept(&self, id: KeystoreId) {
        if let Some(keeper) = self.keeper(id) {
            keeper.wake();
        }
    }

    /// Where people reach the coordinator that has a keystore, if it is another one.
    pub(crate) fn holder(&self, keystore: KeystoreId) -> Option<String> {
        self.shares.as_ref()?.holder(keystore)
    }

    /// Tells the other coordinators that something is wanted of keystores that are not kept here.
    fn hint_others(self: &Arc<Self>, keystores: Vec<KeystoreId>) {
        let Some(shares) = &self.shares else { return };
        if keystores.is_empty() {
            return;
        }
        // One of them may be new, and nobody's yet.
        shares.poke.notify_one();
        let shared = Arc::clone(self);
        self.tasks.spawn(async move {
            for keystore in keystores {
                if let Some(store) = shared.store.sharing()
                    && store.hint(Hint::Wake(keystore)).await.is_err()
                {
                    return;
                }
            }
        });
    }

    /// Whether another coordinator tells of a keystore.
    pub(crate) fn is_told_of(&self, keystore: KeystoreId) -> bool {
        let now_ms = self.now_ms();
        let told =
            self.mirrored(|mirror, fresh_ms| mirror.live_keystore(keystore, now_ms, fresh_ms));
        told.is_some()
    }

    /// What the mirror says; what was not confirmed for as long as a lease lasts counts for nothing.
    fn mirrored<T>(&self, read: impl FnOnce(&Mirror, u64) -> Option<T>) -> Option<T> {
        let lasts = self.store.sharing()?.lasts().as_millis();
        let shares = self.shares.as_ref()?;
        read(&shares.mirror(), u64::try_from(lasts).unwrap_or(u64::MAX))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<KeystoreId, Arc<Keeper>>> {
        self.keepers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The agents, through their keepers.
#[derive(Debug, Clone)]
pub struct Keepers {
    shared: Arc<Shared>,
}

impl Keepers {
    /// Starts a keeper for every keystore in the store; where the store is shared, for those that are this coordinator's share.
    ///
    /// # Errors
    /// The store's, if the keystores cannot be read.
    pub async fn start(store: Arc<dyn Store>, tls: Identity) -> Result<Self, StoreError> {
        let started = Monotonic::now();
        let recovery = store.recovery().await?;
        let is_shared = store.sharing().is_some();
        // Where they are shared, those of the first round are tried.
        let ids = if is_shared {
            Vec::new()
        } else {
            all_keystores(store.as_ref()).await?
        };
        let shared = Arc::new(Shared {
            guard: Guard::new(recovery, ids.iter().copied().collect()),
            turns: Turns::default(),
            store,
            tls,
            started,
            changes: watch::Sender::new(0),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            shares: is_shared.then(|| Shares::new(Arc::new(Lease::new(started)))),
            keepers: Mutex::new(BTreeMap::new()),
        });
        let this = Self { shared };
        if is_shared {
            let shared = &this.shared;
            shared.tasks.spawn(sharing::steward(Arc::clone(shared)));
            shared.tasks.spawn(sharing::courier(Arc::clone(shared)));
        }
        this.wake(&ids);
        Ok(this)
    }

    /// Ends all sessions and waits until the keepers have stopped.
    pub async fn stop(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

async fn all_keystores(store: &dyn Store) -> Result<Vec<KeystoreId>, StoreError> {
    let mut ids = Vec::new();
    loop {
        let page = Page {
            limit: KEYSTORES_PAGE,
            offset: u32::try_from(ids.len()).unwrap_or(u32::MAX),
        };
        let keystores = store.keystore_list(None, None, page).await?;
        if keystores.items.is_empty() {
            return Ok(ids);
        }
        ids.extend(keystores.items.iter().map(|keystore| keystore.id));
    }
}

#[async_trait]
impl Fleet for Keepers {
    async fn describe(&self, endpoint: &str, agent: &str) -> Result<Description, FleetError> {
        let mut client = calls::dial(endpoint, agent, &self.shared.tls).await?;
        calls::describe(&mut client).await
    }

    async fn generate(
        &self,
        keystore: KeystoreId,
        version: KeyVersionId,
        spec: KeySpec,
        salt: Vec<u8>,
    ) -> Result<RepositoryCopy, FleetError> {
        let request = Request::Generate {
            version,
            spec,
            salt,
        };
        ask(&self.shared, keystore, request).await?.copy()
    }

    async fn look(
        &self,
        keystore: KeystoreId,
        version: Option<KeyVersionId>,
    ) -> Result<(), FleetError> {
        let request = Request::Look { version };
        ask(&self.shared, keystore, request).await?.done()
    }

    async fn prove(
        &self,
        keystore: KeystoreId,
        version: KeyVersionId,
    ) -> Result<Proof, FleetError> {
        let request = Request::Prove { version };
        ask(&self.shared, keystore, request).await?.proof()
    }

    async fn probe(&self, keystore: KeystoreId, accept: bool) -> Result<(), FleetError> {
        let request = Request::Probe { accept };
        ask(&self.shared, keystore, request).await?.done()
    }

    async fn examine(
        &self,
        keystore: KeystoreId,
        salt: Vec<u8>,
        keys: Vec<Candidate>,
    ) -> Result<Vec<Examined>, FleetError> {
        let request = Request::Examine { salt, keys };
        ask(&self.shared, keystore, request).await?.examined()
    }

    fn wake(&self, keystores: &[KeystoreId]) {
        for &id in keystores {
            if self.shared.shares.is_none() {
                self.shared.start_keeping(id);
            }
            self.shared.wake_if_kept(id);
        }
        let others = keystores
            .iter()
            .filter(|id| self.shared.keeper(**id).is_none());
        self.shared.hint_others(others.copied().collect());
    }

    fn wanted(&self, instances: &[(KeystoreId, KeyVersionId)]) {
        let mut others: Vec<KeystoreId> = Vec::new();
        for &(keystore, version) in instances {
            match self.shared.keeper(keystore) {
                Some(keeper) if keeper.is_kept() => keeper.wanted(version),
                Some(_) | None => others.push(keystore),
            }
        }
        others.dedup();
        self.wake(&others);
    }

    fn live(&self, keystore: KeystoreId, version: KeyVersionId) -> Live {
        let (shared, now_ms) = (&self.shared, self.shared.now_ms());
        if let Some(keeper) = shared.keeper(keystore) {
            return keeper.live(version, now_ms);
        }
        let told =
            shared.mirrored(|mirror, fresh_ms| mirror.live(keystore, version, now_ms, fresh_ms));
        told.unwrap_or_else(|| Live {
            connection: self.live_keystore(keystore).connection,
            ..crate::decide::coordinator::Machine::new(keystore).live(version, now_ms)
        })
    }

    fn differing(&self, keystore: KeystoreId) -> Differing {
        let (shared, now_ms) = (&self.shared, self.shared.now_ms());
        if let Some(keeper) = shared.keeper(keystore) {
            return keeper.differing();
        }
        let told = shared.mirrored(|mirror, fresh_ms| mirror.differing(keystore, now_ms, fresh_ms));
        told.unwrap_or_default()
    }

    fn keeps(&self, keystore: KeystoreId) -> bool {
        self.shared.keeper(keystore).is_some()
    }

    fn description(&self, keystore: KeystoreId) -> Option<Arc<Description>> {
        match self.shared.keeper(keystore) {
            Some(keeper) => keeper.description(),
            None => self.live_keystore(keystore).description,
        }
    }

    fn waiting(&self, keystore: KeystoreId) -> Waiting {
        let keeper = self.shared.keeper(keystore);
        keeper.map_or_else(Waiting::default, |keeper| keeper.waiting())
    }

    fn live_keystore(&self, keystore: KeystoreId) -> LiveKeystore {
        let (shared, now_ms) = (&self.shared, self.shared.now_ms());
        if let Some(keeper) = shared.keeper(keystore) {
            return keeper.live_keystore(now_ms);
        }
        let told =
            shared.mirrored(|mirror, fresh_ms| mirror.live_keystore(keystore, now_ms, fresh_ms));
        told.unwrap_or_else(|| LiveKeystore {
            connection: match &shared.shares {
                Some(_) => untold(shared.holder(keystore).as_ref()),
                None => Connection::Never {
                    why: "not kept".to_owned(),
                },
            },
            health: None,
            description: None,
            unmanaged: Vec::new(),
            scan_age_ms: None,
        })
    }

    fn is_behind(&self) -> bool {
        self.shared.guard.is_behind()
    }

    fn strangers(&self, keystore: KeystoreId) -> Vec<Report> {
        let (shared, now_ms) = (&self.shared, self.shared.now_ms());
        if let Some(keeper) = shared.keeper(keystore) {
            return keeper.strangers();
        }
        let told = shared.mirrored(|mirror, fresh_ms| mirror.strangers(keystore, now_ms, fresh_ms));
        told.unwrap_or_default()
    }

    fn recovered(&self) {
        self.shared.guard.lift();
        self.shared.wake_all();
        self.shared.changed();
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }
}
