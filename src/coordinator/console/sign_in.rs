//! Signing in with an API token, and out.

use askama::Template;
use axum::body::{Body, to_bytes};
use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::coordinator::console::{Console, Line, render};

/// Largest form, bytes.
const FORM_BYTES_MAX: usize = 4 * 1024;

#[derive(Template)]
#[template(path = "console/sign_in.html")]
struct SignIn {
    refused: Option<&'static str>,
}

#[derive(Deserialize)]
struct Form {
    token: String,
}

/// GET /sign-in
pub(crate) async fn form() -> Response {
    render(StatusCode::OK, &SignIn { refused: None })
}

/// POST /sign-in
pub(crate) async fn enter(State(console): State<Console>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if !is_from_here(&parts.headers) {
        return refused(StatusCode::FORBIDDEN, "Sign in from this page only.");
    }
    let Some(token) = read_token(body).await else {
        return refused(StatusCode::BAD_REQUEST, "That was not a token.");
    };
    let Some(principal) = console.auth.principal(token.trim()) else {
        tracing::warn!("a sign-in was refused");
        return refused(StatusCode::UNAUTHORIZED, "That token is not known here.");
    };
    if let Some(old) = cookie(&parts.headers, console.line) {
        console.sessions.end(old);
    }
    tracing::info!(principal = principal.name, "signed in");
    let Some(id) = console.sessions.begin(principal) else {
        return refused(StatusCode::SERVICE_UNAVAILABLE, "No session could be made.");
    };
    with_cookie(console.line, &id)
}

/// POST /sign-out
pub(crate) async fn leave(State(console): State<Console>, request: Request) -> Response {
    if is_from_here(request.headers())
        && let Some(id) = cookie(request.headers(), console.line)
    {
        console.sessions.end(id);
    }
    with_cookie(console.line, "")
}

fn refused(status: StatusCode, why: &'static str) -> Response {
    render(status, &SignIn { refused: Some(why) })
}

/// A form is encoded as a query is (WHATWG URL, 5), so it is read as one.
async fn read_token(body: Body) -> Option<Zeroizing<String>> {
    let bytes = to_bytes(body, FORM_BYTES_MAX).await.ok()?;
    let text = Zeroizing::new(format!("/?{}", std::str::from_utf8(&bytes).ok()?));
    let uri: Uri = text.parse().ok()?;
    let Query(form) = Query::<Form>::try_from_uri(&uri).ok()?;
    Some(Zeroizing::new(form.token))
}

/// Whether a browser says that the request comes from one of our own pages. Old browsers say nothing of it, but name an origin.
fn is_from_here(headers: &HeaderMap) -> bool {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    match (text("sec-fetch-site"), text("origin"), text("host")) {
        (Some(site), _, _) => site == "same-origin",
        (None, Some(origin), Some(host)) => origin
            .split_once("://")
            .is_some_and(|(_scheme, authority)| authority == host),
        (None, Some(_), None) => false,
        (None, None, _) => true,
    }
}

const fn cookie_name(line: Line) -> &'static str {
    match line {
        Line::Https => "__Host-lockstep_session",
        Line::LoopbackHttp => "lockstep_session",
    }
}

/// The session id that the browser keeps.
pub(crate) fn cookie(headers: &HeaderMap, line: Line) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == cookie_name(line)).then_some(value))
}

/// Back to the pages, with this id in the browser; empty: with none.
fn with_cookie(line: Line, id: &str) -> Response {
    let name = cookie_name(line);
    let secure = match line {
        Line::Https => "; Secure",
        Line::LoopbackHttp => "",
    };
    let end = if id.is_empty() { "; Max-Age=0" } else { "" };
    let cookie = format!("{name}={id}; Path=/; HttpOnly; SameSite=Strict{secure}{end}");
    let mut response = Redirect::to("/").into_response();
    if let Ok(value) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue, header};

    use crate::coordinator::console::Line;
    use crate::coordinator::console::sign_in::{cookie, is_from_here};

    fn check(pairs: &[(&'static str, &'static str)], expected: bool) {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, HeaderValue::from_static(value));
        }
        assert_eq!(is_from_here(&headers), expected, "{pairs:?}");
    }

    #[test]
    fn forms_of_other_sites_are_refused() {
        check(&[("sec-fetch-site", "same-origin")], true);
        check(&[("sec-fetch-site", "cross-site")], false);
        check(&[("sec-fetch-site", "same-site")], false);
        check(
            &[("origin", "http://127.0.0.1:1"), ("host", "127.0.0.1:1")],
            true,
        );
        check(
            &[("origin", "http://evil.example"), ("host", "127.0.0.1:1")],
            false,
        );
        check(&[("origin", "null"), ("host", "127.0.0.1:1")], false);
    }

    #[test]
    fn cookies_are_found_by_their_whole_name() {
        let mut headers = HeaderMap::new();
        let value = "xlockstep_session=a; lockstep_session=b; c=d";
        headers.insert(header::COOKIE, HeaderValue::from_static(value));
        assert_eq!(cookie(&headers, Line::LoopbackHttp), Some("b"));
        assert_eq!(cookie(&headers, Line::Https), None);
    }
}
