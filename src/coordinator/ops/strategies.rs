//! By which strategy keys are disabled on a keystore: what was demanded, and what its token needs.

use crate::coordinator::ops::Ops;
use crate::coordinator::ops::errors::OpsError;
use crate::model::capabilities::Strategy;
use crate::model::desired::Intent;
use crate::model::keystore::KeystoreRecord;
use crate::model::live::Terms;
use crate::model::vault::Vault;

/// The weakest strategy that will do: a vault demands one, an operator may pin one.
pub(crate) fn demanded(record: Option<&KeystoreRecord>, vault: &Vault) -> Strategy {
    let pinned = record.and_then(|record| record.strategy);
    pinned.unwrap_or_default().max(vault.strategy)
}

impl Ops {
    /// A strategy that is pinned must be one that the token does.
    ///
    /// # Errors
    /// `Refused` with `strategy_not_enforced` or `strategy_not_possible`, as far as it is known what the token can do.
    pub(crate) fn check_strategy(&self, record: &KeystoreRecord) -> Result<(), OpsError> {
        let Some(pinned) = record.strategy else {
            return Ok(());
        };
        let described = self.fleet.description(record.id);
        let Some(can) = described.as_ref().and_then(|it| it.capabilities.as_ref()) else {
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
        let described = self.fleet.description(intent.keystore);
        let known = described.as_ref().and_then(|it| it.capabilities.as_ref());
        known.map_or(intent.object.strategy, |known| {
            known.strategy(&intent.object)
        })
    }

    /// What is demanded of the keys of a vault on a keystore, and what its token can do.
    pub(crate) async fn terms(&self, record: &KeystoreRecord) -> Result<Terms, OpsError> {
        let vault = self.vault_record(record.vault).await?;
        Ok(Terms {
            strategy: Some(demanded(Some(record), &vault)),
            described: self.fleet.description(record.id),
        })
    }
}
