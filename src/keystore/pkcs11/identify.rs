//! Who the token is: token info, and the marker that says whose it is.

use cryptoki_sys as sys;
use uuid::Uuid;

use crate::keystore::pkcs11::failure::{failure, refused};
use crate::keystore::pkcs11::names::{APPLICATION, MARKER};
use crate::keystore::pkcs11::object::{class_number, find, usage_attributes};
use crate::keystore::pkcs11::prepare::is_about_template;
use crate::keystore::pkcs11::raw::{CallFailed, Handle, Session};
use crate::keystore::pkcs11::template::{Attribute, Mechanism};
use crate::keystore::pkcs11::token::Pkcs11Token;
use crate::model::ids::{Epoch, KeystoreId};
use crate::model::job::{FailureKind, TokenFailure, TokenIdentity};
use crate::model::key::UsageSet;
use crate::model::keystore::Marker;
use crate::model::observed::ObjectClass;

/// What is read of a marker.
pub(crate) const MARKER_READ: &[(u64, usize)] = &[
    (sys::CKA_CLASS, size_of::<sys::CK_ULONG>()),
    (sys::CKA_APPLICATION, 64),
    (sys::CKA_LABEL, 64),
    (sys::CKA_ID, 64),
    (sys::CKA_VALUE, 64),
];

/// Token info and all markers.
pub(crate) fn identify(token: &Pkcs11Token) -> Result<TokenIdentity, TokenFailure> {
    let info = token.info()?;
    let session = token.session()?;
    let markers = markers(&session)?;
    Ok(TokenIdentity { info, markers })
}

/// An object that is not found is no evidence by itself: the token must still be whole (design.md 7). SoftHSM2 finds nothing
/// at all once its directory was away for a moment (facts-pkcs11.md G2).
///
/// # Errors
/// `Restart` where there is no marker; else what the module said.
pub(crate) fn check_absence(token: &Pkcs11Token, session: &Session) -> Result<(), TokenFailure> {
    token.info()?;
    if markers(session)?.is_empty() {
        return Err(failure(
            FailureKind::Restart,
            "marker",
            "neither the objects nor a marker is found: a new process looks again",
        ));
    }
    Ok(())
}

/// Writes the marker, once.
pub(crate) fn bind(token: &Pkcs11Token, marker: Marker) -> Result<(), TokenFailure> {
    let session = token.session()?;
    if let Some(there) = markers(&session)?.first() {
        return Err(refused(
            "bind",
            format!("the token belongs to keystore {}", there.keystore),
        ));
    }
    let written = session.create(&[
        Attribute::number(sys::CKA_CLASS, sys::CKO_DATA),
        Attribute::flag(sys::CKA_TOKEN, true),
        Attribute::flag(sys::CKA_PRIVATE, true),
        Attribute::bytes(sys::CKA_LABEL, MARKER),
        Attribute::bytes(sys::CKA_APPLICATION, APPLICATION),
        Attribute::bytes(sys::CKA_VALUE, encoded(marker)),
        Attribute::flag(sys::CKA_MODIFIABLE, false),
    ]);
    match written {
        Err(failed) if is_about_template(failed) => write_as_key(&session, marker)?,
        Ok(_) | Err(_) => written?,
    };
    if markers(&session)? == [marker] {
        Ok(())
    } else {
        Err(refused("bind", "the marker does not read back as written"))
    }
}

/// A marker on a token that keeps no data objects (NSS keeps keys and certificates only): a key that can do nothing, whose
/// CKA_ID says what the data object's value says elsewhere.
fn write_as_key(session: &Session, marker: Marker) -> Result<Handle, CallFailed> {
    let class = ObjectClass::Secret;
    let mut template = vec![
        Attribute::number(sys::CKA_CLASS, class_number(class)),
        Attribute::number(sys::CKA_KEY_TYPE, sys::CKK_AES),
        Attribute::flag(sys::CKA_TOKEN, true),
        Attribute::flag(sys::CKA_PRIVATE, true),
        Attribute::flag(sys::CKA_SENSITIVE, true),
        Attribute::flag(sys::CKA_EXTRACTABLE, false),
        Attribute::bytes(sys::CKA_LABEL, MARKER),
        Attribute::bytes(sys::CKA_ID, encoded(marker)),
        Attribute::number(sys::CKA_VALUE_LEN, 32),
    ];
    template.extend(usage_attributes(class, UsageSet::NONE));
    template.push(Attribute::flag(sys::CKA_MODIFIABLE, false));
    session.generate(&Mechanism::plain(sys::CKM_AES_KEY_GEN), &template)
}

fn markers(session: &Session) -> Result<Vec<Marker>, TokenFailure> {
    let data = [
        Attribute::number(sys::CKA_CLASS, sys::CKO_DATA),
        Attribute::bytes(sys::CKA_APPLICATION, APPLICATION),
        Attribute::flag(sys::CKA_TOKEN, true),
    ];
    let key = [
        Attribute::number(sys::CKA_CLASS, sys::CKO_SECRET_KEY),
        Attribute::bytes(sys::CKA_LABEL, MARKER),
        Attribute::flag(sys::CKA_TOKEN, true),
    ];
    let mut markers = Vec::new();
    for template in [&data, &key] {
        for handle in find(session, template)? {
            markers.extend(read_marker(session, handle)?);
        }
        // A token that keeps data objects has no use for the other kind, and each find costs a pass over all objects.
        if !markers.is_empty() {
            break;
        }
    }
    Ok(markers)
}

/// The marker in an object; `None` for what is none.
pub(crate) fn read_marker(
    session: &Session,
    handle: Handle,
) -> Result<Option<Marker>, TokenFailure> {
    let values = session.read(handle, MARKER_READ)?;
    let text = |kind| values.bytes(kind).unwrap_or_default();
    let told = match values.number(sys::CKA_CLASS) {
        Some(sys::CKO_DATA) if text(sys::CKA_APPLICATION) == APPLICATION.as_bytes() => {
            values.bytes(sys::CKA_VALUE)
        }
        Some(sys::CKO_SECRET_KEY) if text(sys::CKA_LABEL) == MARKER.as_bytes() => {
            values.bytes(sys::CKA_ID)
        }
        Some(_) | None => return Ok(None),
    };
    told.and_then(decoded)
        .map(Some)
        .ok_or_else(|| refused("marker", "a marker on the token cannot be understood"))
}

/// 16 bytes of the keystore's id, 8 bytes of the epoch, big endian.
fn encoded(marker: Marker) -> Vec<u8> {
    let mut bytes = marker.keystore.uuid().into_bytes().to_vec();
    bytes.extend_from_slice(&marker.epoch.0.to_be_bytes());
    bytes
}

fn decoded(bytes: &[u8]) -> Option<Marker> {
    let (id, epoch) = bytes.split_at_checked(16)?;

    Some(Marker {
        keystore: KeystoreId::from_uuid(Uuid::from_slice(id).ok()?),
        epoch: Epoch(u64::from_be_bytes(epoch.try_into().ok()?)),
    })
}
