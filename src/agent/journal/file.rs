//! The journal's file: opened, recovered, compacted, appended to.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::agent::durable;
use crate::agent::journal::line::{self, Contents, Damage};

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The system's error.
    #[error("{}: the journal cannot be read or written", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Damage that is no torn tail.
    #[error(
        "{}: the journal is damaged; it is left as it is: restore it from a backup of state_dir, or ask for help",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        #[source]
        source: Damage,
    },
}

/// The open file. Whoever holds it holds the state directory's lock.
#[derive(Debug)]
pub struct JournalFile {
    path: PathBuf,
    file: File,
    /// Length up to which all is whole.
    length: u64,
    /// Number of the next record.
    next: u64,
    /// Set when nobody knows what is on the disk: nothing more is written.
    broken: bool,
}

/// Reads all records; a missing file has none.
///
/// # Errors
/// [`JournalError`].
pub fn load<R: DeserializeOwned>(path: &Path) -> Result<Contents<R>, JournalError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(source) => return Err(failed(path, source)),
    };
    line::decode(&bytes).map_err(|source| JournalError::Damaged {
        path: path.to_owned(),
        source,
    })
}

/// Writes a journal of exactly these records in the place of the old one, and opens it.
///
/// # Errors
/// [`JournalError::Io`]; the old journal is then still there.
pub fn rewrite<R: Serialize>(path: &Path, records: &[R]) -> Result<JournalFile, JournalError> {
    let (text, next) = encode(1, records).map_err(|source| failed(path, source))?;
    let write = || {
        let mut staged = durable::stage(path)?;
        staged.write_all(line::HEADER.as_bytes())?;
        staged.write_all(text.as_bytes())?;
        durable::commit(&staged, path)?;
        let mut file = OpenOptions::new().write(true).mode(0o600).open(path)?;
        let length = file.seek(SeekFrom::End(0))?;
        Ok((file, length))
    };
    let (file, length) = write().map_err(|source| failed(path, source))?;
    Ok(JournalFile {
        path: path.to_owned(),
        file,
        length,
        next,
        broken: false,
    })
}

/// Opens a journal as it was loaded, without its torn tail. One that was never written is made.
///
/// # Errors
/// [`JournalError::Io`].
pub fn open<R: Serialize>(
    path: &Path,
    contents: &Contents<R>,
) -> Result<JournalFile, JournalError> {
    if contents.whole_bytes == 0 {
        return rewrite(path, &contents.records);
    }
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let open = || {
        let file = OpenOptions::new().write(true).open(path)?;
        let mut journal = JournalFile {
            path: path.to_owned(),
            file,
            length: count(contents.whole_bytes),
            next: count(contents.records.len()).saturating_add(1),
            broken: false,
        };
        journal.cut_back()?;
        Ok(journal)
    };
    open().map_err(|source| failed(path, source))
}

impl JournalFile {
    /// How many records there are.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.next.saturating_sub(1)
    }

    /// Puts a journal of exactly these records in its place, on stable storage.
    ///
    /// # Errors
    /// [`JournalError::Io`]. While the journal has its name still, it goes on as it was; else nobody knows which of the two the
    /// next start would find, and every further call fails until then.
    pub fn replace<R: Serialize>(&mut self, records: &[R]) -> Result<(), JournalError> {
        if self.broken {
            return Ok(());
        }
        match rewrite(&self.path, records) {
            Ok(journal) => *self = journal,
            Err(error) => {
                self.broken = !self.has_its_name().unwrap_or(false);
                return Err(error);
            }
        }
        Ok(())
    }

    fn has_its_name(&self) -> io::Result<bool> {
        let (named, open) = (std::fs::metadata(&self.path)?, self.file.metadata()?);
        Ok((named.dev(), named.ino()) == (open.dev(), open.ino()))
    }

    /// Appends records as one batch and waits until they are on stable storage.
    ///
    /// # Errors
    /// The system's, such as a full disk: none of the records counts then, and the next call may try again.
    /// After a failed fsync nobody knows what the disk holds: every further call fails until the agent is started again.
    pub fn append<R: Serialize>(&mut self, records: &[R]) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other(
                "an earlier write failed and its outcome is not known; start the agent again",
            ));
        }
        let (text, next) = encode(self.next, records)?;
        if let Err(error) = self.file.write_all(text.as_bytes()) {
            self.broken = self.cut_back().is_err();
            return Err(error);
        }
        if let Err(error) = self.file.sync_data() {
            self.broken = true;
            if let Err(second) = self.cut_back() {
                tracing::error!(error = %second, "what could not be synced could not be cut off either");
            }
            return Err(error);
        }
        self.next = next;
        self.length = self.file.stream_position()?;
        Ok(())
    }

    fn cut_back(&mut self) -> io::Result<()> {
        self.file.set_len(self.length)?;
        self.file.seek(SeekFrom::Start(self.length))?;
        self.file.sync_data()
    }
}

fn encode<R: Serialize>(first: u64, records: &[R]) -> io::Result<(String, u64)> {
    let mut text = String::new();
    let mut number = first;
    for record in records {
        text.push_str(&line::encode(number, first, record)?);
        number = number.saturating_add(1);
    }
    Ok((text, number))
}

fn failed(path: &Path, source: io::Error) -> JournalError {
    JournalError::Io {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use crate::agent::journal::file::{JournalError, JournalFile, load, open, rewrite};

    #[test]
    fn appends_survive_and_compaction_keeps_what_it_is_given() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        assert_eq!(load::<u64>(&path).unwrap().records, Vec::<u64>::new());
        let mut journal = rewrite::<u64>(&path, &[]).unwrap();
        journal.append(&[1_u64, 2]).unwrap();
        journal.append(&[3_u64]).unwrap();
        assert_eq!(journal.records(), 3);
        assert_eq!(load::<u64>(&path).unwrap().records, [1, 2, 3]);
        journal.replace(&[2_u64, 3]).unwrap();
        assert_eq!(journal.records(), 2);
        journal.append(&[4_u64]).unwrap();
        assert_eq!(load::<u64>(&path).unwrap().records, [2, 3, 4]);
        // Where it cannot be replaced, the one that is there goes on.
        let staged = directory.path().join("journal.new");
        std::fs::create_dir(&staged).unwrap();
        journal.replace(&[4_u64]).unwrap_err();
        journal.append(&[5_u64]).unwrap();
        assert_eq!(load::<u64>(&path).unwrap().records, [2, 3, 4, 5]);
        // Unless another one has its name: what is appended would never be read.
        std::fs::rename(&path, directory.path().join("away")).unwrap();
        std::fs::write(&path, "").unwrap();
        journal.replace(&[4_u64]).unwrap_err();
        journal.append(&[6_u64]).unwrap_err();
    }

    #[test]
    fn a_torn_tail_is_told_and_damage_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal");
        let mut journal = rewrite(&path, &[1_u64]).unwrap();
        journal.append(&[2_u64]).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes.truncate(bytes.len() - 3);
        std::fs::write(&path, &bytes).unwrap();
        let contents = load::<u64>(&path).unwrap();
        assert_eq!(
            (&contents.records, contents.torn_bytes > 0),
            (&vec![1], true)
        );
        let mut journal = open(&path, &contents).unwrap();
        journal.append(&[3_u64]).unwrap();
        let contents = load::<u64>(&path).unwrap();
        assert_eq!((contents.records, contents.torn_bytes), (vec![1, 3], 0));
        std::fs::write(&path, "something else\n").unwrap();
        assert!(matches!(
            load::<u64>(&path),
            Err(JournalError::Damaged { .. })
        ));
    }

    #[test]
    fn a_full_disk_is_an_error_and_the_next_try_counts_again() {
        // /dev/full answers every write with ENOSPC.
        let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else {
            panic!("this test needs /dev/full");
        };
        let mut journal = JournalFile {
            path: "/dev/full".into(),
            file: full,
            length: 0,
            next: 1,
            broken: false,
        };
        let error = journal.append(&[1_u64]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        assert_eq!(journal.records(), 0);
    }
}
