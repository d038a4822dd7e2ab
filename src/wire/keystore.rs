//! Tokens and agents: what they say of themselves and how well they are.

use crate::model::ids::{Epoch, KeystoreId};
use crate::model::keystore::{Health, Marker, TokenInfo};
use crate::model::protocol::Description;
use crate::model::vault::UnixMs;
use crate::wire::invalid::{
    InvalidMessage, digest, id, is_so, message, optional, optional_id, required, text, word,
};
use crate::wire::limits::TEXT_BYTES_MAX;
use crate::wire::v1;

impl From<TokenInfo> for v1::TokenInfo {
    fn from(info: TokenInfo) -> Self {
        Self {
            label: info.label,
            serial: info.serial,
            manufacturer: info.manufacturer,
            model: info.model,
            hardware: info.hardware,
            firmware: info.firmware,
            library: info.library,
        }
    }
}

impl TryFrom<v1::TokenInfo> for TokenInfo {
    type Error = InvalidMessage;

    fn try_from(raw: v1::TokenInfo) -> Result<Self, InvalidMessage> {
        Ok(Self {
            label: text(raw.label, TEXT_BYTES_MAX, "label")?,
            serial: text(raw.serial, TEXT_BYTES_MAX, "serial")?,
            manufacturer: text(raw.manufacturer, TEXT_BYTES_MAX, "manufacturer")?,
            model: text(raw.model, TEXT_BYTES_MAX, "model")?,
            hardware: text(raw.hardware, TEXT_BYTES_MAX, "hardware")?,
            firmware: text(raw.firmware, TEXT_BYTES_MAX, "firmware")?,
            library: text(raw.library, TEXT_BYTES_MAX, "library")?,
        })
    }
}

impl From<Marker> for v1::Marker {
    fn from(marker: Marker) -> Self {
        Self {
            keystore: marker.keystore.uuid().as_bytes().to_vec(),
            epoch: marker.epoch.0,
        }
    }
}

impl TryFrom<v1::Marker> for Marker {
    type Error = InvalidMessage;

    fn try_from(raw: v1::Marker) -> Result<Self, InvalidMessage> {
        Ok(Self {
            keystore: id(&raw.keystore, KeystoreId::from_uuid, "keystore")?,
            epoch: Epoch(raw.epoch),
        })
    }
}

impl From<Health> for v1::Health {
    fn from(health: Health) -> Self {
        use v1::health::{State, TokenNotFound};
        let state = match health {
            Health::Ok => State::Ok(true),
            Health::Starting => State::Starting(true),
            Health::TokenNotFound { label, serial } => {
                State::TokenNotFound(TokenNotFound { label, serial })
            }
            Health::WrongPin => State::WrongPin(true),
            Health::PinLocked => State::PinLocked(true),
            Health::MarkerMissing => State::MarkerMissing(true),
            Health::BelongsTo(marker) => State::BelongsTo(marker.into()),
            Health::OtherEpoch(marker) => State::OtherEpoch(marker.into()),
            Health::JournalLost => State::JournalLost(true),
            Health::JournalFailed { detail } => State::JournalFailed(detail),
            Health::ModuleFailed { detail } => State::ModuleFailed(detail),
        };
        Self { state: Some(state) }
    }
}

impl TryFrom<v1::Health> for Health {
    type Error = InvalidMessage;

    fn try_from(raw: v1::Health) -> Result<Self, InvalidMessage> {
        use v1::health::State;
        let so = |value, field, health| is_so(value, field).map(|()| health);
        match required(raw.state, "state")? {
            State::Ok(value) => so(value, "ok", Self::Ok),
            State::Starting(value) => so(value, "starting", Self::Starting),
            State::TokenNotFound(raw) => Ok(Self::TokenNotFound {
                label: text(raw.label, TEXT_BYTES_MAX, "token_not_found.label")?,
                serial: text(raw.serial, TEXT_BYTES_MAX, "token_not_found.serial")?,
            }),
            State::WrongPin(value) => so(value, "wrong_pin", Self::WrongPin),
            State::PinLocked(value) => so(value, "pin_locked", Self::PinLocked),
            State::MarkerMissing(value) => so(value, "marker_missing", Self::MarkerMissing),
            State::BelongsTo(marker) => message(Some(marker), "belongs_to").map(Self::BelongsTo),
            State::OtherEpoch(marker) => message(Some(marker), "other_epoch").map(Self::OtherEpoch),
            State::JournalLost(value) => so(value, "journal_lost", Self::JournalLost),
            State::JournalFailed(detail) => Ok(Self::JournalFailed {
                detail: text(detail, TEXT_BYTES_MAX, "journal_failed")?,
            }),
            State::ModuleFailed(detail) => Ok(Self::ModuleFailed {
                detail: text(detail, TEXT_BYTES_MAX, "module_failed")?,
            }),
        }
    }
}

impl From<Description> for v1::DescribeResponse {
    fn from(description: Description) -> Self {
        Self {
            keystore: description.keystore.map(|id| id.uuid().as_bytes().to_vec()),
            epoch: description.epoch.0,
            version: description.version,
            identity: description.identity.0.to_vec(),
            variant: v1::Variant::from(description.variant).into(),
            token: Some(description.token.into()),
            capabilities: description.capabilities.map(Into::into),
            accepted: description.accepted.map(Into::into),
            health: Some(description.health.into()),
            journal_records: description.journal_records,
            clock_ms: description.clock.0,
        }
    }
}

impl TryFrom<v1::DescribeResponse> for Description {
    type Error = InvalidMessage;

    fn try_from(raw: v1::DescribeResponse) -> Result<Self, InvalidMessage> {
        Ok(Self {
            keystore: optional_id(raw.keystore, KeystoreId::from_uuid, "keystore")?,
            epoch: Epoch(raw.epoch),
            version: text(raw.version, TEXT_BYTES_MAX, "version")?,
            identity: digest(&raw.identity, "identity")?,
            variant: word::<v1::Variant, _>(raw.variant, "variant")?,
            token: message(raw.token, "token")?,
            capabilities: optional(raw.capabilities, "capabilities")?,
            accepted: optional(raw.accepted, "accepted")?,
            health: message(raw.health, "health")?,
            journal_records: raw.journal_records,
            clock: UnixMs(raw.clock_ms),
        })
    }
}
