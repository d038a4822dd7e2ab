//! What the module remembers: objects with the attributes they were made with, and what a token has besides.

use std::collections::BTreeMap;
use std::sync::Mutex;

use cryptoki_sys::*;

type Attributes = BTreeMap<CK_ATTRIBUTE_TYPE, Vec<u8>>;

pub(crate) struct Objects {
    all: BTreeMap<CK_OBJECT_HANDLE, Attributes>,
    next: CK_OBJECT_HANDLE,
    /// What the running search found.
    pub(crate) found: Vec<CK_OBJECT_HANDLE>,
}

static OBJECTS: Mutex<Objects> = Mutex::new(Objects {
    all: BTreeMap::new(),
    next: 1,
    found: Vec::new(),
});

pub(crate) fn with<T>(act: impl FnOnce(&mut Objects) -> T) -> T {
    act(&mut OBJECTS.lock().expect("no call panics"))
}

/// Attributes as they stand in a template; nested ones as their bytes.
pub(crate) unsafe fn attributes(template: *const CK_ATTRIBUTE, count: CK_ULONG) -> Attributes {
    let list = match count {
        0 => &[],
        _ => unsafe { std::slice::from_raw_parts(template, count as usize) },
    };
    let value = |one: &CK_ATTRIBUTE| match one.ulValueLen {
        0 => Vec::new(),
        length => {
            unsafe { std::slice::from_raw_parts(one.pValue.cast::<u8>(), length as usize) }.to_vec()
        }
    };
    list.iter().map(|one| (one.type_, value(one))).collect()
}

fn number(number: CK_ULONG) -> Vec<u8> {
    number.to_ne_bytes().to_vec()
}

impl Objects {
    /// A token with a marker, one secret key, one RSA pair and one EC pair.
    pub(crate) fn reset(&mut self) {
        (self.next, self.found) = (1, Vec::new());
        self.all.clear();
        self.make([
            (CKA_CLASS, number(CKO_DATA)),
            (CKA_APPLICATION, b"lockstep".to_vec()),
            (CKA_LABEL, b"lockstep-marker".to_vec()),
            (
                CKA_VALUE,
                [[7; 16].as_slice(), &[0, 0, 0, 0, 0, 0, 0, 1]].concat(),
            ),
        ]);
        for (class, kind) in [
            (CKO_SECRET_KEY, CKK_AES),
            (CKO_PRIVATE_KEY, CKK_RSA),
            (CKO_PUBLIC_KEY, CKK_RSA),
            (CKO_PRIVATE_KEY, CKK_EC),
            (CKO_PUBLIC_KEY, CKK_EC),
        ] {
            self.key(class, kind, (&[0xaa], b"made"));
        }
        let own = |name: &'static str| (name.as_bytes(), name.as_bytes());
        self.key(CKO_SECRET_KEY, CKK_AES, own("lockstep-kek"));
        self.key(CKO_PRIVATE_KEY, CKK_RSA, own("lockstep-transport"));
        self.key(CKO_PUBLIC_KEY, CKK_RSA, own("lockstep-transport"));
    }

    fn key(&mut self, class: CK_ULONG, kind: CK_ULONG, (id, label): (&[u8], &[u8])) {
        let flag = |on: bool| vec![u8::from(on)];
        let is_kek = label == b"lockstep-kek";
        self.make([
            (CKA_CLASS, number(class)),
            (CKA_KEY_TYPE, number(kind)),
            (CKA_ID, id.to_vec()),
            (CKA_LABEL, label.to_vec()),
            (CKA_PRIVATE, flag(class != CKO_PUBLIC_KEY)),
            (CKA_SENSITIVE, flag(true)),
            (CKA_EXTRACTABLE, flag(false)),
            (CKA_MODIFIABLE, flag(false)),
            (CKA_COPYABLE, flag(false)),
            (CKA_ENCRYPT, flag(id == [0xaa])),
            (CKA_WRAP, flag(is_kek || class == CKO_PUBLIC_KEY)),
            (CKA_UNWRAP, flag(is_kek || class == CKO_PRIVATE_KEY)),
        ]);
    }

    /// A new object; what its template leaves out is as tokens have it.
    pub(crate) fn make(
        &mut self,
        template: impl IntoIterator<Item = (CK_ATTRIBUTE_TYPE, Vec<u8>)>,
    ) -> CK_OBJECT_HANDLE {
        let point = [&[0x04, 0x41, 0x04][..], &[0x5a; 64]].concat();
        let mut attributes = Attributes::from([
            (CKA_TOKEN, vec![1]),
            (CKA_MODULUS, vec![0xc5; 384]),
            (CKA_PUBLIC_EXPONENT, vec![1, 0, 1]),
            (
                CKA_EC_PARAMS,
                vec![0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
            ),
            (CKA_EC_POINT, point),
            (CKA_VALUE_LEN, number(32)),
        ]);
        attributes.extend(template);
        let handle = self.next;
        self.next += 1;
        self.all.insert(handle, attributes);
        handle
    }

    pub(crate) fn set(&mut self, handle: CK_OBJECT_HANDLE, changes: Attributes) {
        self.all.entry(handle).or_default().extend(changes);
    }

    pub(crate) fn copy(&mut self, handle: CK_OBJECT_HANDLE, changes: Attributes) -> CK_ULONG {
        let mut copy = self.all.get(&handle).cloned().unwrap_or_default();
        copy.extend(changes);
        self.make(copy)
    }

    pub(crate) fn destroy(&mut self, handle: CK_OBJECT_HANDLE) {
        self.all.remove(&handle);
    }

    pub(crate) fn value(
        &self,
        handle: CK_OBJECT_HANDLE,
        kind: CK_ATTRIBUTE_TYPE,
    ) -> Option<Vec<u8>> {
        self.all.get(&handle)?.get(&kind).cloned()
    }

    pub(crate) fn search(&mut self, template: &Attributes) {
        let fits = |object: &Attributes| {
            let has = |(kind, value): (_, &Vec<u8>)| object.get(kind) == Some(value);
            template.iter().all(has)
        };
        self.found = self
            .all
            .iter()
            .filter_map(|(handle, object)| fits(object).then_some(*handle))
            .collect();
    }
}
