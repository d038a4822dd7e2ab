//! Runs of seeds, and the story of one that failed: what is left of its plan when everything that it does not need is taken
//! away.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::bugs::Bug;
use crate::checks::Failure;
use crate::plan::{Class, Plan};
use crate::world::World;

/// What became of a run.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) failure: Option<Failure>,
    pub(crate) hash: u64,
    pub(crate) text: String,
    pub(crate) virtual_ms: u64,
}

/// Runs a plan.
pub(crate) fn run(plan: Plan, bug: Option<Bug>, loud: bool) -> Ran {
    let mut world = World::new(plan, bug, loud);
    world.trace.details = std::env::var("SIM_DETAILS").is_ok();
    let panicked = catch_unwind(AssertUnwindSafe(|| world.run()));
    if let Err(panic) = panicked {
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        world.fail("panic", words.unwrap_or_else(|| "no words".to_owned()));
    }
    Ran {
        failure: world.oracle.failure.clone(),
        hash: world.trace.hash,
        text: std::mem::take(&mut world.trace.text),
        virtual_ms: world.now,
    }
}

/// The first invariant that a seed breaks.
pub(crate) fn failure_of(seed: u64, bug: Option<Bug>) -> Option<Failure> {
    run(Plan::of(seed), bug, false).failure
}

/// The smallest plan that still breaks the same invariant, found by taking one thing away at a time.
pub(crate) fn shrink(seed: u64, bug: Option<Bug>) -> (Plan, Failure) {
    let mut plan = Plan::of(seed);
    let mut failure = run(plan.clone(), bug, false).failure.expect("it fails");
    loop {
        let before = (plan.rates.len(), plan.script.len());
        for class in Class::ALL {
            let mut less = plan.clone();
            if less.rates.remove(&class).is_some() {
                accept(&mut plan, &mut failure, less, bug);
            }
        }
        for index in (0..plan.script.len()).rev() {
            let mut less = plan.clone();
            less.script.remove(index);
            accept(&mut plan, &mut failure, less, bug);
        }
        if (plan.rates.len(), plan.script.len()) == before {
            return (plan, failure);
        }
    }
}

fn accept(plan: &mut Plan, failure: &mut Failure, less: Plan, bug: Option<Bug>) {
    if let Some(same) = run(less.clone(), bug, false)
        .failure
        .filter(|same| same.invariant == failure.invariant)
    {
        (*plan, *failure) = (less, same);
    }
}

/// The story of a failing seed, in words.
pub(crate) fn story(seed: u64, bug: Option<Bug>) -> String {
    let (plan, failure) = shrink(seed, bug);
    let told = run(plan.clone(), bug, true);
    let lines: Vec<&str> = told.text.lines().collect();
    let most = std::env::var("SIM_LINES")
        .ok()
        .and_then(|lines| lines.parse().ok())
        .unwrap_or(60);
    let tail = lines.len().saturating_sub(most);
    let mut story = format!(
        "seed {seed} breaks {} after {} ms: {}\n{} keystores, {:?}; faults (per mille): {:?}\n",
        failure.invariant, failure.at_ms, failure.what, plan.keystores, plan.strategy, plan.rates
    );
    for (at, happening) in &plan.script {
        story.push_str(&format!(
            "{:>7}.{:03} {happening:?}\n",
            at / 1000,
            at % 1000
        ));
    }
    story.push_str("...\n");
    for line in &lines[tail..] {
        story.push_str(&line.chars().take(600).collect::<String>());
        story.push('\n');
    }
    story
}
