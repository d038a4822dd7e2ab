//! PURE NOUNS: what Lockstep talks about, as types that can only hold what is allowed.
//!
//! Owns: ids, vaults, templates, keystores, managed keys and their lifecycle, what is wanted (intents),
//! what was seen (observations), jobs and steps on a token, material in transit, keys that others made, bulk changes,
//! audit entries.
//! Never: reads a clock, draws a random number, awaits, knows SQL, protobuf, PKCS#11 calls or HTTP.
//! Imports nothing from the other rooms.

pub mod adoption;
pub mod audit;
pub mod bounded;
pub mod bulk;
pub mod canonical;
pub mod capabilities;
pub mod desired;
pub mod difference;
pub mod finding;
pub mod ids;
pub mod job;
pub mod kek;
pub mod key;
pub mod keystore;
pub mod lifecycle;
pub mod live;
pub mod material;
pub mod observed;
pub mod protocol;
pub mod recovery;
pub mod regression;
pub mod step;
pub mod template;
pub mod text;
pub mod vault;
pub mod version;
