//! Sessions with agents and passes over keystores; implements the port [`crate::coordinator::ops::fleet::Fleet`].
//!
//! Owns: one keeper task per keystore (connect, open, carry frames, wake on hints and timers), the way of material
//! from an internal keystore to a target, the calls outside the session, and, where several coordinators
//! share the store, which of them keeps what. Never: decides what is due
//! (`decide::coordinator` does), changes what is wanted, lets one keystore wait for another.

pub mod calls;
mod contest;
pub mod errands;
pub mod fleet;
mod guard;
mod inbox;
pub mod keeper;
pub mod lease;
pub mod material;
pub mod mirror;
pub mod repository;
pub mod reread;
pub mod rotation;
pub mod sharing;
pub mod told;
mod turns;
