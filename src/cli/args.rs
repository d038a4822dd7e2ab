//! The command line, as clap reads it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::cli::commands::audit::AuditCommand;
use crate::cli::commands::backup::BackupArgs;
use crate::cli::commands::bulk::BulkCommand;
use crate::cli::commands::ca::CaCommand;
use crate::cli::commands::calendar::CalendarArgs;
use crate::cli::commands::differences::DifferencesArgs;
use crate::cli::commands::doctor::DoctorArgs;
use crate::cli::commands::key::KeyCommand;
use crate::cli::commands::keystore::KeystoreCommand;
use crate::cli::commands::recover::RecoverArgs;
use crate::cli::commands::template::TemplateCommand;
use crate::cli::commands::vault::VaultCommand;
use crate::cli::context::Format;

/// Keeps cryptographic keys in step across many PKCS#11 keystores.
#[derive(Debug, Parser)]
#[command(
    name = "lockstep",
    version,
    after_help = "Exit codes: 0 done (with --wait: confirmed everywhere), 1 error, 2 usage, \
                  3 refused (with --wait: also by a keystore, for good), 75 not yet confirmed or nobody \
                  answers (try again)."
)]
pub struct CommandLine {
    /// How to reach the coordinator.
    #[command(flatten)]
    pub connection: Connection,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How to reach the coordinator, and the form of its answers.
#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub struct Connection {
    /// The coordinator's REST API, such as `https://lockstep.example:8420`.
    #[arg(long, global = true, env = "LOCKSTEP_URL")]
    pub url: Option<String>,
    /// File that holds the API token; only its owner may read it.
    #[arg(long, global = true, value_name = "FILE", env = "LOCKSTEP_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// CA to trust for HTTPS (PEM), instead of the system's.
    #[arg(long, global = true, value_name = "FILE", env = "LOCKSTEP_CA")]
    pub ca: Option<PathBuf>,
    /// The form of results.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "table",
        env = "LOCKSTEP_OUTPUT"
    )]
    pub output: Format,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the coordinator.
    Serve(ServeArgs),
    /// The coordinator's store: works on it directly, while no coordinator does.
    #[command(subcommand)]
    Store(StoreCommand),
    /// The fleet's certificate authority: works on files, asks nobody.
    #[command(subcommand)]
    Ca(CaCommand),
    /// Vaults: boundaries of templates, keys and keystores.
    #[command(subcommand)]
    Vault(VaultCommand),
    /// Key templates: what keys look like and where they go.
    #[command(subcommand)]
    Template(TemplateCommand),
    /// Keystores: tokens, each behind its agent.
    #[command(subcommand)]
    Keystore(KeystoreCommand),
    /// Managed keys.
    #[command(subcommand)]
    Key(KeyCommand),
    /// One action on many keys, in waves that stop at the first refusal.
    #[command(subcommand)]
    Bulk(BulkCommand),
    /// All that is not as wanted, anywhere.
    Differences(DifferencesArgs),
    /// A copy of the store, sealed so that only the recovery key opens it.
    Backup(BackupArgs),
    /// Put a backup in the place of the store, while no coordinator runs.
    Restore(RestoreArgs),
    /// Make a recovery key, for backups.
    RecoveryKey(RecoveryKeyArgs),
    /// What agents know and a store that was restored from a backup does not; and going on.
    Recover(RecoverArgs),
    /// Check every promise that can be checked now, and what goes wrong if nobody looks. Changes nothing; exits with 1 where
    /// a promise is broken.
    Doctor(DoctorArgs),
    /// What dates will do, and when.
    Calendar(CalendarArgs),
    /// What was asked, by whom.
    #[command(subcommand)]
    Audit(AuditCommand),
}

/// What the coordinator needs to run.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Its config file (TOML).
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// What is restored, and where.
#[derive(Debug, Clone, Args)]
pub struct RestoreArgs {
    /// The coordinator's config file (TOML): says where the store is.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The backup.
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// File with the recovery key.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
}

/// Where a recovery key goes.
#[derive(Debug, Clone, Args)]
pub struct RecoveryKeyArgs {
    /// The file to write; it must not be there yet. Keep it away from the coordinator.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// What the main does itself, since it needs the coordinator's rooms.
#[derive(Debug, Clone, Copy)]
pub enum Own<'a> {
    /// Runs the coordinator.
    Serve(&'a ServeArgs),
    /// Restores a backup.
    Restore(&'a RestoreArgs),
    /// Makes a recovery key.
    RecoveryKey(&'a RecoveryKeyArgs),
    /// Copies a store.
    StoreCopy(&'a CopyArgs),
}

/// What to do with the store.
#[derive(Debug, Clone, Subcommand)]
pub enum StoreCommand {
    /// Copy an SQLite store into an empty PostgreSQL database: all of it, compared afterwards, or nothing.
    Copy(CopyArgs),
}

/// From where to where.
#[derive(Debug, Clone, Args)]
pub struct CopyArgs {
    /// The SQLite file, `store.sqlite` in the coordinator's state_dir. It stays as it is.
    #[arg(long, value_name = "FILE")]
    pub from: PathBuf,
    /// The database: `postgresql://user@host/database`, without a password.
    #[arg(long, value_name = "URL")]
    pub to: String,
    /// File with the database's password; only its owner may read it.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// CA of the server's certificate (PEM); needed where the server is not on this machine.
    #[arg(long, value_name = "FILE")]
    pub database_ca: Option<PathBuf>,
}

impl CommandLine {
    /// What the main does itself; none for all other commands, which are `cli::run::run`'s.
    #[must_use]
    pub const fn own(&self) -> Option<Own<'_>> {
        match &self.command {
            Command::Serve(args) => Some(Own::Serve(args)),
            Command::Restore(args) => Some(Own::Restore(args)),
            Command::RecoveryKey(args) => Some(Own::RecoveryKey(args)),
            Command::Store(StoreCommand::Copy(args)) => Some(Own::StoreCopy(args)),
            Command::Ca(_)
            | Command::Vault(_)
            | Command::Template(_)
            | Command::Keystore(_)
            | Command::Key(_)
            | Command::Bulk(_)
            | Command::Differences(_)
            | Command::Backup(_)
            | Command::Recover(_)
            | Command::Doctor(_)
            | Command::Calendar(_)
            | Command::Audit(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use crate::cli::args::CommandLine;

    #[test]
    fn the_command_line_is_sound() {
        CommandLine::command().debug_assert();
    }

    /// Tokens and PINs are never arguments: every user of the machine can read those.
    #[test]
    fn no_secret_is_an_argument() {
        fn names(command: &clap::Command, found: &mut Vec<String>) {
            found.extend(command.get_arguments().map(|arg| arg.get_id().to_string()));
            for inner in command.get_subcommands() {
                names(inner, found);
            }
        }
        let mut found = Vec::new();
        names(&CommandLine::command(), &mut found);
        assert!(found.contains(&"token_file".to_owned()));
        for secret in ["token", "pin", "password", "secret"] {
            assert!(!found.contains(&secret.to_owned()), "{secret}");
        }
    }
}
