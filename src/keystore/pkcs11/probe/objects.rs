//! What the token does to objects whatever their kind: each trial on token objects of its own, for some tokens treat
//! session objects otherwise.

use cryptoki_sys as sys;

use crate::keystore::pkcs11::mechanism::session_key;
use crate::keystore::pkcs11::names::{SCRATCH, named};
use crate::keystore::pkcs11::object::{class_number, discard, matching, usage_attributes};
use crate::keystore::pkcs11::probe::clear;
use crate::keystore::pkcs11::probe::wrapping::Wrapper;
use crate::keystore::pkcs11::raw::{CallFailed, Handle, Session};
use crate::keystore::pkcs11::template::{Attribute, Mechanism};
use crate::keystore::pkcs11::token::Pkcs11Token;
use crate::model::capabilities::{Duplicates, SESSIONS_TRIED};
use crate::model::job::TokenFailure;
use crate::model::key::UsageSet;
use crate::model::observed::ObjectClass;

/// A disabled AES key on the token, with more said about it.
fn scratch(session: &Session, extra: Option<Attribute>) -> Result<Handle, CallFailed> {
    scratch_named(session, named(SCRATCH), extra)
}

/// As [`scratch`], with a label of its own.
pub(super) fn scratch_named(
    session: &Session,
    name: Vec<Attribute>,
    extra: Option<Attribute>,
) -> Result<Handle, CallFailed> {
    let class = ObjectClass::Secret;
    let mut template = vec![
        Attribute::number(sys::CKA_CLASS, class_number(class)),
        Attribute::number(sys::CKA_KEY_TYPE, sys::CKK_AES),
        Attribute::flag(sys::CKA_TOKEN, true),
        Attribute::flag(sys::CKA_PRIVATE, true),
        Attribute::flag(sys::CKA_SENSITIVE, true),
        Attribute::flag(sys::CKA_EXTRACTABLE, false),
        Attribute::number(sys::CKA_VALUE_LEN, 32),
    ];
    template.extend(name);
    template.extend(usage_attributes(class, UsageSet::NONE));
    // CKA_MODIFIABLE stands last: SoftHSM2 lets nothing follow it.
    template.extend(extra);
    session.generate(&Mechanism::plain(sys::CKM_AES_KEY_GEN), &template)
}

fn encrypts(session: &Session, key: Handle) -> Result<Option<bool>, CallFailed> {
    Ok(session
        .read(key, &[(sys::CKA_ENCRYPT, 1)])?
        .flag(sys::CKA_ENCRYPT))
}

/// Whether CKA_COPYABLE=false reads back and bars copies.
pub(super) fn copyable(session: &Session) -> Result<bool, TokenFailure> {
    let Ok(key) = scratch(session, Some(Attribute::flag(sys::CKA_COPYABLE, false))) else {
        return Ok(false);
    };
    let told = session.read(key, &[(sys::CKA_COPYABLE, 1)])?;
    let copied = session.copy(key, &[Attribute::flag(sys::CKA_TOKEN, false)]);
    let honoured = told.flag(sys::CKA_COPYABLE) == Some(false) && copied.is_err();
    discard(session, key, SCRATCH.as_bytes())?;
    Ok(honoured)
}

/// Whether CKA_MODIFIABLE=false reads back and bars changes.
pub(super) fn modifiable(session: &Session) -> Result<bool, TokenFailure> {
    let Ok(key) = scratch(session, Some(Attribute::flag(sys::CKA_MODIFIABLE, false))) else {
        return Ok(false);
    };
    let told = session.read(key, &[(sys::CKA_MODIFIABLE, 1)])?;
    let changed = session.set(key, &[Attribute::flag(sys::CKA_ENCRYPT, true)]);
    let honoured = told.flag(sys::CKA_MODIFIABLE) == Some(false)
        && changed.is_err()
        && encrypts(session, key)? == Some(false);
    discard(session, key, SCRATCH.as_bytes())?;
    Ok(honoured)
}

/// Whether a key that is not extractable is not wrapped. Nothing where nothing wraps.
pub(super) fn unextractable(session: &Session, wrapper: &Wrapper) -> Option<bool> {
    let mechanism = wrapper.mechanism()?;
    let mut template = session_key(ObjectClass::Secret, sys::CKK_AES, UsageSet::NONE, false);
    template.push(Attribute::number(sys::CKA_VALUE_LEN, 32));
    let key = session
        .generate(&Mechanism::plain(sys::CKM_AES_KEY_GEN), &template)
        .ok()?;
    let wrapped = session.wrap(&mechanism, wrapper.key, key);
    discard(session, key, SCRATCH.as_bytes()).ok()?;
    Some(wrapped.is_err())
}

/// Whether a copy is another token object, with other attributes, that leaves the first as it was. NSS edits in place.
pub(super) fn copy(session: &Session) -> Result<bool, TokenFailure> {
    let key = scratch(session, None)?;
    copies(session, key)
}

/// The same of an object that cannot be changed. SoftHSM2 lets no attribute of its copy be another.
pub(super) fn copy_fixed(session: &Session) -> Result<bool, TokenFailure> {
    match scratch(session, Some(Attribute::flag(sys::CKA_MODIFIABLE, false))) {
        Ok(key) => copies(session, key),
        Err(_) => Ok(false),
    }
}

fn copies(session: &Session, key: Handle) -> Result<bool, TokenFailure> {
    let changes = [
        Attribute::flag(sys::CKA_TOKEN, true),
        Attribute::flag(sys::CKA_ENCRYPT, true),
    ];
    let works = match session.copy(key, &changes) {
        Ok(copy) => {
            let apart = copy != key
                && encrypts(session, copy)? == Some(true)
                && encrypts(session, key)? == Some(false);
            discard(session, copy, SCRATCH.as_bytes())?;
            apart && encrypts(session, key).is_ok()
        }
        Err(_) => false,
    };
    // A token that edits in place has lost it with the copy.
    let _gone_already: Result<(), CallFailed> = discard(session, key, SCRATCH.as_bytes());
    Ok(works)
}

/// What a second key with the same CKA_ID, class and label does.
pub(super) fn duplicates(session: &Session) -> Result<Duplicates, TokenFailure> {
    scratch(session, None)?;
    if scratch(session, None).is_err() {
        clear(session)?;
        return Ok(Duplicates::Refused);
    }
    let found = matching(session, named(SCRATCH))?.len();
    clear(session)?;
    Ok(if found > 1 {
        Duplicates::Allowed
    } else {
        Duplicates::Overwrites
    })
}

/// Whether a change of which a part is refused changes nothing. CKA_TOKEN is writable nowhere.
pub(super) fn atomic_set(session: &Session) -> Result<bool, TokenFailure> {
    let key = scratch(session, None)?;
    let changed = session.set(
        key,
        &[
            Attribute::flag(sys::CKA_ENCRYPT, true),
            Attribute::flag(sys::CKA_TOKEN, false),
        ],
    );
    let atomic = changed.is_err() && encrypts(session, key)? == Some(false);
    discard(session, key, SCRATCH.as_bytes())?;
    Ok(atomic)
}

/// How many PKCS#11 sessions can be open at once, the anchor among them.
pub(super) fn sessions(token: &Pkcs11Token) -> u32 {
    let mut open = Vec::new();
    let mut count = 1;
    while count < SESSIONS_TRIED
        && let Ok(session) = token.session()
    {
        open.push(session);
        count = count.saturating_add(1);
    }
    count
}
