//! Bodies of bulk changes.

use crate::coordinator::api::{answer, key_body};
use crate::coordinator::ops::bulk::{BulkTerms, BulkView};
use crate::coordinator::ops::bulk_plan::{BulkPlan, PlannedKey};
use crate::model::bulk::{BulkFilter, BulkKey, BulkState, Tally, Why};
use crate::rest::bulk as rest;

/// What one would do.
pub(crate) fn plan(plan: &BulkPlan) -> rest::BulkPlan {
    let count = |verdict: &str| count(plan.keys.iter().filter(|key| verdict_of(key) == verdict));
    let waves = plan.terms.sizes.iter().zip(1..);
    rest::BulkPlan {
        action: plan.action,
        terms: terms(&plan.terms),
        digest: plan.digest.to_string(),
        change: count("change"),
        nothing_to_do: count("nothing_to_do"),
        refused: count("refused"),
        wave_keys: waves
            .map(|(_, wave)| self::count(plan.keys.iter().filter(|key| key.wave == wave)))
            .collect(),
        managed_keys: plan.keys.iter().map(planned).collect(),
    }
}

fn count<T>(items: impl Iterator<Item = T>) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}

const fn verdict_of(key: &PlannedKey) -> &'static str {
    match (&key.why, key.is_refused) {
        (None, _) => "change",
        (Some(_), true) => "refused",
        (Some(_), false) => "nothing_to_do",
    }
}

fn planned(key: &PlannedKey) -> rest::PlannedKey {
    let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    rest::PlannedKey {
        managed_key: key_body::reference(key.key, &key.label),
        state: key.state,
        verdict: verdict_of(key).to_owned(),
        wave: key.wave,
        keystores: number(key.keystores),
        steps: number(key.steps),
        reason: key.why.as_ref().map(reason),
        notes: key.notes.clone(),
        digest: key.digest.to_string(),
    }
}

fn reason(why: &Why) -> rest::Reason {
    rest::Reason {
        code: why.code.clone(),
        message: why.message.clone(),
    }
}

fn terms(terms: &BulkTerms) -> rest::BulkTerms {
    rest::BulkTerms {
        waves: terms.sizes.clone(),
        stop_on: terms.stop_on,
        confirm_within_s: terms.confirm_within_s,
        late: terms.late,
    }
}

/// A bulk change.
pub(crate) fn body(view: &BulkView) -> rest::Bulk {
    let bulk = &view.bulk;
    let mut total = rest::Counts {
        keys: view.left_out,
        skipped: view.left_out,
        ..rest::Counts::default()
    };
    let mut progress = Vec::new();
    for ((size, tally), wave) in bulk.sizes.iter().zip(&view.waves).zip(1..) {
        let counts = counts(tally);
        add(&mut total, counts);
        progress.push(rest::Wave {
            wave,
            size: size.clone(),
            counts,
        });
    }
    rest::Bulk {
        id: bulk.id.to_string(),
        action: bulk.action,
        state: bulk.state.name().to_owned(),
        paused: match &bulk.state {
            BulkState::Paused {
                reason,
                message,
                since,
            } => Some(rest::Paused {
                reason: *reason,
                message: message.clone(),
                since: answer::time(*since),
            }),
            BulkState::Running | BulkState::Cancelled | BulkState::Done => None,
        },
        filter: bulk.filter.as_ref().map(filter),
        terms: rest::BulkTerms {
            waves: bulk.sizes.clone(),
            stop_on: bulk.stop_on,
            confirm_within_s: bulk.confirm_within_s,
            late: bulk.late,
        },
        digest: bulk.digest.to_string(),
        wave: bulk.wave,
        progress,
        total,
        refused: view.refused.iter().map(key).collect(),
        ended_at: bulk.ended_at.map(answer::time).unwrap_or_default(),
        stamps: answer::stamps(
            &bulk.stamps,
            format!("/api/lockstep/v1/bulk_changes/{}", bulk.id),
        ),
    }
}

fn counts(tally: &Tally) -> rest::Counts {
    rest::Counts {
        keys: tally.keys(),
        done: tally.done,
        changing: tally.changing,
        pending: tally.pending,
        refused: tally.refused,
        skipped: tally.skipped,
    }
}

const fn add(total: &mut rest::Counts, more: rest::Counts) {
    total.keys = total.keys.saturating_add(more.keys);
    total.done = total.done.saturating_add(more.done);
    total.changing = total.changing.saturating_add(more.changing);
    total.pending = total.pending.saturating_add(more.pending);
    total.refused = total.refused.saturating_add(more.refused);
    total.skipped = total.skipped.saturating_add(more.skipped);
}

fn filter(filter: &BulkFilter) -> rest::BulkFilter {
    let states: Vec<&str> = filter.states.iter().map(|state| state.name()).collect();
    rest::BulkFilter {
        vault: filter.vault.map(|id| id.to_string()),
        state: (!states.is_empty()).then(|| states.join(",")),
        label: filter.label.clone(),
        template: filter.template.map(|id| id.to_string()),
        keystore: filter.keystore.map(|id| id.to_string()),
    }
}

/// One key.
pub(crate) fn key(row: &BulkKey) -> rest::BulkKey {
    rest::BulkKey {
        managed_key: key_body::reference(row.key, &row.label),
        wave: row.wave,
        outcome: row.outcome,
        reason: row.why.as_ref().map(reason),
        retries: row.retries,
        since: answer::time(row.at),
    }
}
