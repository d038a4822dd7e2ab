//! What is counted about the whole estate, at one moment.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::Monotonic;
use crate::coordinator::ops::access::{Call, Permission};
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::fleet::Waiting;
use crate::coordinator::ops::keystores::KeystoreView;
use crate::coordinator::ops::lists::Page;
use crate::coordinator::ops::{Ops, dates};
use crate::coordinator::store::{self, KeyFilter};
use crate::decide::difference::differences;
use crate::decide::schedule::due;
use crate::decide::status::{Phase, status};
use crate::model::bulk::Outcome;
use crate::model::difference::Reason;
use crate::model::ids::{KeyId, KeystoreId};
use crate::model::lifecycle::ManagedState;
use crate::model::live::Connection;

/// How long a measurement serves those who ask: measuring reads all instances, and nobody needs it more often.
const FRESH_FOR: Duration = Duration::from_secs(10);

/// Keys that are read at once.
const KEYS_MAX: u32 = 500;

/// The counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Measured {
    /// Managed keys by state.
    pub keys: BTreeMap<&'static str, u64>,
    /// Keys that are or were on a keystore, by phase: the worst of their keystores counts.
    pub phases: BTreeMap<&'static str, u64>,
    /// Dates whose day has come and that have not acted.
    pub dates_overdue: u64,
    /// Bulk changes that are running or paused.
    pub bulk_changes: BTreeMap<&'static str, u64>,
    /// Keys of those, by outcome.
    pub bulk_keys: BTreeMap<&'static str, u64>,
    /// Each keystore.
    pub keystores: Vec<MeasuredKeystore>,
}

/// The counts of one keystore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeasuredKeystore {
    /// Its id.
    pub id: KeystoreId,
    /// Its name.
    pub name: String,
    /// Its vault's name.
    pub vault: String,
    /// API v4's `health_status`.
    pub health: &'static str,
    /// Whether it has a live session whose agent has told all that it knows.
    pub has_session: bool,
    /// Age of the last complete scan, milliseconds; none: not known in this session.
    pub scan_age_ms: Option<u64>,
    /// Keys on the token that nobody manages or ignores.
    pub unmanaged: u64,
    /// Key instances by status.
    pub instances: BTreeMap<&'static str, u64>,
    /// Instances with a difference, by its reason.
    pub differences: BTreeMap<&'static str, u64>,
}

/// What waits at one moment: never older, for it is only looked at where something is slow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Queues {
    /// Changes for the store, and queries; none where the database has the queue.
    pub store: Option<(usize, usize)>,
    /// On the way to each keystore's agent, in the order of the measured ones.
    pub keystores: Vec<Waiting>,
}

impl Ops {
    /// What waits now, for these keystores.
    #[must_use]
    pub fn queues(&self, measured: &Measured) -> Queues {
        let keystores = measured.keystores.iter();
        Queues {
            store: self.store.waiting(),
            keystores: keystores.map(|of| self.fleet.waiting(of.id)).collect(),
        }
    }

    /// The counts, at most ten seconds old.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn measured(&self, call: &Call) -> Result<Measured, OpsError> {
        call.authorise(Permission::Read, None)?;
        // Who asks while somebody measures gets the same.
        let mut kept = self.measured.lock().await;
        if let Some((at, measured)) = kept.as_ref()
            && at.elapsed() < FRESH_FOR
        {
            return Ok(measured.clone());
        }
        let measured = self.measure(call).await?;
        *kept = Some((Monotonic::now(), measured.clone()));
        Ok(measured)
    }

    async fn measure(&self, call: &Call) -> Result<Measured, OpsError> {
        let mut measured = Measured {
            dates_overdue: self.dates_overdue().await?,
            ..Measured::default()
        };
        for state in ManagedState::ALL {
            let filter = KeyFilter {
                states: vec![state],
                ..KeyFilter::default()
            };
            let one = store::Page {
                limit: 1,
                offset: 0,
            };
            let count = self.store.key_list(filter, one).await?.total;
            measured.keys.insert(state.name(), count);
        }
        self.measure_bulk(&mut measured).await?;
        let mut phases = BTreeMap::new();
        let mut page = Page::LARGEST;
        loop {
            let found = self.keystore_list(call, Default::default(), page).await?;
            let is_last = found.items.len() < usize::try_from(page.limit).unwrap_or(usize::MAX);
            for view in found.items {
                let one = self.measure_keystore(view, &mut phases).await?;
                measured.keystores.push(one);
            }
            if is_last {
                for phase in Phase::ALL {
                    let count = phases.values().filter(|one| **one == phase).count();
                    let count = u64::try_from(count).unwrap_or(u64::MAX);
                    measured.phases.insert(phase.name(), count);
                }
                return Ok(measured);
            }
            page.offset = page.offset.saturating_add(page.limit);
        }
    }

    async fn measure_keystore(
        &self,
        view: KeystoreView,
        phases: &mut BTreeMap<KeyId, Phase>,
    ) -> Result<MeasuredKeystore, OpsError> {
        let now = self.now();
        let id = view.record.id;
        let terms = self.terms(&view.record).await?;
        let mut instances = BTreeMap::new();
        let mut reasons = BTreeMap::new();
        for row in self.store.keystore_instances(id).await? {
            let live = self.fleet.live(id, row.instance.intent.version);
            let status = status(&row.instance, &live, &terms);
            *instances.entry(status.name()).or_insert(0) += 1;
            let worst = phases.entry(row.key).or_insert(Phase::InStep);
            *worst = Phase::of(&status).max(*worst);
            let found = differences(&row.instance, &live, &terms, now, self.limits.late_after_ms);
            let mut found: Vec<Reason> = found.into_iter().map(|one| one.reason).collect();
            found.sort_unstable();
            found.dedup();
            for reason in found {
                *reasons.entry(reason.name()).or_insert(0) += 1;
            }
        }
        Ok(MeasuredKeystore {
            id,
            name: view.record.name,
            vault: view.vault_name,
            health: view.health.status.name(),
            has_session: view.live.connection == Connection::Live,
            scan_age_ms: view.live.scan_age_ms,
            unmanaged: u64::try_from(view.unmanaged).unwrap_or(u64::MAX),
            instances,
            differences: reasons,
        })
    }

    async fn measure_bulk(&self, measured: &mut Measured) -> Result<(), OpsError> {
        for state in ["running", "paused"] {
            measured.bulk_changes.insert(state, 0);
        }
        for outcome in Outcome::ALL {
            measured.bulk_keys.insert(outcome.name(), 0);
        }
        let page = Page::LARGEST.for_store();
        let open = self
            .store
            .bulk_list(vec!["running", "paused"], page)
            .await?;
        for bulk in open.items {
            *measured.bulk_changes.entry(bulk.state.name()).or_insert(0) += 1;
            for count in self.store.bulk_counts(bulk.id).await? {
                let name = count.outcome.name();
                *measured.bulk_keys.entry(name).or_insert(0) += u64::from(count.count);
            }
        }
        Ok(())
    }

    async fn dates_overdue(&self) -> Result<u64, OpsError> {
        let today = dates::day(self.now())?.to_string();
        let mut count = 0;
        let mut after = None;
        loop {
            let days = (None, today.clone());
            let keys = self.store.key_dated(days, after, KEYS_MAX).await?;
            let Some(last) = keys.last() else {
                return Ok(count);
            };
            after = Some(last.id);
            let overdue = keys.iter().filter(|key| due(key, &today).is_some());
            count += u64::try_from(overdue.count()).unwrap_or(u64::MAX);
        }
    }
}
