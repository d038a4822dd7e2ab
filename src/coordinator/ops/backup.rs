//! Backups: a consistent copy of the store while it goes on working, for whoever is to seal it.

use std::fs::File;

use crate::clock;
use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::{Call, Permission};
use crate::coordinator::ops::commit::Draft;
use crate::coordinator::ops::errors::OpsError;

impl Ops {
    /// A copy of the store as of now, in an open file without a name; that it was made is noted. The copy says of itself that it
    /// is one: who opens it as a store finds it restored.
    ///
    /// # Errors
    /// `Full`, `Unavailable`.
    pub async fn backup(&self, call: &Call) -> Result<File, OpsError> {
        call.authorise(Permission::StoreBackup, None)?;
        let copy = self.store.backup(clock::unix_ms()).await?;
        let draft = Draft::new("store.backup", "store".to_owned(), String::new());
        self.commit(call, draft).await?;
        Ok(copy)
    }
}
