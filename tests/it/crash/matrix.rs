//! The matrix, an operation a test: each has a fleet of its own, and plays its cases one after the other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::crash::case::{Case, Operation, Party, cases};
use crate::crash::rig::Rig;
use crate::crash::{is_whole, joining, seed, trial};
use crate::support::kinds::Kind;

/// `make test` plays one case in so many.
const PART: usize = 5;

#[test]
fn create_secret() {
    play(Operation::CreateSecret, Kind::Kryoptic);
}

#[test]
fn create_pair() {
    play(Operation::CreatePair, Kind::Kryoptic);
}

#[test]
fn activate() {
    play(Operation::Activate, Kind::Kryoptic);
}

#[test]
fn deactivate() {
    play(Operation::Deactivate, Kind::Kryoptic);
}

#[test]
fn destroy() {
    play(Operation::Destroy, Kind::Kryoptic);
}

#[test]
fn transfer() {
    play(Operation::Transfer, Kind::Kryoptic);
}

#[test]
fn enrol() {
    play(Operation::Enrol, Kind::Kryoptic);
}

/// Kills that spare the module host's writes, on the token that would not outlive them.
#[test]
fn softhsm() {
    for operation in Operation::ALL {
        play(operation, Kind::SoftHsm);
    }
}

fn play(operation: Operation, kind: Kind) {
    let chosen = chosen(cases(operation, kind));
    if chosen.is_empty() {
        return;
    }
    let mut rig = Rig::new(kind);
    let mut took = Vec::new();
    for case in &chosen {
        let run = if operation == Operation::Enrol {
            joining::run
        } else {
            trial::run
        };
        let played = catch_unwind(AssertUnwindSafe(|| run(&mut rig, case)));
        match played {
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
    let median = took[took.len() / 2];
    let slowest = took.last().copied().unwrap_or(Duration::ZERO);
    println!(
        "{} on {}: {} cases, in step again after {} ms (median), {} ms at most",
        operation.name(),
        kind.name(),
        took.len(),
        median.as_millis(),
        slowest.as_millis()
    );
}

/// The cases to be played: all, one, or a part by the seed.
fn chosen(all: Vec<Case>) -> Vec<Case> {
    if let Ok(name) = std::env::var("CRASH_CASE") {
        return all
            .into_iter()
            .filter(|case| case.to_string() == name)
            .collect();
    }
    if is_whole() {
        return all;
    }
    let count = all.len().div_ceil(PART);
    let mut rng = fastrand::Rng::with_seed(seed());
    rng.choose_multiple(all, count)
}

/// Calls of a host that change its token or make material.
const WRITES: [&str; 7] = [
    "C_GenerateKey",
    "C_GenerateKeyPair",
    "C_UnwrapKey",
    "C_CreateObject",
    "C_CopyObject",
    "C_SetAttributeValue",
    "C_DestroyObject",
];

#[test]
fn the_calls_of_the_matrix_are_those_that_are_made() {
    let mut rig = Rig::new(Kind::Kryoptic);
    for operation in Operation::ALL {
        if operation == Operation::Enrol {
            continue;
        }
        // What a token answers to is learned at the first time.
        trial::calls_of(&mut rig, operation, &WRITES);
        let mut made = trial::calls_of(&mut rig, operation, &WRITES);
        let mut expected = operation.calls().to_vec();
        // The source's part of an activation is that of a transfer.
        made.retain(|(party, ..)| operation != Operation::Activate || *party == Party::Away);
        made.sort_unstable();
        expected.sort_unstable();
        assert_eq!(made, expected, "{operation:?}");
    }
}
