//! SQLite: WAL, synchronous=FULL, one writer thread with group commit, a few reader threads.
//!
//! Owns: the file, its lock, its schema and every statement. Never: decides, reads a clock, or answers a change before its
//! COMMIT is on the disk.
//!
//! ```text
//! caller --Change--> queue --> writer thread: BEGIN IMMEDIATE, a savepoint per change, COMMIT --> answers
//! caller --query---> queue --> one of the reader threads: BEGIN, SELECTs, COMMIT              --> answer
//! ```

pub mod adoption;
pub mod bulk;
pub mod change;
pub mod checkup;
pub mod delete;
pub mod failure;
pub mod instance;
pub mod lock;
pub mod memory;
pub mod query;
pub mod reader;
pub mod record;
pub mod recovery;
pub mod restored;
pub mod rotation;
pub mod rows;
pub mod schema;
pub mod writer;

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OpenFlags};

use crate::coordinator::store::encoded::{Encoded, because, unavailable};
use crate::coordinator::store::sqlite::reader::Readers;
use crate::coordinator::store::sqlite::writer::{Answer, Work, Writer};
use crate::coordinator::store::{
    AdoptedId, BulkCount, BulkKeyFilter, Change, Checkup, InstanceRow, KeyFilter, OperationRecord,
    Page, Paged, Store, StoreError,
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

/// How long a connection waits for another process that reads or backs up the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Statements that each connection keeps prepared: more than there are.
const STATEMENTS_MAX: usize = 96;

/// Why the store did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another coordinator has it.
    #[error(
        "another coordinator uses {}: {holder} holds {}; one file serves one coordinator",
        path.display(),
        lock.display()
    )]
    InUse {
        /// The store.
        path: PathBuf,
        /// The lock file.
        lock: PathBuf,
        /// Who, such as `process 4711`.
        holder: String,
    },
    /// A later Lockstep wrote it.
    #[error(
        "{} has schema {found}, this program knows up to {known}: use the newer program, or a backup made before",
        path.display()
    )]
    NewerSchema {
        /// The store.
        path: PathBuf,
        /// What the file says.
        found: i64,
        /// What this program knows.
        known: i64,
    },
    /// SQLite found damage.
    #[error("{} is damaged ({detail}): restore a backup", path.display())]
    Damaged {
        /// The store.
        path: PathBuf,
        /// The first complaint.
        detail: String,
    },
    /// The file or its directory cannot be used.
    #[error("cannot use {}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// SQLite refused.
    #[error("cannot open {}", path.display())]
    Sql {
        /// The store.
        path: PathBuf,
        /// SQLite's error.
        #[source]
        source: rusqlite::Error,
    },
}

/// Settings of the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    /// The file grows to at most this many pages of 4 KiB, then changes fail with [`StoreError::Full`]. None: to the disk's end.
    pub pages_max: Option<u32>,
}

/// The store in one SQLite file. Dropping it waits for what was taken on, then lets the file go.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    doors: Doors,
}

/// Where statements are carried out.
#[derive(Debug)]
enum Doors {
    /// On a file, by threads.
    Threads {
        // Readers end before the writer, so that the writer's connection is the last: it empties the WAL.
        readers: Readers,
        writer: Writer,
    },
    /// In memory, by the caller.
    Memory(Mutex<Connection>),
}

impl SqliteStore {
    /// Opens the file, or makes it (mode 0600; its directory must be there); checks it and brings its schema up to date.
    ///
    /// # Errors
    /// [`OpenError`] says what to do next.
    pub fn open(path: &Path, settings: Settings) -> Result<Self, OpenError> {
        let lock = lock::take(path)?;
        make_private(path).map_err(|source| OpenError::File {
            path: path.to_owned(),
            source,
        })?;
        let sql = |source| OpenError::Sql {
            path: path.to_owned(),
            source,
        };
        let connection = connect_writing(path, settings).map_err(sql)?;
        schema::check(&connection, path)?;
        schema::migrate(&connection, path)?;
        let readers = Readers::start(path).map_err(|source| OpenError::File {
            path: path.to_owned(),
            source,
        })?;
        let writer = Writer::start(connection, lock).map_err(|source| OpenError::File {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            doors: Doors::Threads { readers, writer },
        })
    }

    /// A store of the same statements in memory, for simulations: no thread, no disk, and every answer is there at once.
    ///
    /// # Errors
    /// SQLite's.
    pub fn in_memory() -> Result<Self, OpenError> {
        let path = PathBuf::from(":memory:");
        let connection = memory::open().map_err(|source| OpenError::Sql {
            path: path.clone(),
            source,
        })?;
        schema::migrate(&connection, &path)?;
        Ok(Self {
            path,
            doors: Doors::Memory(Mutex::new(connection)),
        })
    }

    /// Another store in memory with what this one in memory holds now: a backup, or what one was restored from.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], also for a store that is a file.
    pub fn copy_in_memory(&self) -> Result<Self, StoreError> {
        let Doors::Memory(connection) = &self.doors else {
            return Err(because("the store is a file: back it up"));
        };
        Ok(Self {
            path: self.path.clone(),
            doors: Doors::Memory(Mutex::new(memory::copy(connection)?)),
        })
    }

    /// Runs a query in a snapshot of its own.
    async fn read<T, F>(&self, query: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        match &self.doors {
            Doors::Threads { readers, .. } => readers.run(query).await,
            Doors::Memory(connection) => memory::read(connection, query),
        }
    }

    /// Does work and answers when it is durable, as far as anything here is.
    async fn write(&self, work: Work) -> Result<Answer, StoreError> {
        match &self.doors {
            Doors::Threads { writer, .. } => writer.run(work).await,
            Doors::Memory(connection) => memory::write(connection, &work),
        }
    }
}

/// Opens a store that is to be read as a whole, under the lock that a coordinator would take; its schema is brought up to date.
///
/// # Errors
/// [`OpenError`] says what to do next.
pub(crate) fn open_alone(path: &Path) -> Result<(Connection, lock::Lock), OpenError> {
    let lock = lock::take(path)?;
    let sql = |source| OpenError::Sql {
        path: path.to_owned(),
        source,
    };
    let connection = connect_writing(path, Settings::default()).map_err(sql)?;
    schema::check(&connection, path)?;
    schema::migrate(&connection, path)?;
    Ok((connection, lock))
}

fn backup(source: &Path, target: &Path) -> Result<(), StoreError> {
    let text = target
        .to_str()
        .ok_or_else(|| because("the backup's path is not UTF-8"))?;
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(target)
        .map_err(|error| unavailable(&error))?;
    connect_reading(source)?.execute("VACUUM INTO ?1", [text])?;
    file.sync_all().map_err(|error| unavailable(&error))
}

/// The file with mode 0600: SQLite gives its WAL the same.
fn make_private(path: &Path) -> std::io::Result<()> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))
}

fn connect_writing(path: &Path, settings: Settings) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    prepare(&connection)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // NORMAL loses the last commits in a power cut: not for keys.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Each change has a savepoint, whose undo pages SQLite else writes to a file in /var/tmp for a whole batch: more than
    // half of its writes. In memory they go with the savepoint. They are the pages that one change touches, at most.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    if let Some(pages) = settings.pages_max {
        connection.pragma_update(None, "max_page_count", pages)?;
    }
    Ok(connection)
}

fn connect_reading(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    prepare(&connection)?;
    Ok(connection)
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    Ok(())
}

#[async_trait]
impl Store for SqliteStore {
    async fn commit(&self, change: Change) -> Result<Option<OperationRecord>, StoreError> {
        match self.write(Work::Commit(Encoded::new(change)?)).await? {
            Answer::Earlier(record) => Ok(Some(record)),
            Answer::Done => Ok(None),
            Answer::Term(_) => Err(because("the writer mixed up its answers")),
        }
    }

    async fn operation(&self, key: &str) -> Result<Option<OperationRecord>, StoreError> {
        let key = key.to_owned();
        self.read(move |sql| query::operation(sql, &key)).await
    }

    async fn vault(&self, id: VaultId) -> Result<Option<Vault>, StoreError> {
        self.read(move |sql| query::vault(sql, id)).await
    }

    async fn vault_list(
        &self,
        name: Option<String>,
        page: Page,
    ) -> Result<Paged<Vault>, StoreError> {
        self.read(move |sql| query::vault_list(sql, name.as_deref(), page))
            .await
    }

    async fn vault_counts(&self, id: VaultId) -> Result<[u64; 3], StoreError> {
        self.read(move |sql| query::vault_counts(sql, id)).await
    }

    async fn template(&self, id: TemplateId) -> Result<Option<KeyTemplate>, StoreError> {
        self.read(move |sql| query::template(sql, id)).await
    }

    async fn template_by_name(
        &self,
        vault: VaultId,
        name: &str,
    ) -> Result<Option<KeyTemplate>, StoreError> {
        let name = name.to_owned();
        self.read(move |sql| query::template_by_name(sql, vault, &name))
            .await
    }

    async fn template_list(
        &self,
        vault: Option<VaultId>,
        name: Option<String>,
        page: Page,
    ) -> Result<Paged<KeyTemplate>, StoreError> {
        self.read(move |sql| query::template_list(sql, vault, name.as_deref(), page))
            .await
    }

    async fn keystore(&self, id: KeystoreId) -> Result<Option<KeystoreRecord>, StoreError> {
        self.read(move |sql| query::keystore(sql, id)).await
    }

    async fn keystore_list(
        &self,
        vault: Option<VaultId>,
        group: Option<String>,
        page: Page,
    ) -> Result<Paged<KeystoreRecord>, StoreError> {
        self.read(move |sql| query::keystore_list(sql, vault, group.as_deref(), page))
            .await
    }

    async fn key(&self, id: KeyId) -> Result<Option<ManagedKey>, StoreError> {
        self.read(move |sql| query::key(sql, id)).await
    }

    async fn key_list(
        &self,
        filter: KeyFilter,
        page: Page,
    ) -> Result<Paged<ManagedKey>, StoreError> {
        self.read(move |sql| query::key_list(sql, &filter, page))
            .await
    }

    async fn key_of_version(&self, version: KeyVersionId) -> Result<Option<KeyId>, StoreError> {
        self.read(move |sql| query::key_of_version(sql, version))
            .await
    }

    fn waiting(&self) -> Option<(usize, usize)> {
        Some(match &self.doors {
            Doors::Threads { readers, writer } => (writer.waiting(), readers.waiting()),
            Doors::Memory(_) => (0, 0),
        })
    }

    async fn key_instances(&self, id: KeyId) -> Result<Vec<Instance>, StoreError> {
        self.read(move |sql| query::key_instances(sql, id)).await
    }

    async fn keystore_instances(&self, id: KeystoreId) -> Result<Vec<InstanceRow>, StoreError> {
        self.read(move |sql| query::keystore_instances(sql, id))
            .await
    }

    async fn instances_on(
        &self,
        id: KeystoreId,
        versions: Vec<KeyVersionId>,
    ) -> Result<Vec<Instance>, StoreError> {
        self.read(move |sql| query::instances_on(sql, id, versions))
            .await
    }

    async fn keys_of(
        &self,
        vault: VaultId,
        material: Fingerprint,
    ) -> Result<Vec<ManagedKey>, StoreError> {
        self.read(move |sql| adoption::keys_of(sql, vault, material))
            .await
    }

    async fn key_dated(
        &self,
        (from, to): (Option<String>, String),
        after: Option<KeyId>,
        limit: u32,
    ) -> Result<Vec<ManagedKey>, StoreError> {
        self.read(move |sql| query::key_dated(sql, (from.as_deref(), &to), after, limit))
            .await
    }

    async fn adopted(&self, keystore: KeystoreId) -> Result<Vec<AdoptedId>, StoreError> {
        self.read(move |sql| adoption::adopted(sql, keystore)).await
    }

    async fn ignored(&self, keystore: KeystoreId) -> Result<Vec<Ignored>, StoreError> {
        self.read(move |sql| adoption::ignored(sql, keystore)).await
    }

    async fn copies_lacking(
        &self,
        vault: VaultId,
        keystore: KeystoreId,
        after: Option<KeyVersionId>,
        limit: u32,
    ) -> Result<Vec<KeyVersionId>, StoreError> {
        self.read(move |sql| query::copies_lacking(sql, vault, keystore, after, limit))
            .await
    }

    async fn copies(&self, version: KeyVersionId) -> Result<Vec<RepositoryCopy>, StoreError> {
        self.read(move |sql| query::copies(sql, version)).await
    }

    async fn kek_rotation(&self, keystore: KeystoreId) -> Result<Option<KekRotation>, StoreError> {
        self.read(move |sql| rotation::find(sql, keystore)).await
    }

    async fn copies_below(
        &self,
        keystore: KeystoreId,
        kek: KekNumber,
        after: Option<KeyVersionId>,
        limit: u32,
    ) -> Result<Vec<(KeyVersionId, RepositoryCopy)>, StoreError> {
        self.read(move |sql| rotation::copies_below(sql, keystore, kek, after, limit))
            .await
    }

    async fn copies_below_count(
        &self,
        keystore: KeystoreId,
        kek: KekNumber,
    ) -> Result<u64, StoreError> {
        self.read(move |sql| rotation::copies_below_count(sql, keystore, kek))
            .await
    }

    async fn recovery(&self) -> Result<Option<Recovery>, StoreError> {
        self.read(recovery::find).await
    }

    async fn strangers(&self, keystore: KeystoreId) -> Result<Vec<Stranger>, StoreError> {
        self.read(move |sql| recovery::strangers(sql, keystore))
            .await
    }

    async fn bulk(&self, id: BulkId) -> Result<Option<BulkChange>, StoreError> {
        self.read(move |sql| bulk::find(sql, id)).await
    }

    async fn bulk_list(
        &self,
        states: Vec<&'static str>,
        page: Page,
    ) -> Result<Paged<BulkChange>, StoreError> {
        self.read(move |sql| bulk::list(sql, &states, page)).await
    }

    async fn bulk_keys(
        &self,
        bulk: BulkId,
        filter: BulkKeyFilter,
        page: Page,
    ) -> Result<Paged<BulkKey>, StoreError> {
        self.read(move |sql| bulk::keys(sql, bulk, &filter, page))
            .await
    }

    async fn bulk_key(&self, bulk: BulkId, place: u32) -> Result<Option<BulkKey>, StoreError> {
        self.read(move |sql| bulk::key(sql, bulk, place)).await
    }

    async fn bulk_counts(&self, bulk: BulkId) -> Result<Vec<BulkCount>, StoreError> {
        self.read(move |sql| bulk::counts(sql, bulk)).await
    }

    async fn seen_put(
        &self,
        keystore: KeystoreId,
        seen: Vec<(KeyVersionId, LastSeen)>,
    ) -> Result<(), StoreError> {
        self.write(Work::Seen { keystore, seen })
            .await
            .map(|_done| ())
    }

    async fn seen(&self, version: KeyVersionId) -> Result<Vec<(KeystoreId, LastSeen)>, StoreError> {
        self.read(move |sql| query::seen(sql, version)).await
    }

    async fn lease_take(&self, keystore: KeystoreId, above: Term) -> Result<Term, StoreError> {
        match self.write(Work::Lease { keystore, above }).await? {
            Answer::Term(term) => Ok(term),
            Answer::Earlier(_) | Answer::Done => Err(because("the writer mixed up its answers")),
        }
    }

    async fn audit_list(
        &self,
        subject: Option<String>,
        page: Page,
    ) -> Result<Paged<AuditEntry>, StoreError> {
        self.read(move |sql| query::audit_list(sql, subject.as_deref(), page))
            .await
    }

    async fn backup(&self, at: UnixMs) -> Result<File, StoreError> {
        if let Doors::Memory(_) = self.doors {
            return Err(because("the store is in memory: copy it there"));
        }
        let source = self.path.clone();
        let made = tokio::task::spawn_blocking(move || restored::copy(&source, at, backup));
        made.await.map_err(|gone| unavailable(&gone))?
    }

    async fn checkup(&self) -> Result<Option<Checkup>, StoreError> {
        let path = self.path.clone();
        let found = self.read(move |sql| checkup::look(sql, &path)).await?;
        Ok(Some(found))
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.write(Work::Ping).await.map(|_done| ())
    }
}
