//! Keys that were distributed, with their values.

use aws_lc_rs::cipher::{self, EncryptingKey, UnboundCipherKey};
use aws_lc_rs::hmac;
use aws_lc_rs::key_wrap::{AES_256, KeyEncryptionKey, KeyWrapPadded as _};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey,
};
use lockstep::coordinator::store::Store as _;
use lockstep::coordinator::store::sqlite::{Settings, SqliteStore};
use lockstep::model::canonical::sha256;
use lockstep::model::ids::KeyVersionId;
use lockstep::model::material::{RepositoryCopy, fingerprint_prefix};
use lockstep::model::observed::ObjectClass;
use lockstep::model::text::{from_hex, hex};
use x509_parser::der_parser::ber::{BerObject, BerObjectContent};
use x509_parser::der_parser::parse_der;

use crate::support::fleet::{Fleet, said};
use crate::support::secrets::PIECE;

const DATA: &[u8; 32] = b"something to encrypt or to sign.";

/// A key that was distributed, and its value.
pub(crate) struct Known {
    pub(crate) kind: &'static str,
    pub(crate) version: KeyVersionId,
    pub(crate) copy: RepositoryCopy,
    /// The bytes of a secret key, PKCS#8 of a private one.
    value: Vec<u8>,
    /// What it made of [`DATA`] on `frankfurt`.
    made: Vec<u8>,
}

impl Known {
    /// What the store has of the key, what its value is by the hand of an outsider, and what it does on `frankfurt`.
    pub(crate) fn of(fleet: &Fleet, kind: &'static str, id: &str) -> Self {
        let version = KeyVersionId::from_uuid(id.parse().unwrap());
        let file = fleet.dir.join("test/state/store.sqlite");
        let store = SqliteStore::open(&file, Settings::default()).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let copies = runtime.block_on(store.copies(version)).unwrap();
        let [copy] = <[RepositoryCopy; 1]>::try_from(copies).unwrap();
        let (kek, under) = (hex(b"lockstep-kek"), [0x5a; 32]);
        let reveal = [
            "--id",
            &kek,
            "--kind",
            kind,
            "--blob",
            &hex(&copy.blob),
            "--under",
            &hex(&under),
        ];
        let wrapped = from_hex(&said(&fleet.outsider("home", "reveal", &reveal))).unwrap();
        let value = unwrapped(&under, &wrapped).expect("what the outsider wrapped for us");
        let (act, data) = match kind {
            "aes" => ("encrypt", hex(DATA)),
            // The outsider takes ECDSA's data for a hash.
            "ec" => ("sign", sha256(DATA).to_string()),
            _hmac_or_rsa => ("sign", hex(DATA)),
        };
        let made = fleet.outsider("frankfurt", act, &["--id", id, "--data", &data]);
        let made = from_hex(&said(&made)).unwrap();
        Self {
            kind,
            version,
            copy,
            value,
            made,
        }
    }

    /// The value is the key's: by what the key did on `frankfurt`, and by its fingerprint.
    pub(crate) fn check_value(&self) {
        let birth = &self.copy.birth.body;
        let fingerprint = |key_type| {
            let prefix = fingerprint_prefix(ObjectClass::Secret.name(), key_type, 256, &birth.salt);
            sha256(&[&prefix[..], &self.value].concat())
        };
        match self.kind {
            "aes" => {
                let cipher = UnboundCipherKey::new(&cipher::AES_256, &self.value).unwrap();
                let mut data = *DATA;
                EncryptingKey::ecb(cipher)
                    .unwrap()
                    .encrypt(&mut data)
                    .unwrap();
                assert_eq!(data[..], self.made);
                assert_eq!(fingerprint(0x1f), birth.fingerprint.value);
            }
            "hmac" => {
                let own = hmac::Key::new(hmac::HMAC_SHA256, &self.value);
                hmac::verify(&own, DATA, &self.made).unwrap();
                assert_eq!(fingerprint(0x10), birth.fingerprint.value);
            }
            "ec" => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.value);
                let public = pair.unwrap().public_key().as_ref().to_vec();
                let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public);
                public.verify(DATA, &self.made).unwrap();
            }
            _rsa => {
                let pair = RsaKeyPair::from_pkcs8(&self.value).unwrap();
                let public = pair.public_key().as_ref();
                let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public);
                public.verify(DATA, &self.made).unwrap();
            }
        }
    }

    /// The bytes that nobody may see: a secret key itself, and what of a private one is not in its public half too.
    pub(crate) fn secret_numbers(&self) -> Vec<Vec<u8>> {
        let Some(spki) = &self.copy.birth.body.spki else {
            return vec![self.value.clone()];
        };
        let (_, pkcs8) = parse_der(&self.value).unwrap();
        let is_public = |number: &[u8]| spki.windows(number.len()).any(|part| part == number);
        let mut numbers = long_numbers(&pkcs8);
        numbers.retain(|number| !is_public(number));
        // RSA has d, p, q, two exponents and a coefficient.
        assert_eq!(numbers.len(), if self.kind == "ec" { 1 } else { 6 });
        numbers
    }
}

/// RFC 5649 in software.
pub(crate) fn unwrapped(kek: &[u8], wrapped: &[u8]) -> Option<Vec<u8>> {
    let kek = KeyEncryptionKey::new(&AES_256, kek).ok()?;
    let mut room = vec![0; wrapped.len()];
    let value = kek.unwrap_with_padding(wrapped, &mut room).ok()?;
    Some(value.to_vec())
}

/// The long numbers and octet strings of a PKCS#8 key.
#[expect(clippy::wildcard_enum_match_arm, reason = "not our enum")]
fn long_numbers(object: &BerObject<'_>) -> Vec<Vec<u8>> {
    match &object.content {
        BerObjectContent::Sequence(items) => items.iter().flat_map(long_numbers).collect(),
        BerObjectContent::OctetString(inner) if let Ok((&[], inner)) = parse_der(inner) => {
            long_numbers(&inner)
        }
        BerObjectContent::OctetString(number) | BerObjectContent::Integer(number)
            if number.len() >= PIECE =>
        {
            vec![number.to_vec()]
        }
        _other => Vec::new(),
    }
}
