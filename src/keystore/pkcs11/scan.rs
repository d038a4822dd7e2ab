//! Scan: all key objects on the token, with one find and one read each, in slices: other jobs are done in between.

use cryptoki_sys as sys;
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::keystore::pkcs11::failure::{failure, refused};
use crate::keystore::pkcs11::identify::read_marker;
use crate::keystore::pkcs11::names::{MARKER, is_own};
use crate::keystore::pkcs11::object::{Object, READ};
use crate::keystore::pkcs11::raw::{Handle, Session};
use crate::keystore::pkcs11::slice::Slicing;
use crate::keystore::pkcs11::template::Attribute;
use crate::keystore::pkcs11::token::Pkcs11Token;
use crate::model::job::{
    FailureKind, INVENTORY_OBJECTS_MAX, Inventory, Slice, TokenAnswer, TokenFailure, TokenIdentity,
};
use crate::model::keystore::{Marker, TokenInfo};

/// A scan that was begun. Its session stays open to the end: what a find met is read in the session that found it.
#[derive(Debug)]
pub(crate) struct Scanning {
    info: TokenInfo,
    session: Session,
    handles: std::vec::IntoIter<Handle>,
    markers: Vec<(Handle, Marker)>,
    /// Other jobs may have been done since the find.
    goes_on: bool,
}

/// Finds everything, and reads a first slice.
pub(crate) fn begin(token: &mut Pkcs11Token) -> Result<TokenAnswer, TokenFailure> {
    token.scanning = None;
    let (started, slicing) = (cpu_us(), Slicing::begin());
    let info = token.info()?;
    let session = token.session()?;
    let template = [Attribute::flag(sys::CKA_TOKEN, true)];
    let handles = session.find(&template, INVENTORY_OBJECTS_MAX)?;
    if handles.len() > INVENTORY_OBJECTS_MAX {
        return Err(refused(
            "scan",
            format!("the token holds more than {INVENTORY_OBJECTS_MAX} objects"),
        ));
    }
    let scanning = Scanning {
        info,
        session,
        handles: handles.into_iter(),
        markers: Vec::new(),
        goes_on: false,
    };
    go_on(token, scanning, &slicing, started)
}

/// The next slice of the scan under way.
pub(crate) fn next(token: &mut Pkcs11Token) -> Result<TokenAnswer, TokenFailure> {
    let (started, slicing) = (cpu_us(), Slicing::begin());
    let scanning = token
        .scanning
        .take()
        .ok_or_else(|| failure(FailureKind::Retry, "scan", "no scan was begun"))?;
    go_on(token, scanning, &slicing, started)
}

fn go_on(
    token: &mut Pkcs11Token,
    mut scanning: Scanning,
    slicing: &Slicing,
    started: u64,
) -> Result<TokenAnswer, TokenFailure> {
    let mut slice = Slice::default();
    while let Some(handle) = scanning.handles.next() {
        scanning.read(handle, &mut slice)?;
        if slicing.is_over() && scanning.handles.len() > 0 {
            slice.cpu_us = cpu_us().saturating_sub(started);
            scanning.goes_on = true;
            token.scanning = Some(scanning);
            return Ok(TokenAnswer::Slice(slice));
        }
    }
    let identity = scanning.end(token)?;
    slice.cpu_us = cpu_us().saturating_sub(started);
    Ok(TokenAnswer::Inventory(Inventory {
        identity,
        rest: slice,
    }))
}

impl Scanning {
    fn read(&mut self, handle: Handle, slice: &mut Slice) -> Result<(), TokenFailure> {
        let values = match self.session.read(handle, READ) {
            Ok(values) => values,
            // Another job may have destroyed it since it was found.
            Err(failed) if self.goes_on && failed.rv == sys::CKR_OBJECT_HANDLE_INVALID => {
                return Ok(());
            }
            Err(_) => {
                slice.unreadable = slice.unreadable.saturating_add(1);
                return Ok(());
            }
        };
        let object = Object::of(handle, &values);
        let may_be_marker = match &object {
            Some(object) => object.facts.label == MARKER,
            None => values.number(sys::CKA_CLASS) == Some(sys::CKO_DATA),
        };
        if may_be_marker && let Some(marker) = read_marker(&self.session, handle)? {
            self.markers.push((handle, marker));
        } else if let Some(object) = object
            && !is_own(&object.facts)
        {
            slice.objects.push(object.facts);
        }
        Ok(())
    }

    /// Token info and the very markers that the scan met are what they were, or the scan counts for nothing.
    fn end(self, token: &Pkcs11Token) -> Result<TokenIdentity, TokenFailure> {
        let info = token.info()?;
        if info != self.info {
            return Err(failure(
                FailureKind::Restart,
                "scan",
                "the token changed during the scan",
            ));
        }
        for (handle, marker) in &self.markers {
            if read_marker(&self.session, *handle)? != Some(*marker) {
                return Err(failure(
                    FailureKind::Retry,
                    "scan",
                    "the marker changed during the scan",
                ));
            }
        }
        Ok(TokenIdentity {
            info,
            markers: self.markers.iter().map(|(_, marker)| *marker).collect(),
        })
    }
}

/// CPU time of this process in microseconds.
fn cpu_us() -> u64 {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::ProcessCPUTime);
    let us = tv_sec
        .saturating_mul(1_000_000)
        .saturating_add(tv_nsec / 1000);
    u64::try_from(us).unwrap_or(0)
}
