//! All keepers, by keystore; what the use cases see of the agents.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Monotonic;
use crate::coordinator::ops::fleet::{Fleet, FleetError, LiveKeystore};
use crate::coordinator::reconcile::calls;
use crate::coordinator::reconcile::guard::Guard;
use crate::coordinator::reconcile::keeper::{self, Keeper};
use crate::coordinator::store::{Page, Store, StoreError};
use crate::model::adoption::{Candidate, Examined};
use crate::model::ids::{KeyVersionId, KeystoreId};
use crate::model::key::KeySpec;
use crate::model::live::{Connection, Live};
use crate::model::material::RepositoryCopy;
use crate::model::observed::Proof;
use crate::model::protocol::{Description, Report};
use crate::tls::config::Identity;

/// Keystores read from the store at once when the process starts.
const KEYSTORES_PAGE: u32 = 1_000;

/// A look that has been asked for must have been reported after this long.
const LOOK_WITHIN: Duration = Duration::from_secs(30);

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
    /// Starts a keeper for every keystore in the store.
    ///
    /// # Errors
    /// The store's, if the keystores cannot be read.
    pub async fn start(store: Arc<dyn Store>, tls: Identity) -> Result<Self, StoreError> {
        let recovery = store.recovery().await?;
        let ids = all_keystores(store.as_ref()).await?;
        let shared = Arc::new(Shared {
            guard: Guard::new(recovery, ids.iter().copied().collect()),
            store,
            tls,
            started: Monotonic::now(),
            changes: watch::Sender::new(0),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            keepers: Mutex::new(BTreeMap::new()),
        });
        let this = Self { shared };
        this.wake(&ids);
        Ok(this)
    }

    /// Ends all sessions and waits until the keepers have stopped.
    pub async fn stop(&self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    fn known(&self, keystore: KeystoreId) -> Result<Arc<Keeper>, FleetError> {
        self.shared
            .keeper(keystore)
            .ok_or_else(|| FleetError::Unreachable {
                why: "no such keystore".to_owned(),
            })
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
        let (mut client, session) = self.known(keystore)?.line()?;
        calls::generate(&mut client, session, keystore, version, spec, salt).await
    }

    async fn look(
        &self,
        keystore: KeystoreId,
        version: Option<KeyVersionId>,
    ) -> Result<(), FleetError> {
        let keeper = self.known(keystore)?;
        let mut changes = self.changes();
        let asked_at = self.shared.now_ms();
        keeper.ask_look(version)?;
        let seen = async {
            while !keeper.looked_since(version, asked_at, self.shared.now_ms()) {
                if changes.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(LOOK_WITHIN, seen)
            .await
            .map_err(|_elapsed| FleetError::Late)
    }

    async fn prove(
        &self,
        keystore: KeystoreId,
        version: KeyVersionId,
    ) -> Result<Proof, FleetError> {
        let (mut client, session) = self.known(keystore)?.line()?;
        calls::prove(&mut client, session, version).await
    }

    async fn probe(&self, keystore: KeystoreId, accept: bool) -> Result<(), FleetError> {
        let keeper = self.known(keystore)?;
        let (mut client, session) = keeper.line()?;
        let description = calls::probe(&mut client, session, accept).await?;
        keeper.describe_as(description);
        self.shared.changed();
        Ok(())
    }

    async fn examine(
        &self,
        keystore: KeystoreId,
        salt: Vec<u8>,
        keys: Vec<Candidate>,
    ) -> Result<Vec<Examined>, FleetError> {
        let (mut client, session) = self.known(keystore)?.line()?;
        calls::examine(&mut client, session, salt, keys).await
    }

    fn wake(&self, keystores: &[KeystoreId]) {
        for &id in keystores {
            let mut keepers = self.shared.lock();
            match keepers.get(&id) {
                Some(keeper) if keeper.is_kept() => keeper.wake(),
                Some(_) | None => {
                    let (keeper, inbox) = Keeper::new(id);
                    let keeper = Arc::new(keeper);
                    keepers.insert(id, Arc::clone(&keeper));
                    let task = keeper::run(Arc::clone(&self.shared), keeper, inbox);
                    self.shared.tasks.spawn(task);
                }
            }
        }
    }

    fn live(&self, keystore: KeystoreId, version: KeyVersionId) -> Live {
        match self.shared.keeper(keystore) {
            Some(keeper) => keeper.live(version, self.shared.now_ms()),
            None => crate::decide::coordinator::Machine::new(keystore)
                .live(version, self.shared.now_ms()),
        }
    }

    fn description(&self, keystore: KeystoreId) -> Option<Arc<Description>> {
        self.shared.keeper(keystore)?.description()
    }

    fn live_keystore(&self, keystore: KeystoreId) -> LiveKeystore {
        match self.shared.keeper(keystore) {
            Some(keeper) => keeper.live_keystore(self.shared.now_ms()),
            None => LiveKeystore {
                connection: Connection::Never {
                    why: "not kept".to_owned(),
                },
                health: None,
                description: None,
                unmanaged: Vec::new(),
                scan_age_ms: None,
            },
        }
    }

    fn is_behind(&self) -> bool {
        self.shared.guard.is_behind()
    }

    fn strangers(&self, keystore: KeystoreId) -> Vec<Report> {
        let keeper = self.shared.keeper(keystore);
        keeper.map(|keeper| keeper.strangers()).unwrap_or_default()
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
