//! API tokens: whom a presented token stands for.

use crate::coordinator::ops::access::{Principal, Rights};
use crate::model::canonical::sha256;
use crate::model::ids::Digest;

/// Shortest token that is taken: 128 bits in hexadecimal.
pub const TOKEN_CHARS_MIN: usize = 32;

/// A token that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// Too few characters to be safe.
    #[error("an API token has at least {TOKEN_CHARS_MIN} characters, this one has {chars}")]
    Short {
        /// How many there are.
        chars: usize,
    },
    /// A character that a header cannot carry.
    #[error("an API token is printable ASCII without spaces")]
    Characters,
}

/// The tokens there are. Holds their SHA-256 only: tokens are random, so nothing slower is needed.
#[derive(Debug, Clone, Default)]
pub struct Auth {
    tokens: Vec<(Digest, Principal)>,
}

impl Auth {
    /// One token: a file's content without the white space around it.
    ///
    /// # Errors
    /// [`InvalidToken`].
    pub fn with_token(
        mut self,
        name: &str,
        token: &str,
        rights: Rights,
    ) -> Result<Self, InvalidToken> {
        let token = token.trim();
        let chars = token.chars().count();
        if chars < TOKEN_CHARS_MIN {
            return Err(InvalidToken::Short { chars });
        }
        if !token.chars().all(|c| c.is_ascii_graphic()) {
            return Err(InvalidToken::Characters);
        }
        let principal = Principal {
            name: name.to_owned(),
            rights,
        };
        self.tokens.push((sha256(token.as_bytes()), principal));
        Ok(self)
    }

    /// Whom the token stands for. Takes as long for a nearly right one as for any other.
    #[must_use]
    pub fn principal(&self, presented: &str) -> Option<Principal> {
        let presented = sha256(presented.as_bytes());
        let mut found = None;
        for (digest, principal) in &self.tokens {
            let same =
                aws_lc_rs::constant_time::verify_slices_are_equal(&digest.0, &presented.0).is_ok();
            if same {
                found = Some(principal.clone());
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use crate::coordinator::ops::auth::*;

    const TOKEN: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn only_the_very_token_is_known() {
        let auth = Auth::default()
            .with_token("admin", &format!("{TOKEN}\n"), Rights::All)
            .unwrap();
        assert_eq!(auth.principal(TOKEN).unwrap().name, "admin");
        assert_eq!(auth.principal(""), None);
        assert_eq!(auth.principal(&TOKEN.to_uppercase()), None);
        assert_eq!(auth.principal(&format!("{TOKEN} ")), None);
        assert_eq!(Auth::default().principal(TOKEN), None);
    }

    #[test]
    fn weak_tokens_are_refused() {
        let check = |token| Auth::default().with_token("x", token, Rights::All).err();
        assert_eq!(check("short"), Some(InvalidToken::Short { chars: 5 }));
        assert_eq!(check("  \n"), Some(InvalidToken::Short { chars: 0 }));
        let spaced = format!("{TOKEN} {TOKEN}");
        assert_eq!(check(&spaced), Some(InvalidToken::Characters));
    }
}
