//! The protective mechanisms, and the model without one of them. The product has no such switch: a mechanism is dropped at the
//! model's boundary, by keeping from the real function what it goes by, or by not acting on what it said.

/// Which mechanism is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Mutant {
    /// The fence is not told what the journal holds.
    NoFence,
    /// The journal is written after the effect.
    JournalAfter,
    /// `effects` is shown an empty token.
    NoLook,
    /// The fence is told that a tombstone is a deactivation.
    NoTombstone,
    /// A tombstone in a report does not beat a newer intent of the store.
    TombstoneLoses,
    /// A newer order to destroy is called done because there is a tombstone.
    TombstoneIsDone,
    /// `status` is shown reports as if they spoke of the intent in force, where they want the same.
    NoGeneration,
    /// What was reported before a restart still counts.
    TrustedAfterRestart,
    /// The store's state wins over a more restrictive one at the agent.
    StoreWins,
    /// What an ended session carried is delivered on the next.
    NoSessionFence,
    /// A session is accepted, and all reported, while an intent is on its way to the journal.
    ReportsWhileBusy,
    /// Reports count in whatever order they come.
    NoSequence,
    /// An agent that lost its journal goes on as if it never had one.
    NoQuarantine,
    /// An agent that lost its journal installs what it is told to.
    QuarantineInstalls,
    /// The fence takes another content under the same generation for the same. Survives: reports carry what was applied.
    NoDigest,
}
