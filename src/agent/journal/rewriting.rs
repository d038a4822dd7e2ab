//! When a journal is worth rewriting with what counts: it would grow for ever, and be read whole at the next start.

/// It is rewritten when it holds this many times what is needed.
pub const FACTOR: usize = 2;

/// A journal of fewer records is not worth it.
pub const RECORDS_MIN: usize = 1_000;

/// Says when, while records are appended.
#[derive(Debug, Default)]
pub struct Rewriting {
    /// Where it was asked for and did nothing, such as on a full disk: not again before there are this many.
    not_before: usize,
}

impl Rewriting {
    /// Whether it is due, with so many records for so many instances; it is then taken to be done.
    pub fn is_due(&mut self, records: u64, instances: usize) -> bool {
        let records = usize::try_from(records).unwrap_or(usize::MAX);
        let is_worth = is_worth(records, instances);
        if !is_worth {
            self.not_before = 0;
        }
        let is_due = is_worth && records >= self.not_before;
        if is_due {
            self.not_before = records.saturating_mul(FACTOR);
        }
        is_due
    }
}

/// Whether so many records are too many for what is needed.
#[must_use]
pub const fn is_worth(records: usize, needed: usize) -> bool {
    records >= RECORDS_MIN && records / FACTOR >= needed
}

#[cfg(test)]
mod tests {
    use crate::agent::journal::rewriting::*;

    #[test]
    fn it_is_due_when_half_of_it_counts_no_more_and_once_if_that_fails() {
        let mut rewriting = Rewriting::default();
        assert!(!rewriting.is_due(999, 1), "too few");
        assert!(!rewriting.is_due(1_999, 1_000), "most of it counts");
        assert!(rewriting.is_due(2_000, 1_000));
        assert!(!rewriting.is_due(2_001, 1_000), "it failed");
        assert!(rewriting.is_due(4_000, 1_000), "tried again");
        assert!(!rewriting.is_due(1_003, 1_000), "it was done");
        assert!(rewriting.is_due(2_100, 1_000));
    }
}
