//! Load and soak: a real coordinator process on SQLite, and many agents in this process that are whole (decision machine, journal,
//! service, mutual TLS, a port and a name each) but for the module host, in whose place a token in memory answers.
//! `docs/load.md` tells what is measured; `make soak` runs all of it, `make test` a few seconds in which nothing may grow.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::wildcard_enum_match_arm,
    clippy::as_conversions,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "tests fail by panicking, and a load is measured by the clock"
)]

mod agent;
mod estate;
mod figures;
mod load;
mod process;
mod rest;
mod sick;
mod thousand;
mod token;
mod transport;
mod watch;

use std::time::Duration;

fn set(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

#[test]
fn a_few_seconds_under_load_leave_nothing_behind() {
    sick::run(sick::Scale {
        agents: 4,
        keys_each: 30,
        rate: 20,
        baseline: Duration::from_secs(2),
        sick: Duration::from_secs(8),
        is_timed: false,
    });
}

#[test]
fn a_few_agents_report_after_a_restart_and_disable_in_its_midst() {
    thousand::run(thousand::Scale {
        agents: 10,
        others: 2,
        idle: Duration::from_secs(1),
        is_timed: false,
    });
}

#[test]
#[ignore = "minutes on a quiet machine: make soak"]
fn soak_with_a_flapping_and_a_hanging_agent() {
    let minutes = set("SOAK_MINUTES", 10);
    sick::run(sick::Scale {
        agents: 20,
        keys_each: set("SOAK_KEYS", 100),
        rate: set("SOAK_RATE", 200),
        baseline: Duration::from_secs_f64((minutes * 60) as f64 / 5.0),
        sick: Duration::from_secs((minutes * 60) as u64),
        is_timed: true,
    });
}

#[test]
#[ignore = "minutes on a quiet machine: make soak"]
fn soak_a_thousand_agents() {
    thousand::run(thousand::Scale {
        agents: set("SOAK_AGENTS", 1_000),
        others: set("SOAK_OTHERS", 20),
        idle: Duration::from_secs(60),
        is_timed: true,
    });
}
