//! What the pool knows of one revision, and the decisions that need its lock.

use crate::flight::Ticket;
use lambfold_types::{FunctionVersion, Invocation};
use std::collections::{HashMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Finds the slot of a revision. The whole identity is compared, so that two functions never
/// share an environment even if their revision texts were equal.
#[derive(Clone)]
pub(crate) struct Key(pub(crate) Arc<FunctionVersion>);

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (&*self.0, &*other.0);
        Arc::ptr_eq(&self.0, &other.0)
            || (a.revision == b.revision
                && a.version == b.version
                && a.name == b.name
                && a.scope == b.scope)
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.revision.hash(state);
        self.0.name.hash(state);
    }
}

/// An environment of the slot; retired at most once.
pub(crate) struct Member<E> {
    pub(crate) id: u64,
    pub(crate) environment: Arc<E>,
    retired: AtomicBool,
}

impl<E: crate::Environment> Member<E> {
    pub(crate) fn new(id: u64, environment: Arc<E>) -> Arc<Self> {
        Arc::new(Self { id, environment, retired: AtomicBool::new(false) })
    }

    pub(crate) fn retire(&self) {
        if !self.retired.swap(true, Ordering::SeqCst) {
            self.environment.retire();
        }
    }
}

/// An invocation without an environment.
pub(crate) struct Waiter<F: crate::EnvironmentFactory> {
    pub(crate) since: Instant,
    pub(crate) invocation: Invocation,
    pub(crate) ticket: Ticket<F>,
}

pub(crate) struct Slot<F: crate::EnvironmentFactory> {
    pub(crate) version: Arc<FunctionVersion>,
    /// Environments that have answered and will be free in a moment. Counted outside the lock:
    /// it only says how eagerly to create, and a timer corrects what it says wrongly.
    pub(crate) finishing: AtomicIsize,
    state: Mutex<State<F>>,
}

pub(crate) struct State<F: crate::EnvironmentFactory> {
    /// All that exist, idle and busy.
    pub(crate) members: HashMap<u64, Arc<Member<F::Environment>>>,
    /// The most recently used last.
    pub(crate) idle: Vec<(Instant, Arc<Member<F::Environment>>)>,
    /// The oldest first.
    pub(crate) waiters: VecDeque<Waiter<F>>,
    /// Creations under way.
    pub(crate) creating: usize,
    /// A look at the waiters is due after the grace.
    pub(crate) timer: bool,
    /// Out of the map: serves those who wait, keeps nothing idle.
    pub(crate) closed: bool,
}

/// What has to be done once the lock is released.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    pub(crate) creations: usize,
    pub(crate) timer: bool,
}

impl<F: crate::EnvironmentFactory> Slot<F> {
    pub(crate) fn new(version: Arc<FunctionVersion>) -> Arc<Self> {
        Arc::new(Self {
            version,
            finishing: AtomicIsize::new(0),
            state: Mutex::new(State {
                members: HashMap::new(),
                idle: Vec::new(),
                waiters: VecDeque::new(),
                creating: 0,
                timer: false,
                closed: false,
            }),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State<F>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: crate::EnvironmentFactory> State<F> {
    /// How many environments to create now for those who wait. An environment that has answered
    /// counts as nearly free: a client that sends its next request at once must not cause a cold
    /// start, so the creation for it is put off until the timer.
    pub(crate) fn demand(&mut self, finishing: usize) -> Demand {
        let lacking = self.waiters.len().saturating_sub(self.creating);
        let creations = lacking.saturating_sub(finishing);
        self.creating += creations;
        let timer = lacking > creations && !self.timer;
        self.timer |= timer;
        Demand { creations, timer }
    }

    /// What the timer does: how many environments to create for those who waited for the whole
    /// grace, and when to look again, if somebody else waits without a creation.
    pub(crate) fn overdue(&mut self, now: Instant, grace: Duration) -> (usize, Option<Duration>) {
        let waited = |waiter: &Waiter<F>| now.duration_since(waiter.since);
        let overdue = self.waiters.iter().take_while(|waiter| waited(waiter) >= grace).count();
        let creations = overdue.saturating_sub(self.creating);
        self.creating += creations;
        let next =
            self.waiters.get(self.creating).map(|waiter| grace.saturating_sub(waited(waiter)));
        self.timer = next.is_some();
        (creations, next)
    }

    /// The waiter that a failed creation fails: the oldest, if nobody else is on the way to it.
    pub(crate) fn stranded(&mut self, finishing: usize) -> Option<Waiter<F>> {
        if self.waiters.len() > self.creating + finishing { self.waiters.pop_front() } else { None }
    }

    /// Takes out the idle environments that nobody used for `keep_alive`, oldest first.
    pub(crate) fn expired(
        &mut self,
        now: Instant,
        keep_alive: Duration,
    ) -> Vec<Arc<Member<F::Environment>>> {
        let count = self
            .idle
            .iter()
            .take_while(|(since, _)| now.duration_since(*since) >= keep_alive)
            .count();
        let expired: Vec<_> = self.idle.drain(..count).map(|(_, member)| member).collect();
        for member in &expired {
            self.members.remove(&member.id);
        }
        expired
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.waiters.is_empty() && self.creating == 0
    }
}
