//! Faults on purpose (`lambfold fault`) that act before an environment is there.

use crate::port::Placement;
use lambfold_fault::{Faults, Kind};
use lambfold_pool::{InFlight, PoolError, ThrottleReason};
use lambfold_types::{FunctionVersion, Invocation, InvocationKind};
use std::sync::Arc;

/// A placement that throttles, and delivers events of the queue twice, where that is asked for.
///
/// A synchronous invocation is never doubled: AWS promises at least one delivery of asynchronous
/// events, and exactly one run of what somebody waits for.
#[derive(Debug, Clone)]
pub struct Spoiled<P> {
    inner: P,
    faults: Arc<Faults>,
}

impl<P> Spoiled<P> {
    /// Over another placement.
    #[must_use]
    pub fn new(inner: P, faults: Arc<Faults>) -> Self {
        Self { inner, faults }
    }
}

impl<P: Placement> Placement for Spoiled<P> {
    fn invoke(
        &self,
        version: Arc<FunctionVersion>,
        invocation: Invocation,
    ) -> Result<InFlight, PoolError> {
        if !self.faults.any() {
            return self.inner.invoke(version, invocation);
        }
        let id = invocation.request_id;
        if let Some(strike) = self.faults.strikes(&version, Kind::Throttle) {
            self.faults.tell(&strike, &format!("the invocation of RequestId: {id} is throttled"));
            return Err(PoolError::Throttled {
                reason: ThrottleReason::ConcurrentInvocationLimitExceeded,
                limit: 0,
                unit: "concurrent executions, since a fault on purpose is on",
            });
        }
        let twice = invocation.kind == InvocationKind::Asynchronous;
        let strike = twice.then(|| self.faults.strikes(&version, Kind::Duplicate)).flatten();
        if let Some(strike) = strike {
            let second = self.inner.invoke(Arc::clone(&version), invocation.clone());
            let what = match second {
                // It runs on, and nobody waits for it.
                Ok(_) => format!("the event of RequestId: {id} is delivered twice"),
                Err(error) => {
                    format!("the event of RequestId: {id} could not be delivered twice: {error}")
                }
            };
            self.faults.tell(&strike, &what);
        }
        self.inner.invoke(version, invocation)
    }
}
