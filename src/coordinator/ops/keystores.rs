//! Keystores: one token each, behind one agent.

use std::collections::BTreeSet;

use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::Call;
use crate::coordinator::ops::commit::Done;
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::fleet::LiveKeystore;
use crate::coordinator::ops::lists::{Page, Paged};
use crate::coordinator::ops::templates::unfinished;
use crate::model::ids::{KeystoreId, VaultId};
use crate::model::keystore::{KeystoreRecord, Variant};

/// A keystore to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeystoreNew {
    /// The vault, for ever.
    pub vault: VaultId,
    /// 1 to 100 characters, `^[A-Za-z0-9][A-Za-z0-9 ._-]*$`; none: the token's label.
    pub name: Option<String>,
    /// At most 200 characters.
    pub description: String,
    /// Where it stands, for people; at most 100 characters.
    pub location: String,
    /// The groups it is in.
    pub groups: BTreeSet<String>,
    /// `https://host:port` of its agent.
    pub endpoint: String,
    /// The URI name in its agent's certificate.
    pub agent_name: String,
    /// Must be what the agent says.
    pub variant: Variant,
}

/// What is to change of a keystore; `None` leaves a field as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeystorePatch {
    /// The name.
    pub name: Option<String>,
    /// The description.
    pub description: Option<String>,
    /// Where it stands.
    pub location: Option<String>,
    /// The groups. Changes nothing on any token: each key needs its update_from_template.
    pub groups: Option<BTreeSet<String>>,
    /// The agent's address; must answer as the same keystore.
    pub endpoint: Option<String>,
    /// The agent's URI name.
    pub agent_name: Option<String>,
}

/// Which keystores.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeystoreQuery {
    /// Of this vault.
    pub vault: Option<VaultId>,
    /// In this group.
    pub group: Option<String>,
    /// Whose names hold this text, whatever the case.
    pub name: Option<String>,
    /// With this health.
    pub health: Option<HealthStatus>,
}

/// A keystore with its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeystoreView {
    /// The record.
    pub record: KeystoreRecord,
    /// Its vault's name.
    pub vault_name: String,
    /// Its line and token as known now.
    pub live: LiveKeystore,
    /// The same in API v4's words.
    pub health: HealthView,
}

/// API v4's `health_status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthStatus {
    /// A live session, and the token is well.
    Ok,
    /// No session.
    NotResponding,
    /// A session, and the token is not well.
    ConfigurationError,
    /// Not known yet since the coordinator started.
    PendingCheck,
}

impl HealthStatus {
    /// The name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotResponding => "not_responding",
            Self::ConfigurationError => "configuration_error",
            Self::PendingCheck => "pending_check",
        }
    }
}

/// How well a keystore is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthView {
    /// In one word.
    pub status: HealthStatus,
    /// For people.
    pub message: String,
    /// Age of the last complete scan, milliseconds.
    pub scan_age_ms: Option<u64>,
}

/// What happens to the keys on a keystore that is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemovalMode {
    /// Refuse while keys are on it.
    Restrict,
    /// Leave them as they are.
    Disconnect,
    /// Deactivate them there first.
    Deactivate,
    /// Destroy them there first.
    Destroy,
}

impl RemovalMode {
    /// The mode of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "restrict" => Some(Self::Restrict),
            "disconnect" => Some(Self::Disconnect),
            "deactivate" => Some(Self::Deactivate),
            "destroy" => Some(Self::Destroy),
            _ => None,
        }
    }
}

impl Ops {
    /// Asks the agent who it is and adds its keystore. With `dry_run` nothing is stored.
    ///
    /// # Errors
    /// `Invalid`, `Taken`, `AgentUnreachable`, `Refused` with `agent_not_bound`, `variant_mismatch` or `agent_identity`.
    pub async fn keystore_create(
        &self,
        _call: &Call,
        _new: KeystoreNew,
        _dry_run: bool,
    ) -> Result<Done<KeystoreView>, OpsError> {
        Err(unfinished())
    }

    /// One keystore.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn keystore(&self, _call: &Call, _id: KeystoreId) -> Result<KeystoreView, OpsError> {
        Err(unfinished())
    }

    /// Keystores, sorted by name.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn keystore_list(
        &self,
        _call: &Call,
        _query: KeystoreQuery,
        _page: Page,
    ) -> Result<Paged<KeystoreView>, OpsError> {
        Err(unfinished())
    }

    /// Changes a keystore's record.
    ///
    /// # Errors
    /// `Invalid`, `Taken`, `EtagMismatch`, `AgentUnreachable` where the address changes.
    pub async fn keystore_update(
        &self,
        _call: &Call,
        _id: KeystoreId,
        _patch: KeystorePatch,
    ) -> Result<Done<KeystoreView>, OpsError> {
        Err(unfinished())
    }

    /// Removes a keystore's record; its token is left as it is.
    ///
    /// # Errors
    /// `InUse` lists the keys on it; `Refused` with `not_supported_yet` for the modes other than restrict.
    pub async fn keystore_delete(
        &self,
        _call: &Call,
        _id: KeystoreId,
        _mode: RemovalMode,
    ) -> Result<Done<()>, OpsError> {
        Err(unfinished())
    }
}
