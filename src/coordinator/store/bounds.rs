//! How much of anything there may be, and what keys can be sorted by: the same in every store.

use crate::coordinator::store::StoreError;
use crate::coordinator::store::encoded::because;

/// Writes in one change: a destroyed key with ten thousand keystores fits several times.
pub const WRITES_MAX: usize = 65_536;

/// How long an operation is remembered, milliseconds: 30 days.
pub(crate) const OPERATION_AGE_MAX_MS: i64 = 30 * 24 * 60 * 60 * 1000;

/// How long a bulk change that ended is kept with its keys, milliseconds: 90 days. The audit log keeps what it did.
pub(crate) const BULK_AGE_MAX_MS: i64 = 90 * 24 * 60 * 60 * 1000;

/// Old operations that one new one removes: more than one, so that they get fewer; few, so that no change waits for it, and a
/// clock that jumps forgets little.
pub(crate) const PRUNED_MAX: u32 = 4;

/// Blockers that are told by name.
pub(crate) const BLOCKERS_MAX: u32 = 20;

/// Rows of one page.
pub const PAGE_LIMIT_MAX: u32 = 1000;

/// Fields that one list is sorted by.
pub const SORT_FIELDS_MAX: usize = 8;

/// The columns of a key list's order, true: descending. Ties by id, so that pages neither skip nor repeat.
///
/// # Errors
/// `Unavailable` if there are too many fields, or one that keys cannot be sorted by.
pub(crate) fn key_order(sort: &[(String, bool)]) -> Result<Vec<(&'static str, bool)>, StoreError> {
    if sort.len() > SORT_FIELDS_MAX {
        return Err(because("too many fields to sort by"));
    }
    let mut order = Vec::new();
    for (field, descending) in sort {
        let column = match field.as_str() {
            "label" => "label",
            "algorithm" => "algorithm",
            "size" => "bits",
            "state" => "state",
            "activation_date" => "activation_date",
            "expiration_date" | "deactivation_date" => "expiration_date",
            "created_at" => "created_at",
            "updated_at" => "updated_at",
            "vault.id" => "vault",
            "id" => "id",
            _unknown => return Err(because(&format!("keys cannot be sorted by {field:?}"))),
        };
        order.push((column, *descending));
    }
    order.push(("id", false));
    Ok(order)
}
