//! How long a job that only looks keeps the token to itself: what reduces use may be waiting.

use rustix::time::{ClockId, clock_gettime};

/// After this long nothing further is begun, milliseconds.
const SLICE_MS: u64 = 100;

/// A job that ends when its time is over.
#[derive(Debug)]
pub(crate) struct Slicing {
    began_ms: u64,
}

impl Slicing {
    pub(crate) fn begin() -> Self {
        Self { began_ms: now_ms() }
    }

    /// Whether its time is over.
    pub(crate) fn is_over(&self) -> bool {
        now_ms().saturating_sub(self.began_ms) >= SLICE_MS
    }
}

/// A clock that never goes back, milliseconds.
fn now_ms() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let ms = now.tv_sec.saturating_mul(1_000);
    let ms = ms.saturating_add(now.tv_nsec / 1_000_000);
    u64::try_from(ms).unwrap_or(0)
}
