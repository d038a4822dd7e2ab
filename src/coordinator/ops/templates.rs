//! Key templates.

use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::{Call, Permission};
use crate::coordinator::ops::commit::{Committed, Done, Draft};
use crate::coordinator::ops::dates;
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::lists::{Page, Paged};
use crate::coordinator::ops::naming::Scheme;
use crate::coordinator::ops::vaults::check_description;
use crate::coordinator::store::{self, KeyFilter, Write};
use crate::model::ids::{Revision, TemplateId, VaultId};
use crate::model::key::{Algorithm, DeactivatedUsage, KeySpec, Usage, UsageSet, check_mixture};
use crate::model::lifecycle::ManagedState;
use crate::model::template::{KeyTemplate, OnExpiry};
use crate::model::vault::Stamps;

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
    /// ISO 8601 period from one rotation to the next, at least a day; none: only people rotate.
    pub rotation_interval: Option<String>,
    /// What the expiration date does.
    pub on_expiry: OnExpiry,
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
    /// ISO 8601 period; empty: only people rotate.
    pub rotation_interval: Option<String>,
    /// What the expiration date does.
    pub on_expiry: Option<OnExpiry>,
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
        call: &Call,
        new: TemplateNew,
    ) -> Result<Done<TemplateView>, OpsError> {
        call.authorise(Permission::TemplateWrite, Some(new.vault))?;
        if let Some(earlier) = self.earlier(call).await? {
            return self.template_again(earlier).await;
        }
        self.vault_exists("vault.id", new.vault).await?;
        let id = TemplateId::from_uuid(self.entropy.uuid());
        let stamps = Stamps::new(self.now(), &call.principal.name);
        let template = record(new, id, stamps);
        check(&template)?;
        let mut draft = Draft::new("template.create", subject(id), template.name.clone());
        draft.status = 201;
        draft.writes.push(Write::TemplateInsert(template.clone()));
        let committed = self.commit(call, draft).await?;
        if committed.earlier.is_some() {
            return self.template_again(committed).await;
        }
        let view = self.template_view(template).await?;
        Ok(committed.done(view))
    }

    /// One template.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn template(&self, call: &Call, id: TemplateId) -> Result<TemplateView, OpsError> {
        call.authorise(Permission::Read, None)?;
        let template = self.template_record(id).await?;
        self.template_view(template).await
    }

    /// Templates, sorted by name.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn template_list(
        &self,
        call: &Call,
        query: TemplateQuery,
        page: Page,
    ) -> Result<Paged<TemplateView>, OpsError> {
        call.authorise(Permission::Read, query.vault)?;
        let found = self
            .store
            .template_list(query.vault, query.name, page.for_store())
            .await?;
        let mut items = Vec::with_capacity(found.items.len());
        for template in found.items {
            items.push(self.template_view(template).await?);
        }
        Ok(Paged {
            total: found.total,
            items,
        })
    }

    /// Changes a template: its version grows, and keys made before are unaligned.
    ///
    /// # Errors
    /// `Invalid`, `Taken`, `EtagMismatch`, and what every change may meet.
    pub async fn template_update(
        &self,
        call: &Call,
        id: TemplateId,
        patch: TemplatePatch,
    ) -> Result<Done<TemplateView>, OpsError> {
        self.template_change(call, id, "template.update", |template| {
            apply(template, patch)?;
            template.version = template.version.saturating_add(1);
            check(template)
        })
        .await
    }

    /// Archives (true) or unarchives a template.
    ///
    /// # Errors
    /// `EtagMismatch`, and what every change may meet.
    pub async fn template_archive(
        &self,
        call: &Call,
        id: TemplateId,
        archived: bool,
    ) -> Result<Done<TemplateView>, OpsError> {
        let action = if archived {
            "template.archive"
        } else {
            "template.unarchive"
        };
        self.template_change(call, id, action, |template| {
            template.archived = archived;
            Ok(())
        })
        .await
    }

    /// Removes a template that no key refers to.
    ///
    /// # Errors
    /// `InUse` lists the keys.
    pub async fn template_delete(&self, call: &Call, id: TemplateId) -> Result<Done<()>, OpsError> {
        call.authorise(Permission::TemplateWrite, None)?;
        if let Some(earlier) = self.earlier(call).await? {
            return Ok(earlier.done(()));
        }
        let template = self.template_record(id).await?;
        call.check_revision(template.revision)?;
        let mut draft = Draft::new("template.delete", subject(id), template.name);
        draft.status = 204;
        draft.writes.push(Write::TemplateDelete {
            id,
            expected: template.revision,
        });
        let committed = self.commit(call, draft).await;
        Ok(self.template_conflict(committed, id).await?.done(()))
    }

    async fn template_change(
        &self,
        call: &Call,
        id: TemplateId,
        action: &'static str,
        change: impl FnOnce(&mut KeyTemplate) -> Result<(), OpsError> + Send,
    ) -> Result<Done<TemplateView>, OpsError> {
        call.authorise(Permission::TemplateWrite, None)?;
        if let Some(earlier) = self.earlier(call).await? {
            return self.template_again(earlier).await;
        }
        let before = self.template_record(id).await?;
        call.check_revision(before.revision)?;
        let mut template = before.clone();
        change(&mut template)?;
        if template == before {
            let view = self.template_view(before).await?;
            return Ok(self.unchanged(call).done(view));
        }
        template.revision = before.revision.next();
        template.stamps.touch(self.now(), &call.principal.name);
        let mut draft = Draft::new(action, subject(id), template.name.clone());
        draft.writes.push(Write::TemplateUpdate {
            record: template.clone(),
            expected: before.revision,
        });
        let committed = self.commit(call, draft).await;
        let committed = self.template_conflict(committed, id).await?;
        let view = self.template_view(template).await?;
        Ok(committed.done(view))
    }

    pub(crate) async fn template_record(&self, id: TemplateId) -> Result<KeyTemplate, OpsError> {
        self.store
            .template(id)
            .await?
            .ok_or_else(|| OpsError::not_found("template", id))
    }

    /// Refuses a vault that there is not, as an error of the field that names it.
    pub(crate) async fn vault_exists(&self, field: &str, id: VaultId) -> Result<(), OpsError> {
        match self.store.vault(id).await? {
            Some(_vault) => Ok(()),
            None => Err(OpsError::invalid(field, "not_found", "no such vault")),
        }
    }

    async fn template_view(&self, template: KeyTemplate) -> Result<TemplateView, OpsError> {
        let vault_name = self.vault_record(template.vault).await?.name;
        let filter = KeyFilter {
            template: Some(template.id),
            ..KeyFilter::default()
        };
        let one = store::Page {
            limit: 1,
            offset: 0,
        };
        let keys_count = self.store.key_list(filter, one).await?.total;
        Ok(TemplateView {
            template,
            vault_name,
            keys_count,
        })
    }

    async fn template_again(&self, earlier: Committed) -> Result<Done<TemplateView>, OpsError> {
        let template = self
            .template_record(earlier.subject_id("template/")?)
            .await?;
        let view = self.template_view(template).await?;
        Ok(earlier.done(view))
    }

    async fn template_conflict(
        &self,
        committed: Result<Committed, OpsError>,
        id: TemplateId,
    ) -> Result<Committed, OpsError> {
        match committed {
            Err(OpsError::Conflict { .. }) => Err(OpsError::EtagMismatch {
                current: self.template_record(id).await?.revision,
            }),
            other => other,
        }
    }
}

fn subject(id: TemplateId) -> String {
    format!("template/{id}")
}

fn record(new: TemplateNew, id: TemplateId, stamps: Stamps) -> KeyTemplate {
    let or = |text: String, default: &str| {
        if text.is_empty() {
            default.to_owned()
        } else {
            text
        }
    };
    KeyTemplate {
        id,
        vault: new.vault,
        version: 1,
        name: new.name,
        description: new.description,
        naming_scheme: new.naming_scheme,
        spec: new.spec,
        usage: new.usage.unwrap_or_else(|| new.spec.default_usage()),
        deactivated_usage: new.deactivated_usage,
        allow_mixed_usage: new.allow_mixed_usage,
        initial_state: new.initial_state,
        activation_period: or(new.activation_period, "P0D"),
        expiration_period: or(new.expiration_period, "P1Y"),
        deactivate_on_rotation: new.deactivate_on_rotation,
        rotation_interval: new.rotation_interval,
        on_expiry: new.on_expiry,
        group: new.group,
        archived: new.archived,
        revision: Revision(1),
        stamps,
    }
}

fn apply(template: &mut KeyTemplate, patch: TemplatePatch) -> Result<(), OpsError> {
    fn set<T>(field: &mut T, value: Option<T>) {
        if let Some(value) = value {
            *field = value;
        }
    }
    if let Some(bits) = patch.bits {
        template.spec = KeySpec::new(template.spec.algorithm(), bits)
            .map_err(|error| OpsError::invalid("key.size", "invalid_size", error.to_string()))?;
    }
    set(&mut template.name, patch.name);
    set(&mut template.description, patch.description);
    set(&mut template.usage, patch.usage);
    set(&mut template.deactivated_usage, patch.deactivated_usage);
    set(&mut template.allow_mixed_usage, patch.allow_mixed_usage);
    set(&mut template.initial_state, patch.initial_state);
    set(&mut template.activation_period, patch.activation_period);
    set(&mut template.expiration_period, patch.expiration_period);
    set(
        &mut template.deactivate_on_rotation,
        patch.deactivate_on_rotation,
    );
    if let Some(interval) = patch.rotation_interval {
        template.rotation_interval = Some(interval).filter(|interval| !interval.is_empty());
    }
    set(&mut template.on_expiry, patch.on_expiry);
    set(&mut template.group, patch.group);
    Ok(())
}

fn check(template: &KeyTemplate) -> Result<(), OpsError> {
    let name = &template.name;
    let is_name = (1..=30).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if !is_name {
        return Err(OpsError::invalid(
            "name",
            "invalid_name",
            "1 to 30 letters, digits and -, beginning with a letter",
        ));
    }
    check_description(&template.description)?;
    if let Some(scheme) = &template.naming_scheme {
        Scheme::parse(scheme)?;
    }
    if !matches!(
        template.initial_state,
        ManagedState::PreActivation | ManagedState::Active
    ) {
        return Err(OpsError::invalid(
            "key.state",
            "invalid_state",
            "pre_activation or active",
        ));
    }
    dates::period("key.activation_date", &template.activation_period)?;
    dates::period("key.expiration_date", &template.expiration_period)?;
    if let Some(interval) = &template.rotation_interval {
        dates::interval("key.rotation_interval", interval)?;
    }
    check_group("keystores[].group", &template.group)?;
    check_usage(template)
}

fn check_usage(template: &KeyTemplate) -> Result<(), OpsError> {
    let invalid =
        |message: String| Err(OpsError::invalid("pkcs11_usage", "invalid_usage", message));
    let possible = usages(template.spec.algorithm());
    if template.usage.is_empty() {
        return invalid("at least one usage".to_owned());
    }
    if !possible.contains(template.usage) {
        let algorithm = template.spec.algorithm().name();
        return invalid(format!("{algorithm} keys can only {possible}"));
    }
    match check_mixture(template.usage) {
        Err(mixed) if !template.allow_mixed_usage => invalid(mixed.to_string()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// What keys of an algorithm can do at all.
fn usages(algorithm: Algorithm) -> UsageSet {
    use Usage::{Decrypt, Derive, Encrypt, Sign, Unwrap, Verify, Wrap};
    match algorithm {
        Algorithm::Aes | Algorithm::Des => {
            UsageSet::of(&[Encrypt, Decrypt, Sign, Verify, Wrap, Unwrap, Derive])
        }
        Algorithm::Hmac | Algorithm::Ec => UsageSet::of(&[Sign, Verify, Derive]),
        Algorithm::Rsa => UsageSet::of(&[Encrypt, Decrypt, Sign, Verify, Wrap, Unwrap]),
    }
}

/// Checks the name of a keystore group.
pub(crate) fn check_group(field: &str, group: &str) -> Result<(), OpsError> {
    let fits = (1..=100).contains(&group.len())
        && group.starts_with(|c: char| c.is_ascii_alphanumeric())
        && group
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_ -".contains(c));
    if fits {
        Ok(())
    } else {
        Err(OpsError::invalid(
            field,
            "invalid_group",
            "1 to 100 letters, digits, _ - and spaces, beginning with a letter or digit",
        ))
    }
}
