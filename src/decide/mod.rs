//! PURE VERBS, sans-IO: what follows from what is wanted and what is known.
//!
//! Owns: `check` (the promises as code), `effects` (steps), `status`, `difference`, `found` and `adoption` (keys that others made),
//! `recovery` (a store restored from a backup), `schedule` (what dates demand, and whether the clock may be believed), `bulk` (waves),
//! the agent's and the coordinator's session state machines.
//! Never: awaits, reads a clock, draws a random number, uses a hash map, panics on input. Imports `model` only, so that the
//! simulation runs the very code that runs in production.

pub mod adoption;
pub mod agent;
pub mod bulk;
pub mod check;
pub mod coordinator;
pub mod difference;
pub mod drift;
pub mod effects;
pub mod found;
pub mod recovery;
pub mod schedule;
pub mod status;
mod terms;
