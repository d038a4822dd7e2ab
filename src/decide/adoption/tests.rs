use std::collections::BTreeSet;

use uuid::Uuid;

use crate::decide::adoption::*;
use crate::model::ids::{Digest, KeyId, KeyVersionId, KeystoreId, Revision, TemplateId, VaultId};
use crate::model::key::{Algorithm, KeySpec, Usage, UsageSet};
use crate::model::observed::{Fingerprint, FingerprintMethod};
use crate::model::text::Label;
use crate::model::vault::{Stamps, UnixMs};
use crate::model::version::Acted;

fn record(usage: &[Usage]) -> AdoptionRecord {
    AdoptionRecord {
        keystore: KeystoreId::from_uuid(Uuid::from_u128(1)),
        cka_id: vec![7],
        label: "theirs".to_owned(),
        spec: KeySpec::new(Algorithm::Aes, 256).unwrap(),
        fingerprint: Fingerprint {
            method: FingerprintMethod::DigestKey,
            value: Digest([9; 32]),
        },
        salt: vec![1; 32],
        usage: UsageSet::of(usage),
        sensitive: true,
        extractable: false,
        at: UnixMs(1),
    }
}

fn key(state: ManagedState) -> ManagedKey {
    let record = record(&[Usage::Encrypt]);
    ManagedKey {
        id: KeyId::from_uuid(Uuid::from_u128(2)),
        vault: VaultId::from_uuid(Uuid::from_u128(3)),
        template: TemplateId::from_uuid(Uuid::from_u128(4)),
        template_version: 1,
        label: Label::new("K").unwrap(),
        description: String::new(),
        state,
        spec: record.spec,
        usage: record.usage,
        deactivated_usage: DeactivatedUsage::None,
        version: KeyVersionId::from_uuid(Uuid::from_u128(5)),
        version_number: 1,
        fingerprint: Some(record.fingerprint),
        spki: None,
        label_tags: Vec::new(),
        targets: BTreeSet::new(),
        targets_by_hand: true,
        activation_date: None,
        expiration_date: None,
        rotation_date: None,
        acted: Acted::default(),
        in_use_since: None,
        past: Vec::new(),
        coming: None,
        hold: None,
        revision: Revision(1),
        stamps: Stamps::new(UnixMs(1), "anna"),
    }
}

#[test]
fn usage_says_the_state() {
    assert_eq!(state_of(&record(&[Usage::Verify])), ManagedState::Active);
    assert_eq!(state_of(&record(&[])), ManagedState::Deactivated);
}

/// `join`, `new`, or the code of the refusal.
fn course(usage: &[Usage], keys: &[ManagedKey]) -> &'static str {
    match same_key(&record(usage), keys) {
        Ok(Some(_)) => "join",
        Ok(None) => "new",
        Err(why) => why.code(),
    }
}

#[test]
fn the_same_material_is_the_same_key_where_nothing_changes_by_it() {
    use ManagedState::{
        Active, Compromised, Deactivated, Destroyed, DestroyedCompromised, PreActivation,
    };
    let (on, off) = (&[Usage::Encrypt][..], &[][..]);
    assert_eq!(course(on, &[]), "new");
    for (state, enabled, disabled) in [
        (PreActivation, "state_differs", "state_differs"),
        (Active, "join", "state_differs"),
        (Deactivated, "state_differs", "join"),
        (Compromised, "state_differs", "join"),
        (Destroyed, "material_destroyed", "material_destroyed"),
        (
            DestroyedCompromised,
            "material_destroyed",
            "material_destroyed",
        ),
    ] {
        let keys = [key(state)];
        assert_eq!(
            (course(on, &keys), course(off, &keys)),
            (enabled, disabled),
            "{state:?}"
        );
    }
    // What stays on while deactivated would be switched on.
    let mut keeps = key(Deactivated);
    keeps.deactivated_usage = DeactivatedUsage::ProcessOnly;
    assert_eq!(course(off, &[keeps]), "state_differs");
    assert_eq!(course(on, &[key(Destroyed), key(Active)]), "join");
    assert_eq!(course(on, &[key(Active), key(Active)]), "several_keys");
}

/// What becomes of a key that is managed by a strategy: nothing, or the code of what stands in the way.
#[track_caller]
fn check_manageable(
    usage: &[Usage],
    (modifiable, copyable): (Option<bool>, Option<bool>),
    (strategy, can_copy, in_repository): (Strategy, bool, bool),
    expected: Result<(), &str>,
) {
    use crate::model::desired::ObjectPlan;
    use crate::model::ids::Generation;
    let record = record(usage);
    let want = if usage.is_empty() {
        Want::Deactivated
    } else {
        Want::Active
    };
    let intent = Intent {
        version: KeyVersionId::from_uuid(Uuid::from_u128(5)),
        keystore: record.keystore,
        generation: Generation(1),
        want,
        object: ObjectPlan {
            cka_id: record.cka_id.clone(),
            label: record.label.clone(),
            spec: record.spec,
            usage: UsageSet::of(&[Usage::Encrypt, Usage::Decrypt]),
            deactivated_usage: DeactivatedUsage::None,
            salt: record.salt.clone(),
            strategy,
        },
        fingerprint: record.fingerprint,
    };
    let object = ObjectFacts {
        handle: 1,
        class: ObjectClass::Secret,
        key_type: Some(0x1f),
        cka_id: record.cka_id,
        label: record.label,
        usage: record.usage,
        sensitive: Some(true),
        extractable: Some(false),
        modifiable,
        copyable,
        bits: Some(256),
        public_digest: None,
        fingerprint: None,
    };
    let told = manageable(&intent, &[object], strategy, can_copy, in_repository);
    let code = |why: Unmanageable| match why {
        Unmanageable::WouldChange { .. } => "would_change",
        Unmanageable::NotModifiable(_) => "not_modifiable",
        Unmanageable::Withdrawn => "withdrawn",
    };
    assert_eq!(
        told.map_err(code),
        expected,
        "{strategy:?} {modifiable:?} {copyable:?}"
    );
}

#[test]
fn adopting_changes_nothing_and_leaves_a_way_to_disable_the_key() {
    use Strategy::{Copy, Flags, Withdraw};
    const ON: &[Usage] = &[Usage::Encrypt, Usage::Decrypt];
    let (yes, no) = (Some(true), Some(false));
    for usage in [ON, &[]] {
        check_manageable(usage, (yes, yes), (Flags, true, false), Ok(()));
        check_manageable(usage, (None, None), (Flags, false, false), Ok(()));
        check_manageable(usage, (yes, yes), (Copy, true, false), Ok(()));
        // Fixed: by a copy, where the token makes any.
        check_manageable(usage, (no, yes), (Flags, true, false), Ok(()));
        check_manageable(usage, (no, None), (Flags, true, false), Ok(()));
        check_manageable(usage, (no, no), (Flags, true, false), Err("withdrawn"));
        check_manageable(usage, (yes, no), (Copy, true, false), Err("withdrawn"));
    }
    check_manageable(ON, (no, yes), (Flags, false, false), Err("not_modifiable"));
    check_manageable(&[], (no, yes), (Flags, false, false), Err("not_modifiable"));
    check_manageable(ON, (yes, yes), (Withdraw, true, false), Err("withdrawn"));
    // The repository has it: then it may be withdrawn, but not by adopting it.
    check_manageable(ON, (yes, yes), (Withdraw, true, true), Ok(()));
    check_manageable(&[], (yes, yes), (Withdraw, true, true), Err("would_change"));
    check_manageable(&[], (yes, no), (Copy, true, true), Err("would_change"));
}
