//! The named points at which tests end, stop or fail a process of ours, to see that it recovers (`tests/it/crash`).
//!
//! Owns their names, all of them, and what happens at an armed one. Never does anything in a build without the cargo feature
//! `failpoints`, which no program that people get is built with: there a point is nothing, and its name is not in the program.
//!
//! A point is armed from outside, while the process runs: `LOCKSTEP_FAILPOINTS` names a directory, whose file `armed` holds
//! `POINT ACTION`. The process that reaches it renames the file to `struck` and acts, so it strikes once.
//!
//! | action | what happens |
//! |---|---|
//! | `abort` | the process ends, as by SIGKILL: nothing is flushed, no destructor runs |
//! | `stop` | SIGSTOP, until somebody sends SIGCONT |
//! | `fail` | what is about to be done fails, where the point says that it can; elsewhere `abort` |

/// A point. The order is the way of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// Coordinator: a change is ready and not written. Fails as a store that cannot be used.
    BeforeCommit,
    /// Coordinator: it is durable, nobody was told or woken. Fails as a store whose answer to COMMIT was lost.
    AfterCommit,
    /// Coordinator: an intent was handed to the stream. Fails as a stream that breaks.
    Sent,
    /// Agent: an intent, or a call for key material, came. While `init` runs: between its two files.
    Received,
    /// Agent: an intent is about to be journaled. Fails as a disk that is full.
    Journaling,
    /// Agent: an intent, or a binding, is durable in the journal.
    Journaled,
    /// Module host: a job that changes the token or moves key material came.
    JobReceived,
    /// Module host: it is done and read back, its answer not given.
    JobDone,
    /// Agent: the answer is here, and journaled nowhere. Fails as an outcome that nobody knows.
    ReadBack,
    /// Agent: the journal says done, a binding is written; nobody was told.
    Done,
    /// Agent: the report that an intent was carried out, or the answer to a call, is about to be said. Fails as a coordinator
    /// that does not read its stream.
    BeforeReport,
    /// Agent: it was handed to the stream.
    AfterReport,
    /// Coordinator: such a report came, and counts nowhere yet. Fails as a stream that breaks.
    ReportReceived,
    /// Coordinator: what was seen is in the store, and nobody who waits was told.
    ReportStored,
}

impl Point {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::BeforeCommit,
        Self::AfterCommit,
        Self::Sent,
        Self::Received,
        Self::Journaling,
        Self::Journaled,
        Self::JobReceived,
        Self::JobDone,
        Self::ReadBack,
        Self::Done,
        Self::BeforeReport,
        Self::AfterReport,
        Self::ReportReceived,
        Self::ReportStored,
    ];

    /// As the file `armed` and the tests name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BeforeCommit => "before-commit",
            Self::AfterCommit => "after-commit",
            Self::Sent => "sent",
            Self::Received => "received",
            Self::Journaling => "journaling",
            Self::Journaled => "journaled",
            Self::JobReceived => "job-received",
            Self::JobDone => "job-done",
            Self::ReadBack => "read-back",
            Self::Done => "done",
            Self::BeforeReport => "before-report",
            Self::AfterReport => "after-report",
            Self::ReportReceived => "report-received",
            Self::ReportStored => "report-stored",
        }
    }

    /// Whether it can fail.
    #[must_use]
    pub const fn can_fail(self) -> bool {
        match self {
            Self::BeforeCommit
            | Self::AfterCommit
            | Self::Sent
            | Self::Journaling
            | Self::ReadBack
            | Self::BeforeReport
            | Self::ReportReceived => true,
            Self::Received
            | Self::Journaled
            | Self::JobReceived
            | Self::JobDone
            | Self::Done
            | Self::AfterReport
            | Self::ReportStored => false,
        }
    }
}

/// A point that cannot fail is reached.
pub fn reach(point: Point) {
    let _cannot_fail = fails(point);
}

/// A point is reached. True if what is about to be done must fail now.
#[cfg(not(feature = "failpoints"))]
#[must_use]
pub const fn fails(_point: Point) -> bool {
    false
}

#[cfg(feature = "failpoints")]
#[doc(inline)]
pub use armed::fails;

#[cfg(feature = "failpoints")]
mod armed {
    use std::path::PathBuf;
    use std::time::Duration;

    use rustix::process::{Signal, getpid, kill_process};

    use crate::failpoint::Point;

    /// Environment variable with the directory.
    const VARIABLE: &str = "LOCKSTEP_FAILPOINTS";

    /// A signal to ourselves has come within this.
    const STOPPED_WITHIN: Duration = Duration::from_millis(100);

    /// A point is reached. True if what is about to be done must fail now.
    #[must_use]
    pub fn fails(point: Point) -> bool {
        let Some(directory) = std::env::var_os(VARIABLE).map(PathBuf::from) else {
            return false;
        };
        let armed = directory.join("armed");
        let text = std::fs::read_to_string(&armed).unwrap_or_default();
        let Some((name, action)) = text.trim().split_once(' ') else {
            return false;
        };
        // Of two threads or processes that come together, one moves the file.
        if name != point.name() || std::fs::rename(&armed, directory.join("struck")).is_err() {
            return false;
        }
        tracing::warn!(name, action, "a failpoint strikes");
        match action {
            "stop" => {
                let _ourselves = kill_process(getpid(), Signal::STOP);
                // Another thread may be told first: this one goes no further before all stand still.
                std::thread::sleep(STOPPED_WITHIN);
                false
            }
            "fail" if point.can_fail() => true,
            _ => std::process::abort(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::failpoint::{Point, fails};

    #[test]
    fn names_are_unique_and_nothing_happens_without_the_feature() {
        let names: BTreeSet<&str> = Point::ALL.into_iter().map(Point::name).collect();
        assert_eq!(names.len(), Point::ALL.len());
        assert!(Point::ALL.is_sorted());
        assert!(!Point::ALL.into_iter().any(fails));
    }
}
