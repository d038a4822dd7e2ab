//! Somebody who talks to a coordinator over HTTP.

use std::time::Duration;

use serde_json::Value;

/// Where the coordinator is, and the token that opens it.
#[derive(Debug, Clone)]
pub struct Client {
    pub url: String,
    pub token: String,
}

/// An answer of the API.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub etag: Option<String>,
    pub body: Value,
}

impl Answer {
    /// Whether it went well.
    pub fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body, if all went well.
    pub fn ok(self) -> Value {
        assert!(self.is_ok(), "refused: {self:#?}");
        self.body
    }

    /// Code of the first error.
    pub fn code(&self) -> &str {
        self.body["errors"][0]["code"].as_str().unwrap_or_default()
    }
}

impl Client {
    /// One request, without a body where that is null.
    ///
    /// # Errors
    /// If no whole answer came: nobody knows what the coordinator did.
    pub fn send(
        &self,
        method: &str,
        at: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Result<Answer, ureq::Error> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(90)))
            .build()
            .into();
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{at}", self.url))
            .header("authorization", format!("Bearer {}", self.token));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let has_body = !body.is_null();
        if has_body {
            request = request.header("content-type", "application/json");
        }
        let sent = if has_body {
            body.to_string()
        } else {
            String::new()
        };
        let mut answer = agent.run(request.body(sent).unwrap())?;
        let etag = answer
            .headers()
            .get("etag")
            .map(|tag| tag.to_str().unwrap().to_owned());
        let text = answer.body_mut().read_to_string()?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(Answer {
            status: answer.status().as_u16(),
            etag,
            body,
        })
    }
}
