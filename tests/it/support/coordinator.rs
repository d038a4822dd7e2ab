//! One of several coordinators on one store: a process of its own.

use std::fs;
use std::path::PathBuf;
use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};

/// One of several coordinators. Dropping it ends it.
#[derive(Debug)]
pub struct Coordinator {
    pub process: Child,
    pub url: String,
    pub log: PathBuf,
}

impl Coordinator {
    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.process.id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// SIGTERM, and waits until it has ended.
    pub fn stop(mut self) {
        self.signal(Signal::TERM);
        let ended = self.process.wait().unwrap();
        assert!(ended.success(), "{ended}");
    }

    /// What it logged.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        let _may_have_ended = self.process.kill();
        let _status = self.process.wait();
    }
}
