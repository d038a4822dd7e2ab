//! Requests and answers of the calls beside the session.

use crate::model::canonical::sha256;
use crate::model::ids::{Generation, KeyVersionId, SessionNumber};
use crate::model::kek::KekNumber;
use crate::model::key::KeySpec;
use crate::model::material::{
    BirthRecord, Endorsement, Envelope, RepositoryCopy, Signed, WRAPPED_BYTES_MAX,
};
use crate::model::protocol::{Description, Report};
use crate::wire::invalid::{InvalidMessage, at_most, id, message};
use crate::wire::limits::SALT_BYTES_MAX;
use crate::wire::v1;

/// Asks an internal keystore for a new key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerateCall {
    /// The live session.
    pub session: SessionNumber,
    /// The key version to make.
    pub version: KeyVersionId,
    /// Algorithm and size.
    pub spec: KeySpec,
    /// The vault's salt.
    pub salt: Vec<u8>,
}

impl From<GenerateCall> for v1::GenerateRequest {
    fn from(call: GenerateCall) -> Self {
        Self {
            session: call.session.0,
            version: call.version.uuid().as_bytes().to_vec(),
            spec: Some(call.spec.into()),
            salt: call.salt,
        }
    }
}

impl TryFrom<v1::GenerateRequest> for GenerateCall {
    type Error = InvalidMessage;

    fn try_from(raw: v1::GenerateRequest) -> Result<Self, InvalidMessage> {
        Ok(Self {
            session: SessionNumber(raw.session),
            version: id(&raw.version, KeyVersionId::from_uuid, "version")?,
            spec: message(raw.spec, "spec")?,
            salt: at_most(raw.salt, SALT_BYTES_MAX, "salt")?,
        })
    }
}

impl From<RepositoryCopy> for v1::GenerateResponse {
    fn from(copy: RepositoryCopy) -> Self {
        Self {
            blob: copy.blob,
            birth: Some(copy.birth.into()),
            kek: kek_number(copy.kek),
        }
    }
}

impl TryFrom<v1::GenerateResponse> for RepositoryCopy {
    type Error = InvalidMessage;

    fn try_from(raw: v1::GenerateResponse) -> Result<Self, InvalidMessage> {
        copy(raw.blob, raw.birth, raw.kek)
    }
}

impl From<RepositoryCopy> for v1::TakeOverResponse {
    fn from(copy: RepositoryCopy) -> Self {
        Self {
            blob: copy.blob,
            birth: Some(copy.birth.into()),
            kek: kek_number(copy.kek),
        }
    }
}

impl TryFrom<v1::TakeOverResponse> for RepositoryCopy {
    type Error = InvalidMessage;

    fn try_from(raw: v1::TakeOverResponse) -> Result<Self, InvalidMessage> {
        copy(raw.blob, raw.birth, raw.kek)
    }
}

/// The keystore is the one in the birth record; the blob must have the digest given there.
pub(crate) fn copy(
    blob: Vec<u8>,
    birth: Option<v1::BirthRecord>,
    kek: u32,
) -> Result<RepositoryCopy, InvalidMessage> {
    let birth: Signed<BirthRecord> = message(birth, "birth")?;
    let blob = at_most(blob, WRAPPED_BYTES_MAX, "blob")?;
    if sha256(&blob) != birth.body.blob {
        let problem = "is not the one of the birth record";
        return Err(InvalidMessage::new("blob", problem));
    }
    Ok(RepositoryCopy {
        keystore: birth.body.keystore,
        blob,
        kek: KekNumber::from_number(kek),
        birth,
    })
}

/// As before there were numbers, the first is not written.
pub(crate) const fn kek_number(kek: KekNumber) -> u32 {
    match kek {
        KekNumber::FIRST => 0,
        other => other.get(),
    }
}

/// Asks an internal keystore to take a key over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeOverCall {
    /// The live session.
    pub session: SessionNumber,
    /// The key, for its transport key.
    pub envelope: Signed<Envelope>,
}

impl From<TakeOverCall> for v1::TakeOverRequest {
    fn from(call: TakeOverCall) -> Self {
        Self {
            session: call.session.0,
            envelope: Some(call.envelope.into()),
        }
    }
}

impl TryFrom<v1::TakeOverRequest> for TakeOverCall {
    type Error = InvalidMessage;

    fn try_from(raw: v1::TakeOverRequest) -> Result<Self, InvalidMessage> {
        Ok(Self {
            session: SessionNumber(raw.session),
            envelope: message(raw.envelope, "envelope")?,
        })
    }
}

/// Asks an internal keystore to wrap a key for another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RewrapCall {
    /// The live session.
    pub session: SessionNumber,
    /// The key under this keystore's own wrapping key.
    pub blob: Vec<u8>,
    /// Which of them.
    pub kek: KekNumber,
    /// Its birth record.
    pub birth: Signed<BirthRecord>,
    /// The endorsed transport key of the target.
    pub target: Signed<Endorsement>,
    /// Generation of the intent that the envelope serves.
    pub generation: Generation,
}

impl From<RewrapCall> for v1::RewrapRequest {
    fn from(call: RewrapCall) -> Self {
        Self {
            session: call.session.0,
            blob: call.blob,
            birth: Some(call.birth.into()),
            target: Some(call.target.into()),
            generation: call.generation.0,
            kek: kek_number(call.kek),
        }
    }
}

impl TryFrom<v1::RewrapRequest> for RewrapCall {
    type Error = InvalidMessage;

    fn try_from(raw: v1::RewrapRequest) -> Result<Self, InvalidMessage> {
        Ok(Self {
            session: SessionNumber(raw.session),
            blob: at_most(raw.blob, WRAPPED_BYTES_MAX, "blob")?,
            birth: message(raw.birth, "birth")?,
            target: message(raw.target, "target")?,
            generation: Generation(raw.generation),
            kek: KekNumber::from_number(raw.kek),
        })
    }
}

impl From<Signed<Envelope>> for v1::RewrapResponse {
    fn from(envelope: Signed<Envelope>) -> Self {
        Self {
            envelope: Some(envelope.into()),
        }
    }
}

impl TryFrom<v1::RewrapResponse> for Signed<Envelope> {
    type Error = InvalidMessage;

    fn try_from(raw: v1::RewrapResponse) -> Result<Self, InvalidMessage> {
        message(raw.envelope, "envelope")
    }
}

impl From<Signed<Endorsement>> for v1::TransportKeyResponse {
    fn from(endorsement: Signed<Endorsement>) -> Self {
        Self {
            endorsement: Some(endorsement.into()),
        }
    }
}

impl TryFrom<v1::TransportKeyResponse> for Signed<Endorsement> {
    type Error = InvalidMessage;

    fn try_from(raw: v1::TransportKeyResponse) -> Result<Self, InvalidMessage> {
        message(raw.endorsement, "endorsement")
    }
}

/// Asks for an instance to be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProveCall {
    /// The live session.
    pub session: SessionNumber,
    /// The instance.
    pub version: KeyVersionId,
}

impl From<ProveCall> for v1::ProveRequest {
    fn from(call: ProveCall) -> Self {
        Self {
            session: call.session.0,
            version: call.version.uuid().as_bytes().to_vec(),
        }
    }
}

impl TryFrom<v1::ProveRequest> for ProveCall {
    type Error = InvalidMessage;

    fn try_from(raw: v1::ProveRequest) -> Result<Self, InvalidMessage> {
        Ok(Self {
            session: SessionNumber(raw.session),
            version: id(&raw.version, KeyVersionId::from_uuid, "version")?,
        })
    }
}

impl From<Report> for v1::ProveResponse {
    fn from(report: Report) -> Self {
        Self {
            report: Some(report.into()),
        }
    }
}

impl TryFrom<v1::ProveResponse> for Report {
    type Error = InvalidMessage;

    fn try_from(raw: v1::ProveResponse) -> Result<Self, InvalidMessage> {
        message(raw.report, "report")
    }
}

impl From<Description> for v1::ProbeResponse {
    fn from(description: Description) -> Self {
        Self {
            description: Some(description.into()),
        }
    }
}

impl TryFrom<v1::ProbeResponse> for Description {
    type Error = InvalidMessage;

    fn try_from(raw: v1::ProbeResponse) -> Result<Self, InvalidMessage> {
        message(raw.description, "description")
    }
}
