//! Take over: a key from another internal keystore, wrapped again under this one's own KEK. It is on this token for the length
//! of the job, as a session object.

use crate::keystore::pkcs11::envelope;
use crate::keystore::pkcs11::failure::failure;
use crate::keystore::pkcs11::fingerprint;
use crate::keystore::pkcs11::generate::{hidden_class, repository_kek};
use crate::keystore::pkcs11::kek::{Wanted, keep};
use crate::keystore::pkcs11::mechanism::{self, session_key};
use crate::keystore::pkcs11::rewrap::public_part;
use crate::keystore::pkcs11::token::Pkcs11Token;
use crate::model::job::{FailureKind, Generated, TakeOverJob, TokenFailure};
use crate::model::key::UsageSet;

/// Unwraps, compares, wraps under the KEK, and opens the blob again before anybody relies on it.
pub(crate) fn take_over(
    token: &mut Pkcs11Token,
    job: &TakeOverJob,
) -> Result<Generated, TokenFailure> {
    let session = token.session()?;
    // Without a wrapping key nothing is opened.
    let _kek = repository_kek(token, &session)?;
    let capabilities = token.capabilities(&session)?;
    let public = public_part(job.spec, job.wrapped.spki.as_deref())?;
    let (class, key_type) = (hidden_class(job.spec), mechanism::key_type(job.spec));
    let template = session_key(class, key_type, UsageSet::NONE, true);
    let part = public.as_ref();
    let made = (template.as_slice(), part);
    let key = envelope::open(token, &session, &job.wrapped, &capabilities, made)?;
    let found = fingerprint::of_session_object(token, &session, key, part, job.spec, &job.salt)?;
    if found != job.fingerprint {
        return Err(wrong("the key in the envelope is not the one that it says"));
    }
    let wanted = Wanted {
        spec: job.spec,
        salt: &job.salt,
        public: part,
        fingerprint: job.fingerprint,
    };
    let (blob, kek) = keep(token, &session, key, &wanted)?;
    Ok(Generated {
        blob,
        spki: job.wrapped.spki.clone(),
        fingerprint: found,
        kek,
    })
}

fn wrong(detail: &str) -> TokenFailure {
    failure(FailureKind::WrongKey, "take over", detail)
}
