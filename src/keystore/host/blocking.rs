//! The host as a [`Keystore`]: for those without a runtime, and for the contract suite.

use std::io;

use tokio::runtime::Runtime;

use crate::keystore::Keystore;
use crate::keystore::host::handle::{HostConfig, HostHandle};
use crate::keystore::host::protocol::deadline;
use crate::model::job::{TokenJob, TokenOutcome};

/// A module host with a runtime of its own. Not to be used inside another runtime.
#[derive(Debug)]
pub struct BlockingHost {
    runtime: Runtime,
    handle: HostHandle,
}

impl BlockingHost {
    /// Takes charge of a host; the first job starts it.
    ///
    /// # Errors
    /// The system's, if there can be no runtime.
    pub fn start(config: HostConfig) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let handle = runtime.block_on(async { HostHandle::start(config) });
        Ok(Self { runtime, handle })
    }

    /// The handle, to see how the host is.
    #[must_use]
    pub const fn handle(&self) -> &HostHandle {
        &self.handle
    }
}

impl Keystore for BlockingHost {
    fn perform(&mut self, job: &TokenJob) -> TokenOutcome {
        let deadline = deadline(job);
        self.runtime
            .block_on(self.handle.perform(job.clone(), deadline))
    }
}
