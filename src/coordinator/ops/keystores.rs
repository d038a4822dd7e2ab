//! Keystores: one token each, behind one agent.

use std::collections::BTreeSet;

use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::{Call, Permission};
use crate::coordinator::ops::commit::{Committed, Done, Draft};
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::fleet::LiveKeystore;
use crate::coordinator::ops::keystore_findings::found_at;
use crate::coordinator::ops::lists::{Page, Paged};
use crate::coordinator::ops::status::Observed;
use crate::coordinator::ops::templates::check_group;
use crate::coordinator::ops::vaults::check_description;
use crate::coordinator::store::Write;
use crate::model::capabilities::Strategy;
use crate::model::ids::{KeystoreId, Revision, VaultId};
use crate::model::keystore::{Health, KeystoreRecord, Variant};
use crate::model::live::Connection;
use crate::model::protocol::Description;
use crate::model::regression::Regression;
use crate::model::vault::Stamps;

/// A keystore to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeystoreNew {
    /// The vault, for ever.
    pub vault: VaultId,
    /// 1 to 100 characters, `^[A-Za-z0-9][A-Za-z0-9 ._-]*$`; none: the token's label.
    pub name: Option<String>,
    /// At most 200 characters.
    pub description: String,
    /// Where it stands, for people; at most 100 characters.
    pub location: String,
    /// The groups it is in.
    pub groups: BTreeSet<String>,
    /// `https://host:port` of its agent.
    pub endpoint: String,
    /// The URI name in its agent's certificate.
    pub agent_name: String,
    /// Must be what the agent says.
    pub variant: Variant,
    /// The weakest strategy by which keys are disabled there; none: whatever the token needs.
    pub strategy: Option<Strategy>,
}

/// What is to change of a keystore; `None` leaves a field as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeystorePatch {
    /// The name.
    pub name: Option<String>,
    /// The description.
    pub description: Option<String>,
    /// Where it stands.
    pub location: Option<String>,
    /// The groups. Changes nothing on any token: each key needs its update_from_template.
    pub groups: Option<BTreeSet<String>>,
    /// The agent's address; must answer as the same keystore.
    pub endpoint: Option<String>,
    /// The agent's URI name.
    pub agent_name: Option<String>,
    /// The weakest strategy; `Some(None)`: whatever the token needs. Keys follow with their next change or sync,
    /// and say so until then.
    pub strategy: Option<Option<Strategy>>,
}

/// Which keystores.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeystoreQuery {
    /// Of this vault.
    pub vault: Option<VaultId>,
    /// In this group.
    pub group: Option<String>,
    /// Whose names hold this text, whatever the case.
    pub name: Option<String>,
    /// With this health.
    pub health: Option<HealthStatus>,
}

/// A keystore with its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeystoreView {
    /// The record.
    pub record: KeystoreRecord,
    /// Its vault's name.
    pub vault_name: String,
    /// Its line and token as known now.
    pub live: LiveKeystore,
    /// The same in API v4's words.
    pub health: HealthView,
    /// How many keys on the token are neither managed nor ignored.
    pub unmanaged: usize,
    /// What its token could do once and cannot any more: each a warning here, and more at the keys that it matters to.
    pub differences: Vec<Observed>,
}

/// API v4's `health_status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HealthStatus {
    /// A live session, and the token is well.
    Ok,
    /// No session.
    NotResponding,
    /// A session, and the token is not well.
    ConfigurationError,
    /// Not known yet since the coordinator started.
    PendingCheck,
}

impl HealthStatus {
    /// The name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotResponding => "not_responding",
            Self::ConfigurationError => "configuration_error",
            Self::PendingCheck => "pending_check",
        }
    }
}

/// How well a keystore is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthView {
    /// In one word.
    pub status: HealthStatus,
    /// For people.
    pub message: String,
    /// Age of the last complete scan, milliseconds.
    pub scan_age_ms: Option<u64>,
}

impl Ops {
    /// Asks the agent who it is and adds its keystore. With `dry_run` nothing is stored.
    ///
    /// # Errors
    /// `Invalid`, `Taken`, `AgentUnreachable`, `Refused` with `agent_not_bound`, `variant_mismatch` or `agent_identity`.
    pub async fn keystore_create(
        &self,
        call: &Call,
        new: KeystoreNew,
        dry_run: bool,
    ) -> Result<Done<KeystoreView>, OpsError> {
        call.authorise(Permission::KeystoreWrite, Some(new.vault))?;
        if let Some(earlier) = self.earlier(call).await? {
            return self.keystore_again(earlier).await;
        }
        self.vault_exists("vault.id", new.vault).await?;
        check_address(&new.endpoint, &new.agent_name)?;
        let description = self
            .fleet
            .describe(&new.endpoint, &new.agent_name)
            .await
            .map_err(|error| OpsError::fleet(&new.endpoint, error))?;
        let stamps = Stamps::new(self.now(), &call.principal.name);
        let record = record(new, description, stamps)?;
        self.check_record(&record)?;
        if dry_run {
            let view = self.keystore_view(record).await?;
            return Ok(self.unchanged(call).done(view));
        }
        let mut draft = Draft::new("keystore.create", subject(record.id), record.name.clone());
        draft.status = 201;
        draft.writes.push(Write::KeystoreInsert(record.clone()));
        draft.wake.push(record.id);
        let committed = self.commit(call, draft).await?;
        if committed.earlier.is_some() {
            return self.keystore_again(committed).await;
        }
        let view = self.keystore_view(record).await?;
        Ok(committed.done(view))
    }

    /// One keystore.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn keystore(&self, call: &Call, id: KeystoreId) -> Result<KeystoreView, OpsError> {
        call.authorise(Permission::Read, None)?;
        let record = self.keystore_record(id).await?;
        self.keystore_view(record).await
    }

    /// Has the agent try again what its token can do.
    ///
    /// # Errors
    /// `NotFound`, or why the agent could not.
    pub async fn keystore_probe(
        &self,
        call: &Call,
        id: KeystoreId,
    ) -> Result<KeystoreView, OpsError> {
        // Before anything is read: who may not is not told what there is.
        call.authorise(Permission::KeystoreWrite, None)?;
        let record = self.keystore_record(id).await?;
        call.authorise(Permission::KeystoreWrite, Some(record.vault))?;
        self.probe(&record, false).await?;
        self.keystore_view(record).await
    }

    /// Takes a token as it is now: what it can do no more is not told any longer. Only what people were told is accepted:
    /// the token is tried again first.
    ///
    /// # Errors
    /// `NotFound`; why the agent could not; `Refused` with `lost_more` where the token lost more since it was last shown.
    pub async fn keystore_accept(
        &self,
        call: &Call,
        id: KeystoreId,
    ) -> Result<Done<KeystoreView>, OpsError> {
        call.authorise(Permission::KeystoreWrite, None)?;
        if let Some(earlier) = self.earlier(call).await? {
            return self.keystore_again(earlier).await;
        }
        let record = self.keystore_record(id).await?;
        call.authorise(Permission::KeystoreWrite, Some(record.vault))?;
        let shown = self.lost_now(id);
        self.probe(&record, false).await?;
        let lost = self.lost_now(id);
        let words = |all: &[Regression]| {
            let each: Vec<String> = all.iter().map(ToString::to_string).collect();
            each.join("; ")
        };
        let more: Vec<Regression> = lost
            .iter()
            .filter(|one| !shown.contains(one))
            .copied()
            .collect();
        if !more.is_empty() {
            let why = format!(
                "the token lost more since it was last shown: {}; nothing was accepted: look, and accept again",
                words(&more)
            );
            return Err(OpsError::refused("lost_more", why));
        }
        if lost.is_empty() {
            let view = self.keystore_view(record).await?;
            return Ok(self.unchanged(call).done(view));
        }
        let detail = format!("{}: {}", record.name, words(&lost));
        // Before the agent is told: nothing is accepted that nobody answers for.
        let draft = Draft::new("keystore.accept", subject(id), detail);
        let committed = self.commit(call, draft).await?;
        if committed.earlier.is_some() {
            return self.keystore_again(committed).await;
        }
        self.probe(&record, true).await?;
        let view = self.keystore_view(record).await?;
        Ok(committed.done(view))
    }

    async fn probe(&self, record: &KeystoreRecord, accept: bool) -> Result<(), OpsError> {
        let probed = self.fleet.probe(record.id, accept).await;
        probed.map_err(|error| OpsError::fleet(&record.name, error))
    }

    fn lost_now(&self, id: KeystoreId) -> Vec<Regression> {
        let described = self.fleet.description(id);
        described
            .map(|described| described.lost())
            .unwrap_or_default()
    }

    /// Keystores, sorted by name.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn keystore_list(
        &self,
        call: &Call,
        query: KeystoreQuery,
        page: Page,
    ) -> Result<Paged<KeystoreView>, OpsError> {
        call.authorise(Permission::Read, query.vault)?;
        let wanted = query.name.map(|name| name.to_lowercase());
        // Health is known to the fleet alone, so the store cannot page by it.
        let all: Vec<KeystoreRecord> = self
            .keystore_records(query.vault, query.group)
            .await?
            .into_iter()
            .filter(|record| {
                wanted
                    .as_ref()
                    .is_none_or(|name| record.name.to_lowercase().contains(name))
            })
            .filter(|record| {
                query.health.is_none_or(|wanted| {
                    HealthView::of(&self.fleet.live_keystore(record.id)).status == wanted
                })
            })
            .collect();
        let total = u64::try_from(all.len()).unwrap_or(u64::MAX);
        let offset = usize::try_from(page.offset).unwrap_or(usize::MAX);
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let mut items = Vec::new();
        for record in all.into_iter().skip(offset).take(limit) {
            items.push(self.keystore_view(record).await?);
        }
        Ok(Paged { total, items })
    }

    /// Changes a keystore's record.
    ///
    /// # Errors
    /// `Invalid`, `Taken`, `EtagMismatch`, `AgentUnreachable` where the address changes.
    pub async fn keystore_update(
        &self,
        call: &Call,
        id: KeystoreId,
        patch: KeystorePatch,
    ) -> Result<Done<KeystoreView>, OpsError> {
        call.authorise(Permission::KeystoreWrite, None)?;
        if let Some(earlier) = self.earlier(call).await? {
            return self.keystore_again(earlier).await;
        }
        let before = self.keystore_record(id).await?;
        call.check_revision(before.revision)?;
        let mut record = before.clone();
        apply(&mut record, patch);
        self.check_record(&record)?;
        self.check_strategy(&record)?;
        if record == before {
            let view = self.keystore_view(before).await?;
            return Ok(self.unchanged(call).done(view));
        }
        if record.endpoint != before.endpoint || record.agent_name != before.agent_name {
            self.check_same_agent(&mut record).await?;
        }
        record.revision = before.revision.next();
        record.stamps.touch(self.now(), &call.principal.name);
        let mut draft = Draft::new("keystore.update", subject(id), record.name.clone());
        draft.writes.push(Write::KeystoreUpdate {
            record: record.clone(),
            expected: before.revision,
        });
        draft.wake.push(id);
        let committed = self.commit(call, draft).await;
        let committed = self.keystore_conflict(committed, id).await?;
        let view = self.keystore_view(record).await?;
        Ok(committed.done(view))
    }

    pub(crate) async fn keystore_record(&self, id: KeystoreId) -> Result<KeystoreRecord, OpsError> {
        self.store
            .keystore(id)
            .await?
            .ok_or_else(|| OpsError::not_found("keystore", id))
    }

    /// All keystores of a vault or a group, sorted by name.
    pub(crate) async fn keystore_records(
        &self,
        vault: Option<VaultId>,
        group: Option<String>,
    ) -> Result<Vec<KeystoreRecord>, OpsError> {
        let mut all = Vec::new();
        let mut page = Page::LARGEST;
        loop {
            let found = self
                .store
                .keystore_list(vault, group.clone(), page.for_store())
                .await?;
            let is_last = found.items.len() < usize::try_from(page.limit).unwrap_or(usize::MAX);
            all.extend(found.items);
            if is_last {
                return Ok(all);
            }
            page.offset = page.offset.saturating_add(page.limit);
        }
    }

    async fn keystore_view(&self, record: KeystoreRecord) -> Result<KeystoreView, OpsError> {
        let vault_name = self.vault_record(record.vault).await?.name;
        let live = self.fleet.live_keystore(record.id);
        let health = HealthView::of(&live);
        let unmanaged = if live.unmanaged.is_empty() {
            0
        } else {
            self.strangers(record.id, &live).await?.unmanaged.len()
        };
        Ok(KeystoreView {
            unmanaged,
            differences: found_at(&record, &live, &self.fleet.differing(record.id)),
            record,
            vault_name,
            live,
            health,
        })
    }

    async fn keystore_again(&self, earlier: Committed) -> Result<Done<KeystoreView>, OpsError> {
        let record = self
            .keystore_record(earlier.subject_id("keystore/")?)
            .await?;
        let view = self.keystore_view(record).await?;
        Ok(earlier.done(view))
    }

    pub(crate) async fn keystore_conflict(
        &self,
        committed: Result<Committed, OpsError>,
        id: KeystoreId,
    ) -> Result<Committed, OpsError> {
        match committed {
            Err(OpsError::Conflict { .. }) => Err(OpsError::EtagMismatch {
                current: self.keystore_record(id).await?.revision,
            }),
            other => other,
        }
    }

    /// A new address must lead to the very agent that was bound.
    async fn check_same_agent(&self, record: &mut KeystoreRecord) -> Result<(), OpsError> {
        check_address(&record.endpoint, &record.agent_name)?;
        let description = self
            .fleet
            .describe(&record.endpoint, &record.agent_name)
            .await
            .map_err(|error| OpsError::fleet(&record.endpoint, error))?;
        if description.keystore != Some(record.id) || description.identity != record.identity {
            return Err(OpsError::refused(
                "agent_identity",
                "another agent answers at that address: add it as a keystore of its own",
            ));
        }
        record.token = description.token;
        Ok(())
    }

    fn check_record(&self, record: &KeystoreRecord) -> Result<(), OpsError> {
        let name = &record.name;
        let is_name = (1..=100).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || " ._-".contains(c));
        if !is_name {
            return Err(OpsError::invalid(
                "name",
                "invalid_name",
                "1 to 100 letters, digits, spaces and . _ -, beginning with a letter or digit",
            ));
        }
        check_description(&record.description)?;
        if record.location.chars().count() > 100 || record.location.chars().any(char::is_control) {
            return Err(OpsError::invalid(
                "location",
                "too_long",
                "at most 100 characters, no control characters",
            ));
        }
        if record.groups.len() > self.limits.groups_max {
            return Err(OpsError::invalid(
                "groups",
                "too_many",
                format!("at most {}", self.limits.groups_max),
            ));
        }
        record
            .groups
            .iter()
            .try_for_each(|group| check_group("groups[]", group))
    }
}

impl HealthView {
    /// What a line and a token's health come to.
    #[must_use]
    pub fn of(live: &LiveKeystore) -> Self {
        let (status, message) = match (&live.connection, &live.health) {
            (Connection::Never { why }, _) if why.is_empty() => {
                (HealthStatus::PendingCheck, "not asked yet".to_owned())
            }
            (Connection::Never { why } | Connection::Down { why, .. }, _) => {
                (HealthStatus::NotResponding, why.clone())
            }
            (Connection::CatchingUp, _) | (Connection::Live, None | Some(Health::Starting)) => (
                HealthStatus::PendingCheck,
                "the agent is still telling what it knows".to_owned(),
            ),
            (Connection::Live, Some(Health::Ok)) => (
                HealthStatus::Ok,
                "agent connected, token open, marker ours".to_owned(),
            ),
            (Connection::Live, Some(health)) => {
                (HealthStatus::ConfigurationError, health.to_string())
            }
        };
        Self {
            status,
            message,
            scan_age_ms: live.scan_age_ms,
        }
    }
}

pub(crate) fn subject(id: KeystoreId) -> String {
    format!("keystore/{id}")
}

fn record(
    new: KeystoreNew,
    description: Description,
    stamps: Stamps,
) -> Result<KeystoreRecord, OpsError> {
    let Some(id) = description.keystore else {
        return Err(OpsError::refused(
            "agent_not_bound",
            "the agent is not bound to its token yet: run lockstep-agent bind beside it",
        ));
    };
    if description.variant != new.variant {
        return Err(OpsError::refused(
            "variant_mismatch",
            format!(
                "the agent is configured as {}, not {}",
                description.variant.name(),
                new.variant.name()
            ),
        ));
    }
    Ok(KeystoreRecord {
        id,
        vault: new.vault,
        name: new.name.unwrap_or_else(|| description.token.label.clone()),
        description: new.description,
        location: new.location,
        groups: new.groups,
        variant: new.variant,
        endpoint: new.endpoint,
        agent_name: new.agent_name,
        strategy: new.strategy,
        identity: description.identity,
        epoch: description.epoch,
        token: description.token,
        revision: Revision(1),
        stamps,
    })
}

fn apply(record: &mut KeystoreRecord, patch: KeystorePatch) {
    fn set<T>(field: &mut T, value: Option<T>) {
        if let Some(value) = value {
            *field = value;
        }
    }
    set(&mut record.name, patch.name);
    set(&mut record.description, patch.description);
    set(&mut record.location, patch.location);
    set(&mut record.groups, patch.groups);
    set(&mut record.endpoint, patch.endpoint);
    set(&mut record.agent_name, patch.agent_name);
    set(&mut record.strategy, patch.strategy);
}

fn check_address(endpoint: &str, agent_name: &str) -> Result<(), OpsError> {
    let port = endpoint
        .strip_prefix("https://")
        .and_then(|rest| rest.strip_suffix('/').unwrap_or(rest).rsplit_once(':'))
        .filter(|(host, _)| !host.is_empty() && !host.contains('/') && !host.contains('@'))
        .and_then(|(_, port)| port.parse::<u16>().ok());
    if endpoint.len() > 300 || port.is_none_or(|port| port == 0) {
        return Err(OpsError::invalid(
            "pkcs11_agent_endpoint",
            "invalid_endpoint",
            "https://host:port",
        ));
    }
    if !(1..=300).contains(&agent_name.len()) || !agent_name.chars().all(|c| c.is_ascii_graphic()) {
        return Err(OpsError::invalid(
            "pkcs11_agent_identity",
            "invalid_identity",
            "the URI name in the agent's certificate",
        ));
    }
    Ok(())
}
