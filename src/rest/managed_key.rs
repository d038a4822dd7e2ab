//! Managed keys.

use serde::{Deserialize, Deserializer, Serialize};

use crate::model::key::Algorithm;
use crate::model::lifecycle::ManagedState;
use crate::rest::list::{IdRef, NamedRef, PageInfo, RecordStamps};
use crate::rest::status::{KeystoreRef, Progress, StatusInKeystore};

/// POST /api/v4/managed_keys
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManagedKeyCreate {
    /// The template, by its name in the vault.
    pub template_name: String,
    /// The vault it will belong to.
    pub vault: IdRef,
    /// 1 to 255 characters of `A-Z a-z 0-9 . _ / -` and spaces; left out: the naming scheme makes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// At most 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Values of the naming scheme's tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<Tag>>,
}

/// PATCH /api/v4/managed_keys/{id}: what is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManagedKeyPatch {
    /// Renames it on every keystore too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// As in [`ManagedKeyCreate`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// `YYYY-MM-DD`, UTC; `null` takes it away.
    #[serde(
        default,
        deserialize_with = "some",
        skip_serializing_if = "Option::is_none"
    )]
    pub activation_date: Option<Option<String>>,
    /// `YYYY-MM-DD`, UTC; `null` takes it away.
    #[serde(
        default,
        deserialize_with = "some",
        skip_serializing_if = "Option::is_none"
    )]
    pub expiration_date: Option<Option<String>>,
}

/// Tells `null` from a field that was left out.
fn some<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(from).map(Some)
}

/// A name with a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tag {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// A managed key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagedKey {
    /// Its UUID, through all versions.
    pub id: String,
    /// The vault it belongs to.
    pub vault: NamedRef,
    /// The template it was made from.
    pub template: KeyTemplateRef,
    /// Number of the version that is in use, from 1.
    pub version: u32,
    /// Its name.
    pub label: String,
    /// What people wrote about it.
    pub description: String,
    /// The wanted state, at once.
    pub state: ManagedState,
    /// All of it over its keystores.
    #[serde(flatten)]
    pub progress: Progress,
    /// The actions that would change something now.
    pub allowed_actions: Vec<String>,
    /// `repository` and `keystores`, wherever its material is.
    pub key_material_present: Vec<String>,
    /// How well its material is kept.
    #[serde(default)]
    pub copies: Copies,
    /// Bits, as text.
    pub size: String,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// What tells its material from another, shortened, by method.
    pub verification_patterns: Vec<VerificationPattern>,
    /// `YYYY-MM-DD`, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation_date: Option<String>,
    /// `YYYY-MM-DD`, UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_date: Option<String>,
    /// `YYYY-MM-DD`, UTC: the day of the next rotation, where its template has it rotated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_date: Option<String>,
    /// When the version in use replaced another; none before the first rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotated_at: Option<String>,
    /// A version that is made and waits to be given out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coming_version: Option<ComingVersion>,
    /// The day until which its destruction is held, `YYYY-MM-DD`; it ends at 00:00 UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destruction_held_until: Option<String>,
    /// Values of the naming scheme's tags.
    pub label_tags: Vec<Tag>,
    /// Whether it can be rotated now.
    pub is_rotatable: bool,
    /// Keystores it is wanted on.
    pub referenced_keystores: Vec<KeystoreRef>,
    /// What its objects are called.
    pub instances: Vec<KeyInstance>,
    /// What is true on each keystore of the version in use.
    pub status_in_keystores: Vec<StatusInKeystore>,
    /// The versions before it that are not everywhere as wanted; all of them: `GET …/versions`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsettled_versions: Vec<VersionStatus>,
    /// Whether rotating deactivates the version before.
    pub deactivate_on_rotation: bool,
    /// Always `web`.
    pub managing_systems: Vec<String>,
    /// Who and when.
    #[serde(flatten)]
    pub stamps: RecordStamps,
}

/// A version that is made and waits until enough internal keystores hold it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComingVersion {
    /// Its number.
    pub version: u32,
    /// What it waits for, for people.
    pub message: String,
}

/// What is true of a version that was replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionStatus {
    /// Its number.
    pub version: u32,
    /// What is wanted of it.
    pub state: ManagedState,
    /// What is true on each keystore.
    pub status_in_keystores: Vec<StatusInKeystore>,
}

/// Names a key's template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyTemplateRef {
    /// Its UUID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its kinds.
    #[serde(rename = "type")]
    pub kinds: Vec<String>,
    /// Whether the key is as the template says now.
    pub alignment_status: Alignment,
    /// Where it is.
    pub href: String,
}

/// Whether a key is as its template says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alignment {
    /// It is.
    Aligned,
    /// The template changed since, or its targets were set by hand.
    Unaligned,
}

/// What tells one material from another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerificationPattern {
    /// How it was made; only values of one method compare.
    pub method: String,
    /// The value.
    pub value: String,
}

/// What a key's objects are called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInstance {
    /// UUID of the key version.
    pub id: String,
    /// CKA_LABEL.
    pub label_in_keystore: String,
    /// `secret_key` or `key_pair`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Which keystores.
    pub keystore: InstanceKeystore,
}

/// Which keystores an instance is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceKeystore {
    /// The group of the template.
    pub group: String,
    /// `pkcs11`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// How many wrapped copies of a key there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copies {
    /// Internal keystores that hold it.
    pub held: u64,
    /// Internal keystores of its vault.
    pub keystores: u64,
    /// How many must hold it before its first activation.
    pub minimum: u64,
}

/// GET /api/v4/managed_keys
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManagedKeyList {
    /// Which part it is.
    #[serde(flatten)]
    pub page: PageInfo,
    /// Sorted by label unless asked otherwise.
    pub managed_keys: Vec<ManagedKey>,
}
