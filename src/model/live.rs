//! What the live session of a keystore knows of one instance: the input of `decide::status`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::capabilities::Strategy;
use crate::model::difference::Reason;
use crate::model::ids::{Generation, KeyVersionId};
use crate::model::keystore::Health;
use crate::model::protocol::{Description, Refusal, Report};
use crate::model::vault::UnixMs;

/// The line to an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Connection {
    /// No session since this coordinator started.
    #[error("not connected since the coordinator started: {why}")]
    Never {
        /// Why the last try failed, for people.
        why: String,
    },
    /// There was one, and it ended.
    #[error("not connected: {why}")]
    Down {
        /// Why, for people.
        why: String,
        /// When it ended.
        since: UnixMs,
    },
    /// There is one, and the agent has not yet said all it knows.
    #[error("connected; the agent has not reported everything yet")]
    CatchingUp,
    /// There is one, and it has.
    #[error("connected")]
    Live,
}

/// One instance as the live session knows it. A report counts only while the connection is `Live`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Live {
    /// The line.
    pub connection: Connection,
    /// The token's health as last told in this session.
    pub health: Option<Health>,
    /// The last report of this session, its ages as of now.
    pub report: Option<Report>,
    /// Age of the look that the report rests on, milliseconds, as of now.
    pub look_age_ms: u64,
    /// Looks older than this count for nothing, milliseconds (promises 1.3).
    pub fresh_for_ms: u64,
    /// The last refusal of this session, if nothing newer was taken.
    pub refused: Option<(Generation, Refusal)>,
    /// Why the last try to get an envelope for the intent in force failed, for people.
    pub material_failure: Option<String>,
    /// Since when each difference has been there.
    pub since: Vec<(Reason, UnixMs)>,
}

/// Which instances of a keystore the live session tells something of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differing {
    /// How many instances there are on it, or should be.
    pub of: usize,
    /// Those with differences, and their reasons.
    pub instances: Vec<(KeyVersionId, Vec<Reason>)>,
}

/// What is demanded of keys on a keystore now, and what its token can do: the input of `decide::status` beside [`Live`].
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// The weakest strategy: the greater of the keystore's pin and its vault's demand. None: not known, nothing is claimed.
    pub strategy: Option<Strategy>,
    /// What the agent last said of its token. None: nothing is known of it.
    pub described: Option<Arc<Description>>,
}

/// What was seen before this session: shown with its age, never counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastSeen {
    /// `active`, `not active`, `not present`, ...
    pub seen: crate::model::difference::Seen,
    /// When, for people.
    pub at: UnixMs,
    /// When it was last proved.
    pub proved_at: Option<UnixMs>,
    /// How it was proved, for people.
    pub proof: String,
}
