//! Parameters of the query: each is taken once, and what nobody took is refused, so that no filter is silently ignored.

use axum::extract::Query;
use axum::http::Uri;

use crate::coordinator::api::refusal::Refusal;
use crate::coordinator::ops::lists::Page;
use crate::rest::error::TargetKind;
use crate::rest::list::{LIMIT_DEFAULT, LIMIT_MAX};

/// What of a query was not taken yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parameters {
    left: Vec<(String, String)>,
}

impl Parameters {
    /// Reads a query.
    ///
    /// # Errors
    /// 400 for one that cannot be read, and for a parameter that comes twice.
    pub(crate) fn read(uri: &Uri) -> Result<Self, Refusal> {
        let Query(left) =
            Query::<Vec<(String, String)>>::try_from_uri(uri).map_err(|rejection| {
                Refusal::new(
                    axum::http::StatusCode::BAD_REQUEST,
                    "invalid_query",
                    rejection.body_text(),
                )
            })?;
        for (place, (name, _)) in left.iter().enumerate() {
            if left.iter().skip(place + 1).any(|(other, _)| other == name) {
                return Err(Refusal::parameter(
                    name,
                    "duplicate_parameter",
                    format!("{name} came twice; several values go into one, joined by commas"),
                ));
            }
        }
        Ok(Self { left })
    }

    /// Takes one, if it was sent.
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        let place = self.left.iter().position(|(other, _)| other == name)?;
        Some(self.left.remove(place).1)
    }

    /// Takes one and reads it.
    ///
    /// # Errors
    /// 400 that names it and says what it must be.
    pub(crate) fn take_as<T>(
        &mut self,
        name: &str,
        must: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Refusal> {
        let Some(text) = self.take(name) else {
            return Ok(None);
        };
        match read(&text) {
            Some(value) => Ok(Some(value)),
            None => Err(Refusal::parameter(
                name,
                "invalid_parameter",
                format!("{name} must be {must}"),
            )),
        }
    }

    /// Takes `limit` and `offset`.
    ///
    /// # Errors
    /// 400 that names the parameter.
    pub(crate) fn take_page(&mut self) -> Result<Page, Refusal> {
        let limit = self.take_as("limit", &format!("a number, 1 to {LIMIT_MAX}"), |text| {
            text.parse().ok().filter(|n| (1..=LIMIT_MAX).contains(n))
        })?;
        let offset = self.take_as("offset", "a number, 0 or more", |text| text.parse().ok())?;
        Ok(Page {
            limit: limit.unwrap_or(LIMIT_DEFAULT),
            offset: offset.unwrap_or(0),
        })
    }

    /// Takes `sort`: field names joined by commas, each with a `-` in front for descending.
    ///
    /// # Errors
    /// 400 that names the parameter and lists the fields there are.
    pub(crate) fn take_sort(&mut self, fields: &[&str]) -> Result<Vec<(String, bool)>, Refusal> {
        let must = format!(
            "a list, joined by commas, of {} (each at most once, with - in front for descending)",
            fields.join(", ")
        );
        let read = |text: &str| {
            let mut sort: Vec<(String, bool)> = Vec::new();
            for part in text.split(',') {
                let (name, descending) = match part.strip_prefix('-') {
                    Some(name) => (name, true),
                    None => (part, false),
                };
                if !fields.contains(&name) || sort.iter().any(|(other, _)| other == name) {
                    return None;
                }
                sort.push((name.to_owned(), descending));
            }
            Some(sort)
        };
        Ok(self.take_as("sort", &must, read)?.unwrap_or_default())
    }

    /// Takes a yes or no; no where it was not sent.
    ///
    /// # Errors
    /// 400 that names the parameter.
    pub(crate) fn take_flag(&mut self, name: &str) -> Result<bool, Refusal> {
        let read = |text: &str| text.parse().ok();
        Ok(self.take_as(name, "true or false", read)?.unwrap_or(false))
    }

    /// Refuses what nobody took: 501 for filters that API v4 has and we do not have yet, 400 for all else.
    ///
    /// # Errors
    /// One or the other.
    pub(crate) fn done(self, later: &[&str]) -> Result<(), Refusal> {
        let Some((name, _)) = self.left.first() else {
            return Ok(());
        };
        if later.contains(&name.as_str()) {
            return Err(Refusal::not_built_yet(&format!("the parameter {name}"))
                .about(TargetKind::Parameter, name));
        }
        Err(Refusal::parameter(
            name,
            "unknown_parameter",
            format!("this request takes no parameter {name:?}"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use crate::coordinator::api::query::*;

    fn read(query: &str) -> Parameters {
        let uri: Uri = format!("/x?{query}").parse().unwrap();
        Parameters::read(&uri).unwrap()
    }

    #[test]
    fn pages_have_bounds() {
        let page = |query| read(query).take_page().map(|p| (p.limit, p.offset)).ok();
        assert_eq!(page(""), Some((50, 0)));
        assert_eq!(page("limit=1000&offset=7"), Some((1000, 7)));
        for bad in [
            "limit=0",
            "limit=1001",
            "limit=x",
            "limit=-1",
            "limit=",
            "offset=-1",
        ] {
            assert_eq!(page(bad), None, "{bad}");
        }
    }

    #[test]
    fn sorting_knows_its_fields() {
        let sort = |query| read(query).take_sort(&["label", "created_at"]).ok();
        let by = |name: &str, descending| (name.to_owned(), descending);
        assert_eq!(sort(""), Some(vec![]));
        assert_eq!(
            sort("sort=-created_at,label"),
            Some(vec![by("created_at", true), by("label", false)])
        );
        for bad in ["sort=colour", "sort=", "sort=label,label", "sort=--label"] {
            assert_eq!(sort(bad), None, "{bad}");
        }
    }

    #[test]
    fn nothing_is_ignored() {
        assert!(read("").done(&[]).is_ok());
        assert!(read("colour=1").done(&[]).is_err());
        let later = read("key_material_present=x").done(&["key_material_present"]);
        assert_eq!(later.err().unwrap().code(), "not_built_yet");
        let twice: Uri = "/x?a=1&a=2".parse().unwrap();
        assert!(Parameters::read(&twice).is_err());
    }
}
