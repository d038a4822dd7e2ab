//! Findings: what makes a key that others made weaker than one that Lockstep makes (threats.md 6).

use serde::{Deserialize, Serialize};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Worth putting right: a rule is broken, and nothing follows from it alone.
    Medium,
    /// The key's material, or that of others, can be had by whoever may use the key.
    High,
}

impl Severity {
    /// The name in API and CLI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// What was found about a key. Closed: API and CLI know all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyFinding {
    /// It may wrap and decrypt.
    WrapAndDecrypt,
    /// It may sign and decrypt.
    SignAndDecrypt,
    /// CKA_SENSITIVE is off, or the token does not tell.
    NotSensitive,
    /// CKA_EXTRACTABLE is on, or the token does not tell.
    Extractable,
}

impl KeyFinding {
    /// The name in API and CLI.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WrapAndDecrypt => "wrap_and_decrypt",
            Self::SignAndDecrypt => "sign_and_decrypt",
            Self::NotSensitive => "not_sensitive",
            Self::Extractable => "extractable",
        }
    }

    /// How bad it is.
    #[must_use]
    pub const fn severity(self) -> Severity {
        match self {
            Self::WrapAndDecrypt | Self::NotSensitive => Severity::High,
            Self::SignAndDecrypt | Self::Extractable => Severity::Medium,
        }
    }

    /// For people.
    #[must_use]
    pub const fn message(self) -> &'static str {
        match self {
            Self::WrapAndDecrypt => {
                "it may wrap and decrypt: whoever may use it reads every key that it may wrap"
            }
            Self::SignAndDecrypt => {
                "it may sign and decrypt: what it signs can be made to open what it protects"
            }
            Self::NotSensitive => "CKA_SENSITIVE is not on: whoever has the PIN may read its value",
            Self::Extractable => {
                "CKA_EXTRACTABLE is not off: whoever has the PIN may wrap it and take it away"
            }
        }
    }
}
