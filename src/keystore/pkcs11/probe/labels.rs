//! Which labels the token keeps exactly as they are given: tokens cut and refuse without a word in any standard.

use cryptoki_sys as sys;

use crate::keystore::pkcs11::names::SCRATCH;
use crate::keystore::pkcs11::object::discard;
use crate::keystore::pkcs11::probe::objects::scratch_named;
use crate::keystore::pkcs11::raw::Session;
use crate::keystore::pkcs11::template::Attribute;
use crate::model::capabilities::LABEL_TRIED;
use crate::model::job::TokenFailure;

/// All that labels may hold (`model::text::Label`).
const CHARACTERS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._ /-";

/// The longest one. Each trial begins as all scratch objects do, so that what a crash leaves is cleared.
///
/// # Errors
/// What the module said to a look at what it had made.
pub(super) fn longest(session: &Session) -> Result<u32, TokenFailure> {
    if holds(session, LABEL_TRIED)? {
        return Ok(LABEL_TRIED);
    }
    let (mut held, mut not_held) = (0, LABEL_TRIED);
    while not_held.saturating_sub(held) > 1 {
        let chars = held.midpoint(not_held);
        if holds(session, chars)? {
            held = chars;
        } else {
            not_held = chars;
        }
    }
    Ok(held)
}

fn holds(session: &Session, chars: u32) -> Result<bool, TokenFailure> {
    let chars = usize::try_from(chars).unwrap_or(usize::MAX);
    let endless = SCRATCH.chars().chain(CHARACTERS.chars().cycle());
    let label: String = endless.take(chars).collect();
    let name = vec![
        Attribute::bytes(sys::CKA_LABEL, label.as_str()),
        Attribute::bytes(sys::CKA_ID, SCRATCH),
    ];
    let Ok(key) = scratch_named(session, name, None) else {
        return Ok(false);
    };
    let told = session.read(key, &[(sys::CKA_LABEL, label.len())])?;
    let is_whole = told.bytes(sys::CKA_LABEL) == Some(label.as_bytes());
    discard(session, key, SCRATCH.as_bytes())?;
    Ok(is_whole)
}
