//! Logs and panics: logs go to stderr with constant messages, data in fields, and no secrets; a panic ends the process.
//!
//! `LOCKSTEP_LOG` is a filter such as `info` (the default) or `lockstep::agent=debug`;
//! `LOCKSTEP_LOG_FORMAT=json` gives one JSON object a line.

use std::io::{IsTerminal as _, Write as _};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// Environment variable with the filter.
pub const FILTER_VARIABLE: &str = "LOCKSTEP_LOG";
/// Environment variable with the format: `text` or `json`.
pub const FORMAT_VARIABLE: &str = "LOCKSTEP_LOG_FORMAT";

/// Why logging could not be set up. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter does not parse.
    #[error("{FILTER_VARIABLE} is not a filter such as info or lockstep::agent=debug")]
    Filter(#[source] ParseError),
    /// The format is neither of the two.
    #[error("{FORMAT_VARIABLE} is text or json, not {found:?}")]
    Format {
        /// What it is.
        found: String,
    },
    /// Somebody set up logging before.
    #[error("logging is set up already")]
    Twice,
}

/// Sets up logging as the environment says, and the panic hook. Called once, first thing in a main.
///
/// # Errors
/// [`TelemetryError`]: show it and exit.
pub fn init() -> Result<(), TelemetryError> {
    abort_on_panic();
    let filter = std::env::var(FILTER_VARIABLE).unwrap_or_else(|_unset| "info".to_owned());
    let filter = EnvFilter::try_new(filter).map_err(TelemetryError::Filter)?;
    let format = std::env::var(FORMAT_VARIABLE).unwrap_or_else(|_unset| "text".to_owned());
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let done = match format.as_str() {
        "text" => logs.try_init(),
        "json" => logs.json().try_init(),
        _ => return Err(TelemetryError::Format { found: format }),
    };
    done.map_err(|_set_before| TelemetryError::Twice)
}

/// A panic prints where it was, not what it said (that may hold a PIN or a key), and aborts: a wrong state must stop.
pub fn abort_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let mut stderr = std::io::stderr();
        let _nobody_left_to_tell = match panic.location() {
            Some(at) => writeln!(stderr, "panic at {}:{}; aborting", at.file(), at.line()),
            None => writeln!(stderr, "panic; aborting"),
        };
        std::process::abort();
    }));
}
