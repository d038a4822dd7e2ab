//! The baseline programs: PKCS#11 through cryptoki, and the cheapest calls under it. They share no code with the agent.
#![expect(
    unsafe_code,
    reason = "the cheapest sequence of C calls is the yardstick; cryptoki makes more"
)]
#![expect(
    clippy::disallowed_types,
    reason = "baselines must not go through the agent's own layer"
)]

use std::cell::OnceCell;
use std::path::Path;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource};
use cryptoki::mechanism::{Mechanism, MechanismType};
use cryptoki::object::{Attribute, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki_sys as sys;
use lockstep::model::job::{Generated, Wrapped};
use lockstep::model::material::fingerprint_prefix;

use crate::parts::material::plan;
use crate::parts::tokens::Told;

/// Attributes of one read, with the room for each.
pub type Wanted = &'static [(sys::CK_ULONG, usize)];

const NUMBER: usize = size_of::<sys::CK_ULONG>();

/// All that a scan must ask of an object of any key class, in one call.
pub const OF_ANY_KEY: Wanted = &[
    (sys::CKA_CLASS, NUMBER),
    (sys::CKA_KEY_TYPE, NUMBER),
    (sys::CKA_ID, 64),
    (sys::CKA_LABEL, 256),
    (sys::CKA_ENCRYPT, 1),
    (sys::CKA_DECRYPT, 1),
    (sys::CKA_SIGN, 1),
    (sys::CKA_SIGN_RECOVER, 1),
    (sys::CKA_VERIFY, 1),
    (sys::CKA_VERIFY_RECOVER, 1),
    (sys::CKA_WRAP, 1),
    (sys::CKA_UNWRAP, 1),
    (sys::CKA_DERIVE, 1),
    (sys::CKA_SENSITIVE, 1),
    (sys::CKA_EXTRACTABLE, 1),
    (sys::CKA_VALUE_LEN, NUMBER),
    (sys::CKA_MODULUS, 512),
    (sys::CKA_PUBLIC_EXPONENT, 16),
    (sys::CKA_EC_PARAMS, 32),
    (sys::CKA_EC_POINT, 160),
];

/// What would do if all keys were known to be secret keys.
pub const OF_SECRET_KEY: Wanted = &[
    (sys::CKA_CLASS, NUMBER),
    (sys::CKA_KEY_TYPE, NUMBER),
    (sys::CKA_ID, 64),
    (sys::CKA_LABEL, 256),
    (sys::CKA_ENCRYPT, 1),
    (sys::CKA_DECRYPT, 1),
    (sys::CKA_SIGN, 1),
    (sys::CKA_VERIFY, 1),
    (sys::CKA_WRAP, 1),
    (sys::CKA_UNWRAP, 1),
    (sys::CKA_DERIVE, 1),
    (sys::CKA_SENSITIVE, 1),
    (sys::CKA_EXTRACTABLE, 1),
    (sys::CKA_VALUE_LEN, NUMBER),
];

/// Handles that one C_FindObjects takes.
const FIND_BATCH: usize = 1024;

/// A module that is loaded, with a logged-in session on each of some tokens.
pub struct Bare {
    module: Pkcs11,
    raw: sys::Pkcs11,
    sessions: Vec<Session>,
    /// The key on each token that opens envelopes, once it was used.
    transports: Vec<OnceCell<ObjectHandle>>,
}

impl Bare {
    /// Loads, initialises, finds the tokens by label, logs in.
    pub fn open(path: &Path, tokens: &[Told]) -> Self {
        let module = Pkcs11::new(path).unwrap();
        module
            .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
            .unwrap();
        // SAFETY: the library is loaded already: this gives its functions once more.
        let raw = unsafe { sys::Pkcs11::new(path) }.unwrap();
        let slots = module.get_slots_with_token().unwrap();
        let sessions = tokens
            .iter()
            .map(|token| {
                let slot = slots
                    .iter()
                    .copied()
                    .find(|&slot| module.get_token_info(slot).unwrap().label() == token.label)
                    .unwrap();
                let session = module.open_rw_session(slot).unwrap();
                session
                    .login(UserType::User, Some(&token.pin().into()))
                    .unwrap();
                session
            })
            .collect();
        Self {
            module,
            raw,
            sessions,
            transports: tokens.iter().map(|_| OnceCell::new()).collect(),
        }
    }

    pub fn close(self) {
        drop(self.sessions);
        self.module.finalize().unwrap();
    }

    /// Makes AES-256 keys on each token, as Lockstep's are, disabled, numbered from 0.
    pub fn make_keys(&self, count: usize) {
        for session in &self.sessions {
            for number in 0..count {
                session
                    .generate_key(&Mechanism::AesKeyGen, &key_template(number))
                    .unwrap();
            }
        }
    }

    /// Finds all token objects of the first token and reads each with one call; gives how many there were.
    pub fn inventory(&self, wanted: Wanted) -> usize {
        let session = self.sessions[0].handle();
        let handles = self.find_all(session);
        let mut read = Read::new(wanted);
        for handle in &handles {
            read.one(&self.raw, session, *handle);
        }
        handles.len()
    }

    /// Finds a key on the first token.
    pub fn find(&self, number: usize) {
        find_key(&self.sessions[0], number);
    }

    /// Nothing on that token has the key's id or its label.
    pub fn look(&self, token: usize, number: usize) {
        for name in [
            Attribute::Id(key_id(number)),
            Attribute::Label(label(number)),
        ] {
            let found = self.sessions[token].find_objects(&[name, Attribute::Token(true)]);
            assert_eq!(found.unwrap(), []);
        }
    }

    /// Opens an envelope to a disabled key on that token: all that it takes, and nothing looked at.
    pub fn unwrap(&self, token: usize, number: usize, envelope: &Wrapped) -> ObjectHandle {
        let session = &self.sessions[token];
        let transport = *self.transports[token].get_or_init(|| find_transport(session));
        let oaep = Mechanism::RsaPkcsOaep(PkcsOaepParams::new(
            MechanismType::SHA1,
            PkcsMgfType::MGF1_SHA1,
            PkcsOaepSource::empty(),
        ));
        let ephemeral = session
            .unwrap_key(&oaep, transport, &envelope.wrapped_kek, &ephemeral_key())
            .unwrap();
        let mechanism = Mechanism::AesKeyWrapPad;
        let template = unwrapped_key(number);
        let key = session
            .unwrap_key(&mechanism, ephemeral, &envelope.wrapped_key, &template)
            .unwrap();
        session.destroy_object(ephemeral).unwrap();
        key
    }

    /// The new key is the right one, its use is refused, and the token lists it.
    pub fn verify(&self, token: usize, number: usize, key: ObjectHandle, born: &Generated) {
        let session = &self.sessions[token];
        Read::new(OF_ANY_KEY).one(&self.raw, session.handle(), key.handle());
        let plan = plan(number);
        let prefix = fingerprint_prefix("secret key", sys::CKK_AES, plan.spec.bits(), &plan.salt);
        session.digest_init(&Mechanism::Sha256).unwrap();
        session.digest_update(&prefix).unwrap();
        session.digest_key(key).unwrap();
        let digest = session.digest_final().unwrap();
        assert_eq!(digest.as_slice(), born.fingerprint.value.0);
        let tried = session.encrypt_init(&Mechanism::AesEcb, key);
        assert!(tried.is_err());
        let by_id = [Attribute::Id(key_id(number)), Attribute::Token(true)];
        assert_eq!(session.find_objects(&by_id).unwrap(), [key]);
        Read::new(OF_ANY_KEY).one(&self.raw, session.handle(), key.handle());
    }

    fn find_all(&self, session: sys::CK_SESSION_HANDLE) -> Vec<sys::CK_OBJECT_HANDLE> {
        let init = *self.raw.C_FindObjectsInit.as_ref().unwrap();
        let find = *self.raw.C_FindObjects.as_ref().unwrap();
        let end = *self.raw.C_FindObjectsFinal.as_ref().unwrap();
        let mut yes = sys::CK_TRUE;
        let mut template = [sys::CK_ATTRIBUTE {
            type_: sys::CKA_TOKEN,
            pValue: (&raw mut yes).cast(),
            ulValueLen: 1,
        }];
        // SAFETY: a template of one attribute that outlives the call.
        assert_eq!(unsafe { init(session, template.as_mut_ptr(), 1) }, 0);
        let mut found = Vec::new();
        loop {
            let mut batch = [0; FIND_BATCH];
            let mut count = 0;
            let room = FIND_BATCH as sys::CK_ULONG;
            // SAFETY: room for as many handles as it says.
            let rv = unsafe { find(session, batch.as_mut_ptr(), room, &raw mut count) };
            assert_eq!(rv, sys::CKR_OK);
            if count == 0 {
                break;
            }
            found.extend_from_slice(&batch[..count as usize]);
        }
        // SAFETY: ends the search that was begun above.
        assert_eq!(unsafe { end(session) }, 0);
        found
    }

    /// On each token in turn: find key 0 by its id, set all its usages, try it. Enabled, it must work.
    pub fn set_usage_everywhere(&self, enabled: bool) {
        for session in &self.sessions {
            let key = find_key(session, 0);
            session.update_attributes(key, &usage(enabled)).unwrap();
            let tried = session.encrypt(&Mechanism::AesEcb, key, &[0; 16]);
            assert_eq!(tried.is_ok(), enabled);
        }
    }
}

/// Reads objects with one call each.
struct Read {
    wanted: Wanted,
    buffers: Vec<Vec<u8>>,
    list: Vec<sys::CK_ATTRIBUTE>,
}

impl Read {
    fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            buffers: wanted.iter().map(|(_, room)| vec![0; *room]).collect(),
            list: Vec::with_capacity(wanted.len()),
        }
    }

    fn one(
        &mut self,
        raw: &sys::Pkcs11,
        session: sys::CK_SESSION_HANDLE,
        object: sys::CK_OBJECT_HANDLE,
    ) {
        let get = *raw.C_GetAttributeValue.as_ref().unwrap();
        self.list.clear();
        for ((kind, room), buffer) in self.wanted.iter().zip(&mut self.buffers) {
            self.list.push(sys::CK_ATTRIBUTE {
                type_: *kind,
                pValue: buffer.as_mut_ptr().cast(),
                ulValueLen: *room as sys::CK_ULONG,
            });
        }
        let count = self.list.len() as sys::CK_ULONG;
        // SAFETY: each attribute leads into a buffer of its stated length, which outlives the call.
        let rv = unsafe { get(session, object, self.list.as_mut_ptr(), count) };
        assert!(
            rv == sys::CKR_OK || rv == sys::CKR_ATTRIBUTE_TYPE_INVALID,
            "{rv:#x}"
        );
        assert!(self.list[3].ulValueLen > 0, "an object without a label");
    }
}

fn find_transport(session: &Session) -> ObjectHandle {
    let found = session
        .find_objects(&[
            Attribute::Class(ObjectClass::PRIVATE_KEY),
            Attribute::Label(b"lockstep-transport".to_vec()),
        ])
        .unwrap();
    assert_eq!(found.len(), 1);
    found[0]
}

fn find_key(session: &Session, number: usize) -> ObjectHandle {
    let found = session
        .find_objects(&[
            Attribute::Token(true),
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::Id(key_id(number)),
        ])
        .unwrap();
    assert_eq!(found.len(), 1);
    found[0]
}

fn usage(enabled: bool) -> Vec<Attribute> {
    vec![
        Attribute::Encrypt(enabled),
        Attribute::Decrypt(enabled),
        Attribute::Sign(false),
        Attribute::Verify(false),
        Attribute::Wrap(false),
        Attribute::Unwrap(false),
        Attribute::Derive(false),
    ]
}

/// CKA_ID of a key: 16 bytes, as a UUID has.
pub fn key_id(number: usize) -> Vec<u8> {
    let mut id = vec![0xc0; 16];
    id[8..].copy_from_slice(&(number as u64).to_be_bytes());
    id
}

/// CKA_LABEL of a key.
fn label(number: usize) -> Vec<u8> {
    format!("orders-production-{number:06}").into_bytes()
}

fn key_template(number: usize) -> Vec<Attribute> {
    let mut template = vec![
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::ValueLen(32.into()),
        Attribute::Id(key_id(number)),
        Attribute::Label(label(number)),
    ];
    template.extend(usage(false));
    template
}

/// The same for a key that is unwrapped: its kind is said, and its length is not.
fn unwrapped_key(number: usize) -> Vec<Attribute> {
    let mut template = key_template(number);
    template.retain(|attribute| !matches!(attribute, Attribute::ValueLen(_)));
    template.extend([
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Copyable(false),
    ]);
    template
}

/// The session object that opens the inner wrapping.
fn ephemeral_key() -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Encrypt(false),
        Attribute::Decrypt(false),
        Attribute::Unwrap(true),
    ]
}
