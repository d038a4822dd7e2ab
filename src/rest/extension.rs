//! What stands under /api/lockstep/v1 and API v4 does not have.

use serde::{Deserialize, Serialize};

use crate::rest::list::{IdRef, PageInfo};
use crate::rest::status::{Difference, KeystoreRef};

/// PUT …/managed_keys/{id}/targets: all keystores it is wanted on from now on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetsPut {
    /// Those.
    pub keystores: Vec<IdRef>,
}

/// What can be planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanAction {
    /// Activate.
    Activate,
    /// Deactivate.
    Deactivate,
    /// Compromise.
    Compromise,
    /// Destroy.
    Destroy,
    /// Sync.
    Sync,
    /// Other targets.
    Targets,
    /// Follow the template again.
    UpdateFromTemplate,
}

/// POST …/plan
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanRequest {
    /// The key.
    pub managed_key: IdRef,
    /// What would be asked.
    pub action: PlanAction,
    /// With `targets`: all keystores it would be wanted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keystores: Option<Vec<IdRef>>,
}

/// What an action would cause. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The key.
    pub managed_key: KeyRef,
    /// What was asked.
    pub action: String,
    /// Keystore by keystore.
    pub keystores: Vec<KeystorePlan>,
}

/// What an action would cause on one keystore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeystorePlan {
    /// Which.
    pub keystore: KeystoreRef,
    /// Number of the key's version.
    #[serde(default)]
    pub version: u32,
    /// What would be wanted there; missing: nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub want: Option<String>,
    /// The steps in order, for people; none: it is so already, or nobody can tell now.
    pub steps: Vec<String>,
    /// Why it would be refused, or why the steps are not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// Names a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRef {
    /// Its UUID.
    pub id: String,
    /// Its label.
    pub label: String,
    /// Where it is.
    pub href: String,
}

/// GET …/differences
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DifferenceList {
    /// Which part it is.
    #[serde(flatten)]
    pub page: PageInfo,
    /// All that is not as wanted, anywhere.
    pub differences: Vec<EstateDifference>,
}

/// A difference with its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EstateDifference {
    /// The key.
    pub managed_key: KeyRef,
    /// The keystore.
    pub keystore: KeystoreRef,
    /// What.
    #[serde(flatten)]
    pub difference: Difference,
}

/// GET …/audit
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditList {
    /// Which part it is.
    #[serde(flatten)]
    pub page: PageInfo,
    /// Newest first.
    pub entries: Vec<AuditEntry>,
}

/// What was asked, by whom, and about what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When.
    pub at: String,
    /// Who.
    pub actor: String,
    /// What, such as `key.activate`.
    pub action: String,
    /// About what, such as `key/<id>`.
    pub subject: String,
    /// The operation it belongs to.
    pub operation: String,
    /// Digests of the intents that were written with it, lower-case hex.
    pub intents: Vec<String>,
    /// For people.
    pub detail: String,
    /// The bulk change that it was a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bulk_change: Option<String>,
}
