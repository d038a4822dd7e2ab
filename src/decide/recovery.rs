//! After the store was restored from a backup: what shows it, and what each key becomes when an operator goes on.
//!
//! Restrictive wins (promises R11): destroyed above deactivated above active, whether the store or the agents say it. Only where
//! the operator says that the agents are right does anything become active that the store does not know as active.

use crate::model::desired::{Instance, Want};
use crate::model::ids::KeystoreId;
use crate::model::lifecycle::ManagedState;
use crate::model::protocol::Report;
use crate::model::recovery::{Evidence, Prefer};

/// What a report shows about the age of the store; `instance` is what the store wants there.
#[must_use]
pub fn evidence(
    keystore: KeystoreId,
    instance: Option<&Instance>,
    report: &Report,
) -> Option<Evidence> {
    let applied = report.applied?;
    let version = report.version;
    let Some(instance) = instance else {
        // The record of a destroyed key can be removed; the agent remembers it for ever.
        return (applied.want != Want::Destroyed).then_some(Evidence::Stranger {
            keystore,
            version,
            applied,
        });
    };
    is_ahead(instance, report).then_some(Evidence::Ahead {
        keystore,
        version,
        applied,
        stored: instance.intent.generation,
    })
}

/// Whether the agent holds a later intent than the store, or another one of the same number.
#[must_use]
pub fn is_ahead(instance: &Instance, report: &Report) -> bool {
    let intent = &instance.intent;
    report.applied.is_some_and(|applied| {
        applied.generation > intent.generation
            || (applied.generation == intent.generation && applied.digest != intent.digest())
    })
}

/// A key on one keystore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Which keystore.
    pub keystore: KeystoreId,
    /// Whether the store has it as a target.
    pub is_target: bool,
    /// Whether its agent holds what the store wants there.
    pub confirms: bool,
    /// What the agent holds, where it is ahead of the store.
    pub ahead: Option<Want>,
}

/// What a key becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// Its state.
    pub state: ManagedState,
    /// Its targets.
    pub targets: Vec<KeystoreId>,
}

/// What a key becomes of which at least one agent is ahead.
#[must_use]
pub fn settle(state: ManagedState, rows: &[Row], prefer: Prefer) -> Settled {
    let targets: Vec<KeystoreId> = at(rows, |row| row.is_target);
    let ahead = |want: Want| at(rows, move |row| row.ahead == Some(want));
    let kept = |state| Settled {
        state,
        targets: targets.clone(),
    };
    if !ahead(Want::Destroyed).is_empty() {
        return kept(gone(state));
    }
    match state {
        ManagedState::Compromised
        | ManagedState::Destroyed
        | ManagedState::DestroyedCompromised => kept(state),
        ManagedState::Active => active(rows, prefer, &targets),
        ManagedState::Deactivated | ManagedState::PreActivation => {
            let enabled = ahead(Want::Active);
            if prefer == Prefer::Restrict || enabled.is_empty() {
                return kept(ManagedState::Deactivated);
            }
            let disabled = ahead(Want::Deactivated);
            Settled {
                state: ManagedState::Active,
                targets: merged(&targets, &enabled, &disabled),
            }
        }
    }
}

/// Active in the store: where agents were told to deactivate it, it was removed, or everywhere it was deactivated.
fn active(rows: &[Row], prefer: Prefer, targets: &[KeystoreId]) -> Settled {
    let disabled = at(rows, |row| row.ahead == Some(Want::Deactivated));
    let stays_on = |row: &Row| row.is_target && (row.confirms || row.ahead == Some(Want::Active));
    if !disabled.is_empty() && !rows.iter().any(stays_on) {
        return Settled {
            state: ManagedState::Deactivated,
            targets: targets.to_vec(),
        };
    }
    let enabled = match prefer {
        Prefer::Restrict => Vec::new(),
        Prefer::Agents => at(rows, |row| row.ahead == Some(Want::Active)),
    };
    Settled {
        state: ManagedState::Active,
        targets: merged(targets, &enabled, &disabled),
    }
}

const fn gone(state: ManagedState) -> ManagedState {
    match state {
        ManagedState::Compromised | ManagedState::DestroyedCompromised => {
            ManagedState::DestroyedCompromised
        }
        ManagedState::PreActivation
        | ManagedState::Active
        | ManagedState::Deactivated
        | ManagedState::Destroyed => ManagedState::Destroyed,
    }
}

fn at(rows: &[Row], is_it: impl Fn(&Row) -> bool) -> Vec<KeystoreId> {
    let found = rows.iter().filter(|row| is_it(row));
    found.map(|row| row.keystore).collect()
}

fn merged(targets: &[KeystoreId], added: &[KeystoreId], removed: &[KeystoreId]) -> Vec<KeystoreId> {
    let mut merged: Vec<KeystoreId> = targets
        .iter()
        .chain(added.iter().filter(|one| !targets.contains(one)))
        .copied()
        .collect();
    merged.retain(|one| !removed.contains(one));
    merged
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use crate::decide::recovery::*;
    use ManagedState::{
        Active, Compromised, Deactivated, Destroyed, DestroyedCompromised, PreActivation,
    };

    fn store(number: u8) -> KeystoreId {
        KeystoreId::from_uuid(Uuid::from_bytes([number; 16]))
    }

    /// `1` a target, `2` one that it was removed from; behind it what the agent holds where it is ahead: `+` active, `-`
    /// deactivated, `x` destroyed; `?` was not heard, or has never taken it.
    fn rows(text: &str) -> Vec<Row> {
        let row = |(number, word): (usize, &str)| Row {
            keystore: store(u8::try_from(number).unwrap()),
            is_target: word.starts_with('1'),
            confirms: word.len() == 1,
            ahead: match word.chars().last() {
                Some('+') => Some(Want::Active),
                Some('-') => Some(Want::Deactivated),
                Some('x') => Some(Want::Destroyed),
                _ => None,
            },
        };
        text.split(' ').enumerate().map(row).collect()
    }

    #[track_caller]
    fn check(state: ManagedState, text: &str, prefer: Prefer, to: ManagedState, targets: &[u8]) {
        let settled = settle(state, &rows(text), prefer);
        let wanted: Vec<KeystoreId> = targets.iter().map(|&one| store(one)).collect();
        assert_eq!((settled.state, settled.targets), (to, wanted), "{text}");
    }

    #[test]
    fn destroyed_anywhere_is_destroyed_everywhere() {
        for prefer in [Prefer::Restrict, Prefer::Agents] {
            check(Active, "1x 1 1+", prefer, Destroyed, &[0, 1, 2]);
            check(PreActivation, "1x", prefer, Destroyed, &[0]);
            check(Compromised, "1x 1", prefer, DestroyedCompromised, &[0, 1]);
            check(Destroyed, "1+ 1", prefer, Destroyed, &[0, 1]);
        }
    }

    #[test]
    fn deactivated_at_all_targets_is_deactivated() {
        for prefer in [Prefer::Restrict, Prefer::Agents] {
            check(Active, "1- 1-", prefer, Deactivated, &[0, 1]);
            check(Active, "1- 1?", prefer, Deactivated, &[0, 1]);
        }
    }

    #[test]
    fn deactivated_at_some_targets_was_removed_there() {
        for prefer in [Prefer::Restrict, Prefer::Agents] {
            check(Active, "1- 1 1", prefer, Active, &[1, 2]);
            check(Active, "1- 1+", prefer, Active, &[1]);
            check(Active, "1 2-", prefer, Active, &[0]);
        }
    }

    #[test]
    fn going_up_needs_the_operators_word() {
        check(Deactivated, "1+ 1+", Prefer::Restrict, Deactivated, &[0, 1]);
        check(Deactivated, "1+ 1+", Prefer::Agents, Active, &[0, 1]);
        check(Deactivated, "1+ 1-", Prefer::Agents, Active, &[0]);
        check(PreActivation, "1+", Prefer::Restrict, Deactivated, &[0]);
        check(PreActivation, "1+ 1", Prefer::Agents, Active, &[0, 1]);
        check(Active, "1 2+", Prefer::Restrict, Active, &[0]);
        check(Active, "1 2+", Prefer::Agents, Active, &[0, 1]);
        check(Compromised, "1+", Prefer::Agents, Compromised, &[0]);
    }
}
