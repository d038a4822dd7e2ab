//! Dates and periods: civil days in UTC.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use crate::coordinator::ops::errors::OpsError;
use crate::model::vault::UnixMs;

/// The day, UTC.
pub(crate) fn day(at: UnixMs) -> Result<Date, OpsError> {
    Timestamp::from_millisecond(at.0)
        .map(|at| at.to_zoned(TimeZone::UTC).date())
        .map_err(|error| OpsError::Unavailable {
            detail: format!("the clock is out of range: {error}"),
        })
}

/// Checks an ISO 8601 period of whole days, such as `P1Y6M`.
pub(crate) fn period(field: &str, text: &str) -> Result<Span, OpsError> {
    let invalid = || {
        OpsError::invalid(
            field,
            "invalid_period",
            "an ISO 8601 period of years, months, weeks and days, such as P1Y6M",
        )
    };
    let fits = (3..=100).contains(&text.len())
        && text.strip_prefix('P').is_some_and(|rest| {
            rest.chars()
                .all(|c| c.is_ascii_digit() || "YMWD".contains(c))
        });
    if !fits {
        return Err(invalid());
    }
    text.parse::<Span>().map_err(|_not_a_period| invalid())
}

/// The day after a period from a day on.
pub(crate) fn after(field: &str, day: Date, text: &str) -> Result<Date, OpsError> {
    day.checked_add(period(field, text)?)
        .map_err(|_too_far| OpsError::invalid(field, "invalid_period", "too long a period"))
}

/// Checks a `YYYY-MM-DD`.
pub(crate) fn date(field: &str, text: &str) -> Result<Date, OpsError> {
    let invalid = || OpsError::invalid(field, "invalid_date", "a day as YYYY-MM-DD");
    if text.len() != 10 {
        return Err(invalid());
    }
    text.parse::<Date>().map_err(|_not_a_day| invalid())
}
