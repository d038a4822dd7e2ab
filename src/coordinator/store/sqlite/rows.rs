//! Rows and model types: the only place where the two meet.

use rusqlite::Row;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::coordinator::store::sqlite::failure::because;
use crate::coordinator::store::{OperationRecord, StoreError};
use crate::model::ids::{Digest, OperationId};
use crate::model::vault::UnixMs;

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

/// A number as SQLite keeps it: at most 2^63 - 1.
pub(crate) fn number(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|error| because(&format!("number {number} in a record: {error}")))
}

/// A number from SQLite.
pub(crate) fn from_number(number: i64) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|error| because(&format!("number {number} in a row: {error}")))
}

/// A UUID from its 16 bytes.
pub(crate) fn uuid(bytes: &[u8]) -> Result<Uuid, StoreError> {
    Uuid::from_slice(bytes).map_err(|error| because(&format!("an id in a row: {error}")))
}

/// Columns of an operation, in the order that [`operation`] reads.
pub(crate) const OPERATION: &str = "key, id, request, status, subject, at";

/// An operation from its row.
pub(crate) fn operation(row: &Row<'_>) -> Result<OperationRecord, StoreError> {
    let id: Vec<u8> = row.get(1)?;
    let request: Vec<u8> = row.get(2)?;
    Ok(OperationRecord {
        key: row.get(0)?,
        id: OperationId::from_uuid(uuid(&id)?),
        request: Digest::from_slice(&request)
            .ok_or_else(|| because("an operation's digest is not 32 bytes"))?,
        status: row.get(3)?,
        subject: row.get(4)?,
        at: UnixMs(row.get(5)?),
    })
}
