//! The deterministic simulation: the real decision machines of agents and coordinators, the real use cases over the real SQL,
//! and tokens in memory, under one seeded scheduler with a virtual clock and network. `docs/simulation.md` tells what it does.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::wildcard_enum_match_arm,
    reason = "tests fail by panicking, and a simulation picks out what it needs"
)]

mod agent;
mod bugs;
mod calls;
mod checks;
mod coordinator;
mod dice;
mod heal;
mod keeper;
mod network;
mod people;
mod plan;
mod port;
mod story;
mod token;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use lockstep::clock::Monotonic;

use crate::bugs::Bug;
use crate::plan::Plan;
use crate::story::{failure_of, run, story};

/// Seeds beyond the 500 that once failed (docs/simulation.md).
const ONCE_FAILED: [u64; 37] = [
    575, 599, 884, 1047, 1212, 1627, 1933, 2690, 3437, 3447, 3637, 3729, 4468, 4545, 4579, 4757,
    4886, 4937, 5343, 6206, 6385, 6481, 6891, 6936, 7584, 7832, 8002, 8447, 8578, 8798, 8926, 8986,
    9062, 9220, 9458, 9635, 9894,
];

#[test]
fn seeds_that_once_failed_hold() {
    for seed in ONCE_FAILED {
        all_hold(seed..seed + 1);
    }
}

fn all_hold(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        if failure_of(seed, None).is_some() {
            panic!("{}", story(seed, None));
        }
    }
}

#[test]
fn seeds_0_to_249_hold() {
    all_hold(0..250);
}

#[test]
fn seeds_250_to_499_hold() {
    all_hold(250..500);
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in (0..500).step_by(10) {
        let (one, other) = (
            run(Plan::of(seed), None, false),
            run(Plan::of(seed), None, false),
        );
        assert_eq!(
            (one.hash, one.virtual_ms),
            (other.hash, other.virtual_ms),
            "seed {seed}"
        );
    }
    for seed in 0..5 {
        let (one, other) = (
            run(Plan::of(seed), None, true),
            run(Plan::of(seed), None, true),
        );
        assert!(
            one.text == other.text,
            "seed {seed}: the runs differ byte for byte"
        );
    }
}

/// A number of the environment.
fn number(name: &str, otherwise: u64) -> u64 {
    let told = std::env::var(name).ok();
    told.and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// `make sim SEEDS=n FROM=m`.
#[test]
#[ignore = "as many as are asked for"]
fn many_seeds_hold() {
    let (from, seeds) = (number("SIM_FROM", 500), number("SIM_SEEDS", 10_000));
    let threads =
        u64::try_from(std::thread::available_parallelism().map_or(1, usize::from)).unwrap();
    let started = Monotonic::now();
    let (next, virtual_ms) = (AtomicU64::new(from), AtomicU64::new(0));
    let failed: Vec<(u64, String)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut failed = Vec::new();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= from + seeds {
                            return failed;
                        }
                        let ran = run(Plan::of(seed), None, false);
                        virtual_ms.fetch_add(ran.virtual_ms, Ordering::Relaxed);
                        if let Some(failure) = ran.failure {
                            failed.push((seed, format!("{}: {}", failure.invariant, failure.what)));
                        }
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().unwrap())
            .collect()
    });
    let hours = virtual_ms.into_inner() / 3_600_000;
    println!(
        "{seeds} seeds from {from}: {} failed; {hours} virtual hours in {:?}",
        failed.len(),
        started.elapsed()
    );
    for (seed, why) in &failed {
        println!("seed {seed} {}", why.chars().take(300).collect::<String>());
    }
    if let Some((seed, _)) = failed.iter().min() {
        panic!("{}", story(*seed, None));
    }
}

/// `make sim SEED=n`: the story of one.
#[test]
#[ignore = "for people"]
fn one_seed() {
    let seed = std::env::var("SIM_SEED").unwrap().parse().unwrap();
    let ran = run(Plan::of(seed), None, true);
    println!("{}", ran.text);
    println!("{:?}", ran.failure);
}

/// The first of the 500 seeds that catches a bug, after the one that did when last somebody looked.
fn caught_by(bug: Bug, hint: u64) -> Option<(u64, &'static str, u64)> {
    std::iter::once(hint).chain(0..500).find_map(|seed| {
        failure_of(seed, Some(bug)).map(|failure| (seed, failure.invariant, failure.at_ms))
    })
}

#[test]
fn every_planted_bug_is_caught() {
    let mut missed = Vec::new();
    for (bug, hint) in bugs::CAUGHT {
        match caught_by(bug, hint) {
            Some((seed, invariant, at_ms)) => {
                println!("{bug:?}: seed {seed} breaks {invariant} after {at_ms} ms")
            }
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not caught within 500 seeds: {missed:?}");
}

/// How many of so many seeds catch each, or one of them (`SIM_BUG`): `make sim-bugs`, for the table in the docs.
#[test]
#[ignore = "for the table"]
fn how_often_planted_bugs_are_caught() {
    let seeds = number("SIM_SEEDS", 200);
    let only = std::env::var("SIM_BUG").ok();
    let is_meant = |bug: &Bug| only.as_ref().is_none_or(|name| format!("{bug:?}") == *name);
    for (bug, _) in bugs::CAUGHT.into_iter().filter(|(bug, _)| is_meant(bug)) {
        let mut by = std::collections::BTreeMap::new();
        let mut first = None;
        for seed in 0..seeds {
            if let Some(failure) = failure_of(seed, Some(bug)) {
                *by.entry(failure.invariant).or_insert(0) += 1;
                first.get_or_insert((seed, failure.invariant));
            }
        }
        println!("{bug:?}: first {first:?}, of {seeds}: {by:?}");
    }
}
