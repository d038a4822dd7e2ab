//! Rotation of the wrapping key of an internal keystore.

use serde::{Deserialize, Serialize};

use crate::rest::status::KeystoreRef;

/// GET and POST …/keystores/{id}/kek_rotation: how far the last one is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KekRotation {
    /// The keystore.
    pub keystore: KeystoreRef,
    /// How far.
    pub state: KekRotationState,
    /// Number of the new wrapping key, once it is made.
    pub kek: Option<u32>,
    /// Copies that are wrapped under it.
    pub rewrapped: u64,
    /// Copies there were to wrap.
    pub total: u64,
    /// When it was asked for; empty: never.
    pub asked_at: String,
    /// When it came to its end; empty: not yet.
    pub done_at: String,
    /// What it waits for, for people; empty: nothing. It goes on by itself.
    pub waiting_for: String,
}

/// How far a rotation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KekRotationState {
    /// None was ever asked for.
    None,
    /// Asked for; the new key is not made yet.
    Asked,
    /// Copies are being wrapped under the new key.
    Rewrapping,
    /// All copies are under the new key; no other is on the token.
    Done,
}
