//! Each checker on a bad sample and on a good one: a checker that cannot find anything holds nothing.

mod history;
mod moment;

use uuid::Uuid;

use crate::decide::check::Invariant;
use crate::decide::check::history::Place;
use crate::model::capabilities::Strategy;
use crate::model::desired::{Instance, Intent, ObjectPlan, Want};
use crate::model::ids::{Digest, Generation, KeyVersionId, KeystoreId, Revision};
use crate::model::key::{Algorithm, DeactivatedUsage, KeySpec, UsageSet};
use crate::model::observed::{Fingerprint, FingerprintMethod, Found, ObjectClass, ObjectFacts};
use crate::model::vault::UnixMs;

pub(crate) const HERE: KeystoreId = KeystoreId::from_uuid(Uuid::from_u128(1));
pub(crate) const THERE: KeystoreId = KeystoreId::from_uuid(Uuid::from_u128(2));
pub(crate) const VERSION: KeyVersionId = KeyVersionId::from_uuid(Uuid::from_u128(3));
pub(crate) const PLACE: Place = Place {
    keystore: HERE,
    version: VERSION,
};

/// A pair on `HERE`.
pub(crate) fn intent(generation: u64, want: Want) -> Intent {
    let spec = KeySpec::new(Algorithm::Ec, 256).unwrap();
    Intent {
        version: VERSION,
        keystore: HERE,
        generation: Generation(generation),
        want,
        object: ObjectPlan {
            cka_id: VERSION.uuid().as_bytes().to_vec(),
            label: "pair".to_owned(),
            spec,
            usage: spec.default_usage(),
            deactivated_usage: DeactivatedUsage::None,
            salt: Vec::new(),
            strategy: Strategy::Flags,
        },
        fingerprint: Fingerprint {
            method: FingerprintMethod::Spki,
            value: Digest([7; 32]),
        },
    }
}

pub(crate) fn instance(generation: u64, want: Want) -> Instance {
    Instance {
        intent: intent(generation, want),
        is_target: true,
        since: UnixMs(0),
        revision: Revision(1),
        adoption: None,
    }
}

pub(crate) fn object(handle: u64, class: ObjectClass, usage: UsageSet) -> ObjectFacts {
    ObjectFacts {
        handle,
        class,
        key_type: None,
        cka_id: VERSION.uuid().as_bytes().to_vec(),
        label: "pair".to_owned(),
        usage,
        sensitive: None,
        extractable: None,
        bits: None,
        public_digest: None,
        modifiable: Some(true),
        copyable: Some(true),
        fingerprint: None,
    }
}

/// The pair as its plan has it under a want.
pub(crate) fn pair(want: Want) -> Found {
    let intent = intent(1, want);
    let classes = [ObjectClass::Private, ObjectClass::Public];
    let objects = (1..)
        .zip(classes)
        .map(|(handle, class)| object(handle, class, intent.object.usage_under(want, class)));
    Found {
        objects: objects.collect(),
        fingerprint: Some(intent.fingerprint),
        ..Found::default()
    }
}

#[test]
fn invariants_are_numbered_in_order_and_have_names_of_their_own() {
    let ids: Vec<&str> = Invariant::ALL.iter().map(|one| one.id()).collect();
    let expected: Vec<String> = (1..=17).map(|number| format!("I{number}")).collect();
    assert_eq!(ids, expected);
    let names: std::collections::BTreeSet<&str> =
        Invariant::ALL.iter().map(|one| one.name()).collect();
    assert_eq!(names.len(), Invariant::ALL.len());
}
