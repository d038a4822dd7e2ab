//! What several tests need.
#![allow(
    unreachable_pub,
    dead_code,
    reason = "fixtures offer more than each test takes, and live in a binary"
)]

pub mod agent;
pub mod client;
pub mod coordinator;
pub mod failpoints;
pub mod fault;
pub mod fleet;
pub mod fuzz;
pub mod http2;
pub mod kinds;
pub mod module;
pub mod paper;
pub mod pin;
pub mod postgres;
pub mod process;
pub mod programs;
pub mod rest;
pub mod secrets;
pub mod softhsm;
pub mod tap;

use std::path::PathBuf;

/// A program of `examples/`, which cargo builds beside the tests.
pub fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test
        .parent()
        .and_then(|deps| deps.parent())
        .map(|target| target.join("examples").join(name))
        .unwrap();
    assert!(
        path.exists(),
        "{} is missing: run `cargo build --examples`",
        path.display()
    );
    path
}
