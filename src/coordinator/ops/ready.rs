//! Whether requests can be served, and what time it is for those who show ages.

use crate::clock;
use crate::coordinator::ops::Ops;
use crate::coordinator::ops::errors::OpsError;
use crate::model::vault::UnixMs;

impl Ops {
    /// Proves that the store can write. Asks nobody's permission: it tells nothing about anything.
    ///
    /// # Errors
    /// `Full`, `Unavailable`.
    pub async fn ready(&self) -> Result<(), OpsError> {
        Ok(self.store.ping().await?)
    }

    /// Now, for people.
    #[must_use]
    pub fn now(&self) -> UnixMs {
        clock::unix_ms()
    }
}
