use lambfold_types::limits::{STREAM_BURST_BYTES, STREAM_BYTES_PER_S, STREAM_REFILL_MS};
use std::time::Duration;
use tokio::time::Instant;

const REFILL: Duration = Duration::from_millis(STREAM_REFILL_MS);
const REFILL_BYTES: usize = STREAM_BYTES_PER_S * STREAM_REFILL_MS as usize / 1_000;

/// The bandwidth of one streamed response: a bucket of tokens, one a byte (behaviour
/// specification §1.5).
#[derive(Debug)]
pub(super) struct Bucket {
    tokens: usize,
    refilled: Instant,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(now: Instant) -> Self {
        Self { tokens: STREAM_BURST_BYTES, refilled: now }
    }

    /// How many of `wanted` bytes may go now, at least one.
    ///
    /// # Errors
    /// None may: when the next may.
    pub(super) fn take(&mut self, now: Instant, wanted: usize) -> Result<usize, Instant> {
        let passed = now.saturating_duration_since(self.refilled);
        let refills = passed.as_nanos() / REFILL.as_nanos();
        let refills = u32::try_from(refills).unwrap_or(u32::MAX);
        self.refilled += REFILL * refills;
        let fresh = REFILL_BYTES.saturating_mul(refills as usize);
        self.tokens = self.tokens.saturating_add(fresh).min(STREAM_BURST_BYTES);
        if self.tokens == 0 {
            return Err(self.refilled + REFILL);
        }
        let taken = wanted.min(self.tokens);
        self.tokens -= taken;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        assert_eq!(bucket.take(start, 1_000), Ok(1_000));
        assert_eq!(bucket.take(start, usize::MAX), Ok(STREAM_BURST_BYTES - 1_000));
        assert_eq!(bucket.take(start, 1), Err(start + REFILL));
        let before = start + REFILL - Duration::from_nanos(1);
        assert_eq!(bucket.take(before, 1), Err(start + REFILL));
        assert_eq!(bucket.take(start + REFILL, usize::MAX), Ok(262_144));
        assert_eq!(bucket.take(start + REFILL * 2, 1), Ok(1));
        // Nothing is saved up beyond the burst.
        let late = start + Duration::from_secs(3_600);
        assert_eq!(bucket.take(late, usize::MAX), Ok(STREAM_BURST_BYTES));
        assert!(bucket.take(late, 1).is_err());
    }

    proptest! {
        /// Whenever and however much is asked, no more goes than the burst and the rate give.
        #[test]
        fn the_rate_is_never_passed(
            asked in prop::collection::vec((0u64..400, 1usize..3_000_000), 0..60),
        ) {
            let start = Instant::now();
            let mut bucket = Bucket::new(start);
            let (mut now, mut sent) = (start, 0);
            for (wait_ms, wanted) in asked {
                now += Duration::from_millis(wait_ms);
                match bucket.take(now, wanted) {
                    Ok(taken) => {
                        prop_assert!((1..=wanted).contains(&taken));
                        sent += taken;
                    }
                    Err(next) => prop_assert!(next > now && next <= now + REFILL),
                }
                let most = STREAM_BURST_BYTES as f64
                    + (now - start).as_secs_f64() * STREAM_BYTES_PER_S as f64;
                prop_assert!(sent as f64 <= most + 1.0);
            }
        }
    }
}
