//! Managed keys: making, reading, and what is written about them.

use jiff::civil::Date;

use crate::coordinator::ops::access::{Call, Permission};
use crate::coordinator::ops::commit::{Committed, Done, Draft};
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::lists::{Page, Paged};
use crate::coordinator::ops::naming::Scheme;
use crate::coordinator::ops::repository::Copies;
use crate::coordinator::ops::rotate::{NotRotatable, not_rotatable};
use crate::coordinator::ops::status::{Directory, InKeystore};
use crate::coordinator::ops::vaults::check_description;
use crate::coordinator::ops::{Ops, dates, intents};
use crate::coordinator::store::{KeyFilter, Write};
use crate::decide::status::{KeyPhase, Phase, phase};
use crate::model::ids::{KeyId, KeyVersionId, KeystoreId, Revision, TemplateId, VaultId};
use crate::model::key::ManagedKey;
use crate::model::lifecycle::ManagedState;
use crate::model::template::KeyTemplate;
use crate::model::text::Label;
use crate::model::vault::{Stamps, Vault};
use crate::model::version::Acted;

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
    pub copies: Copies,
    /// Whether every keystore is as wanted.
    pub phase: KeyPhase,
    /// Each keystore's truth about the version in use: targets, and those that once were.
    pub keystores: Vec<InKeystore>,
    /// The versions before it, newest first.
    pub past: Vec<VersionView>,
    /// Why it cannot be rotated now; none: it can.
    pub not_rotatable: Option<NotRotatable>,
    /// How long its vault holds a destruction.
    pub destruction_hold: String,
}

/// A version that was replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionView {
    /// The key as this version.
    pub key: ManagedKey,
    /// Whether every keystore has it as wanted.
    pub phase: KeyPhase,
    /// Each keystore's truth about it.
    pub keystores: Vec<InKeystore>,
}

impl KeyView {
    /// The rows of all versions, with the number of each.
    pub fn all_rows(&self) -> impl Iterator<Item = (u32, &InKeystore)> {
        let current = self.keystores.iter();
        let past = self.past.iter().flat_map(|version| {
            let rows = version.keystores.iter();
            rows.map(|row| (version.key.version_number, row))
        });
        current
            .map(|row| (self.key.version_number, row))
            .chain(past)
    }
}

impl Ops {
    /// Makes a key on an internal keystore of the vault.
    ///
    /// # Errors
    /// `Invalid`, also for a label that a target cannot keep whole, `Taken`, `NoInternalKeystore`, `AgentUnreachable`, and `Refused` with `birth_record` where what the agent
    /// gave is not what was asked.
    pub async fn key_create(&self, call: &Call, new: KeyNew) -> Result<Done<KeyView>, OpsError> {
        call.authorise(Permission::KeyGenerate, Some(new.vault))?;
        if let Some(earlier) = self.earlier(call).await? {
            return self.key_again(earlier).await;
        }
        let vault = self.store.vault(new.vault).await?;
        let vault =
            vault.ok_or_else(|| OpsError::invalid("vault.id", "not_found", "no such vault"))?;
        let template = self.template_for(&vault, &new.template_name).await?;
        check_description(&new.description)?;
        let at = self.now();
        let mut key = self.draft_key(&template, new, Stamps::new(at, &call.principal.name))?;
        self.check_label_free(&key).await?;
        let targets = self
            .keystore_records(Some(vault.id), Some(template.group.clone()))
            .await?;
        key.targets = targets.iter().map(|record| record.id).collect();
        self.check_targets(key.targets.len())?;
        self.check_label_fits(&key, &key.targets).await?;
        let internal = self.internal_keystores(vault.id).await?;
        let copy = self.generate(&vault, &internal, &key).await?;
        key.fingerprint = Some(copy.birth.body.fingerprint);
        key.spki.clone_from(&copy.birth.body.spki);

        let mut draft = Draft::new("key.create", subject(key.id), key.label.to_string());
        draft.status = 201;
        draft.writes.push(Write::KeyInsert(Box::new(key.clone())));
        draft.writes.push(Write::CopyInsert {
            version: key.version,
            copy,
        });
        for of in self.version_wishes(&key, &[]).await? {
            for wish in of.wishes {
                let write = self.instance_write(&key, &vault, wish, None, at).await?;
                draft.writes.push(write);
            }
        }
        // They take the key over from the one that made it.
        draft.wake.extend(internal.iter().map(|record| record.id));
        let committed = self.commit(call, draft).await?;
        if committed.earlier.is_some() {
            return self.key_again(committed).await;
        }
        let view = self.key_view(key, &mut Directory::default()).await?;
        Ok(committed.done(view))
    }

    /// One key.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn key(&self, call: &Call, id: KeyId) -> Result<KeyView, OpsError> {
        call.authorise(Permission::Read, None)?;
        let key = self.key_record(id).await?;
        self.key_view(key, &mut Directory::default()).await
    }

    /// Each version of a key, as a key of its own: the one in use first, then newest first.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn key_versions(&self, call: &Call, id: KeyId) -> Result<Vec<KeyView>, OpsError> {
        call.authorise(Permission::Read, None)?;
        let key = self.key_record(id).await?;
        let mut directory = Directory::default();
        let mut views = Vec::with_capacity(key.past.len().saturating_add(1));
        let instances = self.store.key_instances(id).await?;
        for mut version in key.by_version() {
            let is_in_use = version.version == key.version;
            if !is_in_use {
                // It is wanted where it was given out, and nowhere else.
                let of = version.version;
                let is_there =
                    |id: &KeystoreId| intents::instance_of(&instances, of, *id).is_some();
                version.targets.retain(is_there);
            }
            let mut view = self.key_view(version, &mut directory).await?;
            if !is_in_use {
                view.not_rotatable = Some(NotRotatable::State);
            }
            views.push(view);
        }
        Ok(views)
    }

    /// Keys.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn key_list(
        &self,
        call: &Call,
        query: KeyQuery,
        page: Page,
    ) -> Result<Paged<KeyView>, OpsError> {
        call.authorise(Permission::Read, query.vault)?;
        let filter = KeyFilter {
            vault: query.vault,
            states: query.states,
            label: query.label,
            template: query.template,
            keystore: query.keystore,
            sort: query.sort,
        };
        let found = self.store.key_list(filter, page.for_store()).await?;
        let mut directory = Directory::default();
        let mut items = Vec::with_capacity(found.items.len());
        for key in found.items {
            items.push(self.key_view(key, &mut directory).await?);
        }
        Ok(Paged {
            total: found.total,
            items,
        })
    }

    /// Changes what is written about a key; a new label renames its objects.
    ///
    /// # Errors
    /// `Invalid`, `Taken`, `EtagMismatch`, `StateConflict` for a label of a destroyed key.
    pub async fn key_update(
        &self,
        call: &Call,
        id: KeyId,
        patch: KeyPatch,
    ) -> Result<Done<KeyView>, OpsError> {
        call.authorise(Permission::KeyWrite, None)?;
        self.key_change(call, id, "key.update", |key, template| {
            apply(key, template, patch.clone())
        })
        .await
    }

    pub(crate) async fn key_record(&self, id: KeyId) -> Result<ManagedKey, OpsError> {
        self.store
            .key(id)
            .await?
            .ok_or_else(|| OpsError::not_found("key", id))
    }

    pub(crate) async fn key_view(
        &self,
        key: ManagedKey,
        directory: &mut Directory,
    ) -> Result<KeyView, OpsError> {
        let vault = self.vault_record(key.vault).await?;
        let template = self.template_record(key.template).await?;
        let copies = self.copies_of(&key).await?;
        let keystores = self.in_keystores(&key, directory).await?;
        let mut past = Vec::with_capacity(key.past.len());
        for version in key.by_version().into_iter().skip(1) {
            let mut keystores = self.in_keystores(&version, directory).await?;
            keystores.retain(|row| row.instance.is_some());
            past.push(VersionView {
                phase: phase_of(&version, keystores.iter()),
                key: version,
                keystores,
            });
        }
        let mut view = KeyView {
            phase: phase(key.state == ManagedState::Active, &[]),
            vault_name: vault.name,
            is_aligned: !key.targets_by_hand && key.template_version == template.version,
            is_named_by_scheme: template.naming_scheme.is_some(),
            not_rotatable: not_rotatable(&key, &template),
            template_name: template.name,
            group: template.group,
            deactivate_on_rotation: template.deactivate_on_rotation,
            destruction_hold: vault.destruction_hold,
            copies,
            keystores,
            past,
            key,
        };
        view.phase = whole_phase(&view);
        Ok(view)
    }

    pub(crate) async fn key_again(&self, earlier: Committed) -> Result<Done<KeyView>, OpsError> {
        let key = self.key_record(earlier.subject_id("key/")?).await?;
        let view = self.key_view(key, &mut Directory::default()).await?;
        Ok(earlier.done(view))
    }

    pub(crate) fn check_targets(&self, count: usize) -> Result<(), OpsError> {
        if count > self.limits.targets_max {
            return Err(OpsError::invalid(
                "keystores",
                "too_many",
                format!("a key has at most {} targets", self.limits.targets_max),
            ));
        }
        Ok(())
    }

    pub(crate) async fn template_for(
        &self,
        vault: &Vault,
        name: &str,
    ) -> Result<KeyTemplate, OpsError> {
        let template = self.store.template_by_name(vault.id, name).await?;
        let Some(template) = template else {
            return Err(OpsError::invalid(
                "template_name",
                "not_found",
                format!("vault {:?} has no template of that name", vault.name),
            ));
        };
        if template.archived {
            return Err(OpsError::refused(
                "template_archived",
                format!("template {name:?} is archived and makes no new keys"),
            ));
        }
        Ok(template)
    }

    pub(crate) fn draft_key(
        &self,
        template: &KeyTemplate,
        new: KeyNew,
        stamps: Stamps,
    ) -> Result<ManagedKey, OpsError> {
        let today = dates::day(stamps.created_at)?;
        let activation = dates::after("key.activation_date", today, &template.activation_period)?;
        let expiration = dates::after("key.expiration_date", today, &template.expiration_period)?;
        let (label, label_tags) = label(template, new.label, new.label_tags, today, expiration)?;
        let mut key = ManagedKey {
            id: KeyId::from_uuid(self.entropy.uuid()),
            vault: template.vault,
            template: template.id,
            template_version: template.version,
            label,
            description: new.description,
            state: template.initial_state,
            spec: template.spec,
            usage: template.usage,
            deactivated_usage: template.deactivated_usage,
            version: KeyVersionId::from_uuid(self.entropy.uuid()),
            version_number: 1,
            fingerprint: None,
            spki: None,
            label_tags,
            targets: std::collections::BTreeSet::new(),
            targets_by_hand: false,
            activation_date: Some(activation.to_string()),
            expiration_date: Some(expiration.to_string()),
            rotation_date: None,
            acted: Acted::default(),
            in_use_since: None,
            past: Vec::new(),
            coming: None,
            hold: None,
            revision: Revision(1),
            stamps,
        };
        if key.state == ManagedState::Active {
            let made_at = key.stamps.created_at;
            dates::into_use(&mut key, template, made_at)?;
        }
        // Who has a key made pre-active with an activation date of that very day activates it by hand.
        if activation <= today {
            key.acted.activation.clone_from(&key.activation_date);
        }
        Ok(key)
    }

    /// Asked before a key is made for it; the store asks once more when it is written.
    pub(crate) async fn check_label_free(&self, key: &ManagedKey) -> Result<(), OpsError> {
        let filter = KeyFilter {
            vault: Some(key.vault),
            label: Some(key.label.as_str().to_owned()),
            ..KeyFilter::default()
        };
        let found = self
            .store
            .key_list(filter, Page::LARGEST.for_store())
            .await?;
        if found.items.iter().any(|other| other.id != key.id) {
            return Err(OpsError::Taken {
                field: "label".to_owned(),
                value: key.label.to_string(),
            });
        }
        Ok(())
    }
}

/// A keystore is confirmed when all versions are as wanted there; a version that is made and not given out yet is a change that
/// is under way.
fn whole_phase(view: &KeyView) -> KeyPhase {
    let mut whole = phase_of(&view.key, view.all_rows().map(|(_, row)| row));
    if view.key.coming.is_some() && view.key.state == ManagedState::Active {
        whole.phase = whole.phase.max(Phase::Changing);
    }
    whole
}

fn phase_of<'r>(key: &ManagedKey, rows: impl Iterator<Item = &'r InKeystore>) -> KeyPhase {
    let rows: Vec<_> = rows
        .map(|row| (row.keystore, row.is_target, row.status.clone()))
        .collect();
    phase(key.state == ManagedState::Active, &rows)
}

pub(crate) fn subject(id: KeyId) -> String {
    format!("key/{id}")
}

/// The label, from the naming scheme and its tags, or as given where there is no scheme or it fits the scheme.
fn label(
    template: &KeyTemplate,
    given: Option<String>,
    tags: Vec<(String, String)>,
    today: Date,
    last_active: Date,
) -> Result<(Label, Vec<(String, String)>), OpsError> {
    let scheme = template
        .naming_scheme
        .as_deref()
        .map(Scheme::parse)
        .transpose()?;
    match (scheme, given) {
        (None, None) => Err(OpsError::invalid(
            "label",
            "missing_field",
            "the template has no naming scheme, so the key needs a label",
        )),
        (None, Some(_)) if !tags.is_empty() => Err(OpsError::invalid(
            "label_tags",
            "unknown_tag",
            "the template has no naming scheme",
        )),
        (None, Some(text)) => Ok((parse_label(&text)?, tags)),
        (Some(scheme), None) => Ok((scheme.fill(&tags, today, last_active)?, tags)),
        (Some(scheme), Some(text)) => {
            let label = parse_label(&text)?;
            let Some(values) = scheme.values(&text, today, last_active) else {
                let message = "the label does not fit the template's naming scheme";
                return Err(OpsError::invalid("label", "not_by_scheme", message));
            };
            if tags.is_empty() || scheme.fill(&tags, today, last_active)? == label {
                Ok((label, if tags.is_empty() { values } else { tags }))
            } else {
                let message = "the label and its tags say different things";
                Err(OpsError::invalid("label_tags", "not_by_scheme", message))
            }
        }
    }
}

fn parse_label(text: &str) -> Result<Label, OpsError> {
    Label::new(text).map_err(|error| OpsError::invalid("label", "invalid_label", error.to_string()))
}

fn apply(key: &mut ManagedKey, template: &KeyTemplate, patch: KeyPatch) -> Result<(), OpsError> {
    if let Some(text) = patch.label {
        let label = parse_label(&text)?;
        if label != key.label {
            if key.state.is_destroyed() {
                return Err(OpsError::StateConflict {
                    state: key.state,
                    allowed: key.state.allowed(),
                    message: "a destroyed key keeps its label".to_owned(),
                    current: Some(key.revision),
                });
            }
            if template.naming_scheme.is_some() {
                let message = "the label comes from the template's naming scheme";
                return Err(OpsError::invalid("label", "not_by_scheme", message));
            }
            key.label = label;
        }
    }
    if let Some(description) = patch.description {
        check_description(&description)?;
        key.description = description;
    }
    if let Some(text) = patch.activation_date {
        key.activation_date = day("activation_date", &text)?;
    }
    if let Some(text) = patch.expiration_date {
        key.expiration_date = day("expiration_date", &text)?;
    }
    Ok(())
}

fn day(field: &str, text: &str) -> Result<Option<String>, OpsError> {
    if text.is_empty() {
        return Ok(None);
    }
    dates::date(field, text).map(|day| Some(day.to_string()))
}
