//! Frames from agent to coordinator.

use crate::model::ids::{BootId, Generation, KeyVersionId, KeystoreId, SessionNumber, Term};
use crate::model::protocol::{REPORTS_PER_FRAME_MAX, Refusal, SessionRefusal, Up, UpBody};
use crate::wire::invalid::{
    InvalidMessage, digest, id, list, message, optional_id, required, text,
};
use crate::wire::limits::{TEXT_BYTES_MAX, UNMANAGED_OBJECTS_MAX};
use crate::wire::v1;

impl From<Up> for v1::Up {
    fn from(up: Up) -> Self {
        Self {
            seq: up.seq,
            body: Some(up.body.into()),
        }
    }
}

impl TryFrom<v1::Up> for Up {
    type Error = InvalidMessage;

    fn try_from(raw: v1::Up) -> Result<Self, InvalidMessage> {
        Ok(Self {
            seq: raw.seq,
            body: required(raw.body, "body")?.try_into()?,
        })
    }
}

impl From<UpBody> for v1::up::Body {
    fn from(body: UpBody) -> Self {
        match body {
            UpBody::Accepted {
                session,
                boot,
                full,
            } => Self::Accepted(v1::Accepted {
                session: session.0,
                boot: boot.uuid().as_bytes().to_vec(),
                full,
            }),
            UpBody::Rejected(refusal) => Self::Rejected(refusal.into()),
            UpBody::Reports(reports) => Self::Reports(v1::Reports {
                reports: reports.into_iter().map(Into::into).collect(),
            }),
            UpBody::Unmanaged(objects) => Self::Unmanaged(v1::Unmanaged {
                objects: objects.into_iter().map(Into::into).collect(),
            }),
            UpBody::CaughtUp { scan_age_ms } => Self::CaughtUp(v1::CaughtUp { scan_age_ms }),
            UpBody::Refused {
                version,
                generation,
                refusal,
            } => Self::Refused(v1::Refused {
                version: version.uuid().as_bytes().to_vec(),
                generation: generation.0,
                reason: Some(refusal.into()),
            }),
            UpBody::Health(health) => Self::Health(health.into()),
            UpBody::Heartbeat {
                wanted,
                scan_age_ms,
            } => Self::Heartbeat(v1::UpHeartbeat {
                wanted: wanted.0.to_vec(),
                scan_age_ms,
            }),
        }
    }
}

impl TryFrom<v1::up::Body> for UpBody {
    type Error = InvalidMessage;

    fn try_from(raw: v1::up::Body) -> Result<Self, InvalidMessage> {
        use v1::up::Body;
        match raw {
            Body::Accepted(raw) => Ok(Self::Accepted {
                session: SessionNumber(raw.session),
                boot: id(&raw.boot, BootId::from_uuid, "accepted.boot")?,
                full: raw.full,
            }),
            Body::Rejected(raw) => message(Some(raw), "rejected").map(Self::Rejected),
            Body::Reports(raw) => {
                list(raw.reports, REPORTS_PER_FRAME_MAX, "reports").map(Self::Reports)
            }
            Body::Unmanaged(raw) => {
                list(raw.objects, UNMANAGED_OBJECTS_MAX, "unmanaged").map(Self::Unmanaged)
            }
            Body::CaughtUp(raw) => Ok(Self::CaughtUp {
                scan_age_ms: raw.scan_age_ms,
            }),
            Body::Refused(raw) => refused(raw).map_err(|e| e.within("refused")),
            Body::Health(raw) => message(Some(raw), "health").map(Self::Health),
            Body::Heartbeat(raw) => Ok(Self::Heartbeat {
                wanted: digest(&raw.wanted, "heartbeat.wanted")?,
                scan_age_ms: raw.scan_age_ms,
            }),
        }
    }
}

fn refused(raw: v1::Refused) -> Result<UpBody, InvalidMessage> {
    Ok(UpBody::Refused {
        version: id(&raw.version, KeyVersionId::from_uuid, "version")?,
        generation: Generation(raw.generation),
        refusal: required(raw.reason, "reason")?.try_into()?,
    })
}

impl From<Refusal> for v1::refused::Reason {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Stale(applied) => Self::Stale(applied.into()),
            Refusal::Conflict(applied) => Self::Conflict(applied.into()),
            Refusal::Jump { last } => Self::Jump(last.0),
            Refusal::Tombstone(applied) => Self::Tombstone(applied.into()),
            Refusal::WrongKeystore { wanted } => {
                Self::WrongKeystore(wanted.uuid().as_bytes().to_vec())
            }
            Refusal::Envelope { reason } => Self::Envelope(reason),
            Refusal::Unhealthy(health) => Self::Unhealthy(health.into()),
            Refusal::Journal { detail } => Self::Journal(detail),
        }
    }
}

impl TryFrom<v1::refused::Reason> for Refusal {
    type Error = InvalidMessage;

    fn try_from(raw: v1::refused::Reason) -> Result<Self, InvalidMessage> {
        use v1::refused::Reason;
        match raw {
            Reason::Stale(raw) => message(Some(raw), "stale").map(Self::Stale),
            Reason::Conflict(raw) => message(Some(raw), "conflict").map(Self::Conflict),
            Reason::Jump(last) => Ok(Self::Jump {
                last: Generation(last),
            }),
            Reason::Tombstone(raw) => message(Some(raw), "tombstone").map(Self::Tombstone),
            Reason::WrongKeystore(raw) => Ok(Self::WrongKeystore {
                wanted: id(&raw, KeystoreId::from_uuid, "wrong_keystore")?,
            }),
            Reason::Envelope(reason) => Ok(Self::Envelope {
                reason: text(reason, TEXT_BYTES_MAX, "envelope")?,
            }),
            Reason::Unhealthy(raw) => message(Some(raw), "unhealthy").map(Self::Unhealthy),
            Reason::Journal(detail) => Ok(Self::Journal {
                detail: text(detail, TEXT_BYTES_MAX, "journal")?,
            }),
        }
    }
}

impl From<SessionRefusal> for v1::Rejected {
    fn from(refusal: SessionRefusal) -> Self {
        use v1::rejected::Reason;
        let reason = match refusal {
            SessionRefusal::StaleTerm { highest } => Reason::StaleTerm(highest.0),
            SessionRefusal::WrongKeystore { actual } => {
                Reason::WrongKeystore(v1::WrongKeystoreSession {
                    actual: actual.map(|id| id.uuid().as_bytes().to_vec()),
                })
            }
            SessionRefusal::Protocol { detail } => Reason::Protocol(detail),
            SessionRefusal::TakenOver { term } => Reason::TakenOver(term.0),
        };
        Self {
            reason: Some(reason),
        }
    }
}

impl TryFrom<v1::Rejected> for SessionRefusal {
    type Error = InvalidMessage;

    fn try_from(raw: v1::Rejected) -> Result<Self, InvalidMessage> {
        use v1::rejected::Reason;
        match required(raw.reason, "reason")? {
            Reason::StaleTerm(highest) => Ok(Self::StaleTerm {
                highest: Term(highest),
            }),
            Reason::TakenOver(term) => Ok(Self::TakenOver { term: Term(term) }),
            Reason::WrongKeystore(raw) => Ok(Self::WrongKeystore {
                actual: optional_id(raw.actual, KeystoreId::from_uuid, "wrong_keystore.actual")?,
            }),
            Reason::Protocol(detail) => Ok(Self::Protocol {
                detail: text(detail, TEXT_BYTES_MAX, "protocol")?,
            }),
        }
    }
}
