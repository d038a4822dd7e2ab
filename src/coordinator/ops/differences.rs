//! Differences over the whole estate.

use crate::coordinator::ops::Ops;
use crate::coordinator::ops::access::{Call, Permission};
use crate::coordinator::ops::errors::OpsError;
use crate::coordinator::ops::lists::{Page, Paged};
use crate::coordinator::ops::status::InKeystore;
use crate::coordinator::store::InstanceRow;
use crate::decide::difference::differences;
use crate::model::desired::Instance;
use crate::model::difference::{Difference, Reason, Weight};
use crate::model::ids::{KeyId, KeystoreId, VaultId};
use crate::model::keystore::KeystoreRecord;
use crate::model::live::Terms;
use crate::model::vault::UnixMs;

/// Which differences.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DifferenceQuery {
    /// Of keys of this vault.
    pub vault: Option<VaultId>,
    /// On this keystore.
    pub keystore: Option<KeystoreId>,
    /// With this reason.
    pub reason: Option<Reason>,
    /// Of this weight.
    pub weight: Option<Weight>,
}

impl DifferenceQuery {
    fn fits(&self, difference: &Difference) -> bool {
        self.reason.is_none_or(|reason| difference.reason == reason)
            && self.weight.is_none_or(|weight| difference.weight == weight)
    }
}

/// An instance with a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DifferenceView {
    /// The key.
    pub key: KeyId,
    /// Its label.
    pub label: String,
    /// The keystore's truth, with the differences.
    pub in_keystore: InKeystore,
}

impl Ops {
    /// All instances that are not as wanted, or rest on what does not hold any more, by keystore name and label.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn difference_list(
        &self,
        call: &Call,
        query: DifferenceQuery,
        page: Page,
    ) -> Result<Paged<DifferenceView>, OpsError> {
        call.authorise(Permission::Read, query.vault)?;
        let records = match query.keystore {
            None => self.keystore_records(query.vault, None).await?,
            Some(id) => self.store.keystore(id).await?.into_iter().collect(),
        };
        let now = self.now();
        let offset = u64::from(page.offset);
        let end = offset.saturating_add(u64::from(page.limit));
        let mut total = 0_u64;
        let mut items = Vec::new();
        let of_vault = |record: &&KeystoreRecord| query.vault.is_none_or(|v| record.vault == v);
        for record in records.iter().filter(of_vault) {
            let mut rows = self.store.keystore_instances(record.id).await?;
            let terms = self.terms(record).await?;
            rows.retain(|row| self.differs(&row.instance, &terms, query, now));
            rows.sort_by(|a, b| place(a).cmp(&place(b)));
            for row in rows {
                if (offset..end).contains(&total) {
                    items.push(self.difference(record, row, &terms, now).await?);
                }
                total = total.saturating_add(1);
            }
        }
        Ok(Paged { total, items })
    }

    fn differs(
        &self,
        instance: &Instance,
        terms: &Terms,
        query: DifferenceQuery,
        now: UnixMs,
    ) -> bool {
        let live = self
            .fleet
            .live(instance.intent.keystore, instance.intent.version);
        let late_after_ms = self.limits.late_after_ms;
        differences(instance, &live, terms, now, late_after_ms)
            .iter()
            .any(|difference| query.fits(difference))
    }

    async fn difference(
        &self,
        record: &KeystoreRecord,
        row: InstanceRow,
        terms: &Terms,
        now: UnixMs,
    ) -> Result<DifferenceView, OpsError> {
        let seen = self.store.seen(row.instance.intent.version).await?;
        let last = seen
            .into_iter()
            .find(|(keystore, _)| *keystore == record.id);
        Ok(DifferenceView {
            key: row.key,
            // An adopted instance has a label of its own.
            label: self.key_record(row.key).await?.label.to_string(),
            in_keystore: self.row(record, row.instance, terms, last.map(|(_, last)| last), now),
        })
    }
}

/// Where a row stands among those of its keystore.
fn place(row: &InstanceRow) -> (&str, KeyId) {
    (&row.instance.intent.object.label, row.key)
}
