//! `lockstep backup`: the coordinator's store, sealed, into a file.

use std::fs::{File, OpenOptions, remove_file, rename};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;

use crate::cli::client::Change;
use crate::cli::context::Context;
use crate::cli::exit::Exit;
use crate::rest::backup::BackupRequest;

/// Where a backup goes and who can open it.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// The file to write; it must not be there yet.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The recovery key's public part, as `lockstep recovery-key` printed it.
    #[arg(long, value_name = "KEY")]
    to: String,
}

/// Runs it. The file is there whole or not at all.
///
/// # Errors
/// A refusal, or whatever stands in the way of asking or writing.
pub fn run(args: &BackupArgs, context: &mut Context<'_, '_>) -> anyhow::Result<Exit> {
    if args.out.exists() {
        bail!("{} is there already", args.out.display());
    }
    let mut name = args.out.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let draft = args.out.with_file_name(name);
    let asked = BackupRequest {
        recovery_key: args.to.clone(),
    };
    let change = Change::with_body(&asked)?;
    let written = write(&draft, |file| {
        context
            .client
            .download("/api/lockstep/v1/backup", &change, file)
    });
    if written.is_err() {
        let _never_made = remove_file(&draft);
    }
    let bytes = written?;
    rename(&draft, &args.out).with_context(|| format!("cannot write {}", args.out.display()))?;
    context.say(&format!("{}: {bytes} bytes", args.out.display()))?;
    Ok(Exit::Done)
}

fn write<E: Into<anyhow::Error>>(
    path: &Path,
    download: impl FnOnce(&mut File) -> Result<u64, E>,
) -> anyhow::Result<u64> {
    let failed = || format!("cannot write {}", path.display());
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(failed)?;
    let bytes = download(&mut file).map_err(Into::into)?;
    let sync = |file: &mut File| -> io::Result<()> {
        file.flush()?;
        file.sync_all()
    };
    sync(&mut file).with_context(failed)?;
    Ok(bytes)
}
