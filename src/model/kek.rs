//! The wrapping keys (KEKs) of internal keystores: their numbers, the jobs about them, and how far a rotation is.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::ids::{KeystoreId, Revision};
use crate::model::key::KeySpec;
use crate::model::observed::Fingerprint;
use crate::model::vault::UnixMs;

/// Number of a wrapping key on its token, from 1. A rotation makes the next one; numbers are never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KekNumber(u32);

impl KekNumber {
    /// The one that a keystore begins with; what says no number is under it.
    pub const FIRST: Self = Self(1);

    /// A number as it is written; 0 stands for the first.
    #[must_use]
    pub const fn from_number(number: u32) -> Self {
        if number == 0 {
            Self::FIRST
        } else {
            Self(number)
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The next one; `None` after four thousand million.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(next) => Some(Self(next)),
            None => None,
        }
    }
}

impl Default for KekNumber {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for KekNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A job about the wrapping keys themselves. Each is answered with the numbers that are there afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KekJob {
    /// Which are there.
    Look,
    /// There shall be one of this number, which is there already or follows the highest.
    Make(KekNumber),
    /// There shall be none of this number, for which there must be a higher one.
    Destroy(KekNumber),
}

/// A key of the repository to be wrapped under the newest wrapping key of its own keystore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RewrapCopyJob {
    /// Algorithm and size.
    pub spec: KeySpec,
    /// The vault's salt.
    pub salt: Vec<u8>,
    /// What the key must be; else nothing is wrapped.
    pub fingerprint: Fingerprint,
    /// Public part of a pair.
    pub spki: Option<Vec<u8>>,
    /// The key under the wrapping key of that number.
    pub blob: Vec<u8>,
    /// Which wrapping key opens it.
    pub kek: KekNumber,
}

/// The rotation of a keystore's wrapping key, the last one that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KekRotation {
    /// The keystore.
    pub keystore: KeystoreId,
    /// +1 with each step.
    pub revision: Revision,
    /// When it was asked for.
    pub asked_at: UnixMs,
    /// How far it is.
    pub state: RotationState,
    /// What stands in its way, for people; it is tried again all the same.
    pub trouble: Option<String>,
}

/// How far a rotation is.
///
/// ```text
/// Asked ── the agent says which keys there are ──▶ Rewrapping ── nothing is under an older key, and none is there ──▶ Done
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum RotationState {
    /// Nothing was done yet.
    Asked,
    /// From here on no copy under an older key is taken into the store. The new key is made, copies are wrapped under it one
    /// by one, and the old key is destroyed when there are no more.
    Rewrapping {
        /// The new key.
        to: KekNumber,
        /// How many copies there were to wrap.
        total: u64,
    },
    /// All copies are under the new key, and no other is on the token.
    Done {
        /// The new key.
        to: KekNumber,
        /// How many copies there were to wrap.
        total: u64,
        /// When.
        at: UnixMs,
    },
}

impl KekRotation {
    /// Whether there is something left to do.
    #[must_use]
    pub const fn is_under_way(&self) -> bool {
        match self.state {
            RotationState::Asked | RotationState::Rewrapping { .. } => true,
            RotationState::Done { .. } => false,
        }
    }

    /// The wrapping key that copies must be under to be taken into the store.
    #[must_use]
    pub const fn demanded(&self) -> Option<KekNumber> {
        match self.state {
            RotationState::Asked => None,
            RotationState::Rewrapping { to, .. } | RotationState::Done { to, .. } => Some(to),
        }
    }
}
