//! Taking a keystore out.

use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::{Call, Permission};
use crate::coordinator::ops::commit::{Done, Draft};
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::keystores::subject;
use crate::coordinator::ops::lists::Page;
use crate::coordinator::store::{KeyFilter, Write};
use crate::model::ids::KeystoreId;
use crate::model::keystore::KeystoreRecord;
use crate::model::lifecycle::ManagedState;

/// What happens to the keys on a keystore that is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemovalMode {
    /// Refuse while keys are on it.
    Restrict,
    /// Leave them as they are.
    Disconnect,
    /// Deactivate them there first.
    Deactivate,
    /// Destroy them there first.
    Destroy,
}

impl RemovalMode {
    /// The mode of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "restrict" => Some(Self::Restrict),
            "disconnect" => Some(Self::Disconnect),
            "deactivate" => Some(Self::Deactivate),
            "destroy" => Some(Self::Destroy),
            _ => None,
        }
    }
}

impl Ops {
    /// Removes a keystore's record; its token is left as it is.
    ///
    /// # Errors
    /// `InUse` lists the keys on it; `Refused` with `not_supported_yet` for the modes other than restrict.
    pub async fn keystore_delete(
        &self,
        call: &Call,
        id: KeystoreId,
        mode: RemovalMode,
    ) -> Result<Done<()>, OpsError> {
        call.authorise(Permission::KeystoreWrite, None)?;
        if let Some(earlier) = self.earlier(call).await? {
            return Ok(earlier.done(()));
        }
        let record = self.keystore_record(id).await?;
        call.check_revision(record.revision)?;
        match mode {
            RemovalMode::Restrict => {}
            RemovalMode::Disconnect | RemovalMode::Deactivate | RemovalMode::Destroy => {
                return Err(OpsError::refused(
                    "not_supported_yet",
                    "only mode=restrict is there yet: unassign or destroy the keys first",
                ));
            }
        }
        let mut draft = Draft::new("keystore.delete", subject(id), record.name.clone());
        draft.status = 204;
        draft.writes = self.forget_target(call, &record).await?;
        draft.writes.push(Write::KeystoreDelete {
            id,
            expected: record.revision,
        });
        draft.wake.push(id);
        let committed = self.commit(call, draft).await;
        Ok(self.keystore_conflict(committed, id).await?.done(()))
    }

    /// Keys that were never installed anywhere do not hold a keystore: it leaves their targets.
    async fn forget_target(
        &self,
        call: &Call,
        record: &KeystoreRecord,
    ) -> Result<Vec<Write>, OpsError> {
        let mut writes = Vec::new();
        let mut page = Page::LARGEST;
        loop {
            let filter = KeyFilter {
                vault: Some(record.vault),
                states: vec![ManagedState::PreActivation],
                ..KeyFilter::default()
            };
            let found = self.store.key_list(filter, page.for_store()).await?;
            let is_last = found.items.len() < usize::try_from(page.limit).unwrap_or(usize::MAX);
            for mut key in found.items {
                if key.targets.remove(&record.id) {
                    let expected = key.revision;
                    key.revision = expected.next();
                    key.stamps.touch(self.now(), &call.principal.name);
                    writes.push(Write::KeyUpdate {
                        record: Box::new(key),
                        expected,
                    });
                }
            }
            if is_last {
                return Ok(writes);
            }
            page.offset = page.offset.saturating_add(page.limit);
        }
    }
}
