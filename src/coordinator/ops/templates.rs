//! Key templates.

use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::Call;
use crate::coordinator::ops::commit::Done;
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::lists::{Page, Paged};
use crate::model::ids::{TemplateId, VaultId};
use crate::model::key::{DeactivatedUsage, KeySpec, UsageSet};
use crate::model::lifecycle::ManagedState;
use crate::model::template::KeyTemplate;

/// A template to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateNew {
    /// The vault, for ever.
    pub vault: VaultId,
    /// 1 to 30 characters, `^[A-Za-z][A-Za-z0-9-]*$`.
    pub name: String,
    /// At most 200 characters.
    pub description: String,
    /// Text with `<TAG>` places.
    pub naming_scheme: Option<String>,
    /// Algorithm and size.
    pub spec: KeySpec,
    /// Usage while active; none: the algorithm's default.
    pub usage: Option<UsageSet>,
    /// Usage while deactivated.
    pub deactivated_usage: DeactivatedUsage,
    /// Whether usages that undo each other are wanted on purpose.
    pub allow_mixed_usage: bool,
    /// `PreActivation` or `Active`.
    pub initial_state: ManagedState,
    /// ISO 8601 period; empty: `P0D`.
    pub activation_period: String,
    /// ISO 8601 period; empty: `P1Y`.
    pub expiration_period: String,
    /// Whether rotating deactivates the version before.
    pub deactivate_on_rotation: bool,
    /// 1 to 100 characters, `^[A-Za-z0-9][A-Za-z0-9_ -]+$`.
    pub group: String,
    /// Made archived.
    pub archived: bool,
}

/// What is to change of a template; `None` leaves a field as it is. Algorithm and naming never change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TemplatePatch {
    /// The name.
    pub name: Option<String>,
    /// The description.
    pub description: Option<String>,
    /// The size, for keys made from now on.
    pub bits: Option<u32>,
    /// Usage while active, for keys made from now on.
    pub usage: Option<UsageSet>,
    /// Usage while deactivated, for keys made from now on.
    pub deactivated_usage: Option<DeactivatedUsage>,
    /// Whether usages that undo each other are wanted on purpose.
    pub allow_mixed_usage: Option<bool>,
    /// `PreActivation` or `Active`.
    pub initial_state: Option<ManagedState>,
    /// ISO 8601 period.
    pub activation_period: Option<String>,
    /// ISO 8601 period.
    pub expiration_period: Option<String>,
    /// Whether rotating deactivates the version before.
    pub deactivate_on_rotation: Option<bool>,
    /// The keystore group.
    pub group: Option<String>,
}

/// Which templates.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TemplateQuery {
    /// Of this vault.
    pub vault: Option<VaultId>,
    /// Whose names begin so.
    pub name: Option<String>,
}

/// A template with what is around it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateView {
    /// The record.
    pub template: KeyTemplate,
    /// Its vault's name.
    pub vault_name: String,
    /// How many keys refer to it, in any state.
    pub keys_count: u64,
}

impl Ops {
    /// Makes a template.
    ///
    /// # Errors
    /// `Invalid`, `Taken`, and what every change may meet.
    pub async fn template_create(
        &self,
        _call: &Call,
        _new: TemplateNew,
    ) -> Result<Done<TemplateView>, OpsError> {
        Err(unfinished())
    }

    /// One template.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn template(&self, _call: &Call, _id: TemplateId) -> Result<TemplateView, OpsError> {
        Err(unfinished())
    }

    /// Templates, sorted by name.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn template_list(
        &self,
        _call: &Call,
        _query: TemplateQuery,
        _page: Page,
    ) -> Result<Paged<TemplateView>, OpsError> {
        Err(unfinished())
    }

    /// Changes a template: its version grows, and keys made before are unaligned.
    ///
    /// # Errors
    /// `Invalid`, `Taken`, `EtagMismatch`, and what every change may meet.
    pub async fn template_update(
        &self,
        _call: &Call,
        _id: TemplateId,
        _patch: TemplatePatch,
    ) -> Result<Done<TemplateView>, OpsError> {
        Err(unfinished())
    }

    /// Archives (true) or unarchives a template.
    ///
    /// # Errors
    /// `EtagMismatch`, and what every change may meet.
    pub async fn template_archive(
        &self,
        _call: &Call,
        _id: TemplateId,
        _archived: bool,
    ) -> Result<Done<TemplateView>, OpsError> {
        Err(unfinished())
    }

    /// Removes a template that no key refers to.
    ///
    /// # Errors
    /// `InUse` lists the keys.
    pub async fn template_delete(
        &self,
        _call: &Call,
        _id: TemplateId,
    ) -> Result<Done<()>, OpsError> {
        Err(unfinished())
    }
}

pub(crate) fn unfinished() -> OpsError {
    OpsError::refused("not_supported_yet", "this part is being written")
}
