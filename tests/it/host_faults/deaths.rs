//! Calls that hang or die: what the job is told, and whether the host is back.

use std::time::Duration;

use lockstep::keystore::host::handle::HostState;
use lockstep::model::job::{FailureKind, TokenAnswer, TokenJob, TokenOutcome};
use lockstep::model::key::UsageSet;
use lockstep::model::keystore::Health;

use crate::host_faults::{
    GONE, LONG, MARKER, OFF, SHORT, Stage, failed, is_there, many, plan, run, why,
};
use crate::support::agent::PAUSE;

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_read_is_unknown_and_the_host_killed_and_back() {
    let stage = Stage::new().await;
    let first = stage.host.status().pid().unwrap();
    stage.faults.set(&["C_FindObjects hang"]);
    let late = stage.host.perform(TokenJob::Scan, SHORT).await;
    assert!(why(late).contains("within 300ms"));
    let down = stage.wait_for(|status| status.pid().is_none()).await;
    assert!(
        matches!(&down.state, HostState::Down { why } if why.contains("signal: 9")),
        "{down:?}"
    );
    assert!(!is_there(first));
    stage.faults.clear();
    assert_eq!(stage.scan().await.identity.markers, [MARKER]);
    let status = stage.host.status();
    assert_eq!((status.starts, status.failures), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hung_write_is_unknown_at_once_and_not_killed_in_its_grace() {
    let stage = Stage::new().await;
    stage.make_key("made");
    let first = stage.host.status().pid().unwrap();
    stage.faults.set(&["C_SetAttributeValue hang"]);
    let late = stage.host.perform(run(&[OFF]), SHORT).await;
    assert!(why(late).contains("within 300ms"));
    assert_eq!(stage.host.status().pid(), Some(first));
    assert!(is_there(first));
    stage.faults.clear();
    // The next job comes after the late one has ended.
    let found = stage.look().await;
    assert_eq!(found.objects[0].usage, UsageSet::NONE, "it was done");
    let status = stage.host.status();
    assert_eq!((status.pid(), status.starts), (Some(first), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_outlives_its_grace_is_killed_and_a_look_tells_what_it_did() {
    let stage = Stage::with(|config| config.limits.write_grace = SHORT).await;
    stage.make_key("made");
    stage.faults.set(&["C_SetAttributeValue hang"]);
    why(stage.host.perform(run(&[OFF]), SHORT).await);
    stage.wait_for(|status| status.failures == 1).await;
    stage.faults.clear();
    let found = stage.look().await;
    assert_eq!(found.objects[0].usage, plan().usage, "it was not done");
    assert_eq!(stage.run(&[OFF]).await.failure, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_module_is_waited_for() {
    let stage = Stage::new().await;
    stage.faults.set(&["C_GetAttributeValue delay 30"]);
    assert_eq!(stage.scan().await.identity.markers, [MARKER]);
    assert_eq!(stage.host.status().failures, 0);
}

/// What dies, and the job that reaches it.
fn deadly() -> Vec<(&'static str, TokenJob)> {
    let write = |function| (function, run(&[OFF]));
    vec![
        ("C_GetTokenInfo", TokenJob::Identify),
        ("C_GetInfo", TokenJob::Identify),
        ("C_OpenSession", TokenJob::Identify),
        ("C_FindObjectsInit", TokenJob::Identify),
        ("C_FindObjects", TokenJob::Scan),
        ("C_FindObjectsFinal", TokenJob::Scan),
        ("C_GetAttributeValue", TokenJob::Scan),
        ("C_CloseSession", TokenJob::Scan),
        ("C_DigestKey", TokenJob::Inspect(plan())),
        ("C_DigestFinal", TokenJob::Inspect(plan())),
        write("C_SetAttributeValue"),
        ("C_CreateObject", TokenJob::Bind(MARKER)),
        ("C_DestroyObject", run(&[GONE])),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_in_any_call_is_unknown_and_the_host_is_back() {
    let stage = Stage::closed(many);
    stage.make_key("made");
    let mut starts = 0;
    for (function, job) in deadly() {
        for (kind, signal) in [("segv", "signal: 11"), ("abort", "signal: 6")] {
            // Started without the fault, so that it is the job that dies.
            let well = stage.perform(TokenJob::Scan).await;
            assert!(matches!(well, TokenOutcome::Done(_)), "{well:?}");
            starts += 1;
            assert_eq!(stage.host.status().starts, starts);
            stage.faults.set(&[&format!("{function} {kind} once")]);
            let said = why(stage.perform(job.clone()).await);
            assert!(said.contains(signal), "{function} {kind}: {said}");
        }
    }
    let found = stage.look().await;
    assert_eq!(found.objects.len(), 1, "nothing was done before a death");
    assert_eq!(found.objects[0].usage, plan().usage);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_while_opening_is_no_job_of_anybody() {
    let stage = Stage::closed(many);
    for function in ["C_Initialize", "C_GetSlotList", "C_GetTokenInfo", "C_Login"] {
        for kind in ["segv", "abort"] {
            stage.faults.set(&[&format!("{function} {kind} once")]);
            let failure = failed(stage.perform(TokenJob::Scan).await);
            assert_eq!(failure.kind, FailureKind::Restart, "{function}: {failure}");
            let well = stage.perform(TokenJob::Scan).await;
            assert!(
                matches!(well, TokenOutcome::Done(_)),
                "{function}: {well:?}"
            );
            let stopped = stage.perform(TokenJob::Stop).await;
            assert_eq!(stopped, TokenOutcome::Done(TokenAnswer::Stopping));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_hangs_while_it_is_opened_is_given_the_grace_of_a_write() {
    let stage = Stage::closed(|config| {
        config.limits.start_deadline = SHORT;
        config.limits.write_grace = SHORT;
    });
    stage.faults.set(&["C_Login hang"]);
    let failure = failed(stage.perform(TokenJob::Scan).await);
    assert!(failure.detail.contains("not opened in time"), "{failure}");
    stage.faults.clear();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_keeps_dying_opens_the_circuit_and_closes_it_when_it_is_well() {
    let stage = Stage::with(|config| {
        config.limits.failures_max = 3;
        config.limits.pause_max = Duration::from_millis(300);
    })
    .await;
    stage.faults.set(&["C_FindObjects segv"]);
    let before = stage.faults.calls("C_Initialize");
    for _ in 0..3 {
        why(stage.perform(TokenJob::Scan).await);
    }
    let mut at_once = 0;
    let failure = loop {
        match stage.perform(TokenJob::Scan).await {
            TokenOutcome::Failed(failure) => break failure,
            TokenOutcome::Unknown { .. } => at_once += 1,
            done @ TokenOutcome::Done(_) => panic!("{done:?}"),
        }
        assert!(at_once < 50, "the circuit never opens");
    };
    assert!(failure.detail.contains("times in a row"), "{failure}");
    assert!(failure.detail.contains("signal: 11"), "{failure}");
    let health = stage.host.status().health(&stage.config);
    assert!(
        matches!(&health, Health::ModuleFailed { detail } if detail.contains("signal: 11")),
        "{health:?}"
    );
    // Jobs that fail at once start nothing.
    let started = stage.faults.calls("C_Initialize");
    assert!(started - before <= 3 + at_once);

    stage.faults.clear();
    let well = async {
        while !matches!(stage.perform(TokenJob::Scan).await, TokenOutcome::Done(_)) {
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(LONG, well).await.unwrap();
    assert_eq!(stage.host.status().health(&stage.config), Health::Ok);
}
