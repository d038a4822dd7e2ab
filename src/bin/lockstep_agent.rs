//! `lockstep-agent`: the process beside an HSM.

use std::process::ExitCode;

fn main() -> ExitCode {
    lockstep::agent::commands::main()
}
