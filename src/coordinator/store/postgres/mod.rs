//! PostgreSQL: where several coordinators share the work.
//!
//! Owns: the lines to the database, its schema and every statement. Never: decides, reads a clock, or answers a change before
//! the server has said that its COMMIT is done.
//!
//! ```text
//! caller --Change--> queue --> writer task: BEGIN, lock the head, a savepoint per change, COMMIT --> answers
//! caller --query---> a line of the pool: one statement, one snapshot                             --> answer
//! ```

pub mod adoption;
pub mod bulk;
pub mod change;
pub mod connect;
pub mod delete;
pub mod failure;
pub mod hints;
pub mod instance;
pub mod lease;
pub mod live;
pub mod query;
pub mod record;
pub mod recovery;
pub mod rotation;
pub mod schema;
pub mod sql;
pub mod writer;

use std::fs::File;
use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::{Object, Pool};
use tokio::sync::broadcast;
use tokio::time::timeout;
use uuid::Uuid;

use crate::coordinator::store::encoded::{Encoded, because};
use crate::coordinator::store::postgres::connect::{OpenError, STATEMENT_WITHIN, Settings, line};
use crate::coordinator::store::postgres::failure::Problem;
use crate::coordinator::store::postgres::lease::Member;
use crate::coordinator::store::postgres::writer::{Work, Writer};
use crate::coordinator::store::sharing::{Errand, Hint, News, Round, Sharing, Telling};
use crate::coordinator::store::{
    AdoptedId, BulkCount, BulkKeyFilter, Change, InstanceRow, KeyFilter, OperationRecord, Page,
    Paged, Store, StoreError,
};
use crate::model::adoption::Ignored;
use crate::model::audit::AuditEntry;
use crate::model::bulk::{BulkChange, BulkKey};
use crate::model::desired::Instance;
use crate::model::ids::{BulkId, KeyId, KeyVersionId, KeystoreId, TemplateId, Term, VaultId};
use crate::model::kek::{KekNumber, KekRotation};
use crate::model::key::ManagedKey;
use crate::model::keystore::KeystoreRecord;
use crate::model::live::LastSeen;
use crate::model::material::RepositoryCopy;
use crate::model::observed::Fingerprint;
use crate::model::recovery::{Recovery, Stranger};
use crate::model::template::KeyTemplate;
use crate::model::vault::{UnixMs, Vault};

/// Longest wait for a query's answer: the server ends a statement earlier, a line that is dead says nothing.
const QUERY_WITHIN: Duration = STATEMENT_WITHIN.saturating_mul(2);

/// The store in one PostgreSQL database.
#[derive(Debug)]
pub struct PostgresStore {
    pool: Pool,
    writer: Writer,
    member: Member,
    hints: broadcast::Sender<Hint>,
}

impl PostgresStore {
    /// Connects, looks over what the server promises and brings the schema up to date. To be called within a tokio runtime.
    ///
    /// # Errors
    /// [`OpenError`] says what to do next.
    pub async fn open(settings: Settings) -> Result<Self, OpenError> {
        let config = connect::config(&settings)?;
        let tls = settings.tls.as_ref();
        let mut client = connect::alone(&config, tls, drop).await?;
        connect::promises(&client).await?;
        schema::migrate(&mut client).await?;
        let hints = hints::listen(config.clone(), settings.tls.clone());
        let pool = connect::pool(config, tls)?;
        let writer = Writer::start(pool.clone());
        let member = Member {
            id: Uuid::new_v4(),
            address: settings.address,
            lasts: settings.lease,
        };
        Ok(Self {
            pool,
            writer,
            member,
            hints,
        })
    }
}

/// Asks on a line of the pool. One that does not answer is closed.
macro_rules! ask {
    ($self:ident, |$sql:ident| $query:expr) => {{
        let line = line(&$self.pool).await?;
        let asked = {
            let $sql: &sql::Sql = &line;
            timeout(QUERY_WITHIN, $query).await
        };
        answered(line, asked)
    }};
}

fn answered<T>(
    line: Object,
    asked: Result<Result<T, Problem>, tokio::time::error::Elapsed>,
) -> Result<T, StoreError> {
    match asked {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(problem)) => Err(problem.told()),
        Err(_elapsed) => {
            drop(Object::take(line));
            Err(because("PostgreSQL did not answer in time"))
        }
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn commit(&self, change: Change) -> Result<Option<OperationRecord>, StoreError> {
        let encoded = Box::new(Encoded::new(change)?);
        self.writer.run(Work::Commit(encoded)).await
    }

    async fn operation(&self, key: &str) -> Result<Option<OperationRecord>, StoreError> {
        ask!(self, |sql| query::operation(sql, key))
    }

    async fn vault(&self, id: VaultId) -> Result<Option<Vault>, StoreError> {
        ask!(self, |sql| query::vault(sql, id))
    }

    async fn vault_list(
        &self,
        name: Option<String>,
        page: Page,
    ) -> Result<Paged<Vault>, StoreError> {
        ask!(self, |sql| query::vault_list(sql, name, page))
    }

    async fn vault_counts(&self, id: VaultId) -> Result<[u64; 3], StoreError> {
        ask!(self, |sql| query::vault_counts(sql, id))
    }

    async fn template(&self, id: TemplateId) -> Result<Option<KeyTemplate>, StoreError> {
        ask!(self, |sql| query::template(sql, id))
    }

    async fn template_by_name(
        &self,
        vault: VaultId,
        name: &str,
    ) -> Result<Option<KeyTemplate>, StoreError> {
        ask!(self, |sql| query::template_by_name(sql, vault, name))
    }

    async fn template_list(
        &self,
        vault: Option<VaultId>,
        name: Option<String>,
        page: Page,
    ) -> Result<Paged<KeyTemplate>, StoreError> {
        ask!(self, |sql| query::template_list(sql, vault, name, page))
    }

    async fn keystore(&self, id: KeystoreId) -> Result<Option<KeystoreRecord>, StoreError> {
        ask!(self, |sql| query::keystore(sql, id))
    }

    async fn keystore_list(
        &self,
        vault: Option<VaultId>,
        group: Option<String>,
        page: Page,
    ) -> Result<Paged<KeystoreRecord>, StoreError> {
        ask!(self, |sql| query::keystore_list(sql, vault, group, page))
    }

    async fn key(&self, id: KeyId) -> Result<Option<ManagedKey>, StoreError> {
        ask!(self, |sql| query::key(sql, id))
    }

    async fn key_list(
        &self,
        filter: KeyFilter,
        page: Page,
    ) -> Result<Paged<ManagedKey>, StoreError> {
        ask!(self, |sql| query::key_list(sql, filter, page))
    }

    async fn key_of_version(&self, version: KeyVersionId) -> Result<Option<KeyId>, StoreError> {
        ask!(self, |sql| query::key_of_version(sql, version))
    }

    async fn key_dated(
        &self,
        days: (Option<String>, String),
        after: Option<KeyId>,
        limit: u32,
    ) -> Result<Vec<ManagedKey>, StoreError> {
        ask!(self, |sql| query::key_dated(sql, days, after, limit))
    }

    async fn key_instances(&self, id: KeyId) -> Result<Vec<Instance>, StoreError> {
        ask!(self, |sql| query::key_instances(sql, id))
    }

    async fn keystore_instances(&self, id: KeystoreId) -> Result<Vec<InstanceRow>, StoreError> {
        ask!(self, |sql| query::keystore_instances(sql, id))
    }

    async fn instances_on(
        &self,
        id: KeystoreId,
        versions: Vec<KeyVersionId>,
    ) -> Result<Vec<Instance>, StoreError> {
        ask!(self, |sql| query::instances_on(sql, id, &versions))
    }

    async fn keys_of(
        &self,
        vault: VaultId,
        material: Fingerprint,
    ) -> Result<Vec<ManagedKey>, StoreError> {
        ask!(self, |sql| adoption::keys_of(sql, vault, material))
    }

    async fn adopted(&self, keystore: KeystoreId) -> Result<Vec<AdoptedId>, StoreError> {
        ask!(self, |sql| adoption::adopted(sql, keystore))
    }

    async fn ignored(&self, keystore: KeystoreId) -> Result<Vec<Ignored>, StoreError> {
        ask!(self, |sql| adoption::ignored(sql, keystore))
    }

    async fn copies_lacking(
        &self,
        vault: VaultId,
        keystore: KeystoreId,
        after: Option<KeyVersionId>,
        limit: u32,
    ) -> Result<Vec<KeyVersionId>, StoreError> {
        ask!(self, |sql| query::copies_lacking(
            sql, vault, keystore, after, limit
        ))
    }

    async fn copies(&self, version: KeyVersionId) -> Result<Vec<RepositoryCopy>, StoreError> {
        ask!(self, |sql| query::copies(sql, version))
    }

    async fn kek_rotation(&self, keystore: KeystoreId) -> Result<Option<KekRotation>, StoreError> {
        ask!(self, |sql| rotation::find(sql, keystore))
    }

    async fn copies_below(
        &self,
        keystore: KeystoreId,
        kek: KekNumber,
        after: Option<KeyVersionId>,
        limit: u32,
    ) -> Result<Vec<(KeyVersionId, RepositoryCopy)>, StoreError> {
        ask!(self, |sql| rotation::copies_below(
            sql, keystore, kek, after, limit
        ))
    }

    async fn copies_below_count(
        &self,
        keystore: KeystoreId,
        kek: KekNumber,
    ) -> Result<u64, StoreError> {
        ask!(self, |sql| rotation::copies_below_count(sql, keystore, kek))
    }

    async fn recovery(&self) -> Result<Option<Recovery>, StoreError> {
        ask!(self, |sql| recovery::find(sql))
    }

    async fn strangers(&self, keystore: KeystoreId) -> Result<Vec<Stranger>, StoreError> {
        ask!(self, |sql| recovery::strangers(sql, keystore))
    }

    async fn bulk(&self, id: BulkId) -> Result<Option<BulkChange>, StoreError> {
        ask!(self, |sql| bulk::find(sql, id))
    }

    async fn bulk_list(
        &self,
        states: Vec<&'static str>,
        page: Page,
    ) -> Result<Paged<BulkChange>, StoreError> {
        ask!(self, |sql| bulk::list(sql, states, page))
    }

    async fn bulk_keys(
        &self,
        bulk: BulkId,
        filter: BulkKeyFilter,
        page: Page,
    ) -> Result<Paged<BulkKey>, StoreError> {
        ask!(self, |sql| bulk::keys(sql, bulk, filter, page))
    }

    async fn bulk_key(&self, bulk: BulkId, place: u32) -> Result<Option<BulkKey>, StoreError> {
        ask!(self, |sql| bulk::key(sql, bulk, place))
    }

    async fn bulk_counts(&self, bulk: BulkId) -> Result<Vec<BulkCount>, StoreError> {
        ask!(self, |sql| bulk::counts(sql, bulk))
    }

    async fn seen_put(
        &self,
        keystore: KeystoreId,
        seen: Vec<(KeyVersionId, LastSeen)>,
    ) -> Result<(), StoreError> {
        ask!(self, |sql| change::seen_put(sql, keystore, &seen))
    }

    async fn seen(&self, version: KeyVersionId) -> Result<Vec<(KeystoreId, LastSeen)>, StoreError> {
        ask!(self, |sql| query::seen(sql, version))
    }

    async fn lease_take(&self, keystore: KeystoreId, above: Term) -> Result<Term, StoreError> {
        ask!(self, |sql| lease::take(sql, &self.member, keystore, above))
    }

    async fn audit_list(
        &self,
        subject: Option<String>,
        page: Page,
    ) -> Result<Paged<AuditEntry>, StoreError> {
        ask!(self, |sql| query::audit_list(sql, subject, page))
    }

    async fn backup(&self, _at: UnixMs) -> Result<File, StoreError> {
        Err(because("the store is PostgreSQL: back it up with pg_dump"))
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.writer.run(Work::Ping).await.map(|_none| ())
    }

    fn sharing(&self) -> Option<&dyn Sharing> {
        Some(self)
    }
}

#[async_trait]
impl Sharing for PostgresStore {
    fn lasts(&self) -> Duration {
        self.member.lasts
    }

    async fn round(
        &self,
        let_go: &[KeystoreId],
        scans: &[(KeystoreId, Option<u64>)],
    ) -> Result<Round, StoreError> {
        let mut line = line(&self.pool).await?;
        let round = lease::round(&mut line, &self.member, let_go, scans);
        let asked = timeout(QUERY_WITHIN, round).await;
        answered(line, asked)
    }

    async fn leave(&self) -> Result<(), StoreError> {
        ask!(self, |sql| lease::leave(sql, &self.member))
    }

    async fn tell(&self, keystore: KeystoreId, telling: Telling) -> Result<(), StoreError> {
        ask!(self, |sql| live::tell(
            sql,
            &self.member,
            keystore,
            &telling
        ))
    }

    async fn news(&self, cursor: i64) -> Result<News, StoreError> {
        ask!(self, |sql| live::news(sql, &self.member, cursor))
    }

    async fn errand_put(&self, errand: Errand, within: Duration) -> Result<(), StoreError> {
        ask!(self, |sql| live::errand_put(sql, &errand, within))
    }

    async fn errand_answer(&self, id: Uuid) -> Result<Option<String>, StoreError> {
        ask!(self, |sql| live::errand_answer(sql, id))
    }

    async fn errands(&self) -> Result<Vec<Errand>, StoreError> {
        ask!(self, |sql| live::errands(sql, &self.member))
    }

    async fn errand_done(&self, id: Uuid, answer: String) -> Result<(), StoreError> {
        ask!(self, |sql| live::errand_done(sql, id, &answer))
    }

    async fn hint(&self, hint: Hint) -> Result<(), StoreError> {
        let text = hints::text(&hint);
        ask!(self, |sql| live::notify(sql, &text))
    }

    fn hints(&self) -> broadcast::Receiver<Hint> {
        self.hints.subscribe()
    }
}
