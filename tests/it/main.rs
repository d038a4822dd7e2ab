//! One binary of integration tests: each further binary would cost a link.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::as_conversions,
    clippy::disallowed_methods,
    reason = "tests fail by panicking"
)]

mod agent_pin;
mod agent_process;
mod architecture;
mod ca;
mod cli;
mod console;
mod crash;
mod fuzz;
mod host;
mod host_faults;
mod host_tokens;
mod keystore_contract;
mod ops;
mod outsider;
mod rest_api;
mod rest_bulk;
mod rest_extensions;
mod rest_found;
mod rest_metrics;
mod serve;
mod store_contract;
mod support;
mod system;
mod token_kinds;
