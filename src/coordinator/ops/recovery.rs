//! After the store was restored from a backup: what its agents know better, and going on once an operator has looked.

use std::collections::BTreeSet;

use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::{Call, Permission};
use crate::coordinator::ops::commit::Draft;
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::intents::{self, VersionWishes, Wish};
use crate::coordinator::ops::keys::subject;
use crate::coordinator::store::Write;
use crate::decide::recovery::{Row, Settled, is_ahead, settle};
use crate::model::desired::{Applied, Instance, Want};
use crate::model::ids::{KeyId, KeyVersionId, KeystoreId};
use crate::model::key::ManagedKey;
use crate::model::keystore::KeystoreRecord;
use crate::model::live::Connection;
use crate::model::protocol::Report;
use crate::model::recovery::{Prefer, Recovery, Stranger};

/// What the store does not know, and its agents do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryView {
    /// Why the store is taken to be older than its agents; none: it is not.
    pub recovery: Option<Recovery>,
    /// Keys of which an agent is ahead, and what each becomes.
    pub keys: Vec<KeyRecovery>,
    /// What agents keep and the store does not know, but for what an operator has seen.
    pub strangers: Vec<(KeystoreRecord, Report)>,
    /// Keystores whose agents have not told all they know, and why.
    pub missing: Vec<(KeystoreRecord, String)>,
}

/// One key of which an agent is ahead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRecovery {
    /// As the store has it.
    pub key: ManagedKey,
    /// What it becomes.
    pub settled: Settled,
    /// The agents that are ahead: the keystore's name, what the store wants there (none: it does not know the key to be there),
    /// what the agent holds.
    pub ahead: Vec<(String, Option<Want>, Applied)>,
}

/// A keystore whose agent holds a key that the store does not know to be there.
#[derive(Debug)]
struct News {
    keystore: KeystoreId,
    name: String,
    version: KeyVersionId,
    applied: Applied,
}

/// What an operator decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recover {
    /// Whom to believe about keys that are active at agents and not in the store.
    pub prefer: Prefer,
    /// Goes on although some agents have not told all they know.
    pub without_missing: bool,
}

impl Ops {
    /// Whether the store is older than its agents, and what going on would do.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn recovery(&self, call: &Call, prefer: Prefer) -> Result<RecoveryView, OpsError> {
        call.authorise(Permission::Read, None)?;
        let keystores = self.keystore_records(None, None).await?;
        let mut view = RecoveryView {
            recovery: self.store.recovery().await?,
            keys: Vec::new(),
            strangers: Vec::new(),
            missing: Vec::new(),
        };
        let mut ids = BTreeSet::new();
        for keystore in &keystores {
            if let Some(why) = self.is_unheard(keystore.id) {
                view.missing.push((keystore.clone(), why));
            }
            for row in self.store.keystore_instances(keystore.id).await? {
                if self.ahead(&row.instance).is_some() {
                    ids.insert(row.key);
                }
            }
            let seen = self.store.strangers(keystore.id).await?;
            for report in self.fleet.strangers(keystore.id) {
                match self.store.key_of_version(report.version).await? {
                    Some(key) => drop(ids.insert(key)),
                    None if seen.iter().any(|one| one.version == report.version) => {}
                    None => view.strangers.push((keystore.clone(), report)),
                }
            }
        }
        for id in ids {
            view.keys
                .push(self.key_recovery(id, &keystores, prefer).await?);
        }
        view.keys.sort_by(|a, b| a.key.label.cmp(&b.key.label));
        Ok(view)
    }

    /// Goes on: each key of which an agent is ahead becomes what [`settle`] says, under generations above all that were ever
    /// given; then what enables is taken again.
    ///
    /// # Errors
    /// `Refused` with `not_restored` where nothing was noticed, with `keystores_missing` where an agent has not told all it knows.
    pub async fn recover(&self, call: &Call, how: Recover) -> Result<RecoveryView, OpsError> {
        call.authorise(Permission::VaultWrite, None)?;
        let view = self.recovery(call, how.prefer).await?;
        if self.earlier(call).await?.is_some() {
            return Ok(view);
        }
        let Some(recovery) = view.recovery.clone() else {
            return Err(OpsError::refused(
                "not_restored",
                "nothing shows that the store is older than its agents",
            ));
        };
        if !view.missing.is_empty() && !how.without_missing {
            let names: Vec<&str> = view.missing.iter().map(|(k, _)| k.name.as_str()).collect();
            return Err(OpsError::refused(
                "keystores_missing",
                format!(
                    "these have not told what they know: {}; wait for them, or go on without them",
                    names.join(", ")
                ),
            ));
        }
        // The request is one operation, and its last commit says that it was done: those before can be done again.
        let part = Call {
            idempotency: None,
            ..call.clone()
        };
        for one in &view.keys {
            self.recover_key(&part, one.key.id, how.prefer).await?;
        }
        let mut draft = Draft::new("store.recover", "store".to_owned(), told(&view));
        let seen_at = self.now();
        let strangers = view.strangers.iter().map(|(keystore, report)| {
            Write::StrangerPut(Stranger {
                keystore: keystore.id,
                version: report.version,
                seen_at,
            })
        });
        draft.writes.extend(strangers);
        draft.writes.push(Write::RecoveryPut {
            record: None,
            expected: Some(recovery.revision),
        });
        self.commit(call, draft).await?;
        self.fleet.recovered();
        Ok(view)
    }

    /// All keystores, to name them.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn keystore_names(&self, call: &Call) -> Result<Vec<KeystoreRecord>, OpsError> {
        call.authorise(Permission::Read, None)?;
        self.keystore_records(None, None).await
    }

    /// Why nothing may be enabled, if it may not.
    pub(crate) fn check_behind(&self, writes: &[Write]) -> Result<(), OpsError> {
        let enables = writes.iter().any(|write| {
            matches!(write, Write::InstancePut { instance, .. } if instance.intent.want == Want::Active)
        });
        if enables && self.fleet.is_behind() {
            return Err(OpsError::refused(
                "restored_from_backup",
                "the store is older than its agents: nothing is enabled until `lockstep recover` has been looked at",
            ));
        }
        Ok(())
    }

    fn is_unheard(&self, keystore: KeystoreId) -> Option<String> {
        match self.fleet.live_keystore(keystore).connection {
            Connection::Live => None,
            other @ (Connection::Never { .. }
            | Connection::Down { .. }
            | Connection::CatchingUp) => Some(other.to_string()),
        }
    }

    fn ahead(&self, instance: &Instance) -> Option<Applied> {
        let intent = &instance.intent;
        let report = self.fleet.live(intent.keystore, intent.version).report?;
        report.applied.filter(|_| is_ahead(instance, &report))
    }

    /// Whether the agent holds exactly what is wanted.
    fn holds(&self, instance: &Instance) -> bool {
        let intent = &instance.intent;
        let report = self.fleet.live(intent.keystore, intent.version).report;
        report.is_some_and(|report| report.applied == Some(intent.applied()))
    }

    fn rows(&self, key: &ManagedKey, instances: &[Instance], news: &[News]) -> Vec<Row> {
        let row = |instance: &Instance| Row {
            keystore: instance.intent.keystore,
            is_target: instance.is_target,
            confirms: self.holds(instance),
            ahead: self.ahead(instance).map(|applied| applied.want),
        };
        let new = |news: &News| Row {
            keystore: news.keystore,
            is_target: key.targets.contains(&news.keystore),
            confirms: false,
            ahead: Some(news.applied.want),
        };
        let known = instances
            .iter()
            .filter(|instance| instance.intent.version == key.version)
            .map(row);
        known.chain(news.iter().map(new)).collect()
    }

    /// The keystores whose agents hold the key and that the store does not know to have it.
    async fn news(&self, key: &ManagedKey) -> Result<Vec<News>, OpsError> {
        let mut news = Vec::new();
        for keystore in self.keystore_records(Some(key.vault), None).await? {
            let told = self.fleet.strangers(keystore.id).into_iter();
            let applied = told
                .filter(|report| report.version == key.version)
                .find_map(|report| report.applied);
            news.extend(applied.map(|applied| News {
                keystore: keystore.id,
                name: keystore.name,
                version: key.version,
                applied,
            }));
        }
        Ok(news)
    }

    async fn key_recovery(
        &self,
        id: KeyId,
        keystores: &[KeystoreRecord],
        prefer: Prefer,
    ) -> Result<KeyRecovery, OpsError> {
        let key = self.key_record(id).await?;
        let instances = self.store.key_instances(id).await?;
        let name = |id: KeystoreId| {
            let found = keystores.iter().find(|keystore| keystore.id == id);
            found.map_or_else(|| id.to_string(), |keystore| keystore.name.clone())
        };
        let news = self.news(&key).await?;
        let ahead = instances.iter().filter_map(|instance| {
            let intent = &instance.intent;
            Some((
                name(intent.keystore),
                Some(intent.want),
                self.ahead(instance)?,
            ))
        });
        let new = news.iter().map(|one| (one.name.clone(), None, one.applied));
        Ok(KeyRecovery {
            settled: settle(key.state, &self.rows(&key, &instances, &news), prefer),
            ahead: ahead.chain(new).collect(),
            key,
        })
    }

    async fn recover_key(&self, call: &Call, id: KeyId, prefer: Prefer) -> Result<(), OpsError> {
        let mut is_second = false;
        loop {
            let draft = self.recover_draft(call, id, prefer).await?;
            match self.commit_unguarded(call, draft).await {
                Ok(_) => return Ok(()),
                Err(OpsError::Conflict { .. }) if !is_second => is_second = true,
                Err(error) => return Err(error),
            }
        }
    }

    async fn recover_draft(
        &self,
        call: &Call,
        id: KeyId,
        prefer: Prefer,
    ) -> Result<Draft, OpsError> {
        let at = self.now();
        let before = self.key_record(id).await?;
        let instances = self.store.key_instances(id).await?;
        let news = self.news(&before).await?;
        let settled = settle(before.state, &self.rows(&before, &instances, &news), prefer);
        let mut key = before.clone();
        key.state = settled.state;
        let targets: BTreeSet<KeystoreId> = settled.targets.into_iter().collect();
        key.targets_by_hand |= targets != key.targets;
        key.targets = targets;
        key.revision = before.revision.next();
        key.stamps.touch(at, &call.principal.name);
        let detail = format!(
            "{}: {} to {}",
            key.label,
            before.state.name(),
            key.state.name()
        );
        let mut draft = Draft::new("key.recover", subject(id), detail);
        draft.writes.push(Write::KeyUpdate {
            record: Box::new(key.clone()),
            expected: before.revision,
        });
        let vault = self.vault_record(key.vault).await?;
        for of in self.version_wishes(&key, &instances).await? {
            let forced = self.forced(&of, &instances, &news);
            for wish in of.wishes.into_iter().chain(forced) {
                let known = intents::instance_of(&instances, of.key.version, wish.keystore);
                let write = self
                    .instance_write(&of.key, &vault, wish, known, at)
                    .await?;
                draft.writes.push(write);
            }
        }
        if key.is_erased() && !before.is_erased() {
            let erased = key.version_ids().into_iter();
            draft
                .writes
                .extend(erased.map(|version| Write::CopiesErase { version }));
        }
        Ok(draft)
    }
}

impl Ops {
    /// What is wanted again because an agent is ahead, under a generation above all.
    fn forced(&self, of: &VersionWishes, instances: &[Instance], news: &[News]) -> Vec<Wish> {
        let ahead = instances
            .iter()
            .filter(|one| one.intent.version == of.key.version && self.ahead(one).is_some())
            .map(|instance| instance.intent.keystore);
        let is_current = news.iter().filter(|one| one.version == of.key.version);
        let keystores = ahead.chain(is_current.map(|one| one.keystore));
        let wish = |keystore: KeystoreId| {
            let is_target = of.key.targets.contains(&keystore);
            let is_wished = of.wishes.iter().any(|wish| wish.keystore == keystore);
            let want = of.key.want(is_target).filter(|_| !is_wished)?;
            Some(Wish {
                keystore,
                is_target,
                want,
            })
        };
        keystores.filter_map(wish).collect()
    }
}

fn told(view: &RecoveryView) -> String {
    format!(
        "went on after a restore: {} keys settled, {} keys of agents that the store does not know, {} keystores not heard",
        view.keys.len(),
        view.strangers.len(),
        view.missing.len()
    )
}
