//! Clauses about the wrapping key of an internal keystore, and its rotation.

use crate::keystore::Keystore;
use crate::keystore::contract::{Key, Outcome, Stage, another, demand, done, failed, prepared};
use crate::model::job::{FailureKind, Generated, TokenAnswer, TokenJob};
use crate::model::kek::{KekJob, KekNumber, RewrapCopyJob};
use crate::model::key::KeySpec;
use crate::model::observed::Fingerprint;

impl<K: Keystore> Stage<'_, K> {
    /// A key goes from the wrapping key to the next one, and the old one is destroyed.
    pub(super) fn rotated(&mut self, spec: KeySpec) -> Outcome {
        let old = self.key(spec, "contract/old")?;
        let (from, to) = self.begin(&old)?;
        let new = self.key(spec, "contract/new")?;
        demand(
            "what is made is under the newest",
            new.born.kek == to,
            &new.born.kek,
        )?;
        self.envelope(&old)?;
        self.envelope(&new)?;

        let mut other = old.born.fingerprint;
        other.value.0.reverse();
        let refused = failed(self.internal, &rewrap(&old, other))?;
        let wrong = refused.kind == FailureKind::WrongKey;
        demand("only the key that was meant is wrapped", wrong, &refused)?;
        let again = self.rewrapped(&old)?;
        let same = again.fingerprint == old.born.fingerprint && again.spki == old.born.spki;
        demand("the key wrapped again is the same", same, &again)?;
        let moved = again.kek == to && again.blob != old.born.blob;
        demand("and under the newest", moved, &again)?;

        self.end(from, to)?;
        let gone = TokenJob::Rewrap(Box::new(self.rewrap_job(&old)));
        let gone = failed(self.internal, &gone)?;
        let later = gone.kind == FailureKind::Retry;
        demand("what was under the old one opens no more", later, &gone)?;
        let old = Key { born: again, ..old };
        self.envelope(&old)?;
        self.envelope(&new)?;
        // Wrapping what is under the newest once more does no harm.
        let again = self.rewrapped(&old)?;
        demand("under the newest it stays", again.kek == to, &again)
    }

    /// Makes the next wrapping key; gives the one before and it.
    fn begin(&mut self, old: &Key) -> Outcome<(KekNumber, KekNumber)> {
        let from = old.born.kek;
        let there = self.keks(KekJob::Look)?;
        demand("there is one wrapping key", there == [from], &there)?;
        let Some((to, after)) = from.next().and_then(|to| Some((to, to.next()?))) else {
            return another("there are numbers left");
        };
        for job in [
            KekJob::Make(after),
            KekJob::Destroy(from),
            KekJob::Destroy(to),
        ] {
            let refused = failed(self.internal, &TokenJob::Kek(job))?;
            let is_refused = refused.kind == FailureKind::Refused;
            demand("wrapping keys come and go in turn", is_refused, &refused)?;
        }
        for _repeated in 0..2 {
            let there = self.keks(KekJob::Make(to))?;
            demand("the next one is made once", there == [from, to], &there)?;
        }
        prepared(self.internal, true)?;
        let there = self.keks(KekJob::Look)?;
        demand("to prepare makes no more", there == [from, to], &there)?;
        Ok((from, to))
    }

    fn end(&mut self, from: KekNumber, to: KekNumber) -> Outcome {
        let refused = failed(self.internal, &TokenJob::Kek(KekJob::Destroy(to)))?;
        let is_refused = refused.kind == FailureKind::Refused;
        demand("the newest one is not destroyed", is_refused, &refused)?;
        for _repeated in 0..2 {
            let there = self.keks(KekJob::Destroy(from))?;
            demand("the old one is destroyed", there == [to], &there)?;
        }
        prepared(self.internal, true)?;
        let there = self.keks(KekJob::Look)?;
        demand("to prepare makes no first one again", there == [to], &there)
    }

    fn keks(&mut self, job: KekJob) -> Outcome<Vec<KekNumber>> {
        let TokenAnswer::Keks(keks) = done(self.internal, &TokenJob::Kek(job))? else {
            return another("kek answers keks");
        };
        Ok(keks)
    }

    fn rewrapped(&mut self, key: &Key) -> Outcome<Generated> {
        let job = rewrap(key, key.born.fingerprint);
        let TokenAnswer::TakenOver(again) = done(self.internal, &job)? else {
            return another("a copy is answered with another one");
        };
        Ok(again)
    }
}

fn rewrap(key: &Key, fingerprint: Fingerprint) -> TokenJob {
    TokenJob::RewrapCopy(Box::new(RewrapCopyJob {
        spec: key.plan.spec,
        salt: key.plan.salt.clone(),
        fingerprint,
        spki: key.born.spki.clone(),
        blob: key.born.blob.clone(),
        kek: key.born.kek,
    }))
}
