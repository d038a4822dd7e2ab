//! How keys are wrapped for this token: the transport key's OAEP hash, RFC 5649, AES-CBC-PAD.

use aws_lc_rs::cipher::{
    AES_256 as CBC_KEY, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::key_wrap::{AES_256, KeyEncryptionKey, KeyWrapPadded as _};
use aws_lc_rs::rand;
use aws_lc_rs::rsa::{
    OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey,
};
use cryptoki_sys as sys;
use zeroize::Zeroizing;

use crate::keystore::pkcs11::failure::{blob_failure, refused};
use crate::keystore::pkcs11::fingerprint::digest_key;
use crate::keystore::pkcs11::mechanism::{self, session_key};
use crate::keystore::pkcs11::names::SCRATCH;
use crate::keystore::pkcs11::object::discard;
use crate::keystore::pkcs11::prepare::Transport;
use crate::keystore::pkcs11::raw::{Handle, Session};
use crate::keystore::pkcs11::template::Mechanism;
use crate::keystore::pkcs11::token::Pkcs11Token;
use crate::model::canonical::sha256;
use crate::model::job::TokenFailure;
use crate::model::key::{Usage, UsageSet};
use crate::model::keystore::OaepHash;
use crate::model::observed::ObjectClass;

const PREFIX: &[u8] = b"lockstep/probe/1";

type Bytes = Zeroizing<[u8; 32]>;

/// What was found, and the key that it was tried with.
#[derive(Debug)]
pub(super) struct Wrapper {
    /// The hashes that the transport key takes, the best first.
    pub(super) oaep_hashes: Vec<OaepHash>,
    /// The number that is RFC 5649.
    pub(super) rfc5649: Option<u64>,
    /// Whether AES-CBC-PAD opens what software wrapped.
    pub(super) cbc_pad: bool,
    /// Whether C_DigestKey gives what the bytes give.
    pub(super) digest_key: bool,
    /// An AES-256 session key that may wrap and unwrap.
    pub(super) key: Handle,
}

impl Wrapper {
    /// A mechanism by which the wrapper wraps and unwraps.
    pub(super) fn mechanism(&self) -> Option<Mechanism> {
        match self.rfc5649 {
            Some(number) => Some(mechanism::rfc5649(number)),
            None => self.cbc_pad.then(|| mechanism::cbc_pad([0; 16])),
        }
    }
}

/// Tries all of it. With a KEK, RFC 5649 counts only if it wraps under that one too.
pub(super) fn try_wrapping(
    token: &Pkcs11Token,
    session: &Session,
    transport: &Transport,
    kek: Option<Handle>,
) -> Result<Wrapper, TokenFailure> {
    let outer = random()?;
    let (oaep_hashes, wrapper) = try_oaep(session, transport, &outer)?;
    Ok(Wrapper {
        oaep_hashes,
        rfc5649: try_rfc5649(token, session, wrapper, &outer, kek)?,
        cbc_pad: try_cbc_pad(token, session, wrapper, &outer)?,
        digest_key: digests(token, wrapper, &outer),
        key: wrapper,
    })
}

fn random() -> Result<Bytes, TokenFailure> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    rand::fill(bytes.as_mut_slice())
        .map_err(|_unspecified| refused("probe", "no random numbers"))?;
    Ok(bytes)
}

/// Whether the token digests the key to what its bytes give.
fn digests(token: &Pkcs11Token, key: Handle, bytes: &Bytes) -> bool {
    let expected = sha256(&Zeroizing::new([PREFIX, bytes.as_slice()].concat()));
    digest_key(token, PREFIX, key).is_ok_and(|digest| digest == expected)
}

fn try_oaep(
    session: &Session,
    transport: &Transport,
    outer: &Bytes,
) -> Result<(Vec<OaepHash>, Handle), TokenFailure> {
    let usage = UsageSet::of(&[Usage::Wrap, Usage::Unwrap]);
    let template = session_key(ObjectClass::Secret, sys::CKK_AES, usage, false);
    let private = transport.private.facts.handle;
    let (mut hashes, mut keys, mut last) = (Vec::new(), Vec::new(), None);
    for hash in OaepHash::ALL {
        let wrapped = oaep_by_software(&transport.spki, hash, outer.as_slice())?;
        match session.unwrap(&mechanism::oaep(hash), private, &wrapped, &template) {
            Ok(key) => {
                hashes.push(hash);
                keys.push(key);
            }
            Err(failed) => last = Some(blob_failure(session, failed, private)),
        }
    }
    // The others end with the session.
    match (keys.first(), last) {
        (Some(key), _) => Ok((hashes, *key)),
        (None, last) => Err(last.unwrap_or_else(|| refused("probe", "no OAEP hash was tried"))),
    }
}

/// RSA-OAEP by software, as another keystore's token would do it.
pub(crate) fn oaep_by_software(
    spki: &[u8],
    hash: OaepHash,
    bytes: &[u8],
) -> Result<Vec<u8>, TokenFailure> {
    let algorithm = match hash {
        OaepHash::Sha1 => &OAEP_SHA1_MGF1SHA1,
        OaepHash::Sha256 => &OAEP_SHA256_MGF1SHA256,
    };
    let by_software = || {
        let key = PublicEncryptingKey::from_der(spki).ok()?;
        let key = OaepPublicEncryptingKey::new(key).ok()?;
        let mut out = vec![0_u8; key.ciphertext_size()];
        let length = key.encrypt(algorithm, bytes, &mut out, None).ok()?.len();
        out.truncate(length);
        Some(out)
    };
    by_software().ok_or_else(|| refused("probe", "RSA-OAEP by software failed"))
}

/// RFC 5649 is deterministic: a mechanism is it if it opens what software wrapped, and wraps to the same bytes.
fn try_rfc5649(
    token: &Pkcs11Token,
    session: &Session,
    outer_key: Handle,
    outer: &Bytes,
    kek: Option<Handle>,
) -> Result<Option<u64>, TokenFailure> {
    let inner = random()?;
    let blob = KeyEncryptionKey::new(&AES_256, outer.as_slice())
        .and_then(|key| {
            let mut out = [0_u8; 48];
            Ok(key.wrap_with_padding(inner.as_slice(), &mut out)?.to_vec())
        })
        .map_err(|_unspecified| refused("probe", "RFC 5649 by software failed"))?;
    let template = session_key(ObjectClass::Secret, sys::CKK_AES, UsageSet::NONE, true);
    for number in [sys::CKM_AES_KEY_WRAP_KWP, sys::CKM_AES_KEY_WRAP_PAD] {
        let mechanism = mechanism::rfc5649(number);
        let Ok(inner_key) = session.unwrap(&mechanism, outer_key, &blob, &template) else {
            continue;
        };
        let same = session
            .wrap(&mechanism, outer_key, inner_key)
            .is_ok_and(|again| again == blob);
        let right = match kek {
            Some(kek) => same && opens_again(token, session, &mechanism, kek, inner_key, &inner),
            None => same || digests(token, inner_key, &inner),
        };
        discard(session, inner_key, SCRATCH.as_bytes())?;
        if right {
            return Ok(Some(number));
        }
    }
    Ok(None)
}

fn opens_again(
    token: &Pkcs11Token,
    session: &Session,
    mechanism: &Mechanism,
    kek: Handle,
    key: Handle,
    bytes: &Bytes,
) -> bool {
    let template = session_key(ObjectClass::Secret, sys::CKK_AES, UsageSet::NONE, true);
    session
        .wrap(mechanism, kek, key)
        .and_then(|blob| session.unwrap(mechanism, kek, &blob, &template))
        .is_ok_and(|again| digests(token, again, bytes))
}

fn try_cbc_pad(
    token: &Pkcs11Token,
    session: &Session,
    outer_key: Handle,
    outer: &Bytes,
) -> Result<bool, TokenFailure> {
    let inner = random()?;
    let iv = [7_u8; 16];
    let by_software = || {
        let key = UnboundCipherKey::new(&CBC_KEY, outer.as_slice()).ok()?;
        let key = PaddedBlockEncryptingKey::cbc_pkcs7(key).ok()?;
        let mut blob = inner.to_vec();
        let context = EncryptionContext::Iv128(FixedLength::from(iv));
        key.less_safe_encrypt(&mut blob, context).ok()?;
        Some(blob)
    };
    let blob = by_software().ok_or_else(|| refused("probe", "AES-CBC by software failed"))?;
    let mechanism = mechanism::cbc_pad(iv);
    let unwrap = |extractable| {
        let template = session_key(
            ObjectClass::Secret,
            sys::CKK_AES,
            UsageSet::NONE,
            extractable,
        );
        session.unwrap(&mechanism, outer_key, &blob, &template)
    };
    // opencryptoki lets nobody ask for keys that may leave it.
    let Ok(key) = unwrap(true).or_else(|_refused| unwrap(false)) else {
        return Ok(false);
    };
    let same = session
        .wrap(&mechanism, outer_key, key)
        .is_ok_and(|again| again == blob);
    let right = same || digests(token, key, &inner);
    discard(session, key, SCRATCH.as_bytes())?;
    Ok(right)
}
