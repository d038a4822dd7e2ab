//! Bulk changes: one action on many keys, in waves.

use serde::{Deserialize, Serialize};

use crate::model::bulk::{BulkAction, Late, Outcome, PauseReason, StopOn, WaveSize};
use crate::model::lifecycle::ManagedState;
use crate::rest::extension::KeyRef;
use crate::rest::list::{IdRef, PageInfo, RecordStamps};

/// POST /api/lockstep/v1/bulk_changes; with `dry_run=true` it is planned, and nothing is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BulkCreate {
    /// What is done to each key.
    pub action: BulkAction,
    /// Which keys: all that fit now, by label. Either this or `managed_keys`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<BulkFilter>,
    /// Which keys, in this order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_keys: Option<Vec<IdRef>>,
    /// Sizes of the waves: numbers of keys (`1`), parts of all (`10%`), `group:NAME`, and last `rest`. Left out: `1`, `10%`, `rest`;
    /// of deactivate and compromise `rest` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waves: Option<Vec<WaveSize>>,
    /// What stops it; left out: `out_of_step`, of deactivate and compromise in one wave `never`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_on: Option<StopOn>,
    /// How long a wave may take to be confirmed after its last key, seconds, to 604800; left out: 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirm_within_s: Option<u32>,
    /// What happens then; left out: `pause`, of deactivate and compromise in one wave `go_on`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<Late>,
    /// Digest of a plan that was looked at: if it would be another one now, nothing is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_digest: Option<String>,
}

/// Filters by the names that the list of managed keys has for them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BulkFilter {
    /// Of this vault.
    #[serde(rename = "vault.id", default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<String>,
    /// In one of these states, joined by commas; left out: all but destroyed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// With exactly this label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Made from this template.
    #[serde(
        rename = "template.id",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub template: Option<String>,
    /// With an instance on this keystore.
    #[serde(
        rename = "keystore.id",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub keystore: Option<String>,
}

/// What a bulk change would do. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkPlan {
    /// The action.
    pub action: BulkAction,
    /// How it would be carried out.
    #[serde(flatten)]
    pub terms: BulkTerms,
    /// Digest of all of it, with the very intents: what `plan_digest` of a request names. Lower-case hex.
    pub digest: String,
    /// Keys that would change.
    pub change: u32,
    /// Keys with nothing to do.
    pub nothing_to_do: u32,
    /// Keys that would be refused: they are left out.
    pub refused: u32,
    /// Keys of each wave.
    pub wave_keys: Vec<u32>,
    /// Key by key.
    pub managed_keys: Vec<PlannedKey>,
}

/// How a bulk change is carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkTerms {
    /// Sizes of the waves.
    pub waves: Vec<WaveSize>,
    /// What stops it.
    pub stop_on: StopOn,
    /// How long a wave may take to be confirmed after its last key, seconds.
    pub confirm_within_s: u32,
    /// What happens then.
    pub late: Late,
}

/// What would be done to a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedKey {
    /// The key.
    pub managed_key: KeyRef,
    /// Its state now.
    pub state: ManagedState,
    /// `change`, `nothing_to_do` or `refused`.
    pub verdict: String,
    /// Its wave, from 1; 0: in none.
    pub wave: u32,
    /// Keystores where something would be wanted.
    pub keystores: u32,
    /// Steps on tokens, as far as they are known.
    pub steps: u32,
    /// Why it would not be touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// What waits for a keystore to come back, or would be refused there and is done elsewhere all the same.
    pub notes: Vec<String>,
    /// Digest of its revision, wave, and the very intents that would be written, lower-case hex.
    pub digest: String,
}

/// A reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// A short code.
    pub code: String,
    /// For people.
    pub message: String,
}

/// GET …/bulk_changes
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkList {
    /// Which part it is.
    #[serde(flatten)]
    pub page: PageInfo,
    /// Newest first.
    pub bulk_changes: Vec<Bulk>,
}

/// A bulk change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bulk {
    /// Its UUID.
    pub id: String,
    /// What is done to each key.
    pub action: BulkAction,
    /// `running`, `paused`, `cancelled` or `done`.
    pub state: String,
    /// Why it is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// Which keys were asked for; missing: they were named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<BulkFilter>,
    /// How it is carried out.
    #[serde(flatten)]
    pub terms: BulkTerms,
    /// Digest of the plan that it carries out, lower-case hex.
    pub digest: String,
    /// The wave that is carried out now, or was at last.
    pub wave: u32,
    /// How far the waves are.
    pub progress: Vec<Wave>,
    /// How far all keys are, those in no wave among the skipped.
    pub total: Counts,
    /// The first keys that were refused; all of them: GET …/managed_keys?outcome=refused.
    pub refused: Vec<BulkKey>,
    /// When it ended; empty: not yet.
    pub ended_at: String,
    /// Who and when.
    #[serde(flatten)]
    pub stamps: RecordStamps,
}

/// Why it is paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// In one word.
    pub reason: PauseReason,
    /// For people.
    pub message: String,
    /// Since when.
    pub since: String,
}

/// How far a wave is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wave {
    /// Its number, from 1.
    pub wave: u32,
    /// Its size, as it was asked for.
    pub size: WaveSize,
    /// How far its keys are.
    #[serde(flatten)]
    pub counts: Counts,
}

/// How many keys are how far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// All of them.
    pub keys: u32,
    /// Confirmed by all keystores.
    pub done: u32,
    /// Written, and not confirmed by all keystores.
    pub changing: u32,
    /// Not begun.
    pub pending: u32,
    /// Refused, or out of step.
    pub refused: u32,
    /// Not touched.
    pub skipped: u32,
}

/// GET …/bulk_changes/{id}/managed_keys
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkKeyList {
    /// Which part it is.
    #[serde(flatten)]
    pub page: PageInfo,
    /// In their order.
    pub managed_keys: Vec<BulkKey>,
}

/// One key of a bulk change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkKey {
    /// The key.
    pub managed_key: KeyRef,
    /// Its wave; 0: in none.
    pub wave: u32,
    /// How far it is.
    pub outcome: Outcome,
    /// Why it was refused or skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// How often it was tried again.
    pub retries: u32,
    /// Since when it is so.
    pub since: String,
}

/// POST …/bulk_changes/{id}/resume
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BulkResume {
    /// What was refused stays so, and a wave that is not confirmed is waited for no more; left out: it is tried again.
    #[serde(default)]
    pub leave_behind: bool,
}
