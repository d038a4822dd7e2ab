//! What parent and child say to each other, and how long each job may take.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::job::{RunJob, TokenFailure, TokenJob, TokenOutcome};
use crate::model::kek::KekJob;
use crate::model::step::Step;

/// How long a job may take that only reads: a scan of 10,000 objects takes some 2 s on a busy machine; after this the
/// module is taken for hung.
pub const READ_DEADLINE: Duration = Duration::from_secs(30);

/// How long a job may take that writes or makes keys: RSA-4096 on a slow HSM takes a minute.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(120);

/// The token to open, and what it takes. The first message to the child.
#[derive(Debug, Serialize, Deserialize)]
pub struct Setup {
    /// The vendor's PKCS#11 library.
    pub module: PathBuf,
    /// The token's label.
    pub label: String,
    /// The token's serial number; empty: any.
    pub serial: String,
    /// What the library wants in `CK_C_INITIALIZE_ARGS.pReserved`.
    pub init_args: Option<String>,
    /// The user PIN.
    pub pin: Pin,
    /// A try of it has no known end ([`PinToTry`](super::handle::PinToTry)).
    pub unsure: bool,
}

/// A user PIN: wiped when dropped, never printed, written only to the child.
pub struct Pin(SecretString);

impl Pin {
    /// Takes it.
    #[must_use]
    pub const fn new(pin: SecretString) -> Self {
        Self(pin)
    }

    /// The secret.
    #[must_use]
    pub const fn secret(&self) -> &SecretString {
        &self.0
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pin(..)")
    }
}

impl Serialize for Pin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.expose_secret())
    }
}

impl<'de> Deserialize<'de> for Pin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|pin| Self(pin.into()))
    }
}

/// From parent to child.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// First, and once.
    Setup(Setup),
    /// Do this.
    Job {
        /// Comes back with the answer.
        id: u64,
        /// The job.
        job: TokenJob,
    },
}

/// From child to parent.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// To `Setup`: the token is open and logged in.
    Opened,
    /// To `Setup`: it is not, and the child exits.
    NotOpened(TokenFailure),
    /// To `Job`.
    Outcome {
        /// The job's number.
        id: u64,
        /// What it gave.
        outcome: TokenOutcome,
    },
}

/// Whether a kill in the midst of the job can cost an object: then it is given a grace before the kill.
#[must_use]
pub fn writes(job: &TokenJob) -> bool {
    match job {
        TokenJob::Bind(_)
        | TokenJob::Prepare { .. }
        | TokenJob::Kek(KekJob::Make(_) | KekJob::Destroy(_)) => true,
        TokenJob::Run(run) => run_writes(run),
        // Their keys are session objects: nothing on the token is half done.
        TokenJob::Generate { .. }
        | TokenJob::Rewrap(_)
        | TokenJob::TakeOver(_)
        | TokenJob::RewrapCopy(_) => false,
        TokenJob::Kek(KekJob::Look)
        | TokenJob::Identify
        | TokenJob::Scan
        | TokenJob::ScanOn
        | TokenJob::Inspect(_)
        | TokenJob::Survey(_)
        | TokenJob::Stop => false,
    }
}

fn run_writes(run: &RunJob) -> bool {
    run.steps.iter().any(|step| match step {
        Step::Install
        | Step::InstallEnabled
        | Step::SetUsage { .. }
        | Step::Replace { .. }
        | Step::SetLabel { .. }
        | Step::Destroy { .. }
        | Step::Withdraw { .. } => true,
        Step::ProveEnabled | Step::ProveDisabled => false,
    })
}

/// The deadline of a job whose caller has no other.
#[must_use]
pub fn deadline(job: &TokenJob) -> Duration {
    match job {
        TokenJob::Identify
        | TokenJob::Scan
        | TokenJob::ScanOn
        | TokenJob::Inspect(_)
        | TokenJob::Survey(_)
        | TokenJob::Rewrap(_)
        | TokenJob::TakeOver(_)
        | TokenJob::RewrapCopy(_)
        | TokenJob::Kek(KekJob::Look)
        | TokenJob::Stop => READ_DEADLINE,
        TokenJob::Bind(_)
        | TokenJob::Prepare { .. }
        | TokenJob::Run(_)
        | TokenJob::Kek(KekJob::Make(_) | KekJob::Destroy(_))
        | TokenJob::Generate { .. } => WRITE_DEADLINE,
    }
}
