//! What the process denies itself and others: no core dumps, no debuggers, no files that others can read,
//! and where it can no memory in the swap.

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit};

use crate::keystore::host::memory;

/// Closes the process off. Called before any secret is read.
///
/// # Errors
/// The system's; the process then does not go on.
pub fn close_off() -> Result<(), Errno> {
    rustix::process::umask(Mode::from_raw_mode(0o077));
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::process::setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    )?;
    memory::lock();
    Ok(())
}
