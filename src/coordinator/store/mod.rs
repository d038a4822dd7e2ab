//! The store: what is wanted, durably. SQL lives here and nowhere else.
//!
//! Owns: the trait [`Store`] with its records and errors, `sqlite` for one coordinator, `postgres` for several. Never: decides; every write is conditional on
//! data that the caller read (promises R16), so a stale caller changes nothing.

pub mod bounds;
pub mod copy;
mod encoded;
pub mod postgres;
pub mod sharing;
pub mod sqlite;

use std::collections::BTreeSet;

use async_trait::async_trait;

use crate::coordinator::store::sharing::Sharing;
use crate::model::adoption::Ignored;
use crate::model::audit::AuditEntry;
use crate::model::bulk::{BulkChange, BulkKey, Outcome};
use crate::model::desired::Instance;
use crate::model::ids::{
    BulkId, Digest, Generation, KeyId, KeyVersionId, KeystoreId, OperationId, Revision, TemplateId,
    Term, VaultId,
};
use crate::model::kek::{KekNumber, KekRotation};
use crate::model::key::ManagedKey;
use crate::model::keystore::KeystoreRecord;
use crate::model::live::LastSeen;
use crate::model::material::RepositoryCopy;
use crate::model::observed::Fingerprint;
use crate::model::recovery::{Recovery, Stranger};
use crate::model::template::KeyTemplate;
use crate::model::vault::{UnixMs, Vault};

/// One atomic change: all of it or nothing, durable when `commit` returns.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// The operation, if a client may ask for it again.
    pub operation: Option<OperationRecord>,
    /// The writes, in order.
    pub writes: Vec<Write>,
    /// What is kept about it.
    pub audit: Vec<AuditEntry>,
}

/// A request that was carried out, so that the same one again gets the same answer. Kept 30 days.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationRecord {
    /// The Idempotency-Key as sent, or the operation id.
    pub key: String,
    /// The operation.
    pub id: OperationId,
    /// SHA-256 of method, path and body: another request under the same key is refused.
    pub request: Digest,
    /// The HTTP status it got.
    pub status: u16,
    /// What it was about, such as `key/<id>`: the answer is made afresh from it.
    pub subject: String,
    /// When.
    pub at: UnixMs,
}

/// One write, conditional on what was read.
#[derive(Debug, Clone)]
pub enum Write {
    /// A new vault; the name must be free.
    VaultInsert(Vault),
    /// A vault, if its revision is still the expected one.
    VaultUpdate { record: Vault, expected: Revision },
    /// Refused with `InUse` while a key, a keystore or a template that is not archived belongs to it. Archived ones go with it.
    VaultDelete { id: VaultId, expected: Revision },
    /// A new template; the name must be free in its vault.
    TemplateInsert(KeyTemplate),
    /// A template, if its revision is still the expected one.
    TemplateUpdate {
        record: KeyTemplate,
        expected: Revision,
    },
    /// Refused with `InUse` while a key refers to it.
    TemplateDelete { id: TemplateId, expected: Revision },
    /// A new keystore; name (in its vault) and id must be free.
    KeystoreInsert(KeystoreRecord),
    /// A keystore, if its revision is still the expected one.
    KeystoreUpdate {
        record: KeystoreRecord,
        expected: Revision,
    },
    /// Refused with `InUse` while an instance that is not destroyed, or a repository copy, is on it. Instances that are
    /// destroyed stay with their keys, and the lease's term stays: the token may come back, and its agent remembers.
    KeystoreDelete { id: KeystoreId, expected: Revision },
    /// A new key; the label must be free in its vault.
    KeyInsert(Box<ManagedKey>),
    /// A key, if its revision is still the expected one.
    KeyUpdate {
        record: Box<ManagedKey>,
        expected: Revision,
    },
    /// A key's record with its instances and what was last seen of them. Refused with `InUse` while a repository copy of one of
    /// its versions is left: material is erased by name, never forgotten.
    KeyDelete { id: KeyId, expected: Revision },
    /// A repository copy.
    CopyInsert {
        version: KeyVersionId,
        copy: RepositoryCopy,
    },
    /// One more repository copy of a version that has one: a version whose copies were erased gets none again. `Conflict`
    /// if it has none; one of the same keystore is replaced.
    CopyAdd {
        version: KeyVersionId,
        copy: RepositoryCopy,
    },
    /// Erases all repository copies of a version.
    CopiesErase { version: KeyVersionId },
    /// The rotation of a keystore's wrapping key, if the one that is there has still the expected revision; `None`: there must
    /// be none yet. From then on a copy under a wrapping key below the demanded one is a `Conflict`, whoever brings it.
    KekRotationPut {
        record: KekRotation,
        expected: Option<Revision>,
    },
    /// An instance, if its generation is still the expected one and the new one is not lower; `None`: there must be none yet,
    /// and the keystore must be there. `Conflict` too where another adopted one has its CKA_ID on that keystore.
    InstancePut {
        key: KeyId,
        instance: Box<Instance>,
        expected: Option<Generation>,
    },
    /// That the store is older than its agents, if what is known of it has still the expected revision; `None`: it must not be
    /// known yet. Without a record: an operator has looked, and it is over.
    RecoveryPut {
        record: Option<Recovery>,
        expected: Option<Revision>,
    },
    /// A key that an agent keeps and the store does not know was seen by an operator.
    StrangerPut(Stranger),
    /// Nothing, if no other key of the vault that is not destroyed has that material; else `Conflict`.
    MaterialAlone {
        vault: VaultId,
        material: Fingerprint,
        key: KeyId,
    },
    /// A key on a token that is left to others; one that was so before gets the new reason.
    IgnorePut(Ignored),
    /// It is not any more; `Conflict` if it was not.
    IgnoreDelete {
        keystore: KeystoreId,
        cka_id: Vec<u8>,
        label: String,
    },
    /// A new bulk change with its keys. Those that ended 90 days before go, a few at a time.
    BulkInsert {
        record: Box<BulkChange>,
        keys: Vec<BulkKey>,
    },
    /// A bulk change, if its revision is still the expected one.
    BulkUpdate {
        record: Box<BulkChange>,
        expected: Revision,
    },
    /// A key of a bulk change, if its outcome is still the expected one, the bulk change runs, and its wave has begun: so
    /// whoever comes later, or after a stop, changes nothing, nor whatever is written with it. What came of a key that is
    /// changing is written after a stop too.
    BulkKeyPut {
        bulk: BulkId,
        row: Box<BulkKey>,
        expected: Outcome,
    },
}

/// Why the store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Somebody else was faster: read again.
    #[error("changed meanwhile: {what}")]
    Conflict {
        /// What, such as `key/<id>`.
        what: String,
    },
    /// There is no such record.
    #[error("no such {what}")]
    NotFound {
        /// What.
        what: String,
    },
    /// The name is taken.
    #[error("{field} {value:?} is taken")]
    Taken {
        /// Which field.
        field: String,
        /// Which value.
        value: String,
    },
    /// Something still depends on it.
    #[error("in use by {count} others, such as {}", blockers.join(", "))]
    InUse {
        /// At most 20 of them, as `kind/<id> name`.
        blockers: Vec<String>,
        /// How many there are.
        count: u64,
    },
    /// The operation's key was used for another request.
    #[error("the idempotency key was used for another request")]
    OperationReused,
    /// The disk is full: nothing was written.
    #[error("the store's disk is full: nothing was written")]
    Full,
    /// The store cannot be used.
    #[error("the store failed: {detail}")]
    Unavailable {
        /// The library's error.
        detail: String,
    },
}

/// A page of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// At most this many, 1 to 1000.
    pub limit: u32,
    /// From this one on, 0-based.
    pub offset: u32,
}

/// What a list gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paged<T> {
    /// How many there are in all.
    pub total: u64,
    /// Those of the page.
    pub items: Vec<T>,
}

/// Which keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyFilter {
    /// Of this vault.
    pub vault: Option<VaultId>,
    /// Of one of these states; empty: all.
    pub states: Vec<crate::model::lifecycle::ManagedState>,
    /// With exactly this label.
    pub label: Option<String>,
    /// Made from this template.
    pub template: Option<TemplateId>,
    /// With an instance on this keystore.
    pub keystore: Option<KeystoreId>,
    /// Field names of API v4 (`label`, `created_at`, ...), true: descending. Ties by id.
    pub sort: Vec<(String, bool)>,
}

/// Which keys of a bulk change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BulkKeyFilter {
    /// Of this wave; 0: of none.
    pub wave: Option<u32>,
    /// With one of these outcomes; empty: all.
    pub outcomes: Vec<Outcome>,
}

/// How many keys of a wave have an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BulkCount {
    /// The wave; 0: none.
    pub wave: u32,
    /// The outcome.
    pub outcome: Outcome,
    /// How many.
    pub count: u32,
    /// When the last of them came to it.
    pub last: UnixMs,
}

/// An instance with the key it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceRow {
    /// The key.
    pub key: KeyId,
    /// The instance.
    pub instance: Instance,
}

/// A CKA_ID under which a key was adopted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdoptedId {
    /// The CKA_ID.
    pub cka_id: Vec<u8>,
    /// The key.
    pub key: KeyId,
}

/// What a look at the store itself found: its pages and references, its log, its disk. One snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Checkup {
    /// The engine's complaints about the file, at most 100; empty: it is whole.
    pub damage: Vec<String>,
    /// Rows that refer to a row that is not there, at most 100, for people.
    pub dangling: Vec<String>,
    /// How many audit entries there are.
    pub audit_entries: u64,
    /// Number of the last audit entry that was ever written; the same as their count where none was taken away.
    pub audit_last: u64,
    /// Digests of the intents in the audit log.
    pub audited_intents: BTreeSet<Digest>,
    /// Operations in the audit log.
    pub audited: BTreeSet<OperationId>,
    /// Operations that were answered, as far back as they are kept.
    pub answered: BTreeSet<OperationId>,
    /// Bytes that the store takes.
    pub bytes: u64,
    /// Bytes that are free on its disk.
    pub free_bytes: u64,
}

/// The store. Reads give a consistent snapshot each; `commit` is the only way to change what is wanted.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Carries out a change. With an operation whose key is known and whose request is the same, nothing is written and the
    /// earlier record comes back.
    async fn commit(&self, change: Change) -> Result<Option<OperationRecord>, StoreError>;
    /// The operation under a key.
    async fn operation(&self, key: &str) -> Result<Option<OperationRecord>, StoreError>;

    /// One vault.
    async fn vault(&self, id: VaultId) -> Result<Option<Vault>, StoreError>;
    /// Vaults by name prefix, sorted by name.
    async fn vault_list(
        &self,
        name: Option<String>,
        page: Page,
    ) -> Result<Paged<Vault>, StoreError>;
    /// How many keys, templates and keystores a vault has, in this order.
    async fn vault_counts(&self, id: VaultId) -> Result<[u64; 3], StoreError>;

    /// One template.
    async fn template(&self, id: TemplateId) -> Result<Option<KeyTemplate>, StoreError>;
    /// The template of that name.
    async fn template_by_name(
        &self,
        vault: VaultId,
        name: &str,
    ) -> Result<Option<KeyTemplate>, StoreError>;
    /// Templates, sorted by name.
    async fn template_list(
        &self,
        vault: Option<VaultId>,
        name: Option<String>,
        page: Page,
    ) -> Result<Paged<KeyTemplate>, StoreError>;

    /// One keystore.
    async fn keystore(&self, id: KeystoreId) -> Result<Option<KeystoreRecord>, StoreError>;
    /// Keystores, sorted by name; those of one group if one is named.
    async fn keystore_list(
        &self,
        vault: Option<VaultId>,
        group: Option<String>,
        page: Page,
    ) -> Result<Paged<KeystoreRecord>, StoreError>;

    /// One key.
    async fn key(&self, id: KeyId) -> Result<Option<ManagedKey>, StoreError>;
    /// Keys.
    async fn key_list(
        &self,
        filter: KeyFilter,
        page: Page,
    ) -> Result<Paged<ManagedKey>, StoreError>;
    /// The key that a version is of.
    async fn key_of_version(&self, version: KeyVersionId) -> Result<Option<KeyId>, StoreError>;
    /// Keys with a date that is still to act from the first day to the last (`YYYY-MM-DD`; `None`: ever before), and those with
    /// a version that waits to be given out, at most `limit`, ordered by id, from `after` on.
    async fn key_dated(
        &self,
        days: (Option<String>, String),
        after: Option<KeyId>,
        limit: u32,
    ) -> Result<Vec<ManagedKey>, StoreError>;
    /// How much waits to be written and to be read, where this process has queues for it.
    fn waiting(&self) -> Option<(usize, usize)> {
        None
    }
    /// All instances of a key.
    async fn key_instances(&self, id: KeyId) -> Result<Vec<Instance>, StoreError>;
    /// All instances on a keystore, ordered by version: what a pass reads.
    async fn keystore_instances(&self, id: KeystoreId) -> Result<Vec<InstanceRow>, StoreError>;
    /// Those of these versions on a keystore, in one snapshot, ordered by version; what is not there is left out.
    async fn instances_on(
        &self,
        id: KeystoreId,
        versions: Vec<KeyVersionId>,
    ) -> Result<Vec<Instance>, StoreError>;
    /// Keys of a vault with that material, at most 20; the fingerprint is under the vault's salt.
    async fn keys_of(
        &self,
        vault: VaultId,
        material: Fingerprint,
    ) -> Result<Vec<ManagedKey>, StoreError>;
    /// The adopted instances on a keystore, by CKA_ID.
    async fn adopted(&self, keystore: KeystoreId) -> Result<Vec<AdoptedId>, StoreError>;
    /// What on a keystore is left to others, by CKA_ID and label.
    async fn ignored(&self, keystore: KeystoreId) -> Result<Vec<Ignored>, StoreError>;
    /// Versions of keys in a vault that have a repository copy and none on this keystore, at most `limit`, in a fixed order
    /// from `after` on.
    async fn copies_lacking(
        &self,
        vault: VaultId,
        keystore: KeystoreId,
        after: Option<KeyVersionId>,
        limit: u32,
    ) -> Result<Vec<KeyVersionId>, StoreError>;
    /// Repository copies of a version.
    async fn copies(&self, version: KeyVersionId) -> Result<Vec<RepositoryCopy>, StoreError>;

    /// The last rotation of a keystore's wrapping key.
    async fn kek_rotation(&self, keystore: KeystoreId) -> Result<Option<KekRotation>, StoreError>;
    /// Copies of a keystore under wrapping keys below this one, at most `limit`, in a fixed order from `after` on.
    async fn copies_below(
        &self,
        keystore: KeystoreId,
        kek: KekNumber,
        after: Option<KeyVersionId>,
        limit: u32,
    ) -> Result<Vec<(KeyVersionId, RepositoryCopy)>, StoreError>;
    /// How many those are in all.
    async fn copies_below_count(
        &self,
        keystore: KeystoreId,
        kek: KekNumber,
    ) -> Result<u64, StoreError>;

    /// Why the store is taken to be older than its agents, while an operator has not looked.
    async fn recovery(&self) -> Result<Option<Recovery>, StoreError>;
    /// Keys that a keystore's agent keeps, the store does not know, and an operator has seen.
    async fn strangers(&self, keystore: KeystoreId) -> Result<Vec<Stranger>, StoreError>;

    /// One bulk change.
    async fn bulk(&self, id: BulkId) -> Result<Option<BulkChange>, StoreError>;
    /// Bulk changes in one of these states (none: all), newest first.
    async fn bulk_list(
        &self,
        states: Vec<&'static str>,
        page: Page,
    ) -> Result<Paged<BulkChange>, StoreError>;
    /// Keys of a bulk change, in their order.
    async fn bulk_keys(
        &self,
        bulk: BulkId,
        filter: BulkKeyFilter,
        page: Page,
    ) -> Result<Paged<BulkKey>, StoreError>;
    /// The key at a place of a bulk change.
    async fn bulk_key(&self, bulk: BulkId, place: u32) -> Result<Option<BulkKey>, StoreError>;
    /// How many keys of a bulk change are how far, wave by wave.
    async fn bulk_counts(&self, bulk: BulkId) -> Result<Vec<BulkCount>, StoreError>;

    /// Notes what was last seen, of instances that there are. A cache for people: may be lost, never counted.
    async fn seen_put(
        &self,
        keystore: KeystoreId,
        seen: Vec<(KeyVersionId, LastSeen)>,
    ) -> Result<(), StoreError>;
    /// What was last seen of a version, by keystore.
    async fn seen(&self, version: KeyVersionId) -> Result<Vec<(KeystoreId, LastSeen)>, StoreError>;

    /// Takes the keystore's lease: a term above every earlier one and at least `above`. `Conflict` while another coordinator
    /// holds it.
    async fn lease_take(&self, keystore: KeystoreId, above: Term) -> Result<Term, StoreError>;

    /// The newest audit entries about a subject (all: `None`), newest first.
    async fn audit_list(
        &self,
        subject: Option<String>,
        page: Page,
    ) -> Result<Paged<AuditEntry>, StoreError>;
    /// A consistent copy as of now, which says of itself that it is one, in an open file without a name.
    async fn backup(&self, at: UnixMs) -> Result<std::fs::File, StoreError>;
    /// Looks the store over, page by page, and changes nothing: takes a second for each few hundred MiB. `None` where the engine
    /// has no such look.
    async fn checkup(&self) -> Result<Option<Checkup>, StoreError> {
        Ok(None)
    }
    /// Proves that the store can write: a no-op commit.
    async fn ping(&self) -> Result<(), StoreError>;
    /// What coordinators that share the store tell each other; none: it serves one alone.
    fn sharing(&self) -> Option<&dyn Sharing> {
        None
    }
}
