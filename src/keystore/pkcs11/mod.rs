//! Real tokens, through a vendor's PKCS#11 module.
//!
//! Owns: every C_ call. `raw` is the only unsafe code; each job has a file of its own and opens a session of its own,
//! which is closed on any error. What tokens really do is why things are as they are: every usage attribute is always
//! said, finds ask for token objects, dates are never touched, a handle may hint and never act.
//! Never: logs out, tries a PIN twice, keeps a handle that it does not check before use, retries inside.

pub(crate) mod envelope;
pub(crate) mod failure;
pub(crate) mod fingerprint;
pub(crate) mod generate;
pub(crate) mod identify;
pub(crate) mod inspect;
pub(crate) mod install;
pub(crate) mod kek;
pub(crate) mod known;
pub(crate) mod mechanism;
pub(crate) mod names;
pub(crate) mod object;
pub(crate) mod prepare;
pub(crate) mod probe;
pub(crate) mod prove;
pub(crate) mod raw;
pub(crate) mod replace;
mod rewrap;
#[cfg(test)]
mod roles;
pub(crate) mod run;
pub(crate) mod scan;
mod slice;
pub(crate) mod spki;
pub(crate) mod staged;
mod survey;
pub(crate) mod take_over;
mod template;
pub mod token;
pub(crate) mod trial;
