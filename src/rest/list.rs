//! The envelope of lists.

use serde::{Deserialize, Serialize};

/// Items of a list that does not say.
pub const LIMIT_DEFAULT: u32 = 50;

/// Most items of one page.
pub const LIMIT_MAX: u32 = 1000;

/// Which part of a list an answer is, and where the others are. No `next`: this was the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageInfo {
    /// How many items there are in all.
    pub total_count: u64,
    /// At most this many a page, 1 to [`LIMIT_MAX`].
    pub limit: u32,
    /// The first one's place, 0-based.
    pub offset: u32,
    /// The first page.
    pub first: Href,
    /// The last page.
    pub last: Href,
    /// The page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Href>,
    /// The page after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Href>,
}

/// A link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Href {
    /// Path and query on this server.
    pub href: String,
}

/// Names a record in a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IdRef {
    /// Its UUID.
    pub id: String,
}

/// Names a record in an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedRef {
    /// Its UUID.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Where it is.
    pub href: String,
}

/// Who and when, on every record. Times are UTC, RFC 3339, with milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordStamps {
    /// When it was made.
    pub created_at: String,
    /// By whom.
    pub created_by: String,
    /// When it was last changed by a person or a date.
    pub updated_at: String,
    /// By whom.
    pub updated_by: String,
    /// Where it is.
    pub href: String,
}
