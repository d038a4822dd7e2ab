//! Keys that others made: what they owe, and what is said of them.

use crate::decide::difference::{differences, findings_at};
use crate::decide::found::findings_of;
use crate::decide::status::tests::situations::{LATE_MS, aes, good, right};
use crate::model::adoption::{Adoption, AdoptionRecord};
use crate::model::capabilities::Strategy;
use crate::model::desired::{Instance, Want};
use crate::model::difference::{HealedBy, Reason};
use crate::model::finding::KeyFinding;
use crate::model::key::Usage;
use crate::model::live::Terms;
use crate::model::material::Signed;
use crate::model::observed::{Found, Observation};
use crate::model::vault::UnixMs;

/// An instance that was adopted as it is, with that protection.
pub(crate) fn adopted(sensitive: bool, extractable: bool) -> (Instance, Found) {
    let mut instance = aes(Want::Active);
    let mut found = right(&instance);
    for facts in &mut found.objects {
        facts.sensitive = Some(sensitive);
        facts.extractable = Some(extractable);
    }
    let salt = instance.intent.object.salt.clone();
    let mut body = AdoptionRecord {
        keystore: instance.intent.keystore,
        cka_id: instance.intent.object.cka_id.clone(),
        label: instance.intent.object.label.clone(),
        spec: instance.intent.object.spec,
        fingerprint: instance.intent.fingerprint,
        salt,
        usage: instance.intent.object.usage,
        sensitive,
        extractable,
        at: UnixMs(1),
    };
    body.usage = body.usage.with(Usage::Wrap);
    instance.adoption = Some(Box::new(Adoption {
        record: Signed {
            body,
            signer: vec![0; 32],
            signature: vec![0; 64],
        },
        in_repository: false,
    }));
    (instance, found)
}

#[test]
fn an_adopted_key_owes_the_protection_that_it_had() {
    let (weak, found) = adopted(false, true);
    let reasons = |instance: &Instance, found: &Found| -> Vec<Reason> {
        let seen = Observation::Present(found.clone());
        findings_at(instance, &seen, Strategy::Flags)
            .iter()
            .map(|finding| finding.reason)
            .collect()
    };
    assert_eq!(reasons(&weak, &found), []);
    let (strong, _) = adopted(true, false);
    assert_eq!(reasons(&strong, &found), [Reason::ProtectionWeakened]);
    let ours = Instance {
        adoption: None,
        ..weak.clone()
    };
    assert_eq!(reasons(&ours, &found), [Reason::ProtectionWeakened]);
    // The findings stay, with the usages that it has while it is active; what was put right on the token is gone.
    let adoption = weak.adoption.unwrap();
    let usage = adoption.record.body.usage;
    let all = findings_of(&adoption, usage, None);
    assert_eq!(all.len(), 3, "{all:?}");
    let (_, repaired) = adopted(true, false);
    let left = findings_of(&adoption, usage, Some(&repaired));
    assert_eq!(left, [KeyFinding::WrapAndDecrypt]);
}

#[test]
fn what_is_lost_of_a_key_that_is_nowhere_else_no_sync_brings_back() {
    let (mut instance, _) = adopted(true, false);
    let mut live = good(&instance);
    if let Some(report) = &mut live.report {
        report.observation = Observation::Absent {
            same_label: Vec::new(),
        };
    }
    let healed = |instance: &Instance| {
        differences(instance, &live, &Terms::default(), UnixMs(0), LATE_MS)[0].healed_by
    };
    assert_eq!(healed(&instance), HealedBy::Operator);
    if let Some(adoption) = &mut instance.adoption {
        adoption.in_repository = true;
    }
    assert_eq!(healed(&instance), HealedBy::Sync);
}
