//! Bodies of managed keys, for answers.

use crate::coordinator::api::{answer, keystore_body, status_body, template_body, vaults};
use crate::coordinator::ops::keys::KeyView;
use crate::model::difference::Seen;
use crate::model::ids::KeyId;
use crate::model::key::KeyClass;
use crate::rest::extension::KeyRef;
use crate::rest::keystore::PKCS11;
use crate::rest::managed_key as rest;

/// Where a key is.
pub(crate) fn href(id: KeyId) -> String {
    format!("/api/v4/managed_keys/{id}")
}

/// How other bodies name a key.
pub(crate) fn reference(id: KeyId, label: &str) -> KeyRef {
    KeyRef {
        id: id.to_string(),
        label: label.to_owned(),
        href: href(id),
    }
}

/// A key.
pub(crate) fn body(view: &KeyView, trace: &str) -> rest::ManagedKey {
    let key = &view.key;
    let targets = view.keystores.iter().filter(|found| found.is_target);
    rest::ManagedKey {
        id: key.id.to_string(),
        vault: vaults::reference(key.vault, &view.vault_name),
        template: template(view),
        version: key.version_number,
        label: key.label.as_str().to_owned(),
        description: key.description.clone(),
        state: key.state,
        progress: status_body::progress(view),
        allowed_actions: actions(view),
        key_material_present: material(view),
        copies: copies(view),
        size: key.spec.bits().to_string(),
        algorithm: key.spec.algorithm(),
        verification_patterns: key
            .fingerprint
            .iter()
            .map(|fingerprint| rest::VerificationPattern {
                method: fingerprint.method.name().to_owned(),
                value: fingerprint.short(),
            })
            .collect(),
        activation_date: key.activation_date.clone(),
        expiration_date: key.expiration_date.clone(),
        rotation_date: key.rotation_date.clone(),
        rotated_at: key
            .in_use_since
            .filter(|_| key.version_number > 1)
            .map(answer::time),
        coming_version: coming(view),
        destruction_held_until: key.hold.as_ref().map(|hold| hold.until.clone()),
        label_tags: tags(&key.label_tags),
        is_rotatable: view.not_rotatable.is_none(),
        referenced_keystores: targets
            .map(|found| keystore_body::reference(found.keystore, &found.name))
            .collect(),
        instances: vec![instance(view)],
        status_in_keystores: status_body::items(view, trace),
        unsettled_versions: status_body::unsettled(view, trace),
        deactivate_on_rotation: view.deactivate_on_rotation,
        managing_systems: vec!["web".to_owned()],
        stamps: answer::stamps(&key.stamps, href(key.id)),
    }
}

fn actions(view: &KeyView) -> Vec<String> {
    let mut names: Vec<&str> = if view.key.hold.is_some() {
        vec!["cancel_destruction"]
    } else {
        let allowed = view.key.state.allowed();
        allowed.iter().map(|action| action.name()).collect()
    };
    if view.not_rotatable.is_none() {
        names.push("rotate");
    }
    names.into_iter().map(str::to_owned).collect()
}

fn coming(view: &KeyView) -> Option<rest::ComingVersion> {
    let coming = view.key.coming.as_ref()?;
    Some(rest::ComingVersion {
        version: coming.number,
        message: format!(
            "made, and given out when {} internal keystores hold it",
            view.copies.minimum
        ),
    })
}

fn template(view: &KeyView) -> rest::KeyTemplateRef {
    rest::KeyTemplateRef {
        id: view.key.template.to_string(),
        name: view.template_name.clone(),
        kinds: vec!["user_defined".to_owned()],
        alignment_status: if view.is_aligned {
            rest::Alignment::Aligned
        } else {
            rest::Alignment::Unaligned
        },
        href: template_body::href(view.key.template),
    }
}

fn instance(view: &KeyView) -> rest::KeyInstance {
    rest::KeyInstance {
        id: view.key.version.to_string(),
        label_in_keystore: view.key.object_label(),
        kind: match view.key.spec.class() {
            KeyClass::Secret => "secret_key".to_owned(),
            KeyClass::Pair => "key_pair".to_owned(),
        },
        keystore: rest::InstanceKeystore {
            group: view.group.clone(),
            kind: PKCS11.to_owned(),
        },
    }
}

fn copies(view: &KeyView) -> rest::Copies {
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    rest::Copies {
        held: count(view.copies.held),
        keystores: count(view.copies.keystores),
        minimum: count(view.copies.minimum),
    }
}

fn material(view: &KeyView) -> Vec<String> {
    let is_there = |seen| matches!(seen, Seen::Active | Seen::NotActive);
    let mut places = Vec::new();
    if view.copies.held > 0 {
        places.push("repository".to_owned());
    }
    if view.keystores.iter().any(|found| is_there(found.seen)) {
        places.push("keystores".to_owned());
    }
    places
}

fn tags(pairs: &[(String, String)]) -> Vec<rest::Tag> {
    pairs
        .iter()
        .map(|(name, value)| rest::Tag {
            name: name.clone(),
            value: value.clone(),
        })
        .collect()
}
