//! What is wanted, read instance by instance.

use crate::decide::coordinator::Input;
use crate::decide::coordinator::pass::{RESEND_MS, RETRY_MAX_MS};
use crate::decide::coordinator::tests::{Play, check, instance, present, report, version};
use crate::model::desired::Want;
use crate::model::ids::{Generation, KeyVersionId};
use crate::model::protocol::{Progress, Refusal, UpBody};

#[test]
fn what_is_read_one_by_one_goes_as_what_is_read_whole() {
    let mut play = Play::live(&[instance(1, 1, Want::Active), instance(2, 1, Want::Active)]);
    let of = |n, generation| {
        let at = instance(n, generation, Want::Active);
        UpBody::Reports(vec![report(&at, Progress::Done, present())])
    };
    check(&play.up(of(1, 1)), &[]);
    check(&play.up(of(2, 1)), &[]);
    check(&play.caught_up(), &[]);
    // One changes, another is wanted no more, of a third nothing was known.
    let news = vec![
        instance(1, 2, Want::Deactivated),
        instance(3, 1, Want::Destroyed),
    ];
    let asked = vec![version(1), version(2), version(3)];
    let sent = play.step(Input::DesiredOf(asked, news));
    check(&sent, &["intent 3 1 destroyed", "intent 1 2 deactivated"]);
    let wanted: Vec<KeyVersionId> = play.machine.desired().keys().copied().collect();
    assert_eq!(wanted, [version(1), version(3)]);
    check(&play.after(RESEND_MS - 1), &[]);
    let again = ["intent 3 1 destroyed", "intent 1 2 deactivated"];
    check(&play.after(1), &again);
    let done = report(
        &instance(1, 2, Want::Deactivated),
        Progress::Done,
        present(),
    );
    check(&play.up(UpBody::Reports(vec![done])), &[]);
    check(&play.after(RETRY_MAX_MS), &["intent 3 1 destroyed"]);
}

#[test]
fn an_old_refusal_is_overtaken_by_what_is_read_one_by_one() {
    let mut play = Play::live(&[instance(1, 1, Want::Active)]);
    play.up(UpBody::Reports(vec![report(
        &instance(1, 0, Want::Active),
        Progress::Done,
        present(),
    )]));
    check(&play.caught_up(), &["intent 1 1 active"]);
    let refusal = Refusal::Jump {
        last: Generation(0),
    };
    play.up(UpBody::Refused {
        version: version(1),
        generation: Generation(1),
        refusal,
    });
    check(&play.after(RETRY_MAX_MS), &[]);
    let news = vec![instance(1, 2, Want::Active)];
    let sent = play.step(Input::DesiredOf(vec![version(1)], news));
    check(&sent, &["intent 1 2 active"]);
}
