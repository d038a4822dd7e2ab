//! BACKUPS SEALED FOR A RECOVERY KEY: what only the holder of the key opens, and nobody can change or cut short unseen.
//!
//! Owns: the file's form, and the two texts of a recovery key. Never: reads a store, keeps a key, decides who may have one.
//!
//! HPKE (RFC 9180) with X25519, HKDF-SHA256 and AES-256-GCM: a first line, the encapsulated secret, then pieces, each behind its
//! length. HPKE counts the pieces; the last one is sealed as the last.

use std::io::{self, Read, Write};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256 as SUITE;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke, HpkePrivateKey, HpkePublicKey};
use zeroize::Zeroizing;

/// First line of a sealed file.
const HEADER: &[u8] = b"lockstep-backup 1\n";

/// What is sealed is a backup, and nothing else.
const INFO: &[u8] = b"lockstep/backup/1";

/// Length of a piece before it is sealed, bytes.
const PIECE: usize = 64 * 1024;

/// What sealing adds to a piece, bytes: the tag of AES-GCM.
const TAG: usize = 16;

/// Length of a key and of the encapsulated secret, bytes.
const KEY: usize = 32;

const PUBLIC: &str = "lockstep-recovery-1:";
const SECRET: &str = "LOCKSTEP-RECOVERY-SECRET-1:";

/// Why a file was not sealed or not opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The text is no recovery key.
    #[error("this is no recovery key: it begins with {expected:?} and goes on with 43 characters")]
    NoKey {
        /// What the text begins with.
        expected: &'static str,
    },
    /// The file is no backup.
    #[error("this is no backup of Lockstep")]
    NoBackup,
    /// The file was not sealed for this key, or it was changed or cut short.
    #[error("the backup was sealed for another recovery key, or it was changed or cut short")]
    Damaged,
    /// Randomness or the library failed.
    #[error("sealing failed: {0}")]
    Library(rustls::Error),
    /// The system's.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The public part of a recovery key: seals, and opens nothing.
#[derive(Debug, Clone)]
pub struct PublicKey(HpkePublicKey);

/// A recovery key.
pub struct SecretKey(HpkePrivateKey);

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

impl PublicKey {
    /// Reads its text.
    ///
    /// # Errors
    /// [`SealError::NoKey`].
    pub fn read(text: &str) -> Result<Self, SealError> {
        let bytes = key_bytes(text, PUBLIC)?;
        Ok(Self(HpkePublicKey(bytes.to_vec())))
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{PUBLIC}{}", URL_SAFE_NO_PAD.encode(&self.0.0))
    }
}

impl SecretKey {
    /// A new one with its public part.
    ///
    /// # Errors
    /// [`SealError::Library`].
    pub fn generate() -> Result<(Self, PublicKey), SealError> {
        let (public, secret) = SUITE.generate_key_pair().map_err(SealError::Library)?;
        Ok((Self(secret), PublicKey(public)))
    }

    /// Reads its text.
    ///
    /// # Errors
    /// [`SealError::NoKey`].
    pub fn read(text: &str) -> Result<Self, SealError> {
        let bytes = key_bytes(text, SECRET)?;
        Ok(Self(HpkePrivateKey::from(bytes.to_vec())))
    }

    /// Its text.
    #[must_use]
    pub fn text(&self) -> Zeroizing<String> {
        let key = Zeroizing::new(URL_SAFE_NO_PAD.encode(self.0.secret_bytes()));
        Zeroizing::new(format!("{SECRET}{}", key.as_str()))
    }
}

fn key_bytes(text: &str, prefix: &'static str) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let encoded = text.trim().strip_prefix(prefix);
    let bytes = encoded.and_then(|encoded| URL_SAFE_NO_PAD.decode(encoded).ok());
    bytes
        .map(Zeroizing::new)
        .filter(|bytes| bytes.len() == KEY)
        .ok_or(SealError::NoKey { expected: prefix })
}

/// Seals all that can be read.
///
/// # Errors
/// [`SealError`]; what was written until then opens as [`SealError::Damaged`].
pub fn seal(to: &PublicKey, from: &mut impl Read, into: &mut impl Write) -> Result<(), SealError> {
    let (encapsulated, mut sealer) = SUITE
        .setup_sealer(INFO, &to.0)
        .map_err(SealError::Library)?;
    into.write_all(HEADER)?;
    into.write_all(&encapsulated.0)?;
    let mut piece = Zeroizing::new(vec![0; PIECE]);
    loop {
        let length = fill(from, &mut piece)?;
        let is_last = length < PIECE;
        let plain = piece.get(..length).unwrap_or_default();
        let sealed = sealer
            .seal(&[u8::from(is_last)], plain)
            .map_err(SealError::Library)?;
        let length = u32::try_from(sealed.len()).unwrap_or(u32::MAX);
        into.write_all(&length.to_be_bytes())?;
        into.write_all(&sealed)?;
        if is_last {
            return Ok(into.flush()?);
        }
    }
}

/// Opens a sealed file.
///
/// # Errors
/// [`SealError`]; what was written until then is to be thrown away.
pub fn open(
    with: &SecretKey,
    from: &mut impl Read,
    into: &mut impl Write,
) -> Result<(), SealError> {
    let mut header = vec![0; HEADER.len()];
    if fill(from, &mut header)? < header.len() || header != HEADER {
        return Err(SealError::NoBackup);
    }
    let mut encapsulated = vec![0; KEY];
    exactly(from, &mut encapsulated)?;
    let mut opener = SUITE
        .setup_opener(&EncapsulatedSecret(encapsulated), INFO, &with.0)
        .map_err(|_refused| SealError::Damaged)?;
    loop {
        let mut length = [0; 4];
        exactly(from, &mut length)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if !(TAG..=PIECE + TAG).contains(&length) {
            return Err(SealError::Damaged);
        }
        let mut sealed = vec![0; length];
        exactly(from, &mut sealed)?;
        let is_last = length < PIECE + TAG;
        let plain = opener
            .open(&[u8::from(is_last)], &sealed)
            .map_err(|_refused| SealError::Damaged)?;
        into.write_all(&Zeroizing::new(plain))?;
        if is_last {
            // Nothing may follow.
            return if fill(from, &mut [0])? == 0 {
                Ok(into.flush()?)
            } else {
                Err(SealError::Damaged)
            };
        }
    }
}

fn exactly(from: &mut impl Read, bytes: &mut [u8]) -> Result<(), SealError> {
    if fill(from, bytes)? == bytes.len() {
        Ok(())
    } else {
        Err(SealError::Damaged)
    }
}

/// Reads until the buffer is full or there is no more.
fn fill(from: &mut impl Read, bytes: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(more) => filled = filled.saturating_add(more),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use crate::coordinator::seal::*;

    fn sealed(plain: &[u8], to: &PublicKey) -> Vec<u8> {
        let mut into = Vec::new();
        seal(to, &mut &*plain, &mut into).unwrap();
        into
    }

    fn opened(with: &SecretKey, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut into = Vec::new();
        open(with, &mut &*sealed, &mut into).map(|()| into)
    }

    #[test]
    fn what_was_sealed_opens_again_at_any_length() {
        let (secret, public) = SecretKey::generate().unwrap();
        let secret = SecretKey::read(&format!("{}\n", secret.text().as_str())).unwrap();
        let public = PublicKey::read(&public.text()).unwrap();
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE] {
            let plain: Vec<u8> = (0..length)
                .map(|n| u8::try_from(n % 251).unwrap())
                .collect();
            let sealed = sealed(&plain, &public);
            assert_eq!(opened(&secret, &sealed).unwrap(), plain, "{length}");
        }
    }

    #[test]
    fn a_file_that_was_changed_or_cut_short_is_damaged() {
        let (secret, public) = SecretKey::generate().unwrap();
        let whole = sealed(&vec![7; PIECE + 100], &public);
        for at in [
            HEADER.len() + 1,
            HEADER.len() + KEY + 2,
            PIECE,
            whole.len() - 1,
        ] {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            let failed = opened(&secret, &changed);
            assert!(
                matches!(failed, Err(SealError::Damaged)),
                "{at}: {failed:?}"
            );
        }
        // Also where a piece ends.
        let first = HEADER.len() + KEY + 4 + PIECE + TAG;
        for length in [HEADER.len(), first, whole.len() - 1] {
            let failed = opened(&secret, &whole[..length]);
            assert!(matches!(failed, Err(SealError::Damaged)), "{length}");
        }
        let longer = [whole.as_slice(), &[0]].concat();
        assert!(matches!(opened(&secret, &longer), Err(SealError::Damaged)));
    }

    #[test]
    fn only_the_recovery_key_opens_it() {
        let (_, public) = SecretKey::generate().unwrap();
        let (other, _) = SecretKey::generate().unwrap();
        let sealed = sealed(b"secret", &public);
        assert!(matches!(opened(&other, &sealed), Err(SealError::Damaged)));
        assert!(matches!(
            opened(&other, b"PK\x03\x04"),
            Err(SealError::NoBackup)
        ));
        assert!(!format!("{other:?}").contains(other.text().as_str()));
    }

    #[test]
    fn other_texts_are_no_keys() {
        let (secret, public) = SecretKey::generate().unwrap();
        for text in ["", "age1xyz", PUBLIC, &public.text()[..40], &secret.text()] {
            assert!(
                matches!(PublicKey::read(text), Err(SealError::NoKey { .. })),
                "{text}"
            );
        }
        assert!(matches!(
            SecretKey::read(&public.text()),
            Err(SealError::NoKey { .. })
        ));
    }
}
