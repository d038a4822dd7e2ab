//! The raw layer over a PKCS#11 v2.40 module: each method is one C_ function, with bounds.
//!
//! Lengths that a module returns are checked against the buffer that it was given; attributes are bounded at
//! [`ATTRIBUTE_BYTES_MAX`]. The library is never unloaded: modules leave threads and exit handlers behind.
#![expect(
    unsafe_code,
    reason = "calls a C library; nothing outside this file does"
)]
#![expect(
    clippy::as_conversions,
    reason = "CK_ULONG is as wide as usize wherever PKCS#11 runs; pointers to const become CK_VOID_PTR"
)]

use std::ffi::CString;
use std::path::Path;
use std::ptr::null_mut;
use std::sync::Arc;

use cryptoki_sys as sys;

use crate::keystore::pkcs11::template::{Attribute, InitializeArgs, Marshalled, Mechanism, Values};
use crate::model::capabilities::MECHANISMS_MAX;

/// Largest attribute value that is read; a longer one counts as not told.
pub(crate) const ATTRIBUTE_BYTES_MAX: usize = 64 * 1024;

/// Largest output of one call (wrapped keys, signatures, ciphertexts).
const OUTPUT_BYTES_MAX: usize = 16 * 1024;

/// Handles taken by one C_FindObjects.
const FIND_BATCH: usize = 1024;

/// Handle of an object: valid inside one job only.
pub(crate) type Handle = u64;

/// A C_ function that did not answer CKR_OK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallFailed {
    /// Its name.
    pub(crate) function: &'static str,
    /// The CKR.
    pub(crate) rv: u64,
}

type Result<T> = std::result::Result<T, CallFailed>;

/// A loaded and initialised module.
pub(crate) struct Module {
    functions: sys::CK_FUNCTION_LIST,
}

impl std::fmt::Debug for Module {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Module")
    }
}

/// Why a module could not be loaded.
#[derive(Debug)]
pub(crate) enum LoadFailed {
    /// The dynamic loader's words.
    Library(String),
    /// It loaded and refused.
    Call(CallFailed),
}

macro_rules! call {
    ($module:expr, $function:ident($($argument:expr),* $(,)?)) => {{
        let name = stringify!($function);
        match $module.functions.$function {
            // SAFETY: the pointers lead to live values of the types that PKCS#11 v2.40 asks for, with their true lengths,
            // and the module keeps none of them after it has returned.
            Some(function) => checked(name, unsafe { function($($argument),*) }),
            None => checked(name, sys::CKR_FUNCTION_NOT_SUPPORTED),
        }
    }};
}

fn checked(function: &'static str, rv: sys::CK_RV) -> Result<()> {
    if rv == sys::CKR_OK {
        Ok(())
    } else {
        Err(CallFailed { function, rv })
    }
}

impl Module {
    /// Loads the library and calls C_Initialize; a module that is initialised already is taken as it is.
    ///
    /// # Errors
    /// The loader's words, or the CKR.
    pub(crate) fn load(
        path: &Path,
        parameters: Option<&str>,
    ) -> std::result::Result<Arc<Self>, LoadFailed> {
        // SAFETY: loading runs the library's constructors; the operator named this file as the module to run.
        let library =
            unsafe { sys::Pkcs11::new(path) }.map_err(|e| LoadFailed::Library(e.to_string()))?;
        let entry = match &library.C_GetFunctionList {
            Ok(entry) => *entry,
            Err(error) => return Err(LoadFailed::Library(error.to_string())),
        };
        let mut list: *mut sys::CK_FUNCTION_LIST = null_mut();
        // SAFETY: the entry point takes a pointer to a pointer that it sets.
        let rv = unsafe { entry(&raw mut list) };
        checked("C_GetFunctionList", rv).map_err(LoadFailed::Call)?;
        if list.is_null() {
            return Err(LoadFailed::Library("no function list".to_owned()));
        }
        // SAFETY: the module answered CKR_OK with a pointer to its list, which lives as long as the library.
        let functions = unsafe { *list };
        std::mem::forget(library);
        let module = Self { functions };
        module.initialize(parameters).map_err(LoadFailed::Call)?;
        Ok(Arc::new(module))
    }

    fn initialize(&self, parameters: Option<&str>) -> Result<()> {
        let parameters = parameters.and_then(|text| CString::new(text).ok());
        let mut arguments = InitializeArgs::new(parameters.as_deref());
        let pointer = (&raw mut arguments).cast();
        match call!(self, C_Initialize(pointer)) {
            Err(failed) if failed.rv == sys::CKR_CRYPTOKI_ALREADY_INITIALIZED => Ok(()),
            other => other,
        }
    }

    /// C_Finalize: every session of this process is dead afterwards.
    pub(crate) fn finalize(&self) -> Result<()> {
        call!(self, C_Finalize(null_mut()))
    }

    /// C_GetInfo.
    pub(crate) fn info(&self) -> Result<sys::CK_INFO> {
        let mut info = sys::CK_INFO::default();
        call!(self, C_GetInfo(&raw mut info))?;
        Ok(info)
    }

    /// C_GetSlotList, of slots with a token.
    pub(crate) fn slots(&self) -> Result<Vec<u64>> {
        let mut count: sys::CK_ULONG = 0;
        call!(
            self,
            C_GetSlotList(sys::CK_TRUE, null_mut(), &raw mut count)
        )?;
        let mut slots: Vec<sys::CK_SLOT_ID> = vec![0; (count as usize).min(FIND_BATCH)];
        let mut count = slots.len() as sys::CK_ULONG;
        let pointer = slots.as_mut_ptr();
        call!(self, C_GetSlotList(sys::CK_TRUE, pointer, &raw mut count))?;
        slots.truncate(count as usize);
        Ok(slots)
    }

    /// C_GetTokenInfo.
    pub(crate) fn token_info(&self, slot: u64) -> Result<sys::CK_TOKEN_INFO> {
        let mut info = sys::CK_TOKEN_INFO::default();
        call!(self, C_GetTokenInfo(slot as sys::CK_SLOT_ID, &raw mut info))?;
        Ok(info)
    }

    /// C_GetMechanismList, ascending; at most [`MECHANISMS_MAX`].
    pub(crate) fn mechanisms(&self, slot: u64) -> Result<Vec<u64>> {
        let slot = slot as sys::CK_SLOT_ID;
        let mut list: Vec<sys::CK_MECHANISM_TYPE> = vec![0; MECHANISMS_MAX];
        let mut count = list.len() as sys::CK_ULONG;
        let pointer = list.as_mut_ptr();
        call!(self, C_GetMechanismList(slot, pointer, &raw mut count))?;
        list.truncate(count as usize);
        list.sort_unstable();
        list.dedup();
        Ok(list)
    }

    /// C_GetMechanismInfo: least and greatest key size, in the unit of the mechanism.
    pub(crate) fn mechanism_sizes(&self, slot: u64, mechanism: u64) -> Result<(u64, u64)> {
        let mut info = sys::CK_MECHANISM_INFO::default();
        let slot = slot as sys::CK_SLOT_ID;
        let kind = mechanism as sys::CK_MECHANISM_TYPE;
        call!(self, C_GetMechanismInfo(slot, kind, &raw mut info))?;
        Ok((info.ulMinKeySize, info.ulMaxKeySize))
    }

    /// C_OpenSession, read and write.
    pub(crate) fn open(self: &Arc<Self>, slot: u64) -> Result<Session> {
        let flags = sys::CKF_SERIAL_SESSION | sys::CKF_RW_SESSION;
        let mut handle: sys::CK_SESSION_HANDLE = 0;
        call!(
            self,
            C_OpenSession(
                slot as sys::CK_SLOT_ID,
                flags,
                null_mut(),
                None,
                &raw mut handle
            )
        )?;
        Ok(Session {
            module: Arc::clone(self),
            handle,
        })
    }
}

/// A PKCS#11 session, closed when dropped: the only cure for one with a stuck operation.
#[derive(Debug)]
pub(crate) struct Session {
    module: Arc<Module>,
    handle: sys::CK_SESSION_HANDLE,
}

impl Drop for Session {
    fn drop(&mut self) {
        let _closed_or_dead: Result<()> = call!(self.module, C_CloseSession(self.handle));
    }
}

type InitFunction =
    unsafe extern "C" fn(sys::CK_SESSION_HANDLE, *mut sys::CK_MECHANISM, sys::CK_ULONG) -> u64;

impl Session {
    /// C_Login as the user, once.
    pub(crate) fn login(&self, pin: &str) -> Result<()> {
        let pointer = pin.as_ptr().cast_mut();
        let length = pin.len() as sys::CK_ULONG;
        call!(
            self.module,
            C_Login(self.handle, sys::CKU_USER, pointer, length)
        )
    }

    /// C_FindObjectsInit, C_FindObjects to the end (or beyond `most`), C_FindObjectsFinal; each handle once.
    pub(crate) fn find(&self, template: &[Attribute], most: usize) -> Result<Vec<Handle>> {
        let mut template = Marshalled::new(template);
        call!(
            self.module,
            C_FindObjectsInit(self.handle, template.pointer(), template.len())
        )?;
        let mut found: Vec<Handle> = Vec::new();
        let mut batch: Vec<sys::CK_OBJECT_HANDLE> = vec![0; FIND_BATCH];
        loop {
            let mut count: sys::CK_ULONG = 0;
            let pointer = batch.as_mut_ptr();
            let room = FIND_BATCH as sys::CK_ULONG;
            call!(
                self.module,
                C_FindObjects(self.handle, pointer, room, &raw mut count)
            )?;
            found.extend(batch.iter().take(count as usize));
            if count == 0 || found.len() > most {
                break;
            }
        }
        call!(self.module, C_FindObjectsFinal(self.handle))?;
        if found.len() <= most {
            found.sort_unstable();
            found.dedup();
        }
        Ok(found)
    }

    /// One C_GetAttributeValue with buffers of the given sizes; a second one only where a value was longer than its buffer.
    pub(crate) fn read(&self, object: Handle, wanted: &[(u64, usize)]) -> Result<Values> {
        let (values, short) = self.read_once(object, wanted)?;
        if !short {
            return Ok(values);
        }
        let mut sized: Vec<(u64, usize)> = wanted.to_vec();
        for (kind, size) in &mut sized {
            let told = self.attribute_length(object, *kind);
            *size = told.unwrap_or(*size).clamp(*size, ATTRIBUTE_BYTES_MAX);
        }
        self.read_once(object, &sized).map(|(values, _)| values)
    }

    fn read_once(&self, object: Handle, wanted: &[(u64, usize)]) -> Result<(Values, bool)> {
        let mut buffer = vec![0_u8; wanted.iter().map(|(_, size)| size).sum()];
        let mut rest = buffer.as_mut_slice();
        let mut list = Vec::with_capacity(wanted.len());
        for &(kind, size) in wanted {
            let (room, after) = rest.split_at_mut(size);
            rest = after;
            list.push(sys::CK_ATTRIBUTE {
                type_: kind as sys::CK_ULONG,
                pValue: room.as_mut_ptr().cast(),
                ulValueLen: size as sys::CK_ULONG,
            });
        }
        let count = list.len() as sys::CK_ULONG;
        let (session, pointer) = (self.handle, list.as_mut_ptr());
        let object = object as sys::CK_OBJECT_HANDLE;
        let answer = call!(
            self.module,
            C_GetAttributeValue(session, object, pointer, count)
        );
        let short = match answer {
            Ok(()) => false,
            Err(failed) => match failed.rv as sys::CK_RV {
                sys::CKR_BUFFER_TOO_SMALL => true,
                sys::CKR_ATTRIBUTE_SENSITIVE | sys::CKR_ATTRIBUTE_TYPE_INVALID => false,
                _ => return Err(failed),
            },
        };
        let mut start = 0;
        let mut spans = Vec::with_capacity(wanted.len());
        for (&(kind, size), told) in wanted.iter().zip(&list) {
            // CK_UNAVAILABLE_INFORMATION, and any other length beyond the buffer, means: not told.
            let length = told.ulValueLen as usize;
            spans.push((kind, (length <= size).then_some((start, length))));
            start += size;
        }
        Ok((Values { spans, buffer }, short))
    }

    fn attribute_length(&self, object: Handle, kind: u64) -> Option<usize> {
        let mut attribute = sys::CK_ATTRIBUTE {
            type_: kind as sys::CK_ULONG,
            pValue: null_mut(),
            ulValueLen: 0,
        };
        let object = object as sys::CK_OBJECT_HANDLE;
        call!(
            self.module,
            C_GetAttributeValue(self.handle, object, &raw mut attribute, 1)
        )
        .ok()?;
        (attribute.ulValueLen != sys::CK_UNAVAILABLE_INFORMATION)
            .then_some(attribute.ulValueLen as usize)
    }

    /// C_SetAttributeValue, all at once.
    pub(crate) fn set(&self, object: Handle, template: &[Attribute]) -> Result<()> {
        let mut template = Marshalled::new(template);
        let object = object as sys::CK_OBJECT_HANDLE;
        let (pointer, length) = (template.pointer(), template.len());
        call!(
            self.module,
            C_SetAttributeValue(self.handle, object, pointer, length)
        )
    }

    /// C_CreateObject.
    pub(crate) fn create(&self, template: &[Attribute]) -> Result<Handle> {
        let mut template = Marshalled::new(template);
        let mut made: sys::CK_OBJECT_HANDLE = 0;
        let (pointer, length) = (template.pointer(), template.len());
        call!(
            self.module,
            C_CreateObject(self.handle, pointer, length, &raw mut made)
        )?;
        Ok(made)
    }

    /// C_CopyObject with changes.
    pub(crate) fn copy(&self, object: Handle, template: &[Attribute]) -> Result<Handle> {
        let mut template = Marshalled::new(template);
        let mut made: sys::CK_OBJECT_HANDLE = 0;
        let object = object as sys::CK_OBJECT_HANDLE;
        call!(
            self.module,
            C_CopyObject(
                self.handle,
                object,
                template.pointer(),
                template.len(),
                &raw mut made
            )
        )?;
        Ok(made)
    }

    /// C_DestroyObject.
    pub(crate) fn destroy(&self, object: Handle) -> Result<()> {
        call!(
            self.module,
            C_DestroyObject(self.handle, object as sys::CK_OBJECT_HANDLE)
        )
    }

    /// C_GenerateKey.
    pub(crate) fn generate(&self, mechanism: &Mechanism, template: &[Attribute]) -> Result<Handle> {
        let mut template = Marshalled::new(template);
        let mut made: sys::CK_OBJECT_HANDLE = 0;
        mechanism.with(|mechanism| {
            call!(
                self.module,
                C_GenerateKey(
                    self.handle,
                    mechanism,
                    template.pointer(),
                    template.len(),
                    &raw mut made
                )
            )
        })?;
        Ok(made)
    }

    /// C_GenerateKeyPair: public and private handle.
    pub(crate) fn generate_pair(
        &self,
        mechanism: &Mechanism,
        public: &[Attribute],
        private: &[Attribute],
    ) -> Result<(Handle, Handle)> {
        let mut public = Marshalled::new(public);
        let mut private = Marshalled::new(private);
        let mut made: (sys::CK_OBJECT_HANDLE, sys::CK_OBJECT_HANDLE) = (0, 0);
        mechanism.with(|mechanism| {
            call!(
                self.module,
                C_GenerateKeyPair(
                    self.handle,
                    mechanism,
                    public.pointer(),
                    public.len(),
                    private.pointer(),
                    private.len(),
                    &raw mut made.0,
                    &raw mut made.1
                )
            )
        })?;
        Ok(made)
    }

    /// C_WrapKey.
    pub(crate) fn wrap(
        &self,
        mechanism: &Mechanism,
        wrapping: Handle,
        key: Handle,
    ) -> Result<Vec<u8>> {
        let wrapping = wrapping as sys::CK_OBJECT_HANDLE;
        let key = key as sys::CK_OBJECT_HANDLE;
        output(|pointer, length| {
            mechanism.with(|mechanism| {
                call!(
                    self.module,
                    C_WrapKey(self.handle, mechanism, wrapping, key, pointer, length)
                )
            })
        })
    }

    /// C_UnwrapKey.
    pub(crate) fn unwrap(
        &self,
        mechanism: &Mechanism,
        unwrapping: Handle,
        wrapped: &[u8],
        template: &[Attribute],
    ) -> Result<Handle> {
        let mut template = Marshalled::new(template);
        let mut made: sys::CK_OBJECT_HANDLE = 0;
        let (input, size) = (wrapped.as_ptr().cast_mut(), wrapped.len() as sys::CK_ULONG);
        mechanism.with(|mechanism| {
            call!(
                self.module,
                C_UnwrapKey(
                    self.handle,
                    mechanism,
                    unwrapping as sys::CK_OBJECT_HANDLE,
                    input,
                    size,
                    template.pointer(),
                    template.len(),
                    &raw mut made
                )
            )
        })?;
        Ok(made)
    }

    /// C_DeriveKey.
    pub(crate) fn derive(
        &self,
        mechanism: &Mechanism,
        base: Handle,
        template: &[Attribute],
    ) -> Result<Handle> {
        let mut template = Marshalled::new(template);
        let mut made: sys::CK_OBJECT_HANDLE = 0;
        mechanism.with(|mechanism| {
            call!(
                self.module,
                C_DeriveKey(
                    self.handle,
                    mechanism,
                    base as sys::CK_OBJECT_HANDLE,
                    template.pointer(),
                    template.len(),
                    &raw mut made
                )
            )
        })?;
        Ok(made)
    }

    /// C_DigestInit, C_DigestUpdate(prefix), C_DigestKey, C_DigestFinal. A failure leaves the session with a digest under
    /// way: drop it.
    pub(crate) fn digest_key(
        &self,
        mechanism: &Mechanism,
        prefix: &[u8],
        key: Handle,
    ) -> Result<Vec<u8>> {
        mechanism.with(|mechanism| call!(self.module, C_DigestInit(self.handle, mechanism)))?;
        let pointer = prefix.as_ptr().cast_mut();
        let length = prefix.len() as sys::CK_ULONG;
        call!(self.module, C_DigestUpdate(self.handle, pointer, length))?;
        call!(
            self.module,
            C_DigestKey(self.handle, key as sys::CK_OBJECT_HANDLE)
        )?;
        output(|pointer, length| call!(self.module, C_DigestFinal(self.handle, pointer, length)))
    }

    /// C_EncryptInit.
    pub(crate) fn encrypt_init(&self, mechanism: &Mechanism, key: Handle) -> Result<()> {
        let function = self.module.functions.C_EncryptInit;
        self.init("C_EncryptInit", function, mechanism, key)
    }

    /// C_DecryptInit.
    pub(crate) fn decrypt_init(&self, mechanism: &Mechanism, key: Handle) -> Result<()> {
        let function = self.module.functions.C_DecryptInit;
        self.init("C_DecryptInit", function, mechanism, key)
    }

    /// C_SignInit.
    pub(crate) fn sign_init(&self, mechanism: &Mechanism, key: Handle) -> Result<()> {
        let function = self.module.functions.C_SignInit;
        self.init("C_SignInit", function, mechanism, key)
    }

    /// C_VerifyInit.
    pub(crate) fn verify_init(&self, mechanism: &Mechanism, key: Handle) -> Result<()> {
        let function = self.module.functions.C_VerifyInit;
        self.init("C_VerifyInit", function, mechanism, key)
    }

    fn init(
        &self,
        name: &'static str,
        function: Option<InitFunction>,
        mechanism: &Mechanism,
        key: Handle,
    ) -> Result<()> {
        let Some(function) = function else {
            return checked(name, sys::CKR_FUNCTION_NOT_SUPPORTED);
        };
        let key = key as sys::CK_OBJECT_HANDLE;
        // SAFETY: as in `call!`.
        mechanism.with(|mechanism| checked(name, unsafe { function(self.handle, mechanism, key) }))
    }

    /// C_Encrypt, after its init.
    pub(crate) fn encrypt(&self, data: &[u8]) -> Result<Vec<u8>> {
        let (input, size) = (data.as_ptr().cast_mut(), data.len() as sys::CK_ULONG);
        output(|to, length| call!(self.module, C_Encrypt(self.handle, input, size, to, length)))
    }

    /// C_Decrypt, after its init.
    pub(crate) fn decrypt(&self, data: &[u8]) -> Result<Vec<u8>> {
        let (input, size) = (data.as_ptr().cast_mut(), data.len() as sys::CK_ULONG);
        output(|to, length| call!(self.module, C_Decrypt(self.handle, input, size, to, length)))
    }

    /// C_Sign, after its init.
    pub(crate) fn sign(&self, data: &[u8]) -> Result<Vec<u8>> {
        let (input, size) = (data.as_ptr().cast_mut(), data.len() as sys::CK_ULONG);
        output(|to, length| call!(self.module, C_Sign(self.handle, input, size, to, length)))
    }
}

/// Gives a call room for its output and cuts it to what the call says it wrote.
fn output(call: impl FnOnce(*mut u8, *mut sys::CK_ULONG) -> Result<()>) -> Result<Vec<u8>> {
    let mut bytes = vec![0_u8; OUTPUT_BYTES_MAX];
    let mut length = bytes.len() as sys::CK_ULONG;
    call(bytes.as_mut_ptr(), &raw mut length)?;
    bytes.truncate(length as usize);
    Ok(bytes)
}
