//! What every handler gets of a request, read in one place and in one order.

use std::time::Duration;

use axum::body::{Bytes, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;

use crate::coordinator::api::body::{self, BODY_BYTES_MAX};
use crate::coordinator::api::frame::Trace;
use crate::coordinator::api::query::Parameters;
use crate::coordinator::api::refusal::Refusal;
use crate::coordinator::api::{Api, etag};
use crate::coordinator::ops::access::{Call, Idempotency, Principal};
use crate::model::canonical::Canonical;
use crate::model::ids::VaultId;
use crate::rest::error::TargetKind;

/// Longest time for a body to come.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Longest wait for convergence, seconds.
const WAIT_S_MAX: u64 = 60;

/// Wait for convergence where nobody said, seconds.
const WAIT_S_DEFAULT: u64 = 5;

/// A request that a known principal sent.
#[derive(Debug)]
pub(crate) struct Incoming {
    /// For `ops`.
    pub(crate) call: Call,
    /// Its correlation id.
    pub(crate) trace: String,
    /// The query.
    pub(crate) parameters: Parameters,
    uko_vault: Option<VaultId>,
    respond_async: bool,
    headers: HeaderMap,
    bytes: Bytes,
}

impl Incoming {
    /// The body.
    ///
    /// # Errors
    /// 400 that names the field, 415.
    pub(crate) fn body<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        body::parse(&self.headers, &self.bytes)
    }

    /// Refuses a body that holds anything.
    ///
    /// # Errors
    /// 400 that names the field.
    pub(crate) fn no_body(&self) -> Result<(), Refusal> {
        body::none(&self.bytes)
    }

    /// Whether there is any body.
    pub(crate) fn has_body(&self) -> bool {
        !self.bytes.iter().all(u8::is_ascii_whitespace)
    }

    /// Takes `wait`: how long to wait for convergence before the answer.
    ///
    /// # Errors
    /// 400 that names the parameter.
    pub(crate) fn take_wait(&mut self) -> Result<Duration, Refusal> {
        let must = format!("whole seconds, 0 to {WAIT_S_MAX}");
        let asked = self.parameters.take_as("wait", &must, |text| {
            text.parse::<u64>().ok().filter(|s| *s <= WAIT_S_MAX)
        })?;
        if self.respond_async {
            return Ok(Duration::ZERO);
        }
        Ok(Duration::from_secs(asked.unwrap_or(WAIT_S_DEFAULT)))
    }

    /// Ends the reading of the query.
    ///
    /// # Errors
    /// 400 or 501 for a parameter that nobody took.
    pub(crate) fn done(&mut self, later: &[&str]) -> Result<(), Refusal> {
        std::mem::take(&mut self.parameters).done(later)
    }

    /// Checks the vault in the header, if one was sent.
    ///
    /// # Errors
    /// 400 where the object belongs to another one.
    pub(crate) fn check_vault(&self, actual: VaultId) -> Result<(), Refusal> {
        match self.uko_vault {
            Some(sent) if sent != actual => Err(Refusal::header(
                "UKO-Vault",
                "vault_mismatch",
                "the object does not belong to the vault that UKO-Vault names",
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether [`Incoming::check_vault`] would have anything to check.
    pub(crate) const fn names_vault(&self) -> bool {
        self.uko_vault.is_some()
    }
}

impl FromRequest<Api> for Incoming {
    type Rejection = Refusal;

    async fn from_request(request: Request, _api: &Api) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        let Some(principal) = parts.extensions.get::<Principal>().cloned() else {
            return Err(unauthenticated());
        };
        let trace = parts.extensions.get::<Trace>().map(|t| t.0.clone());
        check_accept(&parts.headers)?;
        let parameters = Parameters::read(&parts.uri)?;
        let if_match = etag::if_match(&parts.headers)?;
        let uko_vault = uko_vault(&parts.headers)?;
        let bytes = read_body(body).await?;
        let idempotency = match text(&parts.headers, "idempotency-key")? {
            None => None,
            Some(key) => Some(Idempotency {
                key: key.to_owned(),
                request: Canonical::new("lockstep/request/1")
                    .text(&principal.name)
                    .text(parts.method.as_str())
                    .text(parts.uri.path())
                    .text(parts.uri.query().unwrap_or(""))
                    .bytes(&bytes)
                    .digest(),
            }),
        };
        Ok(Self {
            call: Call {
                principal,
                if_match,
                idempotency,
            },
            trace: trace.unwrap_or_default(),
            parameters,
            uko_vault,
            respond_async: prefers_async(&parts.headers),
            headers: parts.headers,
            bytes,
        })
    }
}

/// 401.
pub(crate) fn unauthenticated() -> Refusal {
    Refusal::new(
        StatusCode::UNAUTHORIZED,
        "unauthenticated",
        "send an API token: Authorization: Bearer <token>",
    )
}

async fn read_body(body: axum::body::Body) -> Result<Bytes, Refusal> {
    let read = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, BODY_BYTES_MAX)).await;
    match read {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_too_long_or_broken)) => Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body_too_large",
            format!("a body has at most {BODY_BYTES_MAX} bytes"),
        )),
        Err(_elapsed) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_late",
            "the body did not come in time",
        )),
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Refusal> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(text) => Ok(Some(text)),
        Err(_not_ascii) => Err(Refusal::header(
            name,
            "invalid_header",
            format!("{name} must be printable ASCII"),
        )),
    }
}

fn uko_vault(headers: &HeaderMap) -> Result<Option<VaultId>, Refusal> {
    let Some(text) = text(headers, "uko-vault")? else {
        return Ok(None);
    };
    match text.trim().parse() {
        Ok(id) => Ok(Some(id)),
        Err(_not_a_uuid) => Err(Refusal::header(
            "UKO-Vault",
            "invalid_header",
            "UKO-Vault must be a vault's UUID",
        )),
    }
}

/// API v4 gives lists as zipped JSON or CSV too.
fn check_accept(headers: &HeaderMap) -> Result<(), Refusal> {
    match text(headers, "accept")? {
        Some(accepted) if accepted.trim_end().ends_with("+zip") => {
            let refusal = Refusal::not_built_yet("exporting a list as a zip file");
            Err(refusal.about(TargetKind::Header, "Accept"))
        }
        Some(_) | None => Ok(()),
    }
}

/// RFC 7240.
fn prefers_async(headers: &HeaderMap) -> bool {
    headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|preference| preference.trim().eq_ignore_ascii_case("respond-async"))
}
