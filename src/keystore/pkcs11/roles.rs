//! The templates of all keys that we make, held against the table of threats.md 6: each is a constant of its role, and no caller
//! chooses an attribute.

use std::cell::RefCell;

use cryptoki_sys as sys;

use crate::keystore::pkcs11::kek;
use crate::keystore::pkcs11::mechanism::session_key;
use crate::keystore::pkcs11::prepare::{strictest, transport_role};
use crate::keystore::pkcs11::template::Attribute;
use crate::model::kek::KekNumber;
use crate::model::key::{Algorithm, KeySpec, Usage, UsageSet};
use crate::model::observed::ObjectClass;

const NAMES: [(u64, &str); 16] = [
    (sys::CKA_TOKEN, "token"),
    (sys::CKA_PRIVATE, "private"),
    (sys::CKA_SENSITIVE, "sensitive"),
    (sys::CKA_EXTRACTABLE, "extractable"),
    (sys::CKA_COPYABLE, "copyable"),
    (sys::CKA_MODIFIABLE, "modifiable"),
    (sys::CKA_ENCRYPT, "encrypt"),
    (sys::CKA_DECRYPT, "decrypt"),
    (sys::CKA_SIGN, "sign"),
    (sys::CKA_SIGN_RECOVER, "sign_recover"),
    (sys::CKA_VERIFY, "verify"),
    (sys::CKA_VERIFY_RECOVER, "verify_recover"),
    (sys::CKA_WRAP, "wrap"),
    (sys::CKA_UNWRAP, "unwrap"),
    (sys::CKA_DERIVE, "derive"),
    (sys::CKA_UNWRAP_TEMPLATE, "unwrap_template"),
];

/// Its flags: those that are on, `|`, those that are off; each in the order of [`NAMES`].
fn flags(template: &[Attribute]) -> String {
    let with = |on: bool| {
        let is_it = |kind: u64| {
            let mut of = template.iter().filter(|one| one.kind() == kind);
            let found = of.next().and_then(Attribute::on);
            assert!(of.next().is_none(), "said twice: {template:?}");
            found == Some(on)
        };
        let names = NAMES.iter().filter(|(kind, _)| is_it(*kind));
        names.map(|(_, name)| *name).collect::<Vec<_>>().join(" ")
    };
    format!("{} | {}", with(true), with(false))
}

/// What is given to the token first, before anything is left out that it may not know.
fn first_try(template: Vec<Attribute>, bound: Vec<Attribute>) -> Vec<Attribute> {
    let tried = RefCell::new(Vec::new());
    strictest(template, bound, |template| {
        tried.borrow_mut().push(template.to_vec());
        Ok(())
    })
    .unwrap();
    let tried = tried.into_inner();
    assert_eq!(tried.len(), 1, "what is taken is not asked for again");
    tried.into_iter().next().unwrap()
}

fn bound(template: &[Attribute]) -> String {
    let of = template
        .iter()
        .find(|one| one.kind() == sys::CKA_UNWRAP_TEMPLATE);
    flags(of.unwrap().nested().unwrap())
}

const NO_OTHER_SECRET: &str = "extractable copyable modifiable encrypt decrypt sign verify derive";

#[test]
fn a_wrapping_key_wraps_and_unwraps_hidden_keys_and_nothing_else() {
    for number in [1, 2] {
        let kek = kek::template(KekNumber::from_number(number));
        let kek = first_try(kek, kek::bound());
        let on = "token private sensitive wrap unwrap";
        assert_eq!(flags(&kek), format!("{on} | {NO_OTHER_SECRET}"));
        assert_eq!(bound(&kek), "sensitive | ");
        // SoftHSM2 lets nothing follow it.
        assert_eq!(kek.last().unwrap().kind(), sys::CKA_MODIFIABLE);
    }
}

#[test]
fn a_transport_key_unwraps_hidden_keys_that_stay_and_nothing_else() {
    let role = transport_role();
    let private = first_try(role.private, role.bound);
    assert_eq!(
        flags(&private),
        "token private sensitive unwrap | \
         extractable copyable modifiable decrypt sign sign_recover derive"
    );
    assert_eq!(bound(&private), "sensitive | extractable");
    assert_eq!(
        flags(&role.public),
        "token | private encrypt verify verify_recover wrap derive"
    );
}

#[test]
fn a_session_object_can_do_what_it_is_there_for() {
    let of = |usage: &[Usage], extractable| {
        let usage = UsageSet::of(usage);
        flags(&session_key(
            ObjectClass::Secret,
            sys::CKK_AES,
            usage,
            extractable,
        ))
    };
    // The key of a batch: at its source, and at its target.
    assert_eq!(
        of(&[Usage::Wrap], true),
        "private sensitive extractable wrap | token encrypt decrypt sign verify unwrap derive"
    );
    assert_eq!(
        of(&[Usage::Unwrap], false),
        "private sensitive unwrap | token extractable encrypt decrypt sign verify wrap derive"
    );
    // A key on its way.
    assert_eq!(
        of(&[], true),
        "private sensitive extractable | token encrypt decrypt sign verify wrap unwrap derive"
    );
}

#[test]
fn no_kind_of_key_wraps_and_decrypts_by_default() {
    let clash = |usage: UsageSet| {
        let wraps = usage.has(Usage::Wrap) || usage.has(Usage::Unwrap);
        let works = [
            Usage::Encrypt,
            Usage::Decrypt,
            Usage::Sign,
            Usage::Verify,
            Usage::Derive,
        ];
        wraps && works.iter().any(|usage_of| usage.has(*usage_of))
    };
    let all = [
        (Algorithm::Aes, 256),
        (Algorithm::Des, 192),
        (Algorithm::Hmac, 256),
        (Algorithm::Ec, 256),
        (Algorithm::Rsa, 2048),
    ];
    for (algorithm, bits) in all {
        let spec = KeySpec::new(algorithm, bits).unwrap();
        let usage = spec.default_usage();
        assert!(!usage.is_empty() && !clash(usage), "{spec}: {usage:?}");
    }
}
