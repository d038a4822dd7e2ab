//! A PKCS#11 v2.40 module that answers by a tape of bytes, given as hexadecimal text in C_Initialize's pReserved.
//!
//! With zeros it is a token that keeps objects as they were made and does what it is asked, with arithmetic in place of
//! cryptography. Any other byte makes one answer false: an error, a length that is not so, a value that was changed, a handle
//! of something else. Behind the end of the tape every call fails. What it writes always fits the room that it was given: a
//! module that writes beyond cannot be survived in its own process.
#![allow(
    non_snake_case,
    clippy::missing_safety_doc,
    clippy::too_many_arguments,
    reason = "C_ functions as PKCS#11 has them"
)]

mod objects;
mod tape;

use std::ffi::c_void;
use std::sync::OnceLock;

use cryptoki_sys::*;

use crate::objects::{attributes, with};
use crate::tape::{ends, length, spoil, strays};

type Session = CK_SESSION_HANDLE;
type Object = CK_OBJECT_HANDLE;
type Mechanism = *mut CK_MECHANISM;
type Template = *mut CK_ATTRIBUTE;
type Bytes = *mut CK_BYTE;
type Told = *mut CK_ULONG;

/// Does it, unless the tape has an error here.
fn answer(act: impl FnOnce()) -> CK_RV {
    let rv = ends();
    if rv == CKR_OK || strays() {
        act();
    }
    rv
}

/// Gives a value back: as much as there is room for, and some length.
unsafe fn give(mut value: Vec<u8>, room: Bytes, told: Told) {
    spoil(&mut value);
    unsafe {
        if !room.is_null() {
            let fits = value.len().min(*told as usize);
            std::ptr::copy_nonoverlapping(value.as_ptr(), room, fits);
        }
        *told = length(value.len() as u64);
    }
}

unsafe fn hand(made: Object, room: *mut Object) {
    unsafe { *room = if strays() { length(made) } else { made } };
}

fn text<const N: usize>(words: &str) -> [u8; N] {
    let mut field = [b' '; N];
    field[..words.len()].copy_from_slice(words.as_bytes());
    spoil(&mut field);
    field
}

macro_rules! functions {
    ($($name:ident($($argument:ident: $kind:ty),*) $body:block)*) => {
        $(unsafe extern "C" fn $name($($argument: $kind),*) -> CK_RV { $body })*

        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn C_GetFunctionList(list: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
            static LIST: OnceLock<CK_FUNCTION_LIST> = OnceLock::new();
            let ours = LIST.get_or_init(|| CK_FUNCTION_LIST {
                $($name: Some($name),)*
                ..Default::default()
            });
            unsafe { *list = std::ptr::from_ref(ours).cast_mut() };
            CKR_OK
        }
    };
}

functions! {
    C_Initialize(arguments: *mut c_void) {
        unsafe { tape::load((*arguments.cast::<CK_C_INITIALIZE_ARGS>()).pReserved.cast()) };
        with(objects::Objects::reset);
        CKR_OK
    }
    C_Finalize(_reserved: *mut c_void) { ends() }
    C_GetInfo(info: *mut CK_INFO) {
        answer(|| unsafe {
            (*info).manufacturerID = text("hostile");
            (*info).libraryDescription = text("hostile");
        })
    }
    C_GetSlotList(_present: CK_BBOOL, slots: *mut CK_SLOT_ID, count: Told) {
        answer(|| unsafe {
            if !slots.is_null() && *count > 0 {
                *slots = 7;
            }
            *count = length(1);
        })
    }
    C_GetTokenInfo(_slot: CK_SLOT_ID, info: *mut CK_TOKEN_INFO) {
        answer(|| unsafe {
            (*info).label = text("home");
            (*info).serialNumber = text("1");
            (*info).model = text("model");
            (*info).manufacturerID = text("hostile");
            (*info).flags = CKF_USER_PIN_INITIALIZED | CKF_TOKEN_INITIALIZED;
        })
    }
    C_GetMechanismList(_slot: CK_SLOT_ID, list: *mut CK_MECHANISM_TYPE, count: Told) {
        answer(|| unsafe {
            for at in 0..(*count).min(40) {
                *list.add(at as usize) = length(at);
            }
            *count = length(40);
        })
    }
    C_GetMechanismInfo(_slot: CK_SLOT_ID, _kind: CK_MECHANISM_TYPE, info: *mut CK_MECHANISM_INFO) {
        answer(|| unsafe {
            (*info).ulMinKeySize = length(1);
            (*info).ulMaxKeySize = length(8192);
        })
    }
    C_OpenSession(
        _slot: CK_SLOT_ID, _flags: CK_FLAGS, _application: *mut c_void, _notify: CK_NOTIFY, session: *mut Session
    ) {
        answer(|| unsafe { *session = 3 })
    }
    C_CloseSession(_session: Session) { ends() }
    C_Login(_session: Session, _user: CK_USER_TYPE, _pin: Bytes, _length: CK_ULONG) { ends() }
    C_FindObjectsInit(_session: Session, template: Template, count: CK_ULONG) {
        answer(|| with(|objects| objects.search(&unsafe { attributes(template, count) })))
    }
    C_FindObjects(_session: Session, room: *mut Object, most: CK_ULONG, count: Told) {
        answer(|| {
            let found = with(|objects| std::mem::take(&mut objects.found));
            for (at, handle) in found.iter().take(most as usize).enumerate() {
                unsafe { hand(*handle, room.add(at)) };
            }
            unsafe { *count = length(found.len() as u64) };
        })
    }
    C_FindObjectsFinal(_session: Session) { ends() }
    C_GetAttributeValue(_session: Session, object: Object, template: Template, count: CK_ULONG) {
        let list = unsafe { std::slice::from_raw_parts_mut(template, count as usize) };
        let mut rv = ends();
        for one in list {
            let Some(mut value) = with(|objects| objects.value(object, one.type_)) else {
                one.ulValueLen = CK_UNAVAILABLE_INFORMATION;
                continue;
            };
            if !one.pValue.is_null() {
                spoil(&mut value);
                if value.len() as u64 > one.ulValueLen && rv == CKR_OK {
                    rv = CKR_BUFFER_TOO_SMALL;
                }
                let fits = value.len().min(one.ulValueLen as usize);
                unsafe { std::ptr::copy_nonoverlapping(value.as_ptr(), one.pValue.cast(), fits) };
            }
            one.ulValueLen = length(value.len() as u64);
        }
        rv
    }
    C_SetAttributeValue(_session: Session, object: Object, template: Template, count: CK_ULONG) {
        answer(|| with(|objects| objects.set(object, unsafe { attributes(template, count) })))
    }
    C_CreateObject(_session: Session, template: Template, count: CK_ULONG, made: *mut Object) {
        answer(|| unsafe { hand(with(|objects| objects.make(attributes(template, count))), made) })
    }
    C_CopyObject(_session: Session, object: Object, template: Template, count: CK_ULONG, made: *mut Object) {
        answer(|| unsafe {
            hand(with(|objects| objects.copy(object, attributes(template, count))), made);
        })
    }
    C_DestroyObject(_session: Session, object: Object) { answer(|| with(|objects| objects.destroy(object))) }
    C_GenerateKey(
        _session: Session, _mechanism: Mechanism, template: Template, count: CK_ULONG, made: *mut Object
    ) {
        answer(|| unsafe { hand(with(|objects| objects.make(attributes(template, count))), made) })
    }
    C_GenerateKeyPair(
        _session: Session, _mechanism: Mechanism, public: Template, publics: CK_ULONG, private: Template,
        privates: CK_ULONG, made: *mut Object, other: *mut Object
    ) {
        answer(|| unsafe {
            hand(with(|objects| objects.make(attributes(public, publics))), made);
            hand(with(|objects| objects.make(attributes(private, privates))), other);
        })
    }
    C_WrapKey(
        _session: Session, _mechanism: Mechanism, _by: Object, key: Object, room: Bytes, told: Told
    ) {
        let value = with(|objects| objects.value(key, CKA_VALUE));
        answer(|| unsafe { give(value.unwrap_or(vec![0x77; 40]), room, told) })
    }
    C_UnwrapKey(
        _session: Session, _mechanism: Mechanism, _by: Object, _wrapped: Bytes, _length: CK_ULONG, template: Template,
        count: CK_ULONG, made: *mut Object
    ) {
        answer(|| unsafe { hand(with(|objects| objects.make(attributes(template, count))), made) })
    }
    C_DeriveKey(
        _session: Session, _mechanism: Mechanism, _base: Object, template: Template, count: CK_ULONG, made: *mut Object
    ) {
        answer(|| unsafe { hand(with(|objects| objects.make(attributes(template, count))), made) })
    }
    C_DigestInit(_session: Session, _mechanism: Mechanism) { ends() }
    C_DigestUpdate(_session: Session, _data: Bytes, _length: CK_ULONG) { ends() }
    C_DigestKey(_session: Session, _key: Object) { ends() }
    C_DigestFinal(_session: Session, room: Bytes, told: Told) {
        answer(|| unsafe { give(vec![0x11; 32], room, told) })
    }
    C_EncryptInit(_session: Session, _mechanism: Mechanism, _key: Object) { ends() }
    C_DecryptInit(_session: Session, _mechanism: Mechanism, _key: Object) { ends() }
    C_SignInit(_session: Session, _mechanism: Mechanism, _key: Object) { ends() }
    C_VerifyInit(_session: Session, _mechanism: Mechanism, _key: Object) { ends() }
    C_Encrypt(_session: Session, data: Bytes, length: CK_ULONG, room: Bytes, told: Told) {
        answer(|| unsafe { give(std::slice::from_raw_parts(data, length as usize).to_vec(), room, told) })
    }
    C_Decrypt(_session: Session, data: Bytes, length: CK_ULONG, room: Bytes, told: Told) {
        answer(|| unsafe { give(std::slice::from_raw_parts(data, length as usize).to_vec(), room, told) })
    }
    C_Sign(_session: Session, _data: Bytes, _length: CK_ULONG, room: Bytes, told: Told) {
        answer(|| unsafe { give(vec![0x22; 64], room, told) })
    }
}
