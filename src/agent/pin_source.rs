//! The PIN for the module host: read anew at each start, held back once the token refused it.

use std::io;

use secrecy::SecretString;

use crate::agent::latch::PinLatch;
use crate::agent::pin::Source;
use crate::keystore::host::handle::{PinSource, PinToTry};
use crate::model::job::{FailureKind, TokenFailure};

/// The check that holds a PIN back, as it is told.
const LATCH: &str = "pin_latch";

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
    fn pin(&self) -> Result<PinToTry, TokenFailure> {
        let read = self.source.read();
        let pin = read.map_err(|error| failure(FailureKind::Restart, "pin", chain(&error)))?;
        let latch = |error: io::Error| failure(FailureKind::Restart, LATCH, error.to_string());
        if self.latch.holds(&pin).map_err(latch)? {
            let why = "the token refused this PIN before; it is not tried again until there is another one";
            return Err(failure(FailureKind::WrongPin, LATCH, why.to_owned()));
        }
        let unsure = self.latch.begin(&pin).map_err(latch)?;
        Ok(PinToTry { pin, unsure })
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

    fn unasked(&self) {
        if let Err(error) = self.latch.unasked() {
            tracing::warn!(%error, "the next try of the PIN will be taken for a second one");
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
