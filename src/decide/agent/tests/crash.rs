//! The machine is dropped at every single output, with the job under way done or not: it always comes to the same end.

use crate::decide::agent::io::Input;
use crate::decide::agent::tests::world::{Crashed, STREAM, World, envelope, intent};
use crate::model::desired::{Intent, Want};
use crate::model::protocol::Progress;

/// The life of a pair and of a secret key: installed and enabled, disabled, enabled, destroyed.
fn script() -> Vec<Intent> {
    let life = [
        (1, Want::Active),
        (2, Want::Deactivated),
        (3, Want::Active),
        (4, Want::Destroyed),
    ];
    let mut intents = Vec::new();
    for (generation, want) in life {
        for number in [1, 2] {
            intents.push(intent(number, generation, want));
        }
    }
    intents
}

/// What a coordinator does: sends until the report says done, with material when that is asked for.
fn bring_about(world: &mut World, wanted: &Intent) -> Result<(), Crashed> {
    let number = wanted.fingerprint.value.0[0];
    for _ in 0..20 {
        let report = world
            .try_report(number)
            .filter(|report| report.applied == Some(wanted.applied()));
        let with_material = match report.map(|report| report.progress) {
            Some(Progress::Done) => return Ok(()),
            Some(Progress::NeedsMaterial) => true,
            Some(Progress::Busy | Progress::Failed(_) | Progress::Unknown { .. }) | None => false,
        };
        world.try_go(Input::Intent {
            stream: STREAM,
            intent: Box::new(wanted.clone()),
            envelope: with_material.then(|| Ok(envelope(wanted))),
        })?;
        world.try_pass(1_000)?;
    }
    panic!(
        "{:?} is never reached: {:?}",
        wanted.want,
        world.try_report(number)
    );
}

fn connect(world: &mut World) -> Result<(), Crashed> {
    world.ups.clear();
    world.try_go(Input::Tick)?;
    world.try_go(Input::Open {
        stream: STREAM,
        term: crate::model::ids::Term(1),
        keystore: crate::decide::agent::tests::world::KEYSTORE,
        cursor: None,
    })
}

/// Plays the script; a crash is followed by a restart, and the same intent is sent again.
fn play(world: &mut World, job_is_done: bool) {
    let mut connected = false;
    for wanted in script() {
        loop {
            let mut result = Ok(());
            if !connected {
                result = connect(world);
                connected = result.is_ok();
            }
            if result.is_ok() {
                result = bring_about(world, &wanted);
            }
            match result {
                Ok(()) => break,
                Err(Crashed) => {
                    if job_is_done && let Some((_, job)) = world.job.take() {
                        let _nobody_hears = world.token.perform(&job);
                    }
                    world.restart();
                    connected = false;
                }
            }
        }
        check_objects(world);
    }
}

/// I4 and what was wanted last.
fn check_objects(world: &World) {
    for (intent, done) in world.durable().values() {
        assert!(done);
        let number = intent.fingerprint.value.0[0];
        let expected = match (intent.want, number) {
            (Want::Active, 1) => "secret key encrypt,decrypt",
            (Want::Active, _) => "private key sign; public key verify",
            (Want::Deactivated, 1) => "secret key none",
            (Want::Deactivated, _) => "private key none; public key none",
            (Want::Destroyed, _) => "",
        };
        assert_eq!(world.on_token(number), expected);
    }
}

#[test]
fn a_crash_at_any_output_changes_nothing_in_the_end() {
    let mut calm = World::new();
    play(&mut calm, false);
    let outputs = calm.outputs;
    assert!(outputs > 80, "{outputs}");
    for crash_at in 0..outputs {
        for job_is_done in [false, true] {
            let mut world = World::new();
            world.crash_at = Some(crash_at);
            play(&mut world, job_is_done);
            assert_eq!(world.boot, 2, "it did crash at {crash_at}");
        }
    }
}

#[test]
fn crash_after_crash_still_converges() {
    for every in [7, 11, 23, 40] {
        let mut world = World::new();
        let mut crashes = 0;
        let mut connected = false;
        for wanted in script() {
            loop {
                // Fewer and fewer crashes, so that it ends.
                world.crash_at = (crashes < 60).then_some(world.outputs + every + crashes / 4);
                let mut result = Ok(());
                if !connected {
                    result = connect(&mut world);
                    connected = result.is_ok();
                }
                match result.and_then(|()| bring_about(&mut world, &wanted)) {
                    Ok(()) => break,
                    Err(Crashed) => {
                        crashes += 1;
                        connected = false;
                        world.restart();
                    }
                }
            }
        }
        world.crash_at = None;
        check_objects(&world);
    }
}
