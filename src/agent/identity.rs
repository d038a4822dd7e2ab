//! The agent's identity key: Ed25519 (RFC 8032). It signs what this agent says about keys, outlives certificates, and is
//! what other agents list in `peers.toml`.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use zeroize::Zeroizing;

use crate::agent::durable;
use crate::model::canonical::sha256;
use crate::model::ids::Digest;
use crate::model::material::{Signed, Statement};

/// What goes wrong with the identity key.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file cannot be read or written.
    #[error("{}: the identity key cannot be used; make it with `lockstep-agent init`", path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others could read it.
    #[error("{}: group or others may read the identity key; run `chmod 600` on it", path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
    },
    /// The file is no Ed25519 key.
    #[error("{}: holds no Ed25519 key in PKCS#8; restore it from a backup", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// No key could be drawn.
    #[error("no identity key could be generated")]
    Random,
}

/// The key, in memory.
pub struct Identity {
    key: Ed25519KeyPair,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.digest())
    }
}

impl Identity {
    /// Reads the key that `init` made.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn load(path: &Path) -> Result<Self, IdentityError> {
        let unreadable = |source| unusable(path, source);
        let mut file = File::open(path).map_err(unreadable)?;
        let mode = file.metadata().map_err(unreadable)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(IdentityError::Exposed {
                path: path.to_owned(),
            });
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(256));
        file.read_to_end(&mut bytes).map_err(unreadable)?;
        let key = Ed25519KeyPair::from_pkcs8(&bytes);
        let key = key.map_err(|_rejected| IdentityError::Damaged {
            path: path.to_owned(),
        })?;
        Ok(Self { key })
    }

    /// Reads the key, or makes one where there is none: never a second one.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub fn load_or_new(path: &Path) -> Result<Self, IdentityError> {
        if !path.exists() {
            let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
                .map_err(|_unspecified| IdentityError::Random)?;
            durable::replace(path, document.as_ref()).map_err(|source| unusable(path, source))?;
        }
        Self::load(path)
    }

    /// The public key, 32 bytes.
    #[must_use]
    pub fn public(&self) -> &[u8] {
        self.key.public_key().as_ref()
    }

    /// SHA-256 of the public key: what `peers.toml` of others lists.
    #[must_use]
    pub fn digest(&self) -> Digest {
        sha256(self.public())
    }

    /// Signs a statement.
    #[must_use]
    pub fn sign<T: Statement>(&self, body: T) -> Signed<T> {
        let signature = self.key.sign(&body.canonical()).as_ref().to_vec();
        Signed {
            signer: self.public().to_vec(),
            signature,
            body,
        }
    }
}

/// Whether the signature is the signer's. Says nothing about whether the signer is trusted: see `peers`.
#[must_use]
pub fn verify<T: Statement>(signed: &Signed<T>) -> bool {
    UnparsedPublicKey::new(&ED25519, &signed.signer)
        .verify(&signed.body.canonical(), &signed.signature)
        .is_ok()
}

fn unusable(path: &Path, source: io::Error) -> IdentityError {
    IdentityError::Unusable {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use crate::agent::identity::{Identity, IdentityError, verify};
    use crate::model::ids::{Epoch, KeystoreId};
    use crate::model::keystore::{OaepHash, Routes, Wrapping};
    use crate::model::material::Endorsement;
    use crate::model::vault::UnixMs;

    fn endorsement() -> Endorsement {
        Endorsement {
            keystore: KeystoreId::from_uuid(uuid::Uuid::from_u128(7)),
            epoch: Epoch(1),
            spki: vec![1, 2, 3],
            routes: Routes {
                wrappings: vec![Wrapping::Rfc5649],
                oaep_hashes: vec![OaepHash::Sha1],
            },
            at: UnixMs(5),
        }
    }

    #[test]
    fn a_signature_covers_body_and_signer() {
        let directory = tempfile::tempdir().unwrap();
        let identity = Identity::load_or_new(&directory.path().join("a")).unwrap();
        let other = Identity::load_or_new(&directory.path().join("b")).unwrap();
        let signed = identity.sign(endorsement());
        assert!(verify(&signed));
        assert_eq!(signed.signer_digest(), identity.digest());
        let mut changed = signed.clone();
        changed.body.epoch = Epoch(2);
        assert!(!verify(&changed));
        let mut relabelled = signed;
        relabelled.signer = other.public().to_vec();
        assert!(!verify(&relabelled));
    }

    #[test]
    fn the_key_stays_the_same_and_damage_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("identity.key");
        assert!(matches!(
            Identity::load(&path),
            Err(IdentityError::Unusable { .. })
        ));
        let first = Identity::load_or_new(&path).unwrap().digest();
        assert_eq!(Identity::load_or_new(&path).unwrap().digest(), first);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            Identity::load(&path),
            Err(IdentityError::Exposed { .. })
        ));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, b"no key").unwrap();
        assert!(matches!(
            Identity::load_or_new(&path),
            Err(IdentityError::Damaged { .. })
        ));
    }
}
