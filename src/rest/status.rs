//! What is true of a key on each of its keystores.

use serde::{Deserialize, Serialize};

use crate::model::difference::{CausedBy, HealedBy, Reason, Weight};
use crate::model::observed::ProofKind;
use crate::rest::error::ApiError;
use crate::rest::found::Finding;

/// GET …/status_in_keystores and answers of sync, verify and prove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusInKeystores {
    /// All of it in one word, and how far it is.
    #[serde(flatten)]
    pub progress: Progress,
    /// One item for each keystore the key is or was on.
    pub status_in_keystores: Vec<StatusInKeystore>,
}

/// A key over all its keystores. "Deactivated" alone is true only when `phase` is `in_step`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// In one word.
    pub phase: Phase,
    /// Keystores that are as wanted, seen in a fresh look.
    pub confirmed: u64,
    /// Keystores that count.
    pub total: u64,
    /// Those that are not, or not known to be.
    pub unconfirmed: Vec<Unconfirmed>,
}

/// A key over all its keystores, in one word: that of the worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Everywhere as wanted.
    InStep,
    /// A change of ours is on its way.
    Changing,
    /// Somewhere not as wanted.
    OutOfStep,
    /// Somewhere not known.
    Unknown,
}

impl Phase {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::InStep, Self::Changing, Self::OutOfStep, Self::Unknown];

    /// The one of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// The name in API, CLI and pages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InStep => "in_step",
            Self::Changing => "changing",
            Self::OutOfStep => "out_of_step",
            Self::Unknown => "unknown",
        }
    }
}

/// One keystore that has not confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unconfirmed {
    /// Which.
    pub keystore: KeystoreRef,
    /// Number of the key's version there.
    #[serde(default)]
    pub version: u32,
    /// Its status, as in [`StatusInKeystore::sync_status`].
    pub sync_status: String,
    /// Why, of the first of its differences; missing: there is none, only what the message says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Since when that has been seen, or the change been on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Why, for people.
    pub message: String,
}

/// Names a keystore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeystoreRef {
    /// Its UUID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `pkcs11`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where it is.
    pub href: String,
}

/// Names a key instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRef {
    /// Its id: the UUID of the key version.
    pub id: String,
}

/// What is true of a key on one keystore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusInKeystore {
    /// Which.
    pub keystore: KeystoreRef,
    /// The instance.
    pub instance: InstanceRef,
    /// What was found.
    pub status: FoundStatus,
    /// ISO 8601 period for which destruction is held; empty: it is not.
    pub destruction_policy_duration: String,
    /// When it will be destroyed, UTC; empty: destruction is not held.
    pub destruction_at: String,
    /// Whether it is as wanted.
    pub keystore_sync_flag: SyncFlag,
    /// The nearest value that clients know.
    pub keystore_sync_flag_detail: SyncFlagDetail,
    /// Where nothing could be found out, or a change was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ApiError>,
    /// CKA_ID, lower-case hex.
    pub key_id_in_keystore: String,
    /// CKA_LABEL.
    pub label_in_keystore: String,
    /// Whether the keystore is a target; false: it was removed, the material stays there disabled.
    pub is_target: bool,
    /// What is wanted there: `active`, `deactivated`, `destroyed`; `absent` before the first activation.
    pub wanted: String,
    /// `in_sync`, `pending`, `drift`, `unknown`, `diverged`, `failed` or `unavailable`.
    pub sync_status: String,
    /// For people, in a sentence.
    pub message: String,
    /// All that is not as wanted.
    pub differences: Vec<Difference>,
    /// Of an adopted key: what is weak about it.
    #[serde(default)]
    pub findings: Vec<Finding>,
    /// When it was adopted there; missing: Lockstep installed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adopted_at: Option<String>,
    /// When the token was last looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_at: Option<String>,
    /// When it was last tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proved_at: Option<String>,
    /// How.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
    /// Since when a change of ours has been on its way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending_since: Option<String>,
}

/// What was found on a keystore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FoundStatus {
    /// Not there.
    NotPresent,
    /// There and usable.
    Active,
    /// There and not usable.
    NotActive,
    /// Another key is there.
    WrongKey,
    /// Waiting to be destroyed.
    PendingDestruction,
    /// Not known.
    Unknown,
    /// It could not be found out, or a change was refused.
    Error,
}

impl FoundStatus {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::NotPresent,
        Self::Active,
        Self::NotActive,
        Self::WrongKey,
        Self::PendingDestruction,
        Self::Unknown,
        Self::Error,
    ];

    /// The one of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// The name in API, CLI and pages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotPresent => "not_present",
            Self::Active => "active",
            Self::NotActive => "not_active",
            Self::WrongKey => "wrong_key",
            Self::PendingDestruction => "pending_destruction",
            Self::Unknown => "unknown",
            Self::Error => "error",
        }
    }
}

/// Whether it is as wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncFlag {
    /// It is.
    Ok,
    /// It is not.
    OutOfSync,
    /// Nobody can tell.
    Error,
    /// A look is under way.
    VerifyingSync,
}

impl SyncFlag {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ok, Self::OutOfSync, Self::Error, Self::VerifyingSync];

    /// The one of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// The name in API, CLI and pages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::OutOfSync => "out_of_sync",
            Self::Error => "error",
            Self::VerifyingSync => "verifying_sync",
        }
    }
}

/// The nearest reason that clients of API v4 know; ours are in [`StatusInKeystore::differences`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say all that the API says")]
pub enum SyncFlagDetail {
    ActiveKeyIsActiveInKeystore,
    ActiveKeyIsNotActiveInKeystore,
    ConnectionError,
    DeactivatedKeyIsDeactivatedInKeystore,
    DeactivatedKeyIsNotDeactivatedInKeystore,
    DestroyedKeyIsNotPresentInKeystore,
    DestroyedKeyIsPresentInKeystore,
    DestroyedPendingKeyIsNotPresentInKeystore,
    DestroyedPendingKeyIsPendingDestructionInKeystore,
    PreActiveKeyIsNotPresentInKeystore,
    PreActiveKeyIsPresentInKeystore,
    TargetKeystoreRemovedByUser,
    TargetKeystoreRemovedByUserContainsAnActiveKey,
    Unknown,
}

impl SyncFlagDetail {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::ActiveKeyIsActiveInKeystore,
        Self::ActiveKeyIsNotActiveInKeystore,
        Self::ConnectionError,
        Self::DeactivatedKeyIsDeactivatedInKeystore,
        Self::DeactivatedKeyIsNotDeactivatedInKeystore,
        Self::DestroyedKeyIsNotPresentInKeystore,
        Self::DestroyedKeyIsPresentInKeystore,
        Self::DestroyedPendingKeyIsNotPresentInKeystore,
        Self::DestroyedPendingKeyIsPendingDestructionInKeystore,
        Self::PreActiveKeyIsNotPresentInKeystore,
        Self::PreActiveKeyIsPresentInKeystore,
        Self::TargetKeystoreRemovedByUser,
        Self::TargetKeystoreRemovedByUserContainsAnActiveKey,
        Self::Unknown,
    ];

    /// The one of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    /// The name in API, CLI and pages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ActiveKeyIsActiveInKeystore => "active_key_is_active_in_keystore",
            Self::ActiveKeyIsNotActiveInKeystore => "active_key_is_not_active_in_keystore",
            Self::ConnectionError => "connection_error",
            Self::DeactivatedKeyIsDeactivatedInKeystore => {
                "deactivated_key_is_deactivated_in_keystore"
            }
            Self::DeactivatedKeyIsNotDeactivatedInKeystore => {
                "deactivated_key_is_not_deactivated_in_keystore"
            }
            Self::DestroyedKeyIsNotPresentInKeystore => "destroyed_key_is_not_present_in_keystore",
            Self::DestroyedKeyIsPresentInKeystore => "destroyed_key_is_present_in_keystore",
            Self::DestroyedPendingKeyIsNotPresentInKeystore => {
                "destroyed_pending_key_is_not_present_in_keystore"
            }
            Self::DestroyedPendingKeyIsPendingDestructionInKeystore => {
                "destroyed_pending_key_is_pending_destruction_in_keystore"
            }
            Self::PreActiveKeyIsNotPresentInKeystore => "pre_active_key_is_not_present_in_keystore",
            Self::PreActiveKeyIsPresentInKeystore => "pre_active_key_is_present_in_keystore",
            Self::TargetKeystoreRemovedByUser => "target_keystore_removed_by_user",
            Self::TargetKeystoreRemovedByUserContainsAnActiveKey => {
                "target_keystore_removed_by_user_contains_an_active_key"
            }
            Self::Unknown => "unknown",
        }
    }
}

/// One way in which a keystore is not as wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Why.
    pub reason: Reason,
    /// What should be.
    pub expected: String,
    /// What is.
    pub found: String,
    /// Since when it has been seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// The key's revision since which it should have been so.
    pub since_revision: u64,
    /// Whose doing it probably is.
    pub caused_by: CausedBy,
    /// For people, in a sentence.
    pub message: String,
    /// What makes it good again.
    pub healed_by: HealedBy,
    /// Whether it makes the key out of sync there; a `warning` does not.
    #[serde(default = "out_of_sync")]
    pub weight: Weight,
}

/// What a coordinator means that does not say.
const fn out_of_sync() -> Weight {
    Weight::OutOfSync
}

/// How it was proved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// How far it reaches.
    pub kind: ProofKind,
    /// The C_ function that was tried; empty where none was.
    pub operation: String,
    /// What the token answered.
    pub answer: String,
}

#[cfg(test)]
mod tests {
    use crate::rest::status::*;

    fn check<T: Serialize>(all: &[T], name: impl Fn(&T) -> &'static str) {
        for one in all {
            assert_eq!(serde_json::to_value(one).unwrap(), name(one));
        }
    }

    #[test]
    fn names_are_what_is_sent() {
        check(&Phase::ALL, |one| one.name());
        check(&FoundStatus::ALL, |one| one.name());
        check(&SyncFlag::ALL, |one| one.name());
        check(&SyncFlagDetail::ALL, |one| one.name());
    }
}
