//! The PIN for the module host: read anew at each start, held back once the token refused it.

use secrecy::SecretString;

use crate::agent::latch::PinLatch;
use crate::agent::pin::Source;
use crate::keystore::host::handle::PinSource;
use crate::model::job::{FailureKind, TokenFailure};

/// The source of the PIN behind the latch.
#[derive(Debug)]
pub struct LatchedPin {
    source: Source,
    latch: PinLatch,
}

impl LatchedPin {
    /// Reads nothing yet.
    #[must_use]
    pub const fn new(source: Source, latch: PinLatch) -> Self {
        Self { source, latch }
    }
}

impl PinSource for LatchedPin {
    fn pin(&self) -> Result<SecretString, TokenFailure> {
        let read = self.source.read();
        let pin = read.map_err(|error| failure(FailureKind::Restart, "pin", chain(&error)))?;
        match self.latch.holds(&pin) {
            Ok(false) => Ok(pin),
            Ok(true) => Err(failure(
                FailureKind::WrongPin,
                "pin_latch",
                "the token refused this PIN before; it is not tried again until there is another one"
                    .to_owned(),
            )),
            Err(error) => Err(failure(
                FailureKind::Restart,
                "pin_latch",
                error.to_string(),
            )),
        }
    }

    fn refused(&self, pin: &SecretString) {
        match self.latch.close(pin) {
            Ok(()) => tracing::error!(
                "the token refused the PIN; it is not tried again until there is another one"
            ),
            Err(error) => tracing::error!(
                %error,
                "the token refused the PIN, and that could not be written down; do not start the agent again before the PIN \
                 is right"
            ),
        }
    }

    fn taken(&self, _pin: &SecretString) {
        if let Err(error) = self.latch.open() {
            tracing::warn!(%error, "the PIN latch could not be removed");
        }
    }
}

fn failure(kind: FailureKind, check: &str, detail: String) -> TokenFailure {
    TokenFailure {
        kind,
        function: check.to_owned(),
        rv: String::new(),
        detail,
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        None => error.to_string(),
        Some(source) => format!("{error}: {source}"),
    }
}
