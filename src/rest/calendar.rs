//! The calendar of dates that are to act.

use serde::{Deserialize, Serialize};

use crate::model::lifecycle::ManagedState;
use crate::rest::extension::KeyRef;

/// GET /api/lockstep/v1/calendar
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calendar {
    /// By day, then label.
    pub dates: Vec<CalendarDate>,
}

/// A date that is to act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalendarDate {
    /// `YYYY-MM-DD`: it acts at 00:00 UTC.
    pub date: String,
    /// `activation`, `expiration`, `rotation` or `erasure`.
    pub kind: String,
    /// The key.
    pub managed_key: KeyRef,
    /// Its state now.
    pub state: ManagedState,
    /// Whether the day has come and it has not acted.
    pub overdue: bool,
    /// What it will do, or why it does nothing, for people.
    pub message: String,
}
