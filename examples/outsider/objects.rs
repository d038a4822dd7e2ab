//! Finding keys on a token, changing them, and making others that look the same.

use anyhow::{Context as _, bail};
use clap::ValueEnum as _;
use cryptoki::error::{Error as TokenError, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use crate::args::{At, Class, Guard, Kind, Usage};

/// No object has the id.
#[derive(Debug, thiserror::Error)]
#[error("no such object")]
pub(crate) struct NoObject;

pub(crate) fn class_of(class: Class) -> ObjectClass {
    match class {
        Class::Secret => ObjectClass::SECRET_KEY,
        Class::Private => ObjectClass::PRIVATE_KEY,
        Class::Public => ObjectClass::PUBLIC_KEY,
    }
}

pub(crate) fn found(session: &Session, at: &At) -> anyhow::Result<Vec<ObjectHandle>> {
    let classes = [Class::Secret, Class::Private, Class::Public];
    let mut objects = Vec::new();
    for class in classes {
        if at.class.is_none_or(|only| only == class) {
            objects.extend(session.find_objects(&[
                Attribute::Token(true),
                Attribute::Class(class_of(class)),
                Attribute::Id(at.id.0.clone()),
            ])?);
        }
    }
    if objects.is_empty() {
        bail!(NoObject);
    }
    Ok(objects)
}

pub(crate) fn one(session: &Session, at: &At, classes: &[Class]) -> anyhow::Result<ObjectHandle> {
    for &class in classes {
        let template = [
            Attribute::Token(true),
            Attribute::Class(class_of(class)),
            Attribute::Id(at.id.0.clone()),
        ];
        if let Some(object) = session.find_objects(&template)?.first() {
            return Ok(*object);
        }
    }
    bail!(NoObject)
}

pub(crate) fn key_type(session: &Session, key: ObjectHandle) -> anyhow::Result<KeyType> {
    session
        .get_attributes(key, &[AttributeType::KeyType])?
        .into_iter()
        .find_map(|attribute| match attribute {
            Attribute::KeyType(key_type) => Some(key_type),
            _other => None,
        })
        .context("no CKA_KEY_TYPE")
}

pub(crate) fn signing(session: &Session, key: ObjectHandle) -> anyhow::Result<Mechanism<'static>> {
    match key_type(session, key)? {
        KeyType::GENERIC_SECRET => Ok(Mechanism::Sha256Hmac),
        KeyType::EC => Ok(Mechanism::Ecdsa),
        KeyType::RSA => Ok(Mechanism::Sha256RsaPkcs),
        other => bail!("no way to sign with {other}"),
    }
}

pub(crate) fn set_usage(
    session: &Session,
    at: &At,
    on: &[Usage],
    off: &[Usage],
) -> anyhow::Result<()> {
    let on = on.iter().map(|usage| usage.attribute(true));
    let off = off.iter().map(|usage| usage.attribute(false));
    let template: Vec<Attribute> = on.chain(off).collect();
    if template.is_empty() || at.class.is_none() {
        bail!("set-usage needs --class, and --on or --off");
    }
    set_all(session, at, &template)
}

pub(crate) fn set_all(session: &Session, at: &At, template: &[Attribute]) -> anyhow::Result<()> {
    for object in found(session, at)? {
        session.update_attributes(object, template)?;
    }
    Ok(())
}

/// What a copy must have to look the same.
pub(crate) const LOOKS: [AttributeType; 16] = [
    AttributeType::Class,
    AttributeType::KeyType,
    AttributeType::Label,
    AttributeType::Id,
    AttributeType::Encrypt,
    AttributeType::Decrypt,
    AttributeType::Sign,
    AttributeType::SignRecover,
    AttributeType::Verify,
    AttributeType::VerifyRecover,
    AttributeType::Wrap,
    AttributeType::Unwrap,
    AttributeType::Derive,
    AttributeType::Private,
    AttributeType::Sensitive,
    AttributeType::Extractable,
];

pub(crate) fn looks(session: &Session, object: ObjectHandle) -> anyhow::Result<Vec<Attribute>> {
    let mut looks = session.get_attributes(object, &LOOKS)?;
    looks.push(Attribute::Token(true));
    Ok(looks)
}

pub(crate) fn swap(session: &Session, at: &At) -> anyhow::Result<()> {
    let old = found(session, at)?;
    let made = make_alike(session, &old);
    for object in old {
        session.destroy_object(object)?;
    }
    made
}

pub(crate) fn duplicate(session: &Session, at: &At) -> anyhow::Result<()> {
    let old = found(session, at)?;
    for &object in &old {
        match session.copy_object(object, &[Attribute::Token(true)]) {
            Ok(_copy) => println!("copied"),
            // Not copyable: another key will do for a second object of that id and label.
            Err(TokenError::Pkcs11(RvError::ActionProhibited, _)) => {
                make_alike(session, &old)?;
                println!("made another");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Makes another key that looks like these objects of one key.
pub(crate) fn make_alike(session: &Session, objects: &[ObjectHandle]) -> anyhow::Result<()> {
    let looks_of = |class: ObjectClass| -> anyhow::Result<Option<Vec<Attribute>>> {
        for &object in objects {
            let looks = looks(session, object)?;
            if looks.contains(&Attribute::Class(class)) {
                return Ok(Some(looks));
            }
        }
        Ok(None)
    };
    if let Some(mut looks) = looks_of(ObjectClass::SECRET_KEY)? {
        // SoftHSM2 tells a length of 0 for unwrapped keys.
        looks.push(Attribute::ValueLen(32.into()));
        let generic = looks.contains(&Attribute::KeyType(KeyType::GENERIC_SECRET));
        let mechanism = if generic {
            Mechanism::GenericSecretKeyGen
        } else {
            Mechanism::AesKeyGen
        };
        session.generate_key(&mechanism, &looks)?;
        return Ok(());
    }
    let (Some(private), Some(mut public)) = (
        looks_of(ObjectClass::PRIVATE_KEY)?,
        looks_of(ObjectClass::PUBLIC_KEY)?,
    ) else {
        bail!("half a pair cannot be made again");
    };
    let kind = if public.contains(&Attribute::KeyType(KeyType::EC)) {
        Kind::Ec
    } else {
        Kind::Rsa
    };
    public.retain(|attribute| {
        !matches!(
            attribute,
            Attribute::Sensitive(_) | Attribute::Extractable(_)
        )
    });
    let (mechanism, size) = pair(kind);
    public.extend(size);
    session.generate_key_pair(&mechanism, &public, &private)?;
    Ok(())
}

pub(crate) fn pair(kind: Kind) -> (Mechanism<'static>, Vec<Attribute>) {
    match kind {
        // The object identifier of P-256 in DER.
        Kind::Ec | Kind::Aes | Kind::Hmac => (
            Mechanism::EccKeyPairGen,
            vec![Attribute::EcParams(
                b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07".to_vec(),
            )],
        ),
        Kind::Rsa => (
            Mechanism::RsaPkcsKeyPairGen,
            vec![
                Attribute::ModulusBits(2048.into()),
                Attribute::PublicExponent(vec![1, 0, 1]),
            ],
        ),
    }
}

const OF_SECRET: [Usage; 7] = [
    Usage::Encrypt,
    Usage::Decrypt,
    Usage::Sign,
    Usage::Verify,
    Usage::Wrap,
    Usage::Unwrap,
    Usage::Derive,
];
const OF_PRIVATE: [Usage; 5] = [
    Usage::Decrypt,
    Usage::Sign,
    Usage::SignRecover,
    Usage::Unwrap,
    Usage::Derive,
];
const OF_PUBLIC: [Usage; 5] = [
    Usage::Encrypt,
    Usage::Verify,
    Usage::VerifyRecover,
    Usage::Wrap,
    Usage::Derive,
];

pub(crate) fn generate(
    session: &Session,
    kind: Kind,
    id: &[u8],
    label: &[u8],
    guard: &Guard,
) -> anyhow::Result<()> {
    // Tokens turn on what is not named.
    let named = |of_class: &[Usage], on: &[Usage]| {
        let mut template = vec![
            Attribute::Token(true),
            Attribute::Id(id.to_vec()),
            Attribute::Label(label.to_vec()),
        ];
        let usage = |usage: &Usage| usage.attribute(on.contains(usage));
        template.extend(of_class.iter().map(usage));
        template
    };
    let guarded = |of_class: &[Usage], on: &[Usage], more: &[Attribute]| {
        let mut template = named(of_class, on);
        template.extend([
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(guard.extractable),
        ]);
        template.extend_from_slice(more);
        if guard.uncopyable {
            template.push(Attribute::Copyable(false));
        }
        // SoftHSM2 lets nothing follow it.
        if guard.fixed {
            template.push(Attribute::Modifiable(false));
        }
        template
    };
    let length = [Attribute::ValueLen(32.into())];
    match kind {
        Kind::Aes => {
            let template = guarded(&OF_SECRET, &[Usage::Encrypt, Usage::Decrypt], &length);
            session.generate_key(&Mechanism::AesKeyGen, &template)?;
        }
        Kind::Hmac => {
            let template = guarded(&OF_SECRET, &[Usage::Sign, Usage::Verify], &length);
            session.generate_key(&Mechanism::GenericSecretKeyGen, &template)?;
        }
        Kind::Ec | Kind::Rsa => {
            let (mechanism, size) = pair(kind);
            let mut public = named(&OF_PUBLIC, &[Usage::Verify]);
            public.extend(size);
            let private = guarded(&OF_PRIVATE, &[Usage::Sign], &[]);
            session.generate_key_pair(&mechanism, &public, &private)?;
        }
    }
    Ok(())
}

/// Opens a blob as a session object, and wraps that under an AES key of a known value: neither is left behind.
pub(crate) fn reveal(
    session: &Session,
    at: &At,
    kind: Kind,
    blob: &[u8],
    under: &[u8],
) -> anyhow::Result<()> {
    let (class, key_type) = match kind {
        Kind::Aes => (ObjectClass::SECRET_KEY, KeyType::AES),
        Kind::Hmac => (ObjectClass::SECRET_KEY, KeyType::GENERIC_SECRET),
        Kind::Ec => (ObjectClass::PRIVATE_KEY, KeyType::EC),
        Kind::Rsa => (ObjectClass::PRIVATE_KEY, KeyType::RSA),
    };
    let kek = one(session, at, &[Class::Secret])?;
    let opened = [
        Attribute::Class(class),
        Attribute::KeyType(key_type),
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(true),
    ];
    let opened = session.unwrap_key(&Mechanism::AesKeyWrapPad, kek, blob, &opened)?;
    let known = session.create_object(&[
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(false),
        Attribute::Wrap(true),
        Attribute::Value(under.to_vec()),
    ])?;
    print_hex(&session.wrap_key(&Mechanism::AesKeyWrapPad, known, opened)?);
    Ok(())
}

pub(crate) fn list(session: &Session) -> anyhow::Result<()> {
    let classes = [
        ("secret", Class::Secret),
        ("private", Class::Private),
        ("public", Class::Public),
    ];
    for (name, class) in classes {
        let template = [Attribute::Token(true), Attribute::Class(class_of(class))];
        for object in session.find_objects(&template)? {
            let words: Vec<String> = session
                .get_attributes(object, &LOOKS)?
                .iter()
                .filter_map(word)
                .collect();
            println!("{name} {}", words.join(" "));
        }
    }
    Ok(())
}

/// What of an attribute is worth showing: text, and flags that are on.
pub(crate) fn word(attribute: &Attribute) -> Option<String> {
    match attribute {
        Attribute::KeyType(key_type) => Some(format!("type={key_type}")),
        Attribute::Label(label) => Some(format!("label={:?}", String::from_utf8_lossy(label))),
        Attribute::Id(id) => Some(format!("id={}", to_hex(id))),
        Attribute::Sensitive(true) => Some("sensitive".to_owned()),
        Attribute::Extractable(true) => Some("extractable".to_owned()),
        other => Usage::value_variants()
            .iter()
            .find(|usage| usage.attribute(true) == *other)
            .and_then(|usage| usage.to_possible_value())
            .map(|value| value.get_name().to_owned()),
    }
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn print_hex(bytes: &[u8]) {
    println!("{}", to_hex(bytes));
}
