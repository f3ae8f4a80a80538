//! What is under way: accepted invocations, phases, creations. Each tells the pool how it ended,
//! also when it is dropped on the way.

use crate::pool::Pool;
use crate::slot::{Member, Slot};
use crate::{CreateError, EnvironmentFactory, PoolError};
use lambfold_types::{Answer, PhaseEnd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

/// An accepted invocation.
#[derive(Debug)]
pub struct InFlight {
    /// The result, as soon as it is known.
    pub answer: oneshot::Receiver<Result<Answer, PoolError>>,
    /// The end of the phase; its sender is dropped when the invocation never ran.
    pub end: oneshot::Receiver<PhaseEnd>,
}

/// What an accepted invocation holds: its caller's channels and its part of the limits. Dropped
/// without an answer, it tells the caller that the environment was lost.
pub(crate) struct Ticket<F: EnvironmentFactory> {
    pool: Arc<Pool<F>>,
    answer: Option<oneshot::Sender<Result<Answer, PoolError>>>,
    end: Option<oneshot::Sender<PhaseEnd>>,
}

impl<F: EnvironmentFactory> Ticket<F> {
    /// For an invocation that the limits let pass, with its caller's side.
    pub(crate) fn new(pool: Arc<Pool<F>>) -> (Self, InFlight) {
        let (answer_sender, answer) = oneshot::channel();
        let (end_sender, end) = oneshot::channel();
        let ticket = Self { pool, answer: Some(answer_sender), end: Some(end_sender) };
        (ticket, InFlight { answer, end })
    }

    pub(crate) fn take_end(&mut self) -> Option<oneshot::Sender<PhaseEnd>> {
        self.end.take()
    }

    pub(crate) fn answer(&mut self, result: Result<Answer, PoolError>) {
        if let Some(sender) = self.answer.take() {
            // The place is free before the caller knows, or its next request could be refused.
            self.pool.counters.concurrency.fetch_sub(1, Ordering::SeqCst);
            let _ = sender.send(result);
        }
    }

    /// The invocation never began, or its environment is lost.
    pub(crate) fn fail(mut self, error: PoolError) {
        if matches!(error, PoolError::Throttled { .. }) {
            self.pool.counters.throttles.fetch_add(1, Ordering::Relaxed);
        }
        self.answer(Err(error));
        self.pool.inactive();
    }
}

impl<F: EnvironmentFactory> Drop for Ticket<F> {
    fn drop(&mut self) {
        self.answer(Err(PoolError::Lost));
    }
}

/// The phase of one invocation on one environment; exists until the phase is over. Dropped
/// without an end, it counts as an end after which the environment cannot be used.
pub(crate) struct Phase<F: EnvironmentFactory> {
    pool: Arc<Pool<F>>,
    slot: Arc<Slot<F>>,
    member: Option<Arc<Member<F::Environment>>>,
    end: Option<oneshot::Sender<PhaseEnd>>,
}

impl<F: EnvironmentFactory> Phase<F> {
    pub(crate) fn new(
        pool: Arc<Pool<F>>,
        slot: Arc<Slot<F>>,
        member: Arc<Member<F::Environment>>,
        end: Option<oneshot::Sender<PhaseEnd>>,
    ) -> Self {
        Self { pool, slot, member: Some(member), end }
    }

    pub(crate) fn end(&mut self, end: PhaseEnd) {
        if let Some(member) = self.member.take() {
            self.pool.release(&self.slot, member, end, self.end.take());
        }
    }
}

impl<F: EnvironmentFactory> Drop for Phase<F> {
    fn drop(&mut self) {
        self.end(PhaseEnd { reusable: false, log_tail: None });
    }
}

/// A ticket on its way through `begin`; counts the environment as finishing once it answered.
pub(crate) struct Answering<F: EnvironmentFactory> {
    ticket: Ticket<F>,
    slot: Arc<Slot<F>>,
}

impl<F: EnvironmentFactory> Answering<F> {
    pub(crate) fn new(ticket: Ticket<F>, slot: Arc<Slot<F>>) -> Self {
        Self { ticket, slot }
    }

    pub(crate) fn answer(&mut self, result: Result<Answer, PoolError>) {
        if self.ticket.answer.is_some() {
            self.slot.finishing.fetch_add(1, Ordering::SeqCst);
            self.ticket.answer(result);
        }
    }
}

impl<F: EnvironmentFactory> Drop for Answering<F> {
    fn drop(&mut self) {
        self.answer(Err(PoolError::Lost));
    }
}

/// A creation under way; dropped without a result (a panic, a runtime that ends), it failed.
pub(crate) struct Creation<F: EnvironmentFactory> {
    pool: Arc<Pool<F>>,
    slot: Arc<Slot<F>>,
    done: bool,
}

impl<F: EnvironmentFactory> Creation<F> {
    pub(crate) fn new(pool: Arc<Pool<F>>, slot: Arc<Slot<F>>) -> Self {
        Self { pool, slot, done: false }
    }

    pub(crate) async fn run(mut self) {
        let result = self.pool.factory.create(Arc::clone(&self.slot.version)).await;
        self.done = true;
        self.pool.created(&self.slot, result);
    }
}

impl<F: EnvironmentFactory> Drop for Creation<F> {
    fn drop(&mut self) {
        if !self.done {
            let function = self.slot.version.name.to_string();
            let source = "the task that created it ended early".into();
            self.pool.created(&self.slot, Err(CreateError { function, source }));
        }
    }
}
