//! Records to fill a store with.

use std::collections::BTreeSet;

use lockstep::coordinator::store::{Change, OperationRecord, Write};
use lockstep::model::audit::AuditEntry;
use lockstep::model::canonical::sha256;
use lockstep::model::capabilities::Strategy;
use lockstep::model::desired::{Instance, Intent, ObjectPlan, Want};
use lockstep::model::ids::{
    Epoch, Generation, KeyId, KeyVersionId, KeystoreId, OperationId, Revision, TemplateId, VaultId,
};
use lockstep::model::kek::KekNumber;
use lockstep::model::key::{Algorithm, DeactivatedUsage, KeySpec, ManagedKey};
use lockstep::model::keystore::{KeystoreRecord, TokenInfo, Variant};
use lockstep::model::lifecycle::ManagedState;
use lockstep::model::material::{BirthRecord, RepositoryCopy, Signed};
use lockstep::model::observed::{Fingerprint, FingerprintMethod};
use lockstep::model::template::KeyTemplate;
use lockstep::model::text::Label;
use lockstep::model::vault::{DriftPolicy, Stamps, UnixMs, Vault};
use lockstep::model::version::Acted;
use uuid::Uuid;

pub(crate) fn stamps() -> Stamps {
    Stamps::new(UnixMs(1_700_000_000_000), "anna")
}

pub(crate) fn spec() -> KeySpec {
    KeySpec::new(Algorithm::Aes, 256).unwrap()
}

pub(crate) fn vault(name: &str) -> Vault {
    Vault {
        id: VaultId::from_uuid(Uuid::new_v4()),
        name: format!("{name} {}", Uuid::new_v4()),
        description: "of the tests".to_owned(),
        recovery_key_label: None,
        salt: vec![7; 32],
        strategy: Strategy::Flags,
        min_copies: 1,
        destruction_hold: "P0D".to_owned(),
        drift_policy: DriftPolicy::Enforce,
        revision: Revision(1),
        stamps: stamps(),
    }
}

pub(crate) fn template(vault: VaultId, name: &str) -> KeyTemplate {
    KeyTemplate {
        id: TemplateId::from_uuid(Uuid::new_v4()),
        vault,
        version: 1,
        name: name.to_owned(),
        description: String::new(),
        naming_scheme: None,
        spec: spec(),
        usage: spec().default_usage(),
        deactivated_usage: DeactivatedUsage::None,
        allow_mixed_usage: false,
        initial_state: ManagedState::PreActivation,
        activation_period: "P0D".to_owned(),
        expiration_period: "P1Y".to_owned(),
        deactivate_on_rotation: false,
        rotation_interval: None,
        on_expiry: lockstep::model::template::OnExpiry::Warn,
        group: "production".to_owned(),
        archived: false,
        revision: Revision(1),
        stamps: stamps(),
    }
}

pub(crate) fn keystore(vault: VaultId, name: &str, groups: &[&str]) -> KeystoreRecord {
    KeystoreRecord {
        id: KeystoreId::from_uuid(Uuid::new_v4()),
        vault,
        name: name.to_owned(),
        description: String::new(),
        location: "rack 3".to_owned(),
        groups: groups.iter().map(|&group| group.to_owned()).collect(),
        variant: Variant::Internal,
        endpoint: "https://127.0.0.1:7443".to_owned(),
        agent_name: format!("spiffe://lockstep/agent/{name}"),
        identity: sha256(name.as_bytes()),
        epoch: Epoch(1),
        strategy: None,
        token: TokenInfo::default(),
        revision: Revision(1),
        stamps: stamps(),
    }
}

pub(crate) fn key(template: &KeyTemplate, label: &str) -> ManagedKey {
    ManagedKey {
        id: KeyId::from_uuid(Uuid::new_v4()),
        vault: template.vault,
        template: template.id,
        template_version: template.version,
        label: Label::new(label).unwrap(),
        description: String::new(),
        state: ManagedState::PreActivation,
        spec: template.spec,
        usage: template.usage,
        deactivated_usage: template.deactivated_usage,
        version: KeyVersionId::from_uuid(Uuid::new_v4()),
        version_number: 1,
        fingerprint: Some(fingerprint()),
        spki: None,
        label_tags: vec![("env".to_owned(), "test".to_owned())],
        targets: BTreeSet::new(),
        targets_by_hand: false,
        activation_date: None,
        expiration_date: Some("2027-01-01".to_owned()),
        rotation_date: None,
        acted: Acted::default(),
        in_use_since: None,
        past: Vec::new(),
        coming: None,
        hold: None,
        revision: Revision(1),
        stamps: stamps(),
    }
}

pub(crate) fn fingerprint() -> Fingerprint {
    Fingerprint {
        method: FingerprintMethod::DigestKey,
        value: sha256(b"material"),
    }
}

pub(crate) fn instance(
    key: &ManagedKey,
    keystore: KeystoreId,
    generation: u64,
    want: Want,
) -> Instance {
    Instance {
        intent: Intent {
            version: key.version,
            keystore,
            generation: Generation(generation),
            want,
            object: ObjectPlan {
                cka_id: key.version.uuid().as_bytes().to_vec(),
                label: key.label.as_str().to_owned(),
                spec: key.spec,
                usage: key.usage,
                deactivated_usage: key.deactivated_usage,
                salt: vec![7; 32],
                strategy: Strategy::Flags,
            },
            fingerprint: fingerprint(),
        },
        is_target: true,
        since: UnixMs(1_700_000_000_000),
        revision: key.revision,
        adoption: None,
    }
}

pub(crate) fn put(
    key: &ManagedKey,
    keystore: KeystoreId,
    generation: u64,
    want: Want,
    expected: Option<u64>,
) -> Write {
    Write::InstancePut {
        key: key.id,
        instance: Box::new(instance(key, keystore, generation, want)),
        expected: expected.map(Generation),
    }
}

pub(crate) fn copy(key: &ManagedKey, keystore: KeystoreId) -> RepositoryCopy {
    RepositoryCopy {
        keystore,
        blob: vec![9; 40],
        kek: KekNumber::FIRST,
        birth: Signed {
            body: BirthRecord {
                version: key.version,
                spec: key.spec,
                fingerprint: fingerprint(),
                salt: vec![7; 32],
                spki: None,
                blob: sha256(&[9; 40]),
                keystore,
                at: UnixMs(5),
            },
            signer: vec![1; 32],
            signature: vec![2; 64],
        },
    }
}

pub(crate) fn operation(key: &str, request: &str, at: i64) -> OperationRecord {
    OperationRecord {
        key: key.to_owned(),
        id: OperationId::from_uuid(Uuid::new_v4()),
        request: sha256(request.as_bytes()),
        status: 201,
        subject: "key/1".to_owned(),
        at: UnixMs(at),
    }
}

pub(crate) fn audit(subject: &str, detail: &str) -> AuditEntry {
    AuditEntry {
        at: UnixMs(1_700_000_000_000),
        actor: "anna".to_owned(),
        action: "key.activate".to_owned(),
        subject: subject.to_owned(),
        operation: OperationId::from_uuid(Uuid::new_v4()),
        intents: vec![sha256(b"intent")],
        detail: detail.to_owned(),
        bulk: None,
    }
}

/// A change of these writes alone.
pub(crate) fn change(writes: Vec<Write>) -> Change {
    Change {
        operation: None,
        writes,
        audit: Vec::new(),
    }
}
