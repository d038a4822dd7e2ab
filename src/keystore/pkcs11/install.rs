//! Install, the direct shape: from the envelope straight to token objects that nobody can use yet.

use cryptoki_sys as sys;

use crate::keystore::pkcs11::failure::{blob_failure, failure, refused};
use crate::keystore::pkcs11::fingerprint;
use crate::keystore::pkcs11::inspect::{is_complete, namesakes, objects_of};
use crate::keystore::pkcs11::mechanism::{self, session_key};
use crate::keystore::pkcs11::names::TRANSPORT;
use crate::keystore::pkcs11::object::{Object, class_number, usage_attributes};
use crate::keystore::pkcs11::prepare::transport_mechanism;
use crate::keystore::pkcs11::raw::{Handle, Session};
use crate::keystore::pkcs11::rewrap::public_part;
use crate::keystore::pkcs11::spki::PublicPart;
use crate::keystore::pkcs11::template::Attribute;
use crate::keystore::pkcs11::token::Pkcs11Token;
use crate::model::canonical::sha256;
use crate::model::capabilities::Capabilities;
use crate::model::desired::ObjectPlan;
use crate::model::job::{FailureKind, RunJob, TokenFailure, Wrapped};
use crate::model::key::{KeyClass, Usage, UsageSet};
use crate::model::observed::{Fingerprint, FingerprintMethod, ObjectClass};

/// Makes the objects, or adopts what an earlier try left complete (promises R14).
pub(crate) fn install(
    token: &mut Pkcs11Token,
    session: &Session,
    job: &RunJob,
) -> Result<Vec<Object>, TokenFailure> {
    let plan = &job.object;
    let there = objects_of(session, plan)?;
    if let Some(adopted) = settle(token, session, job, there)? {
        return Ok(adopted);
    }
    if let Some(other) = namesakes(session, plan)?.first() {
        return Err(failure(
            FailureKind::LabelTaken,
            "install",
            format!("another {} has the label", other.facts.class.name()),
        ));
    }
    let wrapped = job
        .envelope
        .as_ref()
        .ok_or_else(|| failure(FailureKind::NeedsMaterial, "install", "no envelope came"))?;
    let public = checked_public(job, wrapped)?;
    let capabilities = token.capabilities(session)?;
    let mut made = Vec::new();
    let outcome = make(
        token,
        session,
        plan,
        wrapped,
        &capabilities,
        public.as_ref(),
        &mut made,
    )
    .and_then(|()| verify(token, session, job, &made));
    if outcome.is_err() {
        // Nothing of ours may stay that is not proved. What cannot be destroyed now is inert, and found by the next look.
        for handle in made {
            let _destroyed_or_gone = session.destroy(handle);
        }
    }
    outcome
}

/// What is there already: `Some` if it is the key; `None` once there is nothing.
fn settle(
    token: &Pkcs11Token,
    session: &Session,
    job: &RunJob,
    there: Vec<Object>,
) -> Result<Option<Vec<Object>>, TokenFailure> {
    if there.is_empty() {
        return Ok(None);
    }
    let plan = &job.object;
    let one_of_each = there.len() == plan.spec.class().objects().len() && is_complete(&there, plan);
    if one_of_each
        && fingerprint::of_objects(token, &there, plan.spec, &plan.salt)
            .is_ok_and(|found| found == job.fingerprint)
    {
        return Ok(Some(there));
    }
    let ours = |object: &Object| object.is_inert() && object.facts.label == plan.label;
    if !there.iter().all(ours) {
        return Err(refused(
            "install",
            "objects with the CKA_ID are there that we did not leave",
        ));
    }
    for object in there {
        session.destroy(object.facts.handle)?;
    }
    Ok(None)
}

/// The public half is known before anything is unwrapped.
fn checked_public(job: &RunJob, wrapped: &Wrapped) -> Result<Option<PublicPart>, TokenFailure> {
    let public = public_part(job.object.spec, wrapped.spki.as_deref())?;
    if let Some(spki) = &wrapped.spki {
        let told = Fingerprint {
            method: FingerprintMethod::Spki,
            value: sha256(spki),
        };
        if told != job.fingerprint {
            return Err(wrong_key("the envelope's public part is another key's"));
        }
    }
    Ok(public)
}

fn make(
    token: &mut Pkcs11Token,
    session: &Session,
    plan: &ObjectPlan,
    wrapped: &Wrapped,
    capabilities: &Capabilities,
    public: Option<&PublicPart>,
    made: &mut Vec<Handle>,
) -> Result<(), TokenFailure> {
    let rfc5649 = capabilities
        .rfc5649
        .map(mechanism::rfc5649)
        .ok_or_else(|| refused("C_UnwrapKey", "no mechanism of the token is RFC 5649"))?;
    let transport = token
        .known
        .own_key(session, TRANSPORT, ObjectClass::Private)?
        .ok_or_else(|| refused("own key", "there is no transport key: prepare first"))?;
    let usage = UsageSet::of(&[Usage::Unwrap]);
    let template = session_key(ObjectClass::Secret, sys::CKK_AES, usage, false);
    let oaep = transport_mechanism(capabilities);
    let ephemeral = session
        .unwrap(
            &oaep,
            transport.facts.handle,
            &wrapped.wrapped_kek,
            &template,
        )
        .map_err(blob_failure)?;
    let template = hidden_template(plan, capabilities);
    let key = session
        .unwrap(&rfc5649, ephemeral, &wrapped.wrapped_key, &template)
        .map_err(blob_failure)?;
    made.push(key);
    session.destroy(ephemeral)?;
    if let Some(part) = public {
        made.push(session.create(&public_template(plan, part))?);
    }
    Ok(())
}

/// Every flag reads back as asked, and the material is the right one.
fn verify(
    token: &Pkcs11Token,
    session: &Session,
    job: &RunJob,
    made: &[Handle],
) -> Result<Vec<Object>, TokenFailure> {
    let plan = &job.object;
    let mut objects = Vec::with_capacity(made.len());
    for handle in made {
        objects.extend(Object::read(session, *handle)?);
    }
    let as_asked = |object: &Object| {
        object.is_inert()
            && object.facts.label == plan.label
            && object.facts.cka_id == plan.cka_id
            && object.facts.key_type == Some(mechanism::key_type(plan.spec))
    };
    if objects.len() != made.len() || !objects.iter().all(as_asked) {
        return Err(refused(
            "install",
            "the token did not make the objects as they were asked for",
        ));
    }
    let found = fingerprint::of_objects(token, &objects, plan.spec, &plan.salt)?;
    if found == job.fingerprint {
        Ok(objects)
    } else {
        Err(wrong_key(
            "the unwrapped key is another one; it was destroyed",
        ))
    }
}

fn wrong_key(detail: &str) -> TokenFailure {
    failure(FailureKind::WrongKey, "install", detail)
}

/// The secret or private key. CKA_VALUE_LEN is not said: SoftHSM2 refuses it when unwrapping.
fn hidden_template(plan: &ObjectPlan, capabilities: &Capabilities) -> Vec<Attribute> {
    let class = match plan.spec.class() {
        KeyClass::Secret => ObjectClass::Secret,
        KeyClass::Pair => ObjectClass::Private,
    };
    let mut template = vec![
        Attribute::number(sys::CKA_CLASS, class_number(class)),
        Attribute::number(sys::CKA_KEY_TYPE, mechanism::key_type(plan.spec)),
        Attribute::flag(sys::CKA_TOKEN, true),
        Attribute::flag(sys::CKA_PRIVATE, true),
        Attribute::flag(sys::CKA_SENSITIVE, true),
        Attribute::flag(sys::CKA_EXTRACTABLE, false),
        Attribute::bytes(sys::CKA_LABEL, plan.label.as_str()),
        Attribute::bytes(sys::CKA_ID, plan.cka_id.as_slice()),
    ];
    template.extend(usage_attributes(class, UsageSet::NONE));
    // A private key stays copyable: its fingerprint needs a copy that may sign while the key itself may not.
    if class == ObjectClass::Secret && capabilities.copyable && capabilities.digest_key {
        template.push(Attribute::flag(sys::CKA_COPYABLE, false));
    }
    template
}

fn public_template(plan: &ObjectPlan, part: &PublicPart) -> Vec<Attribute> {
    let class = ObjectClass::Public;
    let mut template = vec![
        Attribute::number(sys::CKA_CLASS, class_number(class)),
        Attribute::flag(sys::CKA_TOKEN, true),
        Attribute::flag(sys::CKA_PRIVATE, false),
        Attribute::bytes(sys::CKA_LABEL, plan.label.as_str()),
        Attribute::bytes(sys::CKA_ID, plan.cka_id.as_slice()),
    ];
    template.extend(part.attributes());
    template.extend(usage_attributes(class, UsageSet::NONE));
    template
}
