//! Inspect: what is under a CKA_ID, whether it is the right material, and who else has the label.

use cryptoki_sys as sys;

use crate::keystore::pkcs11::fingerprint;
use crate::keystore::pkcs11::identify::check_absence;
use crate::keystore::pkcs11::names::{check_plan, is_own};
use crate::keystore::pkcs11::object::{Object, matching};
use crate::keystore::pkcs11::raw::Session;
use crate::keystore::pkcs11::template::Attribute;
use crate::keystore::pkcs11::token::Pkcs11Token;
use crate::model::desired::ObjectPlan;
use crate::model::job::TokenFailure;
use crate::model::observed::{Fingerprint, Found, ObjectClass, ObjectFacts};

/// A look at one instance.
pub(crate) fn inspect(token: &Pkcs11Token, plan: &ObjectPlan) -> Result<Found, TokenFailure> {
    check_plan(plan)?;
    let session = token.session()?;
    let objects = objects_of(&session, plan)?;
    if objects.is_empty() {
        check_absence(token, &session)?;
    }
    let same_label = if is_complete(&objects, plan) {
        Vec::new()
    } else {
        same_label(token, &session, plan)?
    };
    let fingerprint = fingerprint_of(token, &objects, plan);
    Ok(found(objects, fingerprint, same_label))
}

/// Puts the parts of a look together.
pub(crate) fn found(
    objects: Vec<Object>,
    fingerprint: Option<Result<Fingerprint, TokenFailure>>,
    same_label: Vec<ObjectFacts>,
) -> Found {
    let (fingerprint, fingerprint_failure) = match fingerprint {
        None => (None, None),
        Some(Ok(fingerprint)) => (Some(fingerprint), None),
        Some(Err(failure)) => (None, Some(failure.to_string())),
    };
    Found {
        objects: objects.into_iter().map(|object| object.facts).collect(),
        fingerprint,
        same_label,
        fingerprint_failure,
    }
}

/// The material under the CKA_ID; `None` where there is nothing.
pub(crate) fn fingerprint_of(
    token: &Pkcs11Token,
    objects: &[Object],
    plan: &ObjectPlan,
) -> Option<Result<Fingerprint, TokenFailure>> {
    if objects.is_empty() {
        return None;
    }
    Some(fingerprint::of_objects(
        token, objects, plan.spec, &plan.salt,
    ))
}

/// All key objects with the CKA_ID: one find, one read each.
pub(crate) fn objects_of(
    session: &Session,
    plan: &ObjectPlan,
) -> Result<Vec<Object>, TokenFailure> {
    let by_id = vec![Attribute::bytes(sys::CKA_ID, plan.cka_id.as_slice())];
    let mut objects = matching(session, by_id)?;
    objects.retain(|object| object.facts.cka_id == plan.cka_id);
    Ok(objects)
}

/// Whether every class of the plan is there. Who has the label matters only where something is missing.
pub(crate) fn is_complete(objects: &[Object], plan: &ObjectPlan) -> bool {
    let classes = plan.spec.class().objects();
    classes
        .iter()
        .all(|class| objects.iter().any(|object| object.facts.class == *class))
}

/// How many objects of one label are fingerprinted in one look.
const NAMESAKES_PROVED_MAX: usize = 8;

/// Objects of the planned classes that have the planned label under another CKA_ID; secret keys with their fingerprints, so
/// that a key whose CKA_ID was changed is told from another key.
pub(crate) fn same_label(
    token: &Pkcs11Token,
    session: &Session,
    plan: &ObjectPlan,
) -> Result<Vec<ObjectFacts>, TokenFailure> {
    let namesakes = namesakes(session, plan)?;
    let facts = namesakes.into_iter().enumerate().map(|(number, object)| {
        let is_proved = object.facts.class == ObjectClass::Secret && number < NAMESAKES_PROVED_MAX;
        let fingerprint = is_proved
            .then(|| fingerprint::of_secret(token, &object, plan.spec, &plan.salt).ok())
            .flatten();
        ObjectFacts {
            fingerprint,
            ..object.facts
        }
    });
    Ok(facts.collect())
}

/// Objects of the planned classes that have the planned label under another CKA_ID.
pub(crate) fn namesakes(session: &Session, plan: &ObjectPlan) -> Result<Vec<Object>, TokenFailure> {
    let by_label = vec![Attribute::bytes(sys::CKA_LABEL, plan.label.as_str())];
    let classes = plan.spec.class().objects();
    let mut objects = matching(session, by_label)?;
    objects.retain(|Object { facts, .. }| {
        facts.cka_id != plan.cka_id && classes.contains(&facts.class) && !is_own(facts)
    });
    Ok(objects)
}
