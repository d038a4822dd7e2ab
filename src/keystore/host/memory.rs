//! Keeps a process's memory out of the swap.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, getrlimit};

/// Locks all memory of the process, now and later, page by page as it is used. Only where the system sets no limit
/// (`LimitMEMLOCK=infinity`): under one, memory would run out later, in the midst of work. Otherwise it tells so at debug
/// level and goes on.
pub fn lock() {
    if getrlimit(Resource::Memlock).current.is_some() {
        tracing::debug!("memory may be swapped: the limit of locked memory is not infinity");
        return;
    }
    let kinds = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    match mlockall(kinds) {
        Ok(()) => tracing::debug!("memory is locked"),
        Err(error) => tracing::debug!(%error, "memory may be swapped: it cannot be locked"),
    }
}
