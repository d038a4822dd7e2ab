//! Generate: a key that exists outside of the repository only for the length of this job, as a session object.

use crate::keystore::pkcs11::envelope;
use crate::keystore::pkcs11::failure::{blob_failure, failure, refused};
use crate::keystore::pkcs11::fingerprint;
use crate::keystore::pkcs11::kek;
use crate::keystore::pkcs11::mechanism::{self, session_key};
use crate::keystore::pkcs11::names::SCRATCH;
use crate::keystore::pkcs11::object::{Object, discard};
use crate::keystore::pkcs11::raw::{Handle, Session};
use crate::keystore::pkcs11::spki::PublicPart;
use crate::keystore::pkcs11::template::Mechanism;
use crate::keystore::pkcs11::token::Pkcs11Token;
use crate::model::job::{FailureKind, Generated, TokenFailure};
use crate::model::key::{KeyClass, KeySpec, UsageSet};
use crate::model::material::WRAPPED_BYTES_MAX;
use crate::model::observed::ObjectClass;

/// A key as session objects.
#[derive(Debug)]
pub(crate) struct Made {
    /// The secret or private key.
    pub(crate) key: Handle,
    /// The public key and what it is.
    pub(crate) public: Option<(Handle, PublicPart)>,
}

/// Makes it, wraps it under the KEK, and opens the blob again before anybody relies on it.
pub(crate) fn generate(
    token: &mut Pkcs11Token,
    spec: KeySpec,
    salt: &[u8],
) -> Result<Generated, TokenFailure> {
    let session = token.session()?;
    let (kek, rfc5649) = repository_kek(token, &session)?;
    let made = make(&session, spec, UsageSet::NONE, true)?;
    let public = made.public.as_ref().map(|(_, part)| part);
    let fingerprint =
        fingerprint::of_session_object(token, &session, made.key, public, spec, salt)?;
    let blob = session
        .wrap(&rfc5649, kek, made.key)
        .map_err(|failed| blob_failure(&session, failed, kek))?;
    if blob.len() > WRAPPED_BYTES_MAX {
        return Err(refused("C_WrapKey", "the wrapped key is too long"));
    }
    discard(&session, made.key, SCRATCH.as_bytes())?;
    let again = unwrap_blob(&session, (kek, &rfc5649), &blob, spec, public)?;
    let proved = fingerprint::of_session_object(token, &session, again, public, spec, salt)?;
    if proved != fingerprint && !spec.bits().is_multiple_of(64) {
        // SoftHSM2 fills such keys up with zeros when it wraps them: what comes out is another key.
        return Err(refused(
            "C_WrapKey",
            "the token changes keys whose length is not a multiple of 64 bits when it wraps them",
        ));
    }
    if proved != fingerprint {
        return Err(failure(
            FailureKind::WrongKey,
            "generate",
            "the wrapped key does not unwrap to itself",
        ));
    }
    Ok(Generated {
        blob,
        spki: public.and_then(PublicPart::spki),
        fingerprint,
        kek: token.known.newest_kek(),
    })
}

/// The newest KEK's handle and the mechanism for wrapping under it.
pub(crate) fn repository_kek(
    token: &mut Pkcs11Token,
    session: &Session,
) -> Result<(Handle, Mechanism), TokenFailure> {
    let rfc5649 = token
        .capabilities(session)?
        .rfc5649
        .ok_or_else(|| refused("C_WrapKey", "no mechanism of the token is RFC 5649"))?;
    let (_number, kek) = kek::newest(token, session)?.ok_or_else(|| {
        refused(
            "own key",
            "this keystore has no wrapping key: it is external",
        )
    })?;
    Ok((kek, mechanism::rfc5649(rfc5649)))
}

/// Makes session objects; every usage of theirs is said.
pub(crate) fn make(
    session: &Session,
    spec: KeySpec,
    usage: UsageSet,
    extractable: bool,
) -> Result<Made, TokenFailure> {
    let generation = mechanism::generation(spec);
    let key_type = mechanism::key_type(spec);
    let template = |class| session_key(class, key_type, usage, extractable);
    match spec.class() {
        KeyClass::Secret => {
            let mut secret = template(ObjectClass::Secret);
            secret.extend(mechanism::length(spec));
            let key = session.generate(&generation, &secret)?;
            Ok(Made { key, public: None })
        }
        KeyClass::Pair => {
            let mut public = template(ObjectClass::Public);
            public.extend(mechanism::length(spec));
            let private = template(ObjectClass::Private);
            let (public, key) = session.generate_pair(&generation, &public, &private)?;
            let part = Object::read(session, public)?
                .and_then(|object| object.public)
                .ok_or_else(|| refused("generate", "the public key does not tell its value"))?;
            Ok(Made {
                key,
                public: Some((public, part)),
            })
        }
    }
}

/// A blob of the repository as a session object: hidden, without usage, and able to be wrapped again.
pub(crate) fn unwrap_blob(
    session: &Session,
    (kek, rfc5649): (Handle, &Mechanism),
    blob: &[u8],
    spec: KeySpec,
    public: Option<&PublicPart>,
) -> Result<Handle, TokenFailure> {
    let class = hidden_class(spec);
    let template = session_key(class, mechanism::key_type(spec), UsageSet::NONE, true);
    envelope::unwrap(session, rfc5649, kek, blob, (&template, public))
        .map_err(|failed| blob_failure(session, failed, kek))
}

/// The class of the object that must not be read.
pub(crate) const fn hidden_class(spec: KeySpec) -> ObjectClass {
    match spec.class() {
        KeyClass::Secret => ObjectClass::Secret,
        KeyClass::Pair => ObjectClass::Private,
    }
}
