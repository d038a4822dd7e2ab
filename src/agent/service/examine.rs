//! `Examine`: what keys are that others made, and the records that this agent signs about them.

use tonic::Status;

use crate::agent::messages::CallFailure;
use crate::agent::service::endpoint::Shared;
use crate::clock;
use crate::decide::found::record;
use crate::model::adoption::{Candidate, Examined};
use crate::model::capabilities::Strategy;
use crate::model::desired::ObjectPlan;
use crate::model::ids::KeystoreId;
use crate::model::job::{FailureKind, TokenAnswer, TokenJob};
use crate::model::key::{DeactivatedUsage, UsageSet};
use crate::wire::adoption::{ExamineAnswer, ExamineCall};

/// Looks at the keys one by one, so that a change that is asked for meanwhile goes in between.
///
/// # Errors
/// A status with its word, where the token could not be asked. What it does not tell of one key is said of that key.
pub async fn examine(shared: &Shared, call: ExamineCall) -> Result<ExamineAnswer, Status> {
    let (keystore, _epoch) = shared.bound()?;
    let mut examined = Vec::with_capacity(call.keys.len());
    for key in &call.keys {
        let job = TokenJob::Inspect(plan(key, &call.salt));
        let found = match shared.ask(call.session, job).await? {
            Ok(TokenAnswer::Found(found)) => said(shared, keystore, key, found, &call.salt),
            Err(CallFailure::Token(failure)) if failure.kind == FailureKind::Refused => {
                Examined::Unknown {
                    why: failure.to_string(),
                }
            }
            Ok(_other) => return Err(Status::internal("internal: another question was answered")),
            Err(failure) => return Err(failure.into()),
        };
        examined.push(found);
    }
    Ok(ExamineAnswer(examined))
}

fn said(
    shared: &Shared,
    keystore: KeystoreId,
    key: &Candidate,
    found: crate::model::observed::Found,
    salt: &[u8],
) -> Examined {
    match record(keystore, found, salt.to_vec(), clock::unix_ms()) {
        Ok(record) if record.spec == key.spec && record.label == key.label => {
            Examined::Known(Box::new(shared.identity.sign(record)))
        }
        Ok(_other) => Examined::Unknown {
            why: "its kind or its label is another now: look again".to_owned(),
        },
        Err(why) => Examined::Unknown {
            why: why.to_string(),
        },
    }
}

/// What a look needs to know. Of usage and strategy it takes no notice.
fn plan(key: &Candidate, salt: &[u8]) -> ObjectPlan {
    ObjectPlan {
        cka_id: key.cka_id.clone(),
        label: key.label.clone(),
        spec: key.spec,
        usage: UsageSet::NONE,
        deactivated_usage: DeactivatedUsage::None,
        salt: salt.to_vec(),
        strategy: Strategy::Flags,
    }
}
