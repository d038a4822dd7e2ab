//! Reading key objects: which attributes are asked for, and what they say.

use cryptoki_sys as sys;

use crate::keystore::pkcs11::failure::refused;
use crate::keystore::pkcs11::raw::{CallFailed, Handle, Session};
use crate::keystore::pkcs11::spki::PublicPart;
use crate::keystore::pkcs11::template::{Attribute, Values};
use crate::model::canonical::sha256;
use crate::model::desired::CKA_ID_BYTES_MAX;
use crate::model::job::TokenFailure;
use crate::model::key::{Usage, UsageSet};
use crate::model::observed::{ObjectClass, ObjectFacts};
use crate::model::text::printable;

/// Most objects that one CKA_ID or label may have before a job gives up.
pub(crate) const MATCHES_MAX: usize = 1000;

/// What is read of every object, with the room that fits nearly all values: one call each. Dates are never read: on SoftHSM2
/// a private object with dates cannot be read again.
pub(crate) const READ: &[(u64, usize)] = &[
    (sys::CKA_CLASS, size_of::<sys::CK_ULONG>()),
    (sys::CKA_KEY_TYPE, size_of::<sys::CK_ULONG>()),
    (sys::CKA_ID, 64),
    (sys::CKA_LABEL, 256),
    (sys::CKA_ENCRYPT, 1),
    (sys::CKA_DECRYPT, 1),
    (sys::CKA_SIGN, 1),
    (sys::CKA_SIGN_RECOVER, 1),
    (sys::CKA_VERIFY, 1),
    (sys::CKA_VERIFY_RECOVER, 1),
    (sys::CKA_WRAP, 1),
    (sys::CKA_UNWRAP, 1),
    (sys::CKA_DERIVE, 1),
    (sys::CKA_SENSITIVE, 1),
    (sys::CKA_EXTRACTABLE, 1),
    (sys::CKA_MODIFIABLE, 1),
    (sys::CKA_COPYABLE, 1),
    (sys::CKA_VALUE_LEN, size_of::<sys::CK_ULONG>()),
    (sys::CKA_MODULUS, 512),
    (sys::CKA_PUBLIC_EXPONENT, 16),
    (sys::CKA_EC_PARAMS, 32),
    (sys::CKA_EC_POINT, 160),
];

/// A key object as it was read.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    /// What is told of it.
    pub(crate) facts: ObjectFacts,
    /// The usage attributes that it has, on or off.
    pub(crate) has: UsageSet,
    /// Its public part, where the object tells one.
    pub(crate) public: Option<PublicPart>,
}

impl Object {
    /// The values as an object; `None` for objects of other classes.
    pub(crate) fn of(handle: Handle, values: &Values) -> Option<Self> {
        let class = class_of(values.number(sys::CKA_CLASS)?)?;
        let text = |kind| values.bytes(kind).unwrap_or_default();
        let (mut has, mut on) = (UsageSet::NONE, UsageSet::NONE);
        for usage in Usage::ALL {
            if let Some(flag) = values.flag(attribute_of(usage)) {
                has = has.with(usage);
                if flag {
                    on = on.with(usage);
                }
            }
        }
        let public = match class {
            ObjectClass::Secret => None,
            ObjectClass::Private | ObjectClass::Public => PublicPart::of(values),
        };
        let value_bits = values
            .number(sys::CKA_VALUE_LEN)
            .filter(|&length| length > 0)
            .and_then(|length| u32::try_from(length.saturating_mul(8)).ok());
        let facts = ObjectFacts {
            handle,
            class,
            key_type: values.number(sys::CKA_KEY_TYPE),
            cka_id: text(sys::CKA_ID).to_vec(),
            label: printable(&String::from_utf8_lossy(text(sys::CKA_LABEL))),
            usage: on,
            sensitive: values.flag(sys::CKA_SENSITIVE),
            extractable: values.flag(sys::CKA_EXTRACTABLE),
            modifiable: values.flag(sys::CKA_MODIFIABLE),
            copyable: values.flag(sys::CKA_COPYABLE),
            bits: public.as_ref().map(PublicPart::bits).or(value_bits),
            public_digest: public
                .as_ref()
                .and_then(PublicPart::spki)
                .map(|spki| sha256(&spki)),
            fingerprint: None,
        };
        Some(Self { facts, has, public })
    }

    /// Reads one object in one call.
    pub(crate) fn read(session: &Session, handle: Handle) -> Result<Option<Self>, CallFailed> {
        let values = session.read(handle, READ)?;
        Ok(Self::of(handle, &values))
    }

    /// Whether it is as we make objects: nothing can be done with it, and nothing of it can be read.
    pub(crate) fn is_inert(&self) -> bool {
        self.is_hidden() && self.facts.usage.is_empty()
    }

    /// Whether nothing of it can be read.
    pub(crate) fn is_hidden(&self) -> bool {
        match self.facts.class {
            ObjectClass::Public => true,
            ObjectClass::Secret | ObjectClass::Private => {
                self.facts.sensitive == Some(true) && self.facts.extractable == Some(false)
            }
        }
    }
}

/// All key objects on the token that match: one find, one read each.
///
/// # Errors
/// `Refused` for more than [`MATCHES_MAX`]; else what the module said.
pub(crate) fn matching(
    session: &Session,
    mut template: Vec<Attribute>,
) -> Result<Vec<Object>, TokenFailure> {
    template.push(Attribute::flag(sys::CKA_TOKEN, true));
    let mut objects = Vec::new();
    for handle in find(session, &template)? {
        objects.extend(Object::read(session, handle)?);
    }
    Ok(objects)
}

/// Handles of all objects that match.
///
/// # Errors
/// As [`matching`].
pub(crate) fn find(session: &Session, template: &[Attribute]) -> Result<Vec<Handle>, TokenFailure> {
    let handles = session.find(template, MATCHES_MAX)?;
    if handles.len() > MATCHES_MAX {
        let detail = format!("more than {MATCHES_MAX} objects match");
        return Err(refused("C_FindObjects", detail));
    }
    Ok(handles)
}

/// Destroys a new object before its session does it: only if it has the id that it was made with. A handle is what the
/// module says, and may be another object's.
pub(crate) fn discard(session: &Session, made: Handle, id: &[u8]) -> Result<(), CallFailed> {
    let values = session.read(made, &[(sys::CKA_ID, CKA_ID_BYTES_MAX)])?;
    if values.bytes(sys::CKA_ID) == Some(id) {
        session.destroy(made)
    } else {
        Ok(())
    }
}

/// CKO_ number of a class.
pub(crate) const fn class_number(class: ObjectClass) -> u64 {
    match class {
        ObjectClass::Secret => sys::CKO_SECRET_KEY,
        ObjectClass::Private => sys::CKO_PRIVATE_KEY,
        ObjectClass::Public => sys::CKO_PUBLIC_KEY,
    }
}

const fn class_of(number: u64) -> Option<ObjectClass> {
    match number {
        sys::CKO_SECRET_KEY => Some(ObjectClass::Secret),
        sys::CKO_PRIVATE_KEY => Some(ObjectClass::Private),
        sys::CKO_PUBLIC_KEY => Some(ObjectClass::Public),
        _ => None,
    }
}

/// CKA_ number of a usage.
pub(crate) const fn attribute_of(usage: Usage) -> u64 {
    match usage {
        Usage::Encrypt => sys::CKA_ENCRYPT,
        Usage::Decrypt => sys::CKA_DECRYPT,
        Usage::Sign => sys::CKA_SIGN,
        Usage::SignRecover => sys::CKA_SIGN_RECOVER,
        Usage::Verify => sys::CKA_VERIFY,
        Usage::VerifyRecover => sys::CKA_VERIFY_RECOVER,
        Usage::Wrap => sys::CKA_WRAP,
        Usage::Unwrap => sys::CKA_UNWRAP,
        Usage::Derive => sys::CKA_DERIVE,
    }
}

/// All usage attributes that the class has, each said explicitly: what a template leaves out is on at several tokens.
pub(crate) fn usage_attributes(class: ObjectClass, on: UsageSet) -> Vec<Attribute> {
    Usage::ALL
        .into_iter()
        .filter(|usage| usage.is_of(class))
        .map(|usage| Attribute::flag(attribute_of(usage), on.has(usage)))
        .collect()
}
