//! The agent's directory: what it must not lose. One agent at a time holds it, and one module host.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::FdFlags;

use crate::agent::durable;
use crate::clock::Monotonic;
use crate::model::ids::KeystoreId;

/// Longest wait for the module host of an agent that was killed. A host that is orphaned aborts after 300 s.
const HOST_PATIENCE: Duration = Duration::from_secs(310);

/// Pause between two looks.
const HOST_PAUSE: Duration = Duration::from_millis(20);

/// What goes wrong with the directory.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// Not there, or not ours to read.
    #[error("{}: cannot be used; make it with `lockstep-agent init --config FILE`", path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process holds it.
    #[error("{}: another lockstep-agent is running on this state_dir; stop it first", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The module host of an agent that was killed has not ended its call.
    #[error(
        "{}: the module host of an earlier run is still in a call to the token; two at once would lose objects; try again \
         when it has ended",
        path.display()
    )]
    HostStays {
        /// The lock file that it holds.
        path: PathBuf,
    },
    /// `keystore-id` holds something else.
    #[error("{}: holds no keystore id; restore it from a backup of this directory", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
}

/// Paths inside the directory.
#[derive(Debug, Clone)]
pub struct StateDir {
    root: PathBuf,
}

/// Held as long as the process works on the directory; the system lets it go when the process ends, however it ends.
#[derive(Debug)]
pub struct StateLock {
    _file: File,
    /// Children inherit this one: it is free only when the last module host is gone too.
    _host: File,
}

impl StateDir {
    /// Names the directory; touches nothing.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// Makes the directory, for its owner alone.
    ///
    /// # Errors
    /// [`StateDirError::Unusable`].
    pub fn create(&self) -> Result<(), StateDirError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.root)
            .map_err(|source| unusable(&self.root, source))
    }

    /// The identity key, PKCS#8.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.root.join("identity.key")
    }

    /// Whom this agent trusts about keys.
    #[must_use]
    pub fn peers(&self) -> PathBuf {
        self.root.join("peers.toml")
    }

    /// The journal.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// Which PIN the token refused.
    #[must_use]
    pub fn latch(&self) -> PathBuf {
        self.root.join("pin-refused")
    }

    /// What the last good probe of the token found.
    #[must_use]
    pub fn capabilities(&self) -> PathBuf {
        self.root.join("capabilities.json")
    }

    /// Where `serve` writes the address it listens on.
    #[must_use]
    pub fn listen_address(&self) -> PathBuf {
        self.root.join("listen.addr")
    }

    fn keystore_file(&self) -> PathBuf {
        self.root.join("keystore-id")
    }

    /// Takes the directory for this process and its children. If the agent before was killed, its module host may still be
    /// in a call: waits for the end of that, at most as long as the host itself lets a call go on.
    ///
    /// # Errors
    /// [`StateDirError::Locked`] if another agent has it, [`StateDirError::HostStays`].
    pub fn lock(&self) -> Result<StateLock, StateDirError> {
        self.lock_within(HOST_PATIENCE)
    }

    fn lock_within(&self, patience: Duration) -> Result<StateLock, StateDirError> {
        let path = self.root.join("lock");
        let Some(file) = try_lock(&path)? else {
            return Err(StateDirError::Locked { path });
        };
        let path = self.root.join("host.lock");
        let began = Monotonic::now();
        let mut told = false;
        let host = loop {
            if let Some(host) = try_lock(&path)? {
                break host;
            }
            if !told {
                tracing::warn!("waiting for the module host of an earlier run to end its call");
                told = true;
            }
            if began.elapsed() >= patience {
                return Err(StateDirError::HostStays { path });
            }
            std::thread::sleep(HOST_PAUSE);
        };
        rustix::io::fcntl_setfd(&host, FdFlags::empty())
            .map_err(|errno| unusable(&path, errno.into()))?;
        Ok(StateLock {
            _file: file,
            _host: host,
        })
    }

    /// The keystore that this directory is for, whether bound or not; given by `init`.
    ///
    /// # Errors
    /// [`StateDirError`].
    pub fn keystore(&self) -> Result<KeystoreId, StateDirError> {
        let path = self.keystore_file();
        let text = std::fs::read_to_string(&path).map_err(|source| unusable(&path, source))?;
        text.trim()
            .parse()
            .map_err(|_not_an_id| StateDirError::Damaged { path })
    }

    /// The keystore id, drawn anew if there is none yet.
    ///
    /// # Errors
    /// [`StateDirError`].
    pub fn keystore_or_new(&self) -> Result<KeystoreId, StateDirError> {
        let path = self.keystore_file();
        if path.exists() {
            return self.keystore();
        }
        let keystore = KeystoreId::from_uuid(uuid::Uuid::new_v4());
        durable::replace(&path, format!("{keystore}\n").as_bytes())
            .map_err(|source| unusable(&path, source))?;
        Ok(keystore)
    }
}

/// The file, locked; none if another process has it.
fn try_lock(path: &Path) -> Result<Option<File>, StateDirError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|source| unusable(path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(unusable(path, source)),
    }
}

fn unusable(path: &Path, source: io::Error) -> StateDirError {
    StateDirError::Unusable {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use crate::agent::state_dir::{StateDir, StateDirError};

    #[test]
    fn one_process_at_a_time_and_one_keystore_for_ever() {
        let parent = tempfile::tempdir().unwrap();
        let state = StateDir::new(&parent.path().join("state"));
        assert!(matches!(state.lock(), Err(StateDirError::Unusable { .. })));
        state.create().unwrap();
        let keystore = state.keystore_or_new().unwrap();
        assert_eq!(state.keystore_or_new().unwrap(), keystore);
        let held = state.lock().unwrap();
        assert!(matches!(state.lock(), Err(StateDirError::Locked { .. })));
        drop(held);
        state.lock().unwrap();
        std::fs::write(parent.path().join("state/keystore-id"), "?").unwrap();
        assert!(matches!(
            state.keystore_or_new(),
            Err(StateDirError::Damaged { .. })
        ));
    }

    #[test]
    fn a_child_that_outlives_the_agent_keeps_the_next_one_waiting() {
        let parent = tempfile::tempdir().unwrap();
        let state = StateDir::new(parent.path());
        let held = state.lock().unwrap();
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        drop(held);
        let refused = state.lock_within(Duration::from_millis(100));
        assert!(matches!(refused, Err(StateDirError::HostStays { .. })));
        drop(child.stdin.take());
        state.lock_within(Duration::from_secs(60)).unwrap();
        child.wait().unwrap();
    }
}
