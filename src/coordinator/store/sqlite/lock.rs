//! The advisory lock beside the file: two coordinators on one file refuse to start.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::coordinator::store::sqlite::OpenError;

/// A holder's line in the lock file is at most this long.
const HOLDER_BYTES_MAX: u64 = 64;

/// The lock, held until it is dropped or its process ends. The file stays: removing it would let two hold it.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Takes the lock of a store.
///
/// # Errors
/// [`OpenError::InUse`] names who has it; [`OpenError::File`].
pub fn take(store: &Path) -> Result<Lock, OpenError> {
    let path = lock_path(store);
    let failed = |source| OpenError::File {
        path: path.clone(),
        source,
    };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            return Err(OpenError::InUse {
                path: store.to_owned(),
                holder: holder(&file),
                lock: path,
            });
        }
        Err(errno) => return Err(failed(errno.into())),
    }
    write_holder(&mut file).map_err(failed)?;
    Ok(Lock { _file: file })
}

fn lock_path(store: &Path) -> PathBuf {
    let mut path = store.as_os_str().to_owned();
    path.push(".lock");
    PathBuf::from(path)
}

fn write_holder(file: &mut File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "process {}", std::process::id())
}

fn holder(file: &File) -> String {
    let mut text = String::new();
    match file.take(HOLDER_BYTES_MAX).read_to_string(&mut text) {
        Ok(length) if length > 1 => text.trim().to_owned(),
        Ok(_) | Err(_) => "another process".to_owned(),
    }
}
