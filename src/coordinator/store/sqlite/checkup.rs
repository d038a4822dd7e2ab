//! A look at the store itself, for `lockstep doctor`: every page, every reference, the whole log.

use std::collections::BTreeSet;
use std::path::Path;

use rusqlite::Connection;

use crate::coordinator::store::encoded::{decode, from_number, unavailable};
use crate::coordinator::store::sqlite::rows;
use crate::coordinator::store::{Checkup, StoreError};
use crate::model::audit::AuditEntry;
use crate::model::ids::{Digest, OperationId};

/// Most complaints of a kind: what one bad page spoils is no use in full.
const COMPLAINTS_MAX: usize = 100;

/// Looks, within the snapshot of the connection.
///
/// # Errors
/// Only where nothing can be read at all: damage is what it tells.
pub(crate) fn look(sql: &Connection, path: &Path) -> Result<Checkup, StoreError> {
    let damage = damage(sql)?;
    let (audited_intents, audited) = log(sql)?;
    let (audit_entries, audit_last) = sql.query_row(
        "SELECT count(*), ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'audit'), 0) FROM audit",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let bytes: i64 = sql.query_row(
        "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
        [],
        |row| row.get(0),
    )?;
    let disk = rustix::fs::statvfs(path).map_err(|error| unavailable(&error))?;
    Ok(Checkup {
        damage,
        dangling: dangling(sql)?,
        audit_entries: from_number(audit_entries)?,
        audit_last: from_number(audit_last)?,
        audited_intents,
        audited,
        answered: answered(sql)?,
        bytes: from_number(bytes)?,
        free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
    })
}

fn damage(sql: &Connection) -> Result<Vec<String>, StoreError> {
    let mut statement = sql.prepare(&format!("PRAGMA integrity_check({COMPLAINTS_MAX})"))?;
    let told = statement.query_map([], |row| row.get::<_, String>(0))?;
    let told: Vec<String> = told.collect::<Result<_, _>>()?;
    Ok(match told.as_slice() {
        [line] if line == "ok" => Vec::new(),
        [] => vec!["SQLite said nothing about the file".to_owned()],
        _ => told,
    })
}

fn dangling(sql: &Connection) -> Result<Vec<String>, StoreError> {
    let mut statement = sql.prepare("PRAGMA foreign_key_check")?;
    let told = statement.query_map([], |row| {
        let (table, parent): (String, String) = (row.get(0)?, row.get(2)?);
        Ok(format!("a row of {table} refers to no {parent}"))
    })?;
    Ok(told.take(COMPLAINTS_MAX).collect::<Result<_, _>>()?)
}

fn log(sql: &Connection) -> Result<(BTreeSet<Digest>, BTreeSet<OperationId>), StoreError> {
    let mut statement = sql.prepare("SELECT record FROM audit")?;
    let mut found = statement.query([])?;
    let (mut intents, mut operations) = (BTreeSet::new(), BTreeSet::new());
    while let Some(row) = found.next()? {
        let entry: AuditEntry = decode(&row.get::<_, String>(0)?)?;
        intents.extend(entry.intents);
        operations.insert(entry.operation);
    }
    Ok((intents, operations))
}

fn answered(sql: &Connection) -> Result<BTreeSet<OperationId>, StoreError> {
    let mut statement = sql.prepare("SELECT id FROM operation")?;
    let mut found = statement.query([])?;
    let mut operations = BTreeSet::new();
    while let Some(row) = found.next()? {
        let id: Vec<u8> = row.get(0)?;
        operations.insert(OperationId::from_uuid(rows::uuid(&id)?));
    }
    Ok(operations)
}
