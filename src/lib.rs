//! Lockstep keeps cryptographic keys in step across many PKCS#11 keystores.
//!
//! The map; each room's `//!` says what it owns and what it never does. Who may import whom is held by
//! `tests/it/architecture.rs`.
//!
//! | room | owns | may import |
//! |---|---|---|
//! | `model` | pure nouns | nothing |
//! | `decide` | pure verbs, sans-IO: effects, status, difference, the two state machines | `model` |
//! | `keystore` | the port to tokens: PKCS#11, the module host, an in-memory token | `model failpoint` |
//! | `wire` | generated gRPC and its conversions | `model` |
//! | `rest` | bodies of the REST API | `model` |
//! | `agent` | process 1, beside a keystore | `model decide keystore wire clock tls telemetry failpoint` |
//! | `coordinator::config` | the coordinator's config file | nothing |
//! | `coordinator::store` | SQL, and nothing else has any | `model` |
//! | `coordinator::ops` | all use cases, the port `Fleet` | `model decide clock store failpoint` |
//! | `coordinator::reconcile` | sessions and passes, implements `Fleet` | `model decide wire clock tls store ops::fleet failpoint` |
//! | `coordinator::api` | REST | `model rest ops seal` |
//! | `coordinator::seal` | backups sealed for a recovery key | nothing |
//! | `coordinator::restore` | a sealed backup in the place of a store | `model tls seal store` |
//! | `coordinator::console` | pages | `model ops` |
//! | `cli` | process 3, people's command line | `model rest tls clock` |
//! | `clock` `tls` `telemetry` `failpoint` | leaves, one job each | `model` |
//!
//! Agent and coordinator never import each other. The mains in `bin` join the rooms.

#[cfg(feature = "agent")]
pub mod agent;
#[cfg(feature = "cli")]
pub mod cli;
pub mod clock;
#[cfg(feature = "coordinator")]
pub mod coordinator;
pub mod decide;
pub mod failpoint;
#[cfg(feature = "agent")]
pub mod keystore;
pub mod model;
#[cfg(any(feature = "coordinator", feature = "cli"))]
pub mod rest;
pub mod telemetry;
pub mod tls;
pub mod wire;
