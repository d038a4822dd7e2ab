//! Where commands write: results to one side, progress and errors to the other.

use std::io::Write;

/// The two streams of a command; tests give it buffers.
pub struct Terminal<'a> {
    /// Results: what scripts read.
    pub out: &'a mut dyn Write,
    /// Progress, notes and errors.
    pub err: &'a mut dyn Write,
}

impl std::fmt::Debug for Terminal<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Terminal")
    }
}
