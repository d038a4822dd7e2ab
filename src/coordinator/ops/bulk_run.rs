//! Bulk changes, carried on by any coordinator. `decide::bulk` says what is next; each key goes the way of every change, and its
//! row is written in the same commit, which holds only while the bulk change runs: so a key is changed once, whoever does it, and
//! none after a stop.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Monotonic;
use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::{Call, Principal, Rights};
use crate::coordinator::ops::bulk::draft;
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::lists::Page;
use crate::coordinator::ops::status::Directory;
use crate::coordinator::store::{self, BulkKeyFilter, Change, Write};
use crate::decide::bulk::{Judged, Next, Turn, judge, next, stops, turn};
use crate::model::bulk::{
    BulkAction, BulkChange, BulkKey, BulkState, OPEN_MAX, Outcome, PauseReason, Why,
};
use crate::model::ids::BulkId;
use crate::model::key::ManagedKey;

/// Between looks, where news of keystores come and come.
const TICK: Duration = Duration::from_millis(500);

/// The same where no news comes: times run out without any.
const TICK_QUIET: Duration = Duration::from_secs(5);

/// How long one step may begin keys, and look at those that were begun: then it is seen again whether it still runs.
const STEP: Duration = Duration::from_secs(1);

/// Keys that are looked at together.
const LOOK_MAX: u32 = 200;

/// Who acts where no person does, in the audit log.
const ACTOR: &str = "lockstep: bulk change";

/// The row of a bulk change that is written with a key's change.
#[derive(Debug, Clone)]
pub(crate) struct Riding {
    pub(crate) bulk: BulkId,
    row: BulkKey,
}

impl Riding {
    /// As a write: from pending to changing, or nothing at all.
    pub(crate) fn row(&self) -> Write {
        Write::BulkKeyPut {
            bulk: self.bulk,
            row: Box::new(self.row.clone()),
            expected: Outcome::Pending,
        }
    }
}

/// Carries on what runs, until it is stopped.
pub async fn run(ops: std::sync::Arc<Ops>, stop: CancellationToken) {
    let mut news = ops.fleet.changes();
    loop {
        news.mark_unchanged();
        let passed = tokio::select! {
            () = stop.cancelled() => return,
            passed = ops.bulk_pass() => passed,
        };
        match passed {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "cannot carry on a bulk change"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = ops.bulk_begins.notified() => {}
            () = heard(&mut news) => {}
        }
    }
}

/// Waits for news, not for every single one, and not for ever.
async fn heard(news: &mut watch::Receiver<u64>) {
    let began = Monotonic::now();
    let _quiet = tokio::time::timeout(TICK_QUIET, news.changed()).await;
    tokio::time::sleep(TICK.saturating_sub(began.elapsed())).await;
}

impl Ops {
    /// One step of each bulk change that runs, side by side, and a look at what is on its way in those that are paused; true:
    /// there is more to do at once. May run any time, by any coordinator.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn bulk_pass(&self) -> Result<bool, OpsError> {
        let page = store::Page {
            limit: u32::try_from(OPEN_MAX).unwrap_or(u32::MAX),
            offset: 0,
        };
        let open = vec!["running", "paused"];
        let open = self.store.bulk_list(open, page).await?.items;
        let mut steps = JoinSet::new();
        for bulk in open {
            let ops = self.clone();
            steps.spawn(async move {
                if bulk.state == BulkState::Running {
                    ops.bulk_step(bulk).await
                } else {
                    ops.bulk_look(&bulk).await.map(|_looked| false)
                }
            });
        }
        let mut is_more = false;
        let mut failed = None;
        while let Some(stepped) = steps.join_next().await {
            match stepped {
                Ok(Ok(more)) => is_more |= more,
                // Another coordinator, or a person, was faster: what is next then is seen by the next pass.
                Ok(Err(
                    OpsError::Conflict { .. }
                    | OpsError::EtagMismatch { .. }
                    | OpsError::NotFound { .. },
                )) => is_more = true,
                Ok(Err(error)) => failed = Some(error),
                Err(broken) => {
                    failed = Some(OpsError::Unavailable {
                        detail: broken.to_string(),
                    });
                }
            }
        }
        failed.map_or(Ok(is_more), Err)
    }

    async fn bulk_step(&self, bulk: BulkChange) -> Result<bool, OpsError> {
        if self.fleet.is_behind() && !bulk.action.reduces_use() {
            let message = "the store is older than its agents: see lockstep recover, then resume";
            let message = message.to_owned();
            self.bulk_stop(&bulk, PauseReason::Restored, message, None)
                .await?;
            return Ok(false);
        }
        if self.bulk_look(&bulk).await? == Looked::Stopped {
            return Ok(false);
        }
        let view = self.bulk_view(bulk).await?;
        let bulk = view.bulk;
        let place = usize::try_from(bulk.wave.saturating_sub(1)).unwrap_or(usize::MAX);
        let wave = view.waves.get(place).copied().unwrap_or_default();
        match next(&bulk, &wave, self.now()) {
            Next::Wait => Ok(false),
            Next::Begin(count) => self.bulk_begin(&bulk, count).await,
            Next::Advance => {
                let mut record = bulk.clone();
                record.wave = bulk.wave.saturating_add(1);
                record.wave_since = self.now();
                let draft = draft(&record, "bulk.advance");
                self.bulk_commit(&own_call(), draft, &bulk, record).await?;
                Ok(true)
            }
            Next::End => {
                let mut record = bulk.clone();
                record.state = BulkState::Done;
                record.ended_at = Some(self.now());
                let draft = draft(&record, "bulk.end");
                self.bulk_commit(&own_call(), draft, &bulk, record).await?;
                Ok(false)
            }
            Next::NotConfirmed => {
                let mut message = format!(
                    "wave {} was not confirmed within {} s: {} of its keys not yet",
                    bulk.wave, bulk.confirm_within_s, wave.changing
                );
                if let Some(first) = self.bulk_unconfirmed(&bulk).await? {
                    message.push_str(&format!(", first {first}"));
                }
                self.bulk_stop(&bulk, PauseReason::NotConfirmed, message, None)
                    .await?;
                Ok(false)
            }
        }
    }

    /// The first key of the wave that is not confirmed, and what its keystore says.
    async fn bulk_unconfirmed(&self, bulk: &BulkChange) -> Result<Option<String>, OpsError> {
        let filter = BulkKeyFilter {
            wave: Some(bulk.wave),
            outcomes: vec![Outcome::Changing],
        };
        let one = store::Page {
            limit: 1,
            offset: 0,
        };
        let found = self.store.bulk_keys(bulk.id, filter, one).await?.items;
        let Some(row) = found.first() else {
            return Ok(None);
        };
        let (_judged, why) = self
            .bulk_judged(bulk, row, &mut Directory::default())
            .await?;
        Ok(why.map(|why| format!("{}: {}", row.label, why.message)))
    }

    /// Pauses it, with the row that made it so.
    async fn bulk_stop(
        &self,
        bulk: &BulkChange,
        reason: PauseReason,
        message: String,
        row: Option<Write>,
    ) -> Result<(), OpsError> {
        let mut record = bulk.clone();
        let mut draft = draft(bulk, "bulk.stop");
        draft.detail = format!("{}; {message}", draft.detail);
        record.state = BulkState::Paused {
            reason,
            message,
            since: self.now(),
        };
        record.revision = bulk.revision.next();
        // The row first: it may be written only while the bulk change runs.
        draft.writes.extend(row);
        draft.writes.push(Write::BulkUpdate {
            record: Box::new(record),
            expected: bulk.revision,
        });
        self.commit(&own_call(), draft).await.map(|_committed| ())
    }

    /// Begins keys of the wave. True: something was done.
    async fn bulk_begin(&self, bulk: &BulkChange, count: u32) -> Result<bool, OpsError> {
        let filter = BulkKeyFilter {
            wave: Some(bulk.wave),
            outcomes: vec![Outcome::Pending],
        };
        let page = store::Page {
            limit: count,
            offset: 0,
        };
        let mut rows = self.store.bulk_keys(bulk.id, filter, page).await?.items;
        // Several coordinators begin at different places: else each key is a race.
        let from = self.entropy.uuid().as_u128() % u128::from(count.max(1));
        let from = usize::try_from(from).unwrap_or(0);
        if from < rows.len() && self.store.sharing().is_some() {
            rows.rotate_left(from);
        }
        let began = Monotonic::now();
        for row in rows {
            if !self.bulk_key_begin(bulk, row).await? || began.elapsed() > STEP {
                break;
            }
        }
        Ok(true)
    }

    /// Begins one key; false: nothing more for now.
    async fn bulk_key_begin(&self, bulk: &BulkChange, row: BulkKey) -> Result<bool, OpsError> {
        let Some(key) = self.store.key(row.key).await? else {
            return self
                .bulk_skip(bulk, row, "removed", "its record was removed")
                .await;
        };
        let is_retry = row.retries > 0;
        let planned = (row.state, row.version);
        match turn(bulk.action, planned, (key.state, key.version_number)) {
            Turn::Already if !is_retry => {
                let message = "somebody else did it meanwhile";
                return self.bulk_skip(bulk, row, "already", message).await;
            }
            Turn::Changed => {
                let message = format!(
                    "it was {} when this was planned, and is {} now",
                    row.state.name(),
                    key.state.name()
                );
                return self
                    .bulk_skip(bulk, row, "changed_meanwhile", &message)
                    .await;
            }
            Turn::Act | Turn::Already => {}
        }
        let begun = BulkKey {
            outcome: Outcome::Changing,
            at: self.now(),
            ..row.clone()
        };
        let mut riding = self.clone();
        riding.riding = Some(Riding {
            bulk: bulk.id,
            row: begun.clone(),
        });
        let call = Call {
            principal: Principal {
                name: bulk.stamps.created_by.clone(),
                rights: Rights::All,
            },
            if_match: Some(key.revision),
            idempotency: None,
        };
        match riding.bulk_act(&call, bulk.action, &key, is_retry).await {
            Ok(()) => {}
            Err(
                error @ (OpsError::EtagMismatch { .. }
                | OpsError::Conflict { .. }
                | OpsError::NotFound { .. }
                | OpsError::Unavailable { .. }
                | OpsError::Full),
            ) => return Err(error),
            Err(error) => return self.bulk_refused(bulk, row, &error).await,
        }
        // Where nothing was left to write, the row was not written either.
        let now = self.store.bulk_key(bulk.id, row.place).await?;
        if now.is_some_and(|now| now.outcome == Outcome::Pending) {
            self.bulk_put(bulk.id, vec![(begun, Outcome::Pending)])
                .await?;
        }
        Ok(true)
    }

    /// The action; tried again where it is so already, the keystores that refused are asked again.
    async fn bulk_act(
        &self,
        call: &Call,
        action: BulkAction,
        key: &ManagedKey,
        is_retry: bool,
    ) -> Result<(), OpsError> {
        let id = key.id;
        let is_there = match action.transition() {
            Some(transition) => key.state.after(transition) == Ok(key.state),
            None => is_retry && action == BulkAction::Rotate,
        };
        if is_there && is_retry {
            return self.key_sync(call, id).await.map(|_done| ());
        }
        let done = match action {
            BulkAction::Sync => self.key_sync(call, id).await?,
            BulkAction::Rotate => self.key_rotate(call, id).await?,
            BulkAction::UpdateFromTemplate => {
                self.key_update_from_template(call, id, false).await?
            }
            BulkAction::Activate
            | BulkAction::Deactivate
            | BulkAction::Compromise
            | BulkAction::Destroy => {
                let Some(transition) = action.transition() else {
                    return Ok(());
                };
                self.key_act(call, id, transition).await?
            }
        };
        if is_retry && done.value.key.revision == key.revision && action != BulkAction::Sync {
            return self.key_sync(call, id).await.map(|_done| ());
        }
        Ok(())
    }

    async fn bulk_skip(
        &self,
        bulk: &BulkChange,
        row: BulkKey,
        code: &str,
        message: &str,
    ) -> Result<bool, OpsError> {
        let skipped = BulkKey {
            outcome: Outcome::Skipped,
            why: Some(Why {
                code: code.to_owned(),
                message: message.to_owned(),
            }),
            at: self.now(),
            ..row
        };
        self.bulk_put(bulk.id, vec![(skipped, Outcome::Pending)])
            .await?;
        Ok(true)
    }

    /// The coordinator itself refused a key. False: that stops the whole.
    async fn bulk_refused(
        &self,
        bulk: &BulkChange,
        row: BulkKey,
        error: &OpsError,
    ) -> Result<bool, OpsError> {
        let why = Why {
            code: error.code().to_owned(),
            message: error.to_string(),
        };
        let reason = if why.code == "restored_from_backup" {
            PauseReason::Restored
        } else {
            PauseReason::Refused
        };
        self.bulk_ended(bulk, row, Judged::Refused, why, reason)
            .await
    }

    /// Writes that a key was refused or is out of step, and pauses the whole if that stops it: then false.
    async fn bulk_ended(
        &self,
        bulk: &BulkChange,
        row: BulkKey,
        judged: Judged,
        why: Why,
        reason: PauseReason,
    ) -> Result<bool, OpsError> {
        let expected = row.outcome;
        let message = format!("{}: {}", row.label, why.message);
        let refused = BulkKey {
            outcome: Outcome::Refused,
            why: Some(why),
            at: self.now(),
            ..row
        };
        let is_stopped = stops(bulk.stop_on, judged) || reason == PauseReason::Restored;
        if is_stopped && bulk.state == BulkState::Running {
            let write = put(bulk.id, refused, expected);
            self.bulk_stop(bulk, reason, message, Some(write)).await?;
            return Ok(false);
        }
        self.bulk_put(bulk.id, vec![(refused, expected)]).await?;
        Ok(true)
    }

    /// Looks at the keys that are on their way.
    async fn bulk_look(&self, bulk: &BulkChange) -> Result<Looked, OpsError> {
        let filter = BulkKeyFilter {
            wave: None,
            outcomes: vec![Outcome::Changing],
        };
        let mut page = Page {
            limit: LOOK_MAX,
            offset: 0,
        };
        let began = Monotonic::now();
        let mut directory = Directory::default();
        let one = store::Page {
            limit: 1,
            offset: 0,
        };
        let total = self
            .store
            .bulk_keys(bulk.id, filter.clone(), one)
            .await?
            .total;
        // Where there are more than one step sees, each begins at another place.
        let pages = total.div_ceil(u64::from(LOOK_MAX)).max(1);
        let from = self.entropy.uuid().as_u128() % u128::from(pages);
        page.offset = u32::try_from(from).unwrap_or(0).saturating_mul(LOOK_MAX);
        loop {
            let keys = self
                .store
                .bulk_keys(bulk.id, filter.clone(), page.for_store());
            let found = keys.await?.items;
            let is_last = found.len() < usize::try_from(LOOK_MAX).unwrap_or(usize::MAX);
            let mut confirmed = Vec::new();
            for row in found {
                match self.bulk_judged(bulk, &row, &mut directory).await? {
                    (Judged::Confirmed, _) => confirmed.push(row),
                    (Judged::Waiting, _) => {}
                    (judged, why) => {
                        if !self.bulk_judged_badly(bulk, row, judged, why).await? {
                            return Ok(Looked::Stopped);
                        }
                    }
                }
            }
            let count = u32::try_from(confirmed.len()).unwrap_or(u32::MAX);
            self.bulk_confirmed(bulk, confirmed).await?;
            if is_last || began.elapsed() > STEP {
                return Ok(Looked::Goes);
            }
            // Those that were confirmed are in the list no more.
            page.offset = page.offset.saturating_add(LOOK_MAX.saturating_sub(count));
        }
    }

    async fn bulk_confirmed(&self, bulk: &BulkChange, rows: Vec<BulkKey>) -> Result<(), OpsError> {
        if rows.is_empty() {
            return Ok(());
        }
        let at = self.now();
        let done = rows.into_iter().map(|row| {
            let done = BulkKey {
                outcome: Outcome::Done,
                at,
                ..row
            };
            (done, Outcome::Changing)
        });
        self.bulk_put(bulk.id, done.collect()).await
    }

    /// What its keystores say of a key, and the first of them that says no.
    async fn bulk_judged(
        &self,
        bulk: &BulkChange,
        row: &BulkKey,
        directory: &mut Directory,
    ) -> Result<(Judged, Option<Why>), OpsError> {
        let Some(key) = self.store.key(row.key).await? else {
            return Ok((Judged::Confirmed, None));
        };
        let is_coming = key.coming.is_some() && bulk.action == BulkAction::Rotate;
        let view = self.key_view(key, directory).await?;
        let rows = view
            .all_rows()
            .map(|(_, row)| (&row.status, row.is_settled()));
        let judged = judge(rows, is_coming);
        let worst = view.all_rows().find(|(_, row)| {
            let alone = judge([(&row.status, row.is_settled())], false);
            alone == judged
        });
        let why = worst.map(|(_, row)| Why {
            code: row.differences.first().map_or_else(
                || row.status.name().to_owned(),
                |first| first.difference.reason.name().to_owned(),
            ),
            message: format!("{}: {}", row.name, row.message()),
        });
        Ok((judged, why))
    }

    /// A keystore refused a key, or it is out of step there. False: that stops the whole.
    async fn bulk_judged_badly(
        &self,
        bulk: &BulkChange,
        row: BulkKey,
        judged: Judged,
        why: Option<Why>,
    ) -> Result<bool, OpsError> {
        let reason = match judged {
            Judged::Refused => PauseReason::Refused,
            // It may still come right: only what stops is written.
            Judged::OutOfStep if !stops(bulk.stop_on, judged) => return Ok(true),
            Judged::OutOfStep | Judged::Confirmed | Judged::Waiting => PauseReason::OutOfStep,
        };
        let why = why.unwrap_or_else(|| Why {
            code: "out_of_step".to_owned(),
            message: "not as wanted".to_owned(),
        });
        self.bulk_ended(bulk, row, judged, why, reason).await
    }

    /// Writes rows; each from the outcome that it had.
    async fn bulk_put(&self, bulk: BulkId, rows: Vec<(BulkKey, Outcome)>) -> Result<(), OpsError> {
        let writes = rows
            .into_iter()
            .map(|(row, expected)| put(bulk, row, expected));
        let change = Change {
            writes: writes.collect(),
            ..Change::default()
        };
        self.store.commit(change).await?;
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looked {
    Goes,
    Stopped,
}

fn put(bulk: BulkId, row: BulkKey, expected: Outcome) -> Write {
    Write::BulkKeyPut {
        bulk,
        row: Box::new(row),
        expected,
    }
}

fn own_call() -> Call {
    Call {
        principal: Principal {
            name: ACTOR.to_owned(),
            rights: Rights::All,
        },
        if_match: None,
        idempotency: None,
    }
}
