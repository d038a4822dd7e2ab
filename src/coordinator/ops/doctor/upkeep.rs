//! What no promise is broken by, and goes wrong all the same if nobody looks: disks, backups of keys, agents, clocks, dates.

use crate::coordinator::ops::doctor::{Check, Estate, Kind, Verdict, Ward};
use crate::decide::check::Invariant;
use crate::model::kek::KekRotation;
use crate::model::key::ManagedKey;
use crate::model::keystore::Health;
use crate::model::lifecycle::ManagedState;
use crate::model::live::Connection;
use crate::model::vault::UnixMs;

/// Free bytes below which changes may soon be refused: 1 GiB, or what the store takes, whichever is more.
const FREE_BYTES_MIN: u64 = 1 << 30;

/// Clocks may differ by this much, milliseconds: dates and certificates are good to a minute.
const CLOCK_MS_MAX: u64 = 60_000;

/// A rotation that takes longer than this is stuck, milliseconds.
const ROTATION_MS_MAX: i64 = 3_600_000;

const INTEGRITY: Kind = Kind {
    name: "store_integrity",
    invariant: None,
    verdict: Verdict::Violated,
    meaning: "The store's file is damaged: a disk, a file system, or a copy made while it was written.",
    advice: "Stop the coordinator, keep the file, and restore the newest backup. Agents go on with what they know meanwhile.",
};

const REFERENCES: Kind = Kind {
    name: "store_references",
    invariant: None,
    verdict: Verdict::Violated,
    meaning: "Records refer to others that are gone: the store was written past Lockstep.",
    advice: "Find out who writes to the store, keep the file, and restore the newest backup.",
};

const LOG: Kind = Kind {
    name: "audit_numbers",
    invariant: Some(Invariant::Log),
    verdict: Verdict::Violated,
    meaning: "Entries of the audit log are gone: their numbers are given without gaps and never twice.",
    advice: "Keep the file as evidence, and compare the log with a backup's.",
};

const SPACE: Kind = Kind {
    name: "store_space",
    invariant: None,
    verdict: Verdict::Warning,
    meaning: "The store's disk is nearly full. When it is full, every change is refused; nothing is lost.",
    advice: "Make room on the disk of the coordinator's state_dir.",
};

const COPIES: Kind = Kind {
    name: "repository_copies",
    invariant: None,
    verdict: Verdict::Warning,
    meaning: "Fewer internal keystores hold a key than its vault asks for: if those are lost, so is the key.",
    advice: "See that all internal keystores of the vault are connected: each takes over what it lacks. Add one if there are too few.",
};

const SESSIONS: Kind = Kind {
    name: "keystore_sessions",
    invariant: None,
    verdict: Verdict::Warning,
    meaning: "A keystore cannot be looked at: nothing is claimed of it, and changes wait.",
    advice: "Look whether its agent runs, and at the reason told. What was seen there last is in each key's status.",
};

const TOKENS: Kind = Kind {
    name: "token_health",
    invariant: None,
    verdict: Verdict::Warning,
    meaning: "An agent runs, and its token cannot be used, or is not the one that was bound.",
    advice: "Follow the reason told. A refused PIN is tried again only after it was changed.",
};

const JOURNALS: Kind = Kind {
    name: "agent_journals",
    invariant: None,
    verdict: Verdict::Violated,
    meaning: "An agent lost its journal, or cannot write it: it does not know what it did, and enables and installs nothing.",
    advice: "Restore the agent's state_dir if it was moved; make room on its disk if that is full. Else see docs/security.md.",
};

const CAPABILITIES: Kind = Kind {
    name: "capabilities",
    invariant: None,
    verdict: Verdict::Warning,
    meaning: "A token can no longer do what it once did: its firmware or its library was changed.",
    advice: "Go back to the version before, or accept it with `lockstep keystore probe KEYSTORE --accept`.",
};

const CLOCKS: Kind = Kind {
    name: "clocks",
    invariant: None,
    verdict: Verdict::Warning,
    meaning: "An agent's clock and the coordinator's differ by more than a minute: times in logs and certificates disagree.",
    advice: "See that both are synchronised (NTP).",
};

const WRAPPING: Kind = Kind {
    name: "wrapping_keys",
    invariant: None,
    verdict: Verdict::Violated,
    meaning: "Copies are under a wrapping key that a rotation has replaced and that is gone: they open no more.",
    advice: "Restore the store from a backup made after the rotation; other internal keystores may hold the keys too.",
};

const ROTATIONS: Kind = Kind {
    name: "rotations",
    invariant: None,
    verdict: Verdict::Warning,
    meaning: "A rotation of a wrapping key does not get on.",
    advice: "See that the keystore is connected, and at the reason told; it goes on by itself.",
};

const DATES: Kind = Kind {
    name: "dates",
    invariant: None,
    verdict: Verdict::Warning,
    meaning: "A key is past a date of its own, and not in the state that the date is about.",
    advice: "Activate or deactivate the key, or change its date.",
};

/// Those of the store; nothing is found where the engine has no such look.
pub(crate) fn of_store(estate: &Estate) -> Vec<Check> {
    let checkup = estate.checkup.clone().unwrap_or_default();
    let (entries, last) = (checkup.audit_entries, checkup.audit_last);
    let gap =
        (entries != last).then(|| format!("{entries} entries, and the last is number {last}"));
    let least = FREE_BYTES_MIN.max(checkup.bytes);
    let is_short = estate.checkup.is_some() && checkup.free_bytes < least;
    let mib = |bytes: u64| bytes >> 20;
    let short = is_short.then(|| {
        let (free, taken) = (mib(checkup.free_bytes), mib(checkup.bytes));
        format!("{free} MiB are free, and the store takes {taken} MiB")
    });
    vec![
        INTEGRITY.found(checkup.damage),
        REFERENCES.found(checkup.dangling),
        LOG.found(gap.into_iter().collect()),
        SPACE.found(short.into_iter().collect()),
    ]
}

/// Those of keys and keystores.
pub(crate) fn of_fleet(estate: &Estate) -> Vec<Check> {
    let each = |tell: &dyn Fn(&Ward) -> Option<String>| {
        let told = estate.wards.iter().filter_map(|ward| {
            let what = tell(ward)?;
            Some(format!("{}: {what}", ward.record.name))
        });
        told.collect::<Vec<_>>()
    };
    let now = estate.now;
    vec![
        COPIES.found(copies(estate)),
        SESSIONS.found(each(&|ward| match &ward.live.connection {
            Connection::Live => None,
            connection @ (Connection::Never { .. }
            | Connection::Down { .. }
            | Connection::CatchingUp) => Some(connection.to_string()),
        })),
        TOKENS.found(each(&|ward| token(ward.live.health.as_ref()?))),
        JOURNALS.found(each(&|ward| journal(ward.live.health.as_ref()?))),
        CAPABILITIES.found(each(&|ward| {
            let lost = ward.live.description.as_ref()?.lost();
            let words: Vec<String> = lost.iter().map(ToString::to_string).collect();
            (!words.is_empty()).then(|| words.join("; "))
        })),
        CLOCKS.found(each(&|ward| {
            let ahead = ward.clock_ahead_ms?;
            (ahead.unsigned_abs() > CLOCK_MS_MAX).then(|| {
                let word = if ahead > 0 { "ahead" } else { "behind" };
                format!("{} s {word}", ahead.unsigned_abs() / 1000)
            })
        })),
        WRAPPING.found(each(&|ward| {
            let is_over = ward.rotation.as_ref().is_some_and(|it| !it.is_under_way());
            let count = ward.old_copies;
            (is_over && count > 0).then(|| format!("{count} copies"))
        })),
        ROTATIONS.found(each(&|ward| stuck(ward.rotation.as_ref()?, now))),
        DATES.found(
            estate
                .keys
                .values()
                .filter_map(|key| date(key, now))
                .collect(),
        ),
    ]
}

fn copies(estate: &Estate) -> Vec<String> {
    let lacking = estate.keys.values().filter_map(|key| {
        let has = estate.copies.get(&key.version).copied().unwrap_or(0);
        let needs = usize::try_from(*estate.min_copies.get(&key.vault)?).ok()?;
        // An adopted key never had one.
        let is_adopted = estate
            .beds
            .iter()
            .any(|bed| bed.key == key.id && bed.instance.adoption.is_some());
        let counts = !key.state.is_destroyed() && !is_adopted;
        (counts && has < needs).then(|| format!("{}: {has} of {needs}", key.label))
    });
    lacking.collect()
}

fn token(health: &Health) -> Option<String> {
    match health {
        Health::Ok | Health::JournalLost | Health::JournalFailed { .. } => None,
        Health::Starting
        | Health::TokenNotFound { .. }
        | Health::WrongPin
        | Health::PinLocked
        | Health::MarkerMissing
        | Health::BelongsTo(_)
        | Health::OtherEpoch(_)
        | Health::ModuleFailed { .. } => Some(health.to_string()),
    }
}

fn journal(health: &Health) -> Option<String> {
    match health {
        Health::JournalLost | Health::JournalFailed { .. } => Some(health.to_string()),
        Health::Ok
        | Health::Starting
        | Health::TokenNotFound { .. }
        | Health::WrongPin
        | Health::PinLocked
        | Health::MarkerMissing
        | Health::BelongsTo(_)
        | Health::OtherEpoch(_)
        | Health::ModuleFailed { .. } => None,
    }
}

fn stuck(rotation: &KekRotation, now: UnixMs) -> Option<String> {
    if !rotation.is_under_way() {
        return None;
    }
    let age_ms = now.0.saturating_sub(rotation.asked_at.0);
    match &rotation.trouble {
        Some(trouble) => Some(trouble.clone()),
        None if age_ms > ROTATION_MS_MAX => Some(format!("asked for {} min ago", age_ms / 60_000)),
        None => None,
    }
}

/// Dates are days in UTC, written so that they sort.
fn date(key: &ManagedKey, now: UnixMs) -> Option<String> {
    let today = jiff::Timestamp::from_millisecond(now.0).ok()?;
    let today = today.strftime("%Y-%m-%d").to_string();
    let (date, word) = match key.state {
        ManagedState::PreActivation => (key.activation_date.as_ref()?, "activation"),
        ManagedState::Active => (key.expiration_date.as_ref()?, "expiration"),
        ManagedState::Deactivated
        | ManagedState::Compromised
        | ManagedState::Destroyed
        | ManagedState::DestroyedCompromised => return None,
    };
    let state = key.state.name();
    (*date < today).then(|| format!("{}: {state}, its {word} date was {date}", key.label))
}
