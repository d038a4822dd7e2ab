//! A PKCS#11 v2.40 module that passes every call to a real one and does wrong where a file says so.
//!
//! | variable | says |
//! |---|---|
//! | `P11_REAL` | the real module, an absolute path |
//! | `P11_FAULTS` | the file with the faults; read again at each call, may be missing |
//! | `P11_CALLS` | a file to which each call is appended, `PID > C_Login` and `PID < C_Login 0x0`; never an argument |
//!
//! A line of faults is `C_Function KIND [ARGUMENT..] [once|nth N|nth N once]`:
//!
//! | kind | what happens |
//! |---|---|
//! | `hang` | the call waits until the line is gone, then goes on |
//! | `segv`, `abort` | the process dies |
//! | `abortafter` | the effect, then the process dies |
//! | `stop`, `stopafter` | the process stops until SIGCONT, before the effect or after it |
//! | `delay MS` | the call begins later |
//! | `rv CODE` | an error, without effect |
//! | `rvafter CODE` | the effect, then an error |
//! | `okwithout` | CKR_OK, without effect |
//! | `badlen LENGTH [CODE]` | lengths that the call gives back are these, with CKR_OK or the code |
//! | `noise` | C_GetInfo, C_GetTokenInfo: texts of bytes that are no text |
//! | `empty` | C_FindObjects, C_GetSlotList: none |
//! | `old` | C_FindObjects: what the first search of that template gave |
//! | `endless` | C_FindObjects: one object after the other, the same ones, for ever |
//! | `twice` | C_FindObjects: each object two times |
//! | `foreign LABEL` | the handle of a new object is that of the object with this label |
//!
//! `usage ignore` stands for no function: usage attributes are taken and read back as set, and hold nobody back.
//! `label cut LENGTH` neither: labels lose without a word what is beyond that length.
//! Numbers are decimal or `0x..`. `once` takes the line out of the file when it has struck, in whatever process;
//! `nth N` strikes at the N-th call of the function since the line was first seen.
#![allow(
    non_snake_case,
    clippy::missing_safety_doc,
    clippy::too_many_arguments,
    reason = "C_ functions as PKCS#11 has them"
)]

mod faults;
mod lies;
mod search;

use std::path::PathBuf;
use std::sync::OnceLock;

use cryptoki_sys::*;

use crate::faults::through;

struct Real {
    functions: CK_FUNCTION_LIST,
    /// Never unloaded.
    _library: Pkcs11,
}

static REAL: OnceLock<Real> = OnceLock::new();
static OURS: OnceLock<CK_FUNCTION_LIST> = OnceLock::new();

/// The real module's functions.
pub(crate) fn functions() -> &'static CK_FUNCTION_LIST {
    &REAL.get().expect("C_GetFunctionList comes first").functions
}

fn load() -> Real {
    let path = PathBuf::from(std::env::var_os("P11_REAL").expect("P11_REAL names the real module"));
    let library = unsafe { Pkcs11::new(path) }.expect("P11_REAL is a library");
    let mut list = std::ptr::null_mut();
    let rv = unsafe { library.C_GetFunctionList(&mut list) };
    assert_eq!(rv, CKR_OK, "the real C_GetFunctionList");
    Real {
        functions: unsafe { *list },
        _library: library,
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(list: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    let real = REAL.get_or_init(load);
    let ours = OURS.get_or_init(|| {
        faults::log_environment();
        let mut list = real.functions;
        list.C_GetFunctionList = Some(C_GetFunctionList);
        pass(&mut list);
        lies::pass(&mut list);
        search::pass(&mut list);
        list
    });
    unsafe { *list = std::ptr::from_ref(ours).cast_mut() };
    CKR_OK
}

/// Calls the real function of that name.
macro_rules! real {
    ($name:ident($($argument:expr),*)) => {
        unsafe { (crate::functions().$name.expect(stringify!($name)))($($argument),*) }
    };
}
pub(crate) use real;

macro_rules! pass {
    ($($name:ident($($argument:ident: $kind:ty),*);)*) => {
        $(
            unsafe extern "C" fn $name($($argument: $kind),*) -> CK_RV {
                through(stringify!($name), || real!($name($($argument),*)))
            }
        )*

        /// Puts these functions in the place of the real ones.
        fn pass(list: &mut CK_FUNCTION_LIST) {
            $(list.$name = Some($name);)*
        }
    };
}

type Session = CK_SESSION_HANDLE;
type Object = CK_OBJECT_HANDLE;
type Mechanism = *mut CK_MECHANISM;
type Bytes = *mut CK_BYTE;

// What is in none of the lists goes to the real module unseen: the agent calls nothing else.
pass! {
    C_Initialize(arguments: *mut std::ffi::c_void);
    C_Finalize(reserved: *mut std::ffi::c_void);
    C_GetMechanismInfo(slot: CK_SLOT_ID, kind: CK_MECHANISM_TYPE, info: *mut CK_MECHANISM_INFO);
    C_OpenSession(
        slot: CK_SLOT_ID, flags: CK_FLAGS, application: *mut std::ffi::c_void, notify: CK_NOTIFY, session: *mut Session
    );
    C_CloseSession(session: Session);
    C_Login(session: Session, user: CK_USER_TYPE, pin: Bytes, length: CK_ULONG);
    C_DestroyObject(session: Session, object: Object);
    C_DigestInit(session: Session, mechanism: Mechanism);
    C_DigestUpdate(session: Session, data: Bytes, length: CK_ULONG);
    C_DigestKey(session: Session, key: Object);
    C_EncryptInit(session: Session, mechanism: Mechanism, key: Object);
    C_DecryptInit(session: Session, mechanism: Mechanism, key: Object);
    C_SignInit(session: Session, mechanism: Mechanism, key: Object);
    C_VerifyInit(session: Session, mechanism: Mechanism, key: Object);
}
