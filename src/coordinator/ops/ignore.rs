//! Keys on a token that are left to others, with a reason.

use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::{Call, Permission};
use crate::coordinator::ops::commit::{Done, Draft};
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::found::Select;
use crate::coordinator::ops::keystores::subject;
use crate::coordinator::store::Write;
use crate::model::adoption::{FoundKey, Ignored, REASON_CHARS_MAX};
use crate::model::ids::KeystoreId;
use crate::model::text::hex;

/// Most keys of one keystore that are left to others: as many as an agent tells of.
pub const IGNORED_MAX: usize = 20_000;

impl Ops {
    /// Leaves keys to others: they count as unmanaged no longer. Gives those that it now is so of.
    ///
    /// # Errors
    /// `Invalid` for the reason, or where one key was named and is not there.
    pub async fn keystore_ignore(
        &self,
        call: &Call,
        id: KeystoreId,
        select: &Select,
        reason: &str,
    ) -> Result<Done<Vec<FoundKey>>, OpsError> {
        call.authorise(Permission::KeystoreWrite, None)?;
        check_reason(reason)?;
        let record = self.keystore_record(id).await?;
        call.authorise(Permission::KeystoreWrite, Some(record.vault))?;
        let strangers = self.strangers(id, &self.fleet.live_keystore(id)).await?;
        if let Some(earlier) = self.earlier(call).await? {
            let mut ignored: Vec<FoundKey> =
                strangers.ignored.into_iter().map(|(key, _)| key).collect();
            ignored.retain(|key| select.fits(key));
            return Ok(earlier.done(ignored));
        }
        let already = strangers.ignored.len();
        let again = strangers.ignored.into_iter().map(|(key, _)| key);
        let mut keys: Vec<FoundKey> = strangers.unmanaged;
        // The reason of one that is named may be said anew.
        keys.extend(again.filter(|_| select.cka_id.is_some()));
        keys.retain(|key| select.fits(key));
        check_named(select, &keys)?;
        if keys.len().saturating_add(already) > IGNORED_MAX {
            let most = format!("at most {IGNORED_MAX} keys of a keystore are ignored");
            return Err(OpsError::invalid("label_in_keystore", "too_many", most));
        }
        let at = self.now();
        let writes = keys.iter().map(|key| {
            Write::IgnorePut(Ignored {
                keystore: id,
                cka_id: key.cka_id.clone(),
                label: key.label.clone(),
                reason: reason.to_owned(),
                at,
                by: call.principal.name.clone(),
            })
        });
        let detail = format!("{}: {}; {reason}", record.name, named(&keys));
        let mut draft = Draft::new("keystore.ignore", subject(id), detail);
        draft.writes = writes.collect();
        self.ignoring(call, draft, keys).await
    }

    /// Takes keys back that were left to others. Gives those that it was so of.
    ///
    /// # Errors
    /// `Invalid` where one key was named and is not ignored.
    pub async fn keystore_unignore(
        &self,
        call: &Call,
        id: KeystoreId,
        select: &Select,
    ) -> Result<Done<Vec<FoundKey>>, OpsError> {
        call.authorise(Permission::KeystoreWrite, None)?;
        let record = self.keystore_record(id).await?;
        call.authorise(Permission::KeystoreWrite, Some(record.vault))?;
        if let Some(earlier) = self.earlier(call).await? {
            return Ok(earlier.done(Vec::new()));
        }
        let strangers = self.strangers(id, &self.fleet.live_keystore(id)).await?;
        let mut keys: Vec<FoundKey> = strangers.ignored.into_iter().map(|(key, _)| key).collect();
        keys.retain(|key| select.fits(key));
        check_named(select, &keys)?;
        let writes = keys.iter().map(|key| Write::IgnoreDelete {
            keystore: id,
            cka_id: key.cka_id.clone(),
            label: key.label.clone(),
        });
        let detail = format!("{}: {}", record.name, named(&keys));
        let mut draft = Draft::new("keystore.unignore", subject(id), detail);
        draft.writes = writes.collect();
        self.ignoring(call, draft, keys).await
    }

    async fn ignoring(
        &self,
        call: &Call,
        draft: Draft,
        keys: Vec<FoundKey>,
    ) -> Result<Done<Vec<FoundKey>>, OpsError> {
        if draft.writes.is_empty() {
            return Ok(self.unchanged(call).done(keys));
        }
        Ok(self.commit(call, draft).await?.done(keys))
    }
}

fn check_reason(reason: &str) -> Result<(), OpsError> {
    let fits = (1..=REASON_CHARS_MAX).contains(&reason.trim().chars().count())
        && reason.chars().count() <= REASON_CHARS_MAX
        && !reason.chars().any(char::is_control);
    if fits {
        return Ok(());
    }
    let must = format!("1 to {REASON_CHARS_MAX} characters, no control characters");
    Err(OpsError::invalid("reason", "invalid_reason", must))
}

fn check_named(select: &Select, keys: &[FoundKey]) -> Result<(), OpsError> {
    if keys.is_empty() && select.cka_id.is_some() {
        return Err(no_such_key());
    }
    Ok(())
}

/// One key was named, and is not among those that it is about.
pub(crate) fn no_such_key() -> OpsError {
    OpsError::invalid(
        "key_id_in_keystore",
        "not_found",
        "the token has no such key for this, as last looked at",
    )
}

/// The first few keys, for audit entries.
fn named(keys: &[FoundKey]) -> String {
    let one = |key: &FoundKey| format!("{:?} (CKA_ID {})", key.label, hex(&key.cka_id));
    let mut names: Vec<String> = keys.iter().take(5).map(one).collect();
    if keys.len() > names.len() {
        names.push(format!("and {} more", keys.len().saturating_sub(5)));
    }
    names.join(", ")
}
