//! The agent's own objects on a token, and the plans that may never name them.

use cryptoki_sys as sys;

use crate::keystore::pkcs11::failure::refused;
use crate::keystore::pkcs11::template::Attribute;
use crate::model::desired::{CKA_ID_BYTES_MAX, ObjectPlan};
use crate::model::job::TokenFailure;
use crate::model::observed::ObjectFacts;

/// CKA_APPLICATION of the marker.
pub(crate) const APPLICATION: &str = "lockstep";
/// CKA_LABEL of the marker.
pub(crate) const MARKER: &str = "lockstep-marker";
/// CKA_LABEL and CKA_ID of the key that wraps the repository's copies.
pub(crate) const KEK: &str = "lockstep-kek";
/// CKA_LABEL and CKA_ID of the pair that others wrap for.
pub(crate) const TRANSPORT: &str = "lockstep-transport";
/// CKA_LABEL and CKA_ID of what trials make, and of all session objects.
pub(crate) const SCRATCH: &str = "lockstep-scratch";

/// Label and id of one of our own objects.
pub(crate) fn named(name: &str) -> Vec<Attribute> {
    vec![
        Attribute::bytes(sys::CKA_LABEL, name),
        Attribute::bytes(sys::CKA_ID, name),
    ]
}

/// Whether an object on the token is one of the agent's own, which no inventory shows.
pub(crate) fn is_own(facts: &ObjectFacts) -> bool {
    is_own_id(&facts.cka_id) && facts.cka_id == facts.label.as_bytes()
}

fn is_own_id(id: &[u8]) -> bool {
    [KEK, TRANSPORT, SCRATCH, MARKER]
        .iter()
        .any(|name| name.as_bytes() == id)
}

/// Refuses plans that would reach the agent's own keys, or no key in particular.
///
/// # Errors
/// `Refused`, with the reason.
pub(crate) fn check_plan(plan: &ObjectPlan) -> Result<(), TokenFailure> {
    if plan.cka_id.is_empty() || plan.cka_id.len() > CKA_ID_BYTES_MAX {
        return Err(refused("plan", "a CKA_ID has 1 to 64 bytes"));
    }
    if is_own_id(&plan.cka_id) || is_own_id(plan.label.as_bytes()) {
        return Err(refused("plan", "the agent's own keys are not managed"));
    }
    Ok(())
}
