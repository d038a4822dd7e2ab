//! The only place where a clock is read. What is decided gets its times as arguments.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::model::vault::UnixMs;

/// Now, for people and records. Nothing is ordered by it.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn unix_ms() -> UnixMs {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    UnixMs(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// Where a part of the program has its wall clock from: the system's, or one that a test sets.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> UnixMs + Send + Sync>);

impl WallClock {
    /// The system's.
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::new(unix_ms))
    }

    /// Another one.
    #[must_use]
    pub fn of(read: impl Fn() -> UnixMs + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// What it says.
    #[must_use]
    pub fn now(&self) -> UnixMs {
        (self.0)()
    }
}

impl std::fmt::Debug for WallClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WallClock")
    }
}

/// A point in monotonic time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Monotonic(Instant);

impl Monotonic {
    /// This moment.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    pub fn now() -> Self {
        Self(Instant::now())
    }

    /// How long ago it was.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        Self::now().0.saturating_duration_since(self.0)
    }

    /// How long ago it was, in whole milliseconds.
    #[must_use]
    pub fn elapsed_ms(self) -> u64 {
        u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
