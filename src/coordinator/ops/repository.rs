//! The repository: where keys are made, and how many internal keystores hold each.

use crate::coordinator::ops::Ops;
use crate::coordinator::ops::birth;
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::fleet::FleetError;
use crate::model::ids::{KeystoreId, VaultId};
use crate::model::key::ManagedKey;
use crate::model::keystore::{Health, KeystoreRecord, Variant};
use crate::model::live::Connection;
use crate::model::material::RepositoryCopy;
use crate::model::vault::Vault;

/// How well a key is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copies {
    /// Internal keystores that have it.
    pub held: usize,
    /// Internal keystores of its vault.
    pub keystores: usize,
    /// How many must have it before its first activation.
    pub minimum: usize,
}

impl Ops {
    /// The internal keystores of a vault, sorted by name.
    pub(crate) async fn internal_keystores(
        &self,
        vault: VaultId,
    ) -> Result<Vec<KeystoreRecord>, OpsError> {
        let mut records = self.keystore_records(Some(vault), None).await?;
        records.retain(|record| record.variant == Variant::Internal);
        Ok(records)
    }

    /// How well a key is kept.
    pub(crate) async fn copies_of(&self, key: &ManagedKey) -> Result<Copies, OpsError> {
        let vault = self.vault_record(key.vault).await?;
        Ok(Copies {
            held: self.store.copies(key.version).await?.len(),
            keystores: self.internal_keystores(key.vault).await?.len(),
            minimum: usize::try_from(vault.min_copies).unwrap_or(usize::MAX),
        })
    }

    /// Before a key is activated for the first time, as many internal keystores as its vault demands must hold it.
    pub(crate) async fn check_copies(&self, key: &ManagedKey) -> Result<(), OpsError> {
        let copies = self.copies_of(key).await?;
        if copies.held >= copies.minimum {
            return Ok(());
        }
        Err(OpsError::refused(
            "too_few_copies",
            format!(
                "{} of {} internal keystores hold the key; its vault demands {} before a key is activated",
                copies.held, copies.keystores, copies.minimum
            ),
        ))
    }

    /// The material, from the first internal keystore of the vault that can give it.
    pub(crate) async fn generate(
        &self,
        vault: &Vault,
        internal: &[KeystoreRecord],
        key: &ManagedKey,
    ) -> Result<RepositoryCopy, OpsError> {
        let mut failure = OpsError::NoInternalKeystore;
        for keystore in internal {
            if let Err(why) = self.is_well(keystore.id) {
                failure = OpsError::fleet(&keystore.name, FleetError::Unreachable { why });
                continue;
            }
            let made = self
                .fleet
                .generate(keystore.id, key.version, key.spec, vault.salt.clone())
                .await;
            match made {
                Ok(copy) => {
                    birth::check(&copy, keystore, key.version, key.spec, &vault.salt)?;
                    return Ok(copy);
                }
                Err(error @ (FleetError::Unreachable { .. } | FleetError::Late)) => {
                    failure = OpsError::fleet(&keystore.name, error);
                }
                Err(error @ (FleetError::Identity { .. } | FleetError::Refused { .. })) => {
                    return Err(OpsError::fleet(&keystore.name, error));
                }
            }
        }
        Err(failure)
    }

    /// Whether a keystore can do something now; else why not.
    pub(crate) fn is_well(&self, keystore: KeystoreId) -> Result<(), String> {
        let live = self.fleet.live_keystore(keystore);
        match (live.connection, live.health) {
            (Connection::Never { why } | Connection::Down { why, .. }, _) => Err(why),
            (Connection::CatchingUp | Connection::Live, Some(Health::Ok)) => Ok(()),
            (Connection::CatchingUp | Connection::Live, Some(health)) => Err(health.to_string()),
            (Connection::CatchingUp | Connection::Live, None) => {
                Err("the agent has not said how its token is".to_owned())
            }
        }
    }
}
