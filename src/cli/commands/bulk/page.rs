//! What people see of bulk changes.

use crate::cli::table::{Table, or_dash, words};
use crate::model::text::printable;
use crate::rest::bulk::{Bulk, BulkKey, BulkPlan, BulkTerms, Counts, PlannedKey, Reason};

/// Keys that a plan names beyond those that would not go: it is for reading.
const NAMED_MAX: usize = 40;

/// What one would do.
pub(in crate::cli::commands::bulk) fn plan(plan: &BulkPlan) -> String {
    let action = words(plan.action.name());
    let mut lines = vec![format!(
        "{action}: {} to change, {} with nothing to do, {} refused",
        plan.change, plan.nothing_to_do, plan.refused
    )];
    lines.push(terms(&plan.terms));
    let mut table = Table::new(&[
        "WAVE",
        "KEY",
        "STATE",
        "KEYSTORES",
        "STEPS",
        "DIGEST",
        "NOTE",
    ]);
    let (told, calm): (Vec<&PlannedKey>, Vec<&PlannedKey>) = plan
        .managed_keys
        .iter()
        .partition(|key| key.verdict == "refused" || !key.notes.is_empty());
    let (going, idle): (Vec<&PlannedKey>, Vec<&PlannedKey>) =
        calm.into_iter().partition(|key| key.verdict == "change");
    let shown = told.into_iter().chain(going).chain(idle);
    for key in shown.take(NAMED_MAX) {
        table.row(planned(key));
    }
    lines.extend([String::new(), table.render()]);
    let left = plan.managed_keys.len().saturating_sub(NAMED_MAX);
    if left > 0 {
        lines.push(format!("and {left} more: see --output json"));
    }
    lines.extend([String::new(), format!("plan {}", plan.digest)]);
    lines.join("\n")
}

fn planned(key: &PlannedKey) -> Vec<String> {
    let wave = if key.wave == 0 {
        "-".to_owned()
    } else {
        key.wave.to_string()
    };
    let mut notes: Vec<String> = key.reason.as_ref().map(told).into_iter().collect();
    notes.extend(key.notes.iter().map(|note| printable(note)));
    vec![
        wave,
        key.managed_key.label.clone(),
        words(key.state.name()),
        key.keystores.to_string(),
        // Of a version that is not made yet nobody knows them.
        match key.steps {
            0 => "-".to_owned(),
            steps => steps.to_string(),
        },
        key.digest.chars().take(16).collect(),
        or_dash(&notes.join("; ")),
    ]
}

fn told(reason: &Reason) -> String {
    let message = printable(&reason.message);
    if reason.code == "nothing_to_do" {
        message
    } else {
        format!("{message} [{}]", printable(&reason.code))
    }
}

fn terms(terms: &BulkTerms) -> String {
    let sizes: Vec<String> = terms.waves.iter().map(ToString::to_string).collect();
    let count = match sizes.len() {
        1 => "one wave".to_owned(),
        count => format!("{count} waves"),
    };
    let late = match terms.late.name() {
        "pause" => "else it pauses",
        _ => "then it goes on",
    };
    format!(
        "{count} ({}); stops on: {}; each wave has {} s to be confirmed, {late}",
        sizes.join(", "),
        words(terms.stop_on.name()),
        terms.confirm_within_s
    )
}

/// How far one is, in a line.
pub(in crate::cli::commands::bulk) fn progress(bulk: &Bulk) -> String {
    let wave = usize::try_from(bulk.wave.saturating_sub(1)).unwrap_or(usize::MAX);
    let of_wave = bulk.progress.get(wave).map(|wave| wave.counts);
    let counts = of_wave.unwrap_or_default();
    format!(
        "{}, wave {} of {}: {}",
        bulk.state,
        bulk.wave,
        bulk.progress.len(),
        sentence(&counts)
    )
}

fn sentence(counts: &Counts) -> String {
    let parts = [
        (counts.changing, "changing"),
        (counts.pending, "pending"),
        (counts.refused, "refused"),
        (counts.skipped, "skipped"),
    ];
    let mut told = vec![format!("{} of {} done", counts.done, counts.keys)];
    let some = parts.iter().filter(|(count, _)| *count > 0);
    told.extend(some.map(|(count, what)| format!("{count} {what}")));
    told.join(", ")
}

/// One, with its waves and what was refused.
pub(in crate::cli::commands::bulk) fn bulk(bulk: &Bulk) -> String {
    let action = words(bulk.action.name());
    let mut lines = vec![format!(
        "{action} {}: {}, {}",
        bulk.id,
        bulk.state.to_uppercase(),
        sentence(&bulk.total)
    )];
    if let Some(paused) = &bulk.paused {
        let reason = words(paused.reason.name());
        lines.push(format!("paused ({reason}): {}", printable(&paused.message)));
    }
    lines.push(terms(&bulk.terms));
    let header = [
        "WAVE", "SIZE", "KEYS", "DONE", "CHANGING", "PENDING", "REFUSED", "SKIPPED",
    ];
    let mut table = Table::new(&header);
    for wave in &bulk.progress {
        let counts = &wave.counts;
        let mut cells = vec![wave.wave.to_string(), wave.size.to_string()];
        let numbers = [
            counts.keys,
            counts.done,
            counts.changing,
            counts.pending,
            counts.refused,
            counts.skipped,
        ];
        cells.extend(numbers.map(|number| number.to_string()));
        table.row(cells);
    }
    lines.extend([String::new(), table.render()]);
    if !matches!(bulk.state.as_str(), "running" | "paused") && bulk.total.changing > 0 {
        let count = bulk.total.changing;
        lines.extend([
            String::new(),
            format!("{count} were not confirmed when it ended: key status says more of each"),
        ]);
    }
    if !bulk.refused.is_empty() {
        lines.push(String::new());
    }
    for key in &bulk.refused {
        let why = key.reason.as_ref().map(told).unwrap_or_default();
        lines.push(format!("{}: {why}", printable(&key.managed_key.label)));
    }
    let more = usize::try_from(bulk.total.refused).unwrap_or(usize::MAX);
    let more = more.saturating_sub(bulk.refused.len());
    if more > 0 {
        lines.push(format!("and {more} more: bulk show --keys=refused"));
    }
    lines.join("\n")
}

/// Columns of the list.
pub(in crate::cli::commands::bulk) const HEADER: [&str; 6] =
    ["ID", "ACTION", "STATE", "WAVE", "KEYS", "MADE"];

/// A row of the list.
pub(in crate::cli::commands::bulk) fn row(bulk: &Bulk) -> Vec<String> {
    vec![
        bulk.id.clone(),
        words(bulk.action.name()),
        match &bulk.paused {
            Some(paused) => format!("paused ({})", words(paused.reason.name())),
            None => bulk.state.clone(),
        },
        format!("{} of {}", bulk.wave, bulk.progress.len()),
        sentence(&bulk.total),
        format!("{} by {}", bulk.stamps.created_at, bulk.stamps.created_by),
    ]
}

/// Columns of its keys.
pub(in crate::cli::commands::bulk) const KEY_HEADER: [&str; 4] = ["WAVE", "KEY", "OUTCOME", "WHY"];

/// One key.
pub(in crate::cli::commands::bulk) fn key_row(key: &BulkKey) -> Vec<String> {
    vec![
        if key.wave == 0 {
            "-".to_owned()
        } else {
            key.wave.to_string()
        },
        key.managed_key.label.clone(),
        key.outcome.name().to_owned(),
        or_dash(&key.reason.as_ref().map(told).unwrap_or_default()),
    ]
}
