//! PROCESS 3: people's command line.
//!
//! Owns: arguments, the HTTP client of the REST API, tables and JSON on the terminal, the fleet's certificate authority.
//! Never: opens the store, dials an agent, decides what is allowed. Imports `model`, `rest`, `tls`, `clock`.
//!
//! A command is read by `args`, run by `commands/<noun>` with a [`context::Context`], and ends with one of the exit codes
//! in [`exit::Exit`]. Records are named by id or name (`find`), ETags are fetched and sent along, `--wait` is in `wait`.

pub mod args;
pub mod authority;
pub mod client;
pub mod commands;
pub mod context;
pub mod exit;
pub mod find;
pub mod listing;
pub mod run;
pub mod status;
pub mod table;
pub mod terminal;
pub mod wait;
