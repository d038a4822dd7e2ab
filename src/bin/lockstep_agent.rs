//! `lockstep-agent`: the process beside an HSM.

use std::process::ExitCode;

pub fn main() -> ExitCode {
    lockstep::agent::commands::main()
}
