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
pub mod change;
pub mod delete;
pub mod failure;
pub mod instance;
pub mod lock;
pub mod query;
pub mod reader;
pub mod record;
pub mod rotation;
pub mod rows;
pub mod schema;
pub mod writer;

use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OpenFlags};

use crate::coordinator::store::encoded::{Encoded, because, unavailable};
use crate::coordinator::store::sqlite::reader::Readers;
use crate::coordinator::store::sqlite::writer::{Answer, Work, Writer};
use crate::coordinator::store::{
    AdoptedId, Change, InstanceRow, KeyFilter, OperationRecord, Page, Paged, Store, StoreError,
};
use crate::model::adoption::Ignored;
use crate::model::audit::AuditEntry;
use crate::model::desired::Instance;
use crate::model::ids::{KeyId, KeyVersionId, KeystoreId, TemplateId, Term, VaultId};
use crate::model::kek::{KekNumber, KekRotation};
use crate::model::key::ManagedKey;
use crate::model::keystore::KeystoreRecord;
use crate::model::live::LastSeen;
use crate::model::material::RepositoryCopy;
use crate::model::observed::Fingerprint;
use crate::model::template::KeyTemplate;
use crate::model::vault::Vault;

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
    // Readers end before the writer, so that the writer's connection is the last: it empties the WAL.
    readers: Readers,
    writer: Writer,
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
            readers,
            writer,
        })
    }

    /// Writes a consistent copy to a new file (mode 0600) while the store goes on working.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] where the file is there already or cannot be written, [`StoreError::Full`].
    pub async fn backup_to(&self, target: &Path) -> Result<(), StoreError> {
        let (source, target) = (self.path.clone(), target.to_owned());
        let (answer, answered) = tokio::sync::oneshot::channel();
        std::thread::Builder::new()
            .name("store-backup".to_owned())
            .spawn(move || {
                let _caller_gone = answer.send(backup(&source, &target));
            })
            .map_err(|error| unavailable(&error))?;
        answered.await.map_err(|gone| unavailable(&gone))?
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
        match self.writer.run(Work::Commit(Encoded::new(change)?)).await? {
            Answer::Earlier(record) => Ok(Some(record)),
            Answer::Done => Ok(None),
            Answer::Term(_) => Err(because("the writer mixed up its answers")),
        }
    }

    async fn operation(&self, key: &str) -> Result<Option<OperationRecord>, StoreError> {
        let key = key.to_owned();
        self.readers
            .run(move |sql| query::operation(sql, &key))
            .await
    }

    async fn vault(&self, id: VaultId) -> Result<Option<Vault>, StoreError> {
        self.readers.run(move |sql| query::vault(sql, id)).await
    }

    async fn vault_list(
        &self,
        name: Option<String>,
        page: Page,
    ) -> Result<Paged<Vault>, StoreError> {
        self.readers
            .run(move |sql| query::vault_list(sql, name.as_deref(), page))
            .await
    }

    async fn vault_counts(&self, id: VaultId) -> Result<[u64; 3], StoreError> {
        self.readers
            .run(move |sql| query::vault_counts(sql, id))
            .await
    }

    async fn template(&self, id: TemplateId) -> Result<Option<KeyTemplate>, StoreError> {
        self.readers.run(move |sql| query::template(sql, id)).await
    }

    async fn template_by_name(
        &self,
        vault: VaultId,
        name: &str,
    ) -> Result<Option<KeyTemplate>, StoreError> {
        let name = name.to_owned();
        self.readers
            .run(move |sql| query::template_by_name(sql, vault, &name))
            .await
    }

    async fn template_list(
        &self,
        vault: Option<VaultId>,
        name: Option<String>,
        page: Page,
    ) -> Result<Paged<KeyTemplate>, StoreError> {
        self.readers
            .run(move |sql| query::template_list(sql, vault, name.as_deref(), page))
            .await
    }

    async fn keystore(&self, id: KeystoreId) -> Result<Option<KeystoreRecord>, StoreError> {
        self.readers.run(move |sql| query::keystore(sql, id)).await
    }

    async fn keystore_list(
        &self,
        vault: Option<VaultId>,
        group: Option<String>,
        page: Page,
    ) -> Result<Paged<KeystoreRecord>, StoreError> {
        self.readers
            .run(move |sql| query::keystore_list(sql, vault, group.as_deref(), page))
            .await
    }

    async fn key(&self, id: KeyId) -> Result<Option<ManagedKey>, StoreError> {
        self.readers.run(move |sql| query::key(sql, id)).await
    }

    async fn key_list(
        &self,
        filter: KeyFilter,
        page: Page,
    ) -> Result<Paged<ManagedKey>, StoreError> {
        self.readers
            .run(move |sql| query::key_list(sql, &filter, page))
            .await
    }

    async fn key_instances(&self, id: KeyId) -> Result<Vec<Instance>, StoreError> {
        self.readers
            .run(move |sql| query::key_instances(sql, id))
            .await
    }

    async fn keystore_instances(&self, id: KeystoreId) -> Result<Vec<InstanceRow>, StoreError> {
        self.readers
            .run(move |sql| query::keystore_instances(sql, id))
            .await
    }

    async fn keys_of(
        &self,
        vault: VaultId,
        material: Fingerprint,
    ) -> Result<Vec<ManagedKey>, StoreError> {
        self.readers
            .run(move |sql| adoption::keys_of(sql, vault, material))
            .await
    }

    async fn adopted(&self, keystore: KeystoreId) -> Result<Vec<AdoptedId>, StoreError> {
        self.readers
            .run(move |sql| adoption::adopted(sql, keystore))
            .await
    }

    async fn ignored(&self, keystore: KeystoreId) -> Result<Vec<Ignored>, StoreError> {
        self.readers
            .run(move |sql| adoption::ignored(sql, keystore))
            .await
    }

    async fn copies_lacking(
        &self,
        vault: VaultId,
        keystore: KeystoreId,
        after: Option<KeyVersionId>,
        limit: u32,
    ) -> Result<Vec<KeyVersionId>, StoreError> {
        self.readers
            .run(move |sql| query::copies_lacking(sql, vault, keystore, after, limit))
            .await
    }

    async fn copies(&self, version: KeyVersionId) -> Result<Vec<RepositoryCopy>, StoreError> {
        self.readers
            .run(move |sql| query::copies(sql, version))
            .await
    }

    async fn kek_rotation(&self, keystore: KeystoreId) -> Result<Option<KekRotation>, StoreError> {
        self.readers
            .run(move |sql| rotation::find(sql, keystore))
            .await
    }

    async fn copies_below(
        &self,
        keystore: KeystoreId,
        kek: KekNumber,
        after: Option<KeyVersionId>,
        limit: u32,
    ) -> Result<Vec<(KeyVersionId, RepositoryCopy)>, StoreError> {
        self.readers
            .run(move |sql| rotation::copies_below(sql, keystore, kek, after, limit))
            .await
    }

    async fn copies_below_count(
        &self,
        keystore: KeystoreId,
        kek: KekNumber,
    ) -> Result<u64, StoreError> {
        self.readers
            .run(move |sql| rotation::copies_below_count(sql, keystore, kek))
            .await
    }

    async fn seen_put(
        &self,
        keystore: KeystoreId,
        seen: Vec<(KeyVersionId, LastSeen)>,
    ) -> Result<(), StoreError> {
        self.writer
            .run(Work::Seen { keystore, seen })
            .await
            .map(|_done| ())
    }

    async fn seen(&self, version: KeyVersionId) -> Result<Vec<(KeystoreId, LastSeen)>, StoreError> {
        self.readers.run(move |sql| query::seen(sql, version)).await
    }

    async fn lease_take(&self, keystore: KeystoreId, above: Term) -> Result<Term, StoreError> {
        match self.writer.run(Work::Lease { keystore, above }).await? {
            Answer::Term(term) => Ok(term),
            Answer::Earlier(_) | Answer::Done => Err(because("the writer mixed up its answers")),
        }
    }

    async fn audit_list(
        &self,
        subject: Option<String>,
        page: Page,
    ) -> Result<Paged<AuditEntry>, StoreError> {
        self.readers
            .run(move |sql| query::audit_list(sql, subject.as_deref(), page))
            .await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.writer.run(Work::Ping).await.map(|_done| ())
    }
}
