//! Small files that survive a power cut: written whole beside the old one, then put in its place.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Only the owner reads and writes.
const PRIVATE_MODE: u32 = 0o600;

/// Puts `bytes` in the place of the file, or makes it: after a crash it is the old one or the new one.
///
/// # Errors
/// The system's; the old file is then still there.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut staged = stage(path)?;
    staged.write_all(bytes)?;
    commit(&staged, path)
}

/// Opens an empty file beside `path`, to be filled and then given to [`commit`].
///
/// # Errors
/// The system's.
pub fn stage(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(PRIVATE_MODE)
        .open(beside(path))
}

/// Makes a staged file durable and gives it its name.
///
/// # Errors
/// The system's; the old file is then still there.
pub fn commit(staged: &File, path: &Path) -> io::Result<()> {
    staged.sync_all()?;
    std::fs::rename(beside(path), path)?;
    sync_directory_of(path)
}

/// Makes names in the directory of `path` durable.
///
/// # Errors
/// The system's.
pub fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    File::open(directory)?.sync_all()
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use crate::agent::durable::replace;

    #[test]
    fn replaces_whole_and_keeps_it_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        replace(&path, b"a longer first text").unwrap();
        replace(&path, b"second").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
