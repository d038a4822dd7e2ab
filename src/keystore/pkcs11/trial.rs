//! Trying one usage of one key, and what the token answers on a scratch key with that usage on and off.

use cryptoki_sys as sys;

use crate::keystore::pkcs11::failure::kind_of;
use crate::keystore::pkcs11::fingerprint::signing_input;
use crate::keystore::pkcs11::generate::{Made, make};
use crate::keystore::pkcs11::mechanism::{self, session_key};
use crate::keystore::pkcs11::object::attribute_of;
use crate::keystore::pkcs11::probe::wrapping::oaep_by_software;
use crate::keystore::pkcs11::raw::{CallFailed, Handle, Session};
use crate::keystore::pkcs11::spki::PublicPart;
use crate::keystore::pkcs11::template::{Attribute, Mechanism, Parameter};
use crate::keystore::pkcs11::token::Pkcs11Token;
use crate::model::capabilities::Capabilities;
use crate::model::job::{FailureKind, TokenFailure};
use crate::model::key::{Algorithm, KeySpec, Usage, UsageSet};
use crate::model::observed::ObjectClass;

/// What is signed and encrypted: nobody must rely on it, so it says what it is.
const MESSAGE: &[u8] = b"lockstep/trial/1";

/// What the token answers on a scratch key of the kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Learned {
    /// With the usage on.
    pub(crate) on: u64,
    /// With it off.
    pub(crate) off: u64,
}

impl Learned {
    /// Whether an answer tells on from off.
    pub(crate) const fn tells(self) -> bool {
        self.on == sys::CKR_OK && self.off != sys::CKR_OK
    }
}

/// One operation that shows whether a key may be used.
#[derive(Debug)]
pub(crate) struct Trial {
    mechanism: Mechanism,
    act: Act,
}

#[derive(Debug)]
enum Act {
    Encrypt(Vec<u8>),
    Decrypt(Vec<u8>),
    Sign(Vec<u8>),
    /// Only begun: a signature of the key is not at hand.
    Verify,
    /// Of a new session key.
    Wrap,
    Unwrap(Vec<u8>),
    Derive,
}

impl Trial {
    /// The trial of this usage, if there is one for this kind of key.
    pub(crate) fn of(
        spec: KeySpec,
        usage: Usage,
        public: Option<&PublicPart>,
        capabilities: &Capabilities,
    ) -> Option<Self> {
        match spec.algorithm() {
            Algorithm::Aes => aes(usage, capabilities),
            Algorithm::Des => des(usage),
            Algorithm::Hmac => hmac(usage, spec.bits()),
            Algorithm::Rsa => rsa(usage, public?, capabilities),
            Algorithm::Ec => ec(usage, public?),
        }
    }

    /// The C_ function whose answer counts.
    pub(crate) const fn function(&self) -> &'static str {
        match self.act {
            Act::Encrypt(_) => "C_EncryptInit",
            Act::Decrypt(_) => "C_DecryptInit",
            Act::Sign(_) => "C_SignInit",
            Act::Verify => "C_VerifyInit",
            Act::Wrap => "C_WrapKey",
            Act::Unwrap(_) => "C_UnwrapKey",
            Act::Derive => "C_DeriveKey",
        }
    }

    /// Tries it, in a session that ends with it.
    pub(crate) fn run(&self, token: &Pkcs11Token, key: Handle) -> Result<u64, TokenFailure> {
        let session = token.session()?;
        match self.attempt(&session, key) {
            Ok(()) => Ok(sys::CKR_OK),
            // The token is lost: that is no answer, and nothing to be learned.
            Err(failed) if kind_of(failed.rv) == FailureKind::Restart => Err(failed.into()),
            Err(failed) => Ok(failed.rv),
        }
    }

    fn attempt(&self, session: &Session, key: Handle) -> Result<(), CallFailed> {
        let mechanism = &self.mechanism;
        match &self.act {
            Act::Encrypt(data) => {
                session.encrypt_init(mechanism, key)?;
                session.encrypt(data).map(drop)
            }
            Act::Decrypt(data) => {
                session.decrypt_init(mechanism, key)?;
                session.decrypt(data).map(drop)
            }
            Act::Sign(data) => {
                session.sign_init(mechanism, key)?;
                session.sign(data).map(drop)
            }
            Act::Verify => session.verify_init(mechanism, key),
            Act::Wrap => {
                let mut template =
                    session_key(ObjectClass::Secret, sys::CKK_AES, UsageSet::NONE, true);
                template.push(Attribute::number(sys::CKA_VALUE_LEN, 16));
                let other = session.generate(&Mechanism::plain(sys::CKM_AES_KEY_GEN), &template)?;
                session.wrap(mechanism, key, other).map(drop)
            }
            Act::Unwrap(blob) => {
                let template =
                    session_key(ObjectClass::Secret, sys::CKK_AES, UsageSet::NONE, false);
                session.unwrap(mechanism, key, blob, &template).map(drop)
            }
            Act::Derive => {
                let kind = sys::CKK_GENERIC_SECRET;
                let mut template = session_key(ObjectClass::Secret, kind, UsageSet::NONE, false);
                template.push(Attribute::number(sys::CKA_VALUE_LEN, 16));
                session.derive(mechanism, key, &template).map(drop)
            }
        }
    }
}

fn aes(usage: Usage, capabilities: &Capabilities) -> Option<Trial> {
    let block = MESSAGE.to_vec();
    let wrapping = || capabilities.rfc5649.map(mechanism::rfc5649);
    let (mechanism, act) = match usage {
        Usage::Encrypt => (Mechanism::plain(sys::CKM_AES_ECB), Act::Encrypt(block)),
        Usage::Decrypt => (Mechanism::plain(sys::CKM_AES_ECB), Act::Decrypt(block)),
        Usage::Sign => (Mechanism::plain(sys::CKM_AES_CMAC), Act::Sign(block)),
        Usage::Verify => (Mechanism::plain(sys::CKM_AES_CMAC), Act::Verify),
        Usage::Wrap => (wrapping()?, Act::Wrap),
        Usage::Derive => {
            let mechanism = Mechanism {
                kind: sys::CKM_AES_ECB_ENCRYPT_DATA,
                parameter: Parameter::DerivationString(block),
            };
            (mechanism, Act::Derive)
        }
        // Without its value no blob can be made that the key opens.
        Usage::Unwrap | Usage::SignRecover | Usage::VerifyRecover => return None,
    };
    Some(Trial { mechanism, act })
}

fn des(usage: Usage) -> Option<Trial> {
    let block = MESSAGE.iter().copied().take(8).collect();
    let (mechanism, act) = match usage {
        Usage::Encrypt => (sys::CKM_DES3_ECB, Act::Encrypt(block)),
        Usage::Decrypt => (sys::CKM_DES3_ECB, Act::Decrypt(block)),
        Usage::Sign => (sys::CKM_DES3_CMAC, Act::Sign(block)),
        Usage::Verify => (sys::CKM_DES3_CMAC, Act::Verify),
        Usage::Wrap | Usage::Unwrap | Usage::Derive | Usage::SignRecover | Usage::VerifyRecover => {
            return None;
        }
    };
    Some(Trial {
        mechanism: Mechanism::plain(mechanism),
        act,
    })
}

fn hmac(usage: Usage, bits: u32) -> Option<Trial> {
    // Tokens refuse HMAC keys shorter than the hash.
    let mechanism = if bits < 256 {
        sys::CKM_SHA_1_HMAC
    } else {
        sys::CKM_SHA256_HMAC
    };
    let act = match usage {
        Usage::Sign => Act::Sign(MESSAGE.to_vec()),
        Usage::Verify => Act::Verify,
        Usage::Encrypt
        | Usage::Decrypt
        | Usage::Wrap
        | Usage::Unwrap
        | Usage::Derive
        | Usage::SignRecover
        | Usage::VerifyRecover => return None,
    };
    Some(Trial {
        mechanism: Mechanism::plain(mechanism),
        act,
    })
}

fn rsa(usage: Usage, public: &PublicPart, capabilities: &Capabilities) -> Option<Trial> {
    let hash = *capabilities.oaep_hashes.first()?;
    let oaep = mechanism::oaep(hash);
    let hidden = || {
        let spki = public.spki()?;
        oaep_by_software(&spki, hash, MESSAGE).ok()
    };
    let (signing, input) = signing_input(public, MESSAGE);
    let (mechanism, act) = match usage {
        Usage::Sign => (signing, Act::Sign(input)),
        Usage::Verify => (signing, Act::Verify),
        Usage::Encrypt => (oaep, Act::Encrypt(MESSAGE.to_vec())),
        Usage::Decrypt => (oaep, Act::Decrypt(hidden()?)),
        Usage::Wrap => (oaep, Act::Wrap),
        Usage::Unwrap => (oaep, Act::Unwrap(hidden()?)),
        Usage::Derive | Usage::SignRecover | Usage::VerifyRecover => return None,
    };
    Some(Trial { mechanism, act })
}

fn ec(usage: Usage, public: &PublicPart) -> Option<Trial> {
    let (signing, input) = signing_input(public, MESSAGE);
    let (mechanism, act) = match usage {
        Usage::Sign => (signing, Act::Sign(input)),
        Usage::Verify => (signing, Act::Verify),
        Usage::Derive => {
            let PublicPart::Ec { point, .. } = public else {
                return None;
            };
            let mechanism = Mechanism {
                kind: sys::CKM_ECDH1_DERIVE,
                parameter: Parameter::Ecdh(point.clone()),
            };
            (mechanism, Act::Derive)
        }
        Usage::Encrypt
        | Usage::Decrypt
        | Usage::Wrap
        | Usage::Unwrap
        | Usage::SignRecover
        | Usage::VerifyRecover => return None,
    };
    Some(Trial { mechanism, act })
}

/// What the token answers on a scratch key of this kind; tried once in this process.
pub(crate) fn learn(
    token: &mut Pkcs11Token,
    spec: KeySpec,
    usage: Usage,
    class: ObjectClass,
    capabilities: &Capabilities,
) -> Result<Option<Learned>, TokenFailure> {
    let spec = scratch_spec(spec);
    let known = (spec, usage, class);
    if let Some(learned) = token.known.learned.get(&known) {
        return Ok(Some(*learned));
    }
    let session = token.session()?;
    let made = make_usable(&session, spec)?;
    let (key, part) = match (class, &made.public) {
        (ObjectClass::Public, Some((public, part))) => (*public, Some(part)),
        (ObjectClass::Public | ObjectClass::Secret | ObjectClass::Private, _) => {
            (made.key, made.public.as_ref().map(|(_, part)| part))
        }
    };
    let Some(trial) = Trial::of(spec, usage, part, capabilities) else {
        return Ok(None);
    };
    let on = trial.run(token, key)?;
    session.set(key, &[Attribute::flag(attribute_of(usage), false)])?;
    let off = trial.run(token, key)?;
    let learned = Learned { on, off };
    token.known.learned.insert(known, learned);
    Ok(Some(learned))
}

/// A scratch key that may be used in every way: all that PKCS#11 knows, or where the token minds (NSS makes no EC keys that
/// wrap), all that the algorithm can do.
pub(crate) fn make_usable(session: &Session, spec: KeySpec) -> Result<Made, TokenFailure> {
    make(session, spec, UsageSet::of(&Usage::ALL), false)
        .or_else(|_minds| make(session, spec, spec.possible_usage(), false))
}

/// The size makes no difference to what is refused, and RSA keys take long to make.
pub(crate) fn scratch_spec(spec: KeySpec) -> KeySpec {
    match spec.algorithm() {
        Algorithm::Rsa => KeySpec::new(Algorithm::Rsa, 2048).unwrap_or(spec),
        Algorithm::Aes | Algorithm::Des | Algorithm::Ec | Algorithm::Hmac => spec,
    }
}
