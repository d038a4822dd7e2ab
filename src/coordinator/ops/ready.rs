//! Whether requests can be served, whether a keystore is ready, and what time it is for those who show ages.

use std::time::Duration;

use crate::clock::Monotonic;
use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::Call;
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::keystores::{HealthStatus, KeystoreView};
use crate::model::ids::KeystoreId;
use crate::model::vault::UnixMs;

impl Ops {
    /// Proves that the store can write. Asks nobody's permission: it tells nothing about anything.
    ///
    /// # Errors
    /// `Full`, `Unavailable`.
    pub async fn ready(&self) -> Result<(), OpsError> {
        Ok(self.store.ping().await?)
    }

    /// Waits until a keystore's health is known, at most so long, and answers with what is then known.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn keystore_wait(
        &self,
        call: &Call,
        id: KeystoreId,
        timeout: Duration,
    ) -> Result<KeystoreView, OpsError> {
        let timeout = timeout.min(Duration::from_secs(self.limits.wait_s_max));
        let started = Monotonic::now();
        let mut changes = self.fleet.changes();
        loop {
            changes.mark_unchanged();
            let view = self.keystore(call, id).await?;
            let left = timeout.saturating_sub(started.elapsed());
            let is_known = match view.health.status {
                HealthStatus::Ok | HealthStatus::ConfigurationError => true,
                HealthStatus::NotResponding | HealthStatus::PendingCheck => false,
            };
            if left.is_zero() || is_known {
                return Ok(view);
            }
            match tokio::time::timeout(left, changes.changed()).await {
                Ok(Ok(())) => {}
                // Time is up, or the fleet has ended: tell what is known now.
                Ok(Err(_)) | Err(_) => return self.keystore(call, id).await,
            }
        }
    }

    /// Now, UTC: for people, records and dates.
    #[must_use]
    pub fn now(&self) -> UnixMs {
        self.clock.now()
    }
}
