//! Vaults.

use serde::{Deserialize, Serialize};

use crate::model::capabilities::Strategy;
use crate::model::vault::DriftPolicy;
use crate::rest::list::{PageInfo, RecordStamps};

/// POST /api/v4/vaults
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultCreate {
    /// 1 to 100 characters; unique.
    pub name: String,
    /// At most 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Label of a recovery key outside of Lockstep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_key_label: Option<String>,
    /// The weakest way to disable its keys: `flags`, `copy` or `withdraw`. Keys follow with their next
    /// change or sync.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pkcs11_strategy: Option<Strategy>,
    /// Internal keystores that must hold a key before it is first activated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_copies: Option<u32>,
    /// How long a destroyed key is only disabled and can be brought back, `P0D` (not at all) to `P90D`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destruction_hold: Option<String>,
    /// What is done about what somebody else changed on a token: `report`, `restrict` or `enforce`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift_policy: Option<DriftPolicy>,
}

/// PATCH /api/v4/vaults/{id}: what is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VaultPatch {
    /// As in [`VaultCreate`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// As in [`VaultCreate`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// As in [`VaultCreate`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_key_label: Option<String>,
    /// The weakest way to disable its keys: `flags`, `copy` or `withdraw`. Keys follow with their next
    /// change or sync.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pkcs11_strategy: Option<Strategy>,
    /// Internal keystores that must hold a key before it is first activated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_copies: Option<u32>,
    /// How long a destroyed key is only disabled and can be brought back, `P0D` (not at all) to `P90D`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destruction_hold: Option<String>,
    /// What is done about what somebody else changed on a token: `report`, `restrict` or `enforce`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift_policy: Option<DriftPolicy>,
}

/// A vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vault {
    /// Its UUID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What people wrote about it.
    pub description: String,
    /// Label of a recovery key outside of Lockstep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_key_label: Option<String>,
    /// The weakest way to disable its keys.
    #[serde(default)]
    pub pkcs11_strategy: Strategy,
    /// Internal keystores that must hold a key before it is first activated.
    #[serde(default)]
    pub min_copies: u32,
    /// How long a destroyed key is only disabled and can be brought back.
    #[serde(default)]
    pub destruction_hold: String,
    /// What is done about what somebody else changed on a token.
    #[serde(default)]
    pub drift_policy: DriftPolicy,
    /// Managed keys in it, destroyed ones too.
    pub keys_count: u64,
    /// Templates in it.
    pub key_templates_count: u64,
    /// Keystores in it.
    pub keystores_count: u64,
    /// Who and when.
    #[serde(flatten)]
    pub stamps: RecordStamps,
}

/// GET /api/v4/vaults
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VaultList {
    /// Which part it is.
    #[serde(flatten)]
    pub page: PageInfo,
    /// Sorted by name unless asked otherwise.
    pub vaults: Vec<Vault>,
}
