//! The matrix, an operation a test: each has a fleet of its own, and plays its cases one after the other. A case fails unless
//! its point was reached, so that a whole run has reached all of them (`case`).

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::crash::case::{Case, Operation, cases};
use crate::crash::rig::Rig;
use crate::crash::{is_whole, joining, seed, trial};
use crate::support::kinds::Kind;

/// `make test` plays one case in so many.
const PART: usize = 5;

#[test]
fn create_secret() {
    play(Kind::Kryoptic, &[Operation::CreateSecret]);
}

#[test]
fn create_pair() {
    play(Kind::Kryoptic, &[Operation::CreatePair]);
}

#[test]
fn activate() {
    play(Kind::Kryoptic, &[Operation::Activate]);
}

#[test]
fn deactivate() {
    play(Kind::Kryoptic, &[Operation::Deactivate]);
}

#[test]
fn destroy() {
    play(Kind::Kryoptic, &[Operation::Destroy]);
}

#[test]
fn transfer() {
    play(Kind::Kryoptic, &[Operation::Transfer]);
}

#[test]
fn enrol() {
    play(Kind::Kryoptic, &[Operation::Enrol]);
}

/// Kills that spare the module host's writes, on the token that would not outlive them.
#[test]
fn softhsm() {
    play(Kind::SoftHsm, &Operation::ALL);
}

fn play(kind: Kind, operations: &[Operation]) {
    let all = operations.iter();
    let all = all.flat_map(|operation| cases(*operation, kind)).collect();
    let chosen = chosen(all);
    if chosen.is_empty() {
        return;
    }
    let mut rig = Rig::new(kind);
    let mut took = Vec::new();
    for case in &chosen {
        let run = if case.operation == Operation::Enrol {
            joining::run
        } else {
            trial::run
        };
        match catch_unwind(AssertUnwindSafe(|| run(&mut rig, case))) {
            Ok(played) => {
                println!("{case}: {} ms", played.as_millis());
                took.push(played);
            }
            Err(why) => {
                println!("{case} failed; alone: make crash-case CASE={case}");
                rig.fleet.tell_logs();
                std::panic::resume_unwind(why);
            }
        }
    }
    took.sort();
    let names: Vec<&str> = operations.iter().map(|one| one.name()).collect();
    println!(
        "{} on {}: {} cases, in step again after {} ms (median), {} ms at most",
        names.join(", "),
        kind.name(),
        took.len(),
        took[took.len() / 2].as_millis(),
        took[took.len() - 1].as_millis()
    );
}

/// The cases to be played: all, one, or a part by the seed.
fn chosen(all: Vec<Case>) -> Vec<Case> {
    if let Ok(name) = std::env::var("CRASH_CASE") {
        let is_it = |case: &Case| case.to_string() == name;
        let everywhere = |kind| {
            Operation::ALL
                .into_iter()
                .flat_map(move |of| cases(of, kind))
        };
        let is_one = [Kind::Kryoptic, Kind::SoftHsm]
            .into_iter()
            .flat_map(everywhere);
        assert!(is_one.clone().any(|case| is_it(&case)), "no case {name}");
        return all.into_iter().filter(is_it).collect();
    }
    if is_whole() {
        return all;
    }
    let count = all.len().div_ceil(PART);
    fastrand::Rng::with_seed(seed()).choose_multiple(all, count)
}
