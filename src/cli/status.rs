//! What is true of a key, keystore by keystore, at a glance. "Deactivated" alone is said only when all is in step.

use crate::cli::table::{Table, age, or_dash, words};
use crate::model::difference::Weight;
use crate::model::lifecycle::ManagedState;
use crate::model::observed::ProofKind;
use crate::model::text::printable;
use crate::model::vault::UnixMs;
use crate::rest::managed_key::ManagedKey;
use crate::rest::status::{Difference, Phase, Progress, StatusInKeystore};

/// A key with all of its keystores.
#[must_use]
pub fn page(key: &ManagedKey, now: UnixMs) -> String {
    let headline = headline(key);
    if key.status_in_keystores.is_empty() {
        return headline;
    }
    let mut parts = vec![
        headline,
        String::new(),
        table(&key.status_in_keystores, now),
    ];
    let reasons = reasons(&key.status_in_keystores);
    if !reasons.is_empty() {
        parts.push(String::new());
        parts.extend(reasons);
    }
    if let Some(coming) = &key.coming_version {
        let message = printable(&coming.message);
        parts.extend([
            String::new(),
            format!("Version {}: {message}.", coming.version),
        ]);
    }
    for version in &key.unsettled_versions {
        let state = state_words(version.state);
        parts.extend([
            String::new(),
            format!("Version {}, wanted {state}:", version.version),
            table(&version.status_in_keystores, now),
        ]);
        parts.extend(self::reasons(&version.status_in_keystores));
    }
    parts.join("\n")
}

/// A key in one sentence.
#[must_use]
pub fn headline(key: &ManagedKey) -> String {
    let progress = &key.progress;
    let (label, state) = (printable(&key.label), key_state(key));
    let (confirmed, total) = (progress.confirmed, progress.total);
    let count = match total {
        0 => "on no keystore yet".to_owned(),
        1 => format!("{confirmed} of 1 keystore confirmed"),
        total => format!("{confirmed} of {total} keystores confirmed"),
    };
    match progress.phase {
        Phase::InStep => format!("{label}: {state}, in step ({count})"),
        Phase::Changing => format!("{label}: changing to {state}, {count}"),
        Phase::OutOfStep => format!("{label}: wanted {state}, OUT OF STEP, {count}"),
        Phase::Unknown => format!("{label}: wanted {state}, UNKNOWN, {count}"),
    }
}

/// A key's state in words: a destruction that is held is none yet.
#[must_use]
pub fn key_state(key: &ManagedKey) -> String {
    match &key.destruction_held_until {
        None => state_words(key.state),
        Some(day) => format!("disabled, to be destroyed on {}", printable(day)),
    }
}

/// A state in words.
#[must_use]
pub fn state_words(state: ManagedState) -> String {
    words(&state.name().replace("pre_", "pre-"))
}

/// The phase with its count, for lists.
#[must_use]
pub fn phase(progress: &Progress) -> String {
    let name = words(progress.phase.name());
    match (progress.phase, progress.total) {
        (_, 0) => name,
        (Phase::InStep, total) => format!("{name} ({total})"),
        (Phase::Changing | Phase::OutOfStep | Phase::Unknown, total) => {
            format!("{name} ({} of {total})", progress.confirmed)
        }
    }
}

fn table(items: &[StatusInKeystore], now: UnixMs) -> String {
    let header = [
        "KEYSTORE", "WANTED", "FOUND", "FLAG", "REASON", "SINCE", "PROVED",
    ];
    let mut table = Table::new(&header);
    for item in items {
        table.row(vec![
            item.keystore.name.clone(),
            wanted(item),
            words(item.status.name()),
            words(item.keystore_sync_flag.name()),
            or_dash(&reason(item)),
            or_dash(&since(item, now)),
            or_dash(&proved(item, now)),
        ]);
    }
    table.render()
}

fn wanted(item: &StatusInKeystore) -> String {
    if item.is_target {
        item.wanted.clone()
    } else {
        format!("{} (removed target)", item.wanted)
    }
}

fn is_in_sync(item: &StatusInKeystore) -> bool {
    item.sync_status == "in_sync"
}

fn reason(item: &StatusInKeystore) -> String {
    if item.differences.is_empty() && !is_in_sync(item) {
        return words(&item.sync_status);
    }
    let mut names: Vec<String> = Vec::new();
    for difference in &item.differences {
        let name = words(difference.reason.name());
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names.join(", ")
}

fn since(item: &StatusInKeystore, now: UnixMs) -> String {
    let first = item.differences.iter().filter_map(|d| d.since.as_deref());
    first
        .chain(item.pending_since.as_deref())
        .min()
        .map_or_else(String::new, |since| age(now, since))
}

fn proved(item: &StatusInKeystore, now: UnixMs) -> String {
    let (Some(proof), Some(at)) = (&item.proof, &item.proved_at) else {
        return String::new();
    };
    let how = match proof.kind {
        ProofKind::Tried => format!("{}: {}", proof.operation, proof.answer),
        ProofKind::ReadBack => "read back".to_owned(),
    };
    format!("{how}, {} ago", age(now, at))
}

/// A sentence for everything that is not as wanted, or weak.
fn reasons(items: &[StatusInKeystore]) -> Vec<String> {
    let mut told = Vec::new();
    for item in items {
        let name = printable(&item.keystore.name);
        if item.differences.is_empty() && !is_in_sync(item) {
            told.push(format!("{name}: {}", printable(&item.message)));
        }
        for difference in &item.differences {
            told.push(format!("{name}: {}", weighed(difference)));
        }
        for finding in &item.findings {
            let severity = finding.severity.name();
            told.push(format!(
                "{name}: {severity}: {}.",
                printable(&finding.message)
            ));
        }
    }
    told
}

/// A difference as the coordinator words it: what, whose doing it probably is, what makes it good again.
#[must_use]
pub fn sentence(difference: &Difference) -> String {
    format!("{}.", printable(difference.message.trim_end_matches('.')))
}

/// The same; of a warning it says that it is one.
#[must_use]
pub fn weighed(difference: &Difference) -> String {
    match difference.weight {
        Weight::Warning => format!("warning: {}", sentence(difference)),
        Weight::OutOfSync => sentence(difference),
    }
}

/// What a progress line says of one keystore: changes only when there is news.
#[must_use]
pub fn progress(item: &StatusInKeystore) -> String {
    let found = words(item.status.name());
    if !is_in_sync(item) {
        return format!("{}, found {found}: {}", words(&item.sync_status), why(item));
    }
    match &item.proof {
        Some(proof) if proof.kind == ProofKind::Tried => {
            format!("confirmed, {found} ({}: {})", proof.operation, proof.answer)
        }
        Some(_) | None => format!("confirmed, {found}"),
    }
}

fn why(item: &StatusInKeystore) -> String {
    match item.differences.first() {
        Some(first) => words(first.reason.name()),
        None => printable(&item.message),
    }
}

#[cfg(test)]
mod tests;
