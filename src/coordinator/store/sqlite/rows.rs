//! Rows and model types: the only place where the two meet.

use rusqlite::Row;
use uuid::Uuid;

use crate::coordinator::store::encoded::because;
use crate::coordinator::store::{OperationRecord, StoreError};
use crate::model::ids::{Digest, OperationId};
use crate::model::vault::UnixMs;

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
