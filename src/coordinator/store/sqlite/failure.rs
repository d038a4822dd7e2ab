//! SQLite's errors as the store's.

use rusqlite::ErrorCode;
use rusqlite::ffi;

use crate::coordinator::store::StoreError;
use crate::coordinator::store::encoded::unavailable;

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        if error.sqlite_error_code() == Some(ErrorCode::DiskFull) {
            Self::Full
        } else {
            unavailable(&error)
        }
    }
}

/// Whether the statement broke a rule of uniqueness, and if so whether that of the id.
pub(crate) fn uniqueness(error: &rusqlite::Error) -> Option<Broken> {
    match error.sqlite_error().map(|inner| inner.extended_code) {
        Some(ffi::SQLITE_CONSTRAINT_PRIMARYKEY) => Some(Broken::Id),
        Some(ffi::SQLITE_CONSTRAINT_UNIQUE) => Some(Broken::Name),
        Some(ffi::SQLITE_CONSTRAINT_FOREIGNKEY) => Some(Broken::Parent),
        Some(_) | None => None,
    }
}

/// Which rule was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The id is there already.
    Id,
    /// The name is taken.
    Name,
    /// What it belongs to is not there.
    Parent,
}

/// Whether the disk failed to confirm what was written. After that nothing is known of what the file will hold, and a second
/// fsync may lie: the store must be opened afresh, which reads what is really there.
pub(crate) fn is_sync_failure(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error().map(|inner| inner.extended_code);
    matches!(
        code,
        Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC)
    )
}
