//! Runs one command and says how it ended.

use crate::cli::args::{Command, CommandLine};
use crate::cli::client::ClientError;
use crate::cli::commands::{
    audit, backup, bulk, ca, calendar, differences, doctor, key, keystore, recover, template, vault,
};
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::cli::find::FindError;
use crate::cli::terminal::Terminal;
use crate::tls::error::chain;

/// Runs any command but `serve` and `store`, which are the main's.
#[must_use]
pub fn run(line: CommandLine, terminal: &mut Terminal<'_>) -> Exit {
    match command(line, terminal) {
        Ok(exit) => exit,
        Err(error) => {
            // Nobody is left to tell when standard error is closed.
            let _told = writeln!(terminal.err, "lockstep: {}", chain(error.as_ref()));
            exit(&error)
        }
    }
}

fn command(line: CommandLine, terminal: &mut Terminal<'_>) -> anyhow::Result<Exit> {
    let connection = line.connection;
    let asking = |terminal| Context::new(&connection, terminal);
    match line.command {
        Command::Serve(_) | Command::Store(_) | Command::Restore(_) | Command::RecoveryKey(_) => {
            Ok(Exit::Usage)
        }
        Command::Ca(command) => ca::run(command, terminal),
        Command::Vault(command) => vault::run(command, &mut asking(terminal)?),
        Command::Template(command) => template::run(command, &mut asking(terminal)?),
        Command::Keystore(command) => keystore::run(command, &mut asking(terminal)?),
        Command::Key(command) => key::run(command, &mut asking(terminal)?),
        Command::Bulk(command) => bulk::run(command, &mut asking(terminal)?),
        Command::Differences(args) => differences::run(&args, &mut asking(terminal)?),
        Command::Backup(args) => backup::run(&args, &mut asking(terminal)?),
        Command::Recover(args) => recover::run(&args, &mut asking(terminal)?),
        Command::Doctor(args) => doctor::run(&args, &mut asking(terminal)?),
        Command::Calendar(args) => calendar::run(&args, &mut asking(terminal)?),
        Command::Audit(command) => audit::run(command, &mut asking(terminal)?),
    }
}

fn exit(error: &anyhow::Error) -> Exit {
    if let Some(error) = error.downcast_ref::<ClientError>() {
        return error.exit();
    }
    error
        .downcast_ref::<FindError>()
        .map_or(Exit::Failed, FindError::exit)
}
