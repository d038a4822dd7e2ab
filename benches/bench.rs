//! The measurements that README quotes: each figure beside its baseline, taken in turns in the same run.
//!
//! `cargo bench --bench bench -- [activate] [inventory] [steps] [restart] [install] [pace] [big] [store] [KEYS ...]`; without a
//! part all are run. KEYS are how many keys the tokens get, in place of each part's own sizes. Tokens are SoftHSM2's, on
//! /dev/shm where there is one; the store is on the disk that holds `target/`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::as_conversions,
    unreachable_pub,
    dead_code,
    reason = "a program that measures: it ends when something fails, and takes part of the tests' fixtures"
)]

mod parts;
#[path = "../tests/it/store_contract/records.rs"]
mod records;
#[path = "../tests/it/support/mod.rs"]
mod support;

use parts::{activate, big, install, inventory, pace, restart, steps, store};

/// Sizes of the inventories.
const KEYS: [usize; 2] = [1_000, 10_000];

/// Keys on the token that is watched: R13 promises for so many.
const KEYS_WATCHED: [usize; 1] = [1_000];

/// Keys on the tokens on which steps are done.
const KEYS_STEPPED: [usize; 2] = [10, 1_000];

/// Keys on the tokens whose module host is killed.
const KEYS_RESTARTED: [usize; 3] = [1, 1_000, 10_000];

/// Keys that are installed.
const KEYS_INSTALLED: [usize; 1] = [1_000];

fn main() {
    // Cargo adds --bench.
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with("--"))
        .collect();
    match words.first().map(String::as_str) {
        Some(inventory::INSIDE) => inventory::inside(&words[1..]),
        Some(activate::INSIDE) => activate::inside(&words[1..]),
        Some(pace::INSIDE) => pace::inside(&words[1..]),
        Some(big::INSIDE) => big::inside(&words[1..]),
        Some(steps::INSIDE) => steps::inside(&words[1..]),
        Some(install::INSIDE) => install::inside(&words[1..]),
        Some(restart::MAKE) => restart::make(&words[1..]),
        Some(restart::BARE) => restart::bare(&words[1..]),
        Some(activate::COLD) => activate::cold(&words[1..]),
        Some(_) | None => all(&words),
    }
}

fn all(words: &[String]) {
    let (sizes, parts): (Vec<&String>, Vec<&String>) =
        words.iter().partition(|word| word.parse::<usize>().is_ok());
    let sizes: Vec<usize> = sizes.iter().map(|size| size.parse().unwrap()).collect();
    let or = |default: &[usize]| {
        let asked = if sizes.is_empty() { default } else { &sizes };
        asked.to_vec()
    };
    let known = [
        "activate",
        "inventory",
        "steps",
        "restart",
        "install",
        "pace",
        "big",
        "store",
    ];
    for part in &parts {
        assert!(known.contains(&part.as_str()), "{part}: one of {known:?}");
    }
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|word| *word == part);
    if wanted("activate") {
        activate::run();
    }
    if wanted("inventory") {
        for keys in or(&KEYS) {
            inventory::run(keys);
        }
    }
    if wanted("steps") {
        for keys in or(&KEYS_STEPPED) {
            steps::run(keys);
        }
    }
    if wanted("restart") {
        for keys in or(&KEYS_RESTARTED) {
            restart::run(keys);
        }
    }
    if wanted("install") {
        for keys in or(&KEYS_INSTALLED) {
            install::run(keys);
        }
    }
    if wanted("pace") {
        for keys in or(&KEYS_WATCHED) {
            pace::run(keys);
        }
    }
    if wanted("big") {
        for keys in or(&KEYS) {
            big::run(keys);
        }
    }
    if wanted("store") {
        store::run();
    }
}
