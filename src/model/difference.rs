//! Why an observation is not as desired: typed reasons, and the status they add up to (promises 1.3).

use serde::{Deserialize, Serialize};

use crate::model::desired::Want;
use crate::model::ids::{Generation, Revision};

/// Why an instance is not as it should be. Closed: pages, API and CLI know all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// No object with its CKA_ID.
    Missing,
    /// Missing, and an object with its label and fingerprint has another CKA_ID.
    IdChanged,
    /// Deactivated keys are withdrawn from this keystore, and it is still there.
    NotWithdrawn,
    /// Its label now belongs to another object, and its own is missing; or an install found the label taken.
    LabelTaken,
    /// The material is another.
    WrongKey,
    /// Usable although it should not be.
    EnabledUnexpectedly,
    /// Not usable although it should be.
    DisabledUnexpectedly,
    /// Some usages differ.
    UsageChanged,
    /// CKA_LABEL differs.
    LabelChanged,
    /// SENSITIVE off or EXTRACTABLE on.
    ProtectionWeakened,
    /// More than one object of a class.
    Duplicated,
    /// One half of a pair is missing.
    HalfPair,
    /// Present although destroyed.
    DestroyedKeyPresent,
    /// Enabled on a keystore that was removed from the targets.
    RemovedTargetActive,
    /// Carried out by another strategy than its vault or keystore demands now.
    StrategyOutdated,
    /// Its token could do something once that it rests on, and cannot any more.
    CapabilityLost,
    /// Of a keystore: so much on its token is as it was once that it looks like an older image of itself.
    TokenRestored,
    /// One look missed it; a second one decides.
    Suspected,
    /// The fingerprint could not be had, so nothing is claimed.
    Unproved,
    /// A change of ours is under way.
    Pending,
    /// A change of ours is late.
    Late,
    /// A change of ours failed or was refused.
    Failed,
    /// The agent's journal is ahead of the store, or holds another content.
    Diverged,
    /// The keystore cannot be looked at.
    Unreachable,
    /// The token is not the one that was bound, or cannot be opened.
    TokenUnavailable,
}

impl Reason {
    /// The name in API, CLI and pages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::IdChanged => "id_changed",
            Self::NotWithdrawn => "not_withdrawn",
            Self::LabelTaken => "label_taken",
            Self::WrongKey => "wrong_key",
            Self::EnabledUnexpectedly => "enabled_unexpectedly",
            Self::DisabledUnexpectedly => "disabled_unexpectedly",
            Self::UsageChanged => "usage_changed",
            Self::LabelChanged => "label_changed",
            Self::ProtectionWeakened => "protection_weakened",
            Self::Duplicated => "duplicated",
            Self::HalfPair => "half_pair",
            Self::DestroyedKeyPresent => "destroyed_key_present",
            Self::RemovedTargetActive => "removed_target_active",
            Self::StrategyOutdated => "strategy_outdated",
            Self::CapabilityLost => "capability_lost",
            Self::TokenRestored => "token_restored",
            Self::Suspected => "suspected",
            Self::Unproved => "unproved",
            Self::Pending => "pending",
            Self::Late => "late",
            Self::Failed => "failed",
            Self::Diverged => "diverged",
            Self::Unreachable => "unreachable",
            Self::TokenUnavailable => "token_unavailable",
        }
    }
}

/// Whose doing a difference probably is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CausedBy {
    /// No change of ours was under way.
    OutOfBand,
    /// A change of ours is under way.
    PendingChange,
    /// A change of ours failed.
    FailedChange,
    /// Nobody can tell.
    Unknown,
}

/// What makes it good again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealedBy {
    /// Sync.
    Sync,
    /// A person at the token.
    Operator,
    /// Waiting.
    Waiting,
}

/// How much a difference weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weight {
    /// What is there now is as wanted; a later change, or somebody's look, rests on it.
    Warning,
    /// What is there now is not as wanted, or not known to be.
    OutOfSync,
}

impl Weight {
    /// The weight of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Warning, Self::OutOfSync]
            .into_iter()
            .find(|one| one.name() == name)
    }

    /// The name in API and CLI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::OutOfSync => "out_of_sync",
        }
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The reason.
    pub reason: Reason,
    /// What should be, in words.
    pub expected: String,
    /// What is, in words.
    pub found: String,
    /// Whose doing it probably is.
    pub caused_by: CausedBy,
    /// What makes it good again.
    pub healed_by: HealedBy,
    /// Whether the instance is out of sync by it.
    pub weight: Weight,
    /// The key's revision since which it should have been so.
    pub since_revision: Revision,
}

/// Status of an instance: a pure function of what is wanted and the live session's report. Never stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// No fresh report in the live session.
    Unknown {
        /// For people.
        why: String,
    },
    /// Our change is not yet confirmed.
    Pending {
        /// The generation that is on its way.
        generation: Generation,
        /// For people.
        why: String,
    },
    /// As wanted, and the token says so.
    InSync(Want),
    /// Not as wanted although our last change was done.
    Drift,
    /// The agent is ahead of the store.
    Diverged,
    /// Our change was refused for good.
    Failed {
        /// For people.
        why: String,
    },
    /// The token is gone or is not the one.
    Unavailable {
        /// For people.
        why: String,
    },
}

impl Status {
    /// The name in API, CLI and pages.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "unknown",
            Self::Pending { .. } => "pending",
            Self::InSync(_) => "in_sync",
            Self::Drift => "drift",
            Self::Diverged => "diverged",
            Self::Failed { .. } => "failed",
            Self::Unavailable { .. } => "unavailable",
        }
    }
}

/// What an instance looks like to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// There and usable.
    Active,
    /// There and not usable.
    NotActive,
    /// Not there.
    NotPresent,
    /// Another key is there.
    WrongKey,
    /// Not known.
    Unknown,
}
