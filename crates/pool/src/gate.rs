//! Who may run: the limits of accounts and functions, as counters without a lock.

use crate::{PoolError, ThrottleReason};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Nothing is reserved.
const NONE: u32 = u32::MAX;
const UNIT: &str = "concurrent executions";

/// What the functions of one account and region share when nothing is reserved for them.
pub(crate) struct Account {
    limit: AtomicU32,
    running: AtomicU32,
}

/// What all versions of one function share.
pub(crate) struct Gate {
    account: Arc<Account>,
    /// What is reserved for it, or [`NONE`].
    reserved: AtomicU32,
    /// What is left of it beside provisioned environments.
    on_demand: AtomicU32,
    /// Invocations that took no provisioned place.
    running: AtomicU32,
}

/// What an accepted invocation counts against until it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The provisioned environments of its version.
    Provisioned,
    /// What is reserved for its function.
    Reserved,
    /// What the account shares.
    Unreserved,
}

/// Counts one more, up to the limit.
pub(crate) fn raise(count: &AtomicU32, limit: u32) -> bool {
    let more = |count: u32| (count < limit).then_some(count + 1);
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
}

impl Account {
    pub(crate) fn new(limit: u32) -> Self {
        Self { limit: AtomicU32::new(limit), running: AtomicU32::new(0) }
    }

    pub(crate) fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::SeqCst);
    }
}

impl Gate {
    pub(crate) fn new(account: Arc<Account>) -> Self {
        let zero = AtomicU32::new(0);
        Self {
            account,
            reserved: AtomicU32::new(NONE),
            on_demand: AtomicU32::new(0),
            running: zero,
        }
    }

    /// Invocations that run now and took no provisioned place.
    pub(crate) fn running(&self) -> u32 {
        self.running.load(Ordering::SeqCst)
    }

    /// `provisioned`: the environments that are allocated of what is reserved.
    pub(crate) fn set_reserved(&self, reserved: Option<u32>, provisioned: u32) {
        let limit = reserved.unwrap_or(0).saturating_sub(provisioned);
        self.on_demand.store(limit, Ordering::SeqCst);
        self.reserved.store(reserved.map_or(NONE, |limit| limit.min(NONE - 1)), Ordering::SeqCst);
    }

    pub(crate) fn enter(&self) -> Result<Place, PoolError> {
        let reserved = self.reserved.load(Ordering::SeqCst);
        if reserved != NONE {
            if raise(&self.running, self.on_demand.load(Ordering::SeqCst)) {
                return Ok(Place::Reserved);
            }
            return Err(PoolError::Throttled {
                reason: ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded,
                limit: reserved,
                unit: UNIT,
            });
        }
        let limit = self.account.limit.load(Ordering::SeqCst);
        if !raise(&self.account.running, limit) {
            return Err(PoolError::Throttled {
                reason: ThrottleReason::ConcurrentInvocationLimitExceeded,
                limit,
                unit: UNIT,
            });
        }
        self.running.fetch_add(1, Ordering::SeqCst);
        Ok(Place::Unreserved)
    }

    /// The other end of [`Gate::enter`].
    pub(crate) fn leave(&self, place: Place) {
        match place {
            Place::Provisioned => {}
            Place::Reserved => {
                self.running.fetch_sub(1, Ordering::SeqCst);
            }
            Place::Unreserved => {
                self.running.fetch_sub(1, Ordering::SeqCst);
                self.account.running.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gates() -> (Arc<Account>, Gate, Gate) {
        let account = Arc::new(Account::new(2));
        let gate = || Gate::new(Arc::clone(&account));
        let (one, other) = (gate(), gate());
        (account, one, other)
    }

    #[test]
    fn the_account_is_shared_and_what_is_reserved_is_not() {
        let (account, one, other) = gates();
        one.set_reserved(Some(1), 0);
        account.set_limit(1);
        assert_eq!(one.enter().ok(), Some(Place::Reserved));
        assert_eq!(other.enter().ok(), Some(Place::Unreserved));
        let refused = one.enter().map_err(|error| error.to_string());
        let text = "throttled by ReservedFunctionConcurrentInvocationLimitExceeded: the limit is 1 concurrent executions";
        assert_eq!(refused, Err(text.to_owned()));
        let refused = other.enter().map_err(|error| error.to_string());
        let text =
            "throttled by ConcurrentInvocationLimitExceeded: the limit is 1 concurrent executions";
        assert_eq!(refused, Err(text.to_owned()));
        one.leave(Place::Reserved);
        other.leave(Place::Unreserved);
        assert!(one.enter().is_ok() && other.enter().is_ok());
    }

    #[test]
    fn what_runs_counts_when_a_limit_is_set_and_leaves_what_it_took() {
        let (_, one, other) = gates();
        assert_eq!(one.enter().ok(), Some(Place::Unreserved));
        one.set_reserved(Some(1), 0);
        assert!(one.enter().is_err(), "the running one counts");
        one.leave(Place::Unreserved);
        assert_eq!(one.enter().ok(), Some(Place::Reserved));
        one.set_reserved(None, 0);
        assert!(other.enter().is_ok() && other.enter().is_ok(), "the account is free again");
        one.leave(Place::Reserved);
    }

    #[test]
    fn provisioned_environments_are_part_of_what_is_reserved() {
        let (_, one, _) = gates();
        one.set_reserved(Some(3), 2);
        assert!(one.enter().is_ok());
        assert!(one.enter().is_err());
        one.set_reserved(Some(2), 2);
        one.leave(Place::Reserved);
        assert!(one.enter().is_err(), "nothing is left on demand");
    }
}
