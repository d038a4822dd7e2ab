//! The doctor: every promise that can be checked in production, and what a custodian asks at three in the morning.
//!
//! Owns: gathering one picture of store and fleet, and the checks over it (`estate`, `upkeep`), each with what it means and what
//! to do. Never: changes anything, or asks an agent for more than who it is.
//!
//! The picture is taken in the order live state, records, log: what was written meanwhile is then in the later part, and is
//! never taken for something that was lost.

mod estate;
mod upkeep;

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::clock;
use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::{Call, Permission};
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::fleet::LiveKeystore;
use crate::coordinator::store::{Checkup, KeyFilter, Page};
use crate::decide::check::{Invariant, Violation};
use crate::model::desired::Instance;
use crate::model::ids::{KeyId, KeyVersionId, KeystoreId, VaultId};
use crate::model::kek::KekRotation;
use crate::model::key::ManagedKey;
use crate::model::keystore::{KeystoreRecord, Variant};
use crate::model::live::{Connection, Live, Terms};
use crate::model::vault::UnixMs;

/// Most findings that a check names; the others are counted.
pub const FOUND_MAX: usize = 20;

/// Longest that an agent is waited for to tell its clock.
const CLOCK_MAX: Duration = Duration::from_secs(5);

/// Records read at once.
const PAGE: u32 = 1000;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing was found.
    Ok,
    /// Nothing is broken yet, and somebody should look.
    Warning,
    /// A promise is broken, or was by somebody else.
    Violated,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its name: fixed, for programs.
    pub name: &'static str,
    /// The invariant of the promises that it is about, if one.
    pub invariant: Option<Invariant>,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found, at most [`FOUND_MAX`] of it.
    pub found: Vec<String>,
    /// How much was found in all.
    pub count: usize,
    /// What it means when something is found.
    pub meaning: &'static str,
    /// What to do then.
    pub advice: &'static str,
}

/// What a check is, before anything was found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    pub(crate) invariant: Option<Invariant>,
    /// What it is when something is found.
    pub(crate) verdict: Verdict,
    pub(crate) meaning: &'static str,
    pub(crate) advice: &'static str,
}

impl Kind {
    fn found(self, mut found: Vec<String>) -> Check {
        let count = found.len();
        found.truncate(FOUND_MAX);
        Check {
            name: self.name,
            invariant: self.invariant,
            verdict: if count == 0 {
                Verdict::Ok
            } else {
                self.verdict
            },
            found,
            count,
            meaning: self.meaning,
            advice: self.advice,
        }
    }

    fn broken(self, broken: impl IntoIterator<Item = Violation>) -> Check {
        self.found(broken.into_iter().map(|one| one.what).collect())
    }
}

/// A keystore in the picture.
#[derive(Debug)]
pub(crate) struct Ward {
    pub(crate) record: KeystoreRecord,
    pub(crate) live: LiveKeystore,
    /// The agent's clock less ours, milliseconds, where it answered.
    pub(crate) clock_ahead_ms: Option<i64>,
    pub(crate) rotation: Option<KekRotation>,
    /// Copies under an older wrapping key than the one that the last rotation made.
    pub(crate) old_copies: u64,
}

/// An instance in the picture.
#[derive(Debug)]
pub(crate) struct Bed {
    pub(crate) key: KeyId,
    pub(crate) instance: Instance,
    pub(crate) live: Live,
    pub(crate) terms: Terms,
}

/// The picture.
#[derive(Debug)]
pub(crate) struct Estate {
    pub(crate) now: UnixMs,
    pub(crate) late_after_ms: i64,
    pub(crate) wards: Vec<Ward>,
    pub(crate) beds: Vec<Bed>,
    pub(crate) keys: BTreeMap<KeyId, ManagedKey>,
    /// Copies of each version that has one, or whose key should have.
    pub(crate) copies: BTreeMap<KeyVersionId, usize>,
    pub(crate) min_copies: BTreeMap<VaultId, u32>,
    pub(crate) checkup: Option<Checkup>,
}

impl Ops {
    /// All checks, in a fixed order. Changes nothing.
    ///
    /// # Errors
    /// Those of the store, where it cannot be read at all.
    pub async fn doctor(&self, call: &Call) -> Result<Vec<Check>, OpsError> {
        call.authorise(Permission::Read, None)?;
        call.authorise(Permission::AuditRead, None)?;
        let estate = self.estate().await?;
        let mut checks = upkeep::of_store(&estate);
        checks.extend(estate::checks(&estate));
        checks.extend(upkeep::of_fleet(&estate));
        Ok(checks)
    }

    async fn estate(&self) -> Result<Estate, OpsError> {
        let wards = self.wards().await?;
        let mut beds = Vec::new();
        for ward in &wards {
            let keystore = ward.record.id;
            let terms = self.terms(&ward.record).await?;
            let before = self.store.keystore_instances(keystore).await?;
            let lives: BTreeMap<KeyVersionId, Live> = before
                .iter()
                .map(|row| row.instance.intent.version)
                .map(|version| (version, self.fleet.live(keystore, version)))
                .collect();
            // Read again: what the agent applied meanwhile is in the store by now.
            let rows = self.store.keystore_instances(keystore).await?;
            beds.extend(rows.into_iter().filter_map(|row| {
                let live = lives.get(&row.instance.intent.version)?.clone();
                let (key, instance) = (row.key, row.instance);
                Some(Bed {
                    key,
                    instance,
                    live,
                    terms: terms.clone(),
                })
            }));
        }
        let keys = self.all_keys().await?;
        let mut copies = BTreeMap::new();
        let mut min_copies = BTreeMap::new();
        for key in keys.values() {
            copies.insert(key.version, self.store.copies(key.version).await?.len());
            if !min_copies.contains_key(&key.vault)
                && let Some(vault) = self.store.vault(key.vault).await?
            {
                min_copies.insert(key.vault, vault.min_copies);
            }
        }
        Ok(Estate {
            now: clock::unix_ms(),
            late_after_ms: self.limits.late_after_ms,
            wards,
            beds,
            keys,
            copies,
            min_copies,
            checkup: self.store.checkup().await?,
        })
    }

    async fn all_keys(&self) -> Result<BTreeMap<KeyId, ManagedKey>, OpsError> {
        let mut keys = BTreeMap::new();
        let mut offset = 0;
        loop {
            let page = Page {
                limit: PAGE,
                offset,
            };
            let found = self.store.key_list(KeyFilter::default(), page).await?;
            let is_last = found.items.len() < usize::try_from(PAGE).unwrap_or(usize::MAX);
            keys.extend(found.items.into_iter().map(|key| (key.id, key)));
            if is_last {
                return Ok(keys);
            }
            offset = offset.saturating_add(PAGE);
        }
    }

    async fn wards(&self) -> Result<Vec<Ward>, OpsError> {
        let records = self.keystore_records(None, None).await?;
        let clocks = self.clocks(&records).await;
        let mut wards = Vec::with_capacity(records.len());
        for record in records {
            let (mut rotation, mut old_copies) = (None, 0);
            if record.variant == Variant::Internal {
                rotation = self.store.kek_rotation(record.id).await?;
                if let Some(to) = rotation.as_ref().and_then(KekRotation::demanded) {
                    old_copies = self.store.copies_below_count(record.id, to).await?;
                }
            }
            wards.push(Ward {
                live: self.fleet.live_keystore(record.id),
                clock_ahead_ms: clocks.get(&record.id).copied(),
                record,
                rotation,
                old_copies,
            });
        }
        Ok(wards)
    }

    /// How far the clocks of connected agents are ahead of ours, as of the middle of asking.
    async fn clocks(&self, records: &[KeystoreRecord]) -> BTreeMap<KeystoreId, i64> {
        let mut asked = JoinSet::new();
        for record in records {
            let is_live = self.fleet.live_keystore(record.id).connection == Connection::Live;
            if !is_live {
                continue;
            }
            let (fleet, id) = (self.fleet.clone(), record.id);
            let (endpoint, name) = (record.endpoint.clone(), record.agent_name.clone());
            asked.spawn(async move {
                let before = clock::unix_ms().0;
                let described = fleet.describe(&endpoint, &name);
                let told = tokio::time::timeout(CLOCK_MAX, described)
                    .await
                    .ok()?
                    .ok()?;
                let middle = before.midpoint(clock::unix_ms().0);
                Some((id, told.clock.0.saturating_sub(middle)))
            });
        }
        let mut clocks = BTreeMap::new();
        while let Some(joined) = asked.join_next().await {
            clocks.extend(joined.ok().flatten());
        }
        clocks
    }
}
