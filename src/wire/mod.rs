//! The generated gRPC code and the conversions between it and `model`.
//!
//! Owns: every `From`/`TryFrom` between protobuf and our own types, and the limits on what is read. Never: decides, calls,
//! keeps state. Imports `model` only.
//!
//! Writing is `v1::X::from(x)`, reading is `X::try_from(message)`; what cannot be read is an
//! [`invalid::InvalidMessage`] that names the field.
//!
//! | file | nouns |
//! |---|---|
//! | `key` | `KeySpec`, usage bits, and the plain words (enums) |
//! | `desired` | `Intent` (digest recomputed and compared), `Applied`, `ObjectPlan` |
//! | `material` | signed birth records, endorsements, envelopes |
//! | `keystore` | `Health`, `Capabilities`, `TokenInfo`, `Marker`, `Description` |
//! | `observed` | `Observation`, `Found`, `ObjectFacts`, `Fingerprint`, `Proof` |
//! | `report` | `Report`, `Progress`, `TokenFailure` |
//! | `down`, `up` | the frames of the session |
//! | `adoption` | `Examine`, signed adoption records |
//! | `codec` | bytes to and from generated messages; refuses bytes that would take more memory than any real message |
//! | `calls` | requests and answers of `Generate`, `Rewrap`, `TransportKey`, `Prove` |

pub mod adoption;
pub mod calls;
mod capabilities;
pub mod codec;
pub mod desired;
pub mod down;
pub mod invalid;
pub mod kek;
pub mod key;
pub mod keystore;
pub mod limits;
pub mod material;
pub mod observed;
pub mod report;
#[cfg(test)]
mod tests;
pub mod up;

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
