use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Where the time comes from, so that policies can be tested without waiting.
///
/// Wall time is for what users read (log times, deadlines in headers); durations are measured
/// with [`Clock::monotonic_us`] alone, since wall time may jump.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch.
    fn epoch_ms(&self) -> u64;
    /// Microseconds since an arbitrary fixed moment; never goes back.
    fn monotonic_us(&self) -> u64;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic zero is now.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn epoch_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    fn monotonic_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

/// A clock that moves only when told to; for tests.
#[derive(Debug, Default)]
pub struct ManualClock {
    epoch_us: AtomicU64,
    monotonic_us: AtomicU64,
}

impl ManualClock {
    /// A clock that stands at `epoch_ms`.
    #[must_use]
    pub fn at(epoch_ms: u64) -> Self {
        Self { epoch_us: AtomicU64::new(epoch_ms * 1000), monotonic_us: AtomicU64::new(0) }
    }

    /// Moves both times forward.
    pub fn advance_ms(&self, ms: u64) {
        self.epoch_us.fetch_add(ms * 1000, Ordering::SeqCst);
        self.monotonic_us.fetch_add(ms * 1000, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn epoch_ms(&self) -> u64 {
        self.epoch_us.load(Ordering::SeqCst) / 1000
    }

    fn monotonic_us(&self) -> u64 {
        self.monotonic_us.load(Ordering::SeqCst)
    }
}
