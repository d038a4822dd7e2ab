//! PROCESS 3: people's command line.
//!
//! Owns: arguments, the HTTP client of the REST API, tables and JSON on the terminal, the fleet's certificate authority.
//! Never: opens the store, dials an agent, decides what is allowed. Imports `model`, `rest`, `tls`, `clock`.
//!
//! Exit codes are in [`exit::Exit`].

pub mod args;
pub mod authority;
pub mod commands;
pub mod exit;
pub mod run;
pub mod terminal;
