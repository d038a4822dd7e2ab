//! What is around every request: its trace, its time limit, the token, the headers and the error body of the answer.

use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument as _;
use uuid::Uuid;

use crate::coordinator::api::Api;
use crate::coordinator::api::incoming::unauthenticated;
use crate::coordinator::api::refusal::Refusal;

/// Longest time for an answer: longer than the longest wait for convergence.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(90);

/// The header that ties a request to our log.
const CORRELATION_ID: HeaderName = HeaderName::from_static("correlation-id");

/// A request's correlation id.
#[derive(Debug, Clone)]
pub(crate) struct Trace(pub(crate) String);

/// Outermost: gives the request its trace and time, and the answer its headers and, if it is a refusal, its body.
pub(crate) async fn around(mut request: Request, next: Next) -> Response {
    let trace = correlation_id(request.headers());
    let span = tracing::info_span!(
        "request",
        trace,
        method = %request.method(),
        path = request.uri().path()
    );
    request.extensions_mut().insert(Trace(trace.clone()));
    async move {
        let answered = tokio::time::timeout(REQUEST_TIMEOUT, next.run(request)).await;
        let mut response = answered.unwrap_or_else(|_elapsed| late().into_response());
        let refusal = response.extensions_mut().remove::<Refusal>();
        if let Some(refusal) = refusal.or_else(|| unnamed(response.status())) {
            response = with_body(response, &refusal, &trace);
        }
        dress(response.headers_mut(), &trace);
        tracing::info!(status = response.status().as_u16(), "request answered");
        response
    }
    .instrument(span)
    .await
}

/// Lets through who shows a known token, and tells the handler who it is.
pub(crate) async fn authenticate(
    State(api): State<Api>,
    mut request: Request,
    next: Next,
) -> Response {
    let principal = bearer(request.headers()).and_then(|token| api.auth.principal(token));
    let Some(principal) = principal else {
        return unauthenticated().into_response();
    };
    request.extensions_mut().insert(principal);
    next.run(request).await
}

/// The one token of the one Authorization header (RFC 6750, 2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_matches(' '))
}

/// The caller's id where it is harmless in a log, else a new one.
fn correlation_id(headers: &HeaderMap) -> String {
    headers
        .get(CORRELATION_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|text| (8..=64).contains(&text.len()))
        .filter(|text| text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'))
        .map_or_else(|| Uuid::new_v4().to_string(), str::to_owned)
}

fn with_body(response: Response, refusal: &Refusal, trace: &str) -> Response {
    tracing::info!(
        code = refusal.code(),
        message = refusal.message(),
        "request refused"
    );
    let (mut parts, _other) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::CONTENT_TYPE);
    (parts, Json(refusal.body(trace))).into_response()
}

/// A refusal of the framework's own, such as for a path that is no UTF-8: it comes without a code of ours.
fn unnamed(status: StatusCode) -> Option<Refusal> {
    let is_refusal = status.is_client_error() || status.is_server_error();
    let why = status.canonical_reason().unwrap_or("refused");
    is_refusal.then(|| Refusal::new(status, "invalid_request", why.to_lowercase()))
}

fn dress(headers: &mut HeaderMap, trace: &str) {
    if let Ok(value) = HeaderValue::from_str(trace) {
        headers.insert(CORRELATION_ID, value);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
}

fn late() -> Refusal {
    Refusal::new(
        StatusCode::GATEWAY_TIMEOUT,
        "late",
        "no answer in time: the outcome is not known; repeat with the same Idempotency-Key",
    )
}
