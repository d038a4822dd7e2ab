//! Dates that act: what is due is carried out by any coordinator, each act once. `decide::schedule` says what is due; here it
//! goes the way of every change, conditional on the revision that was read and under an operation id made of key, act and day.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Monotonic;
use crate::coordinator::ops::access::{Call, Idempotency, Principal, Rights};
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::{Ops, dates};
use crate::decide::schedule::{ClockWatch, Due, due};
use crate::model::canonical::sha256;
use crate::model::ids::KeyId;
use crate::model::key::ManagedKey;
use crate::model::lifecycle::{Action, ManagedState};
use crate::model::template::OnExpiry;

/// Between looks at the clock: midnight is met by no more than this, however the clock was set meanwhile.
const TICK: Duration = Duration::from_secs(2);

/// The same after something was refused: what is refused late costs an internal keystore a key each time.
const TICK_REFUSED: Duration = Duration::from_secs(15);

/// Keys that are read at once.
const KEYS_MAX: u32 = 200;

/// Acts of one key in one pass: erase or expire or activate, then rotate, then give out.
const ACTS_MAX: usize = 3;

/// Refusals that are remembered so that each is logged once; beyond that they are logged again.
const TOLD_MAX: usize = 10_000;

/// What one pass did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Passed {
    /// Acts that were carried out, now or by somebody else.
    pub done: u64,
    /// Keys of which an act was refused, and why: tried again with the next pass.
    pub refused: BTreeMap<KeyId, String>,
}

/// Carries out what is due until it is stopped.
pub async fn run(ops: std::sync::Arc<Ops>, stop: CancellationToken) {
    let began = Monotonic::now();
    let mut watch = ClockWatch::default();
    let mut told: BTreeMap<KeyId, String> = BTreeMap::new();
    let mut was_steady = true;
    loop {
        let now = ops.now();
        let steady_ms = i64::try_from(began.elapsed_ms()).unwrap_or(i64::MAX);
        let is_steady = watch.look(now.0, steady_ms);
        if is_steady != was_steady {
            tracing::warn!(
                is_steady,
                "the system's clock was set: dates wait until it has run evenly for a while"
            );
            was_steady = is_steady;
        }
        let mut pause = TICK;
        if is_steady {
            match ops.schedule_pass().await {
                Ok(passed) => {
                    if !passed.refused.is_empty() {
                        pause = TICK_REFUSED;
                    }
                    tell(passed, &mut told);
                }
                Err(error) => tracing::warn!(%error, "cannot read what is due"),
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Logs what was refused, each reason once.
fn tell(passed: Passed, told: &mut BTreeMap<KeyId, String>) {
    for (key, why) in &passed.refused {
        if told.get(key) != Some(why) {
            tracing::warn!(%key, why, "a date could not act yet");
        }
    }
    *told = passed.refused;
    if told.len() > TOLD_MAX {
        told.clear();
    }
}

impl Ops {
    /// Carries out what is due now. May run any time, by any coordinator; a pass over nothing that is due writes nothing.
    ///
    /// # Errors
    /// Those of the store; what is refused of a key is no error.
    pub async fn schedule_pass(&self) -> Result<Passed, OpsError> {
        let today = dates::day(self.now())?.to_string();
        let mut passed = Passed::default();
        let mut after = None;
        loop {
            let days = (None, today.clone());
            let keys = self.store.key_dated(days, after, KEYS_MAX).await?;
            let Some(last) = keys.last() else {
                return Ok(passed);
            };
            after = Some(last.id);
            for key in keys {
                let id = key.id;
                if let Err(refused) = self.carry_out_due(key, &today, &mut passed).await {
                    passed.refused.insert(id, refused.to_string());
                }
            }
        }
    }

    async fn carry_out_due(
        &self,
        mut key: ManagedKey,
        today: &str,
        passed: &mut Passed,
    ) -> Result<(), OpsError> {
        for _act in 0..ACTS_MAX {
            let Some(what) = due(&key, today) else {
                return Ok(());
            };
            match self.act_due(&key, &what).await {
                Ok(()) => passed.done = passed.done.saturating_add(1),
                // A person or another coordinator was faster: what is due then is seen by the next pass.
                Err(OpsError::EtagMismatch { .. } | OpsError::NotFound { .. }) => return Ok(()),
                Err(error) => return Err(error),
            }
            key = self.key_record(key.id).await?;
        }
        Ok(())
    }

    async fn act_due(&self, key: &ManagedKey, what: &Due) -> Result<(), OpsError> {
        let call = call(key, what);
        let id = key.id;
        match what {
            Due::Activate(_) => self.key_act(&call, id, Action::Activate).await?,
            Due::Rotate(_) => self.key_rotate(&call, id).await?,
            Due::FinishRotation(_) => self.key_give_out(&call, id).await?,
            Due::Erase(_) => {
                let erase = self.key_change(&call, id, "key.erase", |key, _template| {
                    key.hold = None;
                    Ok(())
                });
                erase.await?
            }
            Due::Expire(day) => {
                let expire = self.key_change(&call, id, "key.expire", |key, template| {
                    key.acted.expiration = Some(day.clone());
                    if template.on_expiry == OnExpiry::Deactivate {
                        key.state = ManagedState::Deactivated;
                    }
                    Ok(())
                });
                expire.await?
            }
        };
        Ok(())
    }
}

/// The schedule's own call: it may do this one thing to the key as it was read.
fn call(key: &ManagedKey, what: &Due) -> Call {
    let operation = what.operation(key.id);
    Call {
        principal: Principal {
            name: what.actor().to_owned(),
            rights: Rights::All,
        },
        if_match: Some(key.revision),
        idempotency: Some(Idempotency {
            request: sha256(operation.as_bytes()),
            key: operation,
        }),
    }
}
