//! What is under way: accepted invocations, phases, creations. Each tells the pool how it ended,
//! also when it is dropped on the way.

use crate::gate::Place;
use crate::pool::Pool;
use crate::slot::{Member, Slot};
use crate::{CreateError, EnvironmentFactory, PoolError};
use lambfold_types::{Answer, InitializationType, PhaseEnd};
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

/// The other side of an [`InFlight`].
pub(crate) struct Caller {
    answer: oneshot::Sender<Result<Answer, PoolError>>,
    end: oneshot::Sender<PhaseEnd>,
}

impl Caller {
    pub(crate) fn new() -> (Self, InFlight) {
        let (answer_sender, answer) = oneshot::channel();
        let (end_sender, end) = oneshot::channel();
        (Self { answer: answer_sender, end: end_sender }, InFlight { answer, end })
    }
}

/// What an accepted invocation holds: its caller's channels and its place within the limits.
/// Dropped without an answer, it tells the caller that the environment was lost.
pub(crate) struct Ticket<F: EnvironmentFactory> {
    pool: Arc<Pool<F>>,
    slot: Arc<Slot<F>>,
    pub(crate) place: Place,
    answer: Option<oneshot::Sender<Result<Answer, PoolError>>>,
    end: Option<oneshot::Sender<PhaseEnd>>,
}

impl<F: EnvironmentFactory> Ticket<F> {
    /// For an invocation that was given a place in the slot.
    pub(crate) fn new(
        pool: Arc<Pool<F>>,
        slot: Arc<Slot<F>>,
        place: Place,
        caller: Caller,
    ) -> Self {
        let Caller { answer, end } = caller;
        Self { pool, slot, place, answer: Some(answer), end: Some(end) }
    }

    pub(crate) fn take_end(&mut self) -> Option<oneshot::Sender<PhaseEnd>> {
        self.end.take()
    }

    pub(crate) fn answer(&mut self, result: Result<Answer, PoolError>) {
        if let Some(sender) = self.answer.take() {
            // The place is free before the caller knows, or its next request could be refused.
            self.slot.leave(self.place);
            let _ = sender.send(result);
        }
    }

    /// The invocation never began, or its environment is lost.
    pub(crate) fn fail(mut self, error: PoolError) {
        if matches!(error, PoolError::Throttled { .. } | PoolError::NoRoom { .. }) {
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
pub(crate) struct Answering<F: EnvironmentFactory>(pub(crate) Ticket<F>);

impl<F: EnvironmentFactory> Answering<F> {
    pub(crate) fn answer(&mut self, result: Result<Answer, PoolError>) {
        if self.0.answer.is_some() {
            self.0.slot.finishing.fetch_add(1, Ordering::SeqCst);
            self.0.answer(result);
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
    initialization: InitializationType,
    done: bool,
}

impl<F: EnvironmentFactory> Creation<F> {
    pub(crate) fn new(
        pool: Arc<Pool<F>>,
        slot: Arc<Slot<F>>,
        initialization: InitializationType,
    ) -> Self {
        Self { pool, slot, initialization, done: false }
    }

    pub(crate) async fn run(mut self) {
        let version = Arc::clone(&self.slot.version);
        let result = self.pool.factory.create(version, self.initialization).await;
        self.finish(result);
    }

    fn finish(&mut self, result: Result<Arc<F::Environment>, CreateError>) {
        self.done = true;
        match self.initialization {
            InitializationType::OnDemand => self.pool.created(&self.slot, result),
            InitializationType::ProvisionedConcurrency => {
                self.pool.provisioned_one(&self.slot, result);
            }
        }
    }
}

impl<F: EnvironmentFactory> Drop for Creation<F> {
    fn drop(&mut self) {
        if !self.done {
            let function = self.slot.version.name.to_string();
            let source = "the task that created it ended early".into();
            self.finish(Err(CreateError { function, source }));
        }
    }
}
