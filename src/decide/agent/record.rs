//! What the agent's journal holds. Later records replace earlier ones of the same thing; the order in the file is the order.

use serde::{Deserialize, Serialize};

use crate::model::desired::Intent;
use crate::model::ids::{SessionNumber, Term};
use crate::model::keystore::Marker;
use crate::model::observed::Proof;
use crate::model::vault::UnixMs;

/// One record, with the version of its form: a later form is another variant, and old ones stay readable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JournalRecord {
    /// The first form.
    V1(Record),
}

/// What is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// An operator bound the keystore: written by the process when it binds, never by the machine. Without one that fits
    /// the configuration, a token with our marker means that the journal was lost.
    Bound(Marker),
    /// A session was accepted: its number, and the highest term accepted so far.
    Session {
        /// The last number given.
        number: SessionNumber,
        /// The highest term.
        highest: Term,
    },
    /// An intent was taken, or carried out. One with `Want::Destroyed` is a tombstone and kept for ever.
    Intent {
        /// The intent.
        intent: Box<Intent>,
        /// How far it is.
        phase: Phase,
    },
}

/// How far an intent is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Taken: the token may or may not have been touched.
    Intent,
    /// Carried out, and read back from the token.
    Done {
        /// The proof that came with it; none for a destruction.
        proof: Option<Proved>,
    },
}

/// A proof and when it was had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proved {
    /// The proof.
    pub proof: Proof,
    /// When, by the agent's clock. For people: gives the age after a restart.
    pub at: UnixMs,
}
