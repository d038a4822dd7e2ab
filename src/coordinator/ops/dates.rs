//! Dates and periods: civil days in UTC.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use crate::coordinator::ops::errors::OpsError;
use crate::model::key::ManagedKey;
use crate::model::template::KeyTemplate;
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

/// Checks an ISO 8601 period that is at least a day long.
pub(crate) fn interval(field: &str, text: &str) -> Result<(), OpsError> {
    let from = Date::constant(2026, 1, 1);
    if after(field, from, text)? > from {
        return Ok(());
    }
    Err(OpsError::invalid(field, "invalid_period", "at least P1D"))
}

/// Notes that a key's version is given out from now on, and when it is to be rotated.
pub(crate) fn into_use(
    key: &mut ManagedKey,
    template: &KeyTemplate,
    at: UnixMs,
) -> Result<(), OpsError> {
    key.in_use_since = Some(at);
    key.rotation_date = rotation(template, at)?;
    Ok(())
}

/// The day of the next rotation of a version that is given out since then; none where only people rotate.
pub(crate) fn rotation(template: &KeyTemplate, since: UnixMs) -> Result<Option<String>, OpsError> {
    let interval = template.rotation_interval.as_deref();
    let next = interval.map(|interval| after("key.rotation_interval", day(since)?, interval));
    Ok(next.transpose()?.map(|day| day.to_string()))
}

/// The day after a period from a day on.
pub(crate) fn after(field: &str, day: Date, text: &str) -> Result<Date, OpsError> {
    day.checked_add(period(field, text)?)
        .map_err(|_too_far| OpsError::invalid(field, "invalid_period", "too long a period"))
}

/// Longest hold of a destruction, days.
const HOLD_DAYS_MAX: i64 = 90;

/// Checks how long destructions are held.
pub(crate) fn hold_period(text: &str) -> Result<String, OpsError> {
    hold_days(text).map(|days| format!("P{days}D"))
}

fn hold_days(text: &str) -> Result<i64, OpsError> {
    let days = text
        .strip_prefix('P')
        .and_then(|rest| rest.strip_suffix('D'))
        .and_then(|days| days.parse().ok());
    match days {
        Some(days) if (0..=HOLD_DAYS_MAX).contains(&days) => Ok(days),
        Some(_) | None => Err(OpsError::invalid(
            "destruction_hold",
            "invalid_period",
            format!("P0D to P{HOLD_DAYS_MAX}D"),
        )),
    }
}

/// The day at whose 00:00 UTC a hold ends that begins now: never before the whole period is over. None: nothing is held.
pub(crate) fn hold_until(period: &str, now: UnixMs) -> Result<Option<String>, OpsError> {
    let days = hold_days(period)?;
    if days == 0 {
        return Ok(None);
    }
    let is_midnight = now.0.rem_euclid(DAY_MS) == 0;
    let whole = days.saturating_add(i64::from(!is_midnight));
    let end = UnixMs(now.0.saturating_add(whole.saturating_mul(DAY_MS)));
    Ok(Some(day(end)?.to_string()))
}

/// A day in UTC, milliseconds: Unix time has no leap seconds.
const DAY_MS: i64 = 86_400_000;

/// Checks a `YYYY-MM-DD`.
pub(crate) fn date(field: &str, text: &str) -> Result<Date, OpsError> {
    let invalid = || OpsError::invalid(field, "invalid_date", "a day as YYYY-MM-DD");
    if text.len() != 10 {
        return Err(invalid());
    }
    text.parse::<Date>().map_err(|_not_a_day| invalid())
}

#[cfg(test)]
mod tests {
    use crate::coordinator::ops::dates::{DAY_MS, day, hold_until};
    use crate::model::vault::UnixMs;

    #[test]
    fn a_hold_ends_at_the_first_midnight_after_the_whole_period() {
        // 2028-02-28, from midnight on.
        let midnight = 1_835_308_800_000;
        assert_eq!(day(UnixMs(midnight)).unwrap().to_string(), "2028-02-28");
        let check = |period: &str, after_ms: i64, expected: Option<&str>| {
            let until = hold_until(period, UnixMs(midnight + after_ms)).unwrap();
            assert_eq!(until.as_deref(), expected, "{period} {after_ms}");
        };
        check("P0D", 5, None);
        check("P1D", 0, Some("2028-02-29"));
        check("P1D", 1, Some("2028-03-01"));
        check("P1D", DAY_MS - 1, Some("2028-03-01"));
        check("P7D", 1, Some("2028-03-07"));
        for bad in ["P91D", "P-1D", "7", "P1M", "PT24H", "P1.5D", ""] {
            assert!(hold_until(bad, UnixMs(0)).is_err(), "{bad}");
        }
    }
}
