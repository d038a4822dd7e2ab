//! Keystores.

use serde::{Deserialize, Serialize};

use crate::model::capabilities::Strategy;
use crate::model::keystore::Variant;
use crate::rest::capabilities::Pkcs11Capabilities;
use crate::rest::list::{IdRef, NamedRef, PageInfo, RecordStamps};
use crate::rest::status::Difference;

/// The only type of keystore that can be made.
pub const PKCS11: &str = "pkcs11";

/// Types of other products that clients know: filters accept them, creating one is refused with the reason.
pub const OTHER_TYPES: [&str; 5] = [
    "aws_kms",
    "azure_key_vault",
    "cca",
    "google_kms",
    "ibm_cloud_kms",
];

/// POST /api/v4/keystores; with `?dry_run=true` the agent is asked and nothing is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeystoreCreate {
    /// `pkcs11`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The vault it will belong to.
    pub vault: IdRef,
    /// 1 to 100 characters; left out: the token's label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// At most 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// Groups that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<String>>,
    /// `https://host:port` of its agent.
    pub pkcs11_agent_endpoint: String,
    /// The URI name in its agent's certificate.
    pub pkcs11_agent_identity: String,
    /// Whether it may make keys; left out: external.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pkcs11_variant: Option<Variant>,
    /// The weakest way to disable keys there; left out: `auto`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pkcs11_strategy: Option<StrategyChoice>,
}

/// PATCH /api/v4/keystores/{id}: what is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeystorePatch {
    /// As in [`KeystoreCreate`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// As in [`KeystoreCreate`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// As in [`KeystoreCreate`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// All groups that it is in from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<String>>,
    /// The agent's new address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pkcs11_agent_endpoint: Option<String>,
    /// The agent's new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pkcs11_agent_identity: Option<String>,
    /// The weakest way to disable keys there. Keys follow with their next change or sync.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pkcs11_strategy: Option<StrategyChoice>,
}

/// How keys are to be disabled on a keystore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StrategyChoice {
    /// By the weakest way that holds on its token.
    Auto,
    /// By usage attributes.
    Flags,
    /// By copies with other attributes.
    Copy,
    /// By taking them off the token.
    Withdraw,
}

impl StrategyChoice {
    /// What is pinned; none: nothing.
    #[must_use]
    pub const fn pinned(self) -> Option<Strategy> {
        match self {
            Self::Auto => None,
            Self::Flags => Some(Strategy::Flags),
            Self::Copy => Some(Strategy::Copy),
            Self::Withdraw => Some(Strategy::Withdraw),
        }
    }

    /// The choice that pinned it.
    #[must_use]
    pub const fn of(pinned: Option<Strategy>) -> Self {
        match pinned {
            None => Self::Auto,
            Some(Strategy::Flags) => Self::Flags,
            Some(Strategy::Copy) => Self::Copy,
            Some(Strategy::Withdraw) => Self::Withdraw,
        }
    }

    /// The choice of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "auto" => Some(Self::Auto),
            _ => Strategy::from_name(name).map(|strategy| Self::of(Some(strategy))),
        }
    }
}

/// A keystore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keystore {
    /// The vault it belongs to.
    pub vault: NamedRef,
    /// Its UUID, as bound on its token; all zeros in a dry run of a token that is not bound.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub location: String,
    /// What people wrote about it.
    pub description: String,
    /// Groups that it is in.
    pub groups: Vec<String>,
    /// `pkcs11`.
    #[serde(rename = "type")]
    pub kind: String,
    /// How well it is.
    pub status: KeystoreStatus,
    /// `https://host:port` of its agent.
    pub pkcs11_agent_endpoint: String,
    /// The URI name in its agent's certificate.
    pub pkcs11_agent_identity: String,
    /// SHA-256 of its agent's identity key, lower-case hex.
    pub pkcs11_agent_key: String,
    /// Whether it may make keys.
    pub pkcs11_variant: Variant,
    /// What its token says of itself.
    pub pkcs11_token: Pkcs11Token,
    /// What its token can do; missing while it is not reachable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pkcs11_capabilities: Option<Pkcs11Capabilities>,
    /// How keys are disabled there: `flags`, `copy` or `withdraw`.
    pub pkcs11_strategy: String,
    /// What of it was asked for.
    #[serde(default = "auto")]
    pub pkcs11_strategy_pinned: StrategyChoice,
    /// What its token could do once and cannot any more, and what that means; keys that it matters to have their own.
    #[serde(default)]
    pub differences: Vec<Difference>,
    /// Who and when.
    #[serde(flatten)]
    pub stamps: RecordStamps,
}

const fn auto() -> StrategyChoice {
    StrategyChoice::Auto
}

/// How well a keystore is: GET /api/v4/keystores/{id}/status
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeystoreStatus {
    /// When its token was last looked at in the live session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_heartbeat: Option<String>,
    /// In one word.
    pub health_status: HealthStatus,
    /// For people.
    pub message: String,
    /// Age of the last complete scan, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan_age_ms: Option<u64>,
    /// Keys on the token that nobody manages.
    pub unmanaged_count: u64,
}

/// How well a keystore is, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// Its agent answers and its token is open.
    Ok,
    /// Its agent does not answer.
    NotResponding,
    /// Its agent answers and something must be put right by a person.
    ConfigurationError,
    /// Not known yet.
    PendingCheck,
}

/// What a token says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pkcs11Token {
    /// Manufacturer.
    pub manufacturer: String,
    /// Model.
    pub model: String,
    /// Serial number.
    pub serial: String,
    /// Label.
    pub label: String,
    /// Firmware version.
    pub firmware: String,
    /// Hardware version.
    pub hardware: String,
    /// Manufacturer, description and version of the library.
    pub library: String,
}

/// GET /api/v4/keystores
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeystoreList {
    /// Which part it is.
    #[serde(flatten)]
    pub page: PageInfo,
    /// Sorted by name unless asked otherwise.
    pub keystores: Vec<Keystore>,
}
