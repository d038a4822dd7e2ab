//! Bulk changes: made, shown, paused, resumed, cancelled. `bulk_plan` says what one would do, `bulk_run` carries it on.

use std::collections::BTreeMap;

use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::{Call, Permission};
use crate::coordinator::ops::bulk_plan::BulkPlan;
use crate::coordinator::ops::commit::{Committed, Done, Draft};
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::lists::{Page, Paged};
use crate::coordinator::store::{self, BulkKeyFilter, Write};
use crate::decide::bulk::{check_waves, default_late, default_stop_on, default_waves};
use crate::model::bulk::{
    BulkAction, BulkChange, BulkFilter, BulkKey, BulkState, CONFIRM_WITHIN_S, CONFIRM_WITHIN_S_MAX,
    Late, OPEN_MAX, Outcome, PauseReason, StopOn, Tally, WaveSize,
};
use crate::model::ids::{BulkId, Digest, KeyId, Revision};
use crate::model::vault::Stamps;

/// A bulk change to be planned or made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BulkNew {
    /// What is done to each key.
    pub action: BulkAction,
    /// Which keys.
    pub scope: BulkScope,
    /// The waves; none: [`default_waves`].
    pub sizes: Option<Vec<WaveSize>>,
    /// What stops it; none: [`default_stop_on`].
    pub stop_on: Option<StopOn>,
    /// How long a wave may take to be confirmed after its last key, seconds; none: ten minutes.
    pub confirm_within_s: Option<u32>,
    /// What happens then; none: [`default_late`].
    pub late: Option<Late>,
    /// The plan that somebody has seen: another one is refused.
    pub plan: Option<Digest>,
}

/// Which keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BulkScope {
    /// All that fit, by label.
    Filter(BulkFilter),
    /// These, in this order.
    Keys(Vec<KeyId>),
}

/// How it is carried out, with nothing left open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BulkTerms {
    /// The waves.
    pub sizes: Vec<WaveSize>,
    /// What stops it.
    pub stop_on: StopOn,
    /// How long a wave may take to be confirmed after its last key, seconds.
    pub confirm_within_s: u32,
    /// What happens then.
    pub late: Late,
}

/// Which keys of one are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BulkKeysQuery {
    /// Of this wave; 0: of none.
    pub wave: Option<u32>,
    /// With one of these outcomes; empty: all.
    pub outcomes: Vec<Outcome>,
}

/// A bulk change and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BulkView {
    /// The record.
    pub bulk: BulkChange,
    /// How far each wave is, the first one first.
    pub waves: Vec<Tally>,
    /// Keys that are in no wave, for nothing is to be done.
    pub left_out: u32,
    /// The first keys that were refused.
    pub refused: Vec<BulkKey>,
}

/// Keys that a view names.
const NAMED_MAX: u32 = 20;

/// What an action needs.
pub(crate) const fn permission(action: BulkAction) -> Permission {
    match action {
        BulkAction::Activate => Permission::KeyActivate,
        BulkAction::Deactivate | BulkAction::Compromise => Permission::KeyDeactivate,
        BulkAction::Destroy => Permission::KeyDestroy,
        BulkAction::Sync | BulkAction::UpdateFromTemplate => Permission::KeyDistribute,
        BulkAction::Rotate => Permission::KeyGenerate,
    }
}

impl BulkNew {
    /// Fills in what was left open.
    ///
    /// # Errors
    /// `Invalid` names the field.
    pub(crate) fn terms(&self) -> Result<BulkTerms, OpsError> {
        let sizes = self.sizes.clone();
        let sizes = sizes.unwrap_or_else(|| default_waves(self.action));
        check_waves(&sizes)
            .map_err(|error| OpsError::invalid("waves", "invalid_waves", error.to_string()))?;
        let confirm_within_s = self.confirm_within_s.unwrap_or(CONFIRM_WITHIN_S);
        if !(1..=CONFIRM_WITHIN_S_MAX).contains(&confirm_within_s) {
            let message = format!("1 to {CONFIRM_WITHIN_S_MAX} seconds");
            return Err(OpsError::invalid(
                "confirm_within_s",
                "invalid_value",
                message,
            ));
        }
        // Who asks for waves where none are usual asks to be told, too.
        let is_asked = self.sizes.is_some();
        let (mut stop_on, mut late) = (default_stop_on(self.action), default_late(self.action));
        if is_asked && sizes.len() > 1 {
            (stop_on, late) = (StopOn::OutOfStep, Late::Pause);
        }
        Ok(BulkTerms {
            sizes,
            stop_on: self.stop_on.unwrap_or(stop_on),
            confirm_within_s,
            late: self.late.unwrap_or(late),
        })
    }
}

impl Ops {
    /// Makes a bulk change, which then runs by itself. Which keys are in it is settled now.
    ///
    /// # Errors
    /// `Invalid`, also where no key or more than 10,000 are meant; `Refused` with `plan_changed`, or with `too_many_bulk_changes` where 100 are
    /// open.
    pub async fn bulk_create(&self, call: &Call, new: BulkNew) -> Result<Done<BulkView>, OpsError> {
        call.authorise(permission(new.action), None)?;
        if let Some(earlier) = self.earlier(call).await? {
            return self.bulk_again(call, earlier).await;
        }
        let plan = self.bulk_plan(call, &new).await?;
        if new.plan.is_some_and(|seen| seen != plan.digest) {
            return Err(OpsError::refused(
                "plan_changed",
                format!(
                    "it would be another plan now: {}; look at it again",
                    plan.digest
                ),
            ));
        }
        let open = vec!["running", "paused"];
        let one = store::Page {
            limit: 1,
            offset: 0,
        };
        if self.store.bulk_list(open, one).await?.total >= OPEN_MAX {
            return Err(OpsError::refused(
                "too_many_bulk_changes",
                format!("{OPEN_MAX} are running or paused: cancel those that are not needed"),
            ));
        }
        let (record, keys) = self.bulk_records(call, &new, &plan);
        let count = keys.len();
        let mut draft = draft(&record, "bulk.create");
        draft.status = 201;
        draft.detail = format!(
            "{} {count} keys in {} waves; plan {}",
            record.action.name(),
            record.sizes.len(),
            record.digest
        );
        let id = record.id;
        draft.writes.push(Write::BulkInsert {
            record: Box::new(record),
            keys,
        });
        let committed = self.commit(call, draft).await?;
        if committed.earlier.is_some() {
            return self.bulk_again(call, committed).await;
        }
        self.bulk_begins.notify_one();
        Ok(committed.done(self.bulk(call, id).await?))
    }

    fn bulk_records(
        &self,
        call: &Call,
        new: &BulkNew,
        plan: &BulkPlan,
    ) -> (BulkChange, Vec<BulkKey>) {
        let at = self.now();
        let terms = plan.terms.clone();
        let record = BulkChange {
            id: BulkId::from_uuid(self.entropy.uuid_at(at)),
            revision: Revision(1),
            action: new.action,
            filter: match &new.scope {
                BulkScope::Filter(filter) => Some(filter.clone()),
                BulkScope::Keys(_) => None,
            },
            sizes: terms.sizes,
            stop_on: terms.stop_on,
            confirm_within_s: terms.confirm_within_s,
            late: terms.late,
            digest: plan.digest,
            keys: u32::try_from(plan.keys.len()).unwrap_or(u32::MAX),
            wave: 1,
            wave_since: at,
            state: BulkState::Running,
            ended_at: None,
            stamps: Stamps::new(at, &call.principal.name),
        };
        let rows = plan.keys.iter().zip(0..).map(|(planned, place)| BulkKey {
            place,
            key: planned.key,
            label: planned.label.clone(),
            state: planned.state,
            version: planned.version,
            wave: planned.wave,
            outcome: if planned.why.is_none() {
                Outcome::Pending
            } else {
                Outcome::Skipped
            },
            why: planned.why.clone(),
            retries: 0,
            at,
        });
        (record, rows.collect())
    }

    async fn bulk_again(
        &self,
        call: &Call,
        earlier: Committed,
    ) -> Result<Done<BulkView>, OpsError> {
        let id: BulkId = earlier.subject_id("bulk/")?;
        Ok(earlier.done(self.bulk(call, id).await?))
    }

    /// One bulk change.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn bulk(&self, call: &Call, id: BulkId) -> Result<BulkView, OpsError> {
        call.authorise(Permission::Read, None)?;
        let bulk = self.bulk_record(id).await?;
        self.bulk_view(bulk).await
    }

    /// Bulk changes in one of these states (none: all), newest first.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn bulk_list(
        &self,
        call: &Call,
        states: Vec<&'static str>,
        page: Page,
    ) -> Result<Paged<BulkView>, OpsError> {
        call.authorise(Permission::Read, None)?;
        let found = self.store.bulk_list(states, page.for_store()).await?;
        let mut items = Vec::with_capacity(found.items.len());
        for bulk in found.items {
            items.push(self.bulk_view(bulk).await?);
        }
        Ok(Paged {
            total: found.total,
            items,
        })
    }

    /// Keys of a bulk change, in their order.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn bulk_keys(
        &self,
        call: &Call,
        id: BulkId,
        query: BulkKeysQuery,
        page: Page,
    ) -> Result<Paged<BulkKey>, OpsError> {
        call.authorise(Permission::Read, None)?;
        self.bulk_record(id).await?;
        let filter = BulkKeyFilter {
            wave: query.wave,
            outcomes: query.outcomes,
        };
        let found = self.store.bulk_keys(id, filter, page.for_store()).await?;
        Ok(Paged {
            total: found.total,
            items: found.items,
        })
    }

    /// Nothing more is changed until somebody resumes it; from the moment on at which this is answered.
    ///
    /// # Errors
    /// `Refused` with `not_running`; `EtagMismatch`.
    pub async fn bulk_pause(&self, call: &Call, id: BulkId) -> Result<Done<BulkView>, OpsError> {
        self.bulk_change(call, id, "bulk.pause", |ops, bulk| match bulk.state {
            BulkState::Running => {
                bulk.state = BulkState::Paused {
                    reason: PauseReason::Person,
                    message: format!("paused by {}", call.principal.name),
                    since: ops.now(),
                };
                Ok(())
            }
            BulkState::Paused { .. } => Ok(()),
            BulkState::Cancelled | BulkState::Done => Err(ended("not_running", bulk)),
        })
        .await
    }

    /// Nothing more is changed, ever; what was changed stays.
    ///
    /// # Errors
    /// `Refused` with `not_open`; `EtagMismatch`.
    pub async fn bulk_cancel(&self, call: &Call, id: BulkId) -> Result<Done<BulkView>, OpsError> {
        self.bulk_change(call, id, "bulk.cancel", |ops, bulk| match bulk.state {
            BulkState::Running | BulkState::Paused { .. } => {
                bulk.state = BulkState::Cancelled;
                bulk.ended_at = Some(ops.now());
                Ok(())
            }
            BulkState::Cancelled => Ok(()),
            BulkState::Done => Err(ended("not_open", bulk)),
        })
        .await
    }

    /// Changes a bulk change's own record. One that stays as it is is not written.
    async fn bulk_change(
        &self,
        call: &Call,
        id: BulkId,
        action: &'static str,
        change: impl Fn(&Self, &mut BulkChange) -> Result<(), OpsError> + Send + Sync,
    ) -> Result<Done<BulkView>, OpsError> {
        let before = self.bulk_record(id).await?;
        call.authorise(permission(before.action), None)?;
        if let Some(earlier) = self.earlier(call).await? {
            return self.bulk_again(call, earlier).await;
        }
        call.check_revision(before.revision)?;
        let mut bulk = before.clone();
        change(self, &mut bulk)?;
        if bulk == before {
            return Ok(self.unchanged(call).done(self.bulk_view(bulk).await?));
        }
        bulk.stamps.touch(self.now(), &call.principal.name);
        self.bulk_commit(call, draft(&bulk, action), &before, bulk)
            .await
    }

    /// Goes on. What was refused is tried again; with `leave_behind` it stays as it is, and a wave that is not confirmed is waited
    /// for no more.
    ///
    /// # Errors
    /// `Refused` with `not_paused`; `EtagMismatch`.
    pub async fn bulk_resume(
        &self,
        call: &Call,
        id: BulkId,
        leave_behind: bool,
    ) -> Result<Done<BulkView>, OpsError> {
        let before = self.bulk_record(id).await?;
        call.authorise(permission(before.action), None)?;
        if let Some(earlier) = self.earlier(call).await? {
            return self.bulk_again(call, earlier).await;
        }
        call.check_revision(before.revision)?;
        match before.state {
            BulkState::Running => {
                return Ok(self.unchanged(call).done(self.bulk_view(before).await?));
            }
            BulkState::Paused { .. } => {}
            BulkState::Cancelled | BulkState::Done => return Err(ended("not_paused", &before)),
        }
        let (mut bulk, at) = (before.clone(), self.now());
        bulk.state = BulkState::Running;
        bulk.wave_since = at;
        bulk.stamps.touch(at, &call.principal.name);
        let mut draft = draft(&bulk, "bulk.resume");
        if leave_behind {
            draft.detail.push_str("; what was refused is left behind");
            let view = self.bulk_view(before.clone()).await?;
            let place = usize::try_from(bulk.wave.saturating_sub(1)).unwrap_or(usize::MAX);
            let wave = view.waves.get(place).copied().unwrap_or_default();
            let last = u32::try_from(bulk.sizes.len()).unwrap_or(u32::MAX);
            if wave.pending == 0 && bulk.wave < last {
                bulk.wave = bulk.wave.saturating_add(1);
            } else if wave.pending == 0 {
                bulk.state = BulkState::Done;
                bulk.ended_at = Some(at);
            }
        } else {
            draft.writes = self.bulk_retries(&bulk).await?;
        }
        let done = self.bulk_commit(call, draft, &before, bulk).await?;
        self.bulk_begins.notify_one();
        Ok(done)
    }

    /// Rows that are to be tried again, as writes.
    async fn bulk_retries(&self, bulk: &BulkChange) -> Result<Vec<Write>, OpsError> {
        let filter = BulkKeyFilter {
            wave: None,
            outcomes: vec![Outcome::Refused],
        };
        let (mut writes, mut page) = (Vec::new(), Page::LARGEST);
        loop {
            let found = self
                .store
                .bulk_keys(bulk.id, filter.clone(), page.for_store())
                .await?
                .items;
            let is_last = found.len() < usize::try_from(page.limit).unwrap_or(usize::MAX);
            writes.extend(found.into_iter().map(|row| Write::BulkKeyPut {
                bulk: bulk.id,
                expected: row.outcome,
                row: Box::new(BulkKey {
                    // A wave that is over is not gone back to.
                    outcome: if row.wave == bulk.wave {
                        Outcome::Pending
                    } else {
                        Outcome::Changing
                    },
                    why: None,
                    retries: row.retries.saturating_add(1),
                    at: self.now(),
                    ..row
                }),
            }));
            if is_last {
                return Ok(writes);
            }
            page.offset = page.offset.saturating_add(page.limit);
        }
    }

    /// Writes the next state of a bulk change, before whatever else the draft holds.
    pub(crate) async fn bulk_commit(
        &self,
        call: &Call,
        mut draft: Draft,
        before: &BulkChange,
        mut next: BulkChange,
    ) -> Result<Done<BulkView>, OpsError> {
        next.revision = before.revision.next();
        draft.writes.insert(
            0,
            Write::BulkUpdate {
                record: Box::new(next.clone()),
                expected: before.revision,
            },
        );
        match self.commit(call, draft).await {
            Ok(committed) => Ok(committed.done(self.bulk_view(next).await?)),
            Err(OpsError::Conflict { .. }) => Err(OpsError::EtagMismatch {
                current: self.bulk_record(before.id).await?.revision,
            }),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn bulk_record(&self, id: BulkId) -> Result<BulkChange, OpsError> {
        let found = self.store.bulk(id).await?;
        found.ok_or_else(|| OpsError::not_found("bulk", id))
    }

    pub(crate) async fn bulk_view(&self, bulk: BulkChange) -> Result<BulkView, OpsError> {
        let mut tallies: BTreeMap<u32, Tally> = BTreeMap::new();
        for count in self.store.bulk_counts(bulk.id).await? {
            // Nothing more is coming: who was not begun is not.
            let is_over = bulk.state == BulkState::Cancelled;
            let outcome = if is_over && count.outcome == Outcome::Pending {
                Outcome::Skipped
            } else {
                count.outcome
            };
            let tally = tallies.entry(count.wave).or_default();
            tally.add(outcome, count.count, count.last);
        }
        let left_out = tallies.remove(&0).unwrap_or_default();
        let waves = (1..).take(bulk.sizes.len());
        let waves = waves
            .map(|wave| tallies.get(&wave).copied().unwrap_or_default())
            .collect();
        let filter = BulkKeyFilter {
            wave: None,
            outcomes: vec![Outcome::Refused],
        };
        let page = store::Page {
            limit: NAMED_MAX,
            offset: 0,
        };
        let refused = self.store.bulk_keys(bulk.id, filter, page).await?.items;
        Ok(BulkView {
            bulk,
            waves,
            left_out: left_out.skipped,
            refused,
        })
    }
}

pub(crate) fn draft(bulk: &BulkChange, action: &'static str) -> Draft {
    let (id, wave) = (bulk.id, bulk.wave);
    let of = bulk.sizes.len();
    let detail = format!("{}, wave {wave} of {of}", bulk.action.name());
    Draft::new(action, format!("bulk/{id}"), detail)
}

fn ended(code: &str, bulk: &BulkChange) -> OpsError {
    OpsError::refused(code, format!("the bulk change is {}", bulk.state.name()))
}
