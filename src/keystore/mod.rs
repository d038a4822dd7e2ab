//! THE PORT: what an agent asks of a token, and the things that answer.
//!
//! Owns: the trait [`Keystore`], its contract suite, an in-memory token with scripted faults, `pkcs11`
//! (only user of cryptoki; `pkcs11/raw.rs` the only unsafe code) and `host` (the child process that alone
//! loads the vendor's module, its jobs and deadlines).
//! Never: decides anything, keeps a journal, knows gRPC. Imports `model` only.

pub mod contract;
pub mod host;
pub mod memory;
pub mod pkcs11;

use crate::model::job::{TokenJob, TokenOutcome};

/// A token that does jobs, one at a time. Each job is complete in itself: no handle or session outlives it, but for a scan,
/// which is done in slices.
pub trait Keystore: Send {
    /// Does the job. Never panics and never hangs for ever; what it cannot tell is `Unknown`.
    fn perform(&mut self, job: &TokenJob) -> TokenOutcome;
}
