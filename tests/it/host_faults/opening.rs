//! PINs, and what the module is given.

use lockstep::model::job::{FailureKind, TokenJob};
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
