//! Templates, mechanisms and attribute values as the C_ functions want them: memory layout, no calls.
#![expect(
    clippy::as_conversions,
    reason = "CK_ULONG is as wide as usize wherever PKCS#11 runs; pointers to const become CK_VOID_PTR"
)]

use std::ffi::{CStr, c_void};
use std::ptr::null_mut;

use cryptoki_sys as sys;

/// One attribute of a template.
#[derive(Debug, Clone)]
pub(crate) struct Attribute {
    kind: u64,
    value: Value,
}

#[derive(Debug, Clone)]
enum Value {
    Bytes(Vec<u8>),
    Template(Vec<Attribute>),
}

impl Attribute {
    /// CK_BBOOL.
    pub(crate) fn flag(kind: u64, on: bool) -> Self {
        Self::bytes(kind, vec![u8::from(on)])
    }

    /// CK_ULONG.
    pub(crate) fn number(kind: u64, number: u64) -> Self {
        let number = number as sys::CK_ULONG;
        Self::bytes(kind, number.to_ne_bytes().to_vec())
    }

    /// Bytes or text.
    pub(crate) fn bytes(kind: u64, bytes: impl Into<Vec<u8>>) -> Self {
        let value = Value::Bytes(bytes.into());
        Self { kind, value }
    }

    /// A nested template such as CKA_UNWRAP_TEMPLATE: of flags and numbers, one level deep.
    pub(crate) fn template(kind: u64, template: Vec<Self>) -> Self {
        let value = Value::Template(template);
        Self { kind, value }
    }

    /// Its value, if it is one byte.
    #[cfg(test)]
    pub(crate) fn on(&self) -> Option<bool> {
        match &self.value {
            Value::Bytes(bytes) => match bytes.as_slice() {
                [value] => Some(*value != 0),
                _ => None,
            },
            Value::Template(_) => None,
        }
    }

    /// The attributes of a nested template.
    #[cfg(test)]
    pub(crate) fn nested(&self) -> Option<&[Self]> {
        match &self.value {
            Value::Bytes(_) => None,
            Value::Template(inner) => Some(inner),
        }
    }

    /// Which attribute it is.
    pub(crate) fn kind(&self) -> u64 {
        self.kind
    }
}

/// A template as the module sees it. Pointers lead into the attributes it was made from, and into `nested`.
pub(crate) struct Marshalled<'a> {
    list: Vec<sys::CK_ATTRIBUTE>,
    _nested: Vec<Vec<sys::CK_ATTRIBUTE>>,
    _source: &'a [Attribute],
}

impl<'a> Marshalled<'a> {
    /// Lays the template out.
    pub(crate) fn new(source: &'a [Attribute]) -> Self {
        let mut nested = Vec::new();
        let list = source
            .iter()
            .map(|attribute| match &attribute.value {
                Value::Bytes(bytes) => sys::CK_ATTRIBUTE {
                    type_: attribute.kind as sys::CK_ULONG,
                    pValue: bytes.as_ptr() as *mut c_void,
                    ulValueLen: bytes.len() as sys::CK_ULONG,
                },
                Value::Template(inner) => {
                    let inner = Self::new(inner);
                    let bytes = size_of_val(inner.list.as_slice());
                    let pointer = inner.list.as_ptr() as *mut c_void;
                    nested.push(inner.list);
                    nested.extend(inner._nested);
                    sys::CK_ATTRIBUTE {
                        type_: attribute.kind as sys::CK_ULONG,
                        pValue: pointer,
                        ulValueLen: bytes as sys::CK_ULONG,
                    }
                }
            })
            .collect();
        Self {
            list,
            _nested: nested,
            _source: source,
        }
    }

    /// For the call; valid as long as this value.
    pub(crate) fn pointer(&mut self) -> *mut sys::CK_ATTRIBUTE {
        self.list.as_mut_ptr()
    }

    /// How many attributes.
    pub(crate) fn len(&self) -> sys::CK_ULONG {
        self.list.len() as sys::CK_ULONG
    }
}

/// CK_C_INITIALIZE_ARGS with one more pointer behind: NSS reads a field beyond the standard's struct.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct InitializeArgs {
    standard: sys::CK_C_INITIALIZE_ARGS,
    beyond: *mut c_void,
}

impl InitializeArgs {
    /// For one thread that calls, with parameters of the library's own; they must outlive this value.
    pub(crate) fn new(parameters: Option<&CStr>) -> Self {
        let arguments = Self {
            standard: sys::CK_C_INITIALIZE_ARGS {
                CreateMutex: None,
                DestroyMutex: None,
                LockMutex: None,
                UnlockMutex: None,
                flags: sys::CKF_OS_LOCKING_OK,
                pReserved: parameters.map_or(null_mut(), |text| text.as_ptr() as *mut c_void),
            },
            beyond: null_mut(),
        };
        debug_assert!(arguments.beyond.is_null(), "only ever read by NSS");
        arguments
    }
}

/// A mechanism with its parameter.
#[derive(Debug, Clone)]
pub(crate) struct Mechanism {
    /// CKM_ number.
    pub(crate) kind: u64,
    /// Its parameter.
    pub(crate) parameter: Parameter,
}

/// The parameters that we use.
#[derive(Debug, Clone)]
pub(crate) enum Parameter {
    /// None.
    None,
    /// CK_RSA_PKCS_OAEP_PARAMS: hash, MGF1 of it, an empty label.
    Oaep {
        /// CKM_ number of the hash.
        hash: u64,
        /// CKG_ number.
        mgf: u64,
    },
    /// The initialization vector of a block cipher.
    Iv([u8; 16]),
    /// CK_ECDH1_DERIVE_PARAMS without KDF: the other side's point.
    Ecdh(Vec<u8>),
    /// CK_KEY_DERIVATION_STRING_DATA.
    DerivationString(Vec<u8>),
}

impl Mechanism {
    /// One without parameter.
    pub(crate) const fn plain(kind: u64) -> Self {
        Self {
            kind,
            parameter: Parameter::None,
        }
    }

    /// Lends the mechanism to a call.
    pub(crate) fn with<T>(&self, act: impl FnOnce(*mut sys::CK_MECHANISM) -> T) -> T {
        match &self.parameter {
            Parameter::None => self.with_parameter(&mut [0_u8; 0], act),
            Parameter::Oaep { hash, mgf } => {
                let mut parameter = [sys::CK_RSA_PKCS_OAEP_PARAMS {
                    hashAlg: *hash as sys::CK_ULONG,
                    mgf: *mgf as sys::CK_ULONG,
                    source: sys::CKZ_DATA_SPECIFIED,
                    pSourceData: null_mut(),
                    ulSourceDataLen: 0,
                }];
                self.with_parameter(&mut parameter, act)
            }
            Parameter::Iv(iv) => self.with_parameter(&mut { *iv }, act),
            Parameter::Ecdh(point) => {
                let mut parameter = [sys::CK_ECDH1_DERIVE_PARAMS {
                    kdf: sys::CKD_NULL,
                    ulSharedDataLen: 0,
                    pSharedData: null_mut(),
                    ulPublicDataLen: point.len() as sys::CK_ULONG,
                    pPublicData: point.as_ptr().cast_mut(),
                }];
                self.with_parameter(&mut parameter, act)
            }
            Parameter::DerivationString(data) => {
                let mut parameter = [sys::CK_KEY_DERIVATION_STRING_DATA {
                    pData: data.as_ptr().cast_mut(),
                    ulLen: data.len() as sys::CK_ULONG,
                }];
                self.with_parameter(&mut parameter, act)
            }
        }
    }

    fn with_parameter<P, T>(
        &self,
        parameter: &mut [P],
        act: impl FnOnce(*mut sys::CK_MECHANISM) -> T,
    ) -> T {
        let bytes = size_of_val(parameter);
        let mut mechanism = sys::CK_MECHANISM {
            mechanism: self.kind as sys::CK_ULONG,
            pParameter: if bytes == 0 {
                null_mut()
            } else {
                parameter.as_mut_ptr().cast()
            },
            ulParameterLen: bytes as sys::CK_ULONG,
        };
        act(&raw mut mechanism)
    }
}

/// What C_GetAttributeValue told of one object. What the object has not, or does not tell, is missing.
#[derive(Debug)]
pub(crate) struct Values {
    /// Per attribute: start and length in the buffer; `None` if the object did not tell it.
    pub(crate) spans: Vec<(u64, Option<(usize, usize)>)>,
    /// All values.
    pub(crate) buffer: Vec<u8>,
}

impl Values {
    /// The value as it is.
    pub(crate) fn bytes(&self, kind: u64) -> Option<&[u8]> {
        let (_, span) = self.spans.iter().find(|(of, _)| *of == kind)?;
        let (start, length) = (*span)?;
        self.buffer.get(start..start.checked_add(length)?)
    }

    /// A CK_ULONG; CK_UNAVAILABLE_INFORMATION counts as missing.
    pub(crate) fn number(&self, kind: u64) -> Option<u64> {
        let bytes = self.bytes(kind)?.try_into().ok()?;
        let number = sys::CK_ULONG::from_ne_bytes(bytes);
        (number != sys::CK_UNAVAILABLE_INFORMATION).then_some(number)
    }

    /// A CK_BBOOL.
    pub(crate) fn flag(&self, kind: u64) -> Option<bool> {
        match self.bytes(kind)? {
            [value] => Some(*value != 0),
            _ => None,
        }
    }
}
