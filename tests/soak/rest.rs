//! The API, as a client with connections that are kept.

use std::time::Duration;

use serde_json::Value;

/// Longest wait for an answer: what takes longer is a failure of the run.
const ANSWER_WITHIN: Duration = Duration::from_secs(90);

#[derive(Debug, Clone)]
pub struct Rest {
    agent: ureq::Agent,
    url: String,
    token: String,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub etag: String,
    pub body: Value,
}

impl Answer {
    pub fn ok(self) -> Self {
        assert!((200..300).contains(&self.status), "refused: {self:#?}");
        self
    }
}

impl Rest {
    pub fn new(url: &str, token: &str) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(ANSWER_WITHIN))
            .max_idle_connections_per_host(64)
            .build()
            .into();
        Self {
            agent,
            url: url.to_owned(),
            token: token.to_owned(),
        }
    }

    /// One request; an error while nobody listens.
    pub fn send(
        &self,
        method: &str,
        at: &str,
        etag: &str,
        body: &Value,
    ) -> Result<Answer, ureq::Error> {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{at}", self.url))
            .header("authorization", format!("Bearer {}", self.token));
        if !etag.is_empty() {
            request = request.header("if-match", etag);
        }
        let text = if body.is_null() {
            String::new()
        } else {
            request = request.header("content-type", "application/json");
            body.to_string()
        };
        let mut answer = self.agent.run(request.body(text)?)?;
        let etag = answer.headers().get("etag");
        let etag = etag.map_or_else(String::new, |tag| tag.to_str().unwrap().to_owned());
        let text = answer
            .body_mut()
            .with_config()
            .limit(64 << 20)
            .read_to_string()?;
        Ok(Answer {
            status: answer.status().as_u16(),
            etag,
            body: serde_json::from_str(&text).unwrap_or(Value::String(text)),
        })
    }

    pub fn get(&self, at: &str) -> Answer {
        self.send("GET", at, "", &Value::Null).unwrap().ok()
    }

    pub fn create(&self, at: &str, body: &Value) -> Answer {
        self.send("POST", at, "", body).unwrap().ok()
    }
}
