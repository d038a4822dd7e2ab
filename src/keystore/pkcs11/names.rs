//! The agent's own objects on a token, and the plans that may never name them.

use cryptoki_sys as sys;

use crate::keystore::pkcs11::failure::refused;
use crate::keystore::pkcs11::template::Attribute;
use crate::model::desired::{CKA_ID_BYTES_MAX, ObjectPlan};
use crate::model::job::TokenFailure;
use crate::model::kek::KekNumber;
use crate::model::observed::ObjectFacts;

/// CKA_APPLICATION of the marker.
pub(crate) const APPLICATION: &str = "lockstep";
/// CKA_LABEL of the marker.
pub(crate) const MARKER: &str = "lockstep-marker";
/// CKA_LABEL and CKA_ID of the first key that wraps the repository's copies; the later ones carry their number behind it.
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

/// CKA_LABEL and CKA_ID of the wrapping key of that number.
pub(crate) fn kek_label(number: KekNumber) -> String {
    if number == KekNumber::FIRST {
        KEK.to_owned()
    } else {
        format!("{KEK}-{number}")
    }
}

/// Which wrapping key has that label; only the way that we write it counts.
pub(crate) fn kek_number(label: &str) -> Option<KekNumber> {
    if label == KEK {
        return Some(KekNumber::FIRST);
    }
    let number = label.strip_prefix(KEK)?.strip_prefix('-')?.parse().ok()?;
    let number = KekNumber::from_number(number);
    (kek_label(number) == label).then_some(number)
}

/// Whether an object on the token is one of the agent's own, which no inventory shows.
pub(crate) fn is_own(facts: &ObjectFacts) -> bool {
    is_own_id(&facts.cka_id) && facts.cka_id == facts.label.as_bytes()
}

fn is_own_id(id: &[u8]) -> bool {
    let is_kek = std::str::from_utf8(id).is_ok_and(|name| kek_number(name).is_some());
    let others = [TRANSPORT, SCRATCH, MARKER];
    is_kek || others.iter().any(|name| name.as_bytes() == id)
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

#[cfg(test)]
mod tests {
    use crate::keystore::pkcs11::names::{kek_label, kek_number};
    use crate::model::kek::KekNumber;

    #[test]
    fn the_label_of_a_wrapping_key_says_its_number() {
        for number in [1, 2, 10, u32::MAX] {
            let number = KekNumber::from_number(number);
            assert_eq!(kek_number(&kek_label(number)), Some(number));
        }
        assert_eq!(kek_label(KekNumber::FIRST), "lockstep-kek");
        let others = [
            "lockstep-kek-1",
            "lockstep-kek-0",
            "lockstep-kek-02",
            "lockstep-kek-+2",
            "lockstep-kek-",
            "lockstep-kek2",
            "lockstep",
            "",
        ];
        for other in others {
            assert_eq!(kek_number(other), None, "{other}");
        }
    }
}
