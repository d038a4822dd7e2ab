//! States of managed keys and the transitions between them (design §5, api-v4.md 1.1 and 1.2).

use serde::{Deserialize, Serialize};

use crate::model::desired::Want;

/// State of a managed key: the wanted one, at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ManagedState {
    /// Made, in the repository only.
    PreActivation,
    /// Enabled on its targets.
    Active,
    /// Disabled on its targets.
    Deactivated,
    /// Disabled, never active again.
    Compromised,
    /// Gone everywhere; the record stays.
    Destroyed,
    /// Gone everywhere, and was compromised.
    DestroyedCompromised,
}

/// What people can ask of a managed key's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Activate, or reactivate.
    Activate,
    /// Deactivate.
    Deactivate,
    /// Say that the material is known to others.
    Compromise,
    /// Erase the material everywhere.
    Destroy,
    /// Remove the record.
    Remove,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Activate,
        Self::Deactivate,
        Self::Compromise,
        Self::Destroy,
        Self::Remove,
    ];

    /// The name in API, CLI and audit.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Activate => "activate",
            Self::Deactivate => "deactivate",
            Self::Compromise => "compromise",
            Self::Destroy => "destroy",
            Self::Remove => "remove",
        }
    }
}

/// A transition that is not allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {} a key that is {}; allowed now: {}", action.name(), state.name(), names(allowed))]
pub struct Forbidden {
    /// The state it is in.
    pub state: ManagedState,
    /// What was asked.
    pub action: Action,
    /// What would be allowed.
    pub allowed: Vec<Action>,
}

fn names(allowed: &[Action]) -> String {
    if allowed.is_empty() {
        return "nothing".to_owned();
    }
    allowed
        .iter()
        .map(|action| action.name())
        .collect::<Vec<_>>()
        .join(", ")
}

impl ManagedState {
    /// All of them, in the order of life.
    pub const ALL: [Self; 6] = [
        Self::PreActivation,
        Self::Active,
        Self::Deactivated,
        Self::Compromised,
        Self::Destroyed,
        Self::DestroyedCompromised,
    ];

    /// The name in API, CLI and store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PreActivation => "pre_activation",
            Self::Active => "active",
            Self::Deactivated => "deactivated",
            Self::Compromised => "compromised",
            Self::Destroyed => "destroyed",
            Self::DestroyedCompromised => "destroyed_compromised",
        }
    }

    /// The state of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// What an action leads to. Asking for the state already there is allowed and changes nothing.
    ///
    /// # Errors
    /// [`Forbidden`] names the state and what would be allowed.
    pub fn after(self, action: Action) -> Result<Self, Forbidden> {
        use ManagedState::{
            Active, Compromised, Deactivated, Destroyed, DestroyedCompromised, PreActivation,
        };
        match (self, action) {
            (PreActivation | Active | Deactivated, Action::Activate) => Ok(Active),
            (Active | Deactivated, Action::Deactivate) => Ok(Deactivated),
            (Active | Deactivated | Compromised, Action::Compromise) => Ok(Compromised),
            (PreActivation | Deactivated | Destroyed, Action::Destroy) => Ok(Destroyed),
            (Compromised | DestroyedCompromised, Action::Destroy) => Ok(DestroyedCompromised),
            (Destroyed | DestroyedCompromised, Action::Remove) => Ok(self),
            (state, action) => Err(Forbidden {
                state,
                action,
                allowed: state.allowed(),
            }),
        }
    }

    /// The actions that would change something now.
    #[must_use]
    pub fn allowed(self) -> Vec<Action> {
        match self {
            Self::PreActivation => vec![Action::Activate, Action::Destroy],
            Self::Active => vec![Action::Deactivate, Action::Compromise],
            Self::Deactivated => vec![Action::Activate, Action::Compromise, Action::Destroy],
            Self::Compromised => vec![Action::Destroy],
            Self::Destroyed | Self::DestroyedCompromised => vec![Action::Remove],
        }
    }

    /// What is wanted of an instance on a keystore: `None` where the key was never installed and need not be.
    #[must_use]
    pub const fn want(self, is_target: bool) -> Option<Want> {
        match (self, is_target) {
            (Self::PreActivation, _) => None,
            (Self::Active, true) => Some(Want::Active),
            (Self::Active, false) | (Self::Deactivated | Self::Compromised, _) => {
                Some(Want::Deactivated)
            }
            (Self::Destroyed | Self::DestroyedCompromised, _) => Some(Want::Destroyed),
        }
    }

    /// Whether the material is gone for good.
    #[must_use]
    pub const fn is_destroyed(self) -> bool {
        matches!(self, Self::Destroyed | Self::DestroyedCompromised)
    }
}
