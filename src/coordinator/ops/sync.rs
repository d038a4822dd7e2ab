//! Sync, look, prove.

use std::time::Duration;

use tokio::task::JoinSet;

use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::{Call, Permission};
use crate::coordinator::ops::commit::{Done, Draft};
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::intents::{VersionWishes, Wish, instance_of};
use crate::coordinator::ops::keys::KeyView;
use crate::coordinator::ops::material::no_copy;
use crate::coordinator::ops::status::Directory;
use crate::decide::difference::differences;
use crate::decide::status::status;
use crate::model::desired::{Instance, Want};
use crate::model::difference::{HealedBy, Status, Weight};
use crate::model::ids::{KeyId, KeystoreId};
use crate::model::key::ManagedKey;
use crate::model::vault::Vault;

/// Longest that a look or a proof is waited for: what comes later is seen in the next view.
const ASK_MAX: Duration = Duration::from_secs(30);

impl Ops {
    /// Pushes the wanted state again to every target that is not in sync, or that follows a strategy which is not demanded any
    /// more. Does not change the key's ETag.
    ///
    /// # Errors
    /// `EtagMismatch`, and what every change may meet; `Refused` with `no_repository_copy` where all that is left to do is to
    /// install a key that nobody has. A keystore that cannot be reached is no error: its truth is in the view.
    pub async fn key_sync(&self, call: &Call, id: KeyId) -> Result<Done<KeyView>, OpsError> {
        call.authorise(Permission::KeyDistribute, None)?;
        if let Some(earlier) = self.earlier(call).await? {
            return self.key_again(earlier).await;
        }
        let mut is_second = false;
        loop {
            let key = self.key_record(id).await?;
            call.check_revision(key.revision)?;
            let instances = self.store.key_instances(id).await?;
            let draft = self.sync_draft(&key, &instances).await?;
            if draft.writes.is_empty() {
                self.fleet.wake(&keystores(&instances));
                let view = self.key_view(key, &mut Directory::default()).await?;
                return Ok(self.unchanged(call).done(view));
            }
            match self.commit(call, draft).await {
                Ok(committed) => {
                    let view = self.key_view(key, &mut Directory::default()).await?;
                    return Ok(committed.done(view));
                }
                Err(OpsError::Conflict { .. }) if !is_second => is_second = true,
                Err(error) => return Err(error),
            }
        }
    }

    async fn sync_draft(
        &self,
        key: &ManagedKey,
        instances: &[Instance],
    ) -> Result<Draft, OpsError> {
        let draft = Draft::new("key.sync", format!("key/{}", key.id), key.label.to_string());
        let versions = self.sync_wishes(key, instances).await?;
        let vault = self.vault_record(key.vault).await?;
        self.draft_again(draft, &vault, instances, versions).await
    }

    /// Puts into a draft that all this is wanted again, each by a new generation.
    pub(crate) async fn draft_again(
        &self,
        mut draft: Draft,
        vault: &Vault,
        instances: &[Instance],
        versions: Vec<VersionWishes>,
    ) -> Result<Draft, OpsError> {
        let at = self.now();
        let mut refused = None;
        let asked = versions.into_iter().flat_map(|of| {
            of.wishes
                .into_iter()
                .map(move |wish| (of.key.clone(), wish))
        });
        for (version, wish) in asked {
            let before = instance_of(instances, version.version, wish.keystore);
            // What is lost for good would be pending for good.
            if before.is_some_and(|before| self.is_lost(before)) {
                let what = "the key is gone from its token and cannot be installed again";
                let way_out = "put it back on the token, or destroy the key";
                refused = Some(no_copy(what, way_out));
                continue;
            }
            let write = self
                .instance_write(&version, vault, wish, before, at)
                .await?;
            // What cannot go on one keystore does not hold up the others.
            match self
                .check_material(&version, std::slice::from_ref(&write))
                .await
            {
                Ok(()) => {
                    draft.writes.push(write);
                }
                Err(error) => refused = Some(error),
            }
        }
        match refused {
            Some(error) if draft.writes.is_empty() => Err(error),
            Some(_) | None => Ok(draft),
        }
    }

    /// What a sync would want again, and where.
    pub(crate) async fn sync_wishes(
        &self,
        key: &ManagedKey,
        instances: &[Instance],
    ) -> Result<Vec<VersionWishes>, OpsError> {
        let mut directory = Directory::default();
        let mut all = Vec::new();
        for version in key.by_version() {
            let mut wishes = Vec::new();
            for instance in instances {
                if instance.intent.version == version.version
                    && self.is_to_be_synced(instance, &mut directory).await?
                {
                    wishes.push(Wish {
                        keystore: instance.intent.keystore,
                        is_target: instance.is_target,
                        want: instance.intent.want,
                    });
                }
            }
            all.push(VersionWishes {
                key: version,
                wishes,
            });
        }
        Ok(all)
    }

    async fn is_to_be_synced(
        &self,
        instance: &Instance,
        directory: &mut Directory,
    ) -> Result<bool, OpsError> {
        let keystore = instance.intent.keystore;
        let Some(record) = directory.keystore(self, keystore).await? else {
            return Ok(false);
        };
        let terms = directory.terms(self, &record).await?;
        let live = self.fleet.live(record.id, instance.intent.version);
        let status = status(instance, &live, &terms);
        let late_after_ms = self.limits.late_after_ms;
        let is_mended = differences(instance, &live, &terms, self.now(), late_after_ms)
            .iter()
            .any(|one| one.weight == Weight::Warning && one.healed_by == HealedBy::Sync);
        // Of a keystore that nobody hears, what is wanted is sent when it is back. A new number for it would only let an old
        // store overtake, sync by sync, the later word that the agent has.
        let is_blind =
            matches!(status, Status::Unknown { .. }) && instance.intent.want == Want::Active;
        let differs = !matches!(status, Status::InSync(_)) && owes(instance, &status);
        Ok((differs && !is_blind) || is_mended)
    }

    /// Has every keystore of the key looked at now, and answers with what was seen.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn key_verify(&self, call: &Call, id: KeyId) -> Result<KeyView, OpsError> {
        call.authorise(Permission::Read, None)?;
        let key = self.key_record(id).await?;
        let instances = self.store.key_instances(id).await?;
        let mut looks = JoinSet::new();
        for intent in instances.into_iter().map(|instance| instance.intent) {
            let (fleet, keystore, version) = (self.fleet.clone(), intent.keystore, intent.version);
            looks.spawn(tokio::time::timeout(ASK_MAX, async move {
                fleet.look(keystore, Some(version)).await
            }));
        }
        // Who cannot be looked at is shown as that in the view.
        while looks.join_next().await.is_some() {}
        self.key_view(key, &mut Directory::default()).await
    }

    /// Has every keystore of the key try it now, and answers with what came of it; what could not be tried says so in its
    /// row's error.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn key_prove(&self, call: &Call, id: KeyId) -> Result<KeyView, OpsError> {
        call.authorise(Permission::KeyDistribute, None)?;
        let key = self.key_record(id).await?;
        let instances = self.store.key_instances(id).await?;
        let mut proofs = JoinSet::new();
        let alive = instances
            .iter()
            .filter(|instance| instance.intent.want != Want::Destroyed)
            .map(|instance| (instance.intent.keystore, instance.intent.version));
        for (keystore, version) in alive {
            let fleet = self.fleet.clone();
            proofs.spawn(async move {
                let asked = tokio::time::timeout(ASK_MAX, fleet.prove(keystore, version)).await;
                let failure = match asked {
                    Ok(Ok(_proof)) => None,
                    Ok(Err(error)) => Some(error.to_string()),
                    Err(_late) => Some("no answer in time".to_owned()),
                };
                (keystore, version, failure)
            });
        }
        let mut failures = Vec::new();
        while let Some(joined) = proofs.join_next().await {
            if let Ok((keystore, version, Some(failure))) = joined {
                failures.push((keystore, version, failure));
            }
        }
        let mut view = self.key_view(key, &mut Directory::default()).await?;
        for (keystore, version, failure) in failures {
            let past = view
                .past
                .iter_mut()
                .flat_map(|past| past.keystores.iter_mut());
            let row = view.keystores.iter_mut().chain(past).find(|row| {
                let of = row
                    .instance
                    .as_ref()
                    .map(|instance| instance.intent.version);
                row.keystore == keystore && of == Some(version)
            });
            if let Some(row) = row {
                row.error.get_or_insert(format!("not proved: {failure}"));
            }
        }
        Ok(view)
    }
}

/// Whether a keystore takes part in syncing: targets do, and all where the key is to be gone; one that was removed only
/// where it is known to be usable all the same, or may be because disabling it failed.
fn owes(instance: &Instance, status: &Status) -> bool {
    instance.is_target
        || instance.intent.want == Want::Destroyed
        || matches!(status, Status::Drift | Status::Failed { .. })
}

fn keystores(instances: &[Instance]) -> Vec<KeystoreId> {
    instances
        .iter()
        .map(|instance| instance.intent.keystore)
        .collect()
}
