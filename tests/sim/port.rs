//! The ports of the real use cases, as the simulation serves them: the real SQL in memory with pauses and failures around
//! each commit, and agents that are reached through the simulated network.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use async_trait::async_trait;
use lockstep::coordinator::ops::entropy::Entropy;
use lockstep::coordinator::ops::fleet::{Fleet, FleetError, LiveKeystore};
use lockstep::coordinator::store::sqlite::SqliteStore;
use lockstep::coordinator::store::{
    AdoptedId, BulkCount, BulkKeyFilter, Change, InstanceRow, KeyFilter, OperationRecord, Page,
    Paged, Store, StoreError, Write,
};
use lockstep::model::adoption::{Candidate, Examined, Ignored};
use lockstep::model::audit::AuditEntry;
use lockstep::model::bulk::{BulkChange, BulkKey};
use lockstep::model::desired::Instance;
use lockstep::model::ids::{BulkId, KeyId, KeyVersionId, KeystoreId, TemplateId, Term, VaultId};
use lockstep::model::kek::{KekNumber, KekRotation};
use lockstep::model::key::{KeySpec, ManagedKey};
use lockstep::model::keystore::KeystoreRecord;
use lockstep::model::live::{Differing, LastSeen, Live};
use lockstep::model::material::RepositoryCopy;
use lockstep::model::observed::{Fingerprint, Proof};
use lockstep::model::protocol::{Description, Report};
use lockstep::model::recovery::{Recovery, Stranger};
use lockstep::model::template::KeyTemplate;
use lockstep::model::vault::{UnixMs, Vault};
use tokio::sync::watch;
use uuid::Uuid;

use crate::dice::Dice;
use crate::keeper::Keeper;

/// Where the answer of a call comes to lie.
pub(crate) type Slot = Arc<Mutex<Option<Result<RepositoryCopy, FleetError>>>>;

/// A key that is asked for.
#[derive(Debug)]
pub(crate) struct Generate {
    pub(crate) keystore: KeystoreId,
    pub(crate) version: KeyVersionId,
    pub(crate) spec: KeySpec,
    pub(crate) salt: Vec<u8>,
    pub(crate) slot: Slot,
}

/// Everything of a coordinator process that its use cases and the scheduler share. It is gone when the process crashes.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) now: u64,
    pub(crate) unix: UnixMs,
    pub(crate) keepers: BTreeMap<KeystoreId, Keeper>,
    /// Agents have shown that the store is older than they are, as `reconcile::guard` keeps it.
    pub(crate) behind: bool,
    pub(crate) wakes: Vec<KeystoreId>,
    /// Instances of which something else is wanted.
    pub(crate) wanted: Vec<(KeystoreId, KeyVersionId)>,
    pub(crate) generates: Vec<Generate>,
    /// Times at which somebody wants to be asked again.
    pub(crate) pauses: Vec<u64>,
    /// Changes that the store has taken, in order.
    pub(crate) committed: Vec<Change>,
    /// Commits fail so many times in a thousand.
    pub(crate) commit_fails: u64,
    pub(crate) disk_full: bool,
    /// A bug: it answers before it commits, and the commit is done at this time.
    pub(crate) answers_first: bool,
    pub(crate) owed: Vec<(u64, Change)>,
    /// Operations that were answered so.
    pub(crate) promised: Vec<String>,
    pub(crate) dice: Dice,
}

pub(crate) type SharedDesk = Arc<Mutex<Desk>>;

pub(crate) fn lock(desk: &SharedDesk) -> MutexGuard<'_, Desk> {
    desk.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits until the virtual time has come.
struct Pause {
    desk: SharedDesk,
    at: u64,
    asked: bool,
}

impl Future for Pause {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<()> {
        let mut desk = lock(&self.desk);
        if desk.now >= self.at {
            return Poll::Ready(());
        }
        if !self.asked {
            let at = self.at;
            desk.pauses.push(at);
            drop(desk);
            self.asked = true;
        }
        Poll::Pending
    }
}

fn pause(desk: &SharedDesk) -> Pause {
    let mut open = lock(desk);
    let ms = open.dice.below(6);
    let at = open.now + ms * ms;
    drop(open);
    Pause {
        desk: desk.clone(),
        at,
        asked: false,
    }
}

/// Waits until something lies in the slot.
struct Answered(Slot);

impl Future for Answered {
    type Output = Result<RepositoryCopy, FleetError>;

    fn poll(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).take() {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        }
    }
}

/// The agents, through the network.
#[derive(Debug)]
pub(crate) struct SimFleet(pub(crate) SharedDesk);

#[async_trait]
impl Fleet for SimFleet {
    async fn describe(&self, _endpoint: &str, _name: &str) -> Result<Description, FleetError> {
        Err(FleetError::Late)
    }

    async fn generate(
        &self,
        keystore: KeystoreId,
        version: KeyVersionId,
        spec: KeySpec,
        salt: Vec<u8>,
    ) -> Result<RepositoryCopy, FleetError> {
        let slot = Slot::default();
        lock(&self.0).generates.push(Generate {
            keystore,
            version,
            spec,
            salt,
            slot: slot.clone(),
        });
        Answered(slot).await
    }

    async fn look(&self, _: KeystoreId, _: Option<KeyVersionId>) -> Result<(), FleetError> {
        Err(FleetError::Late)
    }

    async fn prove(&self, _: KeystoreId, _: KeyVersionId) -> Result<Proof, FleetError> {
        Err(FleetError::Late)
    }

    async fn probe(&self, _: KeystoreId, _: bool) -> Result<(), FleetError> {
        Err(FleetError::Late)
    }

    async fn examine(
        &self,
        _: KeystoreId,
        _: Vec<u8>,
        _: Vec<Candidate>,
    ) -> Result<Vec<Examined>, FleetError> {
        Err(FleetError::Late)
    }

    fn wake(&self, keystores: &[KeystoreId]) {
        lock(&self.0).wakes.extend(keystores);
    }

    fn wanted(&self, instances: &[(KeystoreId, KeyVersionId)]) {
        lock(&self.0).wanted.extend(instances);
    }

    fn live(&self, keystore: KeystoreId, version: KeyVersionId) -> Live {
        let desk = lock(&self.0);
        desk.keepers[&keystore].machine.live(version, desk.now)
    }

    fn differing(&self, keystore: KeystoreId) -> Differing {
        let desk = lock(&self.0);
        desk.keepers[&keystore].machine.differing()
    }

    fn keeps(&self, _: KeystoreId) -> bool {
        true
    }

    fn description(&self, _: KeystoreId) -> Option<Arc<Description>> {
        None
    }

    fn is_behind(&self) -> bool {
        lock(&self.0).behind
    }

    fn strangers(&self, keystore: KeystoreId) -> Vec<Report> {
        let desk = lock(&self.0);
        desk.keepers[&keystore]
            .machine
            .strangers()
            .cloned()
            .collect()
    }

    fn recovered(&self) {
        lock(&self.0).behind = false;
    }

    fn live_keystore(&self, keystore: KeystoreId) -> LiveKeystore {
        let desk = lock(&self.0);
        desk.keepers[&keystore].told(desk.now)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        watch::channel(0).1
    }
}

/// Ids from the seed.
#[derive(Debug)]
pub(crate) struct SimEntropy(pub(crate) Mutex<Dice>);

impl SimEntropy {
    fn draw(&self) -> [u8; 16] {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .bytes()
    }
}

impl Entropy for SimEntropy {
    fn uuid(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.draw()).into_uuid()
    }

    fn uuid_at(&self, _at: UnixMs) -> Uuid {
        uuid::Builder::from_random_bytes(self.draw()).into_uuid()
    }

    fn salt(&self) -> Option<[u8; 32]> {
        let mut salt = [0; 32];
        salt[..16].copy_from_slice(&self.draw());
        Some(salt)
    }
}

/// The real statements, with pauses in which the process may crash: before a commit, and between it and its answer.
#[derive(Debug)]
pub(crate) struct SimStore {
    pub(crate) inner: Arc<SqliteStore>,
    pub(crate) desk: SharedDesk,
}

/// The records carry virtual times: the use cases read the wall clock for people alone.
pub(crate) fn stamp(change: &mut Change, at: UnixMs) {
    if let Some(operation) = &mut change.operation {
        operation.at = at;
    }
    for entry in &mut change.audit {
        entry.at = at;
    }
    for write in &mut change.writes {
        match write {
            Write::InstancePut { instance, .. } => instance.since = at,
            Write::KeyInsert(key) => (key.stamps.created_at, key.stamps.updated_at) = (at, at),
            Write::KeyUpdate { record, .. } => record.stamps.updated_at = at,
            _ => {}
        }
    }
}

impl SimStore {
    fn trouble(&self) -> Result<(), StoreError> {
        let mut desk = lock(&self.desk);
        if desk.disk_full {
            return Err(StoreError::Full);
        }
        let permille = desk.commit_fails;
        if desk.dice.chance(permille) {
            let detail = "the disk failed".to_owned();
            return Err(StoreError::Unavailable { detail });
        }
        Ok(())
    }
}

#[async_trait]
impl Store for SimStore {
    async fn commit(&self, mut change: Change) -> Result<Option<OperationRecord>, StoreError> {
        pause(&self.desk).await;
        self.trouble()?;
        let (unix, lies, at) = {
            let desk = lock(&self.desk);
            (desk.unix, desk.answers_first, desk.now + 2_500)
        };
        stamp(&mut change, unix);
        if lies && change.operation.is_some() {
            let mut desk = lock(&self.desk);
            desk.promised.extend(
                change
                    .operation
                    .iter()
                    .map(|operation| operation.key.clone()),
            );
            desk.owed.push((at, change));
            desk.pauses.push(at);
            return Ok(None);
        }
        let earlier = self.inner.commit(change.clone()).await?;
        if earlier.is_none() {
            lock(&self.desk).committed.push(change);
        }
        pause(&self.desk).await;
        Ok(earlier)
    }

    async fn operation(&self, key: &str) -> Result<Option<OperationRecord>, StoreError> {
        self.inner.operation(key).await
    }

    async fn vault(&self, id: VaultId) -> Result<Option<Vault>, StoreError> {
        self.inner.vault(id).await
    }

    async fn vault_list(
        &self,
        name: Option<String>,
        page: Page,
    ) -> Result<Paged<Vault>, StoreError> {
        self.inner.vault_list(name, page).await
    }

    async fn vault_counts(&self, id: VaultId) -> Result<[u64; 3], StoreError> {
        self.inner.vault_counts(id).await
    }

    async fn template(&self, id: TemplateId) -> Result<Option<KeyTemplate>, StoreError> {
        self.inner.template(id).await
    }

    async fn template_by_name(
        &self,
        vault: VaultId,
        name: &str,
    ) -> Result<Option<KeyTemplate>, StoreError> {
        self.inner.template_by_name(vault, name).await
    }

    async fn template_list(
        &self,
        vault: Option<VaultId>,
        name: Option<String>,
        page: Page,
    ) -> Result<Paged<KeyTemplate>, StoreError> {
        self.inner.template_list(vault, name, page).await
    }

    async fn keystore(&self, id: KeystoreId) -> Result<Option<KeystoreRecord>, StoreError> {
        self.inner.keystore(id).await
    }

    async fn keystore_list(
        &self,
        vault: Option<VaultId>,
        group: Option<String>,
        page: Page,
    ) -> Result<Paged<KeystoreRecord>, StoreError> {
        self.inner.keystore_list(vault, group, page).await
    }

    async fn key(&self, id: KeyId) -> Result<Option<ManagedKey>, StoreError> {
        pause(&self.desk).await;
        self.inner.key(id).await
    }

    async fn key_list(
        &self,
        filter: KeyFilter,
        page: Page,
    ) -> Result<Paged<ManagedKey>, StoreError> {
        self.inner.key_list(filter, page).await
    }

    async fn key_instances(&self, id: KeyId) -> Result<Vec<Instance>, StoreError> {
        let instances = self.inner.key_instances(id).await;
        pause(&self.desk).await;
        instances
    }

    async fn keystore_instances(&self, id: KeystoreId) -> Result<Vec<InstanceRow>, StoreError> {
        self.inner.keystore_instances(id).await
    }

    async fn bulk(&self, id: BulkId) -> Result<Option<BulkChange>, StoreError> {
        self.inner.bulk(id).await
    }

    async fn bulk_list(
        &self,
        states: Vec<&'static str>,
        page: Page,
    ) -> Result<Paged<BulkChange>, StoreError> {
        self.inner.bulk_list(states, page).await
    }

    async fn bulk_keys(
        &self,
        bulk: BulkId,
        filter: BulkKeyFilter,
        page: Page,
    ) -> Result<Paged<BulkKey>, StoreError> {
        self.inner.bulk_keys(bulk, filter, page).await
    }

    async fn bulk_key(&self, bulk: BulkId, place: u32) -> Result<Option<BulkKey>, StoreError> {
        self.inner.bulk_key(bulk, place).await
    }

    async fn bulk_counts(&self, bulk: BulkId) -> Result<Vec<BulkCount>, StoreError> {
        self.inner.bulk_counts(bulk).await
    }

    async fn instances_on(
        &self,
        id: KeystoreId,
        versions: Vec<KeyVersionId>,
    ) -> Result<Vec<Instance>, StoreError> {
        self.inner.instances_on(id, versions).await
    }

    async fn keys_of(
        &self,
        vault: VaultId,
        material: Fingerprint,
    ) -> Result<Vec<ManagedKey>, StoreError> {
        self.inner.keys_of(vault, material).await
    }

    async fn adopted(&self, keystore: KeystoreId) -> Result<Vec<AdoptedId>, StoreError> {
        self.inner.adopted(keystore).await
    }

    async fn ignored(&self, keystore: KeystoreId) -> Result<Vec<Ignored>, StoreError> {
        self.inner.ignored(keystore).await
    }

    async fn copies_lacking(
        &self,
        vault: VaultId,
        keystore: KeystoreId,
        after: Option<KeyVersionId>,
        limit: u32,
    ) -> Result<Vec<KeyVersionId>, StoreError> {
        self.inner
            .copies_lacking(vault, keystore, after, limit)
            .await
    }

    async fn key_dated(
        &self,
        days: (Option<String>, String),
        after: Option<KeyId>,
        limit: u32,
    ) -> Result<Vec<ManagedKey>, StoreError> {
        self.inner.key_dated(days, after, limit).await
    }

    async fn key_of_version(&self, version: KeyVersionId) -> Result<Option<KeyId>, StoreError> {
        self.inner.key_of_version(version).await
    }

    async fn recovery(&self) -> Result<Option<Recovery>, StoreError> {
        self.inner.recovery().await
    }

    async fn strangers(&self, keystore: KeystoreId) -> Result<Vec<Stranger>, StoreError> {
        self.inner.strangers(keystore).await
    }

    async fn backup(&self, at: UnixMs) -> Result<std::fs::File, StoreError> {
        self.inner.backup(at).await
    }

    async fn copies(&self, version: KeyVersionId) -> Result<Vec<RepositoryCopy>, StoreError> {
        self.inner.copies(version).await
    }

    async fn kek_rotation(&self, keystore: KeystoreId) -> Result<Option<KekRotation>, StoreError> {
        self.inner.kek_rotation(keystore).await
    }

    async fn copies_below(
        &self,
        keystore: KeystoreId,
        kek: KekNumber,
        after: Option<KeyVersionId>,
        limit: u32,
    ) -> Result<Vec<(KeyVersionId, RepositoryCopy)>, StoreError> {
        self.inner.copies_below(keystore, kek, after, limit).await
    }

    async fn copies_below_count(
        &self,
        keystore: KeystoreId,
        kek: KekNumber,
    ) -> Result<u64, StoreError> {
        self.inner.copies_below_count(keystore, kek).await
    }

    async fn seen_put(
        &self,
        keystore: KeystoreId,
        seen: Vec<(KeyVersionId, LastSeen)>,
    ) -> Result<(), StoreError> {
        self.inner.seen_put(keystore, seen).await
    }

    async fn seen(&self, version: KeyVersionId) -> Result<Vec<(KeystoreId, LastSeen)>, StoreError> {
        self.inner.seen(version).await
    }

    async fn lease_take(&self, keystore: KeystoreId, above: Term) -> Result<Term, StoreError> {
        self.inner.lease_take(keystore, above).await
    }

    async fn audit_list(
        &self,
        subject: Option<String>,
        page: Page,
    ) -> Result<Paged<AuditEntry>, StoreError> {
        self.inner.audit_list(subject, page).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.inner.ping().await
    }
}

/// The value of a future that waits for nothing.
pub(crate) fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the store in memory answers at once"),
    }
}
