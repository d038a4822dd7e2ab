//! PINs, and what the module is given.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use lockstep::agent::latch::PinLatch;
use lockstep::agent::pin::Source;
use lockstep::agent::pin_source::LatchedPin;
use lockstep::model::job::{FailureKind, TokenAnswer, TokenJob, TokenOutcome};
use lockstep::model::keystore::Health;

use crate::host_faults::{Stage, failed};

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_pin_is_tried_once_whatever_happens() {
    let stage = Stage::closed(|_| {});
    stage.faults.set(&["C_Login rv 0xa0"]);
    for _ in 0..20 {
        let failure = failed(stage.perform(TokenJob::Scan).await);
        assert_eq!(failure.kind, FailureKind::WrongPin);
    }
    stage.faults.clear();
    let failure = failed(stage.perform(TokenJob::Identify).await);
    assert_eq!(failure.kind, FailureKind::WrongPin, "the PIN is the same");
    assert_eq!(stage.faults.calls("C_Login"), 1, "{}", stage.faults.log());
    assert_eq!(stage.host.status().health(&stage.config), Health::WrongPin);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_nobody_heard_of_is_not_provoked_again() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("pin");
    std::fs::write(&file, "000000").unwrap();
    std::fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let source = |latch: &Path| LatchedPin::new(Source::File(file.clone()), PinLatch::new(latch));
    let latch = dir.path().join("pin-refused");
    let stage = Stage::closed(|config| config.pin = Arc::new(source(&latch)));
    stage.faults.set(&["C_Login abortafter once"]);
    let failure = failed(stage.perform(TokenJob::Scan).await);
    assert_eq!(failure.kind, FailureKind::Restart, "{failure}");
    assert_eq!(stage.faults.calls("C_Login"), 1, "{failure}");
    assert!(!latch.exists(), "the agent was not told");
    // The token says that it was given a wrong PIN; from then on the latch does.
    for check in ["C_GetTokenInfo", "pin_latch", "pin_latch"] {
        let failure = failed(stage.perform(TokenJob::Scan).await);
        assert_eq!(failure.kind, FailureKind::WrongPin, "{failure}");
        assert_eq!(failure.function, check, "{failure}");
    }
    assert!(latch.exists());
    assert_eq!(stage.faults.calls("C_Login"), 1, "{}", stage.faults.log());

    let right = std::fs::read(&stage.token.pin_file).unwrap();
    std::fs::write(&file, right).unwrap();
    assert_eq!(stage.scan().await.rest.objects, []);
    assert_eq!(stage.faults.calls("C_Login"), 2);
    // A right one that was cut off is tried again.
    stage.faults.set(&["C_Login abortafter once"]);
    let stopping = stage.perform(TokenJob::Stop).await;
    assert_eq!(stopping, TokenOutcome::Done(TokenAnswer::Stopping));
    failed(stage.perform(TokenJob::Scan).await);
    assert_eq!(stage.scan().await.rest.objects, []);
    assert_eq!(stage.faults.calls("C_Login"), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_pin_is_told_and_an_unlocked_one_opens() {
    let stage = Stage::closed(|_| {});
    stage.faults.set(&["C_Login rv 0xa4 once"]);
    let failure = failed(stage.perform(TokenJob::Scan).await);
    assert_eq!(failure.kind, FailureKind::PinLocked);
    assert_eq!(stage.host.status().health(&stage.config), Health::PinLocked);
    assert_eq!(stage.scan().await.rest.objects, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_module_gets_the_environment_of_its_config_and_no_other() {
    let stage = Stage::new().await;
    let log = stage.faults.log();
    let names = log.lines().filter_map(|line| line.split(" env ").nth(1));
    let given: Vec<&str> = stage.config.env.keys().map(String::as_str).collect();
    let mut seen: Vec<&str> = names.collect();
    seen.sort_unstable();
    assert_eq!(seen, given);
}
