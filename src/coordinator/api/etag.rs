//! ETags: a record's revision in quotes (RFC 9110, 8.8.3).

use axum::http::{HeaderMap, HeaderValue, header};

use crate::coordinator::api::refusal::Refusal;
use crate::model::ids::Revision;

/// The ETag of a revision.
pub(crate) fn render(revision: Revision) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{revision}\""))
        .unwrap_or_else(|_not_ascii| HeaderValue::from_static("\"0\""))
}

/// The revision that If-Match names, with or without quotes. An ETag that is not one of ours matches nothing: no record
/// gets as far as `u64::MAX`.
///
/// # Errors
/// 400 for `*`, for a list, and for more than one header: a change names the one state that it rests on.
pub(crate) fn if_match(headers: &HeaderMap) -> Result<Option<Revision>, Refusal> {
    let mut values = headers.get_all(header::IF_MATCH).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or("*").trim();
    if values.next().is_some() || text.contains(['*', ',']) {
        return Err(Refusal::header(
            "If-Match",
            "invalid_header",
            "If-Match must name exactly one ETag, as an answer about the object gave it",
        ));
    }
    let digits = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .unwrap_or(text);
    Ok(Some(
        digits.parse::<u64>().map_or(Revision(u64::MAX), Revision),
    ))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderMap, HeaderValue, header};

    use crate::coordinator::api::etag::if_match;

    fn check(values: &[&'static str], expected: Option<Option<u64>>) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::IF_MATCH, HeaderValue::from_static(value));
        }
        let got = if_match(&headers).ok().map(|read| read.map(|r| r.0));
        assert_eq!(got, expected, "{values:?}");
    }

    #[test]
    fn if_match_names_one_revision() {
        check(&[], Some(None));
        check(&["\"3\""], Some(Some(3)));
        check(&["3"], Some(Some(3)));
        check(&["\"abc\""], Some(Some(u64::MAX)));
        check(&["W/\"3\""], Some(Some(u64::MAX)));
        check(&["\"-3\""], Some(Some(u64::MAX)));
        check(&["*"], None);
        check(&["\"1\", \"2\""], None);
        check(&["\"1\"", "\"2\""], None);
    }
}
