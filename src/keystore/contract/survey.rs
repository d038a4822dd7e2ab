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

    /// A survey begins no further plan after a while: then it is asked for the rest, as the agent asks.
    fn survey(&mut self, keys: &[&Key]) -> Outcome<Vec<Option<Found>>> {
        let mut found = Vec::new();
        while found.len() < keys.len() {
            let rest = keys.iter().skip(found.len());
            let plans = rest.map(|key| key.plan.clone()).collect();
            let TokenAnswer::Surveyed(more) = done(self.external, &TokenJob::Survey(plans))? else {
                return another("survey answers surveyed");
            };
            demand(
                "a survey answers one plan at least",
                !more.is_empty(),
                &more,
            )?;
            found.extend(more);
        }
        Ok(found)
    }
}
