//! By which strategy keys are disabled on a keystore: what was demanded, and what its token needs.

use crate::coordinator::ops::Ops;
use crate::coordinator::ops::errors::OpsError;
use crate::model::capabilities::Strategy;
use crate::model::desired::Intent;
use crate::model::keystore::KeystoreRecord;

impl Ops {
    /// A strategy that is pinned must be one that the token does.
    ///
    /// # Errors
    /// `Refused` with `strategy_not_enforced` or `strategy_not_possible`, as far as it is known what the token can do.
    pub(crate) fn check_strategy(&self, record: &KeystoreRecord) -> Result<(), OpsError> {
        let Some(pinned) = record.strategy else {
            return Ok(());
        };
        let described = self.fleet.live_keystore(record.id).description;
        let Some(can) = described.and_then(|description| description.capabilities) else {
            return Ok(());
        };
        let needed = can.usual_strategy();
        if pinned < needed {
            return Err(OpsError::refused(
                "strategy_not_enforced",
                format!(
                    "by {} keys would not be disabled on that token: it needs {}",
                    pinned.name(),
                    needed.name()
                ),
            ));
        }
        if pinned == Strategy::Copy && !can.copy {
            return Err(OpsError::refused(
                "strategy_not_possible",
                "the token makes no copies; flags or withdraw would work",
            ));
        }
        Ok(())
    }

    /// How the agent would enable and disable the key, as far as it is known what its token can do.
    pub(crate) fn strategy(&self, intent: &Intent) -> Strategy {
        let described = self.fleet.live_keystore(intent.keystore).description;
        let known = described.and_then(|description| description.capabilities);
        known.map_or(intent.object.strategy, |known| {
            known.strategy(&intent.object)
        })
    }
}
