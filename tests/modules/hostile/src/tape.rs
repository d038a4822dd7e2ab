//! The tape that says what every call answers: zeros let the module be honest, anything else makes it lie.

use std::ffi::{CStr, c_char};
use std::sync::Mutex;

use cryptoki_sys::*;

struct Tape {
    bytes: Vec<u8>,
    at: usize,
}

static TAPE: Mutex<Tape> = Mutex::new(Tape {
    bytes: Vec::new(),
    at: 0,
});

/// Errors that modules give.
const CODES: [CK_RV; 12] = [
    CKR_BUFFER_TOO_SMALL,
    CKR_ATTRIBUTE_SENSITIVE,
    CKR_ATTRIBUTE_TYPE_INVALID,
    CKR_ATTRIBUTE_VALUE_INVALID,
    CKR_TEMPLATE_INCONSISTENT,
    CKR_DEVICE_ERROR,
    CKR_FUNCTION_NOT_SUPPORTED,
    CKR_KEY_FUNCTION_NOT_PERMITTED,
    CKR_OBJECT_HANDLE_INVALID,
    CKR_SESSION_HANDLE_INVALID,
    CKR_USER_NOT_LOGGED_IN,
    0x8000_0001,
];

/// Lengths that nobody should believe.
const LENGTHS: [u64; 12] = [
    0,
    1,
    2,
    7,
    9,
    33,
    255,
    0x1_0001,
    0x4000_0000,
    0xffff_ffff,
    1 << 63,
    u64::MAX,
];

/// Takes the hexadecimal text of C_Initialize's pReserved.
pub(crate) unsafe fn load(text: *const c_char) {
    let mut tape = TAPE.lock().expect("no call panics");
    tape.at = 0;
    tape.bytes.clear();
    if !text.is_null() {
        let text = unsafe { CStr::from_ptr(text) }.to_bytes();
        let digit = |digit: u8| (digit as char).to_digit(16).unwrap_or(0) as u8;
        let pairs = text.chunks(2);
        tape.bytes = pairs
            .map(|pair| digit(pair[0]) << 4 | digit(*pair.get(1).unwrap_or(&b'0')))
            .collect();
    }
}

/// The next byte; none at the end.
fn next() -> Option<u8> {
    let mut tape = TAPE.lock().expect("no call panics");
    let byte = tape.bytes.get(tape.at).copied();
    tape.at += 1;
    byte
}

/// How a call ends. Nothing works any more behind the end of the tape, so every job comes to an end.
pub(crate) fn ends() -> CK_RV {
    match next() {
        None => CKR_DEVICE_ERROR,
        Some(byte) if byte < 0xd0 => CKR_OK,
        Some(byte) => CODES[usize::from(byte) % CODES.len()],
    }
}

/// A length to tell instead of the true one.
pub(crate) fn length(honest: u64) -> u64 {
    match next() {
        Some(byte) if byte >= 0xe0 => LENGTHS[usize::from(byte) % LENGTHS.len()],
        Some(byte) if byte >= 0xd0 => honest.wrapping_add(u64::from(byte)).wrapping_sub(0xd8),
        Some(_) | None => honest,
    }
}

/// Changes a value: a byte, all of it, or nothing.
pub(crate) fn spoil(value: &mut [u8]) {
    match next() {
        Some(byte) if byte >= 0xf0 => value.fill_with(|| next().unwrap_or(0xff)),
        Some(byte) if byte >= 0xd0 && !value.is_empty() => {
            let at = usize::from(next().unwrap_or(0)) % value.len();
            value[at] = next().unwrap_or(0);
        }
        Some(_) | None => {}
    }
}

/// Whether to do otherwise here.
pub(crate) fn strays() -> bool {
    next().is_some_and(|byte| byte >= 0xe0)
}
