//! Who the token is: token info, and the marker that says whose it is.

use cryptoki_sys as sys;
use uuid::Uuid;

use crate::keystore::pkcs11::failure::{failure, refused};
use crate::keystore::pkcs11::names::{APPLICATION, MARKER};
use crate::keystore::pkcs11::object::find;
use crate::keystore::pkcs11::raw::{Handle, Session};
use crate::keystore::pkcs11::template::{Attribute, Values};
use crate::keystore::pkcs11::token::Pkcs11Token;
use crate::model::ids::{Epoch, KeystoreId};
use crate::model::job::{FailureKind, TokenFailure, TokenIdentity};
use crate::model::keystore::Marker;

/// What is read of a marker.
pub(crate) const MARKER_READ: &[(u64, usize)] = &[
    (sys::CKA_CLASS, size_of::<sys::CK_ULONG>()),
    (sys::CKA_APPLICATION, 64),
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
    session.create(&[
        Attribute::number(sys::CKA_CLASS, sys::CKO_DATA),
        Attribute::flag(sys::CKA_TOKEN, true),
        Attribute::flag(sys::CKA_PRIVATE, true),
        Attribute::bytes(sys::CKA_LABEL, MARKER),
        Attribute::bytes(sys::CKA_APPLICATION, APPLICATION),
        Attribute::bytes(sys::CKA_VALUE, encoded(marker)),
        Attribute::flag(sys::CKA_MODIFIABLE, false),
    ])?;
    if markers(&session)? == [marker] {
        Ok(())
    } else {
        Err(refused("bind", "the marker does not read back as written"))
    }
}

fn markers(session: &Session) -> Result<Vec<Marker>, TokenFailure> {
    let template = [
        Attribute::number(sys::CKA_CLASS, sys::CKO_DATA),
        Attribute::bytes(sys::CKA_APPLICATION, APPLICATION),
        Attribute::flag(sys::CKA_TOKEN, true),
    ];
    let mut markers = Vec::new();
    for handle in find(session, &template)? {
        markers.extend(read_marker(session, handle)?);
    }
    Ok(markers)
}

/// The marker in a data object; `None` for other applications' data.
pub(crate) fn read_marker(
    session: &Session,
    handle: Handle,
) -> Result<Option<Marker>, TokenFailure> {
    let values = session.read(handle, MARKER_READ)?;
    if !is_marker(&values) {
        return Ok(None);
    }
    values
        .bytes(sys::CKA_VALUE)
        .and_then(decoded)
        .map(Some)
        .ok_or_else(|| refused("marker", "a marker on the token cannot be understood"))
}

fn is_marker(values: &Values) -> bool {
    values.number(sys::CKA_CLASS) == Some(sys::CKO_DATA)
        && values.bytes(sys::CKA_APPLICATION) == Some(APPLICATION.as_bytes())
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
