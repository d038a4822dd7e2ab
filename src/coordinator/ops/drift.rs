//! Drift policies at work: what somebody else changed on a token is put right by itself where its vault wants that (promises
//! R12). `decide::drift` says what; here it goes the way of a sync, with an audit entry by `reconciler` and a generation of its
//! own. Never: anything while the store is behind its agents, or on a token that looks like an older image of itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Monotonic;
use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::{Call, Principal, Rights};
use crate::coordinator::ops::commit::Draft;
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::intents::{VersionWishes, Wish};
use crate::coordinator::store::Page;
use crate::decide::difference::differences;
use crate::decide::drift::{Pace, is_mended, rollback};
use crate::model::desired::Instance;
use crate::model::ids::{KeyId, KeyVersionId, KeystoreId};
use crate::model::keystore::KeystoreRecord;
use crate::model::live::Live;
use crate::model::observed::{Found, Observation};
use crate::model::vault::{DriftPolicy, Vault};

/// Between two passes at least: what is seen at once is put right at once.
const PAUSE: Duration = Duration::from_secs(1);

/// As long while nothing is told: what came back is put right at its pace, and a policy that was just set is not waited for.
const PAUSE_IDLE: Duration = Duration::from_secs(5);

/// Vaults that are read at once.
const VAULTS_PAGE: u32 = 500;

/// Who does it, in the audit log.
const ACTOR: &str = "reconciler";

/// What was put right, and when. Lost with the process: a fight is then taken up once more.
#[derive(Debug, Default)]
pub struct Paces {
    of: BTreeMap<(KeystoreId, KeyVersionId), Pace>,
}

/// Puts right what the policies say until it is stopped.
pub async fn run(ops: Arc<Ops>, stop: CancellationToken) {
    let began = Monotonic::now();
    let mut paces = Paces::default();
    let mut changes = ops.fleet.changes();
    loop {
        changes.mark_unchanged();
        if let Err(error) = ops.drift_pass(&mut paces, began.elapsed_ms()).await {
            tracing::warn!(%error, "drift could not be put right");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE_IDLE) => {}
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

impl Ops {
    /// One pass over the vaults that have a policy; how many keys were put right.
    ///
    /// # Errors
    /// Those of the store. What is refused of a key is logged, and tried again at its pace.
    pub async fn drift_pass(&self, paces: &mut Paces, now_ms: u64) -> Result<u64, OpsError> {
        if self.fleet.is_behind() {
            return Ok(0);
        }
        paces.of.retain(|_, pace| !pace.is_over(now_ms));
        let mut mended = 0_u64;
        let mut page = Page {
            limit: VAULTS_PAGE,
            offset: 0,
        };
        loop {
            let vaults = self.store.vault_list(None, page).await?.items;
            let count = u32::try_from(vaults.len()).unwrap_or(u32::MAX);
            for vault in vaults {
                if vault.drift_policy == DriftPolicy::Report {
                    continue;
                }
                for record in self.keystore_records(Some(vault.id), None).await? {
                    let done = self.mend_keystore(&vault, &record, paces, now_ms).await?;
                    mended = mended.saturating_add(done);
                }
            }
            if count < VAULTS_PAGE {
                return Ok(mended);
            }
            page.offset = page.offset.saturating_add(count);
        }
    }

    async fn mend_keystore(
        &self,
        vault: &Vault,
        record: &KeystoreRecord,
        paces: &mut Paces,
        now_ms: u64,
    ) -> Result<u64, OpsError> {
        if !self.fleet.keeps(record.id) {
            return Ok(0);
        }
        let differing = self.fleet.differing(record.id);
        if differing.instances.is_empty() || rollback(&differing).is_some() {
            return Ok(0);
        }
        let terms = self.terms(record).await?;
        let mut keys: BTreeMap<KeyId, Vec<KeyVersionId>> = BTreeMap::new();
        for row in self.store.keystore_instances(record.id).await? {
            let version = row.instance.intent.version;
            let is_due = paces
                .of
                .get(&(record.id, version))
                .is_none_or(|pace| pace.may(now_ms));
            if !is_due || !differing.instances.iter().any(|(of, _)| *of == version) {
                continue;
            }
            let live = self.fleet.live(record.id, version);
            let late_after_ms = self.limits.late_after_ms;
            let told = differences(&row.instance, &live, &terms, self.now(), late_after_ms);
            if is_mended(vault.drift_policy, &row.instance, found(&live), &told) {
                keys.entry(row.key).or_default().push(version);
            }
        }
        let mut mended = 0_u64;
        for (key, versions) in keys {
            for version in &versions {
                paces
                    .of
                    .entry((record.id, *version))
                    .or_default()
                    .did(now_ms);
            }
            match self.mend(vault, record, key, &versions).await {
                Ok(()) => mended = mended.saturating_add(1),
                Err(error) => {
                    tracing::warn!(%key, keystore = record.name, %error, "drift could not be put right");
                }
            }
        }
        Ok(mended)
    }

    /// Wants again, on this keystore, what is wanted of these versions of a key.
    async fn mend(
        &self,
        vault: &Vault,
        record: &KeystoreRecord,
        key: KeyId,
        versions: &[KeyVersionId],
    ) -> Result<(), OpsError> {
        let key = self.key_record(key).await?;
        let instances = self.store.key_instances(key.id).await?;
        let is_meant = |instance: &&Instance| {
            instance.intent.keystore == record.id && versions.contains(&instance.intent.version)
        };
        let wishes = key.by_version().into_iter().map(|version| VersionWishes {
            wishes: instances
                .iter()
                .filter(is_meant)
                .filter(|instance| instance.intent.version == version.version)
                .map(|instance| Wish {
                    keystore: record.id,
                    is_target: instance.is_target,
                    want: instance.intent.want,
                })
                .collect(),
            key: version,
        });
        let detail = format!(
            "{} on {}: {}",
            key.label,
            record.name,
            vault.drift_policy.name()
        );
        let draft = Draft::new("key.mend", format!("key/{}", key.id), detail);
        let draft = self
            .draft_again(draft, vault, &instances, wishes.collect())
            .await?;
        self.commit(&call(), draft).await?;
        Ok(())
    }
}

fn found(live: &Live) -> Option<&Found> {
    match &live.report.as_ref()?.observation {
        Observation::Present(found) => Some(found),
        Observation::Absent { .. }
        | Observation::Suspected { .. }
        | Observation::Unknown { .. } => None,
    }
}

fn call() -> Call {
    Call::looking(Principal {
        name: ACTOR.to_owned(),
        rights: Rights::All,
    })
}
