//! Prepare: the agent's own keys, made once and adopted ever after, and what of the token works.

use cryptoki_sys as sys;

use crate::keystore::pkcs11::failure::refused;
use crate::keystore::pkcs11::kek;
use crate::keystore::pkcs11::names::{TRANSPORT, named};
use crate::keystore::pkcs11::object::{Object, class_number, matching, usage_attributes};
use crate::keystore::pkcs11::probe;
use crate::keystore::pkcs11::raw::{CallFailed, Session};
use crate::keystore::pkcs11::spki::PublicPart;
use crate::keystore::pkcs11::template::{Attribute, Mechanism};
use crate::keystore::pkcs11::token::Pkcs11Token;
use crate::model::capabilities::Capabilities;
use crate::model::job::{Prepared, TokenFailure};
use crate::model::key::{Usage, UsageSet};
use crate::model::observed::ObjectClass;

/// Size of the transport key that we make, in bits.
const TRANSPORT_BITS: u64 = 3072;

/// Own keys and capabilities.
pub(crate) fn prepare(token: &mut Pkcs11Token, internal: bool) -> Result<Prepared, TokenFailure> {
    let session = token.session()?;
    let transport = match transport(token, &session)? {
        Some(there) => there,
        None => {
            make_transport(&session)?;
            transport(token, &session)?
                .ok_or_else(|| refused("prepare", "the transport key was made and is not there"))?
        }
    };
    let kek = if internal {
        Some(kek::prepare(token, &session)?.facts.handle)
    } else {
        None
    };
    let capabilities = probe::try_out(token, &session, &transport, kek)?;
    if internal && capabilities.rfc5649.is_none() {
        return Err(refused("prepare", "the token cannot wrap by RFC 5649"));
    }
    token.known.capabilities = Some(capabilities.clone());
    Ok(Prepared {
        transport_spki: transport.spki,
        capabilities,
    })
}

impl Pkcs11Token {
    /// What works, tried once in this process. Makes no keys: `Prepare` does.
    pub(crate) fn capabilities(&mut self, session: &Session) -> Result<Capabilities, TokenFailure> {
        if let Some(capabilities) = &self.known.capabilities {
            return Ok(capabilities.clone());
        }
        let transport = transport(self, session)?
            .ok_or_else(|| refused("own key", "there is no transport key: prepare first"))?;
        let capabilities = probe::try_out(self, session, &transport, None)?;
        self.known.capabilities = Some(capabilities.clone());
        Ok(capabilities)
    }
}

/// The transport key on the token.
#[derive(Debug)]
pub(crate) struct Transport {
    /// The private half.
    pub(crate) private: Object,
    /// The public half, DER; told by the private object itself, so that it is surely the other half.
    pub(crate) spki: Vec<u8>,
}

/// The transport key, if there is one, and only as we make them.
pub(crate) fn transport(
    token: &mut Pkcs11Token,
    session: &Session,
) -> Result<Option<Transport>, TokenFailure> {
    let Some(private) = token
        .known
        .own_key(session, TRANSPORT, ObjectClass::Private)?
    else {
        return Ok(None);
    };
    let public = private
        .public
        .as_ref()
        .filter(|part| part.key_type() == sys::CKK_RSA && u64::from(part.bits()) >= TRANSPORT_BITS);
    let Some(spki) = public.and_then(PublicPart::spki) else {
        return Err(refused("own key", "the transport key is not RSA-3072"));
    };
    check_own(&private, UsageSet::of(&[Usage::Unwrap]))?;
    Ok(Some(Transport { private, spki }))
}

/// An own key that can do more than it should was changed, or made, by somebody else.
pub(crate) fn check_own(object: &Object, usage: UsageSet) -> Result<(), TokenFailure> {
    let facts = &object.facts;
    let hidden = facts.sensitive == Some(true) && facts.extractable == Some(false);
    if hidden && facts.usage == usage {
        Ok(())
    } else {
        Err(refused(
            "own key",
            format!("{} is not as it was made: somebody changed it", facts.label),
        ))
    }
}

fn make_transport(session: &Session) -> Result<(), TokenFailure> {
    // Without its private half a public one is what a crash left.
    let mut left = vec![Attribute::number(
        sys::CKA_CLASS,
        class_number(ObjectClass::Public),
    )];
    left.extend(named(TRANSPORT));
    for object in matching(session, left)? {
        session.destroy(object.facts.handle)?;
    }
    let TransportRole {
        public,
        private,
        bound,
    } = transport_role();
    let mechanism = Mechanism::plain(sys::CKM_RSA_PKCS_KEY_PAIR_GEN);
    strictest(private, bound, |private| {
        session
            .generate_pair(&mechanism, &public, private)
            .map(drop)
    })
}

/// What the transport pair is made as.
#[derive(Debug)]
pub(crate) struct TransportRole {
    pub(crate) public: Vec<Attribute>,
    pub(crate) private: Vec<Attribute>,
    /// What it binds the keys to that it unwraps.
    pub(crate) bound: Vec<Attribute>,
}

pub(crate) fn transport_role() -> TransportRole {
    let mut public = own_object(TRANSPORT, ObjectClass::Public, sys::CKK_RSA, UsageSet::NONE);
    public.push(Attribute::number(sys::CKA_MODULUS_BITS, TRANSPORT_BITS));
    public.push(Attribute::bytes(sys::CKA_PUBLIC_EXPONENT, [1, 0, 1]));
    let usage = UsageSet::of(&[Usage::Unwrap]);
    TransportRole {
        public,
        private: own_object(TRANSPORT, ObjectClass::Private, sys::CKK_RSA, usage),
        bound: vec![
            Attribute::flag(sys::CKA_SENSITIVE, true),
            Attribute::flag(sys::CKA_EXTRACTABLE, false),
        ],
    }
}

/// What every key of the agent's own is made as.
pub(crate) fn own_object(
    name: &str,
    class: ObjectClass,
    key_type: u64,
    usage: UsageSet,
) -> Vec<Attribute> {
    let mut template = vec![
        Attribute::number(sys::CKA_CLASS, class_number(class)),
        Attribute::number(sys::CKA_KEY_TYPE, key_type),
        Attribute::flag(sys::CKA_TOKEN, true),
    ];
    match class {
        ObjectClass::Secret | ObjectClass::Private => template.extend([
            Attribute::flag(sys::CKA_PRIVATE, true),
            Attribute::flag(sys::CKA_SENSITIVE, true),
            Attribute::flag(sys::CKA_EXTRACTABLE, false),
        ]),
        ObjectClass::Public => template.push(Attribute::flag(sys::CKA_PRIVATE, false)),
    }
    template.extend(named(name));
    template.extend(usage_attributes(class, usage));
    template
}

/// Makes a key with all that binds it; what the token does not know is left out, the strictest combination first.
/// CKA_MODIFIABLE stands last: SoftHSM2 reads templates in order and lets nothing follow it.
pub(crate) fn strictest(
    template: Vec<Attribute>,
    unwrap_template: Vec<Attribute>,
    make: impl Fn(&[Attribute]) -> Result<(), CallFailed>,
) -> Result<(), TokenFailure> {
    let bound = Attribute::template(sys::CKA_UNWRAP_TEMPLATE, unwrap_template);
    let uncopied = Attribute::flag(sys::CKA_COPYABLE, false);
    let fixed = Attribute::flag(sys::CKA_MODIFIABLE, false);
    let tries = [
        vec![uncopied.clone(), bound.clone(), fixed.clone()],
        vec![bound, fixed.clone()],
        vec![uncopied, fixed.clone()],
        vec![fixed],
    ];
    let mut last = None;
    for extra in tries {
        let template: Vec<Attribute> = template.iter().cloned().chain(extra).collect();
        match make(&template) {
            Ok(()) => return Ok(()),
            Err(failed) if is_about_template(failed) => last = Some(failed),
            Err(failed) => return Err(failed.into()),
        }
    }
    Err(last.map_or_else(|| refused("prepare", "nothing tried"), TokenFailure::from))
}

/// Whether a token may take a template with less in it.
pub(crate) const fn is_about_template(failed: CallFailed) -> bool {
    matches!(
        failed.rv,
        sys::CKR_ATTRIBUTE_TYPE_INVALID
            | sys::CKR_ATTRIBUTE_VALUE_INVALID
            | sys::CKR_ATTRIBUTE_READ_ONLY
            | sys::CKR_TEMPLATE_INCONSISTENT
            | sys::CKR_GENERAL_ERROR
    )
}
