//! `lockstep` with failpoints, for the crash tests alone (`src/failpoint.rs`).

use std::process::ExitCode;

#[path = "lockstep.rs"]
#[expect(unreachable_pub, reason = "there it is the root")]
mod program;

fn main() -> ExitCode {
    program::main()
}
