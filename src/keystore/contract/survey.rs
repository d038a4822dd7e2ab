//! Surveys say what inspects say, and leave the rest to them.

use crate::keystore::Keystore;
use crate::keystore::contract::{Key, Outcome, Stage, another, demand, destroy, done};
use crate::model::job::{Glance, SURVEY_PLANS_MAX, TokenAnswer, TokenJob, TokenOutcome};
use crate::model::observed::Found;
use crate::model::step::Step;

impl<K: Keystore> Stage<'_, K> {
    pub(super) fn surveys(&mut self, key: &Key, other: &Key) -> Outcome {
        self.run(key, vec![Step::Install])?;
        let single = self.look(key)?;
        let nowhere = Found::default();
        let surveyed = self.survey(&[(key, &single), (key, &nowhere), (other, &single)])?;
        demand(
            "a survey finds what an inspect finds, and tells nothing where there are no handles or another key's",
            surveyed == [Some(single.clone()), None, None],
            &surveyed,
        )?;
        self.run(other, vec![Step::Install])?;
        let second = self.look(other)?;
        let both = self.survey(&[(other, &second), (key, &single)])?;
        let told = both == [Some(second.clone()), Some(single)];
        demand("the answers are in the order of the plans", told, &both)?;
        self.run(other, destroy(&other.plan))?;
        let gone = self.survey(&[(other, &second)])?;
        demand("what is gone is not met", gone == [None], &gone)?;
        self.run(key, destroy(&key.plan))?;
        let many = vec![glance(key, &nowhere); SURVEY_PLANS_MAX + 1];
        let outcome = self.external.perform(&TokenJob::Survey(many));
        let refused = matches!(outcome, TokenOutcome::Failed(_));
        demand("a survey is bounded", refused, &outcome)
    }

    /// A survey begins no further key after a while: then it is asked for the rest, as the agent asks.
    fn survey(&mut self, looks: &[(&Key, &Found)]) -> Outcome<Vec<Option<Found>>> {
        let mut found = Vec::new();
        while found.len() < looks.len() {
            let rest = looks.iter().skip(found.len());
            let glances = rest.map(|(key, seen)| glance(key, seen)).collect();
            let TokenAnswer::Surveyed(more) = done(self.external, &TokenJob::Survey(glances))?
            else {
                return another("survey answers surveyed");
            };
            demand("a survey answers one key at least", !more.is_empty(), &more)?;
            found.extend(more);
        }
        Ok(found)
    }
}

fn glance(key: &Key, seen: &Found) -> Glance {
    Glance {
        object: key.plan.clone(),
        handles: seen.objects.iter().map(|facts| facts.handle).collect(),
    }
}
