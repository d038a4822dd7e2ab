//! Answers: objects with their ETag, changes with their operation id, pages of lists with their links.

use std::future::Future;

use axum::Json;
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::coordinator::api::etag;
use crate::coordinator::api::refusal::Refusal;
use crate::coordinator::ops::commit::Done;
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::lists::{Page, Paged};
use crate::model::ids::Revision;
use crate::model::vault::{Stamps, UnixMs};
use crate::rest::list::{Href, PageInfo, RecordStamps};

/// Names the operation of a change.
const OPERATION_ID: HeaderName = HeaderName::from_static("operation-id");

/// Says that this very request was carried out before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// An object.
pub(crate) fn object<T: Serialize>(revision: Revision, body: T) -> Response {
    let mut response = Json(body).into_response();
    response
        .headers_mut()
        .insert(header::ETAG, etag::render(revision));
    response
}

/// An object that was changed or made.
pub(crate) fn changed<T: Serialize>(
    status: StatusCode,
    done: &Done<T>,
    revision: Revision,
) -> Response {
    let mut response = object(revision, &done.value);
    *response.status_mut() = status;
    note(done, response)
}

/// An object that is gone.
pub(crate) fn removed(done: &Done<()>) -> Response {
    note(done, StatusCode::NO_CONTENT.into_response())
}

/// Puts another value into what was done.
pub(crate) fn map<A, B>(done: Done<A>, to: impl FnOnce(A) -> B) -> Done<B> {
    Done {
        value: to(done.value),
        operation: done.operation,
        replayed: done.replayed,
    }
}

fn note<T>(done: &Done<T>, mut response: Response) -> Response {
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&done.operation) {
        headers.insert(OPERATION_ID, value);
    }
    if done.replayed {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// Gives a refusal the object's ETag as it is now, where it has none and the caller may know it.
pub(crate) async fn with_etag(
    result: Result<Response, Refusal>,
    current: impl Future<Output = Result<Revision, OpsError>>,
) -> Result<Response, Refusal> {
    match result {
        Err(refusal) if refusal.lacks_etag() => {
            let revision = current.await.ok();
            Err(refusal.with_etag(revision))
        }
        other => other,
    }
}

/// Where a page is in its list.
pub(crate) fn page_info<T>(uri: &Uri, page: Page, found: &Paged<T>) -> PageInfo {
    let limit = u64::from(page.limit.max(1));
    let offset = u64::from(page.offset);
    let last = found.total.saturating_sub(1) / limit * limit;
    let next = offset.saturating_add(limit);
    PageInfo {
        total_count: found.total,
        limit: page.limit,
        offset: page.offset,
        first: link(uri, limit, 0),
        last: link(uri, limit, last),
        previous: (offset > 0).then(|| link(uri, limit, offset.saturating_sub(limit))),
        next: (next < found.total).then(|| link(uri, limit, next)),
    }
}

/// The same list elsewhere: all other parameters stay as they were sent.
fn link(uri: &Uri, limit: u64, offset: u64) -> Href {
    let mut href = format!("{}?", uri.path());
    for part in uri.query().unwrap_or("").split('&') {
        let name = part.split('=').next().unwrap_or("");
        if !matches!(name, "" | "limit" | "offset") {
            href.push_str(part);
            href.push('&');
        }
    }
    href.push_str(&format!("limit={limit}&offset={offset}"));
    Href { href }
}

/// Who and when.
pub(crate) fn stamps(stamps: &Stamps, href: String) -> RecordStamps {
    RecordStamps {
        created_at: time(stamps.created_at),
        created_by: stamps.created_by.clone(),
        updated_at: time(stamps.updated_at),
        updated_by: stamps.updated_by.clone(),
        href,
    }
}

/// RFC 3339 in UTC with milliseconds; the nearest there is for times that no calendar has.
pub(crate) fn time(at: UnixMs) -> String {
    let shown = jiff::Timestamp::from_millisecond(at.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{shown:.3}")
}

#[cfg(test)]
mod tests {
    use crate::coordinator::api::answer::*;

    #[test]
    fn times_have_milliseconds() {
        assert_eq!(time(UnixMs(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(time(UnixMs(1_600_000_000_120)), "2020-09-13T12:26:40.120Z");
    }

    #[test]
    fn pages_lead_to_each_other() {
        let uri: Uri = "/api/v4/vaults?name=a%20b&limit=10&offset=10"
            .parse()
            .unwrap();
        let at = |offset, total| {
            let page = Page { limit: 10, offset };
            page_info(
                &uri,
                page,
                &Paged::<()> {
                    total,
                    items: vec![],
                },
            )
        };
        let href = |n| {
            let href = format!("/api/v4/vaults?name=a%20b&limit=10&offset={n}");
            Some(Href { href })
        };
        let middle = at(10, 25);
        assert_eq!(Some(middle.first), href(0));
        assert_eq!(Some(middle.last), href(20));
        assert_eq!(middle.previous, href(0));
        assert_eq!(middle.next, href(20));
        assert_eq!(at(20, 25).next, None);
        assert_eq!(at(0, 25).previous, None);
        assert_eq!(at(0, 10).next, None);
        assert_eq!(Some(at(0, 0).last), href(0));
        assert_eq!(Some(at(0, 20).last), href(10));
    }
}
