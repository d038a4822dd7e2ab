//! `Examine`: keys that others made, and the signed records of them.

use crate::model::adoption::{AdoptionRecord, Candidate, EXAMINE_KEYS_MAX, Examined};
use crate::model::desired::CKA_ID_BYTES_MAX;
use crate::model::ids::{KeystoreId, SessionNumber};
use crate::model::material::Signed;
use crate::wire::invalid::{
    InvalidMessage, at_most, id, list, message, required, signed_time, text,
};
use crate::wire::key::usage;
use crate::wire::limits::{LABEL_BYTES_MAX, SALT_BYTES_MAX, TEXT_BYTES_MAX};
use crate::wire::material::signed;
use crate::wire::v1;

/// Asks what keys are that no intent speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExamineCall {
    /// The live session.
    pub session: SessionNumber,
    /// The vault's salt.
    pub salt: Vec<u8>,
    /// Which; at most [`EXAMINE_KEYS_MAX`].
    pub keys: Vec<Candidate>,
}

impl From<ExamineCall> for v1::ExamineRequest {
    fn from(call: ExamineCall) -> Self {
        Self {
            session: call.session.0,
            salt: call.salt,
            keys: call.keys.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::ExamineRequest> for ExamineCall {
    type Error = InvalidMessage;

    fn try_from(raw: v1::ExamineRequest) -> Result<Self, InvalidMessage> {
        Ok(Self {
            session: SessionNumber(raw.session),
            salt: at_most(raw.salt, SALT_BYTES_MAX, "salt")?,
            keys: list(raw.keys, EXAMINE_KEYS_MAX, "keys")?,
        })
    }
}

impl From<Candidate> for v1::Candidate {
    fn from(key: Candidate) -> Self {
        Self {
            cka_id: key.cka_id,
            label: key.label,
            spec: Some(key.spec.into()),
        }
    }
}

impl TryFrom<v1::Candidate> for Candidate {
    type Error = InvalidMessage;

    fn try_from(raw: v1::Candidate) -> Result<Self, InvalidMessage> {
        Ok(Self {
            cka_id: cka_id(raw.cka_id)?,
            label: text(raw.label, LABEL_BYTES_MAX, "label")?,
            spec: message(raw.spec, "spec")?,
        })
    }
}

/// What came of it, in the order that was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExamineAnswer(pub Vec<Examined>);

impl From<ExamineAnswer> for v1::ExamineResponse {
    fn from(answer: ExamineAnswer) -> Self {
        Self {
            keys: answer.0.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::ExamineResponse> for ExamineAnswer {
    type Error = InvalidMessage;

    fn try_from(raw: v1::ExamineResponse) -> Result<Self, InvalidMessage> {
        list(raw.keys, EXAMINE_KEYS_MAX, "keys").map(Self)
    }
}

impl From<Examined> for v1::Examined {
    fn from(examined: Examined) -> Self {
        use v1::examined::State;
        let state = match examined {
            Examined::Known(record) => State::Known((*record).into()),
            Examined::Unknown { why } => State::Unknown(why),
        };
        Self { state: Some(state) }
    }
}

impl TryFrom<v1::Examined> for Examined {
    type Error = InvalidMessage;

    fn try_from(raw: v1::Examined) -> Result<Self, InvalidMessage> {
        use v1::examined::State;
        match required(raw.state, "state")? {
            State::Known(record) => {
                let record = message(Some(record), "known")?;
                Ok(Self::Known(Box::new(record)))
            }
            State::Unknown(why) => Ok(Self::Unknown {
                why: text(why, TEXT_BYTES_MAX, "unknown")?,
            }),
        }
    }
}

impl From<Signed<AdoptionRecord>> for v1::AdoptionRecord {
    fn from(record: Signed<AdoptionRecord>) -> Self {
        let body = record.body;
        Self {
            keystore: body.keystore.uuid().as_bytes().to_vec(),
            cka_id: body.cka_id,
            label: body.label,
            spec: Some(body.spec.into()),
            fingerprint: Some(body.fingerprint.into()),
            salt: body.salt,
            usage: u32::from(body.usage.bits()),
            sensitive: body.sensitive,
            extractable: body.extractable,
            at_ms: body.at.0,
            signer: record.signer,
            signature: record.signature,
        }
    }
}

impl TryFrom<v1::AdoptionRecord> for Signed<AdoptionRecord> {
    type Error = InvalidMessage;

    fn try_from(raw: v1::AdoptionRecord) -> Result<Self, InvalidMessage> {
        let body = AdoptionRecord {
            keystore: id(&raw.keystore, KeystoreId::from_uuid, "keystore")?,
            cka_id: cka_id(raw.cka_id)?,
            label: text(raw.label, LABEL_BYTES_MAX, "label")?,
            spec: message(raw.spec, "spec")?,
            fingerprint: message(raw.fingerprint, "fingerprint")?,
            salt: at_most(raw.salt, SALT_BYTES_MAX, "salt")?,
            usage: usage(raw.usage, "usage")?,
            sensitive: raw.sensitive,
            extractable: raw.extractable,
            at: signed_time(raw.at_ms, "at_ms")?,
        };
        signed(body, raw.signer, raw.signature)
    }
}

fn cka_id(bytes: Vec<u8>) -> Result<Vec<u8>, InvalidMessage> {
    if bytes.is_empty() {
        return Err(InvalidMessage::new("cka_id", "is empty"));
    }
    at_most(bytes, CKA_ID_BYTES_MAX, "cka_id")
}
