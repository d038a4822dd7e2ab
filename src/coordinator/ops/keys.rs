//! Managed keys: making, reading, and what is written about them.

use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::Call;
use crate::coordinator::ops::commit::Done;
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::lists::{Page, Paged};
use crate::coordinator::ops::status::InKeystore;
use crate::coordinator::ops::templates::unfinished;
use crate::decide::status::KeyPhase;
use crate::model::ids::{KeyId, KeystoreId, TemplateId, VaultId};
use crate::model::key::ManagedKey;
use crate::model::lifecycle::ManagedState;

/// A key to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyNew {
    /// The vault, for ever.
    pub vault: VaultId,
    /// The template's name in that vault.
    pub template_name: String,
    /// The label, where the template has no naming scheme.
    pub label: Option<String>,
    /// Values of the naming scheme's tags.
    pub label_tags: Vec<(String, String)>,
    /// At most 200 characters.
    pub description: String,
}

/// What is to change of a key; `None` leaves a field as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyPatch {
    /// The label: renames the objects too. Refused where a naming scheme made it.
    pub label: Option<String>,
    /// The description.
    pub description: Option<String>,
    /// `YYYY-MM-DD`; empty removes it.
    pub activation_date: Option<String>,
    /// `YYYY-MM-DD`; empty removes it.
    pub expiration_date: Option<String>,
}

/// Which keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyQuery {
    /// Of this vault.
    pub vault: Option<VaultId>,
    /// Of one of these states; empty: all.
    pub states: Vec<ManagedState>,
    /// With exactly this label.
    pub label: Option<String>,
    /// Made from this template.
    pub template: Option<TemplateId>,
    /// With an instance on this keystore.
    pub keystore: Option<KeystoreId>,
    /// Field names of API v4, true: descending.
    pub sort: Vec<(String, bool)>,
}

/// A key with what is around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyView {
    /// The record.
    pub key: ManagedKey,
    /// Its vault's name.
    pub vault_name: String,
    /// Its template's name.
    pub template_name: String,
    /// The group its template names.
    pub group: String,
    /// Whether it follows its template's newest version.
    pub is_aligned: bool,
    /// Whether its label came from a naming scheme.
    pub is_named_by_scheme: bool,
    /// Whether rotating will deactivate this version.
    pub deactivate_on_rotation: bool,
    /// How many wrapped copies the repository holds.
    pub copies: usize,
    /// Whether every keystore is as wanted.
    pub phase: KeyPhase,
    /// Each keystore's truth: targets, and those that once were.
    pub keystores: Vec<InKeystore>,
}

impl Ops {
    /// Makes a key on an internal keystore of the vault.
    ///
    /// # Errors
    /// `Invalid`, `Taken`, `NoInternalKeystore`, `AgentUnreachable`, and `Refused` with `birth_record` where what the agent
    /// gave is not what was asked.
    pub async fn key_create(&self, _call: &Call, _new: KeyNew) -> Result<Done<KeyView>, OpsError> {
        Err(unfinished())
    }

    /// One key.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn key(&self, _call: &Call, _id: KeyId) -> Result<KeyView, OpsError> {
        Err(unfinished())
    }

    /// Keys.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn key_list(
        &self,
        _call: &Call,
        _query: KeyQuery,
        _page: Page,
    ) -> Result<Paged<KeyView>, OpsError> {
        Err(unfinished())
    }

    /// Changes what is written about a key; a new label renames its objects.
    ///
    /// # Errors
    /// `Invalid`, `Taken`, `EtagMismatch`, `StateConflict` for a label of a destroyed key.
    pub async fn key_update(
        &self,
        _call: &Call,
        _id: KeyId,
        _patch: KeyPatch,
    ) -> Result<Done<KeyView>, OpsError> {
        Err(unfinished())
    }
}
