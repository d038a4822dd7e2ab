use uuid::Uuid;

use crate::decide::found::*;
use crate::model::ids::Digest;
use crate::model::observed::{Fingerprint, FingerprintMethod};

fn object(class: ObjectClass, key_type: u64, usage: &[Usage]) -> ObjectFacts {
    ObjectFacts {
        handle: 1,
        class,
        key_type: Some(key_type),
        cka_id: vec![7],
        label: "found".to_owned(),
        usage: UsageSet::of(usage),
        sensitive: (class != ObjectClass::Public).then_some(true),
        extractable: (class != ObjectClass::Public).then_some(false),
        modifiable: Some(true),
        copyable: Some(true),
        bits: Some(256),
        public_digest: (class == ObjectClass::Public).then_some(Digest([5; 32])),
        fingerprint: None,
    }
}

fn secret() -> ObjectFacts {
    let usage = [Usage::Encrypt, Usage::Decrypt];
    object(ObjectClass::Secret, CKK_AES, &usage)
}

fn pair() -> Vec<ObjectFacts> {
    vec![
        object(ObjectClass::Public, CKK_EC, &[Usage::Verify]),
        object(ObjectClass::Private, CKK_EC, &[Usage::Sign]),
    ]
}

/// `label id classes: kind or why not`, one a key.
fn told(objects: &[ObjectFacts]) -> Vec<String> {
    let line = |key: &FoundKey| {
        let classes: Vec<&str> = key.objects.iter().map(|o| o.class.name()).collect();
        let kind = match key.adoptable() {
            Ok(spec) => spec.to_string(),
            Err(why) => why.code().to_owned(),
        };
        let id = crate::model::text::hex(&key.cka_id);
        format!("{} {id} {}: {kind}", key.label, classes.join("+"))
    };
    found_keys(objects).iter().map(line).collect()
}

#[test]
fn halves_of_one_id_are_one_key() {
    let mut objects = pair();
    objects.push(ObjectFacts {
        cka_id: vec![1, 2],
        label: "another".to_owned(),
        ..secret()
    });
    let expected = [
        "another 0102 secret key: AES-256",
        "found 07 private key+public key: EC-256",
    ];
    assert_eq!(told(&objects), expected);
    assert_eq!(told(&[]), Vec::<String>::new());
}

#[test]
fn what_cannot_be_adopted_says_why() {
    let change = |change: fn(&mut ObjectFacts)| {
        let mut facts = secret();
        change(&mut facts);
        told(&[facts]).remove(0)
    };
    let check = |told: String, expected: &str| assert!(told.ends_with(expected), "{told}");
    check(change(|o| o.cka_id.clear()), ": unusable_cka_id");
    check(change(|o| o.cka_id = vec![1; 65]), ": unusable_cka_id");
    check(change(|o| o.label = "x".repeat(1025)), ": unusable_label");
    check(change(|o| o.key_type = None), ": unknown_key_type");
    check(change(|o| o.key_type = Some(0x2b)), ": unknown_key_type");
    check(change(|o| o.bits = None), ": unknown_key_type");
    check(change(|o| o.bits = Some(64)), ": unknown_key_type");
    check(
        change(|o| o.usage = o.usage.with(Usage::SignRecover)),
        ": uneven_usage",
    );
    let fixed = |o: &mut ObjectFacts| o.modifiable = Some(false);
    check(change(fixed), ": AES-256");
    let stuck = |o: &mut ObjectFacts| (o.modifiable, o.copyable) = (Some(false), Some(false));
    check(change(stuck), ": not_modifiable");
    check(change(|o| o.copyable = Some(false)), ": AES-256");
    check(
        change(|o| (o.modifiable, o.copyable) = (None, None)),
        ": AES-256",
    );
    // DES3 has one size.
    let des = |o: &mut ObjectFacts| (o.key_type, o.bits) = (Some(CKK_DES3), None);
    check(change(des), ": DES-192");
    check(told(&[secret(), secret()]).remove(0), ": duplicated_cka_id");
    let [public, private] = <[ObjectFacts; 2]>::try_from(pair()).unwrap();
    check(told(std::slice::from_ref(&public)).remove(0), ": half_pair");
    check(
        told(std::slice::from_ref(&private)).remove(0),
        ": half_pair",
    );
    let mixed = [secret(), public.clone(), private.clone()];
    check(told(&mixed).remove(0), ": duplicated_cka_id");
    let renamed = ObjectFacts {
        label: "other".to_owned(),
        ..public.clone()
    };
    check(
        told(&[renamed, private.clone()]).remove(0),
        ": labels_differ",
    );
    let derives = ObjectFacts {
        usage: UsageSet::of(&[Usage::Sign, Usage::Derive]),
        ..private
    };
    check(told(&[derives, public]).remove(0), ": uneven_usage");
}

#[test]
fn without_an_id_each_label_is_a_key() {
    let nameless = |label: &str| ObjectFacts {
        cka_id: Vec::new(),
        label: label.to_owned(),
        ..secret()
    };
    let objects = [nameless("b"), nameless("a"), nameless("b")];
    let expected = [
        "a  secret key: unusable_cka_id",
        "b  secret key+secret key: unusable_cka_id",
    ];
    assert_eq!(told(&objects), expected);
}

#[test]
fn weak_keys_carry_findings() {
    let check = |usage: &[Usage], sensitive, extractable, expected: &[&str]| {
        let facts = ObjectFacts {
            usage: UsageSet::of(usage),
            sensitive,
            extractable,
            ..secret()
        };
        let key = FoundKey::of(vec![facts]).unwrap();
        let names: Vec<&str> = key.findings().into_iter().map(KeyFinding::name).collect();
        assert_eq!(names, expected);
    };
    let (yes, no) = (Some(true), Some(false));
    check(&[Usage::Encrypt, Usage::Decrypt], yes, no, &[]);
    check(
        &[Usage::Wrap, Usage::Decrypt, Usage::Sign],
        yes,
        no,
        &["wrap_and_decrypt", "sign_and_decrypt"],
    );
    check(&[], no, yes, &["not_sensitive", "extractable"]);
    // What is not told is not claimed.
    check(&[], None, None, &["not_sensitive", "extractable"]);
    // A public half hides nothing, and both halves count together.
    let mut pair = pair();
    for facts in &mut pair {
        let clash = [Usage::Wrap, Usage::Decrypt, Usage::Sign];
        facts.usage = UsageSet::of(&clash).for_class(facts.class);
    }
    let names = FoundKey::of(pair).unwrap().findings();
    let expected = [KeyFinding::WrapAndDecrypt, KeyFinding::SignAndDecrypt];
    assert_eq!(names, expected);
}

fn keystore() -> KeystoreId {
    KeystoreId::from_uuid(Uuid::from_u128(1))
}

fn looked(objects: Vec<ObjectFacts>, fingerprint: Option<Fingerprint>) -> Found {
    Found {
        objects,
        fingerprint,
        same_label: Vec::new(),
        fingerprint_failure: Some("C_DigestKey: CKR_KEY_INDIGESTIBLE".to_owned()),
    }
}

const fn print(method: FingerprintMethod, byte: u8) -> Option<Fingerprint> {
    Some(Fingerprint {
        method,
        value: Digest([byte; 32]),
    })
}

#[test]
fn a_record_says_what_was_found() {
    let made = |found| record(keystore(), found, vec![3; 32], UnixMs(4));
    let spki = |byte| print(FingerprintMethod::Spki, byte);
    let good = made(looked(pair(), spki(5))).unwrap();
    assert_eq!(good.usage, UsageSet::of(&[Usage::Sign, Usage::Verify]));
    assert_eq!((good.cka_id, good.label.as_str()), (vec![7], "found"));
    assert!(good.sensitive && !good.extractable);
    let code = |found| made(found).unwrap_err().code();
    assert_eq!(code(looked(pair(), spki(6))), "halves_differ");
    assert_eq!(code(looked(pair(), None)), "no_fingerprint");
    assert_eq!(code(looked(Vec::new(), None)), "unknown_key_type");
    let why = made(looked(vec![secret()], None)).unwrap_err().to_string();
    assert!(why.contains("CKR_KEY_INDIGESTIBLE"), "{why}");
}

#[test]
fn patterns() {
    for (pattern, fits) in [
        ("card-1", true),
        ("card", false),
        ("card*", true),
        ("*", true),
        ("*1", true),
        ("c*d*1", true),
        ("c*x*1", false),
        ("card-1*", true),
        ("*card-1-*", false),
        ("", false),
    ] {
        assert_eq!(fits_pattern("card-1", pattern), fits, "{pattern}");
    }
}
