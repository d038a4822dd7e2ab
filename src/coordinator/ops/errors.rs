//! Why a request was not carried out, typed by who must act.

use crate::coordinator::ops::fleet::FleetError;
use crate::coordinator::store::StoreError;
use crate::model::ids::Revision;
use crate::model::lifecycle::{Action, Forbidden, ManagedState};

/// Why nothing was done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpsError {
    /// A field of the request is not as it must be (400).
    #[error("{field}: {message}")]
    Invalid {
        /// The field as the API names it, such as `keystores[].group`.
        field: String,
        /// A short code such as `invalid_label`.
        code: String,
        /// For people.
        message: String,
    },
    /// There is no such record (404).
    #[error("no such {what}")]
    NotFound {
        /// Such as `key/<id>`.
        what: String,
    },
    /// The caller may not (403). Does not tell whether the object exists.
    #[error("not allowed: needs {permission}")]
    Forbidden {
        /// The permission, such as `lockstep.managed-keys.write`.
        permission: String,
    },
    /// If-Match is missing (428).
    #[error("this request needs If-Match with the object's ETag")]
    PreconditionRequired {
        /// The object's ETag now.
        current: Revision,
    },
    /// If-Match names an older state (412).
    #[error("the object was changed meanwhile; its ETag is now {current}")]
    EtagMismatch {
        /// The object's ETag now.
        current: Revision,
    },
    /// The state does not allow it (409).
    #[error("{message}")]
    StateConflict {
        /// The state it is in.
        state: ManagedState,
        /// What would be allowed.
        allowed: Vec<Action>,
        /// For people.
        message: String,
        /// The object's ETag.
        current: Option<Revision>,
    },
    /// A name or label is taken (409).
    #[error("{field} {value:?} is taken")]
    Taken {
        /// Which field.
        field: String,
        /// Which value.
        value: String,
    },
    /// Something depends on it (409).
    #[error("in use by {count} others, such as {}", blockers.join(", "))]
    InUse {
        /// At most 20 of them, as `kind/<id> name`.
        blockers: Vec<String>,
        /// How many there are.
        count: u64,
    },
    /// The vault has no internal keystore (409).
    #[error(
        "the vault has no internal keystore, so nothing can make a key: add one with pkcs11_variant internal"
    )]
    NoInternalKeystore,
    /// An agent that is needed now cannot be reached (502 or 504).
    #[error("keystore {keystore}: {why}")]
    AgentUnreachable {
        /// Which keystore or endpoint.
        keystore: String,
        /// For people.
        why: String,
        /// Whether the time ran out, so that the outcome is not known.
        late: bool,
    },
    /// A rule or an agent said no (409).
    #[error("{reason}")]
    Refused {
        /// A short code such as `no_common_wrapping`, `not_supported_yet`.
        code: String,
        /// For people.
        reason: String,
    },
    /// The Idempotency-Key was used for another request (409).
    #[error("the Idempotency-Key was used for another request")]
    IdempotencyReused,
    /// Somebody else was faster, and asking again may do (409). Where If-Match was given it is told as `EtagMismatch`.
    #[error("{what} was changed meanwhile: read it again")]
    Conflict {
        /// What, such as `key/<id>`.
        what: String,
    },
    /// The disk is full: nothing was written (507).
    #[error("the store's disk is full: nothing was written")]
    Full,
    /// The store failed, or somebody was always faster (503): try again.
    #[error("try again: {detail}")]
    Unavailable {
        /// For people.
        detail: String,
    },
}

impl OpsError {
    /// A short code: that of the refusal where it has one.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Invalid { code, .. } | Self::Refused { code, .. } => code,
            Self::NotFound { .. } => "not_found",
            Self::Forbidden { .. } => "forbidden",
            Self::PreconditionRequired { .. } => "precondition_required",
            Self::EtagMismatch { .. } => "etag_mismatch",
            Self::StateConflict { .. } => "state_conflict",
            Self::Taken { .. } => "name_taken",
            Self::InUse { .. } => "in_use",
            Self::NoInternalKeystore => "no_internal_keystore",
            Self::AgentUnreachable { late: true, .. } => "agent_late",
            Self::AgentUnreachable { .. } => "agent_unreachable",
            Self::IdempotencyReused => "idempotency_key_reused",
            Self::Conflict { .. } => "changed_meanwhile",
            Self::Full => "store_full",
            Self::Unavailable { .. } => "try_again",
        }
    }

    pub(crate) fn invalid(field: &str, code: &str, message: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.to_owned(),
            code: code.to_owned(),
            message: message.into(),
        }
    }

    pub(crate) fn not_found(kind: &str, id: impl std::fmt::Display) -> Self {
        Self::NotFound {
            what: format!("{kind}/{id}"),
        }
    }

    pub(crate) fn refused(code: &str, reason: impl Into<String>) -> Self {
        Self::Refused {
            code: code.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn transition(forbidden: &Forbidden, current: Revision) -> Self {
        Self::StateConflict {
            state: forbidden.state,
            allowed: forbidden.allowed.clone(),
            message: forbidden.to_string(),
            current: Some(current),
        }
    }

    pub(crate) fn fleet(keystore: &str, error: FleetError) -> Self {
        match error {
            FleetError::Unreachable { why } => Self::AgentUnreachable {
                keystore: keystore.to_owned(),
                why,
                late: false,
            },
            FleetError::Late => Self::AgentUnreachable {
                keystore: keystore.to_owned(),
                why: error.to_string(),
                late: true,
            },
            FleetError::Identity { why } => Self::refused("agent_identity", why),
            FleetError::Refused { code, reason } => Self::Refused { code, reason },
        }
    }
}

impl From<StoreError> for OpsError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict { what } => Self::Conflict { what },
            StoreError::NotFound { what } => Self::NotFound { what },
            StoreError::Taken { field, value } => Self::Taken { field, value },
            StoreError::InUse { blockers, count } => Self::InUse { blockers, count },
            StoreError::OperationReused => Self::IdempotencyReused,
            StoreError::Full => Self::Full,
            StoreError::Unavailable { detail } => Self::Unavailable { detail },
        }
    }
}
