//! What waits for the token, in lanes: what reduces use goes first, always.

use std::collections::BTreeMap;

use crate::model::desired::Want;
use crate::model::ids::KeyVersionId;

/// The lanes, most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// Intents that deactivate or destroy.
    Restrict,
    /// Intents that activate.
    Enable,
    /// What a coordinator or a person asked to see.
    Ask,
    /// What a scan found new or changed.
    Recheck,
}

impl Lane {
    /// The lane of an intent.
    pub(crate) const fn of(want: Want) -> Self {
        match want {
            Want::Deactivated | Want::Destroyed => Self::Restrict,
            Want::Active => Self::Enable,
        }
    }
}

/// One thing to do with the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Task {
    /// Carry the journaled intent out.
    Carry(KeyVersionId),
    /// Look at the instance and report, changed or not.
    Look(KeyVersionId),
    /// Look at the instance because a scan saw something.
    Recheck(KeyVersionId),
    /// As `Recheck`, where all is there that should be: together with others.
    Survey(KeyVersionId),
    /// Try the instance's operations.
    Prove(KeyVersionId),
}

/// Each task at most once; first in, first out within a lane. So there are never more than five per instance.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    items: BTreeMap<(Lane, u64), Task>,
    places: BTreeMap<Task, (Lane, u64)>,
    order: u64,
}

impl Queue {
    /// Adds a task at the end of the lane; one that waits already keeps its place, or moves to the more urgent lane.
    pub(crate) fn push(&mut self, lane: Lane, task: Task) {
        if let Some(&place) = self.places.get(&task) {
            if place.0 <= lane {
                return;
            }
            self.items.remove(&place);
        }
        self.order = self.order.saturating_add(1);
        self.places.insert(task, (lane, self.order));
        self.items.insert((lane, self.order), task);
    }

    /// Takes the first task of the lane.
    pub(crate) fn pop(&mut self, lane: Lane) -> Option<Task> {
        let (&place, &task) = self.items.range((lane, 0)..=(lane, u64::MAX)).next()?;
        self.items.remove(&place);
        self.places.remove(&task);
        Some(task)
    }

    /// Takes up to that many surveys, wherever they wait in their lane.
    pub(crate) fn pop_surveys(&mut self, most: usize) -> Vec<KeyVersionId> {
        let surveys = self.places.keys().filter_map(|task| match task {
            Task::Survey(version) => Some(*version),
            Task::Carry(_) | Task::Look(_) | Task::Recheck(_) | Task::Prove(_) => None,
        });
        let taken: Vec<KeyVersionId> = surveys.take(most).collect();
        for &version in &taken {
            self.remove(Task::Survey(version));
        }
        taken
    }

    /// Whether something waits that a scan saw.
    pub(crate) fn has_rechecks(&self) -> bool {
        self.places.keys().any(|task| match task {
            Task::Recheck(_) | Task::Survey(_) => true,
            Task::Carry(_) | Task::Look(_) | Task::Prove(_) => false,
        })
    }

    /// Forgets the task.
    pub(crate) fn remove(&mut self, task: Task) {
        if let Some(place) = self.places.remove(&task) {
            self.items.remove(&place);
        }
    }

    /// Whether nothing waits in the lane.
    pub(crate) fn is_empty(&self, lane: Lane) -> bool {
        self.items
            .range((lane, 0)..=(lane, u64::MAX))
            .next()
            .is_none()
    }

    /// Forgets the tasks for which this is false.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Task) -> bool) {
        self.items.retain(|_, task| keep(task));
        self.places.retain(|task, _| keep(task));
    }
}
