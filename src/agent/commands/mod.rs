//! What an operator types: `lockstep-agent <command>`.
//!
//! Owns: the command line, one file per command, exit codes. Never: does what a command does in here.
//!
//! | exit code | means |
//! |---|---|
//! | 0 | done |
//! | 1 | refused or failed: standard error says why and what to do |
//! | 2 | the command line is wrong |
//! | 78 | the config is wrong |

pub mod bind;
pub mod init;
pub mod module_host;
pub mod open;
pub mod peer;
pub mod serve;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::agent::config::{self, Config, ConfigError};
use crate::agent::hardening;
use crate::agent::pin::Source;
use crate::model::ids::{Digest, KeystoreId};
use crate::telemetry;

/// The process beside an HSM: it makes the keys on its token what the coordinator says they should be.
#[derive(Debug, Parser)]
#[command(name = "lockstep-agent", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the state directory with a keystore id and an identity key; print both as `identity` does. Safe to repeat.
    Init(WithConfig),
    /// Write this keystore's marker onto the token. Once, before the first `serve`.
    Bind {
        #[command(flatten)]
        with: WithConfig,
        /// The journal in the state directory is lost for good, and the token is this keystore's: begin a new one.
        #[arg(long)]
        journal_lost: bool,
    },
    /// Print `KEYSTORE IDENTITY`: the keystore id and the SHA-256 of the identity key.
    Identity(WithConfig),
    /// Say whom this agent trusts about keys.
    Peer {
        #[command(subcommand)]
        command: PeerCommand,
    },
    /// Serve the coordinator until SIGTERM or SIGINT.
    Serve(WithConfig),
    /// Read the config and all files it names, and say what is wrong.
    ///
    /// Keys: name, listen, state_dir, variant ("internal" or "external"); in [token]: module, label, serial, pin_file or
    /// pin_credential or pin_fd, init_args; in [env]: the variables of the module host, which has no others; in [tls]: cert, key, ca.
    CheckConfig(WithConfig),
    /// The child process that loads the vendor's library. Started by `serve` and `bind`.
    #[command(hide = true)]
    ModuleHost,
}

#[derive(Debug, Subcommand)]
enum PeerCommand {
    /// Trust an identity about the keys of a keystore.
    Add {
        #[command(flatten)]
        config: WithConfig,
        /// The other agent's keystore id, as `lockstep-agent identity` prints it there.
        #[arg(long)]
        keystore: KeystoreId,
        /// SHA-256 of its identity key, 64 hex digits, as `lockstep-agent identity` prints it there.
        #[arg(long)]
        identity: Digest,
    },
    /// List keystores and identities, one pair a line.
    List(WithConfig),
}

#[derive(Debug, clap::Args)]
struct WithConfig {
    /// The agent's config file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// All of `main`.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = telemetry::init() {
        return failed(&error.into());
    }
    if matches!(cli.command, Command::ModuleHost) {
        return module_host::run();
    }
    match hardening::close_off()
        .map_err(anyhow::Error::from)
        .and_then(|()| run(cli.command))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Init(args) => init::init(&Config::load(&args.config)?),
        Command::Bind { with, journal_lost } => {
            bind::bind(&Config::load(&with.config)?, journal_lost)
        }
        Command::Identity(args) => init::identity(&Config::load(&args.config)?),
        Command::Serve(args) => serve::serve(&Config::load(&args.config)?, &args.config),
        Command::CheckConfig(args) => check_config(&args.config),
        Command::Peer { command } => match command {
            PeerCommand::Add {
                config,
                keystore,
                identity,
            } => peer::add(&Config::load(&config.config)?, keystore, identity),
            PeerCommand::List(args) => peer::list(&Config::load(&args.config)?),
        },
        Command::ModuleHost => Ok(()),
    }
}

fn check_config(file: &std::path::Path) -> anyhow::Result<()> {
    let config = Config::load(file)?;
    let _pin = check_files(&config, file)?;
    say(&format!("{}: ok", file.display()))
}

/// What the config names and can be checked without a token: PIN, certificate, key, CA, name. Gives the source of the PIN: a
/// descriptor can be taken but once.
///
/// # Errors
/// [`ConfigError`] with exit code 78.
pub fn check_files(config: &Config, file: &std::path::Path) -> Result<Source, ConfigError> {
    let fault = |key: &str, error: &dyn std::error::Error, fix: &str| ConfigError {
        file: file.to_owned(),
        key: key.to_owned(),
        problem: chain(error),
        fix: fix.to_owned(),
    };
    let pin = Source::open(&config.token).and_then(|pin| pin.read().map(|_pin| pin));
    let pin = pin.map_err(|error| {
        let fix = "give the PIN in one line that only this user can read";
        fault(config.token.pin_key(), &error, fix)
    })?;
    open::tls_identity(config).map_err(|error| {
        let fix = "issue a certificate with `lockstep ca issue`";
        fault("tls", &*error, fix)
    })?;
    Ok(pin)
}

/// Prints a line to standard output.
///
/// # Errors
/// The system's.
pub fn say(line: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

fn failed(error: &anyhow::Error) -> ExitCode {
    // A closed standard error leaves nobody to tell.
    drop(writeln!(std::io::stderr(), "lockstep-agent: {error:#}"));
    if error.is::<ConfigError>() {
        ExitCode::from(config::EXIT_CODE)
    } else {
        ExitCode::FAILURE
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
