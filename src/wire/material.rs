//! Signed birth records, endorsements and envelopes. Reading checks shapes and lengths; signatures are the agent's to check.

use crate::model::ids::{Epoch, Generation, KeyVersionId, KeystoreId};
use crate::model::keystore::{Route, Routes};
use crate::model::material::{BirthRecord, Endorsement, Envelope, Signed, WRAPPED_BYTES_MAX};
use crate::wire::invalid::{
    InvalidMessage, at_most, digest, exactly, id, message, optional_at_most, signed_time, word,
};
use crate::wire::key::{numbers_of, words_once};
use crate::wire::limits::{SALT_BYTES_MAX, SIGNATURE_BYTES, SIGNER_BYTES, SPKI_BYTES_MAX};
use crate::wire::v1;

/// A statement with a signer and a signature of the right lengths.
pub(in crate::wire) fn signed<T>(
    body: T,
    signer: Vec<u8>,
    signature: Vec<u8>,
) -> Result<Signed<T>, InvalidMessage> {
    Ok(Signed {
        body,
        signer: exactly(signer, SIGNER_BYTES, "signer")?,
        signature: exactly(signature, SIGNATURE_BYTES, "signature")?,
    })
}

impl From<Signed<BirthRecord>> for v1::BirthRecord {
    fn from(birth: Signed<BirthRecord>) -> Self {
        let body = birth.body;
        Self {
            version: body.version.uuid().as_bytes().to_vec(),
            spec: Some(body.spec.into()),
            fingerprint: Some(body.fingerprint.into()),
            salt: body.salt,
            spki: body.spki,
            blob_digest: body.blob.0.to_vec(),
            keystore: body.keystore.uuid().as_bytes().to_vec(),
            at_ms: body.at.0,
            signer: birth.signer,
            signature: birth.signature,
        }
    }
}

impl TryFrom<v1::BirthRecord> for Signed<BirthRecord> {
    type Error = InvalidMessage;

    fn try_from(raw: v1::BirthRecord) -> Result<Self, InvalidMessage> {
        let body = BirthRecord {
            version: id(&raw.version, KeyVersionId::from_uuid, "version")?,
            spec: message(raw.spec, "spec")?,
            fingerprint: message(raw.fingerprint, "fingerprint")?,
            salt: at_most(raw.salt, SALT_BYTES_MAX, "salt")?,
            spki: optional_at_most(raw.spki, SPKI_BYTES_MAX, "spki")?,
            blob: digest(&raw.blob_digest, "blob_digest")?,
            keystore: id(&raw.keystore, KeystoreId::from_uuid, "keystore")?,
            at: signed_time(raw.at_ms, "at_ms")?,
        };
        signed(body, raw.signer, raw.signature)
    }
}

impl From<Signed<Endorsement>> for v1::Endorsement {
    fn from(endorsement: Signed<Endorsement>) -> Self {
        let body = endorsement.body;
        Self {
            keystore: body.keystore.uuid().as_bytes().to_vec(),
            epoch: body.epoch.0,
            spki: body.spki,
            wrappings: numbers_of::<v1::Wrapping, _>(body.routes.wrappings),
            oaep_hashes: numbers_of::<v1::OaepHash, _>(body.routes.oaep_hashes),
            at_ms: body.at.0,
            signer: endorsement.signer,
            signature: endorsement.signature,
        }
    }
}

impl TryFrom<v1::Endorsement> for Signed<Endorsement> {
    type Error = InvalidMessage;

    fn try_from(raw: v1::Endorsement) -> Result<Self, InvalidMessage> {
        let body = Endorsement {
            keystore: id(&raw.keystore, KeystoreId::from_uuid, "keystore")?,
            epoch: Epoch(raw.epoch),
            spki: at_most(raw.spki, SPKI_BYTES_MAX, "spki")?,
            routes: Routes {
                wrappings: words_once::<v1::Wrapping, _>(&raw.wrappings, "wrappings")?,
                oaep_hashes: words_once::<v1::OaepHash, _>(&raw.oaep_hashes, "oaep_hashes")?,
            },
            at: signed_time(raw.at_ms, "at_ms")?,
        };
        signed(body, raw.signer, raw.signature)
    }
}

impl From<Signed<Envelope>> for v1::Envelope {
    fn from(envelope: Signed<Envelope>) -> Self {
        let body = envelope.body;
        Self {
            version: body.version.uuid().as_bytes().to_vec(),
            spec: Some(body.spec.into()),
            fingerprint: Some(body.fingerprint.into()),
            salt: body.salt,
            spki: body.spki,
            source: body.source.uuid().as_bytes().to_vec(),
            target: body.target.uuid().as_bytes().to_vec(),
            generation: body.generation.0,
            transport_digest: body.transport.0.to_vec(),
            wrapping: v1::Wrapping::from(body.route.wrapping).into(),
            oaep_hash: v1::OaepHash::from(body.route.oaep_hash).into(),
            wrapped_kek: body.wrapped_kek,
            wrapped_key: body.wrapped_key,
            at_ms: body.at.0,
            signer: envelope.signer,
            signature: envelope.signature,
        }
    }
}

impl TryFrom<v1::Envelope> for Signed<Envelope> {
    type Error = InvalidMessage;

    fn try_from(raw: v1::Envelope) -> Result<Self, InvalidMessage> {
        let body = Envelope {
            version: id(&raw.version, KeyVersionId::from_uuid, "version")?,
            spec: message(raw.spec, "spec")?,
            fingerprint: message(raw.fingerprint, "fingerprint")?,
            salt: at_most(raw.salt, SALT_BYTES_MAX, "salt")?,
            spki: optional_at_most(raw.spki, SPKI_BYTES_MAX, "spki")?,
            source: id(&raw.source, KeystoreId::from_uuid, "source")?,
            target: id(&raw.target, KeystoreId::from_uuid, "target")?,
            generation: Generation(raw.generation),
            transport: digest(&raw.transport_digest, "transport_digest")?,
            route: Route {
                wrapping: word::<v1::Wrapping, _>(raw.wrapping, "wrapping")?,
                oaep_hash: word::<v1::OaepHash, _>(raw.oaep_hash, "oaep_hash")?,
            },
            wrapped_kek: at_most(raw.wrapped_kek, WRAPPED_BYTES_MAX, "wrapped_kek")?,
            wrapped_key: at_most(raw.wrapped_key, WRAPPED_BYTES_MAX, "wrapped_key")?,
            at: signed_time(raw.at_ms, "at_ms")?,
        };
        signed(body, raw.signer, raw.signature)
    }
}
