//! Key bytes of the in-memory token: drawn from a seed, wrapped for real.

use std::fmt;

use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::key_wrap::{AES_256, KeyEncryptionKey, KeyWrapPadded as _};
use zeroize::Zeroizing;

use crate::keystore::pkcs11::failure::refused;
use crate::keystore::pkcs11::mechanism::key_type;
use crate::keystore::pkcs11::spki::{Curve, PublicPart};
use crate::model::canonical::{Canonical, sha256};
use crate::model::ids::Digest;
use crate::model::job::TokenFailure;
use crate::model::key::{Algorithm, KeyClass, KeySpec};
use crate::model::material::fingerprint_prefix;
use crate::model::observed::{Fingerprint, FingerprintMethod, ObjectClass};

/// Numbers of one token, all from its seed.
#[derive(Debug)]
pub(crate) struct Entropy {
    seed: Digest,
    drawn: u64,
}

impl Entropy {
    pub(crate) fn new(label: &str, seed: u64) -> Self {
        let seed = Canonical::new("lockstep/memory/1")
            .text(label)
            .number(seed)
            .digest();
        Self { seed, drawn: 0 }
    }

    /// The next 32 bytes.
    pub(crate) fn draw(&mut self) -> [u8; 32] {
        self.drawn = self.drawn.wrapping_add(1);
        Canonical::new("lockstep/memory/draw/1")
            .bytes(&self.seed.0)
            .number(self.drawn)
            .digest()
            .0
    }
}

/// One key's bytes: the value of a secret key, or the number that a pair is made of.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Material {
    spec: KeySpec,
    bytes: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Material({})", self.spec)
    }
}

impl Material {
    pub(crate) fn generate(spec: KeySpec, seed: [u8; 32]) -> Self {
        let bytes = match spec.class() {
            KeyClass::Secret => expand(&seed, bytes_of(spec.bits())),
            KeyClass::Pair => seed.to_vec(),
        };
        Self {
            spec,
            bytes: Zeroizing::new(bytes),
        }
    }

    /// Another key of the same kind.
    pub(crate) fn another(&self, seed: [u8; 32]) -> Self {
        Self::generate(self.spec, seed)
    }

    pub(crate) fn wrap(&self, kek: &[u8; 32]) -> Result<Vec<u8>, TokenFailure> {
        wrap(kek, &self.bytes)
    }

    pub(crate) fn unwrap(spec: KeySpec, kek: &[u8; 32], blob: &[u8]) -> Result<Self, TokenFailure> {
        let bytes = unwrap(kek, blob)?;
        Ok(Self { spec, bytes })
    }

    pub(crate) fn key_type(&self) -> u64 {
        key_type(self.spec)
    }

    pub(crate) fn bits(&self) -> u32 {
        self.spec.bits()
    }

    pub(crate) fn fingerprint(&self, spec: KeySpec, salt: &[u8]) -> Fingerprint {
        match self.spki() {
            Some(spki) => Fingerprint {
                method: FingerprintMethod::Spki,
                value: sha256(&spki),
            },
            None => {
                let class = ObjectClass::Secret.name();
                let prefix = fingerprint_prefix(class, self.key_type(), spec.bits(), salt);
                let hashed = Zeroizing::new([prefix.as_slice(), &self.bytes].concat());
                Fingerprint {
                    method: FingerprintMethod::DigestKey,
                    value: sha256(&hashed),
                }
            }
        }
    }

    /// Halves of different pairs are no right key.
    pub(crate) fn mismatched(&self, other: &Self) -> Fingerprint {
        let value = Canonical::new("lockstep/mismatched-pair/1")
            .optional(self.spki().as_deref())
            .optional(other.spki().as_deref())
            .digest();
        Fingerprint {
            method: FingerprintMethod::Spki,
            value,
        }
    }

    /// As tokens tell it: of public keys, and of RSA private ones.
    pub(crate) fn public_digest(&self, class: ObjectClass) -> Option<Digest> {
        let tells = match class {
            ObjectClass::Secret => false,
            ObjectClass::Public => true,
            ObjectClass::Private => self.spec.algorithm() == Algorithm::Rsa,
        };
        self.spki().filter(|_| tells).map(|spki| sha256(&spki))
    }

    /// A SubjectPublicKeyInfo of the right shape, of numbers that follow from the bytes.
    pub(crate) fn spki(&self) -> Option<Vec<u8>> {
        let part = match self.spec.algorithm() {
            Algorithm::Aes | Algorithm::Des | Algorithm::Hmac => return None,
            Algorithm::Rsa => {
                let mut modulus = expand(&self.bytes, bytes_of(self.spec.bits()));
                if let Some(first) = modulus.first_mut() {
                    *first |= 0x80;
                }
                if let Some(last) = modulus.last_mut() {
                    *last |= 1;
                }
                PublicPart::Rsa {
                    modulus,
                    exponent: vec![1, 0, 1],
                }
            }
            Algorithm::Ec => {
                let mut point = vec![4];
                let half = usize::try_from(self.spec.bits().div_ceil(8)).unwrap_or(0);
                point.extend(expand(&self.bytes, half.saturating_mul(2)));
                PublicPart::Ec {
                    curve: Curve::of_bits(self.spec.bits())?,
                    point,
                }
            }
        };
        part.spki()
    }
}

/// The public part of a transport key; the private part is the number itself.
pub(crate) fn transport_spki(secret: &[u8; 32]) -> Vec<u8> {
    let point = private(secret)
        .and_then(|key| key.compute_public_key().ok())
        .map(|public| public.as_ref().to_vec())
        .unwrap_or_default();
    PublicPart::Ec {
        curve: Curve::P256,
        point,
    }
    .spki()
    .unwrap_or_default()
}

/// Wraps a key for the holder of a transport key only: ECDH with a new pair, then RFC 5649.
pub(crate) fn seal(
    transport_spki: &[u8],
    sender: &[u8; 32],
    key: &[u8; 32],
) -> Result<Vec<u8>, TokenFailure> {
    let Some(PublicPart::Ec { point, .. }) = PublicPart::from_spki(transport_spki) else {
        return Err(refused("rewrap", "the transport key cannot be read"));
    };
    let own = private(sender)
        .and_then(|key| key.compute_public_key().ok())
        .ok_or_else(|| refused("rewrap", "no key"))?;
    let mut sealed = own.as_ref().to_vec();
    sealed.extend(wrap(&agreed(sender, &point)?, key)?);
    Ok(sealed)
}

/// What [`seal`] wrapped.
pub(crate) fn open(transport: &[u8; 32], sealed: &[u8]) -> Result<[u8; 32], TokenFailure> {
    let unreadable = || refused("C_UnwrapKey", "the envelope cannot be opened");
    let (point, wrapped) = sealed.split_at_checked(65).ok_or_else(unreadable)?;
    let key = unwrap(&agreed(transport, point)?, wrapped)?;
    key.as_slice().try_into().map_err(|_length| unreadable())
}

fn private(secret: &[u8; 32]) -> Option<PrivateKey> {
    PrivateKey::from_private_key(&ECDH_P256, secret).ok()
}

fn agreed(secret: &[u8; 32], point: &[u8]) -> Result<[u8; 32], TokenFailure> {
    let failed = || refused("C_UnwrapKey", "no agreement");
    let key = private(secret).ok_or_else(failed)?;
    let other = UnparsedPublicKey::new(&ECDH_P256, point);
    agreement::agree(&key, other, failed(), |shared| Ok(sha256(shared).0))
}

fn wrap(kek: &[u8; 32], bytes: &[u8]) -> Result<Vec<u8>, TokenFailure> {
    let mut out = vec![0_u8; bytes.len().saturating_add(16)];
    KeyEncryptionKey::new(&AES_256, kek)
        .and_then(|kek| Ok(kek.wrap_with_padding(bytes, &mut out)?.to_vec()))
        .map_err(|_unspecified| refused("C_WrapKey", "it cannot be wrapped"))
}

fn unwrap(kek: &[u8; 32], blob: &[u8]) -> Result<Zeroizing<Vec<u8>>, TokenFailure> {
    let mut out = Zeroizing::new(vec![0_u8; blob.len()]);
    KeyEncryptionKey::new(&AES_256, kek)
        .and_then(|kek| {
            Ok(Zeroizing::new(
                kek.unwrap_with_padding(blob, &mut out)?.to_vec(),
            ))
        })
        .map_err(|_unspecified| refused("C_UnwrapKey", "it cannot be unwrapped"))
}

fn bytes_of(bits: u32) -> usize {
    usize::try_from(bits / 8).unwrap_or(0)
}

/// As many bytes as wanted that follow from the seed.
fn expand(seed: &[u8], length: usize) -> Vec<u8> {
    let block = |number: u64| {
        let canonical = Canonical::new("lockstep/memory/expand/1").bytes(seed);
        canonical.number(number).digest().0
    };
    (0..).flat_map(block).take(length).collect()
}
