//! What the loop of [`crate::agent::driver`] is told, what it answers, and what it shows to everybody who asks.

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::DropGuard;

use crate::decide::agent::io::{Input, ProveFailure, StreamId};
use crate::model::capabilities::Capabilities;
use crate::model::ids::{KeyVersionId, SessionNumber};
use crate::model::job::{Prepared, TokenAnswer, TokenFailure, TokenJob};
use crate::model::keystore::{Health, TokenInfo};
use crate::model::protocol::{Report, Up};

/// What the loop is told.
#[derive(Debug)]
pub enum Message {
    /// A coordinator has opened a stream.
    Stream {
        /// Its number.
        stream: StreamId,
        /// Where its frames go.
        frames: mpsc::Sender<Up>,
        /// Cancelled when the machine closes the stream.
        closed: DropGuard,
    },
    /// For the machine.
    Input(Input),
    /// A unary call wants the token.
    Call {
        /// The session it names.
        session: SessionNumber,
        /// What it wants.
        job: TokenJob,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<TokenAnswer, CallFailure>>,
    },
    /// An operator accepts what the token can do now, whatever it could once.
    Accept {
        /// Told when it is done.
        reply: oneshot::Sender<()>,
    },
    /// The unary call `Prove`.
    Prove {
        /// The session it names.
        session: SessionNumber,
        /// Which instance.
        version: KeyVersionId,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Box<Report>, CallFailure>>,
    },
}

/// Why a call was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallFailure {
    /// It names a session that is not the live one.
    #[error("the live session is {}", live.map_or_else(|| "none".to_owned(), |live| live.to_string()))]
    StaleSession {
        /// The live one.
        live: Option<SessionNumber>,
    },
    /// The token cannot be used now.
    #[error("not now: {0}")]
    Unhealthy(Health),
    /// Too many calls wait.
    #[error("too many calls wait for the token")]
    TooMany,
    /// The token refused or failed.
    #[error("{0}")]
    Token(TokenFailure),
    /// The proof was not had.
    #[error("{0}")]
    Prove(ProveFailure),
    /// Nobody knows.
    #[error("the outcome is not known: {why}")]
    Unknown {
        /// For people.
        why: String,
    },
}

/// What is known of the token and the session, for everybody who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// How well the token is; none before the first step.
    pub health: Option<Health>,
    /// The live session.
    pub session: Option<SessionNumber>,
    /// What the token last said of itself.
    pub token: TokenInfo,
    /// The transport key and what works; none until it was tried since the token was last opened.
    pub prepared: Option<Prepared>,
    /// What the token could do once, where it can do less now.
    pub accepted: Option<Capabilities>,
    /// Why the last try to prepare the token failed; it is tried again.
    pub prepare_failure: Option<String>,
    /// Records in the journal.
    pub journal_records: u64,
}
