//! Bodies of requests: JSON of known fields only; every refusal names the field.

use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;

use crate::coordinator::api::refusal::Refusal;
use crate::rest::error::TargetKind;

/// Largest body, bytes.
pub(crate) const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Reads a body.
///
/// # Errors
/// 415 for another content type, 400 that names the field for anything that is not as the type says.
pub(crate) fn parse<T: DeserializeOwned>(headers: &HeaderMap, bytes: &[u8]) -> Result<T, Refusal> {
    if !is_json(headers) {
        return Err(Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "the body must be JSON: send Content-Type: application/json",
        )
        .about(TargetKind::Header, "Content-Type"));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        refuse(&path, error.inner())
    })?;
    reader.end().map_err(|error| refuse(".", &error))?;
    Ok(value)
}

/// Actions take no body; an empty object is let through, since some clients always send one.
///
/// # Errors
/// 400 that names the first field.
pub(crate) fn none(bytes: &[u8]) -> Result<(), Refusal> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(());
    }
    let fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(bytes).map_err(|error| refuse(".", &error))?;
    match fields.keys().next() {
        None => Ok(()),
        Some(name) => Err(Refusal::field(
            name,
            "unknown_field",
            format!("this request takes no body, so no field {name:?}"),
        )),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// Serde tells what was wrong in words only; the tests below hold these words.
fn refuse(path: &str, error: &serde_json::Error) -> Refusal {
    use serde_json::error::Category;
    let message = error.to_string();
    let named = message.split('`').nth(1);
    match error.classify() {
        Category::Io | Category::Syntax | Category::Eof => {
            Refusal::new(StatusCode::BAD_REQUEST, "invalid_json", message)
        }
        Category::Data => {
            let (code, field) = match named {
                Some(name) if message.starts_with("unknown field") => {
                    ("unknown_field", join(path, name))
                }
                Some(name) if message.starts_with("missing field") => {
                    ("missing_field", join(path, name))
                }
                Some(name) if message.starts_with("duplicate field") => {
                    ("duplicate_field", join(path, name))
                }
                Some(_) | None => ("invalid_value", path.to_owned()),
            };
            Refusal::field(&field, code, message)
        }
    }
}

/// The path of a field whose own name may or may not be in the path yet.
fn join(path: &str, name: &str) -> String {
    let is_there = path == name || path.ends_with(&format!(".{name}"));
    match path {
        "." | "" | "?" => name.to_owned(),
        path if is_there => path.to_owned(),
        path => format!("{path}.{name}"),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use crate::coordinator::api::body::*;
    use crate::rest::template::TemplateCreate;
    use crate::rest::vault::VaultCreate;

    fn headers(kind: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(kind))])
    }

    fn check<T: DeserializeOwned>(body: &str, code: &str, field: Option<&str>) {
        let refusal = parse::<T>(&headers("application/json"), body.as_bytes())
            .err()
            .unwrap()
            .body("t");
        let item = &refusal.errors[0];
        let named = item.target.as_ref().map(|target| target.name.as_str());
        assert_eq!(
            (item.code.as_str(), named),
            (code, field),
            "{body}: {item:?}"
        );
    }

    #[test]
    fn each_refusal_names_the_field() {
        check::<VaultCreate>("{", "invalid_json", None);
        check::<VaultCreate>("", "invalid_json", None);
        check::<VaultCreate>(r#"{"name":"a"} x"#, "invalid_json", None);
        check::<VaultCreate>("{}", "missing_field", Some("name"));
        check::<VaultCreate>(r#"{"name":1}"#, "invalid_value", Some("name"));
        check::<VaultCreate>(r#"{"name":"a","nmae":1}"#, "unknown_field", Some("nmae"));
        check::<VaultCreate>(
            r#"{"name":"a","name":"b"}"#,
            "duplicate_field",
            Some("name"),
        );
        let key =
            r#""size":"256","activation_date":"P0D","expiration_date":"P1Y","state":"active""#;
        let body = |key: &str, keystore: &str| {
            format!(
                r#"{{"vault":{{"id":"x"}},"name":"T","key":{{{key}}},"keystores":[{{{keystore}}}]}}"#
            )
        };
        let keystore = r#""group":"g","type":"pkcs11""#;
        check::<TemplateCreate>(&body(key, keystore), "missing_field", Some("key.algorithm"));
        let blowfish = format!(r#"{key},"algorithm":"blowfish""#);
        check::<TemplateCreate>(
            &body(&blowfish, keystore),
            "invalid_value",
            Some("key.algorithm"),
        );
        let aes = format!(r#"{key},"algorithm":"aes""#);
        check::<TemplateCreate>(
            &body(&aes, r#""group":"g","type":"pkcs11","colour":1"#),
            "unknown_field",
            Some("keystores[0].colour"),
        );
    }

    #[test]
    fn only_json_is_taken() {
        let body = br#"{"name":"a"}"#;
        assert!(parse::<VaultCreate>(&headers("application/json; charset=utf-8"), body).is_ok());
        assert!(parse::<VaultCreate>(&headers("text/plain"), body).is_err());
        assert!(parse::<VaultCreate>(&HeaderMap::new(), body).is_err());
    }

    #[test]
    fn actions_take_no_body() {
        assert!(none(b"").is_ok());
        assert!(none(b" {} ").is_ok());
        assert!(none(b"{\"force\":true}").is_err());
        assert!(none(b"x").is_err());
    }
}
