//! Reports: what an agent says of one instance.

use crate::model::ids::KeyVersionId;
use crate::model::job::TokenFailure;
use crate::model::protocol::{Progress, Report};
use crate::wire::invalid::{InvalidMessage, id, is_so, message, optional, required, text, word};
use crate::wire::limits::TEXT_BYTES_MAX;
use crate::wire::v1;

impl From<TokenFailure> for v1::TokenFailure {
    fn from(failure: TokenFailure) -> Self {
        Self {
            kind: v1::FailureKind::from(failure.kind).into(),
            function: failure.function,
            rv: failure.rv,
            detail: failure.detail,
        }
    }
}

impl TryFrom<v1::TokenFailure> for TokenFailure {
    type Error = InvalidMessage;

    fn try_from(raw: v1::TokenFailure) -> Result<Self, InvalidMessage> {
        Ok(Self {
            kind: word::<v1::FailureKind, _>(raw.kind, "kind")?,
            function: text(raw.function, TEXT_BYTES_MAX, "function")?,
            rv: text(raw.rv, TEXT_BYTES_MAX, "rv")?,
            detail: text(raw.detail, TEXT_BYTES_MAX, "detail")?,
        })
    }
}

impl From<Progress> for v1::Progress {
    fn from(progress: Progress) -> Self {
        use v1::progress::State;
        let state = match progress {
            Progress::Done => State::Done(true),
            Progress::Busy => State::Busy(true),
            Progress::NeedsMaterial => State::NeedsMaterial(true),
            Progress::Failed(failure) => State::Failed(failure.into()),
            Progress::Unknown { why } => State::Unknown(why),
        };
        Self { state: Some(state) }
    }
}

impl TryFrom<v1::Progress> for Progress {
    type Error = InvalidMessage;

    fn try_from(raw: v1::Progress) -> Result<Self, InvalidMessage> {
        use v1::progress::State;
        match required(raw.state, "state")? {
            State::Done(value) => is_so(value, "done").map(|()| Self::Done),
            State::Busy(value) => is_so(value, "busy").map(|()| Self::Busy),
            State::NeedsMaterial(value) => {
                is_so(value, "needs_material").map(|()| Self::NeedsMaterial)
            }
            State::Failed(failure) => message(Some(failure), "failed").map(Self::Failed),
            State::Unknown(why) => Ok(Self::Unknown {
                why: text(why, TEXT_BYTES_MAX, "unknown")?,
            }),
        }
    }
}

impl From<Report> for v1::Report {
    fn from(report: Report) -> Self {
        Self {
            version: report.version.uuid().as_bytes().to_vec(),
            applied: report.applied.map(Into::into),
            progress: Some(report.progress.into()),
            observation: Some(report.observation.into()),
            proof: report.proof.map(Into::into),
            proof_age_ms: report.proof_age_ms,
            look_age_ms: report.look_age_ms,
            strategy: v1::Strategy::from(report.strategy).into(),
        }
    }
}

impl TryFrom<v1::Report> for Report {
    type Error = InvalidMessage;

    fn try_from(raw: v1::Report) -> Result<Self, InvalidMessage> {
        Ok(Self {
            version: id(&raw.version, KeyVersionId::from_uuid, "version")?,
            applied: optional(raw.applied, "applied")?,
            progress: message(raw.progress, "progress")?,
            observation: message(raw.observation, "observation")?,
            proof: optional(raw.proof, "proof")?,
            proof_age_ms: raw.proof_age_ms,
            look_age_ms: raw.look_age_ms,
            strategy: word::<v1::Strategy, _>(raw.strategy, "strategy")?,
        })
    }
}
