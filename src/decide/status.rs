//! Status of an instance and of a key: computed, never stored (promises 1.3, R10).
//!
//! In sync is said only of a fresh report of the live session whose applied generation and digest are the intent's, that is
//! done, whose facts match class by class, and that is proved. Everything else has another name.

use crate::decide::difference::{Failure, findings_at};
use crate::decide::terms::breaches;
use crate::model::desired::{Instance, Want};
use crate::model::difference::{Seen, Status, Weight};
use crate::model::ids::KeystoreId;
use crate::model::job::FailureKind;
use crate::model::keystore::Health;
use crate::model::live::{Connection, Live, Terms};
use crate::model::observed::{Found, ObjectClass, Observation};
use crate::model::protocol::{Progress, Refusal, Report};

/// Status of an instance, from what is wanted, what the live session knows, and what is demanded and possible there.
#[must_use]
pub fn status(instance: &Instance, live: &Live, terms: &Terms) -> Status {
    match standing(instance, live, terms) {
        Standing::InSync => Status::InSync(instance.intent.want),
        Standing::Unknown { why } => Status::Unknown { why },
        Standing::Unavailable { health } => Status::Unavailable {
            why: health.to_string(),
        },
        Standing::Diverged { .. } => Status::Diverged,
        Standing::Pending { why } | Standing::Unproved { why } => Status::Pending {
            generation: instance.intent.generation,
            why,
        },
        Standing::Failed(failure) => Status::Failed { why: failure.why },
        Standing::Suspected | Standing::Drift => Status::Drift,
    }
}

/// [`Status`] with what the reasons need beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing<'a> {
    InSync,
    Unknown { why: String },
    Unavailable { health: &'a Health },
    Diverged { why: String, destroyed: bool },
    Pending { why: String },
    Unproved { why: String },
    Failed(Failure),
    Suspected,
    Drift,
}

pub(crate) fn standing<'a>(instance: &Instance, live: &'a Live, terms: &Terms) -> Standing<'a> {
    if let Some(blind) = blind(live) {
        return blind;
    }
    let Some(report) = &live.report else {
        return refused(instance, live).unwrap_or_else(|| Standing::Pending {
            why: "not yet taken by the agent".to_owned(),
        });
    };
    if live.look_age_ms > live.fresh_for_ms {
        return Standing::Unknown {
            why: format!("last looked at {} s ago", live.look_age_ms / 1000),
        };
    }
    let intent = &instance.intent;
    let Some(applied) = &report.applied else {
        return refused(instance, live).unwrap_or_else(|| Standing::Pending {
            why: "not yet taken by the agent".to_owned(),
        });
    };
    if applied.generation > intent.generation
        || (applied.generation == intent.generation && applied.digest != intent.digest())
    {
        return Standing::Diverged {
            why: format!("{}, generation {}", applied.want.name(), applied.generation),
            destroyed: applied.want == Want::Destroyed,
        };
    }
    if applied.generation < intent.generation {
        return refused(instance, live).unwrap_or_else(|| Standing::Pending {
            why: format!("the agent still holds {}", applied.want.name()),
        });
    }
    match &report.progress {
        Progress::Done => done(instance, report, terms),
        Progress::Busy => Standing::Pending {
            why: "under way on the token".to_owned(),
        },
        Progress::NeedsMaterial => Standing::Pending {
            why: live.material_failure.as_ref().map_or_else(
                || "waiting for the key's material".to_owned(),
                |why| format!("the key's material cannot be had yet: {why}"),
            ),
        },
        Progress::Unknown { why } => Standing::Pending {
            why: format!("the outcome is not known yet: {why}"),
        },
        Progress::Failed(failure) => match failure.kind {
            FailureKind::Retry | FailureKind::Restart | FailureKind::NeedsMaterial => {
                Standing::Pending {
                    why: format!("to be tried again after {failure}"),
                }
            }
            FailureKind::Refused
            | FailureKind::WrongKey
            | FailureKind::LabelTaken
            | FailureKind::WrongPin
            | FailureKind::PinLocked
            | FailureKind::NoToken => {
                Standing::Failed(Failure::on_token(failure.kind, failure.to_string()))
            }
        },
    }
}

/// No line, no word yet, or no token that could be looked at.
fn blind(live: &Live) -> Option<Standing<'_>> {
    let unknown = |why: &str| {
        Some(Standing::Unknown {
            why: why.to_owned(),
        })
    };
    match &live.connection {
        Connection::Never { why } | Connection::Down { why, .. } => return unknown(why),
        Connection::CatchingUp => return unknown("the agent is still telling what it knows"),
        Connection::Live => {}
    }
    match &live.health {
        None => unknown("the agent has not said how its token is"),
        Some(Health::Starting) => unknown("the token has not been opened yet"),
        // Looking goes on while nothing can be written; what is wanted anew shows as refused.
        Some(Health::Ok | Health::JournalFailed { .. }) => None,
        Some(
            health @ (Health::TokenNotFound { .. }
            | Health::WrongPin
            | Health::PinLocked
            | Health::MarkerMissing
            | Health::BelongsTo(_)
            | Health::OtherEpoch(_)
            | Health::JournalLost
            | Health::ModuleFailed { .. }),
        ) => Some(Standing::Unavailable { health }),
    }
}

/// What a refusal of this very intent means.
fn refused<'a>(instance: &Instance, live: &Live) -> Option<Standing<'a>> {
    let (generation, refusal) = live.refused.as_ref()?;
    if *generation != instance.intent.generation {
        return None;
    }
    Some(match refusal {
        Refusal::Stale(applied) | Refusal::Conflict(applied) => Standing::Diverged {
            why: refusal.to_string(),
            destroyed: applied.want == Want::Destroyed,
        },
        Refusal::Tombstone(_) => Standing::Diverged {
            why: refusal.to_string(),
            destroyed: true,
        },
        Refusal::Jump { .. } | Refusal::WrongKeystore { .. } | Refusal::Envelope { .. } => {
            Standing::Failed(Failure::of_agent(refusal))
        }
        Refusal::Unhealthy(_) | Refusal::Journal { .. } => Standing::Pending {
            why: refusal.to_string(),
        },
    })
}

fn done<'a>(instance: &Instance, report: &Report, terms: &Terms) -> Standing<'a> {
    let intent = &instance.intent;
    let found = match &report.observation {
        Observation::Unknown { why } => return Standing::Unknown { why: why.clone() },
        Observation::Suspected { .. } => return Standing::Suspected,
        Observation::Absent { .. } => None,
        Observation::Present(found) => Some(found).filter(|found| !found.objects.is_empty()),
    };
    let seen = &report.observation;
    let is_broken = breaches(instance, report, terms)
        .iter()
        .any(|breach| breach.weight == Weight::OutOfSync);
    if is_broken || !findings_at(instance, seen, report.strategy).is_empty() {
        return Standing::Drift;
    }
    // Nothing is there, and rightly so: a destroyed key, or one removed from here and gone since.
    let Some(found) = found else {
        return Standing::InSync;
    };
    if instance.is_target && found.fingerprint != Some(intent.fingerprint) {
        let why = found.fingerprint_failure.as_deref();
        return Standing::Unproved {
            why: format!(
                "no fingerprint to compare{}",
                why.map(|why| format!(": {why}")).unwrap_or_default()
            ),
        };
    }
    // Another key has taken the place of one that was removed from here: nothing of ours is left to try.
    let is_other = found
        .fingerprint
        .is_some_and(|seen| seen.method == intent.fingerprint.method && seen != intent.fingerprint);
    if !instance.is_target && is_other {
        return Standing::InSync;
    }
    if report.proof.is_none() {
        let doubt = match intent.want {
            Want::Active => "enabled, not yet tried",
            Want::Deactivated | Want::Destroyed => "disabled, not yet tried: may still be usable",
        };
        return Standing::Unproved {
            why: doubt.to_owned(),
        };
    }
    Standing::InSync
}

/// What an observation looks like to people. What was seen of a suspected one is what was last seen for certain.
///
/// A part counts as the less safe thing: while a key should not be usable, any usable part makes it active; while it
/// should be, only a whole one is (promises R6).
#[must_use]
pub fn seen(instance: &Instance, observation: &Observation) -> Seen {
    match observation {
        Observation::Unknown { .. } => Seen::Unknown,
        Observation::Absent { .. } => Seen::NotPresent,
        Observation::Suspected { last } => match last.as_ref() {
            // Nested suspicion says nothing more.
            Observation::Suspected { .. } | Observation::Unknown { .. } => Seen::Unknown,
            Observation::Absent { .. } => Seen::NotPresent,
            Observation::Present(found) => seen_objects(instance, found),
        },
        Observation::Present(found) => seen_objects(instance, found),
    }
}

fn seen_objects(instance: &Instance, found: &Found) -> Seen {
    let intent = &instance.intent;
    let plan = &intent.object;
    if found.objects.is_empty() {
        return Seen::NotPresent;
    }
    let is_other = |fingerprint: crate::model::observed::Fingerprint| {
        fingerprint.method == intent.fingerprint.method
            && fingerprint.value != intent.fingerprint.value
    };
    if found.fingerprint.is_some_and(is_other) {
        return Seen::WrongKey;
    }
    let is_active = match intent.want {
        Want::Active => {
            let enabled = |class: ObjectClass| {
                let planned = plan.usage_under(Want::Active, class);
                found.objects.iter().any(|facts| {
                    facts.class == class
                        && (planned.is_empty() || facts.usage.iter().any(|u| planned.has(u)))
                })
            };
            plan.spec
                .class()
                .objects()
                .iter()
                .all(|&class| enabled(class))
        }
        Want::Deactivated | Want::Destroyed => found.objects.iter().any(|facts| {
            !plan
                .usage_under(Want::Deactivated, facts.class)
                .contains(facts.usage)
        }),
    };
    if is_active {
        Seen::Active
    } else {
        Seen::NotActive
    }
}

/// What an instance looks like in API v4's three fields.
#[must_use]
pub fn uko(instance: &Instance, status: &Status, seen: Seen) -> (UkoStatus, SyncFlag, SyncDetail) {
    let detail = detail(instance.intent.want, instance.is_target, seen);
    match status {
        Status::InSync(_) => (UkoStatus::of(seen), SyncFlag::Ok, detail),
        Status::Pending { .. } | Status::Drift => {
            (UkoStatus::of(seen), SyncFlag::OutOfSync, detail)
        }
        Status::Unknown { .. } => (
            UkoStatus::Unknown,
            SyncFlag::Error,
            SyncDetail::ConnectionError,
        ),
        Status::Unavailable { .. } => (
            UkoStatus::Error,
            SyncFlag::Error,
            SyncDetail::ConnectionError,
        ),
        Status::Diverged | Status::Failed { .. } => (UkoStatus::Error, SyncFlag::Error, detail),
    }
}

/// The nearest of API v4's reasons. It has none for other material or changed attributes: our `differences` tell those.
const fn detail(want: Want, is_target: bool, seen: Seen) -> SyncDetail {
    match (want, is_target, seen) {
        (Want::Active | Want::Deactivated, false, Seen::Active) => {
            SyncDetail::RemovedContainsActive
        }
        (Want::Active | Want::Deactivated, false, _) => SyncDetail::Removed,
        (_, _, Seen::Unknown) => SyncDetail::Unknown,
        (Want::Active, true, Seen::Active) => SyncDetail::ActiveIsActive,
        (Want::Active, true, _) => SyncDetail::ActiveIsNotActive,
        (Want::Deactivated, true, Seen::Active) => SyncDetail::DeactivatedIsNotDeactivated,
        (Want::Deactivated, true, _) => SyncDetail::DeactivatedIsDeactivated,
        (Want::Destroyed, _, Seen::NotPresent) => SyncDetail::DestroyedIsNotPresent,
        (Want::Destroyed, _, _) => SyncDetail::DestroyedIsPresent,
    }
}

/// The phase of a key from its keystores: `(keystore, whether it is a target, status)`, one for each instance, and each target.
/// Of several versions on one keystore the worst counts.
///
/// A keystore that was removed from the targets does not count while the key is active and it is confirmed disabled there. It
/// counts when it is not confirmed, and always once the key is to be unusable everywhere: "deactivated" and "destroyed" are
/// said of every keystore the key ever was on (promises I10).
#[must_use]
pub fn phase(is_active: bool, keystores: &[(KeystoreId, bool, Status)]) -> KeyPhase {
    let is_confirmed = |status: &Status| matches!(status, Status::InSync(_));
    let mut worst: Vec<&(KeystoreId, bool, Status)> = Vec::with_capacity(keystores.len());
    for row in keystores {
        match worst.iter_mut().find(|(known, _, _)| *known == row.0) {
            None => worst.push(row),
            Some(known) if Phase::of(&known.2) < Phase::of(&row.2) => *known = row,
            Some(_) => {}
        }
    }
    let counted: Vec<&(KeystoreId, bool, Status)> = worst
        .into_iter()
        .filter(|(_, is_target, status)| *is_target || !is_active || !is_confirmed(status))
        .collect();
    let unconfirmed: Vec<KeystoreId> = counted
        .iter()
        .filter(|(_, _, status)| !is_confirmed(status))
        .map(|(keystore, _, _)| *keystore)
        .collect();
    let phase = counted
        .iter()
        .map(|(_, _, status)| Phase::of(status))
        .max()
        .unwrap_or(Phase::InStep);
    KeyPhase {
        phase,
        confirmed: counted.len().saturating_sub(unconfirmed.len()),
        total: counted.len(),
        unconfirmed,
    }
}

/// API v4's `status` of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UkoStatus {
    /// There and usable.
    Active,
    /// There and not usable.
    NotActive,
    /// Not there.
    NotPresent,
    /// Another key is there.
    WrongKey,
    /// Not known.
    Unknown,
    /// Something failed.
    Error,
}

impl UkoStatus {
    /// What was seen, in API v4's words.
    #[must_use]
    pub const fn of(seen: Seen) -> Self {
        match seen {
            Seen::Active => Self::Active,
            Seen::NotActive => Self::NotActive,
            Seen::NotPresent => Self::NotPresent,
            Seen::WrongKey => Self::WrongKey,
            Seen::Unknown => Self::Unknown,
        }
    }

    /// The name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::NotActive => "not_active",
            Self::NotPresent => "not_present",
            Self::WrongKey => "wrong_key",
            Self::Unknown => "unknown",
            Self::Error => "error",
        }
    }
}

/// API v4's `keystore_sync_flag`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncFlag {
    /// As wanted.
    Ok,
    /// Not as wanted.
    OutOfSync,
    /// It cannot be told.
    Error,
}

impl SyncFlag {
    /// The name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::OutOfSync => "out_of_sync",
            Self::Error => "error",
        }
    }
}

/// API v4's `keystore_sync_flag_detail`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncDetail {
    /// Active, and active there.
    ActiveIsActive,
    /// Active, and not active there.
    ActiveIsNotActive,
    /// The keystore cannot be asked.
    ConnectionError,
    /// Deactivated, and not active there.
    DeactivatedIsDeactivated,
    /// Deactivated, and active there.
    DeactivatedIsNotDeactivated,
    /// Destroyed, and not there.
    DestroyedIsNotPresent,
    /// Destroyed, and there.
    DestroyedIsPresent,
    /// Pre-active, and not there.
    PreActiveIsNotPresent,
    /// Pre-active, and there.
    PreActiveIsPresent,
    /// No longer a target.
    Removed,
    /// No longer a target, and active there.
    RemovedContainsActive,
    /// Not known.
    Unknown,
}

impl SyncDetail {
    /// The name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ActiveIsActive => "active_key_is_active_in_keystore",
            Self::ActiveIsNotActive => "active_key_is_not_active_in_keystore",
            Self::ConnectionError => "connection_error",
            Self::DeactivatedIsDeactivated => "deactivated_key_is_deactivated_in_keystore",
            Self::DeactivatedIsNotDeactivated => "deactivated_key_is_not_deactivated_in_keystore",
            Self::DestroyedIsNotPresent => "destroyed_key_is_not_present_in_keystore",
            Self::DestroyedIsPresent => "destroyed_key_is_present_in_keystore",
            Self::PreActiveIsNotPresent => "pre_active_key_is_not_present_in_keystore",
            Self::PreActiveIsPresent => "pre_active_key_is_present_in_keystore",
            Self::Removed => "target_keystore_removed_by_user",
            Self::RemovedContainsActive => "target_keystore_removed_by_user_contains_an_active_key",
            Self::Unknown => "unknown",
        }
    }
}

/// Whether a key is, on all its keystores, what it should be (promises 1.3): the worst of them counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPhase {
    /// In one word.
    pub phase: Phase,
    /// How many keystores have confirmed.
    pub confirmed: usize,
    /// Of how many.
    pub total: usize,
    /// Those that have not.
    pub unconfirmed: Vec<KeystoreId>,
}

/// A key's phase, from good to bad: the worst keystore counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// All keystores have confirmed.
    InStep,
    /// A change is on its way, and nothing is known to be wrong.
    Changing,
    /// At least one keystore is not known, and nothing is known to be wrong.
    Unknown,
    /// At least one keystore is not as it should be.
    OutOfStep,
}

impl Phase {
    /// All of them, from good to bad.
    pub const ALL: [Self; 4] = [Self::InStep, Self::Changing, Self::Unknown, Self::OutOfStep];

    /// That of one instance.
    #[must_use]
    pub const fn of(status: &Status) -> Self {
        match status {
            Status::InSync(_) => Self::InStep,
            Status::Pending { .. } => Self::Changing,
            Status::Unknown { .. } => Self::Unknown,
            Status::Drift
            | Status::Diverged
            | Status::Failed { .. }
            | Status::Unavailable { .. } => Self::OutOfStep,
        }
    }

    /// The name in API, CLI and pages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InStep => "in_step",
            Self::Changing => "changing",
            Self::OutOfStep => "out_of_step",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests;
