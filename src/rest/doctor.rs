//! What the doctor found.

use serde::{Deserialize, Serialize};

/// GET …/doctor. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doctor {
    /// The worst of them.
    pub verdict: Verdict,
    /// All checks, in a fixed order.
    pub checks: Vec<Check>,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing was found.
    Ok,
    /// Nothing is broken yet, and somebody should look.
    Warning,
    /// A promise is broken.
    Violated,
}

impl Verdict {
    /// The name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "warning",
            Self::Violated => "violated",
        }
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// The invariant that it is about, such as `I7`; missing: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invariant: Option<String>,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found, at most 20 of it.
    pub found: Vec<String>,
    /// How much was found in all.
    pub count: u64,
    /// What it means when something is found.
    pub meaning: String,
    /// What to do then.
    pub advice: String,
}
