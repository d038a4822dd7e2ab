//! Lies about what a search finds.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use cryptoki_sys::*;

use crate::faults::lying;
use crate::real;

/// Searches of this process.
#[derive(Default)]
struct Searches {
    /// What each session searches for, and what was found for it until now.
    running: HashMap<CK_SESSION_HANDLE, (Vec<u8>, Vec<CK_OBJECT_HANDLE>)>,
    /// What the first search of each template gave.
    first: HashMap<Vec<u8>, Vec<CK_OBJECT_HANDLE>>,
    /// Sessions that were told what was found first.
    told: Vec<CK_SESSION_HANDLE>,
}

static SEARCHES: LazyLock<Mutex<Searches>> = LazyLock::new(Mutex::default);

fn with<T>(act: impl FnOnce(&mut Searches) -> T) -> T {
    act(&mut SEARCHES.lock().expect("no call panics"))
}

impl Searches {
    /// The search is at its end.
    fn settle(&mut self, session: CK_SESSION_HANDLE) {
        self.told.retain(|told| *told != session);
        if let Some((template, found)) = self.running.remove(&session) {
            self.first.entry(template).or_insert(found);
        }
    }
}

/// Types and values, one after the other.
fn flat(template: &[CK_ATTRIBUTE]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for attribute in template {
        bytes.extend(attribute.type_.to_ne_bytes());
        let length = attribute.ulValueLen as usize;
        if !attribute.pValue.is_null() && length > 0 {
            bytes.extend(unsafe {
                std::slice::from_raw_parts(attribute.pValue.cast::<u8>(), length)
            });
        }
    }
    bytes
}

unsafe extern "C" fn C_FindObjectsInit(
    session: CK_SESSION_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> CK_RV {
    lying(
        "C_FindObjectsInit",
        || {
            let wanted = match count {
                0 => Vec::new(),
                _ => flat(unsafe { std::slice::from_raw_parts(template, count as usize) }),
            };
            with(|searches| searches.running.insert(session, (wanted, Vec::new())));
            real!(C_FindObjectsInit(session, template, count))
        },
        |_, rv| rv,
    )
}

unsafe extern "C" fn C_FindObjects(
    session: CK_SESSION_HANDLE,
    objects: *mut CK_OBJECT_HANDLE,
    room: CK_ULONG,
    count: *mut CK_ULONG,
) -> CK_RV {
    lying(
        "C_FindObjects",
        || {
            let rv = real!(C_FindObjects(session, objects, room, count));
            if rv == CKR_OK {
                let found =
                    unsafe { std::slice::from_raw_parts(objects, (*count).min(room) as usize) };
                with(|searches| {
                    if let Some((_, seen)) = searches.running.get_mut(&session) {
                        seen.extend(found);
                    }
                });
            }
            rv
        },
        |fault, rv| {
            let room = unsafe { std::slice::from_raw_parts_mut(objects, room as usize) };
            let told = unsafe { &mut *count };
            if fault.is("badlen") {
                *told = fault.number(0).expect("a length");
            } else if fault.is("empty") {
                *told = 0;
            } else if fault.is("old") {
                *told = put(room, &first(session));
            } else if fault.is("endless") {
                let seen = with(|searches| {
                    let running = searches.running.get(&session);
                    running.map_or(Vec::new(), |(_, seen)| seen.clone())
                });
                for (place, handle) in room.iter_mut().zip(seen.iter().cycle()) {
                    *place = *handle;
                }
                *told = if seen.is_empty() {
                    0
                } else {
                    room.len() as CK_ULONG
                };
            } else if fault.is("twice") {
                let found: Vec<_> = room.iter().take(*told as usize).copied().collect();
                *told = put(room, &[found.as_slice(), found.as_slice()].concat());
            }
            rv
        },
    )
}

/// What was found first, once for each search.
fn first(session: CK_SESSION_HANDLE) -> Vec<CK_OBJECT_HANDLE> {
    with(|searches| {
        if searches.told.contains(&session) {
            return Vec::new();
        }
        searches.told.push(session);
        let Some((template, seen)) = searches.running.get(&session) else {
            return Vec::new();
        };
        searches.first.get(template).unwrap_or(seen).clone()
    })
}

fn put(room: &mut [CK_OBJECT_HANDLE], found: &[CK_OBJECT_HANDLE]) -> CK_ULONG {
    let fitting = room.len().min(found.len());
    room[..fitting].copy_from_slice(&found[..fitting]);
    fitting as CK_ULONG
}

unsafe extern "C" fn C_FindObjectsFinal(session: CK_SESSION_HANDLE) -> CK_RV {
    lying(
        "C_FindObjectsFinal",
        || {
            with(|searches| searches.settle(session));
            real!(C_FindObjectsFinal(session))
        },
        |_, rv| rv,
    )
}

/// The one object with this label, by a search of its own.
pub(crate) fn labelled(session: CK_SESSION_HANDLE, label: &str) -> CK_OBJECT_HANDLE {
    let mut template = CK_ATTRIBUTE {
        type_: CKA_LABEL,
        pValue: label.as_ptr().cast_mut().cast(),
        ulValueLen: label.len() as CK_ULONG,
    };
    let (mut found, mut count) = (0, 0);
    real!(C_FindObjectsInit(session, &mut template, 1));
    real!(C_FindObjects(session, &mut found, 1, &mut count));
    real!(C_FindObjectsFinal(session));
    found
}

/// Puts these functions in the place of the real ones.
pub(crate) fn pass(list: &mut CK_FUNCTION_LIST) {
    list.C_FindObjectsInit = Some(C_FindObjectsInit);
    list.C_FindObjects = Some(C_FindObjects);
    list.C_FindObjectsFinal = Some(C_FindObjectsFinal);
}
