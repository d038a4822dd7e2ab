//! One instant, looked at from above: I3 to I7, I10, I13, I15 to I17.
//!
//! Owns: functions over snapshots, of a simulation, of tests with real processes, or of production. Never: uses `effects` or
//! `status` to say what a token should hold: the match is its own, and asks less (no labels).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use crate::decide::check::history::Place;
use crate::decide::check::{Invariant, Violation};
use crate::model::capabilities::Strategy;
use crate::model::desired::{Applied, Instance, ObjectPlan, Want};
use crate::model::difference::Status;
use crate::model::ids::{Digest, KeystoreId, OperationId};
use crate::model::observed::{Found, ObjectFacts};

/// One instance, what is said of it, and what its token truly holds under its CKA_ID.
#[derive(Debug, Clone, Copy)]
pub struct Sight<'a> {
    /// What is wanted.
    pub instance: &'a Instance,
    /// What is said.
    pub status: &'a Status,
    /// What is there.
    pub found: &'a Found,
    /// How the agent enables and disables it.
    pub strategy: Strategy,
    /// Whether somebody changed the token past us after the look that the status rests on.
    pub edited_since: bool,
}

impl Sight<'_> {
    fn place(&self) -> Place {
        Place::of(&self.instance.intent)
    }

    fn broken(&self, invariant: Invariant, what: &str) -> Violation {
        let Place { keystore, version } = self.place();
        let status = self.status.name();
        let what = format!("key version {version} on {keystore} is said to be {status}: {what}");
        Violation::new(invariant, what)
    }
}

/// Whether an object may do what the key may do while it is active only.
fn is_usable(plan: &ObjectPlan, object: &ObjectFacts) -> bool {
    let kept = plan.usage_under(Want::Deactivated, object.class);
    object.usage.iter().any(|usage| !kept.has(usage))
}

/// Whether a token holds what is wanted, label aside. A keystore that was removed from the targets owes only that nothing
/// there can be used.
#[must_use]
pub fn holds(instance: &Instance, found: &Found, strategy: Strategy) -> bool {
    let intent = &instance.intent;
    let plan = &intent.object;
    if !instance.is_target && intent.want != Want::Destroyed {
        return !found.objects.iter().any(|object| is_usable(plan, object));
    }
    if intent.want == Want::Destroyed
        || (intent.want == Want::Deactivated && strategy == Strategy::Withdraw)
    {
        return found.objects.is_empty();
    }
    let classes = plan.spec.class().objects();
    let is_other = found
        .fingerprint
        .is_some_and(|seen| seen.method == intent.fingerprint.method && seen != intent.fingerprint);
    !is_other
        && found.objects.len() == classes.len()
        && classes.iter().all(|&class| {
            let usage = plan.usage_under(intent.want, class);
            found
                .objects
                .iter()
                .any(|object| object.class == class && object.usage == usage)
        })
}

/// I5: what is called in sync is so.
#[must_use]
pub fn truth(sight: &Sight<'_>) -> Option<Violation> {
    let Status::InSync(want) = sight.status else {
        return None;
    };
    if *want != sight.instance.intent.want {
        return Some(sight.broken(Invariant::Truth, "with what is not wanted"));
    }
    let is_true = sight.edited_since || holds(sight.instance, sight.found, sight.strategy);
    (!is_true).then(|| sight.broken(Invariant::Truth, "the token holds another thing"))
}

/// I10: a key is in sync as deactivated or destroyed everywhere only while nothing of it can be used anywhere. All sights of
/// one key.
#[must_use]
pub fn honest(sights: &[Sight<'_>]) -> Option<Violation> {
    let says_unusable = |sight: &Sight<'_>| {
        matches!(
            sight.status,
            Status::InSync(Want::Deactivated | Want::Destroyed)
        )
    };
    if !sights.iter().all(says_unusable) {
        return None;
    }
    let usable = sights.iter().find(|sight| {
        let plan = &sight.instance.intent.object;
        let objects = &sight.found.objects;
        !sight.edited_since && objects.iter().any(|object| is_usable(plan, object))
    })?;
    Some(usable.broken(Invariant::HonestPartial, "a part of it can be used"))
}

/// I4, at rest: one object of each class of the key under its CKA_ID.
#[must_use]
pub fn unique(place: Place, objects: &[ObjectFacts]) -> Option<Violation> {
    let mut classes = BTreeSet::new();
    let twice = objects
        .iter()
        .find(|object| !classes.insert(object.class))?;
    let Place { keystore, version } = place;
    let class = twice.class.name();
    let what = format!("key version {version} on {keystore}: more than one {class}");
    Some(Violation::new(Invariant::Uniqueness, what))
}

/// I3, at rest: nothing is there of what was destroyed, as far as we know (`status` in sync, or the agent's word that it is
/// done). Objects that somebody else put back are a violation too: of the promise, if not by us.
#[must_use]
pub fn terminal(place: Place, want: Want, objects: &[ObjectFacts]) -> Option<Violation> {
    let is_back = want == Want::Destroyed && !objects.is_empty();
    let Place { keystore, version } = place;
    is_back.then(|| {
        let what = format!("key version {version} on {keystore}: destroyed, and there");
        Violation::new(Invariant::Terminal, what)
    })
}

/// I6, when faults stopped and time enough went by: in sync, or in a state that names what a person has to do.
#[must_use]
pub fn settled(sight: &Sight<'_>) -> Option<Violation> {
    match sight.status {
        Status::InSync(_)
        | Status::Drift
        | Status::Diverged
        | Status::Failed { .. }
        | Status::Unavailable { .. } => None,
        Status::Unknown { why } | Status::Pending { why, .. } => {
            Some(sight.broken(Invariant::Convergence, why))
        }
    }
}

/// I7: the digests of intents in force, or applied, are in the audit log.
#[must_use]
pub fn recorded(place: Place, applied: &Applied, log: &BTreeSet<Digest>) -> Option<Violation> {
    let Place { keystore, version } = place;
    let generation = applied.generation;
    (!log.contains(&applied.digest)).then(|| {
        let what = format!(
            "key version {version} on {keystore}: no audit entry for its intent of generation {generation}"
        );
        Violation::new(Invariant::IntentFirst, what)
    })
}

/// I13: of logs as they were shown to several, oldest or newest first, each is a prefix of every longer one.
#[must_use]
pub fn prefixes(logs: &[(&str, &[Digest])]) -> Vec<Violation> {
    let mut sorted: Vec<_> = logs.iter().collect();
    sorted.sort_by_key(|(_, leaves)| leaves.len());
    let mut broken = Vec::new();
    for pair in sorted.windows(2) {
        if let [(short_name, short), (long_name, long)] = pair
            && !long.starts_with(short)
        {
            let (few, many) = (short.len(), long.len());
            let what = format!(
                "the log of {few} entries shown to {short_name} is not the beginning of the {many} shown to {long_name}"
            );
            broken.push(Violation::new(Invariant::Log, what));
        }
    }
    broken
}

/// Something of each keystore, before and after.
pub type BeforeAfter<'a, T> = (&'a BTreeMap<KeystoreId, T>, &'a BTreeMap<KeystoreId, T>);

/// I15: what a module's death on one keystore must leave as it was: all that is on the other tokens, and every record in the
/// journals, its own too.
#[must_use]
pub fn isolated<T: PartialEq, R: PartialEq + Debug>(
    dead: KeystoreId,
    tokens: BeforeAfter<'_, T>,
    journals: BeforeAfter<'_, Vec<R>>,
) -> Vec<Violation> {
    let mut broken = Vec::new();
    let others = tokens.0.iter().filter(|(keystore, _)| **keystore != dead);
    for (keystore, before) in others {
        if tokens.1.get(keystore) != Some(before) {
            let what = format!("the module of {dead} died, and the token of {keystore} changed");
            broken.push(Violation::new(Invariant::Isolation, what));
        }
    }
    for (keystore, before) in journals.0 {
        let after = journals.1.get(keystore).map_or(&[][..], Vec::as_slice);
        if !after.starts_with(before) {
            let what =
                format!("the module of {dead} died, and the journal of {keystore} lost records");
            broken.push(Violation::new(Invariant::Isolation, what));
        }
    }
    broken
}

/// I16: no more waits for a token than `each` per key.
#[must_use]
pub fn bounded(
    keystore: KeystoreId,
    waiting: usize,
    keys: usize,
    each: usize,
) -> Option<Violation> {
    let most = keys.saturating_mul(each);
    (waiting > most).then(|| {
        let what = format!("{keystore}: {waiting} wait for the token, with {keys} keys");
        Violation::new(Invariant::Bounded, what)
    })
}

/// I17: every operation that was answered is in the log.
#[must_use]
pub fn kept(answered: &BTreeSet<OperationId>, log: &BTreeSet<OperationId>) -> Vec<Violation> {
    answered
        .difference(log)
        .map(|operation| {
            let what = format!("operation {operation} was acknowledged and has no audit entry");
            Violation::new(Invariant::AcknowledgedKept, what)
        })
        .collect()
}

/// I17, from the other side: an agent that applied a newer generation than the store holds, or another content under the same
/// one, proves that the store lost what it had acknowledged.
#[must_use]
pub fn not_behind(instance: &Instance, applied: &Applied) -> Option<Violation> {
    let intent = &instance.intent;
    let is_ahead = applied.generation > intent.generation
        || (applied.generation == intent.generation && applied.digest != intent.digest());
    let Place { keystore, version } = Place::of(intent);
    is_ahead.then(|| {
        let what = format!(
            "key version {version} on {keystore}: the agent applied generation {}, the store holds {}: it was restored",
            applied.generation, intent.generation
        );
        Violation::new(Invariant::AcknowledgedKept, what)
    })
}
