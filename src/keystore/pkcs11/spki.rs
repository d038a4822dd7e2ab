//! Public parts: between the attributes of tokens and SubjectPublicKeyInfo (RFC 5280, 4.1.2.7), and checks by software.

use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use cryptoki_sys as sys;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::keystore::pkcs11::template::{Attribute, Values};

/// Curves we handle (FIPS 186).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Curve {
    /// secp256r1.
    P256,
    /// secp384r1.
    P384,
    /// secp521r1.
    P521,
}

impl Curve {
    const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];

    /// The curve of that size.
    pub(crate) fn of_bits(bits: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|curve| curve.bits() == bits)
    }

    /// Size in bits.
    pub(crate) const fn bits(self) -> u32 {
        match self {
            Self::P256 => 256,
            Self::P384 => 384,
            Self::P521 => 521,
        }
    }

    /// CKA_EC_PARAMS: the named curve's OID in DER.
    pub(crate) const fn parameters(self) -> &'static [u8] {
        match self {
            Self::P256 => &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
            Self::P384 => &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22],
            Self::P521 => &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23],
        }
    }

    /// Length of an uncompressed point.
    const fn point_bytes(self) -> usize {
        match self {
            Self::P256 => 65,
            Self::P384 => 97,
            Self::P521 => 133,
        }
    }

    /// Everything of a SubjectPublicKeyInfo that stands before the point (RFC 5480, 2).
    const fn spki_head(self) -> &'static [u8] {
        match self {
            Self::P256 => &[
                0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
                0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
            ],
            Self::P384 => &[
                0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06,
                0x05, 0x2b, 0x81, 0x04, 0x00, 0x22, 0x03, 0x62, 0x00,
            ],
            Self::P521 => &[
                0x30, 0x81, 0x9b, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
                0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23, 0x03, 0x81, 0x86, 0x00,
            ],
        }
    }

    const fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::P256 => &signature::ECDSA_P256_SHA256_FIXED,
            Self::P384 => &signature::ECDSA_P384_SHA384_FIXED,
            Self::P521 => &signature::ECDSA_P521_SHA512_FIXED,
        }
    }
}

/// The public part of a pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PublicPart {
    /// Big-endian numbers without leading zeros.
    Rsa {
        /// n.
        modulus: Vec<u8>,
        /// e.
        exponent: Vec<u8>,
    },
    /// An uncompressed point.
    Ec {
        /// Its curve.
        curve: Curve,
        /// 04‖X‖Y.
        point: Vec<u8>,
    },
}

impl PublicPart {
    /// What an object's attributes tell; nothing for secret keys and for EC private keys.
    pub(crate) fn of(values: &Values) -> Option<Self> {
        match values.number(sys::CKA_KEY_TYPE)? {
            sys::CKK_RSA => Some(Self::Rsa {
                modulus: number(values.bytes(sys::CKA_MODULUS)?)?,
                exponent: number(values.bytes(sys::CKA_PUBLIC_EXPONENT)?)?,
            }),
            sys::CKK_EC => {
                let parameters = values.bytes(sys::CKA_EC_PARAMS)?;
                let curve = Curve::ALL
                    .into_iter()
                    .find(|curve| curve.parameters() == parameters)?;
                let point = point(curve, values.bytes(sys::CKA_EC_POINT)?)?;
                Some(Self::Ec { curve, point })
            }
            _ => None,
        }
    }

    /// Parses DER; only the encoding that [`PublicPart::spki`] writes is taken, so that one key has one digest.
    pub(crate) fn from_spki(der: &[u8]) -> Option<Self> {
        let of_curve = Curve::ALL.into_iter().find_map(|curve| {
            let point = point(curve, der.strip_prefix(curve.spki_head())?)?;
            Some(Self::Ec { curve, point })
        });
        if of_curve.is_some() {
            return of_curve;
        }
        let (rest, info) = SubjectPublicKeyInfo::from_der(der).ok()?;
        let PublicKey::RSA(key) = info.parsed().ok()? else {
            return None;
        };
        let part = Self::Rsa {
            modulus: number(key.modulus)?,
            exponent: number(key.exponent)?,
        };
        (rest.is_empty() && part.spki().as_deref() == Some(der)).then_some(part)
    }

    /// SubjectPublicKeyInfo, DER.
    pub(crate) fn spki(&self) -> Option<Vec<u8>> {
        match self {
            Self::Rsa { modulus, exponent } => {
                let key = PublicKeyComponents {
                    n: modulus,
                    e: exponent,
                };
                let der: PublicKeyX509Der<'_> = key.as_der().ok()?;
                Some(der.as_ref().to_vec())
            }
            Self::Ec { curve, point } => Some([curve.spki_head(), point].concat()),
        }
    }

    /// Size in bits.
    pub(crate) fn bits(&self) -> u32 {
        match self {
            Self::Rsa { modulus, .. } => {
                let zeros = modulus.first().map_or(0, |byte| byte.leading_zeros());
                u32::try_from(modulus.len().saturating_mul(8))
                    .unwrap_or(u32::MAX)
                    .saturating_sub(zeros)
            }
            Self::Ec { curve, .. } => curve.bits(),
        }
    }

    /// CKA_KEY_TYPE.
    pub(crate) const fn key_type(&self) -> u64 {
        match self {
            Self::Rsa { .. } => sys::CKK_RSA,
            Self::Ec { .. } => sys::CKK_EC,
        }
    }

    /// What C_CreateObject needs beside class, label, id and usage.
    pub(crate) fn attributes(&self) -> Vec<Attribute> {
        let key_type = Attribute::number(sys::CKA_KEY_TYPE, self.key_type());
        match self {
            Self::Rsa { modulus, exponent } => vec![
                key_type,
                Attribute::bytes(sys::CKA_MODULUS, modulus.as_slice()),
                Attribute::bytes(sys::CKA_PUBLIC_EXPONENT, exponent.as_slice()),
            ],
            Self::Ec { curve, point } => vec![
                key_type,
                Attribute::bytes(sys::CKA_EC_PARAMS, curve.parameters()),
                Attribute::bytes(sys::CKA_EC_POINT, octet_string(point)),
            ],
        }
    }

    /// Whether the signature over the message (RSASSA-PKCS1-v1_5 with SHA-256, or ECDSA with the curve's hash, r‖s) is good.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Rsa { modulus, exponent } => PublicKeyComponents {
                n: modulus,
                e: exponent,
            }
            .verify(&signature::RSA_PKCS1_2048_8192_SHA256, message, signature)
            .is_ok(),
            Self::Ec { curve, point } => UnparsedPublicKey::new(curve.verification(), point)
                .verify(message, signature)
                .is_ok(),
        }
    }
}

fn number(bytes: &[u8]) -> Option<Vec<u8>> {
    let start = bytes.iter().position(|&byte| byte != 0)?;
    bytes.get(start..).map(<[u8]>::to_vec)
}

/// CKA_EC_POINT is a DER octet string; some tokens give the bare point.
fn point(curve: Curve, bytes: &[u8]) -> Option<Vec<u8>> {
    let bare = |bytes: &[u8]| bytes.len() == curve.point_bytes() && bytes.first() == Some(&4);
    if bare(bytes) {
        return Some(bytes.to_vec());
    }
    let inner = match bytes {
        [0x04, 0x81, _, inner @ ..] => inner,
        [0x04, length, inner @ ..] if *length < 0x80 => inner,
        _ => return None,
    };
    (bare(inner) && octet_string(inner) == bytes).then(|| inner.to_vec())
}

fn octet_string(point: &[u8]) -> Vec<u8> {
    let length = u8::try_from(point.len()).unwrap_or(u8::MAX);
    let head: &[u8] = if length < 0x80 {
        &[0x04, length]
    } else {
        &[0x04, 0x81, length]
    };
    [head, point].concat()
}
