//! Pages of lists.

use crate::coordinator::store;

/// Which part of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// At most this many, 1 to 1000.
    pub limit: u32,
    /// From this one on, 0-based.
    pub offset: u32,
}

impl Page {
    /// The largest page there is.
    pub const LARGEST: Self = Self {
        limit: 1000,
        offset: 0,
    };

    pub(crate) const fn for_store(self) -> store::Page {
        store::Page {
            limit: self.limit,
            offset: self.offset,
        }
    }
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paged<T> {
    /// How many there are in all.
    pub total: u64,
    /// Those of the page.
    pub items: Vec<T>,
}
