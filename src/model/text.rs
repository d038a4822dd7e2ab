//! Text that comes from people and tokens: hexadecimal, labels, and the characters that may not pass.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Longest label we give an object: UKO's bound, and what every tested token keeps whole.
pub const LABEL_CHARS_MAX: usize = 255;

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(
        String::with_capacity(bytes.len().saturating_mul(2)),
        |mut text, byte| {
            let _infallible = write!(text, "{byte:02x}");
            text
        },
    )
}

/// Bytes of hexadecimal text of even length, either case; `None` for anything else.
#[must_use]
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    let digits = digits?;
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs
        .map(|pair| match pair {
            [high, low] => u8::try_from(high * 16 + low).ok(),
            _ => None,
        })
        .collect()
}

/// Text that a token gave us, made safe to print: control and bidirectional characters become `\u{..}`.
/// Labels on tokens are hostile input (threats.md T15, T16).
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() || is_bidirectional(c) {
                c.escape_unicode().to_string()
            } else {
                c.to_string()
            }
        })
        .collect()
}

fn is_bidirectional(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A key's label: 1 to 255 characters of `A-Z a-z 0-9 . _ space / -` (the pattern of API v4). Nothing is cut.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

/// Why text is not a label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLabel {
    /// Nothing in it.
    #[error("a label needs at least one character")]
    Empty,
    /// More than [`LABEL_CHARS_MAX`].
    #[error("a label has at most {LABEL_CHARS_MAX} characters, this one has {chars}")]
    TooLong {
        /// How many there are.
        chars: usize,
    },
    /// A character outside the pattern.
    #[error("a label may hold A-Z a-z 0-9 . _ - / and spaces, not {found:?}")]
    Character {
        /// The first such character.
        found: char,
    },
}

impl Label {
    /// Checks and takes the text.
    ///
    /// # Errors
    /// [`InvalidLabel`] says which rule was broken.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidLabel> {
        let text = text.into();
        let chars = text.chars().count();
        if chars == 0 {
            return Err(InvalidLabel::Empty);
        }
        if chars > LABEL_CHARS_MAX {
            return Err(InvalidLabel::TooLong { chars });
        }
        let allowed =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ' ' | '/' | '-');
        match text.chars().find(|&c| !allowed(c)) {
            Some(found) => Err(InvalidLabel::Character { found }),
            None => Ok(Self(text)),
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Label {
    type Error = InvalidLabel;

    fn try_from(text: String) -> Result<Self, InvalidLabel> {
        Self::new(text)
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0
    }
}
