//! What each keystore has of a key: the view that API, console and CLI show.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Monotonic;
use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::Call;
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::fleet::LiveKeystore;
use crate::coordinator::ops::keys::KeyView;
use crate::decide::difference::differences;
use crate::decide::found::findings_of;
use crate::decide::status::{SyncDetail, SyncFlag, UkoStatus, seen, status, uko};
use crate::model::desired::{Instance, Want};
use crate::model::difference::{Difference, HealedBy, Reason, Seen, Status};
use crate::model::finding::KeyFinding;
use crate::model::ids::{KeyId, KeyVersionId, KeystoreId};
use crate::model::key::ManagedKey;
use crate::model::keystore::{Health, KeystoreRecord, Variant};
use crate::model::live::{Connection, LastSeen, Live, Terms};
use crate::model::observed::{Observation, Proof};
use crate::model::protocol::Report;
use crate::model::vault::UnixMs;

/// Pause between two looks of one who waits: each reads all keystores of the key, and anything that changes anywhere wakes
/// everybody who waits. Doubled up to [`WAIT_PAUSE_MAX`].
const WAIT_PAUSE_FIRST: Duration = Duration::from_millis(2);

/// Longest pause; no answer comes later by more than this.
const WAIT_PAUSE_MAX: Duration = Duration::from_millis(250);

/// One keystore's truth about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InKeystore {
    /// The keystore.
    pub keystore: KeystoreId,
    /// Its name.
    pub name: String,
    /// Internal or external.
    pub variant: Variant,
    /// Whether it is a target now.
    pub is_target: bool,
    /// The intent in force; none while the key was never wanted there.
    pub instance: Option<Instance>,
    /// In our words.
    pub status: Status,
    /// What the token holds, as last known in this session, else as last seen before.
    pub seen: Seen,
    /// API v4's `status`.
    pub uko_status: UkoStatus,
    /// API v4's `keystore_sync_flag`.
    pub sync_flag: SyncFlag,
    /// API v4's `keystore_sync_flag_detail`: the nearest value.
    pub sync_detail: SyncDetail,
    /// Why it is not as wanted.
    pub differences: Vec<Observed>,
    /// Of an adopted key: what is weak about it.
    pub findings: Vec<KeyFinding>,
    /// When the token was last looked at for this key.
    pub observed_at: Option<UnixMs>,
    /// When enabled or disabled was last proved.
    pub proved_at: Option<UnixMs>,
    /// How.
    pub proof: Option<Proof>,
    /// Since when a change of ours has been under way.
    pub pending_since: Option<UnixMs>,
    /// What was seen before this session: shown, never counted.
    pub last_seen: Option<LastSeen>,
    /// What went wrong, for the embedded error.
    pub error: Option<String>,
}

/// A difference with its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// The difference.
    pub difference: Difference,
    /// Since when it has been seen.
    pub since: Option<UnixMs>,
}

impl InKeystore {
    /// Whether anything is on its way here. What cannot be reached is not waited for.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.differences.iter().all(|observed| {
            let difference = &observed.difference;
            difference.healed_by != HealedBy::Waiting
                || matches!(
                    difference.reason,
                    Reason::Unreachable | Reason::TokenUnavailable
                )
        })
    }
}

impl Ops {
    /// Waits until nothing of the key is on its way, at most so long, and answers with what is then known. An unreachable
    /// keystore is not waited for.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn key_wait(
        &self,
        call: &Call,
        id: KeyId,
        timeout: Duration,
    ) -> Result<KeyView, OpsError> {
        let timeout = timeout.min(Duration::from_secs(self.limits.wait_s_max));
        let started = Monotonic::now();
        let mut changes = self.fleet.changes();
        let mut pause = WAIT_PAUSE_FIRST;
        loop {
            changes.mark_unchanged();
            let view = self.key(call, id).await?;
            let left = timeout.saturating_sub(started.elapsed());
            if left.is_zero() || view.all_rows().all(|(_, row)| row.is_settled()) {
                return Ok(view);
            }
            match tokio::time::timeout(left, changes.changed()).await {
                Ok(Ok(())) => {
                    tokio::time::sleep(pause.min(timeout.saturating_sub(started.elapsed()))).await;
                    pause = (pause * 2).min(WAIT_PAUSE_MAX);
                }
                // Time is up, or the fleet has ended: tell what is known now.
                Ok(Err(_)) | Err(_) => return self.key(call, id).await,
            }
        }
    }

    /// Each keystore's truth about a key: its targets and wherever it once was, by name.
    pub(crate) async fn in_keystores(
        &self,
        key: &ManagedKey,
        directory: &mut Directory,
    ) -> Result<Vec<InKeystore>, OpsError> {
        let mut instances: BTreeMap<KeystoreId, Instance> = self
            .store
            .key_instances(key.id)
            .await?
            .into_iter()
            .filter(|instance| instance.intent.version == key.version)
            .map(|instance| (instance.intent.keystore, instance))
            .collect();
        let last: BTreeMap<KeystoreId, LastSeen> =
            self.store.seen(key.version).await?.into_iter().collect();
        let now = self.now();
        let mut keystores: Vec<KeystoreId> = key.targets.iter().copied().collect();
        keystores.extend(instances.keys().filter(|id| !key.targets.contains(id)));
        let mut rows = Vec::with_capacity(keystores.len());
        for id in keystores {
            let Some(record) = directory.keystore(self, id).await? else {
                continue;
            };
            let last = last.get(&id).cloned();
            let mut row = match instances.remove(&id) {
                Some(instance) => {
                    let terms = directory.terms(self, &record).await?;
                    self.row(&record, instance, &terms, last, now)
                }
                None => self.row_without(&record, key.version),
            };
            // The same, except in a dry run: there the key says what would be.
            row.is_target = key.targets.contains(&id);
            rows.push(row);
        }
        rows.sort_by(|a, b| a.name.cmp(&b.name).then(a.keystore.cmp(&b.keystore)));
        Ok(rows)
    }

    /// One instance as the live session shows it now.
    pub(crate) fn row(
        &self,
        record: &KeystoreRecord,
        instance: Instance,
        terms: &Terms,
        last_seen: Option<LastSeen>,
        now: UnixMs,
    ) -> InKeystore {
        let live = self.fleet.live(record.id, instance.intent.version);
        let status = status(&instance, &live, terms);
        let all = differences(&instance, &live, terms, now, self.limits.late_after_ms);
        let differences = observed(&instance, &live, all);
        let report = live.report.as_ref();
        let seen_now = report.map_or(Seen::Unknown, |report| seen(&instance, &report.observation));
        let seen = match (seen_now, &last_seen) {
            (Seen::Unknown, Some(last)) => last.seen,
            (seen, _) => seen,
        };
        let (uko_status, sync_flag, sync_detail) = uko(&instance, &status, seen);
        let before_now = |age_ms: u64| {
            UnixMs(
                now.0
                    .saturating_sub(i64::try_from(age_ms).unwrap_or(i64::MAX)),
            )
        };
        let observed_at = report.map(|_report| before_now(live.look_age_ms));
        let proved = report.filter(|report| report.proof.is_some());
        let proved_at = proved.map(|report| before_now(report.proof_age_ms));
        let pending_since = matches!(status, Status::Pending { .. }).then_some(instance.since);
        InKeystore {
            keystore: record.id,
            name: record.name.clone(),
            variant: record.variant,
            is_target: instance.is_target,
            error: error(&status, &differences),
            status,
            seen,
            uko_status,
            sync_flag,
            sync_detail,
            differences,
            findings: findings(&instance, report),
            observed_at: observed_at.or(last_seen.as_ref().map(|last| last.at)),
            proved_at: proved_at.or(last_seen.as_ref().and_then(|last| last.proved_at)),
            proof: proved.and_then(|report| report.proof.clone()),
            pending_since,
            last_seen,
            instance: Some(instance),
        }
    }

    /// A target of a pre-active key: nothing of it may be there.
    fn row_without(&self, record: &KeystoreRecord, version: KeyVersionId) -> InKeystore {
        let live = self.fleet.live_keystore(record.id);
        let is_there = live
            .unmanaged
            .iter()
            .any(|facts| facts.cka_id == version.uuid().as_bytes());
        // An old store calls a key pre-active that was given out since.
        let strangers = self.fleet.strangers(record.id);
        let kept = strangers.iter().find(|report| report.version == version);
        let (status, seen, uko_status, sync_flag, sync_detail) = if let Some(why) = blind(&live) {
            (
                Status::Unknown { why },
                Seen::Unknown,
                UkoStatus::Unknown,
                SyncFlag::Error,
                SyncDetail::ConnectionError,
            )
        } else if let Some(applied) = kept.and_then(|report| report.applied) {
            let seen = match applied.want {
                Want::Active => Seen::Active,
                Want::Deactivated | Want::Destroyed => Seen::NotActive,
            };
            (
                Status::Diverged,
                seen,
                UkoStatus::Error,
                SyncFlag::Error,
                SyncDetail::PreActiveIsPresent,
            )
        } else if is_there {
            (
                Status::Drift,
                Seen::NotActive,
                UkoStatus::NotActive,
                SyncFlag::OutOfSync,
                SyncDetail::PreActiveIsPresent,
            )
        } else {
            (
                // What is wanted of a pre-active key is what is wanted of a destroyed one: nothing there.
                Status::InSync(Want::Destroyed),
                Seen::NotPresent,
                UkoStatus::NotPresent,
                SyncFlag::Ok,
                SyncDetail::PreActiveIsNotPresent,
            )
        };
        InKeystore {
            keystore: record.id,
            name: record.name.clone(),
            variant: record.variant,
            is_target: true,
            instance: None,
            error: error(&status, &[]),
            status,
            seen,
            uko_status,
            sync_flag,
            sync_detail,
            differences: Vec::new(),
            findings: Vec::new(),
            observed_at: None,
            proved_at: None,
            proof: None,
            pending_since: None,
            last_seen: None,
        }
    }
}

fn observed(instance: &Instance, live: &Live, all: Vec<Difference>) -> Vec<Observed> {
    all.into_iter()
        .map(|difference| {
            let own_change = matches!(difference.reason, Reason::Pending | Reason::Late);
            let since = live
                .since
                .iter()
                .find(|(reason, _)| *reason == difference.reason)
                .map(|(_, at)| *at)
                .or(own_change.then_some(instance.since))
                .or_else(|| gone_since(live).filter(|_| difference.reason == Reason::Unreachable));
            Observed { difference, since }
        })
        .collect()
}

/// Since when the agent has been away.
const fn gone_since(live: &Live) -> Option<UnixMs> {
    match &live.connection {
        Connection::Down { since, .. } => Some(*since),
        Connection::Never { .. } | Connection::CatchingUp | Connection::Live => None,
    }
}

/// Of what we made nothing is weak, or it is a difference.
fn findings(instance: &Instance, report: Option<&Report>) -> Vec<KeyFinding> {
    let Some(adoption) = &instance.adoption else {
        return Vec::new();
    };
    if instance.intent.want == Want::Destroyed {
        return Vec::new();
    }
    let found = report.and_then(|report| match &report.observation {
        Observation::Present(found) => Some(found),
        Observation::Unknown { .. }
        | Observation::Absent { .. }
        | Observation::Suspected { .. } => None,
    });
    findings_of(adoption, instance.intent.object.usage, found)
}

/// What the embedded error of API v4 says.
fn error(status: &Status, differences: &[Observed]) -> Option<String> {
    match status {
        Status::Unknown { why } | Status::Failed { why } | Status::Unavailable { why } => {
            Some(why.clone())
        }
        Status::Diverged => Some(differences.first().map_or_else(
            || "the agent is ahead of the store".to_owned(),
            |observed| {
                format!(
                    "the agent holds {}, not {}",
                    observed.difference.found, observed.difference.expected
                )
            },
        )),
        Status::InSync(_) | Status::Pending { .. } | Status::Drift => None,
    }
}

/// Records that a view names, read once each.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    keystores: BTreeMap<KeystoreId, Option<KeystoreRecord>>,
    terms: BTreeMap<KeystoreId, Terms>,
}

impl Directory {
    pub(crate) async fn keystore(
        &mut self,
        ops: &Ops,
        id: KeystoreId,
    ) -> Result<Option<KeystoreRecord>, OpsError> {
        if let Some(known) = self.keystores.get(&id) {
            return Ok(known.clone());
        }
        let record = ops.store.keystore(id).await?;
        self.keystores.insert(id, record.clone());
        Ok(record)
    }

    /// What is demanded and possible on a keystore.
    pub(crate) async fn terms(
        &mut self,
        ops: &Ops,
        record: &KeystoreRecord,
    ) -> Result<Terms, OpsError> {
        if let Some(known) = self.terms.get(&record.id) {
            return Ok(known.clone());
        }
        let terms = ops.terms(record).await?;
        self.terms.insert(record.id, terms.clone());
        Ok(terms)
    }
}

/// Why nothing can be said of a keystore's token.
fn blind(live: &LiveKeystore) -> Option<String> {
    match (&live.connection, &live.health) {
        (Connection::Live, Some(Health::Ok)) => None,
        (Connection::Never { why } | Connection::Down { why, .. }, _) => Some(why.clone()),
        (Connection::CatchingUp | Connection::Live, Some(health)) => Some(health.to_string()),
        (Connection::CatchingUp | Connection::Live, None) => Some("not told yet".to_owned()),
    }
}
