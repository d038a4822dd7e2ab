//! Plans: what an action would cause, keystore by keystore, before anybody confirms it.

use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::Call;
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::templates::unfinished;
use crate::model::desired::Want;
use crate::model::ids::{KeyId, KeystoreId};
use crate::model::lifecycle::{Action, ManagedState};

/// What is thought of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proposal {
    /// A transition.
    Act(Action),
    /// A sync.
    Sync,
    /// Targets taken afresh from the template.
    UpdateFromTemplate,
}

/// What it would cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The key.
    pub key: KeyId,
    /// Its state afterwards.
    pub state: ManagedState,
    /// Keystore by keystore.
    pub keystores: Vec<PlannedKeystore>,
}

/// What it would cause on one keystore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedKeystore {
    /// The keystore.
    pub keystore: KeystoreId,
    /// Its name.
    pub name: String,
    /// What would be wanted there; none: nothing.
    pub want: Option<Want>,
    /// The steps on the token as last seen, for people.
    pub steps: Vec<String>,
    /// Why it would not go, or not now.
    pub refused: Option<String>,
}

impl Ops {
    /// What a proposal would cause. Changes nothing.
    ///
    /// # Errors
    /// `NotFound`; `StateConflict` where the transition is not allowed.
    pub async fn key_plan(
        &self,
        _call: &Call,
        _id: KeyId,
        _proposal: Proposal,
    ) -> Result<Plan, OpsError> {
        Err(unfinished())
    }
}
