//! What dates demand of a key, and whether the clock that says what day it is may be believed.
//!
//! Days are `YYYY-MM-DD` in UTC; of two such texts the earlier day is the lesser. Every date acts at 00:00 UTC of its day, once,
//! and also when nobody was there at that hour. What people did since stands: only a key that was never activated is activated
//! by a date, and an expiration that was carried out is not carried out again.

use crate::model::ids::KeyId;
use crate::model::key::ManagedKey;
use crate::model::lifecycle::ManagedState;

/// What is to be done with a key now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// Its destruction was held until this day.
    Erase(String),
    /// Its expiration date has come.
    Expire(String),
    /// Its activation date has come.
    Activate(String),
    /// The version of this number was made, and is given out once it is kept well enough.
    FinishRotation(u32),
    /// Its rotation date has come.
    Rotate(String),
}

impl Due {
    /// Names the very act, whoever carries it out: the key, what, and its day.
    #[must_use]
    pub fn operation(&self, key: KeyId) -> String {
        match self {
            Self::Erase(day) => format!("schedule/{key}/erase/{day}"),
            Self::Expire(day) => format!("schedule/{key}/expire/{day}"),
            Self::Activate(day) => format!("schedule/{key}/activate/{day}"),
            Self::FinishRotation(number) => format!("schedule/{key}/give-out/{number}"),
            Self::Rotate(day) => format!("schedule/{key}/rotate/{day}"),
        }
    }

    /// Who acts, in audit and stamps.
    #[must_use]
    pub const fn actor(&self) -> &'static str {
        match self {
            Self::Erase(_) => "lockstep: end of hold",
            Self::Expire(_) => "lockstep: expiration date",
            Self::Activate(_) => "lockstep: activation date",
            Self::FinishRotation(_) => "lockstep: rotation",
            Self::Rotate(_) => "lockstep: rotation date",
        }
    }
}

/// The most pressing thing to do with a key today; what reduces use comes first.
#[must_use]
pub fn due(key: &ManagedKey, today: &str) -> Option<Due> {
    let has_come = |day: &str| day <= today;
    match key.state {
        ManagedState::Destroyed | ManagedState::DestroyedCompromised => key
            .hold
            .as_ref()
            .filter(|hold| has_come(&hold.until))
            .map(|hold| Due::Erase(hold.until.clone())),
        ManagedState::Active => {
            if let Some(day) = open_expiration(key).filter(|day| has_come(day)) {
                return Some(Due::Expire(day.to_owned()));
            }
            if let Some(coming) = &key.coming {
                return Some(Due::FinishRotation(coming.number));
            }
            let day = key.rotation_date.as_deref().filter(|day| has_come(day))?;
            Some(Due::Rotate(day.to_owned()))
        }
        // A key that would expire at once is not activated any more: people see it in the calendar.
        ManagedState::PreActivation if is_past_expiration(key, today) => None,
        ManagedState::PreActivation => open_activation(key)
            .filter(|day| has_come(day))
            .map(|day| Due::Activate(day.to_owned())),
        ManagedState::Deactivated | ManagedState::Compromised => None,
    }
}

/// What stands in the calendar of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DateKind {
    /// It is activated.
    Activation,
    /// It expires.
    Expiration,
    /// It is rotated.
    Rotation,
    /// The hold of its destruction ends.
    Erasure,
}

impl DateKind {
    /// The name in API and CLI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Activation => "activation",
            Self::Expiration => "expiration",
            Self::Rotation => "rotation",
            Self::Erasure => "erasure",
        }
    }
}

/// The dates of a key that are still to act.
#[must_use]
pub fn dates(key: &ManagedKey) -> Vec<(DateKind, &str)> {
    let (activation, expiration, rotation) = match key.state {
        ManagedState::PreActivation => (open_activation(key), open_expiration(key), None),
        ManagedState::Active => (None, open_expiration(key), key.rotation_date.as_deref()),
        ManagedState::Deactivated
        | ManagedState::Compromised
        | ManagedState::Destroyed
        | ManagedState::DestroyedCompromised => (None, None, None),
    };
    let erasure = key.hold.as_ref().map(|hold| hold.until.as_str());
    [
        (DateKind::Activation, activation),
        (DateKind::Expiration, expiration),
        (DateKind::Rotation, rotation),
        (DateKind::Erasure, erasure),
    ]
    .into_iter()
    .filter_map(|(kind, day)| day.map(|day| (kind, day)))
    .collect()
}

/// Whether the key's expiration date has come.
#[must_use]
pub fn is_past_expiration(key: &ManagedKey, today: &str) -> bool {
    key.expiration_date
        .as_deref()
        .is_some_and(|day| day <= today)
}

fn open_activation(key: &ManagedKey) -> Option<&str> {
    let day = key.activation_date.as_deref();
    day.filter(|_| day != key.acted.activation.as_deref())
}

fn open_expiration(key: &ManagedKey) -> Option<&str> {
    let day = key.expiration_date.as_deref();
    day.filter(|_| day != key.acted.expiration.as_deref())
}

/// How far the wall clock may run from the steady one between two looks before it counts as set, milliseconds: more than a
/// leap second or a slewing NTP ever makes.
const DRIFT_MAX_MS: i64 = 60_000;

/// How long a clock that was set must run evenly before dates act by it, milliseconds: a time server that is wrong is mostly put
/// right within minutes, and dates that erase cannot be taken back.
pub const SETTLE_MS: i64 = 600_000;

/// Watches the wall clock by the steady one. A clock that was set, forward or back, is not acted on until it has run evenly for
/// [`SETTLE_MS`]. What it said when the process began is believed: nothing is known of before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClockWatch {
    last: Option<(i64, i64)>,
    set_at: Option<i64>,
}

impl ClockWatch {
    /// Takes a look at both clocks, in milliseconds: whether dates may act by the wall clock now.
    pub const fn look(&mut self, wall_ms: i64, steady_ms: i64) -> bool {
        if let Some((wall, steady)) = self.last {
            let drift = wall_ms
                .saturating_sub(wall)
                .saturating_sub(steady_ms.saturating_sub(steady));
            if drift.saturating_abs() > DRIFT_MAX_MS {
                self.set_at = Some(steady_ms);
            }
        }
        self.last = Some((wall_ms, steady_ms));
        if let Some(at) = self.set_at
            && steady_ms.saturating_sub(at) >= SETTLE_MS
        {
            self.set_at = None;
        }
        self.set_at.is_none()
    }
}

#[cfg(test)]
mod tests;
