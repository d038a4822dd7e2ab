//! Key templates: what keys made from one look like, and the keystore group they go to.

use serde::{Deserialize, Serialize};

use crate::model::ids::{Revision, TemplateId, VaultId};
use crate::model::key::{DeactivatedUsage, KeySpec, UsageSet};
use crate::model::lifecycle::ManagedState;
use crate::model::vault::Stamps;

/// What happens at a key's expiration date.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnExpiry {
    /// It is noted once; the key goes on working.
    #[default]
    Warn,
    /// The key is deactivated everywhere.
    Deactivate,
}

impl OnExpiry {
    /// The name in API, CLI and audit.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Warn => "warn",
            Self::Deactivate => "deactivate",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Warn, Self::Deactivate]
            .into_iter()
            .find(|one| one.name() == name)
    }
}

/// A key template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyTemplate {
    /// Its id.
    pub id: TemplateId,
    /// The vault it belongs to.
    pub vault: VaultId,
    /// +1 at each update; keys remember which one they follow.
    pub version: u64,
    /// 1 to 30 characters, `^[A-Za-z][A-Za-z0-9-]*$`; unique in its vault.
    pub name: String,
    /// At most 200 characters.
    pub description: String,
    /// Text with `<TAG>` places; none: keys are labelled by hand.
    pub naming_scheme: Option<String>,
    /// Algorithm and size.
    pub spec: KeySpec,
    /// Usage of active keys.
    pub usage: UsageSet,
    /// Usage of deactivated keys.
    pub deactivated_usage: DeactivatedUsage,
    /// Whether usages that undo each other were allowed on purpose.
    pub allow_mixed_usage: bool,
    /// State of a new key: `PreActivation` or `Active`.
    pub initial_state: ManagedState,
    /// ISO 8601 period from creation to activation, such as `P0D`.
    pub activation_period: String,
    /// ISO 8601 period from creation to expiration, such as `P1Y`.
    pub expiration_period: String,
    /// Whether rotating deactivates the version before.
    pub deactivate_on_rotation: bool,
    /// ISO 8601 period from one rotation to the next, such as `P90D`; none: only people rotate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_interval: Option<String>,
    /// What the expiration date does.
    #[serde(default)]
    pub on_expiry: OnExpiry,
    /// Every keystore that carries this group is a target.
    pub group: String,
    /// Archived templates make no new keys.
    pub archived: bool,
    /// The ETag.
    pub revision: Revision,
    /// Who and when.
    pub stamps: Stamps,
}
