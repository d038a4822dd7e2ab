//! The gRPC service: thin. It reads a request into our own types, checks who signed what, and asks the driver.
//!
//! Owns: the calls, their status codes and stable words, the checks of signatures against `peers.toml`.
//! Never: decides about an intent, touches the token, keeps state of its own.
//!
//! A status message begins with a stable word and a colon: `stale_session`, `unhealthy`, `busy`, `not_internal`, `not_bound`,
//! `not_ready`, `peer_not_listed`, `bad_signature`, `weak_transport_key`, `blob_mismatch`, `no_common_wrapping`,
//! `token_failed`, `unknown_outcome`, `not_proved`.

pub mod endpoint;
pub mod examine;
pub mod kek;
pub mod material;
pub mod refusal;
pub mod server;
pub mod session;
pub mod trust;
