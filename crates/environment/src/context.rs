use crate::output::Moment;
use lambfold_runtime_api::Event;
use lambfold_sandbox::Command;
use lambfold_types::{Clock, FunctionVersion, Invocation};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::time::Instant;

/// What never changes in an environment's life, and one counter.
pub(crate) struct Context {
    pub(crate) version: Arc<FunctionVersion>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Starts the bootstrap.
    pub(crate) command: Command,
    /// Budget of the init phase.
    pub(crate) init_limit: Duration,
    /// How many runtime processes were given up: connections of earlier ones are closed.
    pub(crate) generation: AtomicU64,
}

/// One moment, by each of the clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// For deadlines.
    pub(crate) instant: Instant,
    /// For the log and for durations.
    pub(crate) moment: Moment,
}

impl Now {
    pub(crate) fn us(self) -> u64 {
        self.moment.monotonic_us
    }
}

impl Context {
    pub(crate) fn now(&self) -> Now {
        Now { instant: Instant::now(), moment: self.moment() }
    }

    pub(crate) fn moment(&self) -> Moment {
        let (epoch_ms, monotonic_us) = (self.clock.epoch_ms(), self.clock.monotonic_us());
        Moment { epoch_ms, monotonic_us }
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.version.timeout_s.into())
    }

    pub(crate) fn timeout_us(&self) -> u64 {
        u64::from(self.version.timeout_s) * 1_000_000
    }

    /// The event that the runtime gets for an invocation that is received now.
    pub(crate) fn event(&self, invocation: Invocation, now: Now) -> Event {
        let deadline_ms = now.moment.epoch_ms + u64::from(self.version.timeout_s) * 1000;
        Event { invocation, deadline_ms }
    }
}
