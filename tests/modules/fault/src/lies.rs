//! Lies about lengths, texts, handles and usages.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use cryptoki_sys::*;

use crate::faults::{Fault, fault, lying};
use crate::real;
use crate::search::labelled;

type Session = CK_SESSION_HANDLE;
type Object = CK_OBJECT_HANDLE;
type Bytes = *mut CK_BYTE;

const USAGES: [CK_ATTRIBUTE_TYPE; 9] = [
    CKA_ENCRYPT,
    CKA_DECRYPT,
    CKA_SIGN,
    CKA_SIGN_RECOVER,
    CKA_VERIFY,
    CKA_VERIFY_RECOVER,
    CKA_WRAP,
    CKA_UNWRAP,
    CKA_DERIVE,
];

static TRUE: CK_BBOOL = CK_TRUE;

/// What usages read back as, whatever they are.
type Claims = HashMap<Object, HashMap<CK_ATTRIBUTE_TYPE, CK_BBOOL>>;

static CLAIMS: LazyLock<Mutex<Claims>> = LazyLock::new(Mutex::default);

fn claims<T>(act: impl FnOnce(&mut Claims) -> T) -> T {
    act(&mut CLAIMS.lock().expect("no call panics"))
}

/// A length that the call gave back.
fn bad_length(fault: &Fault, rv: CK_RV, length: *mut CK_ULONG) -> CK_RV {
    if !fault.is("badlen") {
        return rv;
    }
    unsafe { *length = fault.number(0).expect("a length") };
    fault.number(1).unwrap_or(CKR_OK)
}

/// The handle that the call gave back.
fn other_handle(fault: &Fault, rv: CK_RV, session: Session, made: *mut Object) -> CK_RV {
    if fault.is("foreign") && rv == CKR_OK {
        unsafe { *made = labelled(session, fault.text(0)) };
    }
    rv
}

/// A template as the real module gets it, and what is claimed of its usages.
struct Template {
    list: Vec<CK_ATTRIBUTE>,
    claimed: HashMap<CK_ATTRIBUTE_TYPE, CK_BBOOL>,
}

impl Template {
    fn of(template: *mut CK_ATTRIBUTE, count: CK_ULONG, ignores: bool) -> Self {
        let mut list = match count {
            0 => Vec::new(),
            _ => unsafe { std::slice::from_raw_parts(template, count as usize) }.to_vec(),
        };
        if let Some(most) = label_bytes_max() {
            for label in list.iter_mut().filter(|one| one.type_ == CKA_LABEL) {
                label.ulValueLen = label.ulValueLen.min(most);
            }
        }
        let mut claimed = HashMap::new();
        for attribute in &mut list {
            if ignores && USAGES.contains(&attribute.type_) && attribute.ulValueLen == 1 {
                let wanted = unsafe { *attribute.pValue.cast::<CK_BBOOL>() };
                claimed.insert(attribute.type_, wanted);
                attribute.pValue = std::ptr::from_ref(&TRUE).cast_mut().cast();
            }
        }
        Self { list, claimed }
    }

    fn pointer(&mut self) -> *mut CK_ATTRIBUTE {
        self.list.as_mut_ptr()
    }

    fn len(&self) -> CK_ULONG {
        self.list.len() as CK_ULONG
    }

    /// The object that was made of it.
    fn became(self, rv: CK_RV, object: *mut Object) -> CK_RV {
        if rv == CKR_OK && !self.claimed.is_empty() {
            claims(|claims| {
                claims
                    .entry(unsafe { *object })
                    .or_default()
                    .extend(self.claimed)
            });
        }
        rv
    }
}

fn ignores_usage() -> bool {
    fault("usage").is_some_and(|fault| fault.is("ignore"))
}

fn label_bytes_max() -> Option<u64> {
    fault("label").filter(|fault| fault.is("cut"))?.number(0)
}

unsafe extern "C" fn C_GetAttributeValue(
    session: Session,
    object: Object,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> CK_RV {
    let list = || unsafe { std::slice::from_raw_parts_mut(template, count as usize) };
    lying(
        "C_GetAttributeValue",
        || {
            let rv = real!(C_GetAttributeValue(session, object, template, count));
            claims(|claims| {
                let Some(claimed) = claims.get(&object) else {
                    return;
                };
                for attribute in list() {
                    if let Some(value) = claimed.get(&attribute.type_)
                        && attribute.ulValueLen == 1
                        && !attribute.pValue.is_null()
                    {
                        unsafe { *attribute.pValue.cast::<CK_BBOOL>() = *value };
                    }
                }
            });
            rv
        },
        |fault, rv| {
            for attribute in list() {
                bad_length(fault, rv, &raw mut attribute.ulValueLen);
            }
            if fault.is("badlen") {
                fault.number(1).unwrap_or(CKR_OK)
            } else {
                rv
            }
        },
    )
}

unsafe extern "C" fn C_SetAttributeValue(
    session: Session,
    object: Object,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> CK_RV {
    let call = || {
        let ignores = ignores_usage();
        let mut template = Template::of(template, count, ignores);
        if ignores {
            template
                .list
                .retain(|attribute| !USAGES.contains(&attribute.type_));
            claims(|claims| {
                claims
                    .entry(object)
                    .or_default()
                    .extend(template.claimed.drain())
            });
            if template.list.is_empty() {
                return CKR_OK;
            }
        }
        real!(C_SetAttributeValue(
            session,
            object,
            template.pointer(),
            template.len()
        ))
    };
    lying("C_SetAttributeValue", call, |_, rv| rv)
}

unsafe extern "C" fn C_CreateObject(
    session: Session,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    made: *mut Object,
) -> CK_RV {
    let call = || {
        let mut template = Template::of(template, count, ignores_usage());
        let rv = real!(C_CreateObject(
            session,
            template.pointer(),
            template.len(),
            made
        ));
        template.became(rv, made)
    };
    lying("C_CreateObject", call, |fault, rv| {
        other_handle(fault, rv, session, made)
    })
}

unsafe extern "C" fn C_CopyObject(
    session: Session,
    object: Object,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    made: *mut Object,
) -> CK_RV {
    let call = || {
        let mut template = Template::of(template, count, ignores_usage());
        let inherited = claims(|claims| claims.get(&object).cloned().unwrap_or_default());
        template.claimed = inherited.into_iter().chain(template.claimed).collect();
        let rv = real!(C_CopyObject(
            session,
            object,
            template.pointer(),
            template.len(),
            made
        ));
        template.became(rv, made)
    };
    lying("C_CopyObject", call, |fault, rv| {
        other_handle(fault, rv, session, made)
    })
}

unsafe extern "C" fn C_GenerateKey(
    session: Session,
    mechanism: *mut CK_MECHANISM,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    made: *mut Object,
) -> CK_RV {
    let call = || {
        let mut template = Template::of(template, count, ignores_usage());
        let rv = real!(C_GenerateKey(
            session,
            mechanism,
            template.pointer(),
            template.len(),
            made
        ));
        template.became(rv, made)
    };
    lying("C_GenerateKey", call, |fault, rv| {
        other_handle(fault, rv, session, made)
    })
}

unsafe extern "C" fn C_GenerateKeyPair(
    session: Session,
    mechanism: *mut CK_MECHANISM,
    public: *mut CK_ATTRIBUTE,
    public_count: CK_ULONG,
    private: *mut CK_ATTRIBUTE,
    private_count: CK_ULONG,
    public_key: *mut Object,
    private_key: *mut Object,
) -> CK_RV {
    let call = || {
        let ignores = ignores_usage();
        let mut public = Template::of(public, public_count, ignores);
        let mut private = Template::of(private, private_count, ignores);
        let (to_public, to_private) = (public.pointer(), private.pointer());
        let rv = real!(C_GenerateKeyPair(
            session,
            mechanism,
            to_public,
            public.len(),
            to_private,
            private.len(),
            public_key,
            private_key
        ));
        public.became(rv, public_key);
        private.became(rv, private_key)
    };
    lying("C_GenerateKeyPair", call, |fault, rv| {
        other_handle(fault, rv, session, private_key)
    })
}

unsafe extern "C" fn C_UnwrapKey(
    session: Session,
    mechanism: *mut CK_MECHANISM,
    unwrapping: Object,
    wrapped: Bytes,
    length: CK_ULONG,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    made: *mut Object,
) -> CK_RV {
    let call = || {
        let mut template = Template::of(template, count, ignores_usage());
        let pointer = template.pointer();
        let rv = real!(C_UnwrapKey(
            session,
            mechanism,
            unwrapping,
            wrapped,
            length,
            pointer,
            template.len(),
            made
        ));
        template.became(rv, made)
    };
    lying("C_UnwrapKey", call, |fault, rv| {
        other_handle(fault, rv, session, made)
    })
}

unsafe extern "C" fn C_DeriveKey(
    session: Session,
    mechanism: *mut CK_MECHANISM,
    base: Object,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
    made: *mut Object,
) -> CK_RV {
    let call = || real!(C_DeriveKey(session, mechanism, base, template, count, made));
    lying("C_DeriveKey", call, |fault, rv| {
        other_handle(fault, rv, session, made)
    })
}

/// Functions that give a length back.
macro_rules! lengths {
    ($($name:ident($($argument:ident: $kind:ty),*; $length:ident);)*) => {
        $(
            unsafe extern "C" fn $name($($argument: $kind,)* $length: *mut CK_ULONG) -> CK_RV {
                lying(
                    stringify!($name),
                    || real!($name($($argument,)* $length)),
                    |fault, rv| {
                        if fault.is("empty") {
                            unsafe { *$length = 0 };
                        }
                        bad_length(fault, rv, $length)
                    },
                )
            }
        )*

        fn pass_lengths(list: &mut CK_FUNCTION_LIST) {
            $(list.$name = Some($name);)*
        }
    };
}

lengths! {
    C_GetSlotList(present: CK_BBOOL, slots: *mut CK_SLOT_ID; count);
    C_GetMechanismList(slot: CK_SLOT_ID, list: *mut CK_MECHANISM_TYPE; count);
    C_Encrypt(session: Session, data: Bytes, size: CK_ULONG, output: Bytes; length);
    C_Decrypt(session: Session, data: Bytes, size: CK_ULONG, output: Bytes; length);
    C_Sign(session: Session, data: Bytes, size: CK_ULONG, output: Bytes; length);
    C_DigestFinal(session: Session, output: Bytes; length);
    C_WrapKey(session: Session, mechanism: *mut CK_MECHANISM, wrapping: Object, key: Object, output: Bytes; length);
}

unsafe extern "C" fn C_GetInfo(info: *mut CK_INFO) -> CK_RV {
    let call = || real!(C_GetInfo(info));
    lying("C_GetInfo", call, |fault, rv| {
        if fault.is("noise") {
            unsafe {
                (*info).manufacturerID.fill(0xff);
                (*info).libraryDescription.fill(0x1b);
            }
        }
        rv
    })
}

unsafe extern "C" fn C_GetTokenInfo(slot: CK_SLOT_ID, info: *mut CK_TOKEN_INFO) -> CK_RV {
    let call = || real!(C_GetTokenInfo(slot, info));
    lying("C_GetTokenInfo", call, |fault, rv| {
        if fault.is("noise") {
            unsafe {
                (*info).manufacturerID.fill(0xff);
                (*info).model.fill(0);
                (*info).utcTime.fill(0xff);
                (*info).ulMaxSessionCount = CK_ULONG::MAX;
            }
        }
        rv
    })
}

/// Puts these functions in the place of the real ones.
pub(crate) fn pass(list: &mut CK_FUNCTION_LIST) {
    pass_lengths(list);
    list.C_GetInfo = Some(C_GetInfo);
    list.C_GetTokenInfo = Some(C_GetTokenInfo);
    list.C_GetAttributeValue = Some(C_GetAttributeValue);
    list.C_SetAttributeValue = Some(C_SetAttributeValue);
    list.C_CreateObject = Some(C_CreateObject);
    list.C_CopyObject = Some(C_CopyObject);
    list.C_GenerateKey = Some(C_GenerateKey);
    list.C_GenerateKeyPair = Some(C_GenerateKeyPair);
    list.C_UnwrapKey = Some(C_UnwrapKey);
    list.C_DeriveKey = Some(C_DeriveKey);
}
