//! Sentences about a keystore's truth: the same ones in API, CLI and pages.

use crate::coordinator::ops::keys::KeyView;
use crate::coordinator::ops::status::{InKeystore, Observed};
use crate::decide::status::{KeyPhase, Phase};
use crate::model::difference::{CausedBy, Difference, HealedBy, Reason, Seen, Status};
use crate::model::observed::{Proof, ProofKind};

impl InKeystore {
    /// What is true there, in a sentence.
    #[must_use]
    pub fn message(&self) -> String {
        match &self.status {
            Status::InSync(_) => {
                let proof = self.proof.as_ref().map(proof_words);
                let found = seen_words(self.seen);
                proof.map_or_else(
                    || format!("as wanted: {found}"),
                    |proof| format!("as wanted: {found}, {proof}"),
                )
            }
            Status::Pending { why, .. } => {
                let found = seen_words(self.seen);
                format!("a change is on its way ({why}); last seen {found}")
            }
            Status::Unknown { why } => match self.last_seen.as_ref() {
                Some(last) => format!("not known: {why}; last seen {}", seen_words(last.seen)),
                None => format!("not known: {why}"),
            },
            Status::Drift => self.differences.first().map_or_else(
                || "not as wanted".to_owned(),
                |first| format!("not as wanted: {}", first.message()),
            ),
            Status::Diverged => {
                "the agent's journal is ahead of this coordinator's store: an operator must look"
                    .to_owned()
            }
            Status::Failed { why } => format!("the change was refused or failed: {why}"),
            Status::Unavailable { why } => format!("the token is not available: {why}"),
        }
    }
}

impl Observed {
    /// What differs, whose doing it probably is, and what helps, in a sentence.
    #[must_use]
    pub fn message(&self) -> String {
        let what = reason_words(self.difference.reason);
        let detail = self.detail();
        let hints: String = self
            .hints()
            .iter()
            .map(|hint| format!("; {hint}"))
            .collect();
        format!("{what} ({detail}){hints}")
    }

    /// What should be and what is; of a reason that lies not in what the token holds: what is the matter.
    #[must_use]
    pub fn detail(&self) -> String {
        let Difference {
            reason,
            expected,
            found,
            ..
        } = &self.difference;
        if is_about_facts(*reason) {
            format!("expected {expected}, found {found}")
        } else {
            format!("{found}; wanted: {expected}")
        }
    }

    /// Whose doing it probably is, and what helps.
    #[must_use]
    pub fn hints(&self) -> Vec<&'static str> {
        let cause = match self.difference.caused_by {
            CausedBy::OutOfBand => Some("changed on the token by somebody else"),
            CausedBy::FailedChange => Some("our own change failed"),
            CausedBy::PendingChange | CausedBy::Unknown => None,
        };
        let lost = self.difference.reason == Reason::CapabilityLost;
        let help = match self.difference.healed_by {
            HealedBy::Operator if lost => Some(
                "bring the token's firmware or library back, or take it as it is with keystore probe --accept",
            ),
            HealedBy::Operator if self.difference.reason == Reason::StrategyOutdated => Some(
                "the repository could not bring it back: let it be flags or copy there, or destroy the key",
            ),
            HealedBy::Operator if self.difference.reason == Reason::Diverged => {
                Some("lockstep recover shows what the agents know better, and goes on")
            }
            HealedBy::Operator if self.difference.reason == Reason::TokenRestored => Some(
                "find out who put it back; sync of each key, or of all, makes it as it should be",
            ),
            HealedBy::Sync => Some("sync puts it right"),
            HealedBy::Operator => Some("a person must look at the token"),
            HealedBy::Waiting => None,
        };
        cause.into_iter().chain(help).collect()
    }
}

/// Whether a reason compares what is on the token with what should be there.
const fn is_about_facts(reason: Reason) -> bool {
    match reason {
        Reason::Missing
        | Reason::IdChanged
        | Reason::NotWithdrawn
        | Reason::LabelTaken
        | Reason::WrongKey
        | Reason::EnabledUnexpectedly
        | Reason::DisabledUnexpectedly
        | Reason::UsageChanged
        | Reason::LabelChanged
        | Reason::ProtectionWeakened
        | Reason::Duplicated
        | Reason::HalfPair
        | Reason::DestroyedKeyPresent
        | Reason::RemovedTargetActive
        | Reason::StrategyOutdated
        | Reason::CapabilityLost
        | Reason::TokenRestored => true,
        Reason::Suspected
        | Reason::Unproved
        | Reason::Pending
        | Reason::Late
        | Reason::Failed
        | Reason::Diverged
        | Reason::Unreachable
        | Reason::TokenUnavailable => false,
    }
}

/// What a reason means.
#[must_use]
pub const fn reason_words(reason: Reason) -> &'static str {
    match reason {
        Reason::Missing => "the key is missing from the token",
        Reason::IdChanged => "the key's id on the token was changed",
        Reason::NotWithdrawn => {
            "the key is still on a token that deactivated keys are withdrawn from"
        }
        Reason::LabelTaken => "another object has the key's label",
        Reason::WrongKey => "another key is in its place",
        Reason::EnabledUnexpectedly => "the key is usable and should not be",
        Reason::DisabledUnexpectedly => "the key is not usable and should be",
        Reason::UsageChanged => "some usages were changed",
        Reason::LabelChanged => "the key's label on the token was changed",
        Reason::ProtectionWeakened => "the key's protection was weakened",
        Reason::Duplicated => "there is more than one such key on the token",
        Reason::HalfPair => "one half of the key pair is missing",
        Reason::DestroyedKeyPresent => "the key was destroyed and is on the token",
        Reason::RemovedTargetActive => {
            "the keystore is no longer a target and the key is usable there"
        }
        Reason::StrategyOutdated => "the key follows a strategy that is not demanded any more",
        Reason::CapabilityLost => "the token can do less than it could",
        Reason::TokenRestored => "the token looks like an older image of itself",
        Reason::Suspected => "the last look missed the key; a second look decides",
        Reason::Unproved => "the key's material could not be checked",
        Reason::Pending => "a change is on its way",
        Reason::Late => "a change is late",
        Reason::Failed => "a change failed or was refused",
        Reason::Diverged => "the agent is ahead of this coordinator's store",
        Reason::Unreachable => "the keystore cannot be reached",
        Reason::TokenUnavailable => "the token is not available",
    }
}

const fn phase_words(phase: Phase) -> &'static str {
    match phase {
        Phase::InStep => "In step",
        Phase::Changing => "Changing",
        Phase::OutOfStep => "Out of step",
        Phase::Unknown => "Unknown",
    }
}

/// How far a key or a version is, for pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PhaseTold {
    /// In words.
    pub words: &'static str,
    /// Its own name.
    pub name: &'static str,
    /// `3 of 4 confirmed`.
    pub progress: String,
}

/// How far a key or a version is, for pages.
#[must_use]
pub fn phase_told(phase: &KeyPhase) -> PhaseTold {
    PhaseTold {
        words: phase_words(phase.phase),
        name: phase.phase.name(),
        progress: format!("{} of {} confirmed", phase.confirmed, phase.total),
    }
}

/// What was seen, in words.
#[must_use]
pub const fn seen_words(seen: Seen) -> &'static str {
    match seen {
        Seen::Active => "there and usable",
        Seen::NotActive => "there and not usable",
        Seen::NotPresent => "not there",
        Seen::WrongKey => "another key in its place",
        Seen::Unknown => "never",
    }
}

/// How it was proved, in words.
#[must_use]
pub fn proof_words(proof: &Proof) -> String {
    match proof.kind {
        ProofKind::Tried => format!("proved by {} ({})", proof.operation, proof.answer),
        ProofKind::ReadBack => "read back from the token".to_owned(),
    }
}

/// How many keys are how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PhaseCounts {
    /// As wanted everywhere.
    pub in_step: usize,
    /// With a change on its way.
    pub changing: usize,
    /// Not as wanted somewhere.
    pub out_of_step: usize,
    /// Not known somewhere.
    pub unknown: usize,
}

impl PhaseCounts {
    /// Counts one more.
    pub const fn add(&mut self, phase: Phase) {
        match phase {
            Phase::InStep => self.in_step += 1,
            Phase::Changing => self.changing += 1,
            Phase::OutOfStep => self.out_of_step += 1,
            Phase::Unknown => self.unknown += 1,
        }
    }

    /// All of them.
    #[must_use]
    pub const fn total(&self) -> usize {
        self.in_step + self.changing + self.out_of_step + self.unknown
    }
}

impl KeyView {
    /// Whether every keystore has confirmed.
    #[must_use]
    pub const fn is_in_step(&self) -> bool {
        matches!(self.phase.phase, Phase::InStep)
    }
}
