//! Survey: many instances in one pass over the token. SoftHSM2 and others search in time linear in their objects, so that a
//! search for each of a thousand keys takes a thousand times as long.

use std::collections::BTreeMap;

use cryptoki_sys as sys;
use rustix::time::{ClockId, clock_gettime};

use crate::keystore::pkcs11::failure::refused;
use crate::keystore::pkcs11::inspect::{fingerprint_of, found};
use crate::keystore::pkcs11::names::check_plan;
use crate::keystore::pkcs11::object::Object;
use crate::keystore::pkcs11::raw::Session;
use crate::keystore::pkcs11::template::Attribute;
use crate::keystore::pkcs11::token::Pkcs11Token;
use crate::model::desired::ObjectPlan;
use crate::model::job::{INVENTORY_OBJECTS_MAX, SURVEY_PLANS_MAX, TokenFailure};
use crate::model::observed::Found;

/// After this long, no further plan is begun, milliseconds: what reduces use may be waiting.
const SURVEY_MS: u64 = 250;

/// A look at many instances. What is missing, doubled or halved is left to a look of its own.
pub(crate) fn survey(
    token: &Pkcs11Token,
    plans: &[ObjectPlan],
) -> Result<Vec<Option<Found>>, TokenFailure> {
    let began = now_ms();
    if plans.len() > SURVEY_PLANS_MAX {
        return Err(refused("survey", "more plans than one survey has"));
    }
    let session = token.session()?;
    let mut by_id = all_by_id(&session)?;
    let mut surveyed = Vec::with_capacity(plans.len());
    for plan in plans {
        if !surveyed.is_empty() && now_ms().saturating_sub(began) > SURVEY_MS {
            break;
        }
        let objects = by_id.remove(&plan.cka_id).unwrap_or_default();
        surveyed.push(glance(token, objects, plan));
    }
    Ok(surveyed)
}

fn glance(token: &Pkcs11Token, objects: Vec<Object>, plan: &ObjectPlan) -> Option<Found> {
    check_plan(plan).ok()?;
    if !plan.is_exactly(objects.iter().map(|object| &object.facts)) {
        return None;
    }
    let fingerprint = fingerprint_of(token, &objects, plan);
    Some(found(objects, fingerprint, Vec::new()))
}

/// All key objects on the token by CKA_ID: one find, one read each.
fn all_by_id(session: &Session) -> Result<BTreeMap<Vec<u8>, Vec<Object>>, TokenFailure> {
    let template = [Attribute::flag(sys::CKA_TOKEN, true)];
    let mut by_id: BTreeMap<Vec<u8>, Vec<Object>> = BTreeMap::new();
    let handles = session.find(&template, INVENTORY_OBJECTS_MAX)?;
    if handles.len() > INVENTORY_OBJECTS_MAX {
        return Err(refused("survey", "the token holds too many objects"));
    }
    for handle in handles {
        // What cannot be read is not met: a look of its own says why.
        if let Ok(Some(object)) = Object::read(session, handle) {
            let of_id = by_id.entry(object.facts.cka_id.clone()).or_default();
            of_id.push(object);
        }
    }
    Ok(by_id)
}

/// A clock that never goes back, milliseconds.
fn now_ms() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let ms = now.tv_sec.saturating_mul(1_000);
    let ms = ms.saturating_add(now.tv_nsec / 1_000_000);
    u64::try_from(ms).unwrap_or(0)
}
