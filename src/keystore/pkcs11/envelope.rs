//! Envelopes on the token: a key wrapped for another token's transport key, and one that came for this one's.

use aws_lc_rs::rand;
use cryptoki_sys as sys;

use crate::keystore::pkcs11::failure::{blob_failure, kind_of, refused};
use crate::keystore::pkcs11::generate::make;
use crate::keystore::pkcs11::mechanism::{self, session_key};
use crate::keystore::pkcs11::names::{SCRATCH, TRANSPORT};
use crate::keystore::pkcs11::object::discard;
use crate::keystore::pkcs11::raw::{CallFailed, Handle, Session};
use crate::keystore::pkcs11::spki::PublicPart;
use crate::keystore::pkcs11::template::{Attribute, Mechanism};
use crate::keystore::pkcs11::token::Pkcs11Token;
use crate::model::capabilities::Capabilities;
use crate::model::job::{FailureKind, RewrapJob, TokenFailure, Wrapped};
use crate::model::key::{Algorithm, KeySpec, Usage, UsageSet};
use crate::model::keystore::Wrapping;
use crate::model::observed::ObjectClass;

/// Length of an initialization vector of AES-CBC.
const IV_BYTES: usize = 16;

/// Wraps a session object for a transport key that stands on this token as a session object too.
pub(crate) fn seal(
    session: &Session,
    capabilities: &Capabilities,
    job: &RewrapJob,
    (transport, key): (Handle, Handle),
) -> Result<Wrapped, TokenFailure> {
    let oaep = mechanism::oaep(job.route.oaep_hash);
    let wrap = |mechanism: &Mechanism, under, what| {
        session
            .wrap(mechanism, under, what)
            .map_err(|failed| blob_failure(session, failed, under))
    };
    let (wrapped_kek, wrapped_key) = match job.route.wrapping {
        Wrapping::Direct => (Vec::new(), wrap(&oaep, transport, key)?),
        Wrapping::Rfc5649 | Wrapping::CbcPad => {
            let aes =
                KeySpec::new(Algorithm::Aes, 256).map_err(|e| refused("rewrap", e.to_string()))?;
            let ephemeral = make(session, aes, UsageSet::of(&[Usage::Wrap]), true)?.key;
            let iv = new_iv(job.route.wrapping)?;
            let mechanism = inner(capabilities, job.route.wrapping, &iv)?;
            let wrapped_kek = wrap(&oaep, transport, ephemeral)?;
            let wrapped = wrap(&mechanism, ephemeral, key)?;
            discard(session, ephemeral, SCRATCH.as_bytes())?;
            (wrapped_kek, [iv, wrapped].concat())
        }
    };
    Ok(Wrapped {
        route: job.route,
        wrapped_kek,
        wrapped_key,
        spki: job.spki.clone(),
    })
}

/// The key in an envelope, unwrapped by the own transport key to what a template says.
pub(crate) fn open(
    token: &mut Pkcs11Token,
    session: &Session,
    wrapped: &Wrapped,
    capabilities: &Capabilities,
    (template, public): (&[Attribute], Option<&PublicPart>),
) -> Result<Handle, TokenFailure> {
    let transport = token
        .known
        .own_key(session, TRANSPORT, ObjectClass::Private)?
        .ok_or_else(|| refused("own key", "there is no transport key: prepare first"))?
        .facts
        .handle;
    let oaep = mechanism::oaep(wrapped.route.oaep_hash);
    match wrapped.route.wrapping {
        Wrapping::Direct => {
            let blob = &wrapped.wrapped_key;
            unwrap(session, &oaep, transport, blob, (template, public))
                .map_err(|failed| not_taken(session, failed, transport))
        }
        Wrapping::Rfc5649 | Wrapping::CbcPad => {
            let length = iv_length(wrapped.route.wrapping);
            let Some((iv, blob)) = wrapped.wrapped_key.split_at_checked(length) else {
                return Err(refused("C_UnwrapKey", "the wrapped key is too short"));
            };
            let mechanism = inner(capabilities, wrapped.route.wrapping, iv)?;
            let usage = UsageSet::of(&[Usage::Unwrap]);
            let kek = session_key(ObjectClass::Secret, sys::CKK_AES, usage, false);
            let ephemeral = session
                .unwrap(&oaep, transport, &wrapped.wrapped_kek, &kek)
                .map_err(|failed| not_taken(session, failed, transport))?;
            let key = unwrap(session, &mechanism, ephemeral, blob, (template, public))
                .map_err(|failed| not_taken(session, failed, ephemeral))?;
            discard(session, ephemeral, SCRATCH.as_bytes())?;
            Ok(key)
        }
    }
}

/// What did not unwrap may unwrap another time, or from another envelope, where the CKR is one of those that pass: tokens say
/// them of bad blobs too.
fn not_taken(session: &Session, failed: CallFailed, under: Handle) -> TokenFailure {
    let may_pass = matches!(
        kind_of(failed.rv),
        FailureKind::Retry | FailureKind::Restart
    );
    let mut failure = blob_failure(session, failed, under);
    if may_pass && failure.kind == FailureKind::Refused {
        failure.kind = FailureKind::NeedsMaterial;
    }
    failure
}

/// C_UnwrapKey. NSS keeps an EC private key by its public point and will not take one without (CKA_NSS_DB, the raw point:
/// in DER the key could not be wrapped again).
pub(crate) fn unwrap(
    session: &Session,
    mechanism: &Mechanism,
    under: Handle,
    blob: &[u8],
    (template, public): (&[Attribute], Option<&PublicPart>),
) -> Result<Handle, CallFailed> {
    const CKA_NSS_DB: u64 = 0xD5A0_DB00;
    let outcome = session.unwrap(mechanism, under, blob, template);
    match (&outcome, public) {
        (Err(failed), Some(PublicPart::Ec { point, .. }))
            if failed.rv == sys::CKR_TEMPLATE_INCOMPLETE =>
        {
            let mut template = template.to_vec();
            template.push(Attribute::bytes(CKA_NSS_DB, point.as_slice()));
            session.unwrap(mechanism, under, blob, &template)
        }
        (Ok(_) | Err(_), _) => outcome,
    }
}

/// How a key is wrapped under the ephemeral one.
fn inner(
    capabilities: &Capabilities,
    wrapping: Wrapping,
    iv: &[u8],
) -> Result<Mechanism, TokenFailure> {
    let mechanism = match wrapping {
        Wrapping::Rfc5649 => capabilities.rfc5649.map(mechanism::rfc5649),
        Wrapping::CbcPad => iv.try_into().ok().map(mechanism::cbc_pad),
        Wrapping::Direct => None,
    };
    mechanism.ok_or_else(|| {
        let name = wrapping.name();
        refused("wrapping", format!("the token does not know {name}"))
    })
}

const fn iv_length(wrapping: Wrapping) -> usize {
    match wrapping {
        Wrapping::CbcPad => IV_BYTES,
        Wrapping::Rfc5649 | Wrapping::Direct => 0,
    }
}

fn new_iv(wrapping: Wrapping) -> Result<Vec<u8>, TokenFailure> {
    let mut iv = vec![0; iv_length(wrapping)];
    rand::fill(&mut iv).map_err(|_unspecified| refused("rewrap", "no random numbers"))?;
    Ok(iv)
}
