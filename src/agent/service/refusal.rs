//! Status codes by who must act, and the words that programs match on.

use tonic::Status;

use crate::agent::messages::CallFailure;
use crate::agent::peers::Distrust;
use crate::model::job::FailureKind;

/// A refusal that stays until somebody changes something.
#[must_use]
pub fn refused(word: &str, why: &str) -> Status {
    Status::failed_precondition(format!("{word}: {why}"))
}

/// A refusal that passes by itself.
#[must_use]
pub fn later(word: &str, why: &str) -> Status {
    Status::unavailable(format!("{word}: {why}"))
}

impl From<CallFailure> for Status {
    fn from(failure: CallFailure) -> Self {
        let why = failure.to_string();
        match failure {
            CallFailure::StaleSession { .. } => refused("stale_session", &why),
            CallFailure::Unhealthy(_) => later("unhealthy", &why),
            CallFailure::TooMany => Self::resource_exhausted(format!("busy: {why}")),
            CallFailure::Token(failure) => match failure.kind {
                FailureKind::Retry | FailureKind::Restart => later("token_failed", &why),
                FailureKind::Refused
                | FailureKind::NeedsMaterial
                | FailureKind::WrongKey
                | FailureKind::LabelTaken
                | FailureKind::WrongPin
                | FailureKind::PinLocked
                | FailureKind::NoToken => refused("token_failed", &why),
            },
            CallFailure::Prove(_) => refused("not_proved", &why),
            CallFailure::Unknown { .. } => later("unknown_outcome", &why),
        }
    }
}

impl From<Distrust> for Status {
    /// The text of a distrust begins with its word.
    fn from(distrust: Distrust) -> Self {
        Self::failed_precondition(distrust.to_string())
    }
}
