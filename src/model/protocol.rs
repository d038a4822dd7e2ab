//! What travels on the session between coordinator and agent, in our own types; `wire` turns it into protobuf.

use serde::{Deserialize, Serialize};

use crate::model::canonical::Canonical;
use crate::model::capabilities::{Capabilities, Strategy};
use crate::model::desired::{Applied, Intent, Want};
use crate::model::ids::{
    BootId, Digest, Generation, KeyVersionId, KeystoreId, SessionNumber, Term,
};
use crate::model::job::TokenFailure;
use crate::model::keystore::{Health, TokenInfo, Variant};
use crate::model::material::{Envelope, Signed};
use crate::model::observed::{ObjectFacts, Observation, Proof};
use crate::model::regression::Regression;

/// Most reports one frame carries.
pub const REPORTS_PER_FRAME_MAX: usize = 200;

/// Furthest a generation may be ahead of the journal's (threats.md T2).
pub const GENERATION_JUMP_MAX: u64 = 1 << 20;

/// What heartbeats compare: SHA-256 over (version, generation) of the instances, in the order of their versions. Destroyed
/// ones are left out: an agent keeps its tombstones for ever, a store need not.
#[must_use]
pub fn wanted_digest(instances: impl Iterator<Item = (KeyVersionId, Generation, Want)>) -> Digest {
    instances
        .filter(|&(_, _, want)| want != Want::Destroyed)
        .fold(
            Canonical::new("lockstep/wanted/1"),
            |canonical, (version, generation, _)| {
                canonical
                    .bytes(version.uuid().as_bytes())
                    .number(generation.0)
            },
        )
        .digest()
}

/// What an agent says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The keystore it is bound to; none before `bind`.
    pub keystore: Option<KeystoreId>,
    /// The marker's epoch.
    pub epoch: crate::model::ids::Epoch,
    /// Software version.
    pub version: String,
    /// SHA-256 of its identity key.
    pub identity: Digest,
    /// Internal or external, from its config.
    pub variant: Variant,
    /// The token.
    pub token: TokenInfo,
    /// What works; none while the token could not be opened.
    pub capabilities: Option<Capabilities>,
    /// What the token should be able to do, where it can do less: the last good report, until an operator accepts the latest.
    pub accepted: Option<Capabilities>,
    /// How well it is.
    pub health: Health,
    /// Records in its journal.
    pub journal_records: u64,
    /// Its clock, Unix milliseconds.
    pub clock: crate::model::vault::UnixMs,
}

impl Description {
    /// What the token could do once and cannot now.
    #[must_use]
    pub fn lost(&self) -> Vec<Regression> {
        match (&self.accepted, &self.capabilities) {
            (Some(could), Some(can)) => could.regressions(can),
            (None, _) | (_, None) => Vec::new(),
        }
    }
}

/// How far a coordinator got in the reports of an agent's run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The run.
    pub boot: BootId,
    /// The last sequence number it holds.
    pub seq: u64,
}

/// From coordinator to agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Down {
    /// First frame.
    Open {
        /// The coordinator's lease on the keystore.
        term: Term,
        /// The keystore that is meant: another one is refused.
        keystore: KeystoreId,
        /// What the coordinator still holds of this agent's reports; none: send all.
        cursor: Option<Cursor>,
    },
    /// A wanted state, with material where there is some.
    Intent {
        /// The intent.
        intent: Box<Intent>,
        /// The envelope.
        envelope: Option<Box<Signed<Envelope>>>,
    },
    /// Look now, at one instance or at all.
    Look {
        /// Which; none: scan.
        version: Option<KeyVersionId>,
    },
    /// Still there.
    Heartbeat {
        /// SHA-256 over (version, generation) of all wanted instances, in order (threats.md T3).
        wanted: Digest,
    },
}

/// From agent to coordinator, numbered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Up {
    /// Strictly increasing within a boot.
    pub seq: u64,
    /// What is said.
    pub body: UpBody,
}

impl Up {
    /// Whether it says of an instance that its intent was carried out.
    #[must_use]
    pub fn tells_of_done(&self) -> bool {
        let is_done = |report: &Report| report.progress == Progress::Done;
        matches!(&self.body, UpBody::Reports(reports) if reports.iter().any(is_done))
    }
}

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpBody {
    /// First frame: the session counts from here.
    Accepted {
        /// Its number.
        session: SessionNumber,
        /// The agent's run.
        boot: BootId,
        /// Whether everything follows, or only what changed since the cursor.
        full: bool,
    },
    /// Instead of `Accepted`, and the stream ends.
    Rejected(SessionRefusal),
    /// What is known of instances.
    Reports(Vec<Report>),
    /// Keys on the token that no intent speaks of: all of them, replacing what was said before.
    Unmanaged(Vec<ObjectFacts>),
    /// All that was known has been said; the look at the token it rests on was this long ago.
    CaughtUp {
        /// Age of the last scan, milliseconds.
        scan_age_ms: u64,
    },
    /// An intent was not taken.
    Refused {
        /// Which instance.
        version: KeyVersionId,
        /// Which generation was refused.
        generation: Generation,
        /// Why.
        refusal: Refusal,
    },
    /// The token's health changed.
    Health(Health),
    /// Still there.
    Heartbeat {
        /// The digest as the agent's journal gives it.
        wanted: Digest,
        /// Age of the last complete scan, milliseconds.
        scan_age_ms: u64,
    },
}

/// Why a session was not opened, or ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionRefusal {
    /// A higher term was accepted before.
    #[error("stale term: this agent has accepted term {highest}")]
    StaleTerm {
        /// The highest so far.
        highest: Term,
    },
    /// Another session was opened, which ends this one.
    #[error("taken over: another session was opened under term {term}")]
    TakenOver {
        /// Its term.
        term: Term,
    },
    /// The agent is another keystore's.
    #[error("this agent serves keystore {}", actual.map_or_else(|| "none (not bound)".to_owned(), |id| id.to_string()))]
    WrongKeystore {
        /// Whose it is.
        actual: Option<KeystoreId>,
    },
    /// The first frame was not `Open`, or a frame could not be read.
    #[error("protocol error: {detail}")]
    Protocol {
        /// What was wrong.
        detail: String,
    },
}

/// Why an intent was not taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The journal holds a newer one.
    #[error("stale: the agent's journal holds generation {}", .0.generation)]
    Stale(Applied),
    /// The journal holds another content under that number.
    #[error("conflict: the agent's journal holds another intent as generation {}", .0.generation)]
    Conflict(Applied),
    /// Too far ahead.
    #[error("jump: the generation is more than {GENERATION_JUMP_MAX} ahead of {last}")]
    Jump {
        /// The last one.
        last: Generation,
    },
    /// The key was destroyed here: it never lives again.
    #[error("tombstone: the key was destroyed here in generation {}", .0.generation)]
    Tombstone(Applied),
    /// Not for this keystore.
    #[error("the intent is for keystore {wanted}")]
    WrongKeystore {
        /// For which it is.
        wanted: KeystoreId,
    },
    /// The envelope does not fit the intent, or its signer is not listed.
    #[error("envelope refused: {reason}")]
    Envelope {
        /// Which check failed, such as `peer_not_listed`.
        reason: String,
    },
    /// The keystore takes no such intent now.
    #[error("not now: {0}")]
    Unhealthy(Health),
    /// The journal could not be written: nothing was done.
    #[error("the journal cannot be written: {detail}")]
    Journal {
        /// The system's error.
        detail: String,
    },
}

/// The one uplink message about an instance. An acknowledgement is just a report (promises 0.3).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Which instance.
    pub version: KeyVersionId,
    /// The intent in the journal; none: never had one.
    pub applied: Option<Applied>,
    /// How far it is.
    pub progress: Progress,
    /// What the token holds.
    pub observation: Observation,
    /// The last proof since the last effect.
    pub proof: Option<Proof>,
    /// Age of that proof, milliseconds.
    pub proof_age_ms: u64,
    /// Age of the look, milliseconds.
    pub look_age_ms: u64,
    /// How the agent enables and disables this instance.
    pub strategy: Strategy,
}

/// How far an agent is with the intent in its journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Progress {
    /// Carried out and read back.
    Done,
    /// Under way.
    Busy,
    /// An envelope for exactly this generation is needed.
    NeedsMaterial,
    /// It cannot be done; tried again when the coordinator sends it again.
    Failed(TokenFailure),
    /// The outcome is not known yet; a look will tell.
    Unknown {
        /// For people.
        why: String,
    },
}
