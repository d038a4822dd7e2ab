//! Whom this agent trusts about keys: `peers.toml`, keystore id to SHA-256 of that agent's identity key. An operator writes
//! it with `lockstep-agent peer add`; nothing that comes over gRPC ever does.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::agent::durable;
use crate::agent::identity;
use crate::model::ids::{Digest, KeystoreId};
use crate::model::material::{Signed, Statement};

const HEADER: &str = "# Whom this agent trusts about keys: keystore id = SHA-256 of that agent's identity key.\n\
                      # Written by `lockstep-agent peer add`; compare the value with `lockstep-agent identity` over there.\n";

/// What goes wrong with the file. Whoever is then asked about is not trusted.
#[derive(Debug, thiserror::Error)]
pub enum PeersError {
    /// It cannot be read or written.
    #[error("{}: cannot be used", path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others may write it.
    #[error("{}: group or others may write it; run `chmod 600` on it", path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
    },
    /// It does not say what it should.
    #[error("{}: {detail}; every line under [peers] is \"keystore id\" = \"64 hex digits\"", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What was wrong.
        detail: String,
    },
    /// The keystore is listed with another identity.
    #[error(
        "keystore {keystore} is listed with identity {listed}; if that agent really has a new key, remove the line from \
         peers.toml and add it again"
    )]
    OtherIdentity {
        /// Which keystore.
        keystore: KeystoreId,
        /// What is listed.
        listed: Digest,
    },
}

/// Why a statement is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Distrust {
    /// The signature is not the signer's.
    #[error(
        "bad_signature: the statement of keystore {keystore} does not carry its signer's signature"
    )]
    BadSignature {
        /// Who is said to have signed.
        keystore: KeystoreId,
    },
    /// The signer is not the one listed for the keystore.
    #[error(
        "peer_not_listed: identity {identity} is not listed in peers.toml for keystore {keystore}; if it should be, run \
         `lockstep-agent peer add --keystore {keystore} --identity {identity}` on this agent's host"
    )]
    NotListed {
        /// The keystore.
        keystore: KeystoreId,
        /// The signer.
        identity: Digest,
    },
    /// The file cannot be read: nobody is trusted.
    #[error("peer_not_listed: peers.toml cannot be read, so that nobody is trusted: {detail}")]
    Unreadable {
        /// Why.
        detail: String,
    },
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PeersFile {
    #[serde(default)]
    peers: BTreeMap<String, String>,
}

/// The list as of the file's last change.
#[derive(Debug, Default)]
struct Cached {
    version: Option<FileVersion>,
    list: BTreeMap<KeystoreId, Digest>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileVersion {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

/// The trusted identities.
#[derive(Debug)]
pub struct Peers {
    path: PathBuf,
    own: (KeystoreId, Digest),
    cached: Mutex<Cached>,
}

impl Peers {
    /// Names the file; a missing one lists nobody. Our own identity is always trusted for our own keystore.
    #[must_use]
    pub fn new(path: &Path, keystore: KeystoreId, identity: Digest) -> Self {
        Self {
            path: path.to_owned(),
            own: (keystore, identity),
            cached: Mutex::new(Cached::default()),
        }
    }

    /// Checks that the agent listed for `keystore` signed the statement.
    ///
    /// # Errors
    /// [`Distrust`]; its text begins with a stable word.
    pub fn check<T: Statement>(
        &self,
        keystore: KeystoreId,
        signed: &Signed<T>,
    ) -> Result<(), Distrust> {
        if !identity::verify(signed) {
            return Err(Distrust::BadSignature { keystore });
        }
        let identity = signed.signer_digest();
        if (keystore, identity) == self.own {
            return Ok(());
        }
        let list = self.list().map_err(|error| Distrust::Unreadable {
            detail: error.to_string(),
        })?;
        if list.get(&keystore) == Some(&identity) {
            Ok(())
        } else {
            Err(Distrust::NotListed { keystore, identity })
        }
    }

    /// All that are listed, read anew if the file has changed.
    ///
    /// # Errors
    /// [`PeersError`].
    pub fn list(&self) -> Result<BTreeMap<KeystoreId, Digest>, PeersError> {
        let version = match std::fs::metadata(&self.path) {
            Ok(metadata) if metadata.mode() & 0o022 != 0 => {
                return Err(PeersError::Exposed {
                    path: self.path.clone(),
                });
            }
            Ok(metadata) => Some(FileVersion::of(&metadata)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(source) => return Err(self.unusable(source)),
        };
        let mut cached = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        if cached.version != version {
            let list = self.read()?;
            *cached = Cached { version, list };
        }
        Ok(cached.list.clone())
    }

    /// Lists one more. Saying the same again changes nothing.
    ///
    /// # Errors
    /// [`PeersError::OtherIdentity`]: an identity is never replaced in passing.
    pub fn add(&self, keystore: KeystoreId, identity: Digest) -> Result<(), PeersError> {
        let mut list = self.list()?;
        match list.get(&keystore) {
            Some(&listed) if listed != identity => {
                return Err(PeersError::OtherIdentity { keystore, listed });
            }
            Some(_) => return Ok(()),
            None => list.insert(keystore, identity),
        };
        let file = PeersFile {
            peers: list
                .iter()
                .map(|(keystore, identity)| (keystore.to_string(), identity.to_string()))
                .collect(),
        };
        let body = toml::to_string(&file).map_err(|error| self.damaged(error.to_string()))?;
        durable::replace(&self.path, format!("{HEADER}{body}").as_bytes())
            .map_err(|source| self.unusable(source))
    }

    fn read(&self) -> Result<BTreeMap<KeystoreId, Digest>, PeersError> {
        let text = std::fs::read_to_string(&self.path).map_err(|source| self.unusable(source))?;
        let file: PeersFile =
            toml::from_str(&text).map_err(|error| self.damaged(error.message().to_owned()))?;
        let entry = |(keystore, identity): (&String, &String)| {
            let keystore: Result<KeystoreId, _> = keystore.parse();
            let identity: Result<Digest, _> = identity.parse();
            match (keystore, identity) {
                (Ok(keystore), Ok(identity)) => Ok((keystore, identity)),
                (Err(error), _) | (_, Err(error)) => Err(self.damaged(error.to_string())),
            }
        };
        file.peers.iter().map(entry).collect()
    }

    fn unusable(&self, source: io::Error) -> PeersError {
        PeersError::Unusable {
            path: self.path.clone(),
            source,
        }
    }

    fn damaged(&self, detail: String) -> PeersError {
        PeersError::Damaged {
            path: self.path.clone(),
            detail,
        }
    }
}

impl FileVersion {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use crate::agent::identity::Identity;
    use crate::agent::peers::{Distrust, Peers, PeersError};
    use crate::model::canonical::sha256;
    use crate::model::ids::{Epoch, KeystoreId};
    use crate::model::keystore::{OaepHash, Routes, Wrapping};
    use crate::model::material::{Endorsement, Signed};
    use crate::model::vault::UnixMs;

    fn keystore(number: u128) -> KeystoreId {
        KeystoreId::from_uuid(uuid::Uuid::from_u128(number))
    }

    fn statement(signer: &Identity) -> Signed<Endorsement> {
        signer.sign(Endorsement {
            keystore: keystore(2),
            epoch: Epoch(1),
            spki: vec![1],
            routes: Routes {
                wrappings: vec![Wrapping::Rfc5649],
                oaep_hashes: vec![OaepHash::Sha256],
            },
            at: UnixMs(1),
        })
    }

    #[test]
    fn only_listed_signers_are_believed_and_changes_count_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("peers.toml");
        let own = Identity::load_or_new(&directory.path().join("own")).unwrap();
        let other = Identity::load_or_new(&directory.path().join("other")).unwrap();
        let peers = Peers::new(&path, keystore(1), own.digest());

        peers.check(keystore(1), &statement(&own)).unwrap();
        let refused = peers.check(keystore(2), &statement(&own)).unwrap_err();
        assert!(
            refused.to_string().starts_with("peer_not_listed: "),
            "{refused}"
        );
        let signed = statement(&other);
        assert!(peers.check(keystore(2), &signed).is_err());

        // Another process adds it.
        Peers::new(&path, keystore(1), own.digest())
            .add(keystore(2), other.digest())
            .unwrap();
        peers.check(keystore(2), &signed).unwrap();
        assert!(matches!(
            peers.check(keystore(3), &signed),
            Err(Distrust::NotListed { .. })
        ));
        let mut changed = signed;
        changed.body.epoch = Epoch(9);
        assert!(matches!(
            peers.check(keystore(2), &changed),
            Err(Distrust::BadSignature { .. })
        ));
    }

    #[test]
    fn an_identity_is_never_replaced_and_a_damaged_file_trusts_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("peers.toml");
        let own = Identity::load_or_new(&directory.path().join("own")).unwrap();
        let other = Identity::load_or_new(&directory.path().join("other")).unwrap();
        let peers = Peers::new(&path, keystore(1), own.digest());
        peers.add(keystore(2), other.digest()).unwrap();
        peers.add(keystore(2), other.digest()).unwrap();
        assert!(matches!(
            peers.add(keystore(2), sha256(b"new")),
            Err(PeersError::OtherIdentity { .. })
        ));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660)).unwrap();
        assert!(matches!(peers.list(), Err(PeersError::Exposed { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        for damaged in ["[peers]\nx = \"y\"\n", "[peer]\n", "peers = 1"] {
            std::fs::write(&path, damaged).unwrap();
            assert!(matches!(peers.list(), Err(PeersError::Damaged { .. })));
            assert!(matches!(
                peers.check(keystore(2), &statement(&other)),
                Err(Distrust::Unreadable { .. })
            ));
        }
    }
}
