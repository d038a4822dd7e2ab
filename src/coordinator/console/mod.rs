//! Pages for people: server-rendered, readable without scripts.
//!
//! Owns: sign-in and its sessions, pages, their style. Never: decides or words anything that `ops` decides or words, reads
//! the store, changes anything by GET. Everything from keystores and people is escaped by the template engine.

pub mod matrix;
pub mod page;

pub(crate) mod sign_in;

use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};

use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::Call;
use crate::coordinator::ops::auth::Auth;
use crate::coordinator::ops::sessions::{Session, Sessions};

/// Nothing from elsewhere, no script, no inline style.
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";

/// How browsers reach the pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// HTTPS: the session cookie is for this host and for HTTPS only.
    Https,
    /// Plain HTTP on a loopback address, where browsers keep no `Secure` cookie.
    LoopbackHttp,
}

/// What pages need.
#[derive(Debug, Clone)]
pub(crate) struct Console {
    pub(crate) ops: Arc<Ops>,
    pub(crate) auth: Auth,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) line: Line,
}

/// All pages. They show nothing before somebody has signed in with an API token.
pub fn router(ops: Arc<Ops>, auth: Auth, line: Line) -> Router {
    let console = Console {
        ops,
        auth,
        sessions: Arc::new(Sessions::default()),
        line,
    };
    Router::new()
        .route("/", get(overview))
        .route("/sign-in", get(sign_in::form).post(sign_in::enter))
        .route("/sign-out", post(sign_in::leave))
        .route("/assets/console.css", get(style))
        .route("/assets/icon.svg", get(icon))
        .layer(from_fn(dress))
        .with_state(console)
}

/// The matrix of keys and keystores. What the page fetches by itself (`?live`) does not count as use of the session.
async fn overview(State(console): State<Console>, request: Request) -> Response {
    let is_live = request.uri().query() == Some("live");
    let session = sign_in::cookie(request.headers(), console.line)
        .and_then(|id| console.sessions.find(id, !is_live));
    let Some(Session { principal, .. }) = session else {
        return Redirect::to("/sign-in").into_response();
    };
    let call = Call::looking(principal);
    match page::overview(&console.ops, &call).await {
        Ok(page) => render(StatusCode::OK, &page),
        Err(error) => {
            tracing::warn!(%error, "a page could not be made");
            render(
                StatusCode::SERVICE_UNAVAILABLE,
                &page::Failed {
                    why: error.to_string(),
                },
            )
        }
    }
}

pub(crate) fn render(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => (status, Html(text)).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page could not be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn style() -> impl IntoResponse {
    let kind = HeaderValue::from_static("text/css; charset=utf-8");
    (
        [(header::CONTENT_TYPE, kind)],
        include_str!("../../../assets/console.css"),
    )
}

async fn icon() -> impl IntoResponse {
    let kind = HeaderValue::from_static("image/svg+xml");
    (
        [(header::CONTENT_TYPE, kind)],
        include_str!("../../../assets/icon.svg"),
    )
}

async fn dress(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let set = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    for (name, value) in set {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in [
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
