//! The calendar: which dates are to act, in the order of their days.

use crate::coordinator::ops::access::{Call, Permission};
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::{Ops, dates};
use crate::decide::schedule::{DateKind, dates as dates_of, is_past_expiration};
use crate::model::ids::{KeyId, VaultId};
use crate::model::key::ManagedKey;
use crate::model::lifecycle::ManagedState;
use crate::model::template::OnExpiry;

/// Where the calendar ends if nobody says: so many days from now.
const DAYS_AHEAD: &str = "P90D";

/// Dates in one answer: a page for people, not an export.
const ENTRIES_MAX: usize = 10_000;

/// Keys that are read at once.
const KEYS_MAX: u32 = 500;

/// Which dates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CalendarQuery {
    /// From this day on, `YYYY-MM-DD`; none: those that are overdue too.
    pub from: Option<String>,
    /// To this day; none: 90 days from now.
    pub to: Option<String>,
    /// Of keys of this vault.
    pub vault: Option<VaultId>,
}

/// One date that is to act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CalendarEntry {
    /// The day at whose 00:00 UTC it acts, `YYYY-MM-DD`.
    pub day: String,
    /// What it does.
    pub kind: DateKind,
    /// The key.
    pub key: KeyId,
    /// Its label.
    pub label: String,
    /// Its vault.
    pub vault: VaultId,
    /// Its state now.
    pub state: ManagedState,
    /// Whether the day has come and it has not acted.
    pub is_overdue: bool,
    /// What it will do, or why it does nothing, for people.
    pub message: String,
}

impl Ops {
    /// The dates that are to act between two days, by day, then label.
    ///
    /// # Errors
    /// `Invalid` for a day that is none, and with `too_many` where more than 10,000 dates are meant.
    pub async fn calendar(
        &self,
        call: &Call,
        query: CalendarQuery,
    ) -> Result<Vec<CalendarEntry>, OpsError> {
        call.authorise(Permission::Read, query.vault)?;
        let today = dates::day(self.now())?;
        let from = query.from.as_deref();
        let from = from.map(|text| dates::date("from", text)).transpose()?;
        let to = match query.to.as_deref() {
            Some(text) => dates::date("to", text)?,
            None => dates::after("to", from.unwrap_or(today).max(today), DAYS_AHEAD)?,
        };
        let (from, to) = (from.map(|day| day.to_string()), to.to_string());
        let today = today.to_string();
        let is_meant =
            |day: &str| from.as_deref().is_none_or(|from| from <= day) && day <= to.as_str();
        let mut entries = Vec::new();
        let mut after = None;
        loop {
            let days = (from.clone(), to.clone());
            let keys = self.store.key_dated(days, after, KEYS_MAX).await?;
            let Some(last) = keys.last() else { break };
            after = Some(last.id);
            for key in keys
                .iter()
                .filter(|key| query.vault.is_none_or(|id| id == key.vault))
            {
                for (kind, day) in dates_of(key) {
                    if is_meant(day) {
                        entries.push(self.calendar_entry(key, kind, day, &today).await?);
                    }
                }
            }
            if entries.len() > ENTRIES_MAX {
                let message = format!("more than {ENTRIES_MAX} dates: ask for fewer days");
                return Err(OpsError::invalid("to", "too_many", message));
            }
        }
        entries.sort_by(|a, b| {
            let place =
                |entry: &CalendarEntry| (entry.day.clone(), entry.label.clone(), entry.kind);
            place(a).cmp(&place(b))
        });
        Ok(entries)
    }

    async fn calendar_entry(
        &self,
        key: &ManagedKey,
        kind: DateKind,
        day: &str,
        today: &str,
    ) -> Result<CalendarEntry, OpsError> {
        let template = self.template_record(key.template).await?;
        let is_missed = key.state == ManagedState::PreActivation && is_past_expiration(key, today);
        let message = match kind {
            DateKind::Activation if is_missed => {
                "does nothing: the key expired before it was activated"
            }
            DateKind::Activation => "the key is activated",
            DateKind::Expiration if key.state == ManagedState::PreActivation => {
                "from then on the key is not activated by its date"
            }
            DateKind::Expiration => match template.on_expiry {
                OnExpiry::Deactivate => "the key is deactivated",
                OnExpiry::Warn => "is noted; the key goes on working",
            },
            DateKind::Rotation if template.deactivate_on_rotation => {
                "the key is rotated, and the version before is deactivated"
            }
            DateKind::Rotation => "the key is rotated, and the version before goes on working",
            DateKind::Erasure => "the hold ends, and the key's material is erased",
        };
        Ok(CalendarEntry {
            day: day.to_owned(),
            kind,
            key: key.id,
            label: key.label.to_string(),
            vault: key.vault,
            state: key.state,
            is_overdue: day <= today,
            message: message.to_owned(),
        })
    }
}
