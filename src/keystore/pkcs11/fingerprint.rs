//! Fingerprints: what tells one material from another without showing it (facts-keypath 2).

use aws_lc_rs::digest::{self, Algorithm as Hash};
use aws_lc_rs::rand;
use cryptoki_sys as sys;

use crate::keystore::pkcs11::mechanism;
use crate::keystore::pkcs11::names::SCRATCH;
use crate::keystore::pkcs11::object::Object;
use crate::keystore::pkcs11::raw::{CallFailed, Handle, Session};
use crate::keystore::pkcs11::spki::{Curve, PublicPart};
use crate::keystore::pkcs11::template::{Attribute, Mechanism};
use crate::keystore::pkcs11::token::Pkcs11Token;
use crate::model::canonical::{Canonical, sha256};
use crate::model::ids::Digest;
use crate::model::job::TokenFailure;
use crate::model::key::{KeyClass, KeySpec, Usage};
use crate::model::material::fingerprint_prefix;
use crate::model::observed::{Fingerprint, FingerprintMethod, ObjectClass};

/// DER of DigestInfo up to the SHA-256 value (RFC 8017, 9.2 note 1).
pub(crate) const DIGEST_INFO_SHA256: &[u8] = &[
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];

/// Fingerprint of the objects of one instance: exactly one of each class, else there is none.
pub(crate) fn of_objects(
    token: &Pkcs11Token,
    objects: &[Object],
    spec: KeySpec,
    salt: &[u8],
) -> Result<Fingerprint, TokenFailure> {
    match spec.class() {
        KeyClass::Secret => of_secret(token, only(objects, ObjectClass::Secret)?, spec, salt),
        KeyClass::Pair => {
            let private = only(objects, ObjectClass::Private)?;
            let public = only(objects, ObjectClass::Public)?;
            let public = public
                .public
                .as_ref()
                .ok_or_else(|| why("the public key does not tell its value"))?;
            of_pair(token, private, public)
        }
    }
}

fn only(objects: &[Object], class: ObjectClass) -> Result<&Object, TokenFailure> {
    let mut of_class = objects.iter().filter(|object| object.facts.class == class);
    match (of_class.next(), of_class.next()) {
        (Some(object), None) => Ok(object),
        (None, _) => Err(why(format!("there is no {}", class.name()))),
        (Some(_), Some(_)) => Err(why(format!("there is more than one {}", class.name()))),
    }
}

fn why(detail: impl Into<String>) -> TokenFailure {
    crate::keystore::pkcs11::failure::refused("fingerprint", detail)
}

/// By C_DigestKey, which works on sensitive and disabled keys. In a session of its own: a refusal leaves it stuck.
pub(crate) fn of_secret(
    token: &Pkcs11Token,
    object: &Object,
    spec: KeySpec,
    salt: &[u8],
) -> Result<Fingerprint, TokenFailure> {
    let key_type = object
        .facts
        .key_type
        .ok_or_else(|| why("the token does not tell the key's type"))?;
    let prefix = fingerprint_prefix(ObjectClass::Secret.name(), key_type, spec.bits(), salt);
    let value = digest_key(token, &prefix, object.facts.handle)?;
    Ok(Fingerprint {
        method: FingerprintMethod::DigestKey,
        value,
    })
}

/// SHA-256 of prefix and key.
pub(crate) fn digest_key(
    token: &Pkcs11Token,
    prefix: &[u8],
    key: Handle,
) -> Result<Digest, TokenFailure> {
    let session = token.session()?;
    let value = session.digest_key(&Mechanism::plain(sys::CKM_SHA256), prefix, key)?;
    Digest::from_slice(&value).ok_or_else(|| why("C_DigestFinal gave another length"))
}

/// SHA-256 of the SubjectPublicKeyInfo, after the private key has shown that it is the other half.
pub(crate) fn of_pair(
    token: &Pkcs11Token,
    private: &Object,
    public: &PublicPart,
) -> Result<Fingerprint, TokenFailure> {
    let spki = public
        .spki()
        .ok_or_else(|| why("the public key has no encoding"))?;
    let told = private.public.as_ref().and_then(PublicPart::spki);
    let value = match &told {
        Some(other) if *other != spki => mismatched(&spki, other),
        Some(_) | None if challenge(token, private, public)? => sha256(&spki),
        Some(_) | None => mismatched(&spki, &[]),
    };
    Ok(Fingerprint {
        method: FingerprintMethod::Spki,
        value,
    })
}

/// Halves that do not belong together are a material of their own: wrong wherever they are found.
fn mismatched(public: &[u8], private: &[u8]) -> Digest {
    Canonical::new("lockstep/mismatched-pair/1")
        .bytes(public)
        .bytes(private)
        .digest()
}

/// Has the private key sign something new, and checks it by software.
fn challenge(
    token: &Pkcs11Token,
    private: &Object,
    public: &PublicPart,
) -> Result<bool, TokenFailure> {
    let mut nonce = [0_u8; 32];
    rand::fill(&mut nonce).map_err(|_unspecified| why("no random numbers"))?;
    let message = Canonical::new("lockstep/challenge/1")
        .bytes(&nonce)
        .finish();
    let session = token.session()?;
    let key = signing_copy(&session, private)?;
    let signature = sign(&session, key, public, &message)?;
    Ok(public.verifies(&message, &signature))
}

/// The key itself if it may sign; else a session copy that may. The copy ends with the session.
fn signing_copy(session: &Session, private: &Object) -> Result<Handle, CallFailed> {
    if private.facts.usage.has(Usage::Sign) {
        return Ok(private.facts.handle);
    }
    session.copy(
        private.facts.handle,
        &[
            Attribute::flag(sys::CKA_TOKEN, false),
            Attribute::flag(sys::CKA_SIGN, true),
            Attribute::bytes(sys::CKA_ID, SCRATCH),
        ],
    )
}

/// Signs in the way that works on every token: hashed and encoded here.
pub(crate) fn sign(
    session: &Session,
    key: Handle,
    public: &PublicPart,
    message: &[u8],
) -> Result<Vec<u8>, CallFailed> {
    let (mechanism, input) = signing_input(public, message);
    session.sign_init(&mechanism, key)?;
    session.sign(&input)
}

/// Mechanism and input that give the signature which [`PublicPart::verifies`] takes.
pub(crate) fn signing_input(public: &PublicPart, message: &[u8]) -> (Mechanism, Vec<u8>) {
    let hashed = |hash: &'static Hash| digest::digest(hash, message).as_ref().to_vec();
    match public {
        PublicPart::Rsa { .. } => {
            let input = [DIGEST_INFO_SHA256, &hashed(&digest::SHA256)].concat();
            (Mechanism::plain(sys::CKM_RSA_PKCS), input)
        }
        PublicPart::Ec { curve, .. } => {
            let input = match curve {
                Curve::P256 => hashed(&digest::SHA256),
                Curve::P384 => hashed(&digest::SHA384),
                Curve::P521 => hashed(&digest::SHA512),
            };
            (Mechanism::plain(sys::CKM_ECDSA), input)
        }
    }
}

/// Fingerprint of a session object that was just made or unwrapped.
pub(crate) fn of_session_object(
    token: &Pkcs11Token,
    session: &Session,
    key: Handle,
    public: Option<&PublicPart>,
    spec: KeySpec,
    salt: &[u8],
) -> Result<Fingerprint, TokenFailure> {
    let object = Object::read(session, key)?
        .ok_or_else(|| why("the token does not tell the object's class"))?;
    if object.facts.cka_id != SCRATCH.as_bytes() {
        return Err(why("the token gave another object's handle"));
    }
    if object.facts.key_type != Some(mechanism::key_type(spec)) {
        return Err(why("the key is of another type than asked for"));
    }
    match (spec.class(), public) {
        (KeyClass::Secret, _) => of_secret(token, &object, spec, salt),
        (KeyClass::Pair, Some(public)) => of_pair(token, &object, public),
        (KeyClass::Pair, None) => Err(why("the public part is missing")),
    }
}
