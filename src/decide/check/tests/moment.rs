//! Snapshots that break an invariant.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::decide::check::moment::{
    Sight, bounded, holds, honest, isolated, kept, not_behind, prefixes, recorded, settled,
    terminal, truth, unique,
};
use crate::decide::check::tests::{HERE, PLACE, THERE, instance, intent, object, pair};
use crate::decide::check::{Invariant, Violation};
use crate::model::capabilities::Strategy;
use crate::model::desired::Want;
use crate::model::difference::Status;
use crate::model::ids::{Digest, Generation, OperationId};
use crate::model::key::UsageSet;
use crate::model::observed::{Found, ObjectClass};

fn invariants(found: impl IntoIterator<Item = Violation>) -> Vec<Invariant> {
    found.into_iter().map(|one| one.invariant).collect()
}

/// What a status is, said of a pair that is wanted so, while the token holds it as that.
fn said(want: Want, status: &Status, found: &Found, strategy: Strategy) -> Vec<Invariant> {
    let instance = instance(1, want);
    let sight = Sight {
        instance: &instance,
        status,
        found,
        strategy,
        edited_since: false,
    };
    let edited = Sight {
        edited_since: true,
        ..sight
    };
    assert_eq!(honest(&[edited]), None);
    invariants(truth(&sight).into_iter().chain(honest(&[sight])))
}

#[test]
fn in_sync_is_said_of_another_thing() {
    let flags = Strategy::Flags;
    for want in [Want::Active, Want::Deactivated] {
        assert_eq!(said(want, &Status::InSync(want), &pair(want), flags), []);
    }
    let gone = Found::default();
    let destroyed = Status::InSync(Want::Destroyed);
    assert_eq!(said(Want::Destroyed, &destroyed, &gone, flags), []);
    let deactivated = Status::InSync(Want::Deactivated);
    let active = pair(Want::Active);
    assert_eq!(
        said(Want::Deactivated, &deactivated, &active, flags),
        [Invariant::Truth, Invariant::HonestPartial]
    );
    assert_eq!(
        said(Want::Active, &deactivated, &active, flags),
        [Invariant::Truth, Invariant::HonestPartial]
    );
    let withdrawn = said(Want::Deactivated, &deactivated, &gone, Strategy::Withdraw);
    assert_eq!(withdrawn, []);
    // Half a pair is not a key, and other material is not this one.
    let mut half = pair(Want::Active);
    half.objects.pop();
    let active = Status::InSync(Want::Active);
    assert_eq!(
        said(Want::Active, &active, &half, flags),
        [Invariant::Truth]
    );
    let mut other = pair(Want::Active);
    other.fingerprint.as_mut().unwrap().value = Digest([9; 32]);
    assert_eq!(
        said(Want::Active, &active, &other, flags),
        [Invariant::Truth]
    );
    // Whatever else is said claims nothing.
    assert_eq!(said(Want::Active, &Status::Drift, &half, flags), []);
}

#[test]
fn one_keystore_of_a_deactivated_key_still_signs() {
    let instance = instance(1, Want::Deactivated);
    let (off, mut half) = (pair(Want::Deactivated), pair(Want::Deactivated));
    half.objects[0].usage = pair(Want::Active).objects[0].usage;
    let status = Status::InSync(Want::Deactivated);
    let sight = |found, status| Sight {
        instance: &instance,
        status,
        found,
        strategy: Strategy::Flags,
        edited_since: false,
    };
    let all = [sight(&off, &status), sight(&half, &status)];
    assert_eq!(invariants(honest(&all)), [Invariant::HonestPartial]);
    let told = [sight(&off, &status), sight(&half, &Status::Drift)];
    assert_eq!(honest(&told), None);
}

#[test]
fn a_removed_keystore_owes_only_that_nothing_is_usable() {
    let mut removed = instance(1, Want::Deactivated);
    removed.is_target = false;
    assert!(holds(&removed, &Found::default(), Strategy::Flags));
    assert!(holds(&removed, &pair(Want::Deactivated), Strategy::Flags));
    assert!(!holds(&removed, &pair(Want::Active), Strategy::Flags));
}

#[test]
fn twice_and_back_again() {
    let mut objects = pair(Want::Active).objects;
    assert_eq!(unique(PLACE, &objects), None);
    objects.push(object(3, ObjectClass::Public, UsageSet::NONE));
    assert_eq!(invariants(unique(PLACE, &objects)), [Invariant::Uniqueness]);
    assert_eq!(terminal(PLACE, Want::Active, &objects), None);
    assert_eq!(terminal(PLACE, Want::Destroyed, &[]), None);
    let back = terminal(PLACE, Want::Destroyed, &objects);
    assert_eq!(invariants(back), [Invariant::Terminal]);
}

#[test]
fn a_key_that_never_settles() {
    let instance = instance(1, Want::Active);
    let found = pair(Want::Active);
    let said = |status: &Status| {
        invariants(settled(&Sight {
            instance: &instance,
            status,
            found: &found,
            strategy: Strategy::Flags,
            edited_since: false,
        }))
    };
    let why = || "no word".to_owned();
    let pending = Status::Pending {
        generation: Generation(1),
        why: why(),
    };
    assert_eq!(said(&pending), [Invariant::Convergence]);
    assert_eq!(
        said(&Status::Unknown { why: why() }),
        [Invariant::Convergence]
    );
    assert_eq!(said(&Status::Failed { why: why() }), []);
    assert_eq!(said(&Status::InSync(Want::Active)), []);
}

#[test]
fn what_the_log_does_not_hold() {
    let applied = intent(1, Want::Active).applied();
    let log = BTreeSet::from([applied.digest]);
    assert_eq!(recorded(PLACE, &applied, &log), None);
    let missing = recorded(PLACE, &applied, &BTreeSet::new());
    assert_eq!(invariants(missing), [Invariant::IntentFirst]);

    let operation = |number| OperationId::from_uuid(Uuid::from_u128(number));
    let log = BTreeSet::from([operation(1)]);
    assert_eq!(kept(&log, &log), []);
    let answered = BTreeSet::from([operation(1), operation(2)]);
    assert_eq!(
        invariants(kept(&answered, &log)),
        [Invariant::AcknowledgedKept]
    );
}

#[test]
fn an_agent_ahead_of_its_store() {
    let store = instance(2, Want::Active);
    let applied = |generation, want| intent(generation, want).applied();
    assert_eq!(not_behind(&store, &applied(1, Want::Deactivated)), None);
    assert_eq!(not_behind(&store, &applied(2, Want::Active)), None);
    for ahead in [applied(3, Want::Active), applied(2, Want::Destroyed)] {
        let found = invariants(not_behind(&store, &ahead));
        assert_eq!(found, [Invariant::AcknowledgedKept]);
    }
}

#[test]
fn a_log_that_was_rewritten() {
    let [a, b, c] = [Digest([1; 32]), Digest([2; 32]), Digest([3; 32])];
    let shown = |logs: &[(&str, &[Digest])]| invariants(prefixes(logs));
    assert_eq!(shown(&[("x", &[a, b]), ("y", &[a]), ("z", &[a, b, c])]), []);
    assert_eq!(shown(&[("x", &[a, b]), ("y", &[a, c])]), [Invariant::Log]);
    assert_eq!(shown(&[("x", &[b]), ("y", &[a, c])]), [Invariant::Log]);
}

#[test]
fn a_death_that_reaches_further() {
    let tokens = BTreeMap::from([(HERE, "a"), (THERE, "b")]);
    let journals = BTreeMap::from([(HERE, vec![1, 2]), (THERE, vec![3])]);
    let changed_here = BTreeMap::from([(HERE, "lost"), (THERE, "b")]);
    let grown = BTreeMap::from([(HERE, vec![1, 2, 4]), (THERE, vec![3])]);
    let good = isolated(HERE, (&tokens, &changed_here), (&journals, &grown));
    assert_eq!(good, []);
    let changed_there = BTreeMap::from([(HERE, "a"), (THERE, "c")]);
    let shrunk = BTreeMap::from([(HERE, vec![1]), (THERE, vec![3])]);
    let bad = isolated(HERE, (&tokens, &changed_there), (&journals, &shrunk));
    assert_eq!(invariants(bad), [Invariant::Isolation; 2]);
}

#[test]
fn a_queue_that_grows() {
    assert_eq!(bounded(HERE, 10, 2, 5), None);
    assert_eq!(invariants(bounded(HERE, 11, 2, 5)), [Invariant::Bounded]);
}
