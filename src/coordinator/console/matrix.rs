//! What the matrix shows: each view turned into words, a symbol and a tone. Pure.

use crate::coordinator::ops::keys::KeyView;
use crate::coordinator::ops::keystores::{HealthStatus, KeystoreView};
use crate::coordinator::ops::status::{InKeystore, Observed};
use crate::coordinator::ops::words::{PhaseTold, phase_told, reason_words, seen_words};
use crate::model::desired::Want;
use crate::model::difference::{Reason, Seen, Status};
use crate::model::ids::KeystoreId;
use crate::model::key::ManagedKey;
use crate::model::keystore::Variant;
use crate::model::lifecycle::ManagedState;
use crate::model::observed::ProofKind;
use crate::model::vault::UnixMs;

/// Colour and symbol of a cell; always beside words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As wanted: usable.
    Active,
    /// As wanted: there and not usable.
    Off,
    /// As wanted: not there.
    Absent,
    /// On its way.
    Changing,
    /// Not as wanted.
    Wrong,
    /// Not known.
    Unknown,
    /// The key has nothing to do with the keystore.
    Nothing,
}

impl Tone {
    /// The CSS class.
    #[must_use]
    pub const fn class(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Off => "off",
            Self::Absent => "absent",
            Self::Changing => "changing",
            Self::Wrong => "wrong",
            Self::Unknown => "unknown",
            Self::Nothing => "nothing",
        }
    }

    /// The symbol, for those who see no colours.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Active => "●",
            Self::Off => "○",
            Self::Absent => "–",
            Self::Changing => "◔",
            Self::Wrong => "▲",
            Self::Unknown => "?",
            Self::Nothing => "",
        }
    }
}

/// One key on one keystore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The keystore's name.
    pub keystore: String,
    /// Colour and symbol.
    pub tone: Tone,
    /// In a word or two.
    pub word: String,
    /// What else fits in.
    pub note: String,
    /// All of it, in sentences.
    pub title: String,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its label.
    pub label: String,
    /// Algorithm and size.
    pub spec: String,
    /// The wanted state, for people.
    pub state: &'static str,
    /// The state's own name, for its class.
    pub state_class: &'static str,
    /// Its phase, for people.
    pub phase: &'static str,
    /// The phase's own name, for its class.
    pub phase_class: &'static str,
    /// `3 of 4 confirmed`.
    pub progress: String,
    /// One for each keystore of the vault, in the order of the columns.
    pub cells: Vec<Cell>,
}

/// One keystore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its id.
    pub id: KeystoreId,
    /// Its name.
    pub name: String,
    /// `internal` or empty.
    pub badge: &'static str,
    /// The class of its dot.
    pub health_class: &'static str,
    /// How it is, in a word or two.
    pub health: &'static str,
    /// When it was last looked at.
    pub look: String,
    /// Where it stands, the token, the groups, how it is: in sentences.
    pub title: String,
    /// What is wrong with it; empty: nothing.
    pub trouble: String,
    /// What its token can do no more.
    pub lost: Vec<Trouble>,
}

/// One thing that is not as wanted, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The key; empty: the keystore itself.
    pub label: String,
    /// The keystore.
    pub keystore: String,
    /// Colour and symbol.
    pub tone: Tone,
    /// What.
    pub what: String,
    /// Expected and found, or why.
    pub detail: String,
    /// Whose doing it probably is, and what helps.
    pub hints: Vec<&'static str>,
    /// Since when; empty: not known.
    pub since: String,
}

/// A keystore's column.
#[must_use]
pub fn column(view: &KeystoreView) -> Column {
    let record = &view.record;
    let (health_class, health) = match view.health.status {
        HealthStatus::Ok => ("ok", "live"),
        HealthStatus::NotResponding => ("down", "not reachable"),
        HealthStatus::ConfigurationError => ("broken", "needs a person"),
        HealthStatus::PendingCheck => ("starting", "starting"),
    };
    let groups: Vec<&str> = record.groups.iter().map(String::as_str).collect();
    let token = &record.token;
    let mut title = format!(
        "{}: token {:?}, {} {}, serial {}",
        record.name, token.label, token.manufacturer, token.model, token.serial
    );
    if !record.location.is_empty() {
        title.push_str(&format!("; stands in {}", record.location));
    }
    if !groups.is_empty() {
        title.push_str(&format!("; groups {}", groups.join(", ")));
    }
    title.push_str(&format!("; {}", view.health.message));
    let is_well = view.health.status == HealthStatus::Ok;
    Column {
        id: record.id,
        name: record.name.clone(),
        badge: match record.variant {
            Variant::Internal => "internal",
            Variant::External => "",
        },
        health_class,
        health,
        look: view
            .health
            .scan_age_ms
            .map_or_else(String::new, |age| format!("looked {} ago", span(age))),
        title,
        trouble: if is_well {
            String::new()
        } else {
            view.health.message.clone()
        },
        lost: view
            .differences
            .iter()
            .map(|observed| lost(&record.name, observed))
            .collect(),
    }
}

fn lost(keystore: &str, observed: &Observed) -> Trouble {
    Trouble {
        label: String::new(),
        keystore: keystore.to_owned(),
        tone: Tone::Unknown,
        what: reason_words(observed.difference.reason).to_owned(),
        detail: observed.detail(),
        hints: observed.hints(),
        since: String::new(),
    }
}

/// A key's rows under these columns: the version in use, whose phase is that of the whole key, and each version before it
/// that is not everywhere as wanted.
#[must_use]
pub fn rows(view: &KeyView, columns: &[Column], now: UnixMs) -> Vec<Row> {
    let first = Row {
        label: view.key.label.as_str().to_owned(),
        ..row(
            &view.key,
            &view.keystores,
            phase_told(&view.phase),
            columns,
            now,
        )
    };
    let is_confirmed = |found: &InKeystore| matches!(found.status, Status::InSync(_));
    let past = view.past.iter();
    let unsettled = past.filter(|past| !past.keystores.iter().all(is_confirmed));
    let older = unsettled.map(|past| {
        row(
            &past.key,
            &past.keystores,
            phase_told(&past.phase),
            columns,
            now,
        )
    });
    std::iter::once(first).chain(older).collect()
}

fn row(
    key: &ManagedKey,
    found: &[InKeystore],
    whole: PhaseTold,
    columns: &[Column],
    now: UnixMs,
) -> Row {
    let cell_under = |column: &Column| {
        let found = found.iter().find(|found| found.keystore == column.id);
        found.map_or_else(|| nothing(column), |found| cell(found, now))
    };
    Row {
        label: version_label(key.label.as_str(), key.version_number),
        spec: key.spec.to_string(),
        state: state_words(key),
        state_class: key.state.name(),
        phase: whole.words,
        phase_class: whole.name,
        progress: whole.progress,
        cells: columns.iter().map(cell_under).collect(),
    }
}

/// How a version that is not the one in use is called.
fn version_label(label: &str, number: u32) -> String {
    format!("{label}, version {number}")
}

/// Keystores that cannot be asked or whose token is not well, each once, however many keys it holds; and what a token that is
/// well can do no more.
#[must_use]
pub fn keystore_troubles(columns: &[Column], keys: &[KeyView]) -> Vec<Trouble> {
    let is_on = |view: &&KeyView, column: &Column| {
        view.keystores
            .iter()
            .any(|found| found.keystore == column.id)
    };
    columns
        .iter()
        .filter(|column| !column.trouble.is_empty())
        .map(|column| {
            let count = keys.iter().filter(|view| is_on(view, column)).count();
            let keys = if count == 1 { "key" } else { "keys" };
            Trouble {
                label: String::new(),
                keystore: column.name.clone(),
                tone: Tone::Unknown,
                what: column.health.to_owned(),
                detail: format!("{}; {count} {keys} there not known", column.trouble),
                hints: Vec::new(),
                since: String::new(),
            }
        })
        .chain(columns.iter().flat_map(|column| column.lost.clone()))
        .collect()
}

/// All that is not as wanted of a key, apart from keystores that are in trouble as a whole.
#[must_use]
pub fn troubles(view: &KeyView, columns: &[Column], now: UnixMs) -> Vec<Trouble> {
    let is_told = |id: KeystoreId| {
        columns
            .iter()
            .any(|column| column.id == id && !column.trouble.is_empty())
    };
    let in_use = view.key.version_number;
    view.all_rows()
        .filter(|(_, found)| matches!(tone(found), Tone::Wrong | Tone::Unknown))
        .filter(|(_, found)| !is_told(found.keystore))
        .flat_map(|(version, found)| {
            let label = view.key.label.as_str();
            let label = if version == in_use {
                label.to_owned()
            } else {
                version_label(label, version)
            };
            if found.differences.is_empty() {
                return vec![untyped(&label, found)];
            }
            let each = found.differences.iter();
            let told = each.map(|observed| trouble(&label, found, observed, now));
            told.collect()
        })
        .collect()
}

fn trouble(label: &str, found: &InKeystore, observed: &Observed, now: UnixMs) -> Trouble {
    Trouble {
        label: label.to_owned(),
        keystore: found.name.clone(),
        tone: tone(found),
        what: reason_words(observed.difference.reason).to_owned(),
        detail: observed.detail(),
        hints: observed.hints(),
        since: observed
            .since
            .map_or_else(String::new, |since| format!("for {}", ago(since, now))),
    }
}

fn untyped(label: &str, found: &InKeystore) -> Trouble {
    Trouble {
        label: label.to_owned(),
        keystore: found.name.clone(),
        tone: tone(found),
        what: found.message(),
        detail: String::new(),
        hints: Vec::new(),
        since: String::new(),
    }
}

fn nothing(column: &Column) -> Cell {
    Cell {
        keystore: column.name.clone(),
        tone: Tone::Nothing,
        word: String::new(),
        note: String::new(),
        title: format!("the key is not wanted on {}", column.name),
    }
}

fn cell(found: &InKeystore, now: UnixMs) -> Cell {
    Cell {
        keystore: found.name.clone(),
        tone: tone(found),
        word: word(found),
        note: note(found, now),
        title: title(found, now),
    }
}

fn tone(found: &InKeystore) -> Tone {
    match &found.status {
        Status::InSync(Want::Active) => Tone::Active,
        Status::InSync(Want::Deactivated) if found.instance.is_some() => Tone::Off,
        Status::InSync(Want::Deactivated | Want::Destroyed) => Tone::Absent,
        Status::Pending { .. } => Tone::Changing,
        Status::Drift | Status::Diverged | Status::Failed { .. } | Status::Unavailable { .. } => {
            Tone::Wrong
        }
        Status::Unknown { .. } => Tone::Unknown,
    }
}

fn word(found: &InKeystore) -> String {
    let word = match &found.status {
        Status::InSync(_) if found.instance.is_none() => "Not installed",
        Status::InSync(Want::Active) => "Active",
        Status::InSync(Want::Deactivated) if !found.is_target => "Removed",
        Status::InSync(Want::Deactivated) => "Disabled",
        Status::InSync(Want::Destroyed) => "Destroyed",
        Status::Pending { .. } => match found.instance.as_ref().map(|i| i.intent.want) {
            Some(Want::Active) => "Activating",
            Some(Want::Deactivated) => "Disabling",
            Some(Want::Destroyed) => "Destroying",
            None => "Changing",
        },
        Status::Drift => found
            .differences
            .first()
            .map_or("Differs", |first| short(first.difference.reason)),
        Status::Diverged => "Diverged",
        Status::Failed { .. } => "Failed",
        Status::Unavailable { .. } => "No token",
        Status::Unknown { .. } => "Unknown",
    };
    word.to_owned()
}

/// A reason in one or two words.
const fn short(reason: Reason) -> &'static str {
    match reason {
        Reason::Missing => "Missing",
        Reason::IdChanged => "Id changed",
        Reason::NotWithdrawn => "Still there",
        Reason::LabelTaken => "Label taken",
        Reason::WrongKey => "Wrong key",
        Reason::EnabledUnexpectedly => "Usable!",
        Reason::DisabledUnexpectedly => "Not usable",
        Reason::UsageChanged => "Usage changed",
        Reason::LabelChanged => "Label changed",
        Reason::ProtectionWeakened => "Weakened",
        Reason::Duplicated => "Duplicated",
        Reason::HalfPair => "Half a pair",
        Reason::DestroyedKeyPresent => "Still there!",
        Reason::RemovedTargetActive => "Still usable!",
        Reason::StrategyOutdated => "Old strategy",
        Reason::CapabilityLost => "Token lost it",
        Reason::TokenRestored => "Older image?",
        Reason::Suspected => "Not seen",
        Reason::Unproved => "Unproved",
        Reason::Pending => "Changing",
        Reason::Late => "Late",
        Reason::Failed => "Failed",
        Reason::Diverged => "Diverged",
        Reason::Unreachable => "Not reachable",
        Reason::TokenUnavailable => "No token",
    }
}

fn note(found: &InKeystore, now: UnixMs) -> String {
    match &found.status {
        Status::InSync(_) => match (&found.proof, found.proved_at) {
            (Some(proof), Some(at)) => match proof.kind {
                ProofKind::Tried => format!("proved {} ago", ago(at, now)),
                ProofKind::ReadBack => format!("read {} ago", ago(at, now)),
            },
            (_, _) => found
                .observed_at
                .map_or_else(String::new, |at| format!("seen {} ago", ago(at, now))),
        },
        Status::Pending { .. } => found
            .pending_since
            .map_or_else(String::new, |at| format!("for {}", ago(at, now))),
        Status::Drift => found
            .differences
            .first()
            .and_then(|first| first.since)
            .map_or_else(String::new, |at| format!("for {}", ago(at, now))),
        Status::Unknown { .. } => match &found.last_seen {
            Some(last) if last.seen != Seen::Unknown => {
                format!("was {} {} ago", seen_short(last.seen), ago(last.at, now))
            }
            Some(_) | None => String::new(),
        },
        Status::Diverged | Status::Failed { .. } | Status::Unavailable { .. } => String::new(),
    }
}

const fn seen_short(seen: Seen) -> &'static str {
    match seen {
        Seen::Active => "active",
        Seen::NotActive => "disabled",
        Seen::NotPresent => "absent",
        Seen::WrongKey => "a wrong key",
        Seen::Unknown => "unknown",
    }
}

fn title(found: &InKeystore, now: UnixMs) -> String {
    let mut lines = vec![format!("{}: {}", found.name, found.message())];
    lines.extend(found.differences.iter().map(|observed| observed.message()));
    if let Some(at) = found.observed_at {
        lines.push(format!(
            "last look {} ago: {}",
            ago(at, now),
            seen_words(found.seen)
        ));
    }
    if !found.is_target {
        lines.push("removed from the key's targets: material stays, not synced".to_owned());
    }
    lines.dedup();
    lines.join("\n")
}

const fn state_words(key: &ManagedKey) -> &'static str {
    if key.hold.is_some() {
        return "Disabled, to be destroyed";
    }
    match key.state {
        ManagedState::PreActivation => "Pre-active",
        ManagedState::Active => "Active",
        ManagedState::Deactivated => "Deactivated",
        ManagedState::Compromised => "Compromised",
        ManagedState::Destroyed => "Destroyed",
        ManagedState::DestroyedCompromised => "Destroyed, compromised",
    }
}

/// How long ago, in the largest unit that says enough.
#[must_use]
pub fn ago(at: UnixMs, now: UnixMs) -> String {
    let passed = now.0.saturating_sub(at.0).max(0);
    span(u64::try_from(passed).unwrap_or(0))
}

/// A time span in its largest unit.
#[must_use]
pub fn span(ms: u64) -> String {
    const SECOND: u64 = 1000;
    const MINUTE: u64 = 60 * SECOND;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match ms {
        0..SECOND => "under 1 s".to_owned(),
        SECOND..MINUTE => format!("{} s", ms / SECOND),
        MINUTE..HOUR => format!("{} min", ms / MINUTE),
        HOUR..DAY => format!("{} h", ms / HOUR),
        DAY.. => format!("{} d", ms / DAY),
    }
}

#[cfg(test)]
mod tests {
    use crate::coordinator::console::matrix::{ago, span};
    use crate::model::vault::UnixMs;

    #[test]
    fn spans_are_short() {
        let check = |ms, expected| assert_eq!(span(ms), expected);
        check(0, "under 1 s");
        check(999, "under 1 s");
        check(1000, "1 s");
        check(59_999, "59 s");
        check(60_000, "1 min");
        check(3_600_000, "1 h");
        check(86_400_000 * 3, "3 d");
        assert_eq!(ago(UnixMs(5000), UnixMs(1000)), "under 1 s");
    }
}
