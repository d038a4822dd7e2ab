//! Bodies of templates: from requests, and for answers.

use crate::coordinator::api::refusal::Refusal;
use crate::coordinator::api::{answer, vaults};
use crate::coordinator::ops::templates::{TemplateNew, TemplatePatch, TemplateView};
use crate::model::ids::TemplateId;
use crate::model::key::{KeySpec, Usage, UsageSet};
use crate::rest::keystore::PKCS11;
use crate::rest::template as rest;

/// What a request for a new template means.
pub(crate) fn new(asked: rest::TemplateCreate) -> Result<TemplateNew, Refusal> {
    let keystore = only(asked.keystores)?;
    check_kind(Some(&keystore.kind))?;
    if keystore.naming_scheme.is_some() {
        return Err(Refusal::not_built_yet(
            "a naming scheme of its own for the labels on keystores",
        ));
    }
    if let Some(kinds) = &asked.kinds
        && kinds.as_slice() != [rest::TemplateKind::UserDefined]
    {
        return Err(Refusal::field(
            "type",
            "invalid_value",
            "templates made by people are [\"user_defined\"]",
        ));
    }
    let key = asked.key;
    let spec = KeySpec::new(key.algorithm, bits(&key.size)?)
        .map_err(|error| Refusal::field("key.size", "invalid_value", error.to_string()))?;
    Ok(TemplateNew {
        vault: vaults::named(&asked.vault.id)?,
        name: asked.name,
        description: asked.description.unwrap_or_default(),
        naming_scheme: asked.naming_scheme,
        spec,
        usage: keystore.pkcs11_usage.as_deref().map(UsageSet::of),
        deactivated_usage: keystore.pkcs11_deactivated_usage.unwrap_or_default(),
        allow_mixed_usage: keystore.pkcs11_allow_mixed_usage.unwrap_or(false),
        initial_state: key.state,
        activation_period: key.activation_date,
        expiration_period: key.expiration_date,
        deactivate_on_rotation: key.deactivate_on_rotation,
        rotation_interval: key.rotation_interval,
        on_expiry: key.on_expiry,
        group: keystore.group,
        archived: asked.state == Some(rest::TemplateState::Archived),
    })
}

/// What a request to change a template means.
pub(crate) fn patch(asked: rest::TemplatePatch) -> Result<TemplatePatch, Refusal> {
    let keystore = match asked.keystores {
        None => rest::TemplateKeystorePatch::default(),
        Some(keystores) => only(keystores)?,
    };
    check_kind(keystore.kind.as_deref())?;
    let key = asked.key.unwrap_or_default();
    Ok(TemplatePatch {
        name: asked.name,
        description: asked.description,
        bits: key.size.as_deref().map(bits).transpose()?,
        usage: keystore.pkcs11_usage.as_deref().map(UsageSet::of),
        deactivated_usage: keystore.pkcs11_deactivated_usage,
        allow_mixed_usage: keystore.pkcs11_allow_mixed_usage,
        initial_state: key.state,
        activation_period: key.activation_date,
        expiration_period: key.expiration_date,
        deactivate_on_rotation: key.deactivate_on_rotation,
        rotation_interval: key.rotation_interval,
        on_expiry: key.on_expiry,
        group: keystore.group,
    })
}

fn only<T>(items: Vec<T>) -> Result<T, Refusal> {
    let mut items = items.into_iter();
    match (items.next(), items.next()) {
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) | (None, _) => Err(Refusal::field(
            "keystores",
            "invalid_value",
            "a template names exactly one group of keystores",
        )),
    }
}

fn check_kind(kind: Option<&str>) -> Result<(), Refusal> {
    match kind {
        None | Some(PKCS11) => Ok(()),
        Some(_other) => Err(Refusal::field(
            "keystores[0].type",
            "keystore_type_not_supported",
            "keys go to keystores of type pkcs11 only",
        )),
    }
}

fn bits(size: &str) -> Result<u32, Refusal> {
    size.parse().map_err(|_not_a_number| {
        Refusal::field(
            "key.size",
            "invalid_value",
            "a number of bits, as text, such as \"256\"",
        )
    })
}

/// Where a template is.
pub(crate) fn href(id: TemplateId) -> String {
    format!("/api/v4/templates/{id}")
}

/// A template for an answer.
pub(crate) fn body(view: &TemplateView) -> rest::Template {
    let template = &view.template;
    rest::Template {
        vault: vaults::reference(template.vault, &view.vault_name),
        id: template.id.to_string(),
        version: template.version,
        name: template.name.clone(),
        description: template.description.clone(),
        naming_scheme: template.naming_scheme.clone(),
        kinds: vec![rest::TemplateKind::UserDefined],
        state: if template.archived {
            rest::TemplateState::Archived
        } else {
            rest::TemplateState::Unarchived
        },
        keys_count: view.keys_count,
        key: rest::KeyProperties {
            size: template.spec.bits().to_string(),
            algorithm: template.spec.algorithm(),
            activation_date: template.activation_period.clone(),
            expiration_date: template.expiration_period.clone(),
            state: template.initial_state,
            deactivate_on_rotation: template.deactivate_on_rotation,
            rotation_interval: template.rotation_interval.clone(),
            on_expiry: template.on_expiry,
        },
        keystores: vec![rest::TemplateKeystore {
            group: template.group.clone(),
            kind: PKCS11.to_owned(),
            naming_scheme: None,
            pkcs11_usage: Some(usages(template.usage)),
            pkcs11_deactivated_usage: Some(template.deactivated_usage),
            pkcs11_allow_mixed_usage: Some(template.allow_mixed_usage),
        }],
        managing_systems: vec!["web".to_owned()],
        stamps: answer::stamps(&template.stamps, href(template.id)),
    }
}

fn usages(set: UsageSet) -> Vec<Usage> {
    set.iter().collect()
}
