//! The wrapping keys of the in-memory token.

use crate::keystore::memory::material::Material;
use crate::keystore::memory::{Outcome, State, failure};
use crate::model::job::{FailureKind, Generated};
use crate::model::kek::{KekJob, KekNumber, RewrapCopyJob};

impl State {
    /// The one that wraps from now on.
    pub(crate) fn newest_kek(&self) -> Outcome<(KekNumber, [u8; 32])> {
        let newest = self
            .keks
            .last_key_value()
            .map(|(number, kek)| (*number, *kek));
        newest.ok_or_else(|| {
            let detail = "this keystore has no wrapping key: it is external";
            failure(FailureKind::Refused, "own key", detail)
        })
    }

    /// The one that opens what is under that number.
    pub(crate) fn opening_kek(&self, number: KekNumber) -> Outcome<[u8; 32]> {
        let _one_at_least = self.newest_kek()?;
        self.keks.get(&number).copied().ok_or_else(|| {
            let detail = format!("there is no wrapping key {number} on the token");
            failure(FailureKind::Retry, "own key", &detail)
        })
    }

    pub(crate) fn turn_kek(&mut self, job: KekJob) -> Outcome<Vec<KekNumber>> {
        let newest = self.keks.keys().next_back().copied();
        let out_of_turn = |number: KekNumber| {
            let detail = format!("wrapping key {number} is not the one to begin or to end");
            Err(failure(FailureKind::Refused, "own key", &detail))
        };
        match job {
            KekJob::Look => {}
            KekJob::Make(number) if self.keks.contains_key(&number) => {}
            KekJob::Make(number) if newest.and_then(KekNumber::next) == Some(number) => {
                let kek = self.entropy.draw();
                self.keks.insert(number, kek);
            }
            KekJob::Destroy(number) if newest.is_some_and(|newest| newest > number) => {
                self.keks.remove(&number);
            }
            KekJob::Make(number) | KekJob::Destroy(number) => return out_of_turn(number),
        }
        Ok(self.keks.keys().copied().collect())
    }

    pub(crate) fn rewrap_copy(&self, job: &RewrapCopyJob) -> Outcome<Generated> {
        let made = Material::unwrap(job.spec, &self.opening_kek(job.kek)?, &job.blob)?;
        let fingerprint = made.fingerprint(job.spec, &job.salt);
        if fingerprint != job.fingerprint || made.spki() != job.spki {
            let detail = "the repository's copy is not the key of the birth record";
            return Err(failure(FailureKind::WrongKey, "rewrap", detail));
        }
        let (kek, newest) = self.newest_kek()?;
        Ok(Generated {
            blob: made.wrap(&newest)?,
            kek,
            spki: made.spki(),
            fingerprint,
        })
    }
}
