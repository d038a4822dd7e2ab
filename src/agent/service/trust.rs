//! Which material this agent believes in: the checks before a key is wrapped for somebody, or unwrapped from somebody.

use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::agent::peers::{Distrust, Peers};
use crate::model::canonical::sha256;
use crate::model::ids::KeystoreId;
use crate::model::keystore::Capabilities;
use crate::model::material::{BirthRecord, Endorsement, Envelope, Signed};

/// Least size of a transport key, bits (SP 800-57 part 1: 128 bits of security).
pub const TRANSPORT_BITS_MIN: u32 = 3072;

/// Why a key is not wrapped or unwrapped. The text begins with a stable word.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    /// Signature or signer.
    #[error(transparent)]
    Distrust(#[from] Distrust),
    /// The target's transport key is no RSA key of at least 3072 bits.
    #[error(
        "weak_transport_key: the endorsed transport key is {found}; RSA with at least 3072 bits is needed"
    )]
    WeakTransportKey {
        /// What it is.
        found: String,
    },
    /// The blob is not the one that was born.
    #[error("blob_mismatch: the blob is not the one of the birth record")]
    BlobMismatch,
    /// One side cannot RFC 5649.
    #[error("no_common_wrapping: {side} cannot wrap keys by RFC 5649 (AES key wrap with padding)")]
    NoCommonWrapping {
        /// Which side.
        side: &'static str,
    },
    /// The envelope is for another keystore.
    #[error("wrong_target: the envelope is for keystore {target}")]
    WrongTarget {
        /// For which.
        target: KeystoreId,
    },
    /// The envelope was wrapped for a transport key that is not ours (any more).
    #[error(
        "wrong_transport_key: the envelope was wrapped for another transport key; ask for a new one"
    )]
    WrongTransportKey,
}

impl From<Untrusted> for tonic::Status {
    fn from(untrusted: Untrusted) -> Self {
        Self::failed_precondition(untrusted.to_string())
    }
}

/// Before this keystore wraps a key for another one.
///
/// # Errors
/// [`Untrusted`].
pub fn check_rewrap(
    peers: &Peers,
    own: &Capabilities,
    blob: &[u8],
    birth: &Signed<BirthRecord>,
    target: &Signed<Endorsement>,
) -> Result<(), Untrusted> {
    peers.check(target.body.keystore, target)?;
    peers.check(birth.body.keystore, birth)?;
    if sha256(blob) != birth.body.blob {
        return Err(Untrusted::BlobMismatch);
    }
    check_transport_key(&target.body.spki)?;
    if own.rfc5649.is_none() {
        return Err(Untrusted::NoCommonWrapping { side: "this token" });
    }
    if !target.body.rfc5649 {
        return Err(Untrusted::NoCommonWrapping {
            side: "the target's token",
        });
    }
    Ok(())
}

/// Before an envelope goes to the token. That it fits its intent is checked by the machine.
///
/// # Errors
/// [`Untrusted`].
pub fn check_envelope(
    peers: &Peers,
    keystore: KeystoreId,
    transport_spki: &[u8],
    envelope: &Signed<Envelope>,
) -> Result<(), Untrusted> {
    let body = &envelope.body;
    peers.check(body.source, envelope)?;
    if body.target != keystore {
        return Err(Untrusted::WrongTarget {
            target: body.target,
        });
    }
    if body.transport != sha256(transport_spki) {
        return Err(Untrusted::WrongTransportKey);
    }
    Ok(())
}

fn check_transport_key(spki: &[u8]) -> Result<(), Untrusted> {
    let weak = |found: String| Err(Untrusted::WeakTransportKey { found });
    let Ok((&[], info)) = SubjectPublicKeyInfo::from_der(spki) else {
        return weak("no SubjectPublicKeyInfo".to_owned());
    };
    match info.parsed() {
        Ok(PublicKey::RSA(key)) => match bits(key.modulus) {
            bits if bits >= TRANSPORT_BITS_MIN => Ok(()),
            bits => weak(format!("RSA with {bits} bits")),
        },
        Ok(_) | Err(_) => weak("no RSA key".to_owned()),
    }
}

/// Length of a number in bits, without the zeros in front.
fn bits(number: &[u8]) -> u32 {
    let mut digits = number.iter().skip_while(|&&byte| byte == 0);
    let Some(first) = digits.next() else { return 0 };
    let rest = u32::try_from(digits.count()).unwrap_or(u32::MAX);
    let first = u8::BITS.saturating_sub(first.leading_zeros());
    rest.saturating_mul(u8::BITS).saturating_add(first)
}
