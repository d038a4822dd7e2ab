//! Tokens that are not ours, in trouble, or without a journal: nothing is believed of them, and what restricts waits or goes on.

use crate::decide::agent::io::{Input, ProveFailure, StreamId};
use crate::decide::agent::record::JournalRecord;
use crate::decide::agent::tests::looks::with_deactivated_keys;
use crate::decide::agent::tests::token::{Fault, Token};
use crate::decide::agent::tests::world::{MARKER, STREAM, World, cka_id, intent, version};
use crate::model::desired::Want;
use crate::model::ids::{Epoch, KeystoreId};
use crate::model::job::FailureKind;
use crate::model::key::{Usage, UsageSet};
use crate::model::keystore::{Health, Marker};
use crate::model::observed::{ObjectClass, Observation};
use crate::model::protocol::{Progress, Refusal, UpBody};

fn check_strange(markers: Vec<Marker>, expected: &Health) {
    let mut world = with_deactivated_keys(&[1, 2]);
    // Swapped for another token: nothing of ours is on it.
    world.token = Token {
        markers,
        ..Token::default()
    };
    world.pass(20_000);
    assert_eq!(world.last_health(), *expected);
    for number in [1, 2] {
        assert!(
            matches!(
                world.report(number).observation,
                Observation::Unknown { .. }
            ),
            "unknown, never absent: {:?}",
            world.report(number)
        );
    }
    world.send_with_material(&intent(1, 2, Want::Active));
    assert_eq!(*world.last_refusal(), Refusal::Unhealthy(expected.clone()));
    world.send(&intent(1, 2, Want::Destroyed));
    assert_eq!(*world.last_refusal(), Refusal::Unhealthy(expected.clone()));
    assert!(
        world
            .token
            .log
            .iter()
            .all(|l| l == "scan" || l == "identify")
    );
}

#[test]
fn nothing_is_believed_or_done_on_a_token_that_is_not_ours() {
    let other = Marker {
        keystore: KeystoreId::from_uuid(uuid::Uuid::from_u128(2)),
        epoch: Epoch(1),
    };
    let later = Marker {
        epoch: Epoch(2),
        ..MARKER
    };
    check_strange(vec![], &Health::MarkerMissing);
    check_strange(vec![other], &Health::BelongsTo(other));
    check_strange(vec![MARKER, other], &Health::BelongsTo(other));
    check_strange(vec![later], &Health::OtherEpoch(later));
}

#[test]
fn the_right_token_put_back_is_looked_at_from_the_start() {
    let mut world = with_deactivated_keys(&[1]);
    let ours = std::mem::take(&mut world.token);
    world.pass(10_000);
    assert_eq!(world.last_health(), Health::MarkerMissing);
    world.token = ours;
    world.pass(10_000);
    assert_eq!(world.last_health(), Health::Ok);
    assert!(matches!(
        world.report(1).observation,
        Observation::Present(_)
    ));
}

#[test]
fn a_lost_journal_is_quarantined_and_may_only_restrict() {
    let mut world = World::with_journal(Vec::<JournalRecord>::new());
    world.token.add(ObjectClass::Secret, &cka_id(1), "key-1", 1);
    world.token.objects[0].usage = UsageSet::of(&[Usage::Encrypt]);
    world.go(Input::Tick);
    world.open(STREAM, 1, None);
    assert_eq!(world.last_health(), Health::JournalLost);
    assert!(matches!(world.last_up(), UpBody::CaughtUp { .. }));
    let told = world
        .ups
        .iter()
        .any(|(_, up)| matches!(&up.body, UpBody::Unmanaged(objects) if objects.len() == 1));
    assert!(told, "what is there is shown");
    world.send_with_material(&intent(3, 1, Want::Active));
    assert_eq!(
        *world.last_refusal(),
        Refusal::Unhealthy(Health::JournalLost)
    );
    world.send(&intent(1, 5, Want::Deactivated));
    assert_eq!(world.on_token(1), "secret key none");
    world.send(&intent(1, 6, Want::Destroyed));
    assert_eq!(world.on_token(1), "");
    world.restart();
    world.go(Input::Tick);
    assert_eq!(world.machine.health(), Health::JournalLost);
}

/// The store was restored too, or a coordinator went by what it had read long ago: it wants a key deactivated here that this
/// agent destroyed and does not remember.
#[test]
fn nothing_is_installed_in_quarantine() {
    let mut world = World::with_journal(Vec::<JournalRecord>::new());
    world.go(Input::Tick);
    world.open(STREAM, 1, None);
    assert_eq!(world.last_health(), Health::JournalLost);
    world.send_with_material(&intent(1, 2, Want::Deactivated));
    assert_eq!(world.on_token(1), "");
    let Progress::Failed(failure) = world.report(1).progress else {
        panic!("{:?}", world.report(1));
    };
    assert_eq!(failure.function, "quarantine");
    // Half a pair is not made whole, and not taken away either.
    world.token.add(ObjectClass::Public, &cka_id(2), "key-2", 2);
    world.token.objects[0].usage = UsageSet::of(&[Usage::Verify]);
    world.send_with_material(&intent(2, 2, Want::Deactivated));
    assert_eq!(world.on_token(2), "public key none");
}

#[test]
fn token_troubles_have_their_names_and_restrictions_wait_for_its_return() {
    for (kind, health) in [
        (FailureKind::WrongPin, Health::WrongPin),
        (FailureKind::PinLocked, Health::PinLocked),
        (
            FailureKind::NoToken,
            Health::TokenNotFound {
                label: "tiny".to_owned(),
                serial: String::new(),
            },
        ),
    ] {
        let mut world = with_deactivated_keys(&[1]);
        world.send(&intent(1, 2, Want::Active));
        world.token.broken = Some(kind);
        world.pass(3_000);
        assert_eq!(world.last_health(), health);
        world.send(&intent(1, 3, Want::Active));
        assert_eq!(*world.last_refusal(), Refusal::Unhealthy(health));
        world.send(&intent(1, 3, Want::Deactivated));
        assert_eq!(world.report(1).progress, Progress::Busy);
        world.token.broken = None;
        world.pass(10_000);
        assert_eq!(world.report(1).progress, Progress::Done);
        assert_eq!(world.on_token(1), "secret key none");
    }
}

#[test]
fn a_module_that_fails_is_asked_again_ever_more_slowly() {
    let mut world = with_deactivated_keys(&[1]);
    world.token.broken = Some(FailureKind::Restart);
    world.pass(2_500);
    assert!(matches!(world.last_health(), Health::ModuleFailed { .. }));
    let before = world.outputs;
    world.pass(300_000);
    assert!(world.outputs - before < 60, "{}", world.outputs - before);
    world.token.broken = None;
    world.pass(35_000);
    assert_eq!(world.last_health(), Health::Ok);
}

#[test]
fn scans_that_fail_do_not_stop_the_rest() {
    let mut world = with_deactivated_keys(&[1]);
    world.token.faults.extend([Fault::LostAfter(0); 3]);
    world.pass(3_000);
    world.send(&intent(1, 2, Want::Active));
    world.pass(60_000);
    assert_eq!(world.last_health(), Health::Ok);
    assert_eq!(world.report(1).progress, Progress::Done);
}

#[test]
fn asking_for_a_look_always_gets_an_answer() {
    let mut world = with_deactivated_keys(&[1]);
    world.go(Input::Look {
        stream: STREAM,
        version: Some(version(1)),
    });
    assert_eq!(world.report(1).look_age_ms, 0);
    world.go(Input::Look {
        stream: STREAM,
        version: Some(version(9)),
    });
    assert_eq!(world.report(9).applied, None);
    world.ups.clear();
    world.go(Input::Look {
        stream: STREAM,
        version: None,
    });
    assert_eq!(*world.last_up(), UpBody::CaughtUp { scan_age_ms: 0 });
}

#[test]
fn proofs_are_repeated_when_asked_for() {
    let mut world = with_deactivated_keys(&[1, 2]);
    world.send(&intent(2, 2, Want::Destroyed));
    for number in [1, 2, 9] {
        world.go(Input::Prove {
            request: u64::from(number),
            version: version(number),
        });
    }
    let (request, result) = &world.proved[0];
    assert_eq!(*request, 1);
    let report = result.as_ref().unwrap();
    assert!(report.proof.is_some());
    assert_eq!((report.proof_age_ms, report.look_age_ms), (0, 0));
    assert!(world.proved[1].1.is_ok());
    assert_eq!(world.proved[2].1, Err(ProveFailure::Unmanaged));
    world.token.objects[0].usage = UsageSet::of(&[Usage::Encrypt]);
    world.go(Input::Prove {
        request: 4,
        version: version(1),
    });
    assert!(matches!(world.proved[3].1, Err(ProveFailure::Failed(_))));
    world.token.broken = Some(FailureKind::WrongPin);
    world.pass(3_000);
    world.go(Input::Prove {
        request: 5,
        version: version(1),
    });
    assert_eq!(
        world.proved[4].1,
        Err(ProveFailure::Unhealthy(Health::WrongPin))
    );
}

#[test]
fn a_flood_of_enabling_does_not_blind_the_agent() {
    let mut world = World::live();
    for number in (1..=199).step_by(2) {
        let wanted = intent(number, 1, Want::Active);
        world
            .give(Input::Intent {
                stream: STREAM,
                intent: Box::new(wanted.clone()),
                envelope: Some(Ok(crate::decide::agent::tests::world::envelope(&wanted))),
            })
            .unwrap();
    }
    world.token.log.clear();
    while world.follow().unwrap() {
        world.now += 200;
    }
    let mut longest = 0;
    let mut jobs = 0;
    for line in &world.token.log {
        jobs = if line == "scan" { 0 } else { jobs + 1 };
        longest = longest.max(jobs);
    }
    assert!(longest < 150, "{longest}");
    assert_eq!(world.report(199).progress, Progress::Done);
    assert_eq!(
        world
            .ups
            .iter()
            .filter(|(to, _)| *to == StreamId(9))
            .count(),
        0
    );
}
