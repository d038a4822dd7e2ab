//! The generated gRPC code and the conversions between it and `model`.
//!
//! Owns: every `From`/`TryFrom` between protobuf and our own types. Never: decides, calls, keeps state. Imports `model` only.

/// What protox and tonic generate from `proto/lockstep/agent/v1`.
#[allow(
    clippy::all,
    clippy::restriction,
    clippy::pedantic,
    unreachable_pub,
    missing_debug_implementations,
    unused_qualifications,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("lockstep.agent.v1");
    /// The compiled descriptors, for server reflection.
    pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agent.bin"));
}
