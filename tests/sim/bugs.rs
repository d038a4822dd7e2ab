//! Classic bugs, planted at the boundaries of the real machines: the net has to catch each of them.

/// One mechanism taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Bug {
    /// The journal says that a record is durable before it is.
    AnswersBeforeFsync,
    /// A restart finds an empty journal with its binding, and the agent goes on.
    JournalForgotten,
    /// A restart reads the journal backwards: the oldest intent of each key wins.
    JournalBackwards,
    /// A restart forgets destroyed keys.
    TombstonesForgotten,
    /// Taken is journaled as done.
    DoneTooEarly,
    /// What comes on a stream that has ended is given to the live one.
    CommandsOutliveSession,
    /// Whatever a coordinator's term is, it is taken.
    StaleTermTaken,
    /// Reports are taken in whatever order they come.
    OldReportsTaken,
    /// What was in sync before the line broke is still shown so.
    RememberedInSync,
    /// A report that is late counts as if it were fresh.
    AgelessLooks,
    /// Enabling intents go before those that restrict.
    RestrictiveLast,
    /// A restored store wins over an agent that is ahead.
    StoreWins,
    /// A look does not compare the key with its fingerprint.
    FingerprintNotCompared,
    /// What one look missed is called absent.
    SuspicionBelieved,
    /// The token said yes, so it is done: nothing is read back.
    NotReadBack,
    /// An operation is answered before it is committed.
    AnswersBeforeCommit,
    /// An outcome that nobody knows counts as success.
    UnknownIsSuccess,
    /// What is under way is reported as done.
    BusyIsDone,
    /// A key is made a second time where the first outcome is not known.
    MadeTwice,
}

/// All of them, each with a seed that catches it.
pub(crate) const CAUGHT: [(Bug, u64); 19] = [
    (Bug::AnswersBeforeFsync, 0),
    (Bug::JournalForgotten, 2),
    (Bug::JournalBackwards, 8),
    (Bug::TombstonesForgotten, 380),
    (Bug::DoneTooEarly, 0),
    (Bug::CommandsOutliveSession, 23),
    (Bug::StaleTermTaken, 36),
    (Bug::OldReportsTaken, 576),
    (Bug::RememberedInSync, 0),
    (Bug::AgelessLooks, 22),
    (Bug::RestrictiveLast, 28),
    (Bug::StoreWins, 10),
    (Bug::FingerprintNotCompared, 0),
    (Bug::SuspicionBelieved, 6),
    (Bug::NotReadBack, 37),
    (Bug::AnswersBeforeCommit, 1),
    (Bug::UnknownIsSuccess, 154),
    (Bug::BusyIsDone, 0),
    (Bug::MadeTwice, 27),
];
