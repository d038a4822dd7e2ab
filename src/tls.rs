//! Mutual TLS 1.3 between coordinator and agents; names are checked, not only chains. HTTPS for people.
//!
//! Owns: rustls configurations, the names of peers, the accepting and the dialling side.
//! Never: knows what is said over a connection; has a way to turn a check off.
//!
//! Every machine's certificate carries exactly one URI name, `spiffe://lockstep/<role>/<name>` ([`name::PeerName`]), and is
//! signed by the fleet's CA. An agent serves coordinators only ([`config::server_config`]); a coordinator speaks to the
//! one agent it means ([`connect::connect`]). aws-lc-rs is the one provider, with hybrid post-quantum key exchange.

pub mod config;
pub mod connect;
pub mod error;
pub mod name;
pub mod serve;
pub mod verify;
