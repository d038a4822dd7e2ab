//! What is checked in every state, and how a run is told.

use stateright::{Checker, HasDiscoveries, Model, Property};
use std::collections::BTreeSet;

use lockstep::clock::Monotonic;
use lockstep::model::desired::Want;

use crate::protocol::{Move, Scope};
use crate::real::{self, Said};
use crate::state::World;

/// Names of invariants: what a mutant breaks.
pub(crate) const I1: &str = "I1 generations of effects never go back";
pub(crate) const I2: &str = "I2 no order older than the newest restriction enables";
pub(crate) const I3: &str = "I3 a destroyed key never comes back";
pub(crate) const I4: &str = "I4 at rest there is one object of each half";
pub(crate) const I5: &str = "I5 and I10: in sync is said of what is so";
pub(crate) const I6: &str = "I6 when faults stop, all settles";

impl Model for Scope {
    type State = World;
    type Action = Move;

    fn init_states(&self) -> Vec<World> {
        vec![self.start()]
    }

    fn actions(&self, world: &World, moves: &mut Vec<Move>) {
        self.moves(world, moves);
    }

    fn next_state(&self, world: &World, next: Move) -> Option<World> {
        self.play(world, &next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(I1, |_, world: &World| {
                !world.targets.iter().any(|target| target.seen.went_back)
            }),
            Property::always(I2, |_, world: &World| {
                !world.targets.iter().any(|target| target.seen.reactivated)
            }),
            Property::always(I3, |_, world: &World| {
                !world.targets.iter().any(|target| target.seen.came_back)
            }),
            Property::always(I4, |_, world: &World| {
                let mut resting = world.targets.iter();
                resting.all(|target| target.agent.work.is_some() || real::is_unique(target.token))
            }),
            Property::always(I5, is_true),
            Property::always(I6, |scope: &Scope, world: &World| scope.converges(world)),
            Property::sometimes(
                "a key is in sync as active everywhere",
                |scope: &Scope, world: &World| in_sync_everywhere(scope, world, Want::Active),
            ),
            Property::sometimes(
                "a key is in sync as deactivated everywhere",
                |scope: &Scope, world: &World| in_sync_everywhere(scope, world, Want::Deactivated),
            ),
        ]
    }
}

fn is_true(scope: &Scope, world: &World) -> bool {
    (0..scope.targets).all(|at| {
        let Some((order, said)) = scope.said(world, at) else {
            return true;
        };
        let target = &world.targets[at];
        // Nobody can know of an edit that came after the look.
        let is_edited = target.known_edits != target.edits;
        is_edited || real::is_true(order, said, target.token)
    })
}

fn in_sync_everywhere(scope: &Scope, world: &World, want: Want) -> bool {
    (0..scope.targets).all(|at| {
        scope
            .said(world, at)
            .is_some_and(|(_, said)| said == Said::InSync(want))
    })
}

/// What a run found.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) states: usize,
    pub(crate) depth: usize,
    pub(crate) seconds: f64,
    /// The invariants that are broken, each with the fewest moves that broke it.
    pub(crate) broken: BTreeSet<(&'static str, usize)>,
    /// What should have been met at least once and was not.
    pub(crate) missed: Vec<&'static str>,
    pub(crate) trace: String,
}

/// Every state in the scope, or, where something is expected to break, until all of that did.
pub(crate) fn explore(scope: Scope, expected: &[&'static str]) -> Outcome {
    let properties = scope.properties();
    let started = Monotonic::now();
    let mut builder = scope.checker().threads(2);
    if !expected.is_empty() {
        let expected = expected.iter().copied().collect();
        builder = builder.finish_when(HasDiscoveries::AllOf(expected));
    }
    let checker = builder.spawn_bfs().join();
    let mut outcome = Outcome {
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        seconds: started.elapsed().as_secs_f64(),
        broken: BTreeSet::new(),
        missed: Vec::new(),
        trace: String::new(),
    };
    for property in properties {
        let found = checker.discovery(property.name);
        match (found, property.name.starts_with('I')) {
            (Some(path), true) => {
                let moves = path.into_actions();
                outcome.broken.insert((property.name, moves.len()));
                outcome.trace = format!("{}\n{moves:#?}", outcome.trace);
            }
            (None, false) => outcome.missed.push(property.name),
            (Some(_), false) | (None, true) => {}
        }
    }
    outcome
}
