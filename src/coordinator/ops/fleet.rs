//! The port to the agents: `reconcile` implements it, the mains join the two.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::model::adoption::{Candidate, Examined};
use crate::model::ids::{KeyVersionId, KeystoreId};
use crate::model::key::KeySpec;
use crate::model::keystore::Health;
use crate::model::live::{Connection, Differing, Live};
use crate::model::material::RepositoryCopy;
use crate::model::observed::{ObjectFacts, Proof};
use crate::model::protocol::{Description, Report};

/// Why an agent could not be asked, by what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum FleetError {
    /// No connection, or it broke.
    #[error("agent not reachable: {why}")]
    Unreachable {
        /// For people.
        why: String,
    },
    /// The other side is not who it should be.
    #[error("agent identity: {why}")]
    Identity {
        /// For people.
        why: String,
    },
    /// The agent said no.
    #[error("{reason}")]
    Refused {
        /// A short code such as `no_common_wrapping`.
        code: String,
        /// For people.
        reason: String,
    },
    /// No answer in time: the outcome is not known.
    #[error("no answer in time: the outcome is not known yet")]
    Late,
}

/// A keystore's line and token as the fleet knows them now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveKeystore {
    /// The line.
    pub connection: Connection,
    /// The token's health, as told in this session.
    pub health: Option<Health>,
    /// What the agent said of itself when the session began.
    #[serde(with = "shared")]
    pub description: Option<Arc<Description>>,
    /// Keys on the token that nobody manages.
    pub unmanaged: Vec<ObjectFacts>,
    /// Age of the last complete scan, milliseconds.
    pub scan_age_ms: Option<u64>,
}

/// What waits on the way to an agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waiting {
    /// What the session was told and has not taken yet; about as many as the keystore has keys at most.
    pub notes: usize,
    /// Frames that the agent has not read; bounded.
    pub frames: usize,
}

/// What is shared in memory is written as what it is.
mod shared {
    use std::sync::Arc;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<T, S>(value: &Option<Arc<T>>, to: S) -> Result<S::Ok, S::Error>
    where
        T: Serialize,
        S: Serializer,
    {
        value.as_deref().serialize(to)
    }

    pub(super) fn deserialize<'de, T, D>(from: D) -> Result<Option<Arc<T>>, D::Error>
    where
        T: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        Ok(Option::deserialize(from)?.map(Arc::new))
    }
}

/// The agents.
#[async_trait]
pub trait Fleet: Send + Sync + std::fmt::Debug {
    /// Dials an agent that may not be known yet, checks its URI name, and asks who it is. Stores nothing.
    async fn describe(&self, endpoint: &str, agent_name: &str) -> Result<Description, FleetError>;
    /// Asks an internal keystore for a new key. Safe to repeat: an unconfirmed key never leaves the session object it was.
    async fn generate(
        &self,
        keystore: KeystoreId,
        version: KeyVersionId,
        spec: KeySpec,
        salt: Vec<u8>,
    ) -> Result<RepositoryCopy, FleetError>;
    /// Asks for a look at one instance, or at the whole token, and waits until its report has come.
    async fn look(
        &self,
        keystore: KeystoreId,
        version: Option<KeyVersionId>,
    ) -> Result<(), FleetError>;
    /// Asks to try an instance again: the proof of its enable or disable.
    async fn prove(&self, keystore: KeystoreId, version: KeyVersionId)
    -> Result<Proof, FleetError>;
    /// Asks to try again what a token can do; with `accept`, what it can do now is what it should. The description of the
    /// keystore says it afterwards.
    async fn probe(&self, keystore: KeystoreId, accept: bool) -> Result<(), FleetError>;
    /// Asks what keys are that others made, at most `EXAMINE_KEYS_MAX`; one answer for each, in their order.
    async fn examine(
        &self,
        keystore: KeystoreId,
        salt: Vec<u8>,
        keys: Vec<Candidate>,
    ) -> Result<Vec<Examined>, FleetError>;
    /// Says that something is wanted of these keystores: a hint, the timer would find it too. Also after one was added or removed.
    fn wake(&self, keystores: &[KeystoreId]);
    /// Says that something else is wanted of these instances, and of nothing else on their keystores: a hint too, which costs
    /// as much as what changed.
    fn wanted(&self, instances: &[(KeystoreId, KeyVersionId)]) {
        let keystores: BTreeSet<KeystoreId> = instances.iter().map(|(id, _)| *id).collect();
        self.wake(&keystores.into_iter().collect::<Vec<_>>());
    }
    /// What the live session knows of an instance.
    fn live(&self, keystore: KeystoreId, version: KeyVersionId) -> Live;
    /// The instances of a keystore that are not as wanted, as far as the live session tells; none without one.
    fn differing(&self, keystore: KeystoreId) -> Differing;
    /// Whether this coordinator has the session with that keystore: the others leave to it what need be done but once.
    fn keeps(&self, keystore: KeystoreId) -> bool;
    /// What the agent of a keystore last said of itself.
    fn description(&self, keystore: KeystoreId) -> Option<Arc<Description>>;
    /// What waits for a keystore's session, and for its agent to read it.
    fn waiting(&self, _keystore: KeystoreId) -> Waiting {
        Waiting::default()
    }
    /// What is known of a keystore.
    fn live_keystore(&self, keystore: KeystoreId) -> LiveKeystore;
    /// Whether the store was found to be older than its agents, and no operator has looked yet: nothing is enabled.
    fn is_behind(&self) -> bool;
    /// What a keystore's agent keeps in this session and the store does not know.
    fn strangers(&self, keystore: KeystoreId) -> Vec<Report>;
    /// An operator has looked, and the store says so: go on.
    fn recovered(&self);
    /// Changes its value whenever a report, a refusal or a connection changed: wait on it instead of polling.
    fn changes(&self) -> watch::Receiver<u64>;
}
