//! Scan: all key objects on the token, with one find and one read each.

use cryptoki_sys as sys;
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::keystore::pkcs11::failure::{failure, refused};
use crate::keystore::pkcs11::identify::read_marker;
use crate::keystore::pkcs11::names::{MARKER, is_own};
use crate::keystore::pkcs11::object::{Object, READ};
use crate::keystore::pkcs11::raw::{Handle, Session};
use crate::keystore::pkcs11::template::Attribute;
use crate::keystore::pkcs11::token::Pkcs11Token;
use crate::model::job::{
    FailureKind, INVENTORY_OBJECTS_MAX, Inventory, TokenFailure, TokenIdentity,
};
use crate::model::keystore::{Marker, TokenInfo};
use crate::model::observed::ObjectFacts;

/// Reads everything. Token info and markers are the same before and after, or the scan counts for nothing.
pub(crate) fn scan(token: &Pkcs11Token) -> Result<Inventory, TokenFailure> {
    let started = cpu_us();
    let info = token.info()?;
    let session = token.session()?;
    let mut seen = read_all(&session)?;
    let after = identity(token, &session, &seen.markers)?;
    if after.info != info {
        return Err(failure(
            FailureKind::Restart,
            "scan",
            "the token changed during the scan",
        ));
    }
    seen.objects.sort_unstable_by_key(|facts| facts.handle);
    Ok(Inventory {
        identity: after,
        objects: seen.objects,
        unreadable: seen.unreadable,
        cpu_us: cpu_us().saturating_sub(started),
    })
}

/// What one pass over the token gave.
#[derive(Debug, Default)]
struct Seen {
    objects: Vec<ObjectFacts>,
    markers: Vec<(Handle, Marker)>,
    unreadable: u32,
}

fn read_all(session: &Session) -> Result<Seen, TokenFailure> {
    let template = [Attribute::flag(sys::CKA_TOKEN, true)];
    let handles = session.find(&template, INVENTORY_OBJECTS_MAX)?;
    if handles.len() > INVENTORY_OBJECTS_MAX {
        return Err(refused(
            "scan",
            format!("the token holds more than {INVENTORY_OBJECTS_MAX} objects"),
        ));
    }
    let mut seen = Seen::default();
    for handle in handles {
        let Ok(values) = session.read(handle, READ) else {
            seen.unreadable = seen.unreadable.saturating_add(1);
            continue;
        };
        let object = Object::of(handle, &values);
        let may_be_marker = match &object {
            Some(object) => object.facts.label == MARKER,
            None => values.number(sys::CKA_CLASS) == Some(sys::CKO_DATA),
        };
        if may_be_marker && let Some(marker) = read_marker(session, handle)? {
            seen.markers.push((handle, marker));
        } else if let Some(object) = object
            && !is_own(&object.facts)
        {
            seen.objects.push(object.facts);
        }
    }
    Ok(seen)
}

/// The identity at the end, with the very markers that the scan met.
fn identity(
    token: &Pkcs11Token,
    session: &Session,
    met: &[(Handle, Marker)],
) -> Result<TokenIdentity, TokenFailure> {
    let info: TokenInfo = token.info()?;
    for (handle, marker) in met {
        if read_marker(session, *handle)? != Some(*marker) {
            return Err(failure(
                FailureKind::Retry,
                "scan",
                "the marker changed during the scan",
            ));
        }
    }
    Ok(TokenIdentity {
        info,
        markers: met.iter().map(|(_, marker)| *marker).collect(),
    })
}

/// CPU time of this process in microseconds.
fn cpu_us() -> u64 {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::ProcessCPUTime);
    let us = tv_sec
        .saturating_mul(1_000_000)
        .saturating_add(tv_nsec / 1000);
    u64::try_from(us).unwrap_or(0)
}
