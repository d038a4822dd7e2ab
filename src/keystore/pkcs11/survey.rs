//! Survey: many instances, each by the handles that a scan met. SoftHSM2 and others search in time linear in their objects,
//! so that a search for each of a thousand keys takes a thousand times as long.

use crate::keystore::pkcs11::failure::refused;
use crate::keystore::pkcs11::inspect::{fingerprint_of, found};
use crate::keystore::pkcs11::names::check_plan;
use crate::keystore::pkcs11::object::Object;
use crate::keystore::pkcs11::raw::Session;
use crate::keystore::pkcs11::slice::Slicing;
use crate::keystore::pkcs11::token::Pkcs11Token;
use crate::model::job::{Glance, SURVEY_PLANS_MAX, TokenFailure};
use crate::model::observed::Found;

/// A look at many instances. What is not under its handles any more is left to a look of its own.
pub(crate) fn survey(
    token: &Pkcs11Token,
    glances: &[Glance],
) -> Result<Vec<Option<Found>>, TokenFailure> {
    let slicing = Slicing::begin();
    if glances.len() > SURVEY_PLANS_MAX {
        return Err(refused("survey", "more plans than one survey has"));
    }
    let session = token.session()?;
    let mut surveyed = Vec::with_capacity(glances.len());
    for one in glances {
        if !surveyed.is_empty() && slicing.is_over() {
            break;
        }
        surveyed.push(glance(token, &session, one));
    }
    Ok(surveyed)
}

fn glance(token: &Pkcs11Token, session: &Session, glance: &Glance) -> Option<Found> {
    let plan = &glance.object;
    check_plan(plan).ok()?;
    let mut objects = Vec::with_capacity(glance.handles.len());
    for &handle in &glance.handles {
        // What cannot be read is not met: a look of its own says why.
        let object = Object::read(session, handle).ok()??;
        if object.facts.cka_id != plan.cka_id {
            return None;
        }
        objects.push(object);
    }
    if !plan.is_exactly(objects.iter().map(|object| &object.facts)) {
        return None;
    }
    let fingerprint = fingerprint_of(token, &objects, plan);
    Some(found(objects, fingerprint, Vec::new()))
}
