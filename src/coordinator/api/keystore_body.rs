//! Bodies of keystores: from requests, and for answers.

use crate::coordinator::api::refusal::Refusal;
use crate::coordinator::api::{answer, capability_body, status_body, vaults};
use crate::coordinator::ops::keystores::{HealthStatus, KeystoreNew, KeystorePatch, KeystoreView};
use crate::model::capabilities::{Capabilities, Strategy};
use crate::model::ids::KeystoreId;
use crate::model::keystore::{TokenInfo, Variant};
use crate::model::observed::ObjectClass;
use crate::model::vault::UnixMs;
use crate::rest::keystore as rest;
use crate::rest::keystore::StrategyChoice;
use crate::rest::status::KeystoreRef;

/// Refuses types of other products before their fields are read, with the reason.
pub(crate) fn check_kind(body: &serde_json::Value) -> Result<(), Refusal> {
    match body.get("type").and_then(serde_json::Value::as_str) {
        Some(kind) if rest::OTHER_TYPES.contains(&kind) => Err(Refusal::field(
            "type",
            "keystore_type_not_supported",
            format!(
                "{kind} keystores are not supported: Lockstep reaches keystores through PKCS#11, \
                 with an agent beside each; use type pkcs11"
            ),
        )),
        Some(kind) if kind != rest::PKCS11 => Err(Refusal::field(
            "type",
            "invalid_value",
            "the type of a keystore is pkcs11",
        )),
        Some(_) | None => Ok(()),
    }
}

/// What a request for a new keystore means.
pub(crate) fn new(asked: rest::KeystoreCreate) -> Result<KeystoreNew, Refusal> {
    Ok(KeystoreNew {
        vault: vaults::named(&asked.vault.id)?,
        name: asked.name,
        description: asked.description.unwrap_or_default(),
        location: asked.location.unwrap_or_default(),
        groups: asked.groups.unwrap_or_default().into_iter().collect(),
        endpoint: asked.pkcs11_agent_endpoint,
        agent_name: asked.pkcs11_agent_identity,
        variant: asked.pkcs11_variant.unwrap_or(Variant::External),
        strategy: asked.pkcs11_strategy.and_then(StrategyChoice::pinned),
    })
}

/// What a request to change a keystore means.
pub(crate) fn patch(asked: rest::KeystorePatch) -> KeystorePatch {
    KeystorePatch {
        name: asked.name,
        description: asked.description,
        location: asked.location,
        groups: asked.groups.map(|groups| groups.into_iter().collect()),
        endpoint: asked.pkcs11_agent_endpoint,
        agent_name: asked.pkcs11_agent_identity,
        strategy: asked.pkcs11_strategy.map(StrategyChoice::pinned),
    }
}

/// Where a keystore is.
pub(crate) fn href(id: KeystoreId) -> String {
    format!("/api/v4/keystores/{id}")
}

/// How other records name a keystore.
pub(crate) fn reference(id: KeystoreId, name: &str) -> KeystoreRef {
    KeystoreRef {
        id: id.to_string(),
        name: name.to_owned(),
        kind: rest::PKCS11.to_owned(),
        href: href(id),
    }
}

/// A keystore for an answer.
pub(crate) fn body(view: &KeystoreView, now: UnixMs) -> rest::Keystore {
    let record = &view.record;
    let described = view.live.description.as_deref();
    rest::Keystore {
        vault: vaults::reference(record.vault, &view.vault_name),
        id: record.id.to_string(),
        name: record.name.clone(),
        location: record.location.clone(),
        description: record.description.clone(),
        groups: record.groups.iter().cloned().collect(),
        kind: rest::PKCS11.to_owned(),
        status: status(view, now),
        pkcs11_agent_endpoint: record.endpoint.clone(),
        pkcs11_agent_identity: record.agent_name.clone(),
        pkcs11_agent_key: record.identity.to_string(),
        pkcs11_variant: record.variant,
        pkcs11_token: token(described.map_or(&record.token, |described| &described.token)),
        pkcs11_capabilities: described.and_then(|described| {
            let found = described.capabilities.as_ref()?;
            Some(capability_body::body(found, &described.lost()))
        }),
        pkcs11_strategy: described
            .and_then(|described| described.capabilities.as_ref())
            .map_or(Strategy::Flags, Capabilities::usual_strategy)
            .max(record.strategy.unwrap_or_default())
            .name()
            .to_owned(),
        pkcs11_strategy_pinned: StrategyChoice::of(record.strategy),
        differences: view
            .differences
            .iter()
            .map(status_body::difference)
            .collect(),
        stamps: answer::stamps(&record.stamps, href(record.id)),
    }
}

/// How well a keystore is, for an answer.
pub(crate) fn status(view: &KeystoreView, now: UnixMs) -> rest::KeystoreStatus {
    let looked = view.health.scan_age_ms.map(|age| {
        let age = i64::try_from(age).unwrap_or(i64::MAX);
        answer::time(UnixMs(now.0.saturating_sub(age)))
    });
    rest::KeystoreStatus {
        last_heartbeat: looked,
        health_status: match view.health.status {
            HealthStatus::Ok => rest::HealthStatus::Ok,
            HealthStatus::NotResponding => rest::HealthStatus::NotResponding,
            HealthStatus::ConfigurationError => rest::HealthStatus::ConfigurationError,
            HealthStatus::PendingCheck => rest::HealthStatus::PendingCheck,
        },
        message: view.health.message.clone(),
        scan_age_ms: view.health.scan_age_ms,
        unmanaged_count: u64::try_from(view.unmanaged).unwrap_or(u64::MAX),
    }
}

fn token(token: &TokenInfo) -> rest::Pkcs11Token {
    rest::Pkcs11Token {
        manufacturer: token.manufacturer.clone(),
        model: token.model.clone(),
        serial: token.serial.clone(),
        label: token.label.clone(),
        firmware: token.firmware.clone(),
        hardware: token.hardware.clone(),
        library: token.library.clone(),
    }
}

/// The name of a class of objects in answers.
pub(crate) const fn class(class: ObjectClass) -> &'static str {
    match class {
        ObjectClass::Secret => "secret_key",
        ObjectClass::Private => "private_key",
        ObjectClass::Public => "public_key",
    }
}
