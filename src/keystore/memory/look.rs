//! What looks see of a token in memory.

use std::collections::BTreeSet;

use crate::keystore::memory::{Fault, Object, State, missed};
use crate::keystore::pkcs11::names::check_plan;
use crate::model::desired::ObjectPlan;
use crate::model::job::{Glance, Inventory, Slice, TokenAnswer};
use crate::model::key::KeyClass;
use crate::model::observed::{Fingerprint, Found, ObjectClass, ObjectFacts};

impl State {
    pub(super) fn look(&self, plan: &ObjectPlan, fault: &Fault) -> Found {
        let seen = |object: &Object| object.cka_id == plan.cka_id && !missed(fault, object);
        let objects = self.facts(seen);
        let classes = plan.spec.class().objects();
        let whole = classes
            .iter()
            .all(|class| objects.iter().any(|facts| facts.class == *class));
        let fingerprint = self.fingerprint(plan, &objects);
        Found {
            same_label: if whole {
                Vec::new()
            } else {
                self.same_label(plan)
            },
            fingerprint_failure: (fingerprint.is_none() && !objects.is_empty())
                .then(|| "fingerprint: not exactly one object of each class".to_owned()),
            fingerprint,
            objects,
        }
    }

    /// As a survey does: nothing where not exactly the plan's objects are met under the handles.
    pub(super) fn glance(&self, glance: &Glance, fault: &Fault) -> Option<Found> {
        let plan = &glance.object;
        check_plan(plan).ok()?;
        let objects = self.facts(|object| object.cka_id == plan.cka_id && !missed(fault, object));
        let there = objects
            .into_iter()
            .filter(|facts| glance.handles.contains(&facts.handle));
        let objects: Vec<ObjectFacts> = there.collect();
        let is_it = objects.len() == glance.handles.len() && plan.is_exactly(objects.iter());
        is_it.then(|| Found {
            fingerprint: self.fingerprint(plan, &objects),
            objects,
            ..Found::default()
        })
    }

    pub(super) fn slice(&mut self, fault: &Fault) -> TokenAnswer {
        let most = self
            .slice_objects
            .unwrap_or(usize::MAX)
            .min(self.unscanned.len());
        let now: BTreeSet<u64> = self.unscanned.drain(..most).collect();
        let seen = self.facts(|object| !missed(fault, object));
        let slice = Slice {
            objects: seen
                .into_iter()
                .filter(|facts| now.contains(&facts.handle))
                .collect(),
            ..Slice::default()
        };
        if self.unscanned.is_empty() {
            TokenAnswer::Inventory(Inventory {
                identity: self.identity(),
                rest: slice,
            })
        } else {
            TokenAnswer::Slice(slice)
        }
    }

    pub(super) fn fingerprint(
        &self,
        plan: &ObjectPlan,
        objects: &[ObjectFacts],
    ) -> Option<Fingerprint> {
        let one_of_each = objects.len() == plan.spec.class().objects().len();
        let mut materials = objects
            .iter()
            .filter_map(|facts| self.objects.get(&facts.handle))
            .map(|object| &object.material);
        let first = materials.next()?;
        if !one_of_each
            || objects
                .iter()
                .any(|f| !plan.spec.class().objects().contains(&f.class))
        {
            return None;
        }
        match (plan.spec.class(), materials.next()) {
            (KeyClass::Secret, _) => Some(first.fingerprint(plan.spec, &plan.salt)),
            (KeyClass::Pair, Some(second)) if first == second => {
                Some(first.fingerprint(plan.spec, &plan.salt))
            }
            (KeyClass::Pair, second) => second.map(|second| first.mismatched(second)),
        }
    }

    pub(super) fn same_label(&self, plan: &ObjectPlan) -> Vec<ObjectFacts> {
        let mut namesakes = self.facts(|object| {
            object.label == plan.label
                && object.cka_id != plan.cka_id
                && plan.spec.class().objects().contains(&object.class)
        });
        for facts in &mut namesakes {
            let object = self.objects.get(&facts.handle);
            facts.fingerprint = object
                .filter(|object| object.class == ObjectClass::Secret)
                .map(|object| object.material.fingerprint(plan.spec, &plan.salt));
        }
        namesakes
    }
}
