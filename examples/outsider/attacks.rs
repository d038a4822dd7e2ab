//! The attacks on PKCS#11's API that are known by name (threats.md 6), played by somebody who has the PIN: wrap and decrypt,
//! unwrap as readable, copy with more usage, and what is left.

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use crate::args::{At, Class, Hex, Kind, Usage, hex};
use crate::objects::{class_of, one, print_hex};

#[derive(Subcommand)]
pub(crate) enum Attack {
    /// A copy on the token with these usages on, under another id if one is given.
    Copy {
        #[command(flatten)]
        at: At,
        #[arg(long, value_delimiter = ',')]
        on: Vec<Usage>,
        #[arg(long, value_parser = hex)]
        to: Option<Hex>,
    },
    /// Wraps a key of the token under another one of it, as that is.
    Wrap {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        by: By,
    },
    /// Wraps a key of the token under a copy of a public half, made here with the usage that the original lacks.
    WrapUnderPublic {
        #[command(flatten)]
        at: At,
        #[command(flatten)]
        by: By,
    },
    /// Wraps a key of a known value under a pair's public half, and decrypts with the private one.
    WrapAndDecrypt(At),
    /// Decrypts with a key as it is: AES by ECB, RSA by OAEP.
    Decrypt {
        #[command(flatten)]
        at: At,
        #[arg(long, value_parser = hex)]
        data: Hex,
    },
    /// Unwraps a blob to a key that everybody can read, and prints it.
    UnwrapReadable {
        #[command(flatten)]
        at: At,
        #[arg(long, default_value = "aes")]
        kind: Kind,
        #[arg(long, value_parser = hex)]
        blob: Hex,
    },
    /// Wraps an AES key for a pair's public half, and unwraps it to one that everybody can read.
    UnwrapReadableByPair(At),
    /// Takes an envelope's way (an AES key by RSA-OAEP, a key under that), and unwraps the inner key as readable.
    OpenEnvelope(At),
    /// Sets CKA_SENSITIVE to false, or CKA_EXTRACTABLE to true.
    Expose {
        #[command(flatten)]
        at: At,
        #[arg(long)]
        extractable: bool,
    },
}

/// The key that wraps.
#[derive(Args)]
pub(crate) struct By {
    #[arg(long, value_parser = hex)]
    by: Hex,
    #[arg(long, default_value = "secret")]
    by_class: Class,
}

pub(crate) fn attack(session: &Session, attack: &Attack) -> anyhow::Result<()> {
    match attack {
        Attack::Copy { at, on, to } => copy(session, at, on, to.as_ref()),
        Attack::Wrap { at, by } => {
            let wrapping = one(session, &by.at(), &[by.by_class])?;
            let mechanism = wrapping_with(by.by_class);
            print_hex(&session.wrap_key(&mechanism, wrapping, hidden(session, at)?)?);
            Ok(())
        }
        Attack::WrapUnderPublic { at, by } => {
            let wrapping = import_public(session, &by.at())?;
            print_hex(&session.wrap_key(&oaep(), wrapping, hidden(session, at)?)?);
            Ok(())
        }
        Attack::WrapAndDecrypt(at) => {
            let public = import_public(session, at)?;
            let wrapped = session.wrap_key(&oaep(), public, known_key(session, true)?)?;
            let private = one(session, at, &[Class::Private])?;
            print_hex(&session.decrypt(&oaep(), private, &wrapped)?);
            Ok(())
        }
        Attack::Decrypt { at, data } => {
            let key = hidden(session, at)?;
            let mechanism = match at.class {
                Some(Class::Private) => oaep(),
                Some(Class::Secret | Class::Public) | None => Mechanism::AesEcb,
            };
            print_hex(&session.decrypt(&mechanism, key, &data.0)?);
            Ok(())
        }
        Attack::UnwrapReadable { at, kind, blob } => {
            let key = one(session, at, &[Class::Secret])?;
            unwrap_readable(session, &Mechanism::AesKeyWrapPad, key, *kind, &blob.0)
        }
        Attack::UnwrapReadableByPair(at) => {
            let public = import_public(session, at)?;
            let wrapped = session.wrap_key(&oaep(), public, known_key(session, true)?)?;
            let private = one(session, at, &[Class::Private])?;
            unwrap_readable(session, &oaep(), private, Kind::Aes, &wrapped)
        }
        Attack::OpenEnvelope(at) => open_envelope(session, at),
        Attack::Expose { at, extractable } => {
            let change = if *extractable {
                Attribute::Extractable(true)
            } else {
                Attribute::Sensitive(false)
            };
            Ok(session.update_attributes(hidden(session, at)?, &[change])?)
        }
    }
}

impl By {
    fn at(&self) -> At {
        At {
            id: self.by.clone(),
            class: Some(self.by_class),
        }
    }
}

/// The secret or private key of that id.
fn hidden(session: &Session, at: &At) -> anyhow::Result<ObjectHandle> {
    match at.class {
        Some(class) => one(session, at, &[class]),
        None => one(session, at, &[Class::Secret, Class::Private]),
    }
}

fn copy(session: &Session, at: &At, on: &[Usage], to: Option<&Hex>) -> anyhow::Result<()> {
    let mut template = vec![Attribute::Token(true)];
    template.extend(on.iter().map(|usage| usage.attribute(true)));
    template.extend(to.map(|id| Attribute::Id(id.0.clone())));
    let _copy = session.copy_object(hidden(session, at)?, &template)?;
    Ok(())
}

fn wrapping_with(class: Class) -> Mechanism<'static> {
    match class {
        Class::Secret | Class::Private => Mechanism::AesKeyWrapPad,
        Class::Public => oaep(),
    }
}

/// What every token takes, and SoftHSM2 alone.
fn oaep() -> Mechanism<'static> {
    Mechanism::RsaPkcsOaep(PkcsOaepParams::new(
        MechanismType::SHA1,
        PkcsMgfType::MGF1_SHA1,
        PkcsOaepSource::empty(),
    ))
}

/// The public half of an RSA pair once more, as a session object that may wrap.
fn import_public(session: &Session, at: &At) -> anyhow::Result<ObjectHandle> {
    let public = one(session, at, &[Class::Public])?;
    let numbers = [AttributeType::Modulus, AttributeType::PublicExponent];
    let mut template = session.get_attributes(public, &numbers)?;
    if template.len() != numbers.len() {
        bail!("the public half does not tell its numbers");
    }
    template.extend([
        Attribute::Class(ObjectClass::PUBLIC_KEY),
        Attribute::KeyType(KeyType::RSA),
        Attribute::Token(false),
        Attribute::Wrap(true),
    ]);
    Ok(session.create_object(&template)?)
}

const KNOWN: [u8; 32] = [0x5a; 32];

/// An AES key of a known value, as a session object.
fn known_key(session: &Session, extractable: bool) -> anyhow::Result<ObjectHandle> {
    Ok(session.create_object(&[
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(false),
        Attribute::Extractable(extractable),
        Attribute::Wrap(true),
        Attribute::Value(KNOWN.to_vec()),
    ])?)
}

fn unwrap_readable(
    session: &Session,
    mechanism: &Mechanism<'_>,
    by: ObjectHandle,
    kind: Kind,
    wrapped: &[u8],
) -> anyhow::Result<()> {
    let (class, key_type, value) = match kind {
        Kind::Aes => (Class::Secret, KeyType::AES, AttributeType::Value),
        Kind::Hmac => (Class::Secret, KeyType::GENERIC_SECRET, AttributeType::Value),
        Kind::Ec => (Class::Private, KeyType::EC, AttributeType::Value),
        Kind::Rsa => (Class::Private, KeyType::RSA, AttributeType::PrivateExponent),
    };
    let readable = [
        Attribute::Class(class_of(class)),
        Attribute::KeyType(key_type),
        Attribute::Token(false),
        Attribute::Sensitive(false),
        Attribute::Extractable(true),
    ];
    let key = session.unwrap_key(mechanism, by, wrapped, &readable)?;
    print_value(session, key, value)
}

fn print_value(session: &Session, key: ObjectHandle, value: AttributeType) -> anyhow::Result<()> {
    match session.get_attributes(key, &[value])?.as_slice() {
        [Attribute::Value(bytes) | Attribute::PrivateExponent(bytes)] => print_hex(bytes),
        _ => bail!("it is not readable after all"),
    }
    Ok(())
}

/// As an agent opens what another one sent, but for the last template.
fn open_envelope(session: &Session, at: &At) -> anyhow::Result<()> {
    let outer = known_key(session, true)?;
    let inner = known_key(session, true)?;
    let wrapped_outer = session.wrap_key(&oaep(), import_public(session, at)?, outer)?;
    let wrapped_inner = session.wrap_key(&Mechanism::AesKeyWrapPad, outer, inner)?;
    let private = one(session, at, &[Class::Private])?;
    let opened = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(false),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Unwrap(true),
    ];
    let opened = session
        .unwrap_key(&oaep(), private, &wrapped_outer, &opened)
        .context("the outer key")?;
    let by = &Mechanism::AesKeyWrapPad;
    unwrap_readable(session, by, opened, Kind::Aes, &wrapped_inner)
}
