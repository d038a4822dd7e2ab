//! A token that takes its time: it is scanned in slices, with other jobs in between.

use lockstep::model::job::{Slice, TokenAnswer, TokenJob, TokenOutcome};
use lockstep::model::key::UsageSet;

use crate::host_faults::{GONE, MARKER, OFF, Stage};

/// Each read takes so long that a slice is over after two.
const SLOW: &str = "C_GetAttributeValue delay 60";

async fn slice(stage: &Stage, job: TokenJob) -> Slice {
    let outcome = stage.perform(job).await;
    let TokenOutcome::Done(TokenAnswer::Slice(slice)) = outcome else {
        panic!("{outcome:?}");
    };
    slice
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_module_is_scanned_in_slices_with_changes_in_between() {
    let stage = Stage::new().await;
    for label in ["made", "second", "third", "fourth", "fifth"] {
        stage.make_key(label);
    }
    let all = stage.scan().await.rest.objects;
    stage.faults.set(&[SLOW]);
    let mut met = slice(&stage, TokenJob::Scan).await;
    assert!(met.objects.len() <= 2, "{met:?}");
    stage.faults.clear();
    let failure = stage.run(&[OFF]).await.failure;
    assert_eq!(failure, None);
    assert_eq!(stage.look().await.objects[0].usage, UsageSet::NONE);
    stage.faults.set(&[SLOW]);
    met.add(slice(&stage, TokenJob::ScanOn).await);
    stage.faults.clear();
    let outcome = stage.perform(TokenJob::ScanOn).await;
    let TokenOutcome::Done(TokenAnswer::Inventory(inventory)) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(inventory.identity.markers, [MARKER]);
    met.add(inventory.rest);
    let handles = |objects: &[lockstep::model::observed::ObjectFacts]| {
        objects.iter().map(|facts| facts.handle).collect::<Vec<_>>()
    };
    assert_eq!(handles(&met.objects), handles(&all), "each once");
    let over = stage.perform(TokenJob::ScanOn).await;
    assert!(matches!(over, TokenOutcome::Failed(_)), "{over:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_destroyed_between_slices_is_gone_and_not_unreadable() {
    let stage = Stage::new().await;
    for label in ["other", "another", "third", "made"] {
        stage.make_key(label);
    }
    stage.faults.set(&[SLOW]);
    let mut met = slice(&stage, TokenJob::Scan).await;
    stage.faults.clear();
    let ran = stage.run(&[GONE]).await;
    assert_eq!((ran.failure, ran.found.objects), (None, Vec::new()));
    let outcome = stage.perform(TokenJob::ScanOn).await;
    let TokenOutcome::Done(TokenAnswer::Inventory(inventory)) = outcome else {
        panic!("{outcome:?}");
    };
    met.add(inventory.rest);
    assert_eq!(met.unreadable, 0);
}
