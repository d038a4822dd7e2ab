//! Why a request was not carried out, as HTTP says it. The body is made last, by `frame`, which knows the trace.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::coordinator::api::etag;
use crate::coordinator::ops::errors::OpsError;
use crate::model::ids::Revision;
use crate::model::lifecycle::{Action, ManagedState};
use crate::rest::error::{ApiError, ErrorItem, ErrorTarget, TargetKind};

/// A refusal on its way out.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    status: StatusCode,
    item: Box<ErrorItem>,
    etag: Option<Revision>,
}

impl Refusal {
    /// A refusal with a code for programs and a message for people.
    pub(crate) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            item: Box::new(ErrorItem {
                code: code.to_owned(),
                message: message.into(),
                more_info: None,
                message_params: Vec::new(),
                target: None,
            }),
            etag: None,
        }
    }

    /// 400 about a field of the body.
    pub(crate) fn field(name: &str, code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message).about(TargetKind::Field, name)
    }

    /// 400 about a parameter.
    pub(crate) fn parameter(name: &str, code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message).about(TargetKind::Parameter, name)
    }

    /// 400 about a header.
    pub(crate) fn header(name: &str, code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message).about(TargetKind::Header, name)
    }

    /// 404 for an id that no record can have or has.
    pub(crate) fn not_found(kind: &str, id: &str) -> Self {
        let id: String = id.chars().take(64).collect();
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            format!("there is no {kind} {id:?}"),
        )
    }

    /// 501: part of the API, and not there yet.
    pub(crate) fn not_built_yet(what: &str) -> Self {
        Self::new(
            StatusCode::NOT_IMPLEMENTED,
            "not_built_yet",
            format!("{what} is part of this API and not built yet: nothing was done"),
        )
    }

    /// Says what of the request was meant.
    pub(crate) fn about(mut self, kind: TargetKind, name: &str) -> Self {
        self.item.target = Some(ErrorTarget {
            kind,
            name: name.to_owned(),
        });
        self
    }

    /// Parts of the message for programs.
    pub(crate) fn params(mut self, params: Vec<String>) -> Self {
        self.item.message_params = params;
        self
    }

    /// The object's ETag as it is now.
    pub(crate) fn with_etag(mut self, revision: Option<Revision>) -> Self {
        self.etag = self.etag.or(revision);
        self
    }

    /// Whether the caller may learn the object's ETag and does not know it yet.
    pub(crate) fn lacks_etag(&self) -> bool {
        let hidden = [
            StatusCode::UNAUTHORIZED,
            StatusCode::FORBIDDEN,
            StatusCode::NOT_FOUND,
        ];
        self.etag.is_none() && !hidden.contains(&self.status)
    }

    /// For logs.
    pub(crate) fn code(&self) -> &str {
        &self.item.code
    }

    /// For logs.
    pub(crate) fn message(&self) -> &str {
        &self.item.message
    }

    /// The body.
    pub(crate) fn body(&self, trace: &str) -> ApiError {
        ApiError {
            status_code: self.status.as_u16(),
            trace: trace.to_owned(),
            errors: vec![*self.item.clone()],
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        let headers = response.headers_mut();
        if let Some(revision) = self.etag {
            headers.insert(header::ETAG, etag::render(revision));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer realm=\"lockstep\"");
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<OpsError> for Refusal {
    fn from(error: OpsError) -> Self {
        let message = error.to_string();
        match error {
            OpsError::Invalid {
                field,
                code,
                message,
            } if field == "Idempotency-Key" => Self::header(&field, &code, message),
            OpsError::Invalid {
                field,
                code,
                message,
            } => Self::field(&field, &code, message),
            OpsError::NotFound { .. } => Self::new(StatusCode::NOT_FOUND, "not_found", message),
            OpsError::Forbidden { .. } => Self::new(StatusCode::FORBIDDEN, "forbidden", message),
            OpsError::PreconditionRequired { current } => Self::new(
                StatusCode::PRECONDITION_REQUIRED,
                "precondition_required",
                message,
            )
            .about(TargetKind::Header, "If-Match")
            .with_etag(Some(current)),
            OpsError::EtagMismatch { current } => {
                Self::new(StatusCode::PRECONDITION_FAILED, "etag_mismatch", message)
                    .about(TargetKind::Header, "If-Match")
                    .with_etag(Some(current))
            }
            OpsError::StateConflict {
                state,
                allowed,
                message,
                current,
            } => state_conflict(state, &allowed, message).with_etag(current),
            OpsError::Taken { field, .. } => {
                conflict("name_taken", message).about(TargetKind::Field, &field)
            }
            OpsError::InUse { blockers, .. } => conflict("in_use", message).params(blockers),
            OpsError::NoInternalKeystore => conflict("no_internal_keystore", message),
            OpsError::AgentUnreachable { keystore, late, .. } => {
                unreachable_agent(late, message).params(vec![keystore])
            }
            OpsError::Refused { code, .. } => conflict(&code, message),
            OpsError::IdempotencyReused => conflict("idempotency_key_reused", message)
                .about(TargetKind::Header, "Idempotency-Key"),
            OpsError::Conflict { .. } => conflict("changed_meanwhile", message),
            OpsError::Full => Self::new(StatusCode::INSUFFICIENT_STORAGE, "store_full", message),
            OpsError::Unavailable { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "try_again", message)
            }
        }
    }
}

fn conflict(code: &str, message: String) -> Refusal {
    Refusal::new(StatusCode::CONFLICT, code, message)
}

/// The first parameter is the state, the others are the actions allowed now.
fn state_conflict(state: ManagedState, allowed: &[Action], message: String) -> Refusal {
    let mut params = vec![state.name().to_owned()];
    params.extend(allowed.iter().map(|action| action.name().to_owned()));
    conflict("state_conflict", message).params(params)
}

fn unreachable_agent(late: bool, message: String) -> Refusal {
    if late {
        Refusal::new(StatusCode::GATEWAY_TIMEOUT, "agent_late", message)
    } else {
        Refusal::new(StatusCode::BAD_GATEWAY, "agent_unreachable", message)
    }
}
