//! The error body.

use serde::{Deserialize, Serialize};

/// What every refusal looks like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// The HTTP status once more.
    pub status_code: u16,
    /// The request's correlation id: the same as in the header and in our log.
    pub trace: String,
    /// Never empty: clients read the first one unasked.
    pub errors: Vec<ErrorItem>,
}

/// One thing that was wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorItem {
    /// For programs, such as `unknown_field`.
    pub code: String,
    /// For people: what was wrong and what to do.
    pub message: String,
    /// Where more is said; left out where nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more_info: Option<String>,
    /// Parts of the message for programs: allowed actions, blockers, bounds.
    #[serde(default)]
    pub message_params: Vec<String>,
    /// What of the request was meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<ErrorTarget>,
}

/// What of a request was meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorTarget {
    /// Of which kind.
    #[serde(rename = "type")]
    pub kind: TargetKind,
    /// Its name; a field's with its path, such as `key.size`.
    pub name: String,
}

/// Kinds of parts of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetKind {
    /// A field of the body.
    Field,
    /// A parameter of the query or the path.
    Parameter,
    /// A header.
    Header,
}
