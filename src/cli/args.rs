//! The command line, as clap reads it.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::cli::commands::ca::CaCommand;

/// Keeps cryptographic keys in step across many PKCS#11 keystores.
#[derive(Debug, Parser)]
#[command(
    name = "lockstep",
    version,
    after_help = "Exit codes: 0 done (with --wait: confirmed everywhere), 1 error, 2 usage, 3 refused, 75 not yet confirmed."
)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the coordinator.
    Serve(ServeArgs),
    /// The fleet's certificate authority: works on files, asks nobody.
    #[command(subcommand)]
    Ca(CaCommand),
}

/// What the coordinator needs to run.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Its config file (TOML).
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

impl CommandLine {
    /// What `serve` was called with; none for all other commands, which are `cli::run::run`'s.
    #[must_use]
    pub const fn serve(&self) -> Option<&ServeArgs> {
        if let Command::Serve(args) = &self.command {
            Some(args)
        } else {
            None
        }
    }
}
