//! Lists of the API that come in pages.

use serde::de::DeserializeOwned;

use crate::rest::bulk::{Bulk, BulkKey, BulkKeyList, BulkList};
use crate::rest::extension::{AuditEntry, AuditList, DifferenceList, EstateDifference};
use crate::rest::found::{FoundKey, FoundKeyList};
use crate::rest::keystore::{Keystore, KeystoreList};
use crate::rest::list::PageInfo;
use crate::rest::managed_key::{ManagedKey, ManagedKeyList};
use crate::rest::template::{Template, TemplateList};
use crate::rest::vault::{Vault, VaultList};

/// One page of a list.
pub trait Listing: DeserializeOwned {
    /// What is listed.
    type Item;

    /// Which part it is, and the items.
    fn parts(self) -> (PageInfo, Vec<Self::Item>);
}

macro_rules! listing {
    ($($list:ident.$field:ident: $item:ty,)+) => {
        $(impl Listing for $list {
            type Item = $item;

            fn parts(self) -> (PageInfo, Vec<$item>) {
                (self.page, self.$field)
            }
        })+
    };
}

listing!(
    VaultList.vaults: Vault,
    TemplateList.templates: Template,
    KeystoreList.keystores: Keystore,
    ManagedKeyList.managed_keys: ManagedKey,
    DifferenceList.differences: EstateDifference,
    FoundKeyList.found_keys: FoundKey,
    AuditList.entries: AuditEntry,
    BulkList.bulk_changes: Bulk,
    BulkKeyList.managed_keys: BulkKey,
);
