//! Frames from coordinator to agent.

use crate::model::ids::{BootId, KeyVersionId, KeystoreId, Term};
use crate::model::protocol::{Cursor, Down};
use crate::wire::invalid::{InvalidMessage, digest, id, message, optional, optional_id, required};
use crate::wire::v1;

impl From<Cursor> for v1::Cursor {
    fn from(cursor: Cursor) -> Self {
        Self {
            boot: cursor.boot.uuid().as_bytes().to_vec(),
            seq: cursor.seq,
        }
    }
}

impl TryFrom<v1::Cursor> for Cursor {
    type Error = InvalidMessage;

    fn try_from(raw: v1::Cursor) -> Result<Self, InvalidMessage> {
        Ok(Self {
            boot: id(&raw.boot, BootId::from_uuid, "boot")?,
            seq: raw.seq,
        })
    }
}

impl From<Down> for v1::Down {
    fn from(down: Down) -> Self {
        use v1::down::Body;
        let body = match down {
            Down::Open {
                term,
                keystore,
                cursor,
            } => Body::Open(v1::Open {
                term: term.0,
                keystore: keystore.uuid().as_bytes().to_vec(),
                cursor: cursor.map(Into::into),
            }),
            Down::Intent { intent, envelope } => Body::Intent(v1::IntentFrame {
                intent: Some((*intent).into()),
                envelope: envelope.map(|envelope| (*envelope).into()),
            }),
            Down::Look { version } => Body::Look(v1::Look {
                version: version.map(|id| id.uuid().as_bytes().to_vec()),
            }),
            Down::Heartbeat { wanted } => Body::Heartbeat(v1::DownHeartbeat {
                wanted: wanted.0.to_vec(),
            }),
        };
        Self { body: Some(body) }
    }
}

impl TryFrom<v1::Down> for Down {
    type Error = InvalidMessage;

    fn try_from(raw: v1::Down) -> Result<Self, InvalidMessage> {
        use v1::down::Body;
        match required(raw.body, "body")? {
            Body::Open(raw) => open(raw).map_err(|e| e.within("open")),
            Body::Intent(raw) => intent(raw),
            Body::Look(raw) => Ok(Self::Look {
                version: optional_id(raw.version, KeyVersionId::from_uuid, "look.version")?,
            }),
            Body::Heartbeat(raw) => Ok(Self::Heartbeat {
                wanted: digest(&raw.wanted, "heartbeat.wanted")?,
            }),
        }
    }
}

fn open(raw: v1::Open) -> Result<Down, InvalidMessage> {
    Ok(Down::Open {
        term: Term(raw.term),
        keystore: id(&raw.keystore, KeystoreId::from_uuid, "keystore")?,
        cursor: optional(raw.cursor, "cursor")?,
    })
}

fn intent(raw: v1::IntentFrame) -> Result<Down, InvalidMessage> {
    Ok(Down::Intent {
        intent: Box::new(message(raw.intent, "intent")?),
        envelope: optional(raw.envelope, "envelope")?.map(Box::new),
    })
}
