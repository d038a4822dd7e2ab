//! Calls that say what is not so.

use lockstep::model::job::{FailureKind, Glance, TokenJob, TokenOutcome};
use lockstep::model::key::UsageSet;
use lockstep::model::observed::Found;

use crate::host_faults::{GONE, MARKER, OFF, Stage, failed, many, plan, run};

#[tokio::test(flavor = "multi_thread")]
async fn an_error_after_the_effect_is_told_with_what_is_there() {
    let stage = Stage::new().await;
    stage.make_key("made");
    stage.faults.set(&["C_SetAttributeValue rvafter 0x30"]);
    let outcome = stage.run(&[OFF]).await;
    let failure = outcome.failure.unwrap();
    assert_eq!(
        (failure.kind, failure.rv.as_str()),
        (FailureKind::Restart, "CKR_DEVICE_ERROR")
    );
    assert_eq!(outcome.found.objects[0].usage, UsageSet::NONE, "read back");
    // The device was lost, says the module: a new process it is.
    stage.faults.set(&["C_DestroyObject rvafter 0x5"]);
    let outcome = stage.run(&[GONE]).await;
    assert_eq!(outcome.failure.unwrap().rv, "CKR_GENERAL_ERROR");
    assert_eq!(outcome.found, Found::default());
    assert_eq!(stage.host.status().starts, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_yes_without_effect_is_never_taken_for_one() {
    let stage = Stage::new().await;
    stage.make_key("made");
    stage.faults.set(&["C_SetAttributeValue okwithout"]);
    let outcome = stage.run(&[OFF]).await;
    let failure = outcome.failure.unwrap();
    assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
    assert_eq!(outcome.done, 0);
    assert_eq!(outcome.found.objects[0].usage, plan().usage);
    stage.faults.set(&["C_DestroyObject okwithout"]);
    let outcome = stage.run(&[GONE]).await;
    assert_eq!(outcome.found.objects.len(), 1, "it is still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn lengths_and_texts_that_a_module_makes_up_cost_nothing() {
    let stage = Stage::with(many).await;
    stage.make_key("made");
    let met = stage.scan().await.rest.objects;
    let before = stage.peak();
    let lengths = [
        "0xffffffffffffffff",
        "0xffffffff",
        "0x40000000",
        "0x10001",
        "65",
        "7",
        "0",
    ];
    let functions = [
        "C_GetAttributeValue",
        "C_FindObjects",
        "C_GetSlotList",
        "C_GetMechanismList",
        "C_DigestFinal",
    ];
    for function in functions {
        for length in lengths {
            for code in ["", "0x150", "0x11"] {
                stage
                    .faults
                    .set(&[&format!("{function} badlen {length} {code}")]);
                for job in [
                    TokenJob::Scan,
                    TokenJob::Inspect(plan()),
                    TokenJob::Survey(vec![Glance {
                        object: plan(),
                        handles: vec![met[0].handle],
                    }]),
                    TokenJob::Identify,
                ] {
                    let outcome = stage.perform(job).await;
                    let died = match &outcome {
                        TokenOutcome::Done(_) => false,
                        TokenOutcome::Failed(failure) => failure.function == "module_host",
                        TokenOutcome::Unknown { .. } => true,
                    };
                    assert!(!died, "{function} {length} {code}: {outcome:?}");
                }
                stage.faults.clear();
            }
        }
    }
    stage
        .faults
        .set(&["C_GetInfo noise", "C_GetTokenInfo noise"]);
    let info = stage.scan().await.identity.info;
    assert!(!info.library.contains('\u{1b}'), "{info:?}");
    assert_eq!(info.model, "");
    stage.faults.clear();
    assert_eq!(stage.scan().await.rest.objects.len(), 1);
    let grown = stage.peak().saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB more");
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_that_lie_are_no_evidence() {
    let stage = Stage::new().await;
    stage.make_key("made");
    assert_eq!(stage.scan().await.rest.objects.len(), 1);
    assert_eq!(stage.look().await.objects.len(), 1);

    // Nothing is found at all: not even the marker, and that is what is told.
    for job in [
        TokenJob::Scan,
        TokenJob::Inspect(plan()),
        run(&[GONE]),
        run(&[OFF]),
    ] {
        assert_eq!(stage.markers().await.unwrap(), [MARKER]);
        stage.faults.set(&["C_FindObjects empty"]);
        let failure = failed(stage.perform(job).await);
        assert_eq!(failure.kind, FailureKind::Restart, "{failure}");
        stage.faults.clear();
    }
    assert_eq!(stage.look().await.objects.len(), 1);

    // For ever the same, or each one twice: one object is one object.
    stage.faults.set(&["C_FindObjects twice"]);
    assert_eq!(stage.scan().await.rest.objects.len(), 1);
    assert_eq!(stage.look().await.objects.len(), 1);
    let before = stage.peak();
    for job in [
        TokenJob::Scan,
        TokenJob::Inspect(plan()),
        TokenJob::Identify,
    ] {
        stage.faults.set(&["C_FindObjects endless"]);
        let failure = failed(stage.perform(job).await);
        assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
        stage.faults.clear();
    }
    let grown = stage.peak().saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} KiB more");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_inventory_tells_no_loss_and_hides_no_change() {
    let stage = Stage::new().await;
    stage.make_key("made");
    assert_eq!(stage.scan().await.rest.objects.len(), 1);
    assert_eq!(stage.look().await.objects.len(), 1);
    stage.faults.set(&["C_FindObjects old"]);
    // What is in the old listing is read anew.
    let outcome = stage.run(&[OFF]).await;
    assert_eq!(outcome.failure, None);
    assert_eq!(stage.scan().await.rest.objects[0].usage, UsageSet::NONE);
    // A key that was destroyed is in the listing and cannot be read: neither there nor gone.
    let outcome = stage.perform(run(&[GONE])).await;
    assert_eq!(failed(outcome).kind, FailureKind::Retry);
    assert_eq!(stage.scan().await.rest.unreadable, 1);
    stage.faults.clear();
    assert_eq!(stage.look().await, Found::default());
}
