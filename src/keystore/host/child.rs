//! The child's side. The main thread owns the token, reads the jobs and makes every call; a second one only watches the
//! pipe's other end, so that it notices when the parent is gone while a call is under way.

use std::ffi::CStr;
use std::fs::File;
use std::io::BufReader;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use tokio::signal::unix::SignalKind;

use crate::failpoint::{self, Point};
use crate::keystore::Keystore;
use crate::keystore::host::frame::{self, FrameError};
use crate::keystore::host::memory;
use crate::keystore::host::protocol::{Answer, Request, Setup};
use crate::model::job::{TokenAnswer, TokenFailure, TokenJob, TokenOutcome};

/// The child could not be set up, or was spoken to in another language (EX_PROTOCOL).
const EXIT_PROTOCOL: u8 = 76;
/// The token could not be opened (EX_UNAVAILABLE). The parent was told why.
const EXIT_NOT_OPENED: u8 = 69;

/// How long a call may still take after the parent is gone. It is longer than any deadline with its grace; after it the
/// module is taken for hung, and an orphan that holds the token would be worse than a lost object.
const ORPHAN_GRACE: Duration = Duration::from_secs(300);

/// As `ps` and `top` show the process.
const PROCESS_NAME: &CStr = c"module-host";

/// What the child's main does: opens the token with `open`, then does jobs until it is told to stop or its parent is gone.
/// Returns the exit code. The panic hook is to be installed before.
pub fn child_main(open: impl FnOnce(Setup) -> Result<Box<dyn Keystore>, TokenFailure>) -> ExitCode {
    match run(open) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!(%error, source = source(&error), "the module host ends");
            ExitCode::from(EXIT_PROTOCOL)
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum ChildError {
    #[error("the process could not be closed off")]
    System(#[source] std::io::Error),
    #[error("the parent cannot be understood")]
    Frame(#[from] FrameError),
    #[error("the first message was no setup")]
    NoSetup,
}

impl From<Errno> for ChildError {
    fn from(errno: Errno) -> Self {
        Self::System(errno.into())
    }
}

fn source(error: &ChildError) -> String {
    std::error::Error::source(error).map_or_else(String::new, ToString::to_string)
}

fn run(
    open: impl FnOnce(Setup) -> Result<Box<dyn Keystore>, TokenFailure>,
) -> Result<ExitCode, ChildError> {
    close_off()?;
    outlive_signals().map_err(ChildError::System)?;
    let (mut requests, mut answers) = take_pipes()?;
    let setup = match frame::read(&mut requests)? {
        Some(Request::Setup(setup)) => setup,
        Some(Request::Job { .. }) => return Err(ChildError::NoSetup),
        None => return Ok(ExitCode::SUCCESS),
    };
    let orphaned = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&orphaned);
    let other_end = requests.try_clone().map_err(ChildError::System)?;
    let _detached = std::thread::Builder::new()
        .name("parent".to_owned())
        .spawn(move || watch_parent(&other_end, &flag))
        .map_err(ChildError::System)?;
    match open(setup) {
        Ok(keystore) => {
            frame::write(&mut answers, &Answer::Opened)?;
            serve(keystore, requests, &orphaned, answers)
        }
        Err(failure) => {
            tracing::warn!(%failure, "the token was not opened");
            frame::write(&mut answers, &Answer::NotOpened(failure))?;
            Ok(ExitCode::from(EXIT_NOT_OPENED))
        }
    }
}

/// Does jobs, in this very thread, until there are no more.
fn serve(
    mut keystore: Box<dyn Keystore>,
    requests: File,
    orphaned: &AtomicBool,
    mut answers: File,
) -> Result<ExitCode, ChildError> {
    // One read for a short request. The setup was read without: its PIN would stay in the buffer.
    let mut requests = BufReader::new(requests);
    while let Some(request) = frame::read(&mut requests)? {
        // Nobody would learn what it did.
        if orphaned.load(Ordering::SeqCst) {
            break;
        }
        let Request::Job { id, job } = request else {
            return Err(ChildError::NoSetup);
        };
        let moves = moves_keys(&job);
        if moves {
            failpoint::reach(Point::JobReceived);
        }
        let outcome = keystore.perform(&job);
        if moves {
            failpoint::reach(Point::JobDone);
        }
        let stopping = matches!(outcome, TokenOutcome::Done(TokenAnswer::Stopping));
        frame::write(&mut answers, &Answer::Outcome { id, outcome })?;
        if stopping {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a job changes the token for a coordinator or an operator, or moves key material: what failpoints are at.
const fn moves_keys(job: &TokenJob) -> bool {
    matches!(
        job,
        TokenJob::Run(_) | TokenJob::Bind(_) | TokenJob::Generate { .. } | TokenJob::Rewrap(_)
    )
}

/// Waits until nobody holds the other end of the pipe; then the main thread ends after the call under way, or this one ends
/// the process.
fn watch_parent(requests: &File, orphaned: &AtomicBool) {
    // No events are asked for: poll(2) tells of the hang-up all the same, and of nothing else.
    let mut pipe = [PollFd::new(requests, PollFlags::empty())];
    while poll(&mut pipe, None) == Err(Errno::INTR) {}
    orphaned.store(true, Ordering::SeqCst);
    std::thread::sleep(ORPHAN_GRACE);
    tracing::error!("a call did not end after the parent was gone; aborting");
    std::process::abort();
}

/// No core dumps and no debuggers: the PIN is in this process, and the vendor's library may hold keys.
fn close_off() -> Result<(), ChildError> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let nothing = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    rustix::process::setrlimit(Resource::Core, nothing)?;
    rustix::thread::set_name(PROCESS_NAME)?;
    memory::lock();
    Ok(())
}

/// A service manager or a terminal signals the whole group; this process ends when its parent does, and not in a write.
/// The handlers stay when the runtime that installed them is gone.
fn outlive_signals() -> Result<(), std::io::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let _inside = runtime.enter();
    for kind in [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::hangup(),
        SignalKind::quit(),
    ] {
        drop(tokio::signal::unix::signal(kind)?);
    }
    Ok(())
}

/// Takes the two pipes for the protocol, and gives the vendor's library an empty stdin and stderr as its stdout.
fn take_pipes() -> Result<(File, File), ChildError> {
    let private = |fd| rustix::io::fcntl_dupfd_cloexec(fd, 3);
    let requests: OwnedFd = private(rustix::stdio::stdin())?;
    let answers: OwnedFd = private(rustix::stdio::stdout())?;
    let nothing = File::open("/dev/null").map_err(ChildError::System)?;
    rustix::stdio::dup2_stdin(&nothing)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    Ok((File::from(requests), File::from(answers)))
}
