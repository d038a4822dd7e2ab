//! Which mechanisms and templates keys of each kind take.

use cryptoki_sys as sys;

use crate::keystore::pkcs11::names::{SCRATCH, named};
use crate::keystore::pkcs11::object::{class_number, usage_attributes};
use crate::keystore::pkcs11::spki::Curve;
use crate::keystore::pkcs11::template::{Attribute, Mechanism, Parameter};
use crate::model::key::{Algorithm, KeySpec, UsageSet};
use crate::model::keystore::OaepHash;
use crate::model::observed::ObjectClass;

/// CKA_KEY_TYPE of a kind of key. HMAC keys are generic secrets: not every token has CKK_SHA256_HMAC.
pub(crate) const fn key_type(spec: KeySpec) -> u64 {
    match spec.algorithm() {
        Algorithm::Aes => sys::CKK_AES,
        Algorithm::Des => sys::CKK_DES3,
        Algorithm::Hmac => sys::CKK_GENERIC_SECRET,
        Algorithm::Ec => sys::CKK_EC,
        Algorithm::Rsa => sys::CKK_RSA,
    }
}

/// How such a key is generated.
pub(crate) const fn generation(spec: KeySpec) -> Mechanism {
    Mechanism::plain(match spec.algorithm() {
        Algorithm::Aes => sys::CKM_AES_KEY_GEN,
        Algorithm::Des => sys::CKM_DES3_KEY_GEN,
        Algorithm::Hmac => sys::CKM_GENERIC_SECRET_KEY_GEN,
        Algorithm::Ec => sys::CKM_EC_KEY_PAIR_GEN,
        Algorithm::Rsa => sys::CKM_RSA_PKCS_KEY_PAIR_GEN,
    })
}

/// What C_GenerateKey needs to know of the size. DES3 has only one, and saying it is an error.
pub(crate) fn length(spec: KeySpec) -> Vec<Attribute> {
    match spec.algorithm() {
        Algorithm::Aes | Algorithm::Hmac => vec![Attribute::number(
            sys::CKA_VALUE_LEN,
            u64::from(spec.bits() / 8),
        )],
        Algorithm::Des => Vec::new(),
        Algorithm::Rsa => vec![
            Attribute::number(sys::CKA_MODULUS_BITS, u64::from(spec.bits())),
            Attribute::bytes(sys::CKA_PUBLIC_EXPONENT, [1, 0, 1]),
        ],
        Algorithm::Ec => Curve::of_bits(spec.bits())
            .map(|curve| Attribute::bytes(sys::CKA_EC_PARAMS, curve.parameters()))
            .into_iter()
            .collect(),
    }
}

/// Attributes of a hidden session object; it carries the scratch id, since copies would keep another's.
pub(crate) fn session_key(
    class: ObjectClass,
    key_type: u64,
    usage: UsageSet,
    extractable: bool,
) -> Vec<Attribute> {
    let mut template = vec![
        Attribute::number(sys::CKA_CLASS, class_number(class)),
        Attribute::number(sys::CKA_KEY_TYPE, key_type),
        Attribute::flag(sys::CKA_TOKEN, false),
    ];
    match class {
        ObjectClass::Secret | ObjectClass::Private => template.extend([
            Attribute::flag(sys::CKA_PRIVATE, true),
            Attribute::flag(sys::CKA_SENSITIVE, true),
            Attribute::flag(sys::CKA_EXTRACTABLE, extractable),
        ]),
        ObjectClass::Public => template.push(Attribute::flag(sys::CKA_PRIVATE, false)),
    }
    template.extend(named(SCRATCH));
    template.extend(usage_attributes(class, usage));
    template
}

/// RFC 5649 under the number that this token has for it.
pub(crate) const fn rfc5649(number: u64) -> Mechanism {
    Mechanism::plain(number)
}

/// RSA-OAEP with MGF1 of the same hash.
pub(crate) const fn oaep(hash: OaepHash) -> Mechanism {
    let (hash, mgf) = match hash {
        OaepHash::Sha1 => (sys::CKM_SHA_1, sys::CKG_MGF1_SHA1),
        OaepHash::Sha256 => (sys::CKM_SHA256, sys::CKG_MGF1_SHA256),
    };
    Mechanism {
        kind: sys::CKM_RSA_PKCS_OAEP,
        parameter: Parameter::Oaep { hash, mgf },
    }
}

/// AES-CBC with PKCS#7 padding.
pub(crate) const fn cbc_pad(iv: [u8; 16]) -> Mechanism {
    Mechanism {
        kind: sys::CKM_AES_CBC_PAD,
        parameter: Parameter::Iv(iv),
    }
}
