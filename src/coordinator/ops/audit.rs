//! The audit log, as far as it is read.

use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::{Call, Permission};
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::lists::{Page, Paged};
use crate::model::audit::AuditEntry;

impl Ops {
    /// The newest entries about a subject such as `key/<id>` (none: all), newest first.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn audit_list(
        &self,
        call: &Call,
        subject: Option<String>,
        page: Page,
    ) -> Result<Paged<AuditEntry>, OpsError> {
        call.authorise(Permission::AuditRead, None)?;
        let found = self.store.audit_list(subject, page.for_store()).await?;
        Ok(Paged {
            total: found.total,
            items: found.items,
        })
    }
}
