//! Requests and answers of the calls about wrapping keys.

use crate::model::ids::SessionNumber;
use crate::model::kek::{KekJob, KekNumber};
use crate::model::material::{BirthRecord, RepositoryCopy, Signed, WRAPPED_BYTES_MAX};
use crate::wire::calls::{copy, kek_number};
use crate::wire::invalid::{InvalidMessage, at_most, message};
use crate::wire::limits::KEKS_MAX;
use crate::wire::v1;

/// Asks an internal keystore about its wrapping keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KekCall {
    /// The live session.
    pub session: SessionNumber,
    /// What is to be done.
    pub job: KekJob,
}

impl From<KekCall> for v1::KekRequest {
    fn from(call: KekCall) -> Self {
        let act = match call.job {
            KekJob::Look => v1::kek_request::Act::Look(true),
            KekJob::Make(number) => v1::kek_request::Act::Make(number.get()),
            KekJob::Destroy(number) => v1::kek_request::Act::Destroy(number.get()),
        };
        Self {
            session: call.session.0,
            act: Some(act),
        }
    }
}

impl TryFrom<v1::KekRequest> for KekCall {
    type Error = InvalidMessage;

    fn try_from(raw: v1::KekRequest) -> Result<Self, InvalidMessage> {
        let job = match raw.act {
            Some(v1::kek_request::Act::Look(_)) => KekJob::Look,
            Some(v1::kek_request::Act::Make(number)) => KekJob::Make(given(number)?),
            Some(v1::kek_request::Act::Destroy(number)) => KekJob::Destroy(given(number)?),
            None => return Err(InvalidMessage::new("act", "is missing")),
        };
        Ok(Self {
            session: SessionNumber(raw.session),
            job,
        })
    }
}

/// Nobody makes or destroys a key by leaving its number out.
fn given(number: u32) -> Result<KekNumber, InvalidMessage> {
    if number == 0 {
        return Err(InvalidMessage::new("number", "is 0"));
    }
    Ok(KekNumber::from_number(number))
}

/// The wrapping keys that are there, ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keks(pub Vec<KekNumber>);

impl From<Keks> for v1::KekResponse {
    fn from(keks: Keks) -> Self {
        Self {
            numbers: keks.0.into_iter().map(KekNumber::get).collect(),
        }
    }
}

impl TryFrom<v1::KekResponse> for Keks {
    type Error = InvalidMessage;

    fn try_from(raw: v1::KekResponse) -> Result<Self, InvalidMessage> {
        if raw.numbers.len() > KEKS_MAX {
            return Err(InvalidMessage::new("numbers", "are too many"));
        }
        let numbers: Result<Vec<KekNumber>, _> = raw.numbers.into_iter().map(given).collect();
        let numbers = numbers?;
        if !numbers.is_sorted_by(|one, next| one < next) {
            return Err(InvalidMessage::new("numbers", "do not ascend"));
        }
        Ok(Self(numbers))
    }
}

/// Asks an internal keystore to wrap a blob of its own under its newest wrapping key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RewrapCopyCall {
    /// The live session.
    pub session: SessionNumber,
    /// The key under the wrapping key of that number.
    pub blob: Vec<u8>,
    /// Which wrapping key.
    pub kek: KekNumber,
    /// Its birth record.
    pub birth: Signed<BirthRecord>,
}

impl From<RewrapCopyCall> for v1::RewrapCopyRequest {
    fn from(call: RewrapCopyCall) -> Self {
        Self {
            session: call.session.0,
            blob: call.blob,
            birth: Some(call.birth.into()),
            kek: kek_number(call.kek),
        }
    }
}

impl TryFrom<v1::RewrapCopyRequest> for RewrapCopyCall {
    type Error = InvalidMessage;

    fn try_from(raw: v1::RewrapCopyRequest) -> Result<Self, InvalidMessage> {
        Ok(Self {
            session: SessionNumber(raw.session),
            blob: at_most(raw.blob, WRAPPED_BYTES_MAX, "blob")?,
            kek: KekNumber::from_number(raw.kek),
            birth: message(raw.birth, "birth")?,
        })
    }
}

impl From<RepositoryCopy> for v1::RewrapCopyResponse {
    fn from(copy: RepositoryCopy) -> Self {
        Self {
            blob: copy.blob,
            birth: Some(copy.birth.into()),
            kek: kek_number(copy.kek),
        }
    }
}

impl TryFrom<v1::RewrapCopyResponse> for RepositoryCopy {
    type Error = InvalidMessage;

    fn try_from(raw: v1::RewrapCopyResponse) -> Result<Self, InvalidMessage> {
        copy(raw.blob, raw.birth, raw.kek)
    }
}
