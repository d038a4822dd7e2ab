//! Surveys say what inspects say, and leave the rest to them.

use crate::keystore::Keystore;
use crate::keystore::contract::{Key, Outcome, Stage, another, demand, destroy, done};
use crate::model::job::{SURVEY_PLANS_MAX, TokenAnswer, TokenJob, TokenOutcome};
use crate::model::observed::Found;
use crate::model::step::Step;

impl<K: Keystore> Stage<'_, K> {
    pub(super) fn surveys(&mut self, key: &Key, other: &Key) -> Outcome {
        self.run(key, vec![Step::Install])?;
        let single = self.look(key)?;
        let surveyed = self.survey(&[key, other])?;
        demand(
            "a survey finds what an inspect finds, and tells nothing of what is not there",
            surveyed == [Some(single.clone()), None],
            &surveyed,
        )?;
        self.run(other, vec![Step::Install])?;
        let both = self.survey(&[other, key])?;
        let told = both == [Some(self.look(other)?), Some(single)];
        demand("the answers are in the order of the plans", told, &both)?;
        self.run(other, destroy(&other.plan))?;
        self.run(key, destroy(&key.plan))?;
        let many = vec![key.plan.clone(); SURVEY_PLANS_MAX + 1];
        let outcome = self.external.perform(&TokenJob::Survey(many));
        let refused = matches!(outcome, TokenOutcome::Failed(_));
        demand("a survey is bounded", refused, &outcome)
    }

    fn survey(&mut self, keys: &[&Key]) -> Outcome<Vec<Option<Found>>> {
        let plans = keys.iter().map(|key| key.plan.clone()).collect();
        let TokenAnswer::Surveyed(found) = done(self.external, &TokenJob::Survey(plans))? else {
            return another("survey answers surveyed");
        };
        Ok(found)
    }
}
