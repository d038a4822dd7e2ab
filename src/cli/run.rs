//! Runs one command and says how it ended.

use crate::cli::args::{Command, CommandLine};
use crate::cli::commands;
use crate::cli::exit::Exit;
use crate::cli::terminal::Terminal;
use crate::tls::error::chain;

/// Runs any command but `serve`, which is the main's.
#[must_use]
pub fn run(line: CommandLine, terminal: &mut Terminal<'_>) -> Exit {
    let ended = match line.command {
        Command::Serve(_) => Ok(Exit::Usage),
        Command::Ca(command) => commands::ca::run(command, terminal),
    };
    ended.unwrap_or_else(|error| {
        // Nobody is left to tell when standard error is closed.
        let _told = writeln!(terminal.err, "lockstep: {}", chain(error.as_ref()));
        Exit::Failed
    })
}
