//! Records as the text of their columns, numbers as SQL keeps them: the same in every store.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::coordinator::store::bounds::WRITES_MAX;
use crate::coordinator::store::{Change, StoreError, Write};
use crate::model::audit::AuditEntry;

/// The store cannot be used, for this reason.
pub(crate) fn because(detail: &str) -> StoreError {
    StoreError::Unavailable {
        detail: detail.to_owned(),
    }
}

/// The store cannot be used, for what another layer says.
pub(crate) fn unavailable(error: &dyn std::error::Error) -> StoreError {
    because(&error.to_string())
}

/// A record as the text of its column.
pub(crate) fn encode<T: Serialize>(record: &T) -> Result<String, StoreError> {
    serde_json::to_string(record)
        .map_err(|error| because(&format!("a record cannot be written: {error}")))
}

/// A record from the text of its column. Fields that this program does not know are left alone.
pub(crate) fn decode<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text)
        .map_err(|error| because(&format!("a record cannot be read: {error}")))
}

/// A number as SQL keeps it: at most 2^63 - 1.
pub(crate) fn number(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|error| because(&format!("number {number} in a record: {error}")))
}

/// A number from SQL.
pub(crate) fn from_number(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|error| because(&format!("number {number} in a row: {error}")))
}

/// A change with the texts of its records: callers encode them side by side, not the writer one by one.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) change: Change,
    /// One for each write, empty where it has no record.
    writes: Vec<String>,
    /// One for each audit entry.
    audit: Vec<String>,
}

impl Encoded {
    /// Encodes the records of a change.
    pub(crate) fn new(change: Change) -> Result<Self, StoreError> {
        let count = change.writes.len();
        if count > WRITES_MAX {
            return Err(because(&format!(
                "{count} writes in one change; at most {WRITES_MAX}"
            )));
        }
        let writes: Result<_, _> = change.writes.iter().map(record_of).collect();
        let audit: Result<_, _> = change.audit.iter().map(encode).collect();
        Ok(Self {
            writes: writes?,
            audit: audit?,
            change,
        })
    }

    /// The writes in order, each with its text.
    pub(crate) fn writes(&self) -> impl Iterator<Item = (&Write, &str)> {
        let texts = self.writes.iter().map(String::as_str);
        self.change.writes.iter().zip(texts)
    }

    /// The audit entries in order, each with its text.
    pub(crate) fn audit(&self) -> impl Iterator<Item = (&AuditEntry, &str)> {
        let texts = self.audit.iter().map(String::as_str);
        self.change.audit.iter().zip(texts)
    }
}

fn record_of(write: &Write) -> Result<String, StoreError> {
    match write {
        Write::VaultInsert(record) | Write::VaultUpdate { record, .. } => encode(record),
        Write::TemplateInsert(record) | Write::TemplateUpdate { record, .. } => encode(record),
        Write::KeystoreInsert(record) | Write::KeystoreUpdate { record, .. } => encode(record),
        Write::KeyInsert(record) | Write::KeyUpdate { record, .. } => encode(record),
        Write::CopyInsert { copy, .. } | Write::CopyAdd { copy, .. } => encode(copy),
        Write::InstancePut { instance, .. } => encode(instance),
        Write::KekRotationPut { record, .. } => encode(record),
        Write::RecoveryPut { record, .. } => encode(record),
        Write::StrangerPut(stranger) => encode(stranger),
        Write::IgnorePut(ignored) => encode(ignored),
        Write::BulkInsert { record, .. } | Write::BulkUpdate { record, .. } => encode(record),
        Write::BulkKeyPut { row, .. } => encode(row),
        Write::VaultDelete { .. }
        | Write::TemplateDelete { .. }
        | Write::KeystoreDelete { .. }
        | Write::KeyDelete { .. }
        | Write::CopiesErase { .. }
        | Write::MaterialAlone { .. }
        | Write::IgnoreDelete { .. } => Ok(String::new()),
    }
}
