//! A store without a file, for simulations: the same statements on one connection, carried out by whoever asks.
//!
//! Owns: nothing but the lock around that connection. Never: a thread, a disk, a promise that outlives the process.

use std::sync::{Mutex, PoisonError};

use rusqlite::Connection;
use rusqlite::backup::Backup;

use crate::coordinator::store::StoreError;
use crate::coordinator::store::sqlite::writer::{Outcome, Work, alone};
use crate::coordinator::store::sqlite::{prepare, reader};

/// An empty database without a schema.
pub(crate) fn open() -> rusqlite::Result<Connection> {
    let connection = Connection::open_in_memory()?;
    prepare(&connection)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(connection)
}

/// A database that holds what this one holds now.
pub(crate) fn copy(from: &Mutex<Connection>) -> Result<Connection, StoreError> {
    let from = from.lock().unwrap_or_else(PoisonError::into_inner);
    let mut to = open()?;
    Backup::new(&from, &mut to)?.step(-1)?;
    Ok(to)
}

/// Runs a query.
pub(crate) fn read<T>(
    connection: &Mutex<Connection>,
    query: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
    reader::in_snapshot(&connection, query)
}

/// Does work.
pub(crate) fn write(connection: &Mutex<Connection>, work: &Work) -> Outcome {
    alone(
        &connection.lock().unwrap_or_else(PoisonError::into_inner),
        work,
    )
}
