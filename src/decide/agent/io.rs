//! What goes into the agent's machine and what comes out of it.

use crate::decide::agent::record::JournalRecord;
use crate::model::capabilities::Capabilities;
use crate::model::desired::Intent;
use crate::model::ids::{BootId, Digest, Epoch, KeyVersionId, KeystoreId, Term};
use crate::model::job::{TokenFailure, TokenJob, TokenOutcome};
use crate::model::keystore::Health;
use crate::model::material::Envelope;
use crate::model::protocol::{Cursor, Report, Up};
use crate::model::vault::UnixMs;

/// Shortest time between the starts of two scans, milliseconds (promises R13).
pub const SCAN_MS: u64 = 2_000;

/// Scans and fingerprints in rotation may take one part in this many of a core: the next scan starts no sooner than this
/// many times the CPU time of both.
pub const LOOKS_CPU_FACTOR: u64 = 12;

/// They may keep the token busy for one part in this many of the time: a token behind a network takes little of our CPU.
pub const LOOKS_TIME_FACTOR: u64 = 4;

/// Least time between the look that missed something and the one that confirms it, milliseconds.
pub const SECOND_LOOK_MS: u64 = 2_000;

/// Each fingerprint is taken again after this time, as far as [`LOOKS_CPU_FACTOR`] allows, milliseconds: what is left of the
/// promised 30 s is for a thousand others whose turn it is too.
pub const FINGERPRINT_MS: u64 = 25_000;

/// What the machine knows from configuration. Read once, when it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// The keystore this agent serves; none before it was bound.
    pub keystore: Option<KeystoreId>,
    /// The binding; only means something with a keystore.
    pub epoch: Epoch,
    /// This run of the process.
    pub boot: BootId,
    /// Label of the wanted token, told in [`Health::TokenNotFound`].
    pub token_label: String,
    /// Serial number of the wanted token; empty: any.
    pub token_serial: String,
    /// The wall clock at the `now_ms` given to `recover`. For ages that outlive a restart only: nothing is ordered by it.
    pub clock: UnixMs,
    /// How often it looks.
    pub pace: Pace,
}

/// How often the machine looks at its token; the defaults are the promised ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Milliseconds, see [`SCAN_MS`].
    pub scan_ms: u64,
    /// Milliseconds, see [`SECOND_LOOK_MS`].
    pub second_look_ms: u64,
    /// Milliseconds, see [`FINGERPRINT_MS`].
    pub fingerprint_ms: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            scan_ms: SCAN_MS,
            second_look_ms: SECOND_LOOK_MS,
            fingerprint_ms: FINGERPRINT_MS,
        }
    }
}

/// One stream from a coordinator, numbered by the process; never used twice in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId(pub u64);

/// Ties an answer (`JournalWritten`, `Token`) to what was put out. Never used twice in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What happened. Inputs that name a stream which is not the live one are dropped: they die with their session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// Time passed. Also the first input after `recover`: it starts the first look. Harmless at any moment.
    Tick,
    /// A coordinator's first frame.
    Open {
        /// The stream.
        stream: StreamId,
        /// The coordinator's lease.
        term: Term,
        /// The keystore it means.
        keystore: KeystoreId,
        /// What it holds of this agent's reports.
        cursor: Option<Cursor>,
    },
    /// The stream ended, for whatever reason (also after `Close`).
    StreamGone {
        /// The stream.
        stream: StreamId,
    },
    /// A wanted state.
    Intent {
        /// The stream.
        stream: StreamId,
        /// The intent, its digest compared with the one that came along.
        intent: Box<Intent>,
        /// Material. The process has checked signature, signer (`peers.toml`) and the digest of our transport key;
        /// what failed is named, such as `peer_not_listed`. The machine checks that it fits the intent.
        envelope: Option<Result<Box<Envelope>, String>>,
    },
    /// Look now.
    Look {
        /// The stream.
        stream: StreamId,
        /// At which instance; none: at the whole token.
        version: Option<KeyVersionId>,
    },
    /// The coordinator is still there.
    Heartbeat {
        /// The stream.
        stream: StreamId,
        /// What it thinks is wanted here.
        wanted: Digest,
    },
    /// The record of [`Output::Journal`] is durable, or it is not. Comes once per ticket, in the order they were put out.
    JournalWritten {
        /// Which.
        ticket: Ticket,
        /// The system's error, if it failed: the record must then not be found after a restart either.
        result: Result<(), String>,
    },
    /// What became of an [`Output::Token`]. Comes exactly once per ticket; the process gives `Unknown` where the host died.
    Token {
        /// Which.
        ticket: Ticket,
        /// What came of it.
        outcome: TokenOutcome,
    },
    /// What the token can do, when it was tried and whenever it is tried again. Before that, keys are enabled and disabled as
    /// their plans demand; whatever does not hold then is found out by the proof.
    Probed(Box<Capabilities>),
    /// The unary call `Prove`; the process has checked its session number with `Machine::session`.
    Prove {
        /// The process's own number for the call.
        request: u64,
        /// Which instance.
        version: KeyVersionId,
    },
}

/// What the process does next, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Append to the journal and sync it; then give `JournalWritten`. Several may be out at once (group commit); the order
    /// is kept.
    Journal {
        /// For the answer.
        ticket: Ticket,
        /// What.
        record: JournalRecord,
    },
    /// Have the token do this. Never more than one is out.
    Token {
        /// For the answer.
        ticket: Ticket,
        /// What.
        job: TokenJob,
        /// Whether it may change the token: a late host then gets the longer grace.
        writes: bool,
    },
    /// Say this on the stream. If it is gone, nothing is lost.
    Send {
        /// The stream.
        stream: StreamId,
        /// What.
        up: Up,
    },
    /// End the stream after what was sent on it.
    Close {
        /// The stream.
        stream: StreamId,
    },
    /// Give `Tick` at this time. Replaces the timer before it.
    Timer {
        /// Milliseconds, the same clock as `now_ms`.
        at_ms: u64,
    },
    /// The answer to [`Input::Prove`].
    Proved {
        /// Which call.
        request: u64,
        /// The report, with a proof of just now; or why there is none.
        result: Result<Box<Report>, ProveFailure>,
    },
}

/// Why an instance was not tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProveFailure {
    /// No intent was ever taken for it.
    #[error("this agent has no intent for that key version")]
    Unmanaged,
    /// Its intent is still under way.
    #[error("a change of this key is under way; try again when it is done")]
    Unfinished,
    /// Too many wait for the token.
    #[error("too many proofs are waiting; try again later")]
    TooMany,
    /// The token cannot be used now.
    #[error("not now: {0}")]
    Unhealthy(Health),
    /// The token's answer is not what it should be.
    #[error("the proof failed")]
    Failed(#[source] TokenFailure),
    /// Nobody knows.
    #[error("the outcome is not known: {why}")]
    Unknown {
        /// For people.
        why: String,
    },
}
