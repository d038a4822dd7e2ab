//! How a command ended, for scripts.

use std::process::ExitCode;

/// The exit codes; they do not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done; where a change was asked for with `--wait`, confirmed on every keystore.
    Done,
    /// 1: something failed: a file, the network, the coordinator.
    Failed,
    /// 2: the command line cannot be understood (clap says so by itself too).
    Usage,
    /// 3: the coordinator refused: not allowed, not found, not in this state.
    Refused,
    /// 75: the change is recorded and not yet confirmed everywhere, or nobody answers now (EX_TEMPFAIL of sysexits.h).
    NotYet,
}

impl Exit {
    /// The number.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::NotYet => 75,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
