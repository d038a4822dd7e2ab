//! Names of CKRs, and which of them ask for what.

use cryptoki_sys as sys;

use crate::keystore::pkcs11::raw::{CallFailed, Handle, LoadFailed, Session};
use crate::model::job::{FailureKind, TokenFailure};

macro_rules! names {
    ($($name:ident)*) => {
        const NAMES: &[(u64, &str)] = &[$((sys::$name, stringify!($name))),*];
    };
}

names! {
    CKR_OK CKR_CANCEL CKR_HOST_MEMORY CKR_SLOT_ID_INVALID CKR_GENERAL_ERROR CKR_FUNCTION_FAILED CKR_ARGUMENTS_BAD
    CKR_NO_EVENT CKR_NEED_TO_CREATE_THREADS CKR_CANT_LOCK CKR_ATTRIBUTE_READ_ONLY CKR_ATTRIBUTE_SENSITIVE
    CKR_ATTRIBUTE_TYPE_INVALID CKR_ATTRIBUTE_VALUE_INVALID CKR_ACTION_PROHIBITED CKR_DATA_INVALID CKR_DATA_LEN_RANGE
    CKR_DEVICE_ERROR CKR_DEVICE_MEMORY CKR_DEVICE_REMOVED CKR_ENCRYPTED_DATA_INVALID CKR_ENCRYPTED_DATA_LEN_RANGE
    CKR_FUNCTION_CANCELED CKR_FUNCTION_NOT_PARALLEL CKR_FUNCTION_NOT_SUPPORTED CKR_KEY_HANDLE_INVALID CKR_KEY_SIZE_RANGE
    CKR_KEY_TYPE_INCONSISTENT CKR_KEY_NOT_NEEDED CKR_KEY_CHANGED CKR_KEY_NEEDED CKR_KEY_INDIGESTIBLE
    CKR_KEY_FUNCTION_NOT_PERMITTED CKR_KEY_NOT_WRAPPABLE CKR_KEY_UNEXTRACTABLE CKR_MECHANISM_INVALID
    CKR_MECHANISM_PARAM_INVALID CKR_OBJECT_HANDLE_INVALID CKR_OPERATION_ACTIVE CKR_OPERATION_NOT_INITIALIZED
    CKR_PIN_INCORRECT CKR_PIN_INVALID CKR_PIN_LEN_RANGE CKR_PIN_EXPIRED CKR_PIN_LOCKED CKR_SESSION_CLOSED
    CKR_SESSION_COUNT CKR_SESSION_HANDLE_INVALID CKR_SESSION_PARALLEL_NOT_SUPPORTED CKR_SESSION_READ_ONLY
    CKR_SESSION_EXISTS CKR_SESSION_READ_ONLY_EXISTS CKR_SESSION_READ_WRITE_SO_EXISTS CKR_SIGNATURE_INVALID
    CKR_SIGNATURE_LEN_RANGE CKR_TEMPLATE_INCOMPLETE CKR_TEMPLATE_INCONSISTENT CKR_TOKEN_NOT_PRESENT
    CKR_TOKEN_NOT_RECOGNIZED CKR_TOKEN_WRITE_PROTECTED CKR_UNWRAPPING_KEY_HANDLE_INVALID CKR_UNWRAPPING_KEY_SIZE_RANGE
    CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT CKR_USER_ALREADY_LOGGED_IN CKR_USER_NOT_LOGGED_IN CKR_USER_PIN_NOT_INITIALIZED
    CKR_USER_TYPE_INVALID CKR_USER_ANOTHER_ALREADY_LOGGED_IN CKR_USER_TOO_MANY_TYPES CKR_WRAPPED_KEY_INVALID
    CKR_WRAPPED_KEY_LEN_RANGE CKR_WRAPPING_KEY_HANDLE_INVALID CKR_WRAPPING_KEY_SIZE_RANGE
    CKR_WRAPPING_KEY_TYPE_INCONSISTENT CKR_RANDOM_SEED_NOT_SUPPORTED CKR_RANDOM_NO_RNG CKR_DOMAIN_PARAMS_INVALID
    CKR_CURVE_NOT_SUPPORTED CKR_BUFFER_TOO_SMALL CKR_SAVED_STATE_INVALID CKR_INFORMATION_SENSITIVE
    CKR_STATE_UNSAVEABLE CKR_CRYPTOKI_NOT_INITIALIZED CKR_CRYPTOKI_ALREADY_INITIALIZED CKR_MUTEX_BAD
    CKR_MUTEX_NOT_LOCKED CKR_FUNCTION_REJECTED
}

/// The CKR's name; a number for what the standard does not know.
pub(crate) fn rv_name(rv: u64) -> String {
    NAMES
        .iter()
        .find(|(number, _)| *number == rv)
        .map_or_else(|| format!("CKR_0x{rv:08X}"), |(_, name)| (*name).to_owned())
}

/// What to do next after a CKR (facts: token and session gone need a new process; others may pass).
pub(crate) fn kind_of(rv: u64) -> FailureKind {
    match rv {
        sys::CKR_PIN_INCORRECT | sys::CKR_PIN_INVALID | sys::CKR_PIN_LEN_RANGE => {
            FailureKind::WrongPin
        }
        sys::CKR_PIN_LOCKED | sys::CKR_PIN_EXPIRED => FailureKind::PinLocked,
        sys::CKR_SLOT_ID_INVALID => FailureKind::NoToken,
        sys::CKR_HOST_MEMORY
        | sys::CKR_DEVICE_ERROR
        | sys::CKR_DEVICE_REMOVED
        | sys::CKR_TOKEN_NOT_PRESENT
        | sys::CKR_TOKEN_NOT_RECOGNIZED
        | sys::CKR_USER_NOT_LOGGED_IN
        | sys::CKR_SESSION_HANDLE_INVALID
        | sys::CKR_SESSION_CLOSED
        | sys::CKR_CRYPTOKI_NOT_INITIALIZED => FailureKind::Restart,
        sys::CKR_GENERAL_ERROR
        | sys::CKR_FUNCTION_FAILED
        | sys::CKR_DEVICE_MEMORY
        | sys::CKR_SESSION_COUNT
        | sys::CKR_OPERATION_ACTIVE
        | sys::CKR_OBJECT_HANDLE_INVALID
        | sys::CKR_KEY_HANDLE_INVALID
        | sys::CKR_WRAPPING_KEY_HANDLE_INVALID
        | sys::CKR_UNWRAPPING_KEY_HANDLE_INVALID => FailureKind::Retry,
        _ => FailureKind::Refused,
    }
}

impl From<CallFailed> for TokenFailure {
    fn from(failed: CallFailed) -> Self {
        Self {
            kind: kind_of(failed.rv),
            function: failed.function.to_owned(),
            rv: rv_name(failed.rv),
            detail: String::new(),
        }
    }
}

impl From<LoadFailed> for TokenFailure {
    fn from(failed: LoadFailed) -> Self {
        match failed {
            LoadFailed::Call(call) => call.into(),
            LoadFailed::Library(words) => failure(FailureKind::Refused, "load module", words),
        }
    }
}

/// A failure of wrap or unwrap: tokens answer bad blobs with any CKR, kryoptic with CKR_DEVICE_ERROR. It is final, unless the
/// very key that wraps cannot be read any more either: then the token is lost.
pub(crate) fn blob_failure(session: &Session, failed: CallFailed, under: Handle) -> TokenFailure {
    let mut failure = TokenFailure::from(failed);
    let is_lost = || session.read(under, &[(sys::CKA_CLASS, 8)]).is_err();
    match failure.kind {
        FailureKind::Retry => failure.kind = FailureKind::Refused,
        FailureKind::Restart if !is_lost() => failure.kind = FailureKind::Refused,
        FailureKind::Restart
        | FailureKind::Refused
        | FailureKind::NeedsMaterial
        | FailureKind::WrongKey
        | FailureKind::LabelTaken
        | FailureKind::WrongPin
        | FailureKind::PinLocked
        | FailureKind::NoToken => {}
    }
    failure
}

/// A failure found by a check of our own.
pub(crate) fn failure(kind: FailureKind, check: &str, detail: impl Into<String>) -> TokenFailure {
    TokenFailure {
        kind,
        function: check.to_owned(),
        rv: String::new(),
        detail: detail.into(),
    }
}

/// A refusal found by a check of our own.
pub(crate) fn refused(check: &str, detail: impl Into<String>) -> TokenFailure {
    failure(FailureKind::Refused, check, detail)
}
