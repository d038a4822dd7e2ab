//! Clauses about keys that are not enabled and disabled in place: by copies, and by withdrawing them.

use crate::keystore::Keystore;
use crate::keystore::contract::{Key, Outcome, Stage, classes, demand, destroy};
use crate::model::capabilities::{Strategy, Unwrap};
use crate::model::job::FailureKind;
use crate::model::key::UsageSet;
use crate::model::observed::Found;
use crate::model::step::Step;

impl<K: Keystore> Stage<'_, K> {
    /// A copy takes the place of the object; a second time nothing changes; another key is left alone.
    pub(super) fn by_copy(&mut self, key: &Key) -> Outcome {
        if !self.prepared.capabilities.copy {
            return Ok(());
        }
        let mut key = key.clone();
        key.plan.strategy = Strategy::Copy;
        let usage = key.plan.usage;
        let replace = |usage: UsageSet| {
            let one = move |class| Step::Replace {
                class,
                usage: usage.for_class(class),
            };
            classes(&key).map(one).collect::<Vec<Step>>()
        };
        let (on, off) = (replace(usage), replace(UsageSet::NONE));
        self.run(&key, vec![Step::Install])?;
        let mut steps: Vec<Step> = on.iter().rev().cloned().collect();
        steps.push(Step::ProveEnabled);
        let ran = self.run(&key, steps)?;
        self.is_as(&key, &ran.found, usage)?;
        let again = self.run(&key, on)?;
        self.is_as(&key, &again.found, usage)?;
        let mut steps = off.clone();
        steps.push(Step::ProveDisabled);
        let ran = self.run(&key, steps)?;
        self.is_as(&key, &ran.found, UsageSet::NONE)?;
        let other = self.key(key.plan.spec, "contract/copied")?;
        let mut job = self.job(&key, off)?;
        job.fingerprint = other.born.fingerprint;
        self.stops(job, FailureKind::WrongKey, "a wrong key is not replaced")?;
        let found = self.look(&key)?;
        self.is_as(&key, &found, UsageSet::NONE)?;
        self.run(&key, destroy(&key.plan)).map(drop)
    }

    /// Installed with its usage, adopted when installed again, withdrawn only against a copy in the repository.
    pub(super) fn by_withdrawal(&mut self, key: &Key) -> Outcome {
        let kind = self.prepared.capabilities.kind(key.plan.spec.algorithm());
        if kind.is_none_or(|kind| kind.unwrap == Unwrap::Impossible) {
            return Ok(());
        }
        let mut key = key.clone();
        key.plan.strategy = Strategy::Withdraw;
        let usage = key.plan.usage;
        let bring = vec![Step::InstallEnabled, Step::ProveEnabled];
        let ran = self.run(&key, bring.clone())?;
        self.is_as(&key, &ran.found, usage)?;
        let again = self.run(&key, bring.clone())?;
        demand(
            "what is complete is adopted",
            again.found == ran.found,
            &again,
        )?;
        let withdraw: Vec<Step> = classes(&key)
            .map(|class| Step::Withdraw { class })
            .collect();
        let mut job = self.job(&key, withdraw.clone())?;
        job.envelope = None;
        let kind = FailureKind::NeedsMaterial;
        self.stops(
            job,
            kind,
            "nothing is withdrawn without a copy in the repository",
        )?;
        let found = self.look(&key)?;
        self.is_as(&key, &found, usage)?;
        let gone = self.run(&key, withdraw)?.found;
        demand("withdrawn is gone", gone == Found::default(), &gone)?;
        let other = self.key(key.plan.spec, "contract/withdrawn")?;
        let mut job = self.job(&key, bring)?;
        job.envelope = Some(self.envelope(&other)?);
        let kind = FailureKind::WrongKey;
        self.stops(job, kind, "another key is never installed")?;
        let found = self.look(&key)?;
        demand("nothing is left of it", found == Found::default(), &found)
    }
}
