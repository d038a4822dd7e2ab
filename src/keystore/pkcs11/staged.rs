//! The staged shape of an install: where C_UnwrapKey makes something else than was asked for, the key comes to a session
//! object first, is put right, and is copied to the token (design.md 4). Nothing readable or usable reaches the token.

use cryptoki_sys as sys;

use crate::keystore::pkcs11::failure::refused;
use crate::keystore::pkcs11::object::{Object, attribute_of};
use crate::keystore::pkcs11::raw::{CallFailed, Handle, Session};
use crate::keystore::pkcs11::template::Attribute;
use crate::model::job::TokenFailure;
use crate::model::observed::ObjectClass;

/// Makes a session object hidden and without usage.
///
/// # Errors
/// `Refused` where it is not after that; it dies with its session.
pub(crate) fn put_right(session: &Session, key: Handle) -> Result<(), TokenFailure> {
    repair(session, key)?;
    if is_hidden(session, key)? {
        Ok(())
    } else {
        Err(refused(
            "install",
            "the token makes the key readable or usable, and leaves it so",
        ))
    }
}

/// Copies a session object to the token, with what a template says more of it.
pub(crate) fn copy_to_token(
    session: &Session,
    key: Handle,
    more: &[Attribute],
) -> Result<Handle, CallFailed> {
    let mut changes = vec![Attribute::flag(sys::CKA_TOKEN, true)];
    changes.extend(more.iter().cloned());
    session.copy(key, &changes)
}

/// All usage off, sensitive, not extractable, and the value does not come out.
pub(crate) fn is_hidden(session: &Session, key: Handle) -> Result<bool, CallFailed> {
    let Some(object) = Object::read(session, key)? else {
        return Ok(false);
    };
    let secret = match object.facts.class {
        ObjectClass::Secret => (sys::CKA_VALUE, 64),
        ObjectClass::Private | ObjectClass::Public => (sys::CKA_PRIVATE_EXPONENT, 512),
    };
    let told = session.read(key, &[secret]);
    let comes_out = told.is_ok_and(|values| {
        values
            .bytes(secret.0)
            .is_some_and(|value| !value.is_empty())
    });
    Ok(object.is_inert() && !comes_out)
}

fn repair(session: &Session, key: Handle) -> Result<(), CallFailed> {
    let Some(object) = Object::read(session, key)? else {
        return Ok(());
    };
    let off = object.facts.usage.iter();
    let mut changes: Vec<Attribute> = off
        .map(|usage| Attribute::flag(attribute_of(usage), false))
        .collect();
    if object.facts.sensitive != Some(true) {
        changes.push(Attribute::flag(sys::CKA_SENSITIVE, true));
    }
    if object.facts.extractable != Some(false) {
        changes.push(Attribute::flag(sys::CKA_EXTRACTABLE, false));
    }
    if changes.is_empty() {
        return Ok(());
    }
    session.set(key, &changes)
}
