//! The parent's side as its users see it: a handle to ask for jobs and to see how the host is.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::{mpsc, oneshot, watch};

use crate::keystore::host::supervisor::{Ask, Supervisor};
use crate::model::job::{FailureKind, TokenFailure, TokenJob, TokenOutcome};
use crate::model::keystore::Health;

/// Most jobs that wait in the parent; further callers wait for a place. The agent keeps one job per instance, and
/// deadlines make a longer queue useless.
pub const QUEUE_JOBS_MAX: usize = 1024;

/// A PIN to try.
#[derive(Debug)]
pub struct PinToTry {
    /// The PIN.
    pub pin: SecretString,
    /// A try of this very PIN has no known end: the token may have refused it.
    pub unsure: bool,
}

/// Where the PIN comes from, and who remembers that it was refused. Called at each start of the host, off the runtime's
/// threads: it may read and write files.
pub trait PinSource: Send + Sync {
    /// The PIN to try now.
    ///
    /// # Errors
    /// Why there is none: `WrongPin` for one that was refused before, `Restart` for one that cannot be read now.
    fn pin(&self) -> Result<PinToTry, TokenFailure>;

    /// The token refused this PIN: it is never to be given again.
    fn refused(&self, pin: &SecretString);

    /// The token was not asked: what [`Self::pin`] gave was not tried.
    fn unasked(&self);

    /// The token took this PIN.
    fn taken(&self, pin: &SecretString);
}

/// How to start the module host, and what it opens.
#[derive(Clone)]
pub struct HostConfig {
    /// The program; the agent gives its own.
    pub program: PathBuf,
    /// Its arguments. No secrets: every process can read them.
    pub args: Vec<OsString>,
    /// Its whole environment, such as `SOFTHSM2_CONF`.
    pub env: BTreeMap<String, String>,
    /// The vendor's PKCS#11 library, an absolute path.
    pub module: PathBuf,
    /// The token's label.
    pub label: String,
    /// The token's serial number; empty: any.
    pub serial: String,
    /// What the library wants in `CK_C_INITIALIZE_ARGS.pReserved`.
    pub init_args: Option<String>,
    /// The PIN.
    pub pin: Arc<dyn PinSource>,
    /// Waits and bounds.
    pub limits: HostLimits,
}

impl fmt::Debug for HostConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostConfig")
            .field("program", &self.program)
            .field("module", &self.module)
            .field("label", &self.label)
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}

/// Waits and bounds of the host; the default is what the agent uses.
#[derive(Debug, Clone, Copy)]
pub struct HostLimits {
    /// For load, C_Initialize and login: 1.6 s for 10,000 objects on SoftHSM2, a minute on a network HSM that fails over.
    pub start_deadline: Duration,
    /// How long a late write may still go on before the kill, which may cost the object (facts-pkcs11.md G7).
    pub write_grace: Duration,
    /// How long the host may take to end by itself when it was told to: C_Finalize writes nothing.
    pub stop_grace: Duration,
    /// Pause before the third start in a row; the second is at once. Doubles from there.
    pub pause_first: Duration,
    /// Longest pause.
    pub pause_max: Duration,
    /// Failures in a row after which jobs no longer wait for the next start but fail at once.
    pub failures_max: u32,
    /// How long a host must have lived to count as well again.
    pub well_after: Duration,
}

impl Default for HostLimits {
    fn default() -> Self {
        Self {
            start_deadline: Duration::from_secs(60),
            write_grace: Duration::from_secs(60),
            stop_grace: Duration::from_secs(5),
            pause_first: Duration::from_millis(250),
            pause_max: Duration::from_secs(15),
            failures_max: 5,
            well_after: Duration::from_secs(60),
        }
    }
}

/// How the host is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostStatus {
    /// Where in its life.
    pub state: HostState,
    /// How often it was started.
    pub starts: u64,
    /// How often in a row it could not be started, died or was killed.
    pub failures: u32,
}

/// Where in its life the host is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostState {
    /// Not running; the next job starts it.
    Idle,
    /// Loading the library and logging in.
    Starting {
        /// The process.
        pid: u32,
    },
    /// The token is open.
    Running {
        /// The process.
        pid: u32,
    },
    /// The token could not be opened; the process is gone.
    Refused(TokenFailure),
    /// The host failed; the process is gone. A later job starts it again.
    Down {
        /// How it ended, for people.
        why: String,
    },
}

impl HostStatus {
    /// The process, if there is one.
    #[must_use]
    pub const fn pid(&self) -> Option<u32> {
        match &self.state {
            HostState::Starting { pid } | HostState::Running { pid } => Some(*pid),
            HostState::Idle | HostState::Refused(_) | HostState::Down { .. } => None,
        }
    }

    /// The same as a keystore's health. `Ok` says only that the token is open: the marker is not read here.
    #[must_use]
    pub fn health(&self, config: &HostConfig) -> Health {
        match &self.state {
            HostState::Idle | HostState::Starting { .. } => Health::Starting,
            HostState::Running { .. } => Health::Ok,
            HostState::Down { why } => Health::ModuleFailed {
                detail: why.clone(),
            },
            HostState::Refused(failure) => match failure.kind {
                FailureKind::WrongPin => Health::WrongPin,
                FailureKind::PinLocked => Health::PinLocked,
                FailureKind::NoToken => Health::TokenNotFound {
                    label: config.label.clone(),
                    serial: config.serial.clone(),
                },
                FailureKind::Retry
                | FailureKind::Restart
                | FailureKind::Refused
                | FailureKind::NeedsMaterial
                | FailureKind::WrongKey
                | FailureKind::LabelTaken => Health::ModuleFailed {
                    detail: failure.to_string(),
                },
            },
        }
    }
}

/// Asks the module host for jobs. Clones share one host; when the last is dropped, the host ends after the call under way.
#[derive(Debug, Clone)]
pub struct HostHandle {
    asks: mpsc::Sender<Ask>,
    status: watch::Receiver<HostStatus>,
}

impl HostHandle {
    /// Takes charge of a host. The first job starts the process. Called inside a tokio runtime.
    #[must_use]
    pub fn start(config: HostConfig) -> Self {
        let (asks, queue) = mpsc::channel(QUEUE_JOBS_MAX);
        let (supervisor, status) = Supervisor::new(config);
        let _ends_with_the_last_handle = tokio::spawn(supervisor.run(queue));
        Self::new(asks, status)
    }

    /// A handle of a host that somebody else plays: whoever takes the asks does them one by one, in their order, each within
    /// its deadline. Load and soak put an in-memory token there; an agent has [`Self::start`].
    #[must_use]
    pub const fn new(asks: mpsc::Sender<Ask>, status: watch::Receiver<HostStatus>) -> Self {
        Self { asks, status }
    }

    /// Does a job. The deadline counts from when the host begins on it (`protocol::deadline` has a default); jobs are
    /// done one by one in the order they came. `Unknown` where the host was late or died with the job in it; `Failed`
    /// of kind `Restart`, `WrongPin`, `PinLocked` or `NoToken` where it never got that far. A caller that goes away
    /// before the job has begun takes it back.
    pub async fn perform(&self, job: TokenJob, deadline: Duration) -> TokenOutcome {
        let (reply, outcome) = oneshot::channel();
        let ask = Ask {
            job,
            deadline,
            reply,
        };
        if self.asks.send(ask).await.is_err() {
            return TokenOutcome::Failed(not_running("the module host was shut down"));
        }
        outcome
            .await
            .unwrap_or_else(|_dropped| TokenOutcome::Unknown {
                why: "the module host was shut down".to_owned(),
            })
    }

    /// How the host is now.
    #[must_use]
    pub fn status(&self) -> HostStatus {
        self.status.borrow().clone()
    }

    /// To wait for a change of it.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<HostStatus> {
        self.status.clone()
    }
}

/// A failure of the host before the job was begun.
pub(crate) fn not_running(detail: impl Into<String>) -> TokenFailure {
    TokenFailure {
        kind: FailureKind::Restart,
        function: "module_host".to_owned(),
        rv: String::new(),
        detail: detail.into(),
    }
}
