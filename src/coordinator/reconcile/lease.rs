//! Until when this coordinator may act on keystores that it shares with others: by its own clock, counted from before it asked.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Monotonic;

/// The leases of this process, all renewed together.
#[derive(Debug)]
pub(crate) struct Lease {
    started: Monotonic,
    /// Milliseconds after `started`.
    until_ms: AtomicU64,
}

impl Lease {
    /// Nothing is held yet.
    pub(crate) const fn new(started: Monotonic) -> Self {
        Self {
            started,
            until_ms: AtomicU64::new(0),
        }
    }

    /// It holds until then.
    pub(crate) fn renew(&self, until_ms: u64) {
        self.until_ms.store(until_ms, Ordering::Release);
    }

    /// Whether it holds still. After a pause of the whole process it is asked before anything is sent.
    pub(crate) fn holds(&self) -> bool {
        self.left_ms() > 0
    }

    /// How much longer, milliseconds.
    pub(crate) fn left_ms(&self) -> u64 {
        let until = self.until_ms.load(Ordering::Acquire);
        until.saturating_sub(self.started.elapsed_ms())
    }
}

#[cfg(test)]
mod tests {
    use crate::clock::Monotonic;
    use crate::coordinator::reconcile::lease::Lease;

    #[test]
    fn it_ends_by_itself() {
        let lease = Lease::new(Monotonic::now());
        assert!(!lease.holds(), "nothing is held before the first round");
        lease.renew(1_000_000);
        assert!(lease.holds());
        assert!(lease.left_ms() > 900_000);
        lease.renew(0);
        assert!(!lease.holds());
    }
}
