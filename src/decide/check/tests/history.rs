//! Events that break an invariant, one after the other.

use crate::decide::check::Invariant;
use crate::decide::check::history::{Approvals, Change, Event, Place, Purpose, Watch};
use crate::decide::check::tests::{HERE, PLACE, THERE, VERSION, intent, object, pair};
use crate::model::desired::Want;
use crate::model::ids::{Digest, Generation, SessionNumber};
use crate::model::key::{Usage, UsageSet};
use crate::model::observed::ObjectClass;

const ADDED: Change = Change {
    added: true,
    enabled: false,
};
const ENABLED: Change = Change {
    added: false,
    enabled: true,
};
const RESTRICTED: Change = Change {
    added: false,
    enabled: false,
};

fn broken(events: &[Event]) -> Vec<Invariant> {
    let mut watch = Watch::default();
    let mut broken = Vec::new();
    for event in events {
        watch.see(event, &mut broken);
    }
    broken.iter().map(|one| one.invariant).collect()
}

fn committed(generation: u64, want: Want, order: u64) -> Event {
    Event::Committed {
        place: PLACE,
        applied: intent(generation, want).applied(),
        order,
        approvals: Approvals::default(),
    }
}

fn journaled(generation: u64, want: Want, done: Option<bool>) -> Event {
    Event::Journaled {
        place: PLACE,
        applied: intent(generation, want).applied(),
        done,
    }
}

fn effect(generation: u64, want: Want, change: Change) -> Event {
    Event::Effect {
        place: PLACE,
        applied: intent(generation, want).applied(),
        change,
    }
}

fn reported(generation: u64, want: Want) -> Event {
    Event::Reported {
        place: PLACE,
        applied: intent(generation, want).applied(),
        done: true,
    }
}

/// Committed, journaled, in that order.
fn ordered(generation: u64, want: Want, order: u64) -> [Event; 2] {
    [
        committed(generation, want, order),
        journaled(generation, want, None),
    ]
}

fn join(parts: &[&[Event]]) -> Vec<Event> {
    parts.concat()
}

#[test]
fn a_life_as_it_should_be_breaks_nothing() {
    let life = join(&[
        &ordered(1, Want::Active, 1),
        &[
            effect(1, Want::Active, ADDED),
            effect(1, Want::Active, ENABLED),
        ],
        &[
            journaled(1, Want::Active, Some(true)),
            reported(1, Want::Active),
        ],
        &ordered(2, Want::Deactivated, 2),
        &[effect(2, Want::Deactivated, RESTRICTED)],
        &ordered(3, Want::Active, 3),
        &[effect(3, Want::Active, ENABLED)],
        &ordered(4, Want::Destroyed, 4),
        &[effect(4, Want::Destroyed, RESTRICTED)],
    ]);
    assert_eq!(broken(&life), []);
}

#[test]
fn an_older_effect_after_a_newer_one() {
    let events = join(&[
        &ordered(1, Want::Active, 1),
        &ordered(2, Want::Active, 2),
        &[
            effect(2, Want::Active, ENABLED),
            effect(1, Want::Active, ENABLED),
        ],
    ]);
    assert_eq!(broken(&events), [Invariant::MonotoneEffects]);
}

#[test]
fn an_old_order_under_a_new_number_enables() {
    let events = |order| {
        join(&[
            &ordered(1, Want::Deactivated, 2),
            &[effect(1, Want::Deactivated, RESTRICTED)],
            &ordered(2, Want::Active, order),
            &[effect(2, Want::Active, ENABLED)],
        ])
    };
    assert_eq!(broken(&events(1)), [Invariant::NoStaleReactivation]);
    assert_eq!(broken(&events(3)), []);
}

#[test]
fn a_destroyed_key_comes_back() {
    let events = join(&[
        &ordered(1, Want::Destroyed, 1),
        &[effect(1, Want::Destroyed, RESTRICTED)],
        &ordered(2, Want::Deactivated, 2),
        &[effect(2, Want::Deactivated, ADDED)],
    ]);
    assert_eq!(broken(&events), [Invariant::Terminal]);
}

#[test]
fn an_order_that_does_not_enable_enables() {
    let events = join(&[
        &ordered(1, Want::Deactivated, 1),
        &[effect(1, Want::Deactivated, ENABLED)],
    ]);
    assert_eq!(broken(&events), [Invariant::Uniqueness]);
}

#[test]
fn an_effect_comes_before_its_record() {
    let unwritten = [
        committed(1, Want::Active, 1),
        effect(1, Want::Active, ADDED),
    ];
    assert_eq!(broken(&unwritten), [Invariant::IntentFirst]);
    let unasked = [
        journaled(1, Want::Active, None),
        effect(1, Want::Active, ADDED),
    ];
    assert_eq!(broken(&unasked), [Invariant::IntentFirst]);
    // A journal that was lost does not speak for what it held.
    let lost = join(&[
        &ordered(1, Want::Active, 1),
        &[
            Event::JournalRestored {
                keystore: HERE,
                holds: Vec::new(),
            },
            effect(1, Want::Active, ADDED),
        ],
    ]);
    assert_eq!(broken(&lost), [Invariant::IntentFirst]);
}

#[test]
fn done_is_said_too_early() {
    let early = join(&[&ordered(1, Want::Active, 1), &[reported(1, Want::Active)]]);
    assert_eq!(broken(&early), [Invariant::DurableBeforeDone]);
    let denied = [
        journaled(1, Want::Active, Some(false)),
        reported(1, Want::Active),
    ];
    assert_eq!(broken(&denied), [Invariant::DurableBeforeDone]);
}

#[test]
fn an_ended_session_still_counts() {
    let accepted = |number| Event::Accepted {
        keystore: HERE,
        session: SessionNumber(number),
    };
    let taken = |number| Event::Taken {
        place: PLACE,
        session: SessionNumber(number),
        applied: intent(1, Want::Active).applied(),
    };
    let joined = |number| Event::Joined {
        coordinator: 1,
        keystore: HERE,
        session: SessionNumber(number),
    };
    let counted = |coordinator, number| Event::Counted {
        coordinator,
        keystore: HERE,
        session: SessionNumber(number),
    };
    assert_eq!(broken(&[accepted(1), accepted(2), taken(2)]), []);
    assert_eq!(
        broken(&[accepted(1), accepted(2), taken(1)]),
        [Invariant::Session]
    );
    assert_eq!(broken(&[accepted(2), accepted(2)]), [Invariant::Session]);
    assert_eq!(
        broken(&[joined(1), joined(2), counted(1, 1)]),
        [Invariant::Session]
    );
    // Another coordinator does not know of session 2 yet.
    assert_eq!(broken(&[joined(1), joined(2), counted(2, 1)]), []);
}

#[test]
fn a_key_is_wrapped_for_the_wrong_one() {
    let asked = Purpose {
        place: PLACE,
        generation: Generation(1),
    };
    let other = Purpose {
        place: Place {
            keystore: THERE,
            version: VERSION,
        },
        generation: Generation(1),
    };
    let wrapped = |is_listed, signed| Event::Wrapped {
        source: THERE,
        is_listed,
        asked,
        signed,
    };
    assert_eq!(broken(&[wrapped(true, asked)]), []);
    assert_eq!(broken(&[wrapped(false, asked)]), [Invariant::WrapBinding]);
    assert_eq!(broken(&[wrapped(true, other)]), [Invariant::WrapBinding]);
}

#[test]
fn two_eyes_are_not_four() {
    let with = |approvers: &[&str]| {
        let approvals = Approvals {
            requester: "ann".to_owned(),
            approvers: approvers.iter().map(|&name| name.to_owned()).collect(),
            needed: 2,
        };
        let applied = intent(1, Want::Active).applied();
        let asked = Event::Committed {
            place: PLACE,
            applied,
            order: 1,
            approvals,
        };
        let journaled = journaled(1, Want::Active, None);
        broken(&[asked, journaled, effect(1, Want::Active, ENABLED)])
    };
    assert_eq!(with(&["bob", "cy"]), []);
    assert_eq!(with(&["bob", "ann"]), [Invariant::FourEyes]);
    assert_eq!(with(&["bob", "bob"]), [Invariant::FourEyes]);
}

#[test]
fn a_refused_pin_is_tried_again() {
    let login = |keystore, pin, refused| Event::Login {
        keystore,
        pin: Digest([pin; 32]),
        refused,
    };
    let good = [
        login(HERE, 1, true),
        login(HERE, 2, false),
        login(HERE, 2, false),
        login(THERE, 1, false),
    ];
    assert_eq!(broken(&good), []);
    let bad = [login(HERE, 1, true), login(HERE, 1, false)];
    assert_eq!(broken(&bad), [Invariant::Pin]);
}

#[test]
fn what_an_effect_changed_is_seen() {
    let enabled = intent(1, Want::Active);
    let (off, on) = (pair(Want::Deactivated).objects, pair(Want::Active).objects);
    let between = |before: &[_], after: &[_]| Change::between(&enabled, before, after);
    assert_eq!(between(&[], &off), ADDED);
    assert_eq!(between(&off, &on), ENABLED);
    assert_eq!(between(&on, &off), RESTRICTED);
    assert_eq!(between(&on, &on), RESTRICTED);
    // An enabled copy of an enabled object enables nothing.
    let sign = UsageSet::of(&[Usage::Sign]);
    let copied = [
        object(1, ObjectClass::Private, sign),
        object(9, ObjectClass::Private, sign),
    ];
    assert_eq!(between(&on, &copied), ADDED);
}
