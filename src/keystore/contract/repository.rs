//! Clauses about keys that one internal keystore takes over from another.

use crate::keystore::Keystore;
use crate::keystore::contract::{Outcome, Stage, another, demand, done, failed};
use crate::model::job::{FailureKind, Generated, RewrapJob, TakeOverJob, TokenAnswer, TokenJob};
use crate::model::key::KeySpec;

impl<K: Keystore> Stage<'_, K> {
    /// A key goes from the one to the other, which then wraps it for the one again.
    pub(super) fn taken_over(&mut self, spec: KeySpec) -> Outcome {
        let key = self.key(spec, "contract/taken over")?;
        let wrapped = self.envelope(&key)?;
        let job = |fingerprint| {
            TokenJob::TakeOver(Box::new(TakeOverJob {
                spec,
                salt: key.plan.salt.clone(),
                fingerprint,
                wrapped: wrapped.clone(),
            }))
        };
        let mut other = key.born.fingerprint;
        other.value.0.reverse();
        let refused = failed(self.external, &job(other))?;
        let wrong = refused.kind == FailureKind::WrongKey;
        demand("only the key that was meant is taken over", wrong, &refused)?;
        let taken = taken(self.external, &job(key.born.fingerprint))?;
        let same = taken.fingerprint == key.born.fingerprint && taken.spki == key.born.spki;
        demand("the key taken over is the same", same, &taken)?;
        demand(
            "under another wrapping key",
            taken.blob != key.born.blob,
            &taken,
        )?;
        let back = TokenJob::Rewrap(Box::new(RewrapJob {
            blob: taken.blob,
            kek: taken.kek,
            transport_spki: self.home.transport_spki.clone(),
            route: self.rewrap_job(&key).route,
            ..self.rewrap_job(&key)
        }));
        let TokenAnswer::Rewrapped(wrapped) = done(self.external, &back)? else {
            return another("rewrap answers rewrapped");
        };
        let back = TokenJob::TakeOver(Box::new(TakeOverJob {
            spec,
            salt: key.plan.salt.clone(),
            fingerprint: key.born.fingerprint,
            wrapped,
        }));
        let again = self::taken(self.internal, &back)?;
        let same = again.fingerprint == key.born.fingerprint;
        demand("and back again", same, &again)
    }
}

fn taken<K: Keystore>(token: &mut K, job: &TokenJob) -> Outcome<Generated> {
    let TokenAnswer::TakenOver(taken) = done(token, job)? else {
        return another("take over answers taken over");
    };
    Ok(taken)
}
