//! What probes of the token found: the last good report is kept, so that an upgrade that takes something away is told until
//! an operator accepts it (design.md 7).

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::agent::durable;
use crate::model::capabilities::Capabilities;
use crate::model::keystore::TokenInfo;

/// The kept report, and the token that it is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    token: TokenInfo,
    capabilities: Capabilities,
}

/// The file that holds it.
#[derive(Debug)]
pub struct Probes {
    path: PathBuf,
}

impl Probes {
    /// Those kept at a path.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The kept report, where by it the token could do what it cannot by this one. Without a loss this one is kept; with
    /// `accept` it is kept in any case, and nothing is told.
    ///
    /// # Errors
    /// The system's, when the report cannot be kept.
    pub fn compare(
        &self,
        token: &TokenInfo,
        now: &Capabilities,
        accept: bool,
    ) -> io::Result<Option<Capabilities>> {
        let kept = self.kept();
        if let Some(kept) = &kept
            && !accept
            && !kept.capabilities.regressions(now).is_empty()
        {
            return Ok(Some(kept.capabilities.clone()));
        }
        if kept.is_none_or(|kept| kept.capabilities != *now || kept.token != *token) {
            let report = Kept {
                token: token.clone(),
                capabilities: now.clone(),
            };
            durable::replace(&self.path, &serde_json::to_vec_pretty(&report)?)?;
        }
        Ok(None)
    }

    /// A report that cannot be read is none: it was of another version of this program.
    fn kept(&self) -> Option<Kept> {
        let bytes = std::fs::read(&self.path).ok()?;
        serde_json::from_slice(&bytes).ok()
    }
}

#[cfg(test)]
mod tests {
    use crate::agent::probes::*;

    #[test]
    fn a_loss_is_told_until_it_is_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let probes = Probes::new(dir.path().join("capabilities.json"));
        let token = TokenInfo::default();
        let best = Capabilities::best();
        let mut less = best.clone();
        less.digest_key = false;
        let compare = |now: &Capabilities, accept| probes.compare(&token, now, accept).unwrap();
        assert_eq!(compare(&best, false), None);
        let could = Some(best.clone());
        assert_eq!(compare(&less, false), could);
        assert_eq!(compare(&less, false), could, "also after the next start");
        assert_eq!(compare(&best, false), None, "until it is back");
        assert_eq!(compare(&less, true), None);
        assert_eq!(compare(&less, false), None, "accepted");
        assert_eq!(compare(&best, false), None, "a gain is kept");
        assert_eq!(compare(&less, false), could);
    }
}
