//! Birth records: that what an agent generated is what was asked, said by the agent that was bound.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

use crate::coordinator::ops::errors::OpsError;
use crate::model::canonical::sha256;
use crate::model::ids::KeyVersionId;
use crate::model::key::{KeyClass, KeySpec};
use crate::model::keystore::KeystoreRecord;
use crate::model::material::{RepositoryCopy, Statement, WRAPPED_BYTES_MAX};
use crate::model::observed::FingerprintMethod;

/// Refuses a copy that is not what was asked of this keystore.
pub(crate) fn check(
    copy: &RepositoryCopy,
    keystore: &KeystoreRecord,
    version: KeyVersionId,
    spec: KeySpec,
    salt: &[u8],
) -> Result<(), OpsError> {
    let birth = &copy.birth.body;
    let method = match spec.class() {
        KeyClass::Secret => FingerprintMethod::DigestKey,
        KeyClass::Pair => FingerprintMethod::Spki,
    };
    let is_public_part_right = match (spec.class(), &birth.spki) {
        (KeyClass::Secret, None) => true,
        (KeyClass::Pair, Some(spki)) => sha256(spki) == birth.fingerprint.value,
        (KeyClass::Secret, Some(_)) | (KeyClass::Pair, None) => false,
    };
    let is_signed = UnparsedPublicKey::new(&ED25519, &copy.birth.signer)
        .verify(&birth.canonical(), &copy.birth.signature)
        .is_ok();
    let rules = [
        ("the key version", birth.version == version),
        ("the key's kind", birth.spec == spec),
        ("the vault's salt", birth.salt == salt),
        (
            "the keystore",
            birth.keystore == keystore.id && copy.keystore == keystore.id,
        ),
        (
            "the fingerprint's method",
            birth.fingerprint.method == method,
        ),
        ("the public part", is_public_part_right),
        (
            "the blob",
            !copy.blob.is_empty()
                && copy.blob.len() <= WRAPPED_BYTES_MAX
                && birth.blob == sha256(&copy.blob),
        ),
        (
            "the signer's identity",
            copy.birth.signer_digest() == keystore.identity,
        ),
        ("the signature", is_signed),
    ];
    match rules.into_iter().find(|(_, holds)| !holds) {
        None => Ok(()),
        Some((what, _)) => Err(OpsError::refused(
            "birth_record",
            format!(
                "keystore {:?} made a key whose birth record is wrong about {what}: nothing was kept",
                keystore.name
            ),
        )),
    }
}
