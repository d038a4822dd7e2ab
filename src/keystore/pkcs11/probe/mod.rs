//! What of the token works, by trying it with scratch objects: never what the token claims (design.md 7).
//!
//! `wrapping` tries mechanisms with keys whose bytes are known here, `objects` what the token does to objects, `kinds` what
//! works for each algorithm, `labels` which ones are kept as they are given.

mod kinds;
mod labels;
mod objects;
pub(crate) mod wrapping;

use cryptoki_sys as sys;

use crate::keystore::pkcs11::names::SCRATCH;
use crate::keystore::pkcs11::object::matching;
use crate::keystore::pkcs11::prepare::Transport;
use crate::keystore::pkcs11::raw::{Handle, Session};
use crate::keystore::pkcs11::template::Attribute;
use crate::keystore::pkcs11::token::Pkcs11Token;
use crate::model::capabilities::{Capabilities, TRIALS};
use crate::model::job::TokenFailure;

/// Tries everything. With a KEK, RFC 5649 counts only if it wraps under that one too.
pub(crate) fn try_out(
    token: &mut Pkcs11Token,
    session: &Session,
    transport: &Transport,
    kek: Option<Handle>,
) -> Result<Capabilities, TokenFailure> {
    clear(session)?;
    let wrapper = wrapping::try_wrapping(token, session, transport, kek)?;
    let mut capabilities = Capabilities {
        trials: TRIALS,
        mechanisms: token.mechanisms(),
        rfc5649: wrapper.rfc5649,
        cbc_pad: wrapper.cbc_pad,
        oaep_hashes: wrapper.oaep_hashes.clone(),
        copyable: objects::copyable(session)?,
        modifiable: objects::modifiable(session)?,
        unextractable: objects::unextractable(session, &wrapper),
        digest_key: wrapper.digest_key,
        copy: objects::copy(session)?,
        copy_fixed: objects::copy_fixed(session)?,
        duplicates: objects::duplicates(session)?,
        atomic_set: objects::atomic_set(session)?,
        sessions: objects::sessions(token),
        label_chars: labels::longest(session)?,
        kinds: Vec::new(),
    };
    capabilities.kinds = kinds::try_kinds(token, session, &wrapper, &capabilities)?;
    clear(session)?;
    Ok(capabilities)
}

/// Destroys what trials left on the token, these or ones that a crash cut off.
fn clear(session: &Session) -> Result<(), TokenFailure> {
    // Trials of labels give longer ones to the same id.
    for left in matching(session, vec![Attribute::bytes(sys::CKA_ID, SCRATCH)])? {
        if left.facts.label.starts_with(SCRATCH) {
            session.destroy(left.facts.handle)?;
        }
    }
    Ok(())
}
