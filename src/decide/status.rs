//! Status of an instance and of a key: computed, never stored (promises R10).

use crate::model::ids::KeystoreId;

/// API v4's `status` of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UkoStatus {
    /// There and usable.
    Active,
    /// There and not usable.
    NotActive,
    /// Not there.
    NotPresent,
    /// Another key is there.
    WrongKey,
    /// Not known.
    Unknown,
    /// Something failed.
    Error,
}

impl UkoStatus {
    /// The name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::NotActive => "not_active",
            Self::NotPresent => "not_present",
            Self::WrongKey => "wrong_key",
            Self::Unknown => "unknown",
            Self::Error => "error",
        }
    }
}

/// API v4's `keystore_sync_flag`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncFlag {
    /// As wanted.
    Ok,
    /// Not as wanted.
    OutOfSync,
    /// It cannot be told.
    Error,
}

impl SyncFlag {
    /// The name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::OutOfSync => "out_of_sync",
            Self::Error => "error",
        }
    }
}

/// API v4's `keystore_sync_flag_detail`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncDetail {
    /// Active, and active there.
    ActiveIsActive,
    /// Active, and not active there.
    ActiveIsNotActive,
    /// The keystore cannot be asked.
    ConnectionError,
    /// Deactivated, and not active there.
    DeactivatedIsDeactivated,
    /// Deactivated, and active there.
    DeactivatedIsNotDeactivated,
    /// Destroyed, and not there.
    DestroyedIsNotPresent,
    /// Destroyed, and there.
    DestroyedIsPresent,
    /// Pre-active, and not there.
    PreActiveIsNotPresent,
    /// Pre-active, and there.
    PreActiveIsPresent,
    /// No longer a target.
    Removed,
    /// No longer a target, and active there.
    RemovedContainsActive,
    /// Not known.
    Unknown,
}

impl SyncDetail {
    /// The name in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ActiveIsActive => "active_key_is_active_in_keystore",
            Self::ActiveIsNotActive => "active_key_is_not_active_in_keystore",
            Self::ConnectionError => "connection_error",
            Self::DeactivatedIsDeactivated => "deactivated_key_is_deactivated_in_keystore",
            Self::DeactivatedIsNotDeactivated => "deactivated_key_is_not_deactivated_in_keystore",
            Self::DestroyedIsNotPresent => "destroyed_key_is_not_present_in_keystore",
            Self::DestroyedIsPresent => "destroyed_key_is_present_in_keystore",
            Self::PreActiveIsNotPresent => "pre_active_key_is_not_present_in_keystore",
            Self::PreActiveIsPresent => "pre_active_key_is_present_in_keystore",
            Self::Removed => "target_keystore_removed_by_user",
            Self::RemovedContainsActive => "target_keystore_removed_by_user_contains_an_active_key",
            Self::Unknown => "unknown",
        }
    }
}

/// Whether a key is, on all its keystores, what it should be (promises 1.3): the worst of them counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPhase {
    /// In one word.
    pub phase: Phase,
    /// How many keystores have confirmed.
    pub confirmed: usize,
    /// Of how many.
    pub total: usize,
    /// Those that have not.
    pub unconfirmed: Vec<KeystoreId>,
}

/// A key's phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// All keystores have confirmed.
    InStep,
    /// A change is on its way, and nothing is known to be wrong.
    Changing,
    /// At least one keystore is not as it should be.
    OutOfStep,
    /// At least one keystore is not known, and nothing is known to be wrong.
    Unknown,
}

impl Phase {
    /// The name in API, CLI and pages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InStep => "in_step",
            Self::Changing => "changing",
            Self::OutOfStep => "out_of_step",
            Self::Unknown => "unknown",
        }
    }
}
