//! Replace: one copy with other usages in the place of an object, on tokens that change no attributes but copy (`copy`).
//!
//! A crash between copying and destroying leaves two objects with one CKA_ID. Both are the same key, or nothing is touched,
//! and the next try keeps the one that is as wanted.

use cryptoki_sys as sys;

use crate::keystore::pkcs11::failure::{failure, refused};
use crate::keystore::pkcs11::fingerprint;
use crate::keystore::pkcs11::inspect::objects_of;
use crate::keystore::pkcs11::object::{Object, usage_attributes};
use crate::keystore::pkcs11::raw::Session;
use crate::keystore::pkcs11::spki::PublicPart;
use crate::keystore::pkcs11::template::Attribute;
use crate::keystore::pkcs11::token::Pkcs11Token;
use crate::model::job::{FailureKind, RunJob, TokenFailure};
use crate::model::key::UsageSet;
use crate::model::observed::ObjectClass;

/// Leaves exactly one object of the class under the CKA_ID, with exactly these usages and the planned label.
pub(crate) fn replace(
    token: &Pkcs11Token,
    session: &Session,
    job: &RunJob,
    class: ObjectClass,
    usage: UsageSet,
) -> Result<(), TokenFailure> {
    let plan = &job.object;
    let all = objects_of(session, plan)?;
    let public = all.iter().find_map(|object| match object.facts.class {
        ObjectClass::Public => object.public.clone(),
        ObjectClass::Secret | ObjectClass::Private => None,
    });
    let there: Vec<&Object> = all.iter().filter(|one| one.facts.class == class).collect();
    for object in &there {
        check(token, job, object, public.as_ref())?;
    }
    let as_wanted =
        |object: &Object| object.facts.usage == usage && object.facts.label == plan.label;
    let kept = match (there.iter().find(|object| as_wanted(object)), there.first()) {
        (Some(kept), _) => kept.facts.handle,
        (None, Some(first)) => {
            let copy = session.copy(first.facts.handle, &changes(job, class, usage))?;
            let made = Object::read(session, copy)?;
            let right = made
                .filter(|made| as_wanted(made) && there.iter().all(|old| old.facts.handle != copy));
            let Some(right) = right else {
                return Err(refused(
                    "C_CopyObject",
                    "the copy is not as it was asked for",
                ));
            };
            check(token, job, &right, public.as_ref())?;
            copy
        }
        (None, None) => {
            let detail = format!("there is no {}", class.name());
            return Err(failure(FailureKind::Retry, "run", detail));
        }
    };
    for object in there {
        if object.facts.handle != kept {
            session.destroy(object.facts.handle)?;
        }
    }
    Ok(())
}

fn changes(job: &RunJob, class: ObjectClass, usage: UsageSet) -> Vec<Attribute> {
    let plan = &job.object;
    let mut changes = vec![
        Attribute::flag(sys::CKA_TOKEN, true),
        Attribute::bytes(sys::CKA_LABEL, plan.label.as_str()),
        Attribute::bytes(sys::CKA_ID, plan.cka_id.as_slice()),
    ];
    changes.extend(usage_attributes(class, usage));
    changes
}

/// Nothing is destroyed, or enabled, that is not surely the right key.
fn check(
    token: &Pkcs11Token,
    job: &RunJob,
    object: &Object,
    public: Option<&PublicPart>,
) -> Result<(), TokenFailure> {
    let (plan, right) = (&job.object, &job.fingerprint);
    let is_right = match (object.facts.class, public) {
        (ObjectClass::Secret, _) => {
            fingerprint::of_secret(token, object, plan.spec, &plan.salt)? == *right
        }
        (ObjectClass::Private, Some(public)) => {
            fingerprint::of_pair(token, object, public)? == *right
        }
        (ObjectClass::Private, None) => false,
        (ObjectClass::Public, _) => object.facts.public_digest == Some(right.value),
    };
    if is_right {
        Ok(())
    } else {
        Err(failure(
            FailureKind::WrongKey,
            "fingerprint",
            "another key is under the CKA_ID: it is left as it is",
        ))
    }
}
