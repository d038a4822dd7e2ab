//! Many small cases: what was found, what is wanted, which steps.

mod barred;

use uuid::Uuid;

use crate::decide::effects::{Obstacle, effects, met};
use crate::model::capabilities::Strategy;
use crate::model::desired::{Intent, ObjectPlan, Want};
use crate::model::ids::{Digest, Generation, KeyVersionId, KeystoreId};
use crate::model::key::{Algorithm, DeactivatedUsage, KeySpec, Usage, UsageSet};
use crate::model::observed::{Fingerprint, FingerprintMethod, Found, ObjectClass, ObjectFacts};
use crate::model::step::Step;

const VERSION: Uuid = Uuid::from_u128(7);

fn intent(want: Want, algorithm: Algorithm, deactivated_usage: DeactivatedUsage) -> Intent {
    let method = if algorithm == Algorithm::Aes {
        FingerprintMethod::DigestKey
    } else {
        FingerprintMethod::Spki
    };
    let spec = KeySpec::new(algorithm, 256).unwrap();
    Intent {
        version: KeyVersionId::from_uuid(VERSION),
        keystore: KeystoreId::from_uuid(Uuid::from_u128(1)),
        generation: Generation(1),
        want,
        object: ObjectPlan {
            cka_id: VERSION.as_bytes().to_vec(),
            label: "pay-1".to_owned(),
            spec,
            usage: spec.default_usage(),
            deactivated_usage,
            salt: vec![1; 32],
            strategy: Strategy::Flags,
        },
        fingerprint: Fingerprint {
            method,
            value: Digest([1; 32]),
        },
    }
}

fn object(class: ObjectClass, usage: &[Usage]) -> ObjectFacts {
    ObjectFacts {
        handle: 1,
        class,
        key_type: None,
        cka_id: VERSION.as_bytes().to_vec(),
        label: "pay-1".to_owned(),
        usage: UsageSet::of(usage),
        sensitive: Some(true),
        extractable: Some(false),
        modifiable: Some(true),
        copyable: Some(true),
        bits: None,
        public_digest: None,
        fingerprint: None,
    }
}

fn found(intent: &Intent, objects: &[(ObjectClass, &[Usage])]) -> Found {
    Found {
        objects: objects
            .iter()
            .map(|(class, usage)| object(*class, usage))
            .collect(),
        fingerprint: (!objects.is_empty()).then_some(intent.fingerprint),
        same_label: Vec::new(),
        fingerprint_failure: None,
    }
}

/// Steps as people read them, or the obstacle; `;` between them.
fn told(intent: &Intent, found: &Found) -> String {
    match effects(intent, found, Strategy::Flags) {
        Ok(steps) => steps
            .iter()
            .map(Step::describe)
            .collect::<Vec<_>>()
            .join("; "),
        Err(obstacle) => format!("no: {obstacle}"),
    }
}

fn secret(want: Want) -> Intent {
    intent(want, Algorithm::Aes, DeactivatedUsage::None)
}

fn pair(want: Want) -> Intent {
    intent(want, Algorithm::Ec, DeactivatedUsage::None)
}

const SECRET: ObjectClass = ObjectClass::Secret;
const PRIVATE: ObjectClass = ObjectClass::Private;
const PUBLIC: ObjectClass = ObjectClass::Public;
const INSTALL: &str = "install the key, disabled, and check its fingerprint";
const WORKS: &str = "try the key: it must work";
const REFUSED: &str = "try the key: the token must refuse";

#[track_caller]
fn check(intent: &Intent, objects: &[(ObjectClass, &[Usage])], expected: &[&str]) {
    assert_eq!(
        told(intent, &found(intent, objects)),
        expected.join("; "),
        "{:?} on {objects:?}",
        intent.want
    );
}

#[test]
fn absent_keys_are_installed_disabled_and_then_enabled() {
    check(
        &secret(Want::Active),
        &[],
        &[INSTALL, "enable the secret key for encrypt,decrypt", WORKS],
    );
    check(&secret(Want::Deactivated), &[], &[INSTALL, REFUSED]);
    check(&secret(Want::Destroyed), &[], &[]);
    check(
        &pair(Want::Active),
        &[],
        &[
            INSTALL,
            "enable the public key for verify",
            "enable the private key for sign",
            WORKS,
        ],
    );
}

#[test]
fn enabling_goes_public_first_and_disabling_private_first() {
    check(
        &pair(Want::Active),
        &[(PRIVATE, &[]), (PUBLIC, &[])],
        &[
            "enable the public key for verify",
            "enable the private key for sign",
            WORKS,
        ],
    );
    check(
        &pair(Want::Deactivated),
        &[(PUBLIC, &[Usage::Verify]), (PRIVATE, &[Usage::Sign])],
        &["disable the private key", "disable the public key", REFUSED],
    );
    check(
        &pair(Want::Destroyed),
        &[(PUBLIC, &[Usage::Verify]), (PRIVATE, &[Usage::Sign])],
        &["destroy the private key", "destroy the public key"],
    );
}

#[test]
fn what_is_so_already_is_only_proved() {
    let both = [Usage::Encrypt, Usage::Decrypt];
    check(&secret(Want::Active), &[(SECRET, &both)], &[WORKS]);
    check(&secret(Want::Deactivated), &[(SECRET, &[])], &[REFUSED]);
}

#[test]
fn single_usages_are_put_right() {
    check(
        &secret(Want::Active),
        &[(SECRET, &[Usage::Encrypt, Usage::Wrap])],
        &["enable the secret key for encrypt,decrypt", WORKS],
    );
}

#[test]
fn process_only_keeps_what_reads_and_adds_it_last() {
    let some = intent(
        Want::Deactivated,
        Algorithm::Aes,
        DeactivatedUsage::ProcessOnly,
    );
    check(
        &some,
        &[(SECRET, &[Usage::Encrypt, Usage::Decrypt])],
        &["enable the secret key for decrypt", REFUSED],
    );
    check(
        &some,
        &[(SECRET, &[Usage::Encrypt])],
        &[
            "disable the secret key",
            "enable the secret key for decrypt",
            REFUSED,
        ],
    );
    check(
        &some,
        &[],
        &[INSTALL, "enable the secret key for decrypt", REFUSED],
    );
}

#[test]
fn labels_are_set_back() {
    let wanted = secret(Want::Deactivated);
    let mut there = found(&wanted, &[(SECRET, &[])]);
    there.objects[0].label = "renamed".to_owned();
    assert!(!met(&wanted, &there, Strategy::Flags));
    assert_eq!(
        told(&wanted, &there),
        format!("set the label of the secret key; {REFUSED}")
    );
}

#[test]
fn another_key_is_never_enabled_disabled_or_destroyed() {
    for want in [Want::Active, Want::Deactivated, Want::Destroyed] {
        let wanted = secret(want);
        let mut there = found(&wanted, &[(SECRET, &[Usage::Encrypt])]);
        there.fingerprint = Some(Fingerprint {
            method: FingerprintMethod::DigestKey,
            value: Digest([2; 32]),
        });
        assert_eq!(
            effects(&wanted, &there, Strategy::Flags),
            Err(Obstacle::WrongKey)
        );
        assert!(!met(&wanted, &there, Strategy::Flags));
    }
}

#[test]
fn without_a_fingerprint_only_our_own_names_are_restricted() {
    let without = |mut there: Found| {
        there.fingerprint = None;
        there
    };
    let active = secret(Want::Active);
    let there = without(found(&active, &[(SECRET, &[])]));
    assert!(matches!(
        effects(&active, &there, Strategy::Flags),
        Err(Obstacle::Unproved { .. })
    ));
    let disabled = secret(Want::Deactivated);
    let there = without(found(&disabled, &[(SECRET, &[Usage::Encrypt])]));
    assert_eq!(
        told(&disabled, &there),
        format!("disable the secret key; {REFUSED}")
    );
    for want in [Want::Deactivated, Want::Destroyed] {
        let mut adopted = secret(want);
        adopted.object.cka_id = vec![9];
        let there = without(found(&adopted, &[(SECRET, &[Usage::Encrypt])]));
        assert!(matches!(
            effects(&adopted, &there, Strategy::Flags),
            Err(Obstacle::Unproved { .. })
        ));
    }
}

#[test]
fn values_of_another_method_prove_nothing() {
    let wanted = secret(Want::Active);
    let mut there = found(&wanted, &[(SECRET, &[])]);
    there.fingerprint = Some(Fingerprint {
        method: FingerprintMethod::Spki,
        value: wanted.fingerprint.value,
    });
    assert!(matches!(
        effects(&wanted, &there, Strategy::Flags),
        Err(Obstacle::Unproved { .. })
    ));
}

#[test]
fn duplicates_are_an_error_for_activation_and_restricted_all_the_same() {
    let two: [(ObjectClass, &[Usage]); 2] = [(SECRET, &[]), (SECRET, &[Usage::Encrypt])];
    let telling = "no: more than one secret key has its CKA_ID";
    check(&secret(Want::Active), &two, &[telling]);
    check(
        &secret(Want::Deactivated),
        &two,
        &["disable the secret key"],
    );
    let still: [(ObjectClass, &[Usage]); 2] = [(SECRET, &[]), (SECRET, &[])];
    check(&secret(Want::Deactivated), &still, &[telling]);
    check(&secret(Want::Destroyed), &two, &["destroy the secret key"]);
}

#[test]
fn half_a_pair_is_restricted_destroyed_and_installed_anew() {
    check(
        &pair(Want::Active),
        &[(PUBLIC, &[Usage::Verify])],
        &[
            "destroy the public key",
            INSTALL,
            "enable the public key for verify",
            "enable the private key for sign",
            WORKS,
        ],
    );
    check(
        &pair(Want::Deactivated),
        &[(PRIVATE, &[Usage::Sign])],
        &[
            "disable the private key",
            "destroy the private key",
            INSTALL,
            REFUSED,
        ],
    );
    check(
        &pair(Want::Destroyed),
        &[(PUBLIC, &[])],
        &["destroy the public key"],
    );
}

#[test]
fn foreign_classes_are_told_and_left_alone() {
    let telling = "no: a public key that is not part of this key has its CKA_ID";
    check(
        &secret(Want::Active),
        &[(SECRET, &[]), (PUBLIC, &[])],
        &[telling],
    );
    check(&secret(Want::Destroyed), &[(PUBLIC, &[])], &[telling]);
    check(
        &secret(Want::Destroyed),
        &[(SECRET, &[]), (PUBLIC, &[])],
        &["destroy the secret key"],
    );
}

#[test]
fn a_taken_label_stops_an_install_and_nothing_else() {
    let wanted = secret(Want::Active);
    let mut there = Found::default();
    there.same_label.push(object(SECRET, &[]));
    assert_eq!(
        effects(&wanted, &there, Strategy::Flags),
        Err(Obstacle::LabelTaken(SECRET))
    );
    let wanted = pair(Want::Deactivated);
    let mut there = found(&wanted, &[(PRIVATE, &[Usage::Sign])]);
    there.same_label.push(object(PUBLIC, &[]));
    assert_eq!(told(&wanted, &there), "disable the private key");
}

#[test]
fn ids_that_would_match_anything_are_refused() {
    for id in [Vec::new(), vec![0; 65]] {
        let mut wanted = secret(Want::Destroyed);
        wanted.object.cka_id = id;
        assert_eq!(
            effects(&wanted, &Found::default(), Strategy::Flags),
            Err(Obstacle::BadId)
        );
    }
}

/// Carrying out the steps on a small token always ends where nothing but the proof is left.
#[test]
fn steps_lead_to_what_is_wanted_from_anything_of_ours() {
    let usages: [&[Usage]; 3] = [&[], &[Usage::Sign], &[Usage::Verify, Usage::Derive]];
    for want in [Want::Active, Want::Deactivated, Want::Destroyed] {
        for there in 0..4_u8 {
            for usage in usages {
                let wanted = pair(want);
                let mut objects: Vec<(ObjectClass, &[Usage])> = Vec::new();
                if there & 1 == 1 {
                    objects.push((PRIVATE, usage));
                }
                if there & 2 == 2 {
                    objects.push((PUBLIC, usage));
                }
                for strategy in Strategy::ALL {
                    let mut token = found(&wanted, &objects);
                    let steps = effects(&wanted, &token, strategy).unwrap();
                    apply(&wanted, &steps, &mut token);
                    assert!(
                        met(&wanted, &token, strategy),
                        "{want:?} by {strategy:?} from {objects:?}: {steps:?}"
                    );
                    let enables = |step: &Step| match step {
                        Step::SetUsage { usage, .. } | Step::Replace { usage, .. } => {
                            !usage.is_empty()
                        }
                        Step::InstallEnabled => true,
                        Step::Install
                        | Step::Withdraw { .. }
                        | Step::SetLabel { .. }
                        | Step::Destroy { .. }
                        | Step::ProveEnabled
                        | Step::ProveDisabled => false,
                    };
                    let enabled = steps.iter().any(enables);
                    assert!(want == Want::Active || !enabled, "{want:?}: {steps:?}");
                }
            }
        }
    }
}

fn apply(intent: &Intent, steps: &[Step], token: &mut Found) {
    for step in steps {
        match step {
            Step::Install | Step::InstallEnabled => {
                assert!(token.objects.is_empty(), "installed over something");
                token.fingerprint = Some(intent.fingerprint);
                for &class in intent.object.spec.class().objects() {
                    token.objects.push(object(class, &[]));
                }
                if *step == Step::InstallEnabled {
                    for one in &mut token.objects {
                        one.usage = intent.object.usage_under(Want::Active, one.class);
                    }
                }
            }
            Step::Replace { class, usage } => {
                let first = token.objects.iter().find(|o| o.class == *class).cloned();
                let mut first = first.expect("replaced nothing");
                first.usage = *usage;
                token.objects.retain(|o| o.class != *class);
                token.objects.push(first);
            }
            Step::SetUsage { class, usage } => {
                for found in token.objects.iter_mut().filter(|o| o.class == *class) {
                    found.usage = *usage;
                }
            }
            Step::SetLabel { .. } | Step::ProveEnabled | Step::ProveDisabled => {}
            Step::Destroy { class } | Step::Withdraw { class } => {
                token.objects.retain(|o| o.class != *class)
            }
        }
    }
}

#[test]
fn each_strategy_has_its_own_steps() {
    let by = |strategy, want, objects: &[(ObjectClass, &[Usage])]| {
        let wanted = secret(want);
        let there = found(&wanted, objects);
        let steps = effects(&wanted, &there, strategy).unwrap();
        let words: Vec<String> = steps.iter().map(Step::describe).collect();
        words.join("; ")
    };
    let on: &[(ObjectClass, &[Usage])] = &[(SECRET, &[Usage::Encrypt, Usage::Decrypt])];
    let off: &[(ObjectClass, &[Usage])] = &[(SECRET, &[])];
    let check = |strategy, want, objects, expected: &str| {
        assert_eq!(
            by(strategy, want, objects),
            expected,
            "{strategy:?} {want:?}"
        );
    };
    let copied =
        "put a disabled copy in the place of the secret key; try the key: the token must refuse";
    check(Strategy::Copy, Want::Deactivated, on, copied);
    let copied = "put a copy enabled for encrypt,decrypt in the place of the secret key; try the key: it must work";
    check(Strategy::Copy, Want::Active, off, copied);
    let withdrawn = "withdraw the secret key (the repository keeps it)";
    check(Strategy::Withdraw, Want::Deactivated, on, withdrawn);
    check(Strategy::Withdraw, Want::Deactivated, off, withdrawn);
    check(Strategy::Withdraw, Want::Deactivated, &[], "");
    let brought =
        "check the key as a session object, then install it, enabled; try the key: it must work";
    check(Strategy::Withdraw, Want::Active, &[], brought);
    check(
        Strategy::Withdraw,
        Want::Active,
        on,
        "try the key: it must work",
    );
    check(
        Strategy::Withdraw,
        Want::Active,
        off,
        &format!("{withdrawn}; {brought}"),
    );
    check(
        Strategy::Withdraw,
        Want::Destroyed,
        on,
        "destroy the secret key",
    );
}

#[test]
fn two_objects_of_one_key_become_one_by_copy_only() {
    let wanted = secret(Want::Deactivated);
    let mut there = found(&wanted, &[(SECRET, &[Usage::Encrypt]), (SECRET, &[])]);
    there.fingerprint = None;
    let steps = effects(&wanted, &there, Strategy::Copy).unwrap();
    let replace = Step::Replace {
        class: SECRET,
        usage: UsageSet::NONE,
    };
    assert_eq!(steps, [replace, Step::ProveDisabled]);
    let mut adopted = wanted;
    adopted.object.cka_id = vec![1, 2, 3];
    there
        .objects
        .iter_mut()
        .for_each(|one| one.cka_id = vec![1, 2, 3]);
    assert!(effects(&adopted, &there, Strategy::Copy).is_err());
}
