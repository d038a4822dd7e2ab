//! BACKUPS OPENED: a sealed backup put in the place of a store, while no coordinator runs.
//!
//! Owns: recovery keys in files, opening, checking and putting in place. Never: throws an older store away, starts a coordinator.

use std::fs::{File, OpenOptions, remove_file, rename};
use std::io::{self, BufReader, BufWriter, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::coordinator::seal::{self, PublicKey, SealError, SecretKey};
use crate::coordinator::store::sqlite::restored::RestoredStore;
use crate::coordinator::store::sqlite::{OpenError, lock};
use crate::model::vault::UnixMs;
use crate::tls::config::read_secret;
use crate::tls::error::TlsError;

/// Why nothing was restored. What was there before is there still.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// A file cannot be used.
    #[error("cannot use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The recovery key's file cannot be used.
    #[error(transparent)]
    Key(#[from] TlsError),
    /// The backup cannot be opened.
    #[error("{}", path.display())]
    Seal {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: SealError,
    },
    /// What is in it is no store that this program can use, or the store in its place is in use.
    #[error(transparent)]
    Store(#[from] OpenError),
}

/// Makes a recovery key: the secret into a new file that only its owner reads; gives the public part.
///
/// # Errors
/// [`RestoreError`]; a file that is there already is not touched.
pub fn recovery_key(out: &Path) -> Result<PublicKey, RestoreError> {
    let failed = |source| RestoreError::Seal {
        path: out.to_owned(),
        source,
    };
    let (secret, public) = SecretKey::generate().map_err(failed)?;
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(out)?;
        file.write_all(secret.text().as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()
    };
    write().map_err(|source| RestoreError::File {
        path: out.to_owned(),
        source,
    })?;
    Ok(public)
}

/// Opens a backup and puts it in the place of the store; an older store is kept beside it. Gives where, if there was one, and
/// when the backup was made.
///
/// # Errors
/// [`RestoreError`]
pub fn restore(
    backup: &Path,
    key: &Path,
    store: &Path,
    now: UnixMs,
) -> Result<(Option<PathBuf>, Option<UnixMs>), RestoreError> {
    let text = read_secret(key)?;
    let secret = std::str::from_utf8(&text)
        .map_err(|_binary| SealError::NoBackup)
        .and_then(SecretKey::read)
        .map_err(|source| RestoreError::Seal {
            path: key.to_owned(),
            source,
        })?;
    // From here to the end no coordinator can open the store.
    let lock = lock::take(store)?;
    let draft = beside(store, "restoring");
    let opened = open(backup, &secret, &draft).and_then(|()| Ok(RestoredStore::check(&draft)?));
    let made_at = match opened {
        Ok(restored) => restored.made_at,
        Err(error) => {
            let _never_made = remove_file(&draft);
            return Err(error);
        }
    };
    let kept = put_in_place(&draft, store, now).map_err(|source| RestoreError::File {
        path: store.to_owned(),
        source,
    })?;
    drop(lock);
    Ok((kept, made_at))
}

fn open(backup: &Path, secret: &SecretKey, draft: &Path) -> Result<(), RestoreError> {
    let file = |path: &Path, source| RestoreError::File {
        path: path.to_owned(),
        source,
    };
    let from = File::open(backup).map_err(|source| file(backup, source))?;
    let into = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(draft)
        .map_err(|source| file(draft, source))?;
    let mut into = BufWriter::new(into);
    seal::open(secret, &mut BufReader::new(from), &mut into).map_err(|source| {
        RestoreError::Seal {
            path: backup.to_owned(),
            source,
        }
    })?;
    into.into_inner()
        .map_err(io::IntoInnerError::into_error)
        .and_then(|file| file.sync_all())
        .map_err(|source| file(draft, source))
}

/// The old store's WAL goes with it: beside the new one it would be another store's.
fn put_in_place(draft: &Path, store: &Path, now: UnixMs) -> io::Result<Option<PathBuf>> {
    let kept = beside(store, &format!("before-restore-{}", now.0));
    let had = store.exists();
    for suffix in ["-wal", "-shm"] {
        let mut side = store.as_os_str().to_owned();
        side.push(suffix);
        let mut goes = kept.as_os_str().to_owned();
        goes.push(suffix);
        if Path::new(&side).exists() {
            rename(&side, &goes)?;
        }
    }
    if had {
        rename(store, &kept)?;
    }
    rename(draft, store)?;
    if let Some(directory) = store.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(had.then_some(kept))
}

fn beside(store: &Path, what: &str) -> PathBuf {
    let mut name = store.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(what);
    store.with_file_name(name)
}
