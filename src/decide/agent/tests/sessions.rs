//! Sessions: one lives, and what it carried dies with it.

use crate::decide::agent::io::{Input, StreamId};
use crate::decide::agent::tests::world::{
    KEYSTORE, STREAM, World, envelope, intent, reports, version,
};
use crate::model::desired::Want;
use crate::model::ids::{BootId, Digest, KeystoreId, SessionNumber, Term};
use crate::model::protocol::{Cursor, Progress, SessionRefusal, Up, UpBody, wanted_digest};

const OTHER: StreamId = StreamId(2);

fn bodies(world: &World, stream: StreamId) -> Vec<&UpBody> {
    let ours = world.ups.iter().filter(|(to, _)| *to == stream);
    ours.map(|(_, up)| &up.body).collect()
}

#[test]
fn a_session_is_durable_before_it_is_accepted() {
    let mut world = World::new();
    world.go(Input::Tick);
    world
        .give(Input::Open {
            stream: STREAM,
            term: Term(4),
            keystore: KEYSTORE,
            cursor: None,
        })
        .unwrap();
    assert!(world.ups.is_empty());
    assert_eq!(world.session(), None);
    while world.follow().unwrap() {}
    assert!(matches!(
        world.ups[0].1.body,
        UpBody::Accepted {
            session: SessionNumber(1),
            full: true,
            ..
        }
    ));
    assert_eq!(world.session(), Some(SessionNumber(1)));
}

#[test]
fn an_older_term_is_told_the_highest_one_even_after_a_restart() {
    let mut world = World::live();
    world.open(OTHER, 7, None);
    assert!(world.closed.contains(&STREAM));
    world.restart();
    world.go(Input::Tick);
    world.open(STREAM, 6, None);
    assert_eq!(
        *world.last_up(),
        UpBody::Rejected(SessionRefusal::StaleTerm { highest: Term(7) })
    );
    assert_eq!(world.closed.last(), Some(&STREAM));
    assert_eq!(world.session(), None);
    world.open(OTHER, 7, None);
    assert_eq!(world.session(), Some(SessionNumber(3)));
}

#[test]
fn a_session_for_another_keystore_is_turned_away() {
    let mut world = World::live();
    world.go(Input::Open {
        stream: OTHER,
        term: Term(9),
        keystore: KeystoreId::from_uuid(uuid::Uuid::from_u128(3)),
        cursor: None,
    });
    assert_eq!(
        *world.last_up(),
        UpBody::Rejected(SessionRefusal::WrongKeystore {
            actual: Some(KEYSTORE)
        })
    );
    assert_eq!(
        world.session(),
        Some(SessionNumber(1)),
        "the live one goes on"
    );
}

#[test]
fn what_comes_on_an_older_session_does_nothing() {
    let mut world = World::live();
    world.open(OTHER, 1, None);
    assert_eq!(world.closed, [STREAM]);
    let (records, jobs, ups) = (world.journal.len(), world.token.log.len(), world.ups.len());
    let wanted = intent(1, 1, Want::Active);
    world.send_with_material(&wanted);
    world.go(Input::Look {
        stream: STREAM,
        version: None,
    });
    world.go(Input::Heartbeat {
        stream: STREAM,
        wanted: Digest([0; 32]),
    });
    world.go(Input::StreamGone { stream: STREAM });
    assert_eq!(
        (world.journal.len(), world.token.log.len(), world.ups.len()),
        (records, jobs, ups)
    );
    assert_eq!(world.session(), Some(SessionNumber(2)));
}

#[test]
fn nothing_counts_while_a_session_is_being_opened() {
    let mut world = World::live();
    world
        .give(Input::Open {
            stream: OTHER,
            term: Term(1),
            keystore: KEYSTORE,
            cursor: None,
        })
        .unwrap();
    for stream in [STREAM, OTHER] {
        let wanted = intent(1, 1, Want::Active);
        world
            .give(Input::Intent {
                stream,
                intent: Box::new(wanted.clone()),
                envelope: Some(Ok(envelope(&wanted))),
            })
            .unwrap();
    }
    assert_eq!(world.writes.len(), 1, "only the session's record");
}

#[test]
fn work_that_is_journaled_goes_on_and_is_told_to_the_next_session() {
    let mut world = World::live();
    let wanted = intent(1, 1, Want::Active);
    world
        .give(Input::Intent {
            stream: STREAM,
            intent: Box::new(wanted.clone()),
            envelope: Some(Ok(envelope(&wanted))),
        })
        .unwrap();
    world
        .give(Input::Open {
            stream: OTHER,
            term: Term(1),
            keystore: KEYSTORE,
            cursor: None,
        })
        .unwrap();
    while world.follow().unwrap() {}
    assert_eq!(world.report(1).progress, Progress::Done);
    let told = bodies(&world, OTHER);
    assert!(told.iter().any(|body| matches!(body, UpBody::Reports(_))));
    assert!(
        !bodies(&world, STREAM)
            .iter()
            .any(|body| matches!(body, UpBody::Reports(_)))
    );
}

#[test]
fn a_cursor_of_this_run_gets_what_changed_and_no_more() {
    let mut world = World::live();
    world.send_with_material(&intent(1, 1, Want::Active));
    let seq = world.ups.last().unwrap().1.seq;
    let boot = BootId::from_uuid(uuid::Uuid::from_u128(world.boot));
    world.send_with_material(&intent(3, 1, Want::Active));
    world.ups.clear();
    world.open(OTHER, 1, Some(Cursor { boot, seq }));
    let told: Vec<_> = bodies(&world, OTHER)
        .into_iter()
        .flat_map(reports)
        .collect();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].version, version(3));
    let taken = SessionRefusal::TakenOver { term: Term(1) };
    assert_eq!(bodies(&world, STREAM), [&UpBody::Rejected(taken)]);
    assert!(matches!(
        bodies(&world, OTHER)[0],
        UpBody::Accepted { full: false, .. }
    ));
    assert!(matches!(world.last_up(), UpBody::CaughtUp { .. }));
    for (boot, seq) in [(BootId::from_uuid(uuid::Uuid::nil()), 1), (boot, 1 << 40)] {
        world.ups.clear();
        world.open(STREAM, 1, Some(Cursor { boot, seq }));
        assert!(matches!(
            bodies(&world, STREAM)[0],
            UpBody::Accepted { full: true, .. }
        ));
    }
}

#[test]
fn a_session_whose_record_cannot_be_written_is_not_accepted() {
    let mut world = World::new();
    world.go(Input::Tick);
    world.disk_full = true;
    world.open(STREAM, 3, None);
    assert!(matches!(
        world.last_up(),
        UpBody::Rejected(SessionRefusal::Protocol { .. })
    ));
    assert_eq!(world.closed, [STREAM]);
    world.disk_full = false;
    world.open(OTHER, 1, None);
    assert_eq!(
        world.session(),
        Some(SessionNumber(2)),
        "the term that was not written does not count"
    );
}

#[test]
fn after_a_start_nothing_is_told_before_it_was_looked_at() {
    let mut world = World::live();
    for number in 1..=5 {
        world.send_with_material(&intent(number, 1, Want::Active));
    }
    world.restart();
    world.ups.clear();
    // The session comes before the first look.
    world
        .give(Input::Open {
            stream: STREAM,
            term: Term(1),
            keystore: KEYSTORE,
            cursor: None,
        })
        .unwrap();
    let (ticket, record) = world.writes.pop_front().unwrap();
    world.write(ticket, record).unwrap();
    let told = world.ups.iter().map(|(_, up)| &up.body);
    assert!(
        !told
            .clone()
            .any(|body| matches!(body, UpBody::Reports(_) | UpBody::CaughtUp { .. })),
        "{:?}",
        world.ups
    );
    while world.follow().unwrap() {}
    assert!(matches!(world.last_up(), UpBody::CaughtUp { .. }));
    for number in 1..=5 {
        let report = world.report(number);
        assert_eq!(report.progress, Progress::Done);
        assert!(report.proof.is_some(), "the proof outlives the start");
        assert!(matches!(
            report.observation,
            crate::model::observed::Observation::Present(_)
        ));
    }
}

#[test]
fn heartbeats_tell_what_the_journal_wants() {
    let mut world = World::live();
    world.send_with_material(&intent(1, 4, Want::Active));
    world.send(&intent(3, 2, Want::Destroyed));
    world.pass(500);
    world.go(Input::Heartbeat {
        stream: STREAM,
        wanted: Digest([0; 32]),
    });
    let live = intent(1, 4, Want::Active);
    let expected = wanted_digest([(live.version, live.generation, live.want)].into_iter());
    let UpBody::Heartbeat {
        wanted,
        scan_age_ms,
    } = world.last_up()
    else {
        panic!("no heartbeat: {:?}", world.last_up());
    };
    assert_eq!(*wanted, expected);
    assert!(*scan_age_ms < 2_500, "{scan_age_ms}");
}

#[test]
fn an_idle_estate_says_nothing() {
    let mut world = World::live();
    for number in 1..=4 {
        world.send_with_material(&intent(number, 1, Want::Active));
    }
    world.ups.clear();
    world.pass(120_000);
    assert_eq!(world.ups, Vec::<(StreamId, Up)>::new());
}

#[test]
fn many_reports_are_told_in_bounded_frames() {
    let mut world = World::live();
    for number in 1..=250 {
        world
            .give(Input::Intent {
                stream: STREAM,
                intent: Box::new(intent(number, 1, Want::Deactivated)),
                envelope: Some(Ok(envelope(&intent(number, 1, Want::Deactivated)))),
            })
            .unwrap();
    }
    while world.follow().unwrap() {}
    world.ups.clear();
    world.open(OTHER, 1, None);
    let sizes: Vec<usize> = bodies(&world, OTHER)
        .into_iter()
        .map(|body| reports(body).len())
        .filter(|&size| size > 0)
        .collect();
    assert_eq!(sizes, [200, 50]);
}
