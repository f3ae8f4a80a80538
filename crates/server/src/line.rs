//! Invocations of a function that has a shell: they go to the shell's environment, one at a time, in
//! the order in which they came.

use crate::factory::Factory;
use lambfold_environment::{Environment, ShellEnd};
use lambfold_invoke::Placement;
use lambfold_pool::{InFlight, Pool, PoolError, ThrottleReason};
use lambfold_types::{Answer, FunctionVersion, Invocation, PhaseEnd};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{oneshot, watch};

/// Invocations that may wait for one shell.
const WAITING: u32 = 1_000;

/// Places invocations: with the shell of their version where there is one, else in the pool.
pub(crate) struct Places {
    pub(crate) pool: Arc<Pool<Factory>>,
    pub(crate) lines: Arc<Lines>,
}

impl Placement for Places {
    fn invoke(
        &self,
        version: Arc<FunctionVersion>,
        invocation: Invocation,
    ) -> Result<InFlight, PoolError> {
        match self.lines.find(&version) {
            Some(line) => line.invoke(&self.pool, version, invocation),
            None => self.pool.invoke(version, invocation),
        }
    }
}

/// All versions that have a shell.
#[derive(Default)]
pub(crate) struct Lines {
    /// While it is 0, which is nearly always, nothing else is looked at.
    count: AtomicUsize,
    all: Mutex<Vec<Arc<Line>>>,
}

/// One version.
pub(crate) struct Line {
    version: Arc<FunctionVersion>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    shell: Option<Host>,
    waiting: VecDeque<Waiter>,
    closed: bool,
}

struct Host {
    environment: Arc<Environment>,
    end: watch::Receiver<Option<ShellEnd>>,
    /// Whoever plays the runtime waits for an event.
    free: bool,
}

struct Waiter {
    version: Arc<FunctionVersion>,
    invocation: Invocation,
    answer: oneshot::Sender<Result<Answer, PoolError>>,
    end: oneshot::Sender<PhaseEnd>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_same(one: &FunctionVersion, other: &FunctionVersion) -> bool {
    one.scope == other.scope
        && one.name == other.name
        && one.version == other.version
        && one.revision == other.revision
}

impl Lines {
    fn find(&self, version: &FunctionVersion) -> Option<Arc<Line>> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        lock(&self.all).iter().find(|line| is_same(&line.version, version)).cloned()
    }

    /// A line for a version that has none.
    pub(crate) fn open(
        &self,
        version: &Arc<FunctionVersion>,
        limit: usize,
    ) -> Result<Arc<Line>, Full> {
        let mut all = lock(&self.all);
        if all.iter().any(|line| is_same(&line.version, version)) {
            return Err(Full::Taken);
        }
        if all.len() >= limit {
            return Err(Full::TooMany);
        }
        let line = Arc::new(Line { version: Arc::clone(version), state: Mutex::default() });
        all.push(Arc::clone(&line));
        self.count.store(all.len(), Ordering::Relaxed);
        Ok(line)
    }

    /// The shell has ended. Who still waits goes to ordinary environments.
    pub(crate) fn close(&self, line: &Arc<Line>, pool: &Arc<Pool<Factory>>) {
        let mut all = lock(&self.all);
        all.retain(|other| !Arc::ptr_eq(other, line));
        self.count.store(all.len(), Ordering::Relaxed);
        drop(all);
        let mut state = lock(&line.state);
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        for Waiter { version, invocation, answer, end } in waiting {
            match pool.invoke(version, invocation) {
                Ok(in_flight) => {
                    tokio::spawn(async move {
                        let answered = in_flight.answer.await;
                        let _ = answer.send(answered.unwrap_or(Err(PoolError::Lost)));
                        if let Ok(ended) = in_flight.end.await {
                            let _ = end.send(ended);
                        }
                    });
                }
                Err(error) => {
                    let _ = answer.send(Err(error));
                }
            }
        }
    }
}

/// Why there is no line.
pub(crate) enum Full {
    Taken,
    TooMany,
}

impl Line {
    /// The shell is there; it takes invocations once it is free.
    pub(crate) fn attach(
        &self,
        environment: Arc<Environment>,
        end: watch::Receiver<Option<ShellEnd>>,
    ) {
        lock(&self.state).shell = Some(Host { environment, end, free: false });
    }

    fn invoke(
        self: Arc<Self>,
        pool: &Arc<Pool<Factory>>,
        version: Arc<FunctionVersion>,
        invocation: Invocation,
    ) -> Result<InFlight, PoolError> {
        let mut state = lock(&self.state);
        if state.closed {
            drop(state);
            return pool.invoke(version, invocation);
        }
        if state.waiting.len() >= WAITING as usize {
            let reason = ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded;
            let unit = "invocations that wait for the shell of their function";
            return Err(PoolError::Throttled { reason, limit: WAITING, unit });
        }
        let (answer, answered) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        state.waiting.push_back(Waiter { version, invocation, answer, end });
        drop(state);
        self.serve();
        Ok(InFlight { answer: answered, end: ended })
    }

    /// Whoever plays the runtime waits for an event from now on.
    pub(crate) fn is_free(self: &Arc<Self>) {
        if let Some(shell) = &mut lock(&self.state).shell {
            shell.free = true;
        }
        self.serve();
    }

    /// Gives the next invocation to the shell, if it is free.
    fn serve(self: &Arc<Self>) {
        let mut state = lock(&self.state);
        let State { shell: Some(shell), waiting, closed: false } = &mut *state else { return };
        // An environment without its shell would start no other one.
        if !shell.free || shell.end.borrow().is_some() {
            return;
        }
        let Some(Waiter { invocation, answer, end, .. }) = waiting.pop_front() else { return };
        shell.free = false;
        let environment = Arc::clone(&shell.environment);
        drop(state);
        let line = Arc::clone(self);
        environment.begin(
            invocation,
            Box::new(move |answered| {
                let _ = answer.send(Ok(answered));
            }),
            Box::new(move |ended: PhaseEnd| {
                let goes_on = ended.reusable;
                let _ = end.send(ended);
                if goes_on {
                    line.is_free();
                }
            }),
        );
    }
}
