//! The use cases over the real store, with agents in memory.

mod adopting;
mod agents;
mod bulk;
mod changes;
mod doctor;
mod holds;
mod kek_rotation;
mod keystores;
mod lifecycle;
mod making;
mod manageable;
mod rotating;
mod schedule;
mod strategies;
mod targets;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use uuid::Uuid;

use crate::ops::agents::Agents;
use lockstep::clock::WallClock;
use lockstep::coordinator::ops::access::{Call, Idempotency, Principal, Rights};
use lockstep::coordinator::ops::entropy::SystemEntropy;
use lockstep::coordinator::ops::errors::OpsError;
use lockstep::coordinator::ops::keys::{KeyNew, KeyView};
use lockstep::coordinator::ops::keystores::KeystoreNew;
use lockstep::coordinator::ops::schedule::Passed;
use lockstep::coordinator::ops::status::InKeystore;
use lockstep::coordinator::ops::templates::TemplateNew;
use lockstep::coordinator::ops::vaults::VaultNew;
use lockstep::coordinator::ops::{Limits, Ops};
use lockstep::coordinator::store::Store;
use lockstep::coordinator::store::sqlite::{Settings, SqliteStore};
use lockstep::model::canonical::sha256;
use lockstep::model::ids::{KeyId, KeystoreId, Revision, VaultId};
use lockstep::model::key::{Algorithm, DeactivatedUsage, KeySpec};
use lockstep::model::keystore::Variant;
use lockstep::model::lifecycle::{Action, ManagedState};
use lockstep::model::template::OnExpiry;
use lockstep::model::vault::UnixMs;

/// A coordinator with a vault, its keystores, and a template.
pub(crate) struct House {
    pub(crate) ops: Ops,
    pub(crate) agents: Arc<Agents>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) vault: VaultId,
    pub(crate) dir: TempDir,
    /// What its clock says, Unix milliseconds; 0: the system's time.
    pub(crate) clock: Arc<AtomicI64>,
}

/// A call by the administrator; `etag` as If-Match.
pub(crate) fn call(etag: Option<u64>) -> Call {
    Call {
        principal: Principal {
            name: "admin".to_owned(),
            rights: Rights::All,
        },
        if_match: etag.map(Revision),
        idempotency: None,
    }
}

/// The same with an Idempotency-Key; `body` stands for the request.
pub(crate) fn again(key: &str, body: &str) -> Call {
    Call {
        idempotency: Some(Idempotency {
            key: key.to_owned(),
            request: sha256(body.as_bytes()),
        }),
        ..call(None)
    }
}

pub(crate) fn on(view: &KeyView) -> Call {
    call(Some(view.key.revision.0))
}

impl House {
    /// An empty vault.
    pub(crate) async fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let store: Arc<dyn Store> =
            Arc::new(SqliteStore::open(&path, Settings::default()).unwrap());
        let agents = Agents::new(store.clone());
        let ops = Ops::new(
            store.clone(),
            agents.clone(),
            Arc::new(SystemEntropy),
            Limits::default(),
        );
        let clock = Arc::new(AtomicI64::new(0));
        let set = clock.clone();
        let ops = ops.by_clock(WallClock::of(move || match set.load(Ordering::SeqCst) {
            0 => lockstep::clock::unix_ms(),
            now => UnixMs(now),
        }));
        let new = VaultNew {
            name: "V".to_owned(),
            ..VaultNew::default()
        };
        let vault = ops.vault_create(&call(None), new).await.unwrap();
        Self {
            ops,
            agents,
            store,
            vault: vault.value.vault.id,
            dir,
            clock,
        }
    }

    /// A pass over what is due at this time; the house's clock stays there.
    pub(crate) async fn pass_at(&self, now: UnixMs) -> Passed {
        self.clock.store(now.0, Ordering::SeqCst);
        self.ops.schedule_pass().await.unwrap()
    }

    /// `home` internal; `a` and `b` external in the group; `c` external in none; a template of the group.
    pub(crate) async fn furnished() -> Self {
        let house = Self::empty().await;
        house.keystore("home", Variant::Internal, &["prod"]).await;
        house.keystore("a", Variant::External, &["prod"]).await;
        house.keystore("b", Variant::External, &["prod"]).await;
        house.keystore("c", Variant::External, &[]).await;
        house.template("T", Algorithm::Aes, 256).await;
        house
    }

    pub(crate) fn keystore_new(
        &self,
        name: &str,
        variant: Variant,
        groups: &[&str],
    ) -> KeystoreNew {
        KeystoreNew {
            vault: self.vault,
            name: Some(name.to_owned()),
            description: String::new(),
            location: String::new(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            endpoint: format!("https://{name}:1"),
            agent_name: format!("spiffe://lockstep/agent/{name}"),
            variant,
            strategy: None,
        }
    }

    pub(crate) async fn keystore(
        &self,
        name: &str,
        variant: Variant,
        groups: &[&str],
    ) -> KeystoreId {
        let id = KeystoreId::from_uuid(Uuid::new_v4());
        self.agents.add(name, Some(id), variant);
        let new = self.keystore_new(name, variant, groups);
        let made = self.ops.keystore_create(&call(None), new, false).await;
        made.unwrap().value.record.id
    }

    pub(crate) fn template_new(&self, name: &str, algorithm: Algorithm, bits: u32) -> TemplateNew {
        TemplateNew {
            vault: self.vault,
            name: name.to_owned(),
            description: String::new(),
            naming_scheme: None,
            spec: KeySpec::new(algorithm, bits).unwrap(),
            usage: None,
            deactivated_usage: DeactivatedUsage::None,
            allow_mixed_usage: false,
            initial_state: ManagedState::PreActivation,
            activation_period: String::new(),
            expiration_period: String::new(),
            deactivate_on_rotation: false,
            rotation_interval: None,
            on_expiry: OnExpiry::Warn,
            group: "prod".to_owned(),
            archived: false,
        }
    }

    pub(crate) async fn template(&self, name: &str, algorithm: Algorithm, bits: u32) {
        let new = self.template_new(name, algorithm, bits);
        self.ops.template_create(&call(None), new).await.unwrap();
    }

    pub(crate) fn key_new(&self, label: &str) -> KeyNew {
        KeyNew {
            vault: self.vault,
            template_name: "T".to_owned(),
            label: Some(label.to_owned()),
            label_tags: Vec::new(),
            description: String::new(),
        }
    }

    pub(crate) async fn key(&self, label: &str) -> KeyView {
        let new = self.key_new(label);
        let made = self.ops.key_create(&call(None), new).await;
        made.unwrap().value
    }

    /// A key that is active and in step everywhere.
    pub(crate) async fn active(&self, label: &str) -> KeyView {
        let key = self.key(label).await;
        self.act(&key, Action::Activate).await.unwrap();
        self.settled(key.key.id).await
    }

    pub(crate) async fn act(&self, view: &KeyView, action: Action) -> Result<KeyView, OpsError> {
        let done = self.ops.key_act(&on(view), view.key.id, action).await;
        done.map(|done| done.value)
    }

    pub(crate) async fn settled(&self, id: KeyId) -> KeyView {
        let longest = Duration::from_secs(30);
        self.ops.key_wait(&call(None), id, longest).await.unwrap()
    }
}

pub(crate) fn row<'a>(view: &'a KeyView, name: &str) -> &'a InKeystore {
    view.keystores.iter().find(|row| row.name == name).unwrap()
}

/// `name status uko-status detail` of each keystore.
pub(crate) fn rows(view: &KeyView) -> Vec<String> {
    view.keystores
        .iter()
        .map(|row| {
            let reasons: Vec<&str> = row
                .differences
                .iter()
                .map(|observed| observed.difference.reason.name())
                .collect();
            let words = [
                row.status.name(),
                row.uko_status.name(),
                row.sync_flag.name(),
            ];
            format!("{} {} {}", row.name, words.join(" "), reasons.join(","))
                .trim_end()
                .to_owned()
        })
        .collect()
}

/// `phase confirmed/total`.
pub(crate) fn phase(view: &KeyView) -> String {
    let phase = &view.phase;
    format!("{} {}/{}", phase.phase.name(), phase.confirmed, phase.total)
}
