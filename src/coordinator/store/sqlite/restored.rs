//! Copies of the file: each says of itself that it is one, so that a coordinator which opens it knows.

use std::fs::{File, remove_file};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use crate::coordinator::store::StoreError;
use crate::coordinator::store::encoded::{encode, unavailable};
use crate::coordinator::store::sqlite::{OpenError, prepare, recovery, schema};
use crate::model::ids::Revision;
use crate::model::recovery::{Evidence, Recovery};
use crate::model::vault::UnixMs;

/// A copy that was looked over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestoredStore {
    /// When it was made; none where it does not say so.
    pub made_at: Option<UnixMs>,
}

impl RestoredStore {
    /// Looks a copy over, from its first page to its last.
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn check(path: &Path) -> Result<Self, OpenError> {
        let sql = |source| OpenError::Sql {
            path: path.to_owned(),
            source,
        };
        let damaged = |detail: String| OpenError::Damaged {
            path: path.to_owned(),
            detail,
        };
        let connection = writing(path).map_err(sql)?;
        let found: String = connection
            .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
            .map_err(|error| damaged(error.to_string()))?;
        if found != "ok" {
            return Err(damaged(found));
        }
        // A copy of an earlier program gets its tables here, and not the next time somebody starts.
        schema::migrate(&connection, path)?;
        let recovery = recovery::find(&connection).map_err(|error| damaged(error.to_string()))?;
        let evidence = recovery.map(|recovery| recovery.evidence);
        let made_at = evidence
            .into_iter()
            .flatten()
            .rev()
            .find_map(|one| match one {
                Evidence::Restored { backup_at } => Some(backup_at),
                Evidence::HigherTerm { .. }
                | Evidence::Ahead { .. }
                | Evidence::Stranger { .. } => None,
            });
        Ok(Self { made_at })
    }
}

/// A copy as of now in an open file that has no name any more.
pub(crate) fn copy(
    source: &Path,
    at: UnixMs,
    write: impl FnOnce(&Path, &Path) -> Result<(), StoreError>,
) -> Result<File, StoreError> {
    let target = beside(source, at);
    let made = write(source, &target)
        .and_then(|()| mark(&target, at))
        .and_then(|()| File::open(&target).map_err(|error| unavailable(&error)));
    let _never_made = remove_file(&target);
    made
}

fn beside(source: &Path, at: UnixMs) -> PathBuf {
    let mut name = source.file_name().unwrap_or_default().to_owned();
    name.push(format!(".copy-{}-{}", std::process::id(), at.0));
    source.with_file_name(name)
}

fn mark(copy: &Path, at: UnixMs) -> Result<(), StoreError> {
    let connection = writing(copy)?;
    let before = recovery::find(&connection)?;
    let expected = before.as_ref().map(|known| known.revision);
    let mut record = before.unwrap_or(Recovery {
        revision: Revision(0),
        noticed_at: at,
        evidence: Vec::new(),
    });
    record.revision = Revision(record.revision.0.saturating_add(1));
    record.evidence.push(Evidence::Restored { backup_at: at });
    let text = encode(&record)?;
    recovery::put(&connection, Some(&record), expected, &text)
}

/// Without a WAL: the copy is one file.
fn writing(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    prepare(&connection)?;
    connection.pragma_update(None, "journal_mode", "DELETE")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}
