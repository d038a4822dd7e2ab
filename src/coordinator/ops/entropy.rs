//! Where ids and salts come from: a port, so that tests can say which come next.

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use uuid::{NoContext, Timestamp, Uuid};

use crate::model::vault::UnixMs;

/// A source of ids and random bytes.
pub trait Entropy: Send + Sync + std::fmt::Debug {
    /// A random UUID (version 4): vaults, templates, keys, key versions.
    fn uuid(&self) -> Uuid;
    /// A UUID that sorts by time (version 7): operations.
    fn uuid_at(&self, at: UnixMs) -> Uuid;
    /// 32 random bytes, or nothing where the system has none to give.
    fn salt(&self) -> Option<[u8; 32]>;
}

/// The operating system's.
#[derive(Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn uuid(&self) -> Uuid {
        Uuid::new_v4()
    }

    fn uuid_at(&self, at: UnixMs) -> Uuid {
        let at_ms = u64::try_from(at.0).unwrap_or(0);
        let nanos = u32::try_from((at_ms % 1000) * 1_000_000).unwrap_or(0);
        Uuid::new_v7(Timestamp::from_unix(NoContext, at_ms / 1000, nanos))
    }

    fn salt(&self) -> Option<[u8; 32]> {
        let mut salt = [0_u8; 32];
        SystemRandom::new().fill(&mut salt).ok()?;
        Some(salt)
    }
}
