use lambfold_types::limits;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};
use std::time::Duration;

/// Policy of the pool.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// How long an environment stays without use.
    pub keep_alive: Duration,
    /// Invocations that may be unanswered at a time, in each account and region.
    pub account_concurrency: u32,
    /// Environments that may exist at a time; the idle one that was longest without use makes
    /// room for a new one.
    pub max_environments: u32,
    /// Sum of the MemorySize of all environments that may exist at a time, MiB; makes room in
    /// the same way.
    pub max_memory_mib: u64,
    /// How long an invocation waits when there is no room for an environment, and never longer
    /// than its function's timeout; then it is refused. The oldest invocation is served first,
    /// whatever its function.
    pub room_wait: Duration,
    /// How long an invocation waits for an environment that has answered, and should be free in
    /// a moment, before a new one is created for it.
    pub finish_grace: Duration,
    /// How long [`crate::Pool::drain`] waits for invocations in flight.
    pub drain_grace: Duration,
}

impl Default for PoolConfig {
    /// 10 minutes, AWS's 1000 executions, 1000 environments of any size, 10 s, 20 ms, 30 s.
    fn default() -> Self {
        Self {
            keep_alive: Duration::from_secs(600),
            account_concurrency: limits::ACCOUNT_CONCURRENCY,
            max_environments: limits::ACCOUNT_CONCURRENCY,
            max_memory_mib: u64::MAX,
            room_wait: Duration::from_secs(10),
            finish_grace: Duration::from_millis(20),
            drain_grace: Duration::from_secs(30),
        }
    }
}

/// Counters, for the metrics page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Environments that exist or are being created.
    pub environments: u64,
    /// Sum of their functions' MemorySize, MiB.
    pub memory_mib: u64,
    /// Of the environments, being created.
    pub creating: u64,
    /// Of these, in an invoke phase.
    pub busy: u64,
    /// Of these, waiting for an invocation.
    pub idle: u64,
    /// Of the environments, provisioned ones that are ready or busy.
    pub provisioned: u64,
    /// Invocations accepted and not yet answered.
    pub concurrent_executions: u64,
    /// Invocations that were the first of their environment, since the start.
    pub cold_starts: u64,
    /// Invocations that found or awaited a used environment, since the start.
    pub warm_starts: u64,
    /// Invocations refused for a limit, since the start.
    pub throttles: u64,
    /// Environments that could not be created, since the start.
    pub creation_failures: u64,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) creating: AtomicU32,
    /// Accepted invocations whose phase is not over.
    pub(crate) active: AtomicUsize,
    pub(crate) cold_starts: AtomicU64,
    pub(crate) warm_starts: AtomicU64,
    pub(crate) throttles: AtomicU64,
    pub(crate) creation_failures: AtomicU64,
    pub(crate) next_id: AtomicU64,
}
