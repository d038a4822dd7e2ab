//! Vaults: administrative boundaries.

use crate::coordinator::ops::access::{Call, Permission};
use crate::coordinator::ops::commit::{Committed, Done, Draft};
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::lists::{Page, Paged};
use crate::coordinator::ops::{Ops, dates};
use crate::coordinator::store::Write;
use crate::model::capabilities::Strategy;
use crate::model::ids::{Revision, VaultId};
use crate::model::vault::{DriftPolicy, NO_HOLD, Stamps, Vault};

/// Longest description of anything, characters.
pub const DESCRIPTION_CHARS_MAX: usize = 200;

/// A vault to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VaultNew {
    /// 1 to 100 characters, `^[A-Za-z0-9#@!$%'_-][A-Za-z0-9#@!$% '_-]*$`.
    pub name: String,
    /// At most 200 characters.
    pub description: String,
    /// Kept for clients of API v4.
    pub recovery_key_label: Option<String>,
    /// The weakest strategy by which its keys are disabled; keys follow with their next change or sync.
    pub strategy: Option<Strategy>,
    /// Internal keystores that must hold a key before it is first activated, 1 to 100.
    pub min_copies: Option<u32>,
    /// How long a destruction is held, `P0D` to `P90D`; holds that run already keep their end.
    pub destruction_hold: Option<String>,
    /// What is done about drift.
    pub drift_policy: Option<DriftPolicy>,
}

/// What is to change of a vault; `None` leaves a field as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VaultPatch {
    /// The name.
    pub name: Option<String>,
    /// The description.
    pub description: Option<String>,
    /// The label of a recovery key.
    pub recovery_key_label: Option<String>,
    /// The weakest strategy by which its keys are disabled; keys follow with their next change or sync.
    pub strategy: Option<Strategy>,
    /// Internal keystores that must hold a key before it is first activated, 1 to 100.
    pub min_copies: Option<u32>,
    /// How long a destruction is held, `P0D` to `P90D`; holds that run already keep their end.
    pub destruction_hold: Option<String>,
    /// What is done about drift.
    pub drift_policy: Option<DriftPolicy>,
}

/// A vault with its counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultView {
    /// The record.
    pub vault: Vault,
    /// How many managed keys it has.
    pub keys_count: u64,
    /// How many templates.
    pub templates_count: u64,
    /// How many keystores.
    pub keystores_count: u64,
}

impl Ops {
    /// Makes a vault.
    ///
    /// # Errors
    /// `Invalid`, `Taken`, and what every change may meet.
    pub async fn vault_create(
        &self,
        call: &Call,
        new: VaultNew,
    ) -> Result<Done<VaultView>, OpsError> {
        call.authorise(Permission::VaultWrite, None)?;
        if let Some(earlier) = self.earlier(call).await? {
            return self.vault_again(earlier).await;
        }
        check_name(&new.name)?;
        check_description(&new.description)?;
        let Some(salt) = self.entropy.salt() else {
            return Err(OpsError::Unavailable {
                detail: "the system gives no random bytes".to_owned(),
            });
        };
        let vault = Vault {
            id: VaultId::from_uuid(self.entropy.uuid()),
            name: new.name,
            description: new.description,
            recovery_key_label: new.recovery_key_label,
            salt: salt.to_vec(),
            strategy: new.strategy.unwrap_or_default(),
            min_copies: check_copies(new.min_copies)?.unwrap_or(1),
            destruction_hold: match new.destruction_hold {
                Some(period) => dates::hold_period(&period)?,
                None => NO_HOLD.to_owned(),
            },
            drift_policy: new.drift_policy.unwrap_or_default(),
            revision: Revision(1),
            stamps: Stamps::new(self.now(), &call.principal.name),
        };
        let mut draft = Draft::new("vault.create", subject(vault.id), vault.name.clone());
        draft.status = 201;
        draft.writes.push(Write::VaultInsert(vault.clone()));
        let committed = self.commit(call, draft).await?;
        if committed.earlier.is_some() {
            return self.vault_again(committed).await;
        }
        let view = self.vault_view(vault).await?;
        Ok(committed.done(view))
    }

    /// One vault.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn vault(&self, call: &Call, id: VaultId) -> Result<VaultView, OpsError> {
        call.authorise(Permission::Read, Some(id))?;
        let vault = self.vault_record(id).await?;
        self.vault_view(vault).await
    }

    /// Vaults by name prefix, sorted by name.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn vault_list(
        &self,
        call: &Call,
        name: Option<String>,
        page: Page,
    ) -> Result<Paged<VaultView>, OpsError> {
        call.authorise(Permission::Read, None)?;
        let found = self.store.vault_list(name, page.for_store()).await?;
        let mut items = Vec::with_capacity(found.items.len());
        for vault in found.items {
            items.push(self.vault_view(vault).await?);
        }
        Ok(Paged {
            total: found.total,
            items,
        })
    }

    /// Changes what is written about a vault.
    ///
    /// # Errors
    /// `Invalid`, `Taken`, `EtagMismatch`, and what every change may meet.
    pub async fn vault_update(
        &self,
        call: &Call,
        id: VaultId,
        patch: VaultPatch,
    ) -> Result<Done<VaultView>, OpsError> {
        call.authorise(Permission::VaultWrite, Some(id))?;
        if let Some(earlier) = self.earlier(call).await? {
            return self.vault_again(earlier).await;
        }
        let mut vault = self.vault_record(id).await?;
        call.check_revision(vault.revision)?;
        let expected = vault.revision;
        if let Some(name) = patch.name {
            check_name(&name)?;
            vault.name = name;
        }
        if let Some(description) = patch.description {
            check_description(&description)?;
            vault.description = description;
        }
        if let Some(label) = patch.recovery_key_label {
            vault.recovery_key_label = Some(label).filter(|label| !label.is_empty());
        }
        if let Some(strategy) = patch.strategy {
            vault.strategy = strategy;
        }
        if let Some(copies) = check_copies(patch.min_copies)? {
            vault.min_copies = copies;
        }
        if let Some(period) = patch.destruction_hold {
            vault.destruction_hold = dates::hold_period(&period)?;
        }
        if let Some(policy) = patch.drift_policy {
            vault.drift_policy = policy;
        }
        vault.revision = expected.next();
        vault.stamps.touch(self.now(), &call.principal.name);
        let mut draft = Draft::new("vault.update", subject(id), vault.name.clone());
        draft.writes.push(Write::VaultUpdate {
            record: vault.clone(),
            expected,
        });
        let committed = self.commit(call, draft).await;
        let committed = self.vault_conflict(committed, id).await?;
        let view = self.vault_view(vault).await?;
        Ok(committed.done(view))
    }

    /// Removes an empty vault; archived templates go with it.
    ///
    /// # Errors
    /// `InUse` lists what is still in it.
    pub async fn vault_delete(&self, call: &Call, id: VaultId) -> Result<Done<()>, OpsError> {
        call.authorise(Permission::VaultWrite, Some(id))?;
        if let Some(earlier) = self.earlier(call).await? {
            return Ok(earlier.done(()));
        }
        let vault = self.vault_record(id).await?;
        call.check_revision(vault.revision)?;
        let mut draft = Draft::new("vault.delete", subject(id), vault.name.clone());
        draft.status = 204;
        draft.writes.push(Write::VaultDelete {
            id,
            expected: vault.revision,
        });
        let committed = self.commit(call, draft).await;
        Ok(self.vault_conflict(committed, id).await?.done(()))
    }

    pub(crate) async fn vault_record(&self, id: VaultId) -> Result<Vault, OpsError> {
        self.store
            .vault(id)
            .await?
            .ok_or_else(|| OpsError::not_found("vault", id))
    }

    async fn vault_view(&self, vault: Vault) -> Result<VaultView, OpsError> {
        let [keys_count, templates_count, keystores_count] =
            self.store.vault_counts(vault.id).await?;
        Ok(VaultView {
            vault,
            keys_count,
            templates_count,
            keystores_count,
        })
    }

    async fn vault_again(&self, earlier: Committed) -> Result<Done<VaultView>, OpsError> {
        let id = earlier.subject_id("vault/")?;
        let vault = self.vault_record(id).await?;
        let view = self.vault_view(vault).await?;
        Ok(earlier.done(view))
    }

    /// Tells a lost race as what it is: the ETag is another one now.
    async fn vault_conflict(
        &self,
        committed: Result<Committed, OpsError>,
        id: VaultId,
    ) -> Result<Committed, OpsError> {
        match committed {
            Err(OpsError::Conflict { .. }) => Err(OpsError::EtagMismatch {
                current: self.vault_record(id).await?.revision,
            }),
            other => other,
        }
    }
}

fn subject(id: VaultId) -> String {
    format!("vault/{id}")
}

fn check_name(name: &str) -> Result<(), OpsError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "#@!$%'_-".contains(c);
    let fits = (1..=100).contains(&name.chars().count())
        && name.starts_with(allowed)
        && name.chars().all(|c| allowed(c) || c == ' ');
    if fits {
        Ok(())
    } else {
        Err(OpsError::invalid(
            "name",
            "invalid_name",
            "1 to 100 of A-Z a-z 0-9 # @ ! $ % ' _ - and spaces, not beginning with a space",
        ))
    }
}

/// Checks a description, of whatever.
pub(crate) fn check_description(text: &str) -> Result<(), OpsError> {
    let chars = text.chars().count();
    if chars > DESCRIPTION_CHARS_MAX {
        return Err(OpsError::invalid(
            "description",
            "too_long",
            format!("at most {DESCRIPTION_CHARS_MAX} characters, not {chars}"),
        ));
    }
    if text.chars().any(char::is_control) {
        return Err(OpsError::invalid(
            "description",
            "invalid_character",
            "no control characters",
        ));
    }
    Ok(())
}

fn check_copies(copies: Option<u32>) -> Result<Option<u32>, OpsError> {
    if copies.is_none_or(|copies| (1..=100).contains(&copies)) {
        return Ok(copies);
    }
    Err(OpsError::invalid("min_copies", "out_of_range", "1 to 100"))
}
