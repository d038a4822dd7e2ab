//! Rewrap: a key out of the repository, for one other keystore's transport key and for nobody else.

use cryptoki_sys as sys;

use crate::keystore::pkcs11::envelope;
use crate::keystore::pkcs11::failure::{failure, refused};
use crate::keystore::pkcs11::fingerprint;
use crate::keystore::pkcs11::generate::{repository_kek, unwrap_blob};
use crate::keystore::pkcs11::kek;
use crate::keystore::pkcs11::mechanism::{self, session_key};
use crate::keystore::pkcs11::names::SCRATCH;
use crate::keystore::pkcs11::object::discard;
use crate::keystore::pkcs11::raw::{Handle, Session};
use crate::keystore::pkcs11::spki::PublicPart;
use crate::keystore::pkcs11::token::Pkcs11Token;
use crate::model::job::{FailureKind, RewrapJob, TokenFailure, Wrapped};
use crate::model::key::{KeyClass, KeySpec, Usage, UsageSet};
use crate::model::observed::ObjectClass;

/// Smallest transport key that is taken, in bits.
const TRANSPORT_BITS_MIN: u32 = 3072;

/// Unwraps, compares, and wraps under a new key that only the target can open.
pub(crate) fn rewrap(token: &mut Pkcs11Token, job: &RewrapJob) -> Result<Wrapped, TokenFailure> {
    let session = token.session()?;
    let (_newest, rfc5649) = repository_kek(token, &session)?;
    let kek = kek::opening(token, &session, job.kek)?;
    let transport = import_transport(&session, &job.transport_spki)?;
    let public = public_part(job.spec, job.spki.as_deref())?;
    let key = unwrap_blob(
        &session,
        (kek, &rfc5649),
        &job.blob,
        job.spec,
        public.as_ref(),
    )?;
    let found =
        fingerprint::of_session_object(token, &session, key, public.as_ref(), job.spec, &job.salt)?;
    if found != job.fingerprint {
        return Err(failure(
            FailureKind::WrongKey,
            "rewrap",
            "the repository's copy is not the key of the birth record",
        ));
    }
    let capabilities = token.capabilities(&session)?;
    let wrapped = envelope::seal(&session, &capabilities, job, (transport, key))?;
    discard(&session, key, SCRATCH.as_bytes())?;
    Ok(wrapped)
}

fn import_transport(session: &Session, spki: &[u8]) -> Result<Handle, TokenFailure> {
    let part = PublicPart::from_spki(spki)
        .ok_or_else(|| refused("rewrap", "the transport key cannot be read"))?;
    if part.key_type() != sys::CKK_RSA || part.bits() < TRANSPORT_BITS_MIN {
        return Err(refused(
            "rewrap",
            "the transport key is not RSA of at least 3072 bits",
        ));
    }
    let usage = UsageSet::of(&[Usage::Wrap]);
    let mut template = session_key(ObjectClass::Public, part.key_type(), usage, false);
    // The key type is said by both; a template may say an attribute once only.
    template.retain(|attribute| attribute.kind() != sys::CKA_KEY_TYPE);
    template.extend(part.attributes());
    Ok(session.create(&template)?)
}

/// The public part that a record says, where the kind of key has one.
///
/// # Errors
/// `Refused` unless it is there, readable, and of that kind.
pub(crate) fn public_part(
    spec: KeySpec,
    spki: Option<&[u8]>,
) -> Result<Option<PublicPart>, TokenFailure> {
    match (spec.class(), spki) {
        (KeyClass::Secret, None) => Ok(None),
        (KeyClass::Secret, Some(_)) => Err(refused("spki", "a secret key has no public part")),
        (KeyClass::Pair, None) => Err(refused("spki", "the public part is missing")),
        (KeyClass::Pair, Some(der)) => {
            let part = PublicPart::from_spki(der)
                .ok_or_else(|| refused("spki", "the public part cannot be read"))?;
            if part.key_type() == mechanism::key_type(spec) && part.bits() == spec.bits() {
                Ok(Some(part))
            } else {
                Err(refused("spki", format!("the public part is not {spec}")))
            }
        }
    }
}
