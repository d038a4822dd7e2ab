//! Key templates.

use serde::{Deserialize, Serialize};

use crate::model::key::{Algorithm, DeactivatedUsage, Usage};
use crate::model::lifecycle::ManagedState;
use crate::model::template::OnExpiry;
use crate::rest::list::{IdRef, NamedRef, PageInfo, RecordStamps};

/// POST /api/v4/templates
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateCreate {
    /// The vault it will belong to.
    pub vault: IdRef,
    /// 1 to 30 characters, `^[A-Za-z][A-Za-z0-9-]*$`; unique in its vault.
    pub name: String,
    /// What its keys look like.
    pub key: KeyProperties,
    /// Exactly one group of keystores.
    pub keystores: Vec<TemplateKeystore>,
    /// At most 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Text with `<TAG>` places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub naming_scheme: Option<String>,
    /// `user_defined`, where given.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kinds: Option<Vec<TemplateKind>>,
    /// `unarchived`, where given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<TemplateState>,
}

/// PATCH /api/v4/templates/{id}: what is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplatePatch {
    /// As in [`TemplateCreate`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// As in [`TemplateCreate`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Another group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keystores: Option<Vec<TemplateKeystorePatch>>,
    /// Other properties of keys to come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyPropertiesPatch>,
}

/// What keys made from a template look like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyProperties {
    /// Bits, as text, such as `256`.
    pub size: String,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// ISO 8601 period from creation, such as `P0D`.
    pub activation_date: String,
    /// ISO 8601 period from creation, such as `P1Y`.
    pub expiration_date: String,
    /// `pre_activation` or `active`.
    pub state: ManagedState,
    /// Whether rotating deactivates the version before.
    #[serde(default)]
    pub deactivate_on_rotation: bool,
    /// ISO 8601 period from one rotation to the next, such as `P90D`; left out: only people rotate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_interval: Option<String>,
    /// What the expiration date does: `warn`, or `deactivate`.
    #[serde(default)]
    pub on_expiry: OnExpiry,
}

/// Changes of [`KeyProperties`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPropertiesPatch {
    /// As in [`KeyProperties`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// As in [`KeyProperties`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activation_date: Option<String>,
    /// As in [`KeyProperties`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration_date: Option<String>,
    /// As in [`KeyProperties`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<ManagedState>,
    /// As in [`KeyProperties`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deactivate_on_rotation: Option<bool>,
    /// As in [`KeyProperties`]; empty: only people rotate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_interval: Option<String>,
    /// As in [`KeyProperties`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_expiry: Option<OnExpiry>,
}

/// Where keys made from a template go, and what is special about them there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateKeystore {
    /// Every keystore that carries this group is a target.
    pub group: String,
    /// `pkcs11`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Labels on the keystores; not supported apart from the template's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub naming_scheme: Option<String>,
    /// Usage of active keys; left out: what is usual for the algorithm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pkcs11_usage: Option<Vec<Usage>>,
    /// Usage of deactivated keys; left out: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pkcs11_deactivated_usage: Option<DeactivatedUsage>,
    /// Whether usages that undo each other's protection are wanted on purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pkcs11_allow_mixed_usage: Option<bool>,
}

/// Changes of [`TemplateKeystore`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TemplateKeystorePatch {
    /// As in [`TemplateKeystore`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// `pkcs11`, where given.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// As in [`TemplateKeystore`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pkcs11_usage: Option<Vec<Usage>>,
    /// As in [`TemplateKeystore`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pkcs11_deactivated_usage: Option<DeactivatedUsage>,
    /// As in [`TemplateKeystore`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pkcs11_allow_mixed_usage: Option<bool>,
}

/// Kinds of templates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateKind {
    /// Made by people.
    UserDefined,
    /// Made by us.
    System,
    /// Made behind a key with properties of its own.
    Shadow,
}

/// Whether a template makes new keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TemplateState {
    /// It makes none.
    Archived,
    /// It does.
    Unarchived,
}

/// A key template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// The vault it belongs to.
    pub vault: NamedRef,
    /// Its UUID.
    pub id: String,
    /// +1 at each update.
    pub version: u64,
    /// Its name.
    pub name: String,
    /// What people wrote about it.
    pub description: String,
    /// Text with `<TAG>` places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub naming_scheme: Option<String>,
    /// Its kinds.
    #[serde(rename = "type")]
    pub kinds: Vec<TemplateKind>,
    /// Whether it makes new keys.
    pub state: TemplateState,
    /// Keys that refer to it, destroyed ones too.
    pub keys_count: u64,
    /// What its keys look like.
    pub key: KeyProperties,
    /// Where they go.
    pub keystores: Vec<TemplateKeystore>,
    /// Always `web`.
    pub managing_systems: Vec<String>,
    /// Who and when.
    #[serde(flatten)]
    pub stamps: RecordStamps,
}

/// GET /api/v4/templates
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateList {
    /// Which part it is.
    #[serde(flatten)]
    pub page: PageInfo,
    /// Sorted by name unless asked otherwise.
    pub templates: Vec<Template>,
}
