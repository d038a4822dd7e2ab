//! PROCESS 1: the agent beside a keystore.
//!
//! Owns: its config, its state directory (identity key, keystore id, `peers.toml`, journal, PIN latch), the loop that
//! carries out what `decide::agent` says, the gRPC service, the commands an operator types.
//! Never: decides what to do with a key (that is `decide::agent`), calls a PKCS#11 module (that is the module host's),
//! imports the coordinator.
//!
//! ```text
//! gRPC stream ─▶ service::session ─▶ driver ─▶ decide::agent::Machine
//!                                      │  ▲
//!                    journal thread ◀──┤  ├── answers, in order
//!                    module host    ◀──┘  │
//! unary calls ─▶ service::* ─▶ driver (a bounded queue of their jobs) ──▶ module host, one job at a time
//! ```

pub mod commands;
pub mod config;
pub mod descriptor;
pub mod driver;
pub mod durable;
pub mod hardening;
pub mod identity;
pub mod jobs;
pub mod journal;
pub mod latch;
pub mod messages;
pub mod milestones;
pub mod peers;
pub mod pin;
pub mod pin_source;
pub mod probes;
pub mod service;
pub mod state_dir;
