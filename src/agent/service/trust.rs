//! Which material this agent believes in: the checks before a key is wrapped for somebody, or unwrapped from somebody.

use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::agent::peers::{Distrust, Peers};
use crate::model::canonical::sha256;
use crate::model::capabilities::Capabilities;
use crate::model::ids::KeystoreId;
use crate::model::key::KeyClass;
use crate::model::keystore::{Route, Routes};
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
    /// What one side can, the other cannot.
    #[error(
        "no_common_wrapping: for a {} this token has {}, the target's token has {}",
        class.name(), own.told(*class), target.told(*class)
    )]
    NoCommonWrapping {
        /// Of which class the key is.
        class: KeyClass,
        /// What this token can.
        own: Routes,
        /// What the target's can.
        target: Routes,
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

/// Before this keystore wraps a key for another one: how to wrap it.
///
/// # Errors
/// [`Untrusted`].
pub fn check_rewrap(
    peers: &Peers,
    own: &Capabilities,
    blob: &[u8],
    birth: &Signed<BirthRecord>,
    target: &Signed<Endorsement>,
) -> Result<Route, Untrusted> {
    peers.check(target.body.keystore, target)?;
    check_birth(peers, blob, birth)?;
    check_transport_key(&target.body.spki)?;
    let class = birth.body.spec.class();
    let own = own.routes();
    own.common(&target.body.routes, class)
        .ok_or_else(|| Untrusted::NoCommonWrapping {
            class,
            own,
            target: target.body.routes.clone(),
        })
}

/// Before a blob of the repository is opened.
///
/// # Errors
/// [`Untrusted`].
pub fn check_birth(
    peers: &Peers,
    blob: &[u8],
    birth: &Signed<BirthRecord>,
) -> Result<(), Untrusted> {
    peers.check(birth.body.keystore, birth)?;
    if sha256(blob) == birth.body.blob {
        Ok(())
    } else {
        Err(Untrusted::BlobMismatch)
    }
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

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use aws_lc_rs::signature::KeyPair as _;
    use tempfile::TempDir;

    use crate::agent::identity::Identity;
    use crate::agent::peers::Peers;
    use crate::agent::service::trust::{Untrusted, check_envelope, check_rewrap};
    use crate::model::canonical::sha256;
    use crate::model::capabilities::Capabilities;
    use crate::model::ids::{Epoch, Generation, KeyVersionId, KeystoreId};
    use crate::model::key::{Algorithm, KeySpec};
    use crate::model::keystore::{OaepHash, Route, Routes, Wrapping};
    use crate::model::material::{BirthRecord, Endorsement, Envelope, Signed};
    use crate::model::observed::{Fingerprint, FingerprintMethod};
    use crate::model::vault::UnixMs;

    const BLOB: &[u8] = b"wrapped";

    fn keystore(number: u128) -> KeystoreId {
        KeystoreId::from_uuid(uuid::Uuid::from_u128(number))
    }

    fn rsa(size: KeySize) -> Vec<u8> {
        let pair = KeyPair::generate(size).unwrap();
        let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        der.as_ref().to_vec()
    }

    fn spec() -> KeySpec {
        KeySpec::new(Algorithm::Aes, 256).unwrap()
    }

    fn fingerprint() -> Fingerprint {
        Fingerprint {
            method: FingerprintMethod::DigestKey,
            value: sha256(b"key"),
        }
    }

    /// An internal keystore 1 that lists keystore 2.
    struct Pair {
        _dir: TempDir,
        own: Identity,
        other: Identity,
        peers: Peers,
    }

    impl Pair {
        fn new() -> Self {
            let dir = TempDir::new().unwrap();
            let own = Identity::load_or_new(&dir.path().join("own")).unwrap();
            let other = Identity::load_or_new(&dir.path().join("other")).unwrap();
            let peers = Peers::new(&dir.path().join("peers.toml"), keystore(1), own.digest());
            peers.add(keystore(2), other.digest()).unwrap();
            Self {
                _dir: dir,
                own,
                other,
                peers,
            }
        }

        fn birth(&self) -> Signed<BirthRecord> {
            self.own.sign(BirthRecord {
                version: KeyVersionId::from_uuid(uuid::Uuid::from_u128(9)),
                spec: spec(),
                fingerprint: fingerprint(),
                salt: vec![1; 32],
                spki: None,
                blob: sha256(BLOB),
                keystore: keystore(1),
                at: UnixMs(1),
            })
        }

        fn endorsement(&self, spki: Vec<u8>, wrappings: &[Wrapping]) -> Signed<Endorsement> {
            self.other.sign(Endorsement {
                keystore: keystore(2),
                epoch: Epoch(1),
                spki,
                routes: Routes {
                    wrappings: wrappings.to_vec(),
                    oaep_hashes: vec![OaepHash::Sha1],
                },
                at: UnixMs(1),
            })
        }

        fn rewrap(
            &self,
            own: Option<u64>,
            blob: &[u8],
            target: &Signed<Endorsement>,
        ) -> Result<Route, Untrusted> {
            let own = Capabilities {
                rfc5649: own,
                cbc_pad: false,
                ..Capabilities::best()
            };
            check_rewrap(&self.peers, &own, blob, &self.birth(), target)
        }
    }

    #[test]
    fn a_key_is_wrapped_for_strong_endorsed_keys_only() {
        let pair = Pair::new();
        let strong = pair.endorsement(rsa(KeySize::Rsa3072), &Wrapping::ALL);
        let works = Some(0x210A);
        pair.rewrap(works, BLOB, &strong).unwrap();
        let check = |own, blob: &[u8], target: &Signed<Endorsement>, word: &str| {
            let refused = pair.rewrap(own, blob, target).unwrap_err().to_string();
            assert!(refused.starts_with(&format!("{word}: ")), "{refused}");
        };
        let weak = pair.endorsement(rsa(KeySize::Rsa2048), &Wrapping::ALL);
        check(works, BLOB, &weak, "weak_transport_key");
        let mut longer = strong.body.spki.clone();
        longer.push(0);
        check(
            works,
            BLOB,
            &pair.endorsement(longer, &Wrapping::ALL),
            "weak_transport_key",
        );
        check(
            works,
            BLOB,
            &pair.endorsement(vec![], &Wrapping::ALL),
            "weak_transport_key",
        );
        check(works, b"other", &strong, "blob_mismatch");
        let sole = pair.endorsement(strong.body.spki.clone(), &[Wrapping::Rfc5649]);
        check(None, BLOB, &sole, "no_common_wrapping");
        let unable = pair.endorsement(strong.body.spki.clone(), &[Wrapping::CbcPad]);
        check(works, BLOB, &unable, "no_common_wrapping");
        let mut stolen = strong.clone();
        stolen.body.keystore = keystore(3);
        check(works, BLOB, &stolen, "bad_signature");
        let stranger = pair.own.sign(strong.body);
        check(works, BLOB, &stranger, "peer_not_listed");
    }

    #[test]
    fn an_envelope_is_for_this_keystore_and_this_transport_key() {
        let pair = Pair::new();
        let envelope = |source, target, transport: &[u8]| Envelope {
            version: KeyVersionId::from_uuid(uuid::Uuid::from_u128(9)),
            spec: spec(),
            fingerprint: fingerprint(),
            salt: vec![1; 32],
            spki: None,
            source,
            target,
            generation: Generation(1),
            transport: sha256(transport),
            route: Route {
                wrapping: Wrapping::Rfc5649,
                oaep_hash: OaepHash::Sha1,
            },
            wrapped_kek: vec![1],
            wrapped_key: vec![2],
            at: UnixMs(1),
        };
        let check = |signed: &Signed<Envelope>, word: &str| match check_envelope(
            &pair.peers,
            keystore(1),
            b"transport",
            signed,
        ) {
            Ok(()) => assert_eq!(word, ""),
            Err(refused) => {
                let refused = refused.to_string();
                assert!(refused.starts_with(&format!("{word}: ")), "{refused}");
            }
        };
        let (own, other) = (keystore(1), keystore(2));
        check(&pair.other.sign(envelope(other, own, b"transport")), "");
        // What this keystore wraps for itself.
        check(&pair.own.sign(envelope(own, own, b"transport")), "");
        check(
            &pair.other.sign(envelope(other, other, b"transport")),
            "wrong_target",
        );
        check(
            &pair.other.sign(envelope(other, own, b"older")),
            "wrong_transport_key",
        );
        check(
            &pair.other.sign(envelope(own, own, b"transport")),
            "peer_not_listed",
        );
        let mut changed = pair.other.sign(envelope(other, own, b"transport"));
        changed.body.wrapped_key = vec![3];
        check(&changed, "bad_signature");
    }
}
