//! The HTTP client of the REST API: sends, reads answers and refusals, never decides.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::Response;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body, Error as UreqError};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::cli::exit::Exit;
use crate::cli::listing::Listing;
use crate::rest::error::ApiError;
use crate::rest::list::LIMIT_MAX;
use crate::tls::config::{certificates, provider, read_secret};
use crate::tls::error::TlsError;

/// Longest answer that is read, bytes: a page of 1,000 keys on many keystores.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Longest call: the API waits 60 s at most where it is asked to.
const CALL_TIMEOUT: Duration = Duration::from_secs(75);

/// Longest time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where Debian and its kin keep the CAs that the system trusts.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Why a call gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The coordinator said no.
    #[error("{}", sentence(.error))]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it said.
        error: Box<ApiError>,
    },
    /// Nobody answered, or not in time.
    #[error("{url} does not answer: {why}")]
    Unreachable {
        /// Who was called.
        url: String,
        /// Why, for people.
        why: String,
    },
    /// An answer that is not the API's.
    #[error("{url} gave an answer that is not the API's: {problem}")]
    Strange {
        /// Who was called.
        url: String,
        /// What is wrong.
        problem: String,
    },
    /// The command line cannot be meant so.
    #[error("{0}")]
    Usage(String),
    /// Nothing could be sent.
    #[error("{0}")]
    Setup(String),
    /// Token or CA file.
    #[error(transparent)]
    Files(#[from] TlsError),
}

/// The messages of a refusal, with the field they are about and the code for programs.
fn sentence(error: &ApiError) -> String {
    let items = error.errors.iter().map(|item| {
        let about = item.target.as_ref().map_or("", |target| &target.name);
        let message = crate::model::text::printable(&item.message);
        match about {
            "" => format!("{message} [{}]", item.code),
            about if item.message.contains(about) => format!("{message} [{}]", item.code),
            about => format!("{about}: {message} [{}]", item.code),
        }
    });
    items.collect::<Vec<_>>().join("; ")
}

impl ClientError {
    /// How a command that met it ends.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Refused { status, .. } => match status {
                408 | 429 | 502..=504 => Exit::NotYet,
                400..=499 => Exit::Refused,
                _ => Exit::Failed,
            },
            Self::Unreachable { .. } => Exit::NotYet,
            Self::Usage(_) => Exit::Usage,
            Self::Strange { .. } | Self::Setup(_) | Self::Files(_) => Exit::Failed,
        }
    }
}

/// An answer with the ETag of the object it speaks of.
#[derive(Debug, Clone)]
pub struct Answer<T> {
    /// The body.
    pub value: T,
    /// Its ETag.
    pub etag: Option<String>,
}

/// What to send besides the path.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Parameters of the query.
    pub query: Vec<(&'static str, String)>,
    /// The state that the change rests on.
    pub if_match: Option<String>,
    /// JSON.
    pub body: Option<Vec<u8>>,
    /// Whether to be answered at once, without waiting for the keystores.
    pub at_once: bool,
}

impl Change {
    /// A change with a body.
    ///
    /// # Errors
    /// [`ClientError::Setup`] if it is no JSON.
    pub fn with_body(body: &impl Serialize) -> Result<Self, ClientError> {
        let bytes = serde_json::to_vec(body)
            .map_err(|error| ClientError::Setup(format!("the request is no JSON: {error}")))?;
        Ok(Self {
            body: Some(bytes),
            ..Self::default()
        })
    }

    /// Holds only if the object is still as it was seen.
    #[must_use]
    pub fn resting_on<T>(mut self, seen: &Answer<T>) -> Self {
        self.if_match.clone_from(&seen.etag);
        self
    }

    /// With one more parameter.
    #[must_use]
    pub fn asking(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.query.push((name, value.into()));
        self
    }

    /// Answered at once, without waiting for the keystores.
    #[must_use]
    pub const fn at_once(mut self) -> Self {
        self.at_once = true;
        self
    }
}

/// How a change is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Make, or act.
    Post,
    /// Replace.
    Put,
    /// Change parts.
    Patch,
    /// Remove.
    Delete,
}

/// The coordinator's API, with the caller's token.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    url: String,
    authorization: Zeroizing<String>,
}

impl Client {
    /// A client for `url`. Plain HTTP is for this machine only: the token would travel in the clear.
    ///
    /// # Errors
    /// [`ClientError::Setup`] or [`ClientError::Files`].
    pub fn new(url: &str, token_file: &Path, ca: Option<&Path>) -> Result<Self, ClientError> {
        let url = url.trim_end_matches('/').to_owned();
        check_url(&url)?;
        let token = read_secret(token_file)?;
        let token = std::str::from_utf8(&token).unwrap_or_default().trim();
        if token.is_empty() || !token.chars().all(|c| c.is_ascii_graphic()) {
            let problem = format!("{} holds no token", token_file.display());
            return Err(ClientError::Setup(problem));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(CALL_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .user_agent(concat!("lockstep/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls(&url, ca)?)
            .build();
        Ok(Self {
            agent: config.new_agent(),
            url,
            authorization: Zeroizing::new(format!("Bearer {token}")),
        })
    }

    /// GET of one object.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn one<T: DeserializeOwned>(&self, path: &str) -> Result<Answer<T>, ClientError> {
        self.get(path, &[])
    }

    /// GET with a query.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Answer<T>, ClientError> {
        let request = self
            .agent
            .get(format!("{}{path}", self.url))
            .header("authorization", self.authorization.as_str())
            .header("accept", "application/json")
            .query_pairs(query.iter().copied());
        let (bytes, etag) = self.answered(request.call())?;
        self.read(&bytes, etag)
    }

    /// GET of a whole list, page after page.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn all<L: Listing>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Vec<L::Item>, ClientError> {
        let mut found = Vec::new();
        loop {
            let (limit, offset) = (LIMIT_MAX.to_string(), found.len().to_string());
            let mut query = query.to_vec();
            query.push(("limit", &limit));
            query.push(("offset", &offset));
            let (page, items) = self.get::<L>(path, &query)?.value.parts();
            let empty = items.is_empty();
            found.extend(items);
            if empty || page.next.is_none() {
                return Ok(found);
            }
        }
    }

    /// Sends a change and reads the object it leads to.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn change<T: DeserializeOwned>(
        &self,
        verb: Verb,
        path: &str,
        change: &Change,
    ) -> Result<Answer<T>, ClientError> {
        let (bytes, etag) = self.send(verb, path, change)?;
        self.read(&bytes, etag)
    }

    /// Sends a POST and writes its answer's body as it comes; gives its length in bytes. Never sent twice by itself.
    ///
    /// # Errors
    /// [`ClientError`]; what was written until then is to be thrown away.
    pub fn download(
        &self,
        path: &str,
        change: &Change,
        into: &mut impl Write,
    ) -> Result<u64, ClientError> {
        let key = Uuid::new_v4().to_string();
        let answer = self.send_once(Verb::Post, path, change, &key);
        match answer {
            Ok(response) if response.status().is_success() => {
                let mut body = response.into_body().into_reader();
                io::copy(&mut body, into).map_err(|error| ClientError::Unreachable {
                    url: self.url.clone(),
                    why: error.to_string(),
                })
            }
            other => Err(match self.answered(other) {
                Err(error) => error,
                Ok(_never_a_success) => ClientError::Setup("the answer has no body".to_owned()),
            }),
        }
    }

    /// Removes an object.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn remove(&self, path: &str, change: &Change) -> Result<(), ClientError> {
        self.send(Verb::Delete, path, change).map(|_nothing| ())
    }

    /// A POST carries a key of its own, so that it is sent again safely when its answer was lost.
    fn send(
        &self,
        verb: Verb,
        path: &str,
        change: &Change,
    ) -> Result<(Vec<u8>, Option<String>), ClientError> {
        let key = Uuid::new_v4().to_string();
        let first = self.send_once(verb, path, change, &key);
        match (&first, verb) {
            (Err(UreqError::Timeout(_) | UreqError::Io(_)), Verb::Post) => {
                self.answered(self.send_once(verb, path, change, &key))
            }
            _ => self.answered(first),
        }
    }

    fn send_once(
        &self,
        verb: Verb,
        path: &str,
        change: &Change,
        key: &str,
    ) -> Result<Response<Body>, UreqError> {
        let url = format!("{}{path}", self.url);
        if verb == Verb::Delete {
            let request = self.agent.delete(url);
            return self.dressed(request, change).call();
        }
        let request = match verb {
            Verb::Post => self.agent.post(url).header("idempotency-key", key),
            Verb::Put => self.agent.put(url),
            Verb::Patch | Verb::Delete => self.agent.patch(url),
        };
        let request = self.dressed(request, change);
        match &change.body {
            Some(body) => request.content_type("application/json").send(body),
            None => request.send_empty(),
        }
    }

    /// Headers and query that all changes have.
    fn dressed<B>(
        &self,
        request: ureq::RequestBuilder<B>,
        change: &Change,
    ) -> ureq::RequestBuilder<B> {
        let mut request = request
            .header("authorization", self.authorization.as_str())
            .header("accept", "application/json")
            .query_pairs(change.query.iter().map(|(name, value)| (*name, value)));
        if let Some(etag) = &change.if_match {
            request = request.header("if-match", etag);
        }
        if change.at_once {
            request = request.header("prefer", "respond-async");
        }
        request
    }

    /// The bytes and the ETag of a good answer; a refusal is an error.
    fn answered(
        &self,
        sent: Result<Response<Body>, UreqError>,
    ) -> Result<(Vec<u8>, Option<String>), ClientError> {
        let mut response = sent.map_err(|error| self.not_sent(&error))?;
        let status = response.status().as_u16();
        let etag = response
            .headers()
            .get("etag")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let bytes = response
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_vec()
            .map_err(|error| self.not_sent(&error))?;
        if (200..300).contains(&status) {
            return Ok((bytes, etag));
        }
        match serde_json::from_slice::<ApiError>(&bytes) {
            Ok(error) => Err(ClientError::Refused {
                status,
                error: Box::new(error),
            }),
            Err(_not_ours) => Err(self.strange(format!("HTTP status {status}"))),
        }
    }

    fn read<T: DeserializeOwned>(
        &self,
        bytes: &[u8],
        etag: Option<String>,
    ) -> Result<Answer<T>, ClientError> {
        serde_json::from_slice(bytes)
            .map(|value| Answer { value, etag })
            .map_err(|error| self.strange(error.to_string()))
    }

    fn strange(&self, problem: String) -> ClientError {
        ClientError::Strange {
            url: self.url.clone(),
            problem,
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "not our enum: what is not of the line is of the set-up"
    )]
    fn not_sent(&self, error: &UreqError) -> ClientError {
        let url = self.url.clone();
        let certificate = |why: &str| {
            ClientError::Setup(format!(
                "{url}: {why} (--ca names the CA to trust, --url the name to expect)"
            ))
        };
        match error {
            UreqError::Io(io) => match io.get_ref().and_then(|e| e.downcast_ref()) {
                Some(tls) => certificate(&rustls::Error::to_string(tls)),
                None => ClientError::Unreachable {
                    url,
                    why: io.to_string(),
                },
            },
            UreqError::Rustls(tls) => certificate(&tls.to_string()),
            UreqError::Timeout(_) | UreqError::ConnectionFailed | UreqError::HostNotFound => {
                ClientError::Unreachable {
                    url,
                    why: error.to_string(),
                }
            }
            other => ClientError::Setup(format!("{url}: {other}")),
        }
    }
}

fn check_url(url: &str) -> Result<(), ClientError> {
    let refused = |why: &str| Err(ClientError::Usage(format!("--url {url:?}: {why}")));
    let Ok(uri) = url.parse::<ureq::http::Uri>() else {
        return refused("not a URL");
    };
    let host = uri.host().unwrap_or_default();
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if is_loopback(host) => Ok(()),
        Some("http") => refused("plain http is for this machine only; use https"),
        _ => refused("it must begin with https:// or, on this machine, http://"),
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn tls(url: &str, ca: Option<&Path>) -> Result<TlsConfig, ClientError> {
    let builder = TlsConfig::builder().unversioned_rustls_crypto_provider(provider());
    if !url.starts_with("https://") {
        return Ok(builder.build());
    }
    let path = ca.map_or_else(|| PathBuf::from(SYSTEM_ROOTS), Path::to_owned);
    let roots: Vec<Certificate<'static>> = certificates(&path)?
        .iter()
        .map(|der| Certificate::from_der(der).to_owned())
        .collect();
    Ok(builder
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .build())
}

#[cfg(test)]
mod tests {
    use crate::cli::client::{check_url, sentence};
    use crate::rest::error::{ApiError, ErrorItem, ErrorTarget, TargetKind};

    #[test]
    fn tokens_do_not_travel_in_the_clear() {
        for good in [
            "https://lockstep.example:8420",
            "http://127.0.0.1:8420",
            "http://localhost:1",
            "http://[::1]:1",
        ] {
            assert!(check_url(good).is_ok(), "{good}");
        }
        let bad = check_url("http://lockstep.example").unwrap_err();
        assert!(bad.to_string().ends_with("use https"), "{bad}");
        assert!(check_url("lockstep.example").is_err());
        assert!(check_url("http://localhost.example").is_err());
    }

    #[test]
    fn a_refusal_is_a_sentence() {
        let item = |message: &str, target: Option<&str>| ErrorItem {
            code: "invalid_value".to_owned(),
            message: message.to_owned(),
            more_info: None,
            message_params: Vec::new(),
            target: target.map(|name| ErrorTarget {
                kind: TargetKind::Field,
                name: name.to_owned(),
            }),
        };
        let check = |items: Vec<ErrorItem>, expected: &str| {
            let error = ApiError {
                status_code: 400,
                trace: String::new(),
                errors: items,
            };
            assert_eq!(sentence(&error), expected);
        };
        check(vec![item("no", None)], "no [invalid_value]");
        check(
            vec![item("too long", Some("name"))],
            "name: too long [invalid_value]",
        );
        check(
            vec![
                item("name is too long", Some("name")),
                item("a\u{1b}b", None),
            ],
            "name is too long [invalid_value]; a\\u{1b}b [invalid_value]",
        );
    }
}
