//! Sessions with agents and passes over keystores; implements the port [`crate::coordinator::ops::fleet::Fleet`].
//!
//! Owns: one keeper task per keystore (connect, open, carry frames, wake on hints and timers), the way of material
//! from an internal keystore to a target, and the calls outside the session. Never: decides what is due
//! (`decide::coordinator` does), changes what is wanted, lets one keystore wait for another.

pub mod calls;
pub mod fleet;
mod guard;
pub mod keeper;
pub mod material;
pub mod repository;
pub mod rotation;
mod seen;
