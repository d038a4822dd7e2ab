//! PostgreSQL's errors as the store's, by what is to be done next.

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::coordinator::store::StoreError;
use crate::coordinator::store::encoded::because;

/// Why a statement or a transaction was not carried out.
#[derive(Debug, Clone)]
pub(crate) enum Problem {
    /// The data refuse it: the caller hears it, others are not concerned.
    Refused(StoreError),
    /// It met another transaction, or its line broke before COMMIT was sent: nothing was written, and it may go well at once.
    Again(StoreError),
    /// The database cannot do it now.
    Broken(StoreError),
}

impl Problem {
    /// What the caller hears.
    pub(crate) fn told(self) -> StoreError {
        match self {
            Self::Refused(error) | Self::Again(error) | Self::Broken(error) => error,
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full | StoreError::Unavailable { .. } => Self::Broken(error),
            StoreError::Conflict { .. }
            | StoreError::NotFound { .. }
            | StoreError::Taken { .. }
            | StoreError::InUse { .. }
            | StoreError::OperationReused => Self::Refused(error),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let told = because(&text(&error));
        match error.code() {
            Some(code) if *code == SqlState::DISK_FULL => Self::Broken(StoreError::Full),
            Some(code) if is_transient(code) => Self::Again(told),
            None if error.is_closed() => Self::Again(told),
            Some(_) | None => Self::Broken(told),
        }
    }
}

/// Serialization failure, deadlock, and what a server says while it goes down or fails over.
fn is_transient(code: &SqlState) -> bool {
    [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        SqlState::READ_ONLY_SQL_TRANSACTION,
    ]
    .contains(code)
}

/// The error with its cause, in a line. Values of rows are in the server's DETAIL, which is left out.
pub(crate) fn text(error: &Error) -> String {
    match error.as_db_error() {
        Some(told) => format!("PostgreSQL: {} ({})", told.message(), told.code().code()),
        None => match std::error::Error::source(error) {
            Some(cause) => format!("PostgreSQL: {error}: {cause}"),
            None => format!("PostgreSQL: {error}"),
        },
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

/// Which rule of the schema the statement broke, if it did.
pub(crate) fn rule(error: &Error) -> Option<Broken> {
    let told = error.as_db_error()?;
    if *told.code() == SqlState::FOREIGN_KEY_VIOLATION {
        return Some(Broken::Parent);
    }
    if *told.code() != SqlState::UNIQUE_VIOLATION {
        return None;
    }
    let is_id = told
        .constraint()
        .is_some_and(|name| name.ends_with("_pkey"));
    Some(if is_id { Broken::Id } else { Broken::Name })
}
