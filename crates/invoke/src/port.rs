//! What invocations need of the rest, as small traits: real ones in the server, fakes in tests.

use lambfold_control::{Control, ControlError, Resolved};
use lambfold_pool::{EnvironmentFactory, InFlight, Pool, PoolError};
use lambfold_store::{Event, EventId, NewEvent, Store, StoreError};
use lambfold_types::{FunctionVersion, Invocation, Scope};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::watch;

/// A boxed future of the queue.
pub type PortFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Finds functions, in memory.
pub trait Functions: Send + Sync + 'static {
    /// What a caller's words mean; see [`Control::resolve_to_run`].
    ///
    /// # Errors
    /// When there is no such function or version, or the words contradict each other.
    fn resolve(
        &self,
        scope: &Scope,
        function: &str,
        qualifier: Option<&str>,
    ) -> Result<Resolved, ControlError>;
}

impl Functions for Control {
    fn resolve(
        &self,
        scope: &Scope,
        function: &str,
        qualifier: Option<&str>,
    ) -> Result<Resolved, ControlError> {
        self.resolve_to_run(scope, function, qualifier)
    }
}

/// Runs invocations.
pub trait Placement: Send + Sync + 'static {
    /// See [`Pool::invoke`].
    ///
    /// # Errors
    /// When a limit is reached or the server is shutting down.
    fn invoke(
        &self,
        version: Arc<FunctionVersion>,
        invocation: Invocation,
    ) -> Result<InFlight, PoolError>;
}

impl<F: EnvironmentFactory> Placement for Arc<Pool<F>> {
    fn invoke(
        &self,
        version: Arc<FunctionVersion>,
        invocation: Invocation,
    ) -> Result<InFlight, PoolError> {
        Pool::invoke(self, version, invocation)
    }
}

/// The durable queue; see [`lambfold_store::Backend`] for what each does.
pub trait Queue: Send + Sync + 'static {
    /// Durable when it returns.
    fn enqueue(&self, event: NewEvent) -> PortFuture<'_, EventId>;
    /// Leases up to `limit` events that are due, in turn by function: one that holds as many
    /// leases as are left of `room` gets no more.
    fn due_fair(&self, now_ms: u64, room: usize, limit: usize) -> PortFuture<'_, Vec<Event>>;
    /// When the next event is due that is not leased.
    fn next_due_ms(&self) -> PortFuture<'_, Option<u64>>;
    /// The event is done.
    fn ack(&self, id: EventId) -> PortFuture<'_, ()>;
    /// The event failed and is due again later.
    fn retry(&self, id: EventId, not_before_ms: u64) -> PortFuture<'_, ()>;
    /// The event could not run and is due again later.
    fn postpone(&self, id: EventId, not_before_ms: u64) -> PortFuture<'_, ()>;
    /// Counts up whenever an event was added or handed back.
    fn changes(&self) -> watch::Receiver<u64>;
}

impl Queue for Store {
    fn enqueue(&self, event: NewEvent) -> PortFuture<'_, EventId> {
        Box::pin(self.enqueue(event))
    }

    fn due_fair(&self, now_ms: u64, room: usize, limit: usize) -> PortFuture<'_, Vec<Event>> {
        Box::pin(self.due_fair(now_ms, room, limit))
    }

    fn next_due_ms(&self) -> PortFuture<'_, Option<u64>> {
        Box::pin(self.next_due_ms())
    }

    fn ack(&self, id: EventId) -> PortFuture<'_, ()> {
        Box::pin(self.ack(id))
    }

    fn retry(&self, id: EventId, not_before_ms: u64) -> PortFuture<'_, ()> {
        Box::pin(self.retry(id, not_before_ms))
    }

    fn postpone(&self, id: EventId, not_before_ms: u64) -> PortFuture<'_, ()> {
        Box::pin(self.postpone(id, not_before_ms))
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.queue_changes()
    }
}
