//! Whether a key can get to a keystore at all, as far as both tokens were tried: said when it is asked for, not later.

use crate::coordinator::ops::Ops;
use crate::coordinator::ops::errors::OpsError;
use crate::model::capabilities::{Capabilities, Unwrap};
use crate::model::ids::KeystoreId;
use crate::model::key::ManagedKey;

/// Why a key cannot get to a keystore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoWay {
    /// A short code such as `no_common_wrapping`.
    pub(crate) code: &'static str,
    /// For people: what is lacking, and what would work.
    pub(crate) reason: String,
}

impl Ops {
    /// Nothing where the key can get there, or where a token has not been tried yet: its agent says then.
    pub(crate) async fn no_way(
        &self,
        key: &ManagedKey,
        target: KeystoreId,
    ) -> Result<Option<NoWay>, OpsError> {
        let Some(theirs) = self.known_capabilities(target) else {
            return Ok(None);
        };
        if let Some(reason) = label_cut(&theirs, key) {
            let code = "label_too_long";
            return Ok(Some(NoWay { code, reason }));
        }
        if let Some(reason) = not_taken(&theirs, key) {
            let code = "not_supported_by_token";
            return Ok(Some(NoWay { code, reason }));
        }
        let (theirs, class) = (theirs.routes(), key.spec.class());
        let mut sources = Vec::new();
        for copy in self.store.copies(key.version).await? {
            match self.known_capabilities(copy.keystore) {
                Some(ours) if ours.routes().common(&theirs, class).is_none() => {
                    sources.push(ours.routes());
                }
                Some(_) | None => return Ok(None),
            }
        }
        Ok(sources.first().map(|ours| NoWay {
            code: "no_common_wrapping",
            reason: format!(
                "no keystore that holds the {} can wrap it for that token: it has {}, the token takes {}",
                class.name(),
                ours.told(class),
                theirs.told(class)
            ),
        }))
    }

    /// Refuses a label that one of these keystores could not keep whole.
    ///
    /// # Errors
    /// `Invalid` of the field `label` with `label_too_long`.
    pub(crate) async fn check_label_fits(
        &self,
        key: &ManagedKey,
        keystores: impl IntoIterator<Item = &KeystoreId>,
    ) -> Result<(), OpsError> {
        for keystore in keystores {
            let theirs = self.known_capabilities(*keystore);
            let Some(reason) = theirs.and_then(|theirs| label_cut(&theirs, key)) else {
                continue;
            };
            let record = self.store.keystore(*keystore).await?;
            let name = record.map_or_else(|| keystore.to_string(), |record| record.name);
            let message = format!("keystore {name:?}: {reason}");
            return Err(OpsError::invalid("label", "label_too_long", message));
        }
        Ok(())
    }

    fn known_capabilities(&self, keystore: KeystoreId) -> Option<Capabilities> {
        self.fleet.description(keystore)?.capabilities.clone()
    }
}

fn label_cut(theirs: &Capabilities, key: &ManagedKey) -> Option<String> {
    let chars = key.label.as_str().chars().count();
    (!theirs.holds(&key.label)).then(|| {
        let most = theirs.label_chars;
        format!(
            "the token keeps labels of at most {most} characters whole, {:?} has {chars}",
            key.label.as_str()
        )
    })
}

fn not_taken(theirs: &Capabilities, key: &ManagedKey) -> Option<String> {
    let (spec, name) = (key.spec, key.spec.algorithm().name());
    let Some(kind) = theirs.kind(spec.algorithm()) else {
        let taken: Vec<&str> = theirs
            .kinds
            .iter()
            .map(|kind| kind.algorithm.name())
            .collect();
        return Some(format!(
            "the token takes no {name} keys, only {}",
            taken.join(", ")
        ));
    };
    if kind.unwrap == Unwrap::Impossible {
        return Some(format!(
            "the token unwraps no {name} key so that it is hidden and cannot be used yet"
        ));
    }
    if theirs.takes(spec) {
        return None;
    }
    let sizes: Vec<String> = kind.sizes.iter().map(u32::to_string).collect();
    Some(format!(
        "the token takes no {name} keys of {} bits, only of {}",
        spec.bits(),
        sizes.join(", ")
    ))
}
