//! What a keystore itself is not as it should be, beside what is told of its keys.

use crate::coordinator::ops::fleet::LiveKeystore;
use crate::coordinator::ops::status::Observed;
use crate::decide::drift::{Rollback, rollback};
use crate::model::difference::{CausedBy, Difference, HealedBy, Reason, Weight};
use crate::model::keystore::KeystoreRecord;
use crate::model::live::Differing;
use crate::model::regression::Regression;

/// All of it, what weighs most first.
pub(crate) fn found_at(
    record: &KeystoreRecord,
    live: &LiveKeystore,
    differing: &Differing,
) -> Vec<Observed> {
    let restored = restored(record, differing);
    restored.into_iter().chain(lost(record, live)).collect()
}

/// What a keystore's token could do by the report that was accepted last, and cannot by the latest.
fn lost(record: &KeystoreRecord, live: &LiveKeystore) -> Vec<Observed> {
    let described = live.description.iter();
    let one = |what: Regression| Observed {
        difference: Difference {
            reason: Reason::CapabilityLost,
            expected: what.could(),
            found: what.now(),
            caused_by: CausedBy::Unknown,
            healed_by: HealedBy::Operator,
            weight: Weight::Warning,
            since_revision: record.revision,
        },
        since: None,
    };
    described
        .flat_map(|described| described.lost())
        .map(one)
        .collect()
}

/// What speaks for a token that was put back from an older image.
fn restored(record: &KeystoreRecord, differing: &Differing) -> Option<Observed> {
    let Rollback { back, drifted, of } = rollback(differing)?;
    Some(Observed {
        difference: Difference {
            reason: Reason::TokenRestored,
            expected: "the token as Lockstep left it".to_owned(),
            found: format!(
                "{back} destroyed keys are back, and {drifted} of {of} are not as they were left"
            ),
            caused_by: CausedBy::OutOfBand,
            healed_by: HealedBy::Operator,
            weight: Weight::OutOfSync,
            since_revision: record.revision,
        },
        since: None,
    })
}
