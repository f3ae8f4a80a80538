//! What the pool knows of one revision, and the decisions that need its lock.

use crate::flight::Ticket;
use crate::gate::{Gate, Place, raise};
use crate::provision::AllocationFailure;
use crate::{EnvironmentFactory, PoolError};
use lambfold_types::{FunctionVersion, Invocation};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, Hash, Hasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Finds the slot of a revision. The whole identity is compared, so that two functions never
/// share an environment even if their revision texts were equal.
#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) version: Arc<FunctionVersion>,
    /// Of the revision; computed once, and good enough for a map as it is.
    pub(crate) hash: u64,
}

impl Key {
    pub(crate) fn new(version: Arc<FunctionVersion>, hasher: &RandomState) -> Self {
        let hash = hasher.hash_one(&version.revision);
        Self { version, hash }
    }
}

/// Of keys, which bring their hash along.
#[derive(Default)]
pub(crate) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (&*self.version, &*other.version);
        Arc::ptr_eq(&self.version, &other.version)
            || (a.revision == b.revision
                && a.version == b.version
                && a.name == b.name
                && a.scope == b.scope)
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// An environment of the slot; retired at most once.
pub(crate) struct Member<E> {
    pub(crate) id: u64,
    pub(crate) environment: Arc<E>,
    /// Part of the version's provisioned concurrency.
    pub(crate) provisioned: bool,
    retired: AtomicBool,
}

impl<E: crate::Environment> Member<E> {
    pub(crate) fn new(id: u64, environment: Arc<E>, provisioned: bool) -> Arc<Self> {
        Arc::new(Self { id, environment, provisioned, retired: AtomicBool::new(false) })
    }

    pub(crate) fn retire(&self) {
        if !self.retired.swap(true, Ordering::SeqCst) {
            self.environment.retire();
        }
    }
}

/// An invocation without an environment.
pub(crate) struct Waiter<F: EnvironmentFactory> {
    pub(crate) since: Instant,
    pub(crate) invocation: Invocation,
    pub(crate) ticket: Ticket<F>,
}

pub(crate) struct Slot<F: EnvironmentFactory> {
    pub(crate) version: Arc<FunctionVersion>,
    /// The limits of the function.
    pub(crate) gate: Arc<Gate>,
    /// Invocations that its provisioned environments can take; changed under the lock.
    places: AtomicU32,
    /// Of these, taken.
    taken: AtomicU32,
    /// Environments that have answered and will be free in a moment. Counted outside the lock:
    /// it only says how eagerly to create, and a timer corrects what it says wrongly.
    pub(crate) finishing: AtomicIsize,
    state: Mutex<State<F>>,
}

pub(crate) struct State<F: EnvironmentFactory> {
    /// All that exist, idle and busy.
    pub(crate) members: HashMap<u64, Arc<Member<F::Environment>>>,
    /// The most recently used last.
    pub(crate) idle: Vec<(Instant, Arc<Member<F::Environment>>)>,
    /// Idle and provisioned: these stay.
    pub(crate) ready: Vec<Arc<Member<F::Environment>>>,
    /// The oldest first.
    pub(crate) waiters: VecDeque<Waiter<F>>,
    /// Creations under way for waiters.
    pub(crate) creating: usize,
    /// A look at the waiters is due after the grace.
    pub(crate) timer: bool,
    /// Among those who wait for room.
    pub(crate) wanting: bool,
    /// Somebody looks after waiters whose time is over.
    pub(crate) expiring: bool,
    pub(crate) provision: Provision,
    /// Out of the map: serves those who wait, keeps nothing idle.
    pub(crate) closed: bool,
}

/// Provisioned concurrency of one version.
#[derive(Debug, Default)]
pub(crate) struct Provision {
    /// Environments that are asked for.
    pub(crate) target: u32,
    /// Members that are provisioned, ready and busy.
    pub(crate) allocated: u32,
    /// Creations under way.
    pub(crate) creating: u32,
    /// Why no more are created.
    pub(crate) failure: Option<AllocationFailure>,
}

/// What has to be done once the lock is released.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    pub(crate) creations: usize,
    pub(crate) timer: bool,
}

impl<F: EnvironmentFactory> Slot<F> {
    pub(crate) fn new(version: Arc<FunctionVersion>, gate: Arc<Gate>) -> Arc<Self> {
        Arc::new(Self {
            version,
            gate,
            places: AtomicU32::new(0),
            taken: AtomicU32::new(0),
            finishing: AtomicIsize::new(0),
            state: Mutex::new(State {
                members: HashMap::new(),
                idle: Vec::new(),
                ready: Vec::new(),
                waiters: VecDeque::new(),
                creating: 0,
                timer: false,
                wanting: false,
                expiring: false,
                provision: Provision::default(),
                closed: false,
            }),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State<F>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn memory_mib(&self) -> u64 {
        self.version.memory_mib.into()
    }

    /// Takes a place: a provisioned one, else one of the function or the account.
    pub(crate) fn enter(&self) -> Result<Place, PoolError> {
        let places = self.places.load(Ordering::SeqCst);
        if places > 0 && raise(&self.taken, places) {
            return Ok(Place::Provisioned);
        }
        self.gate.enter()
    }

    pub(crate) fn leave(&self, place: Place) {
        if place == Place::Provisioned {
            self.taken.fetch_sub(1, Ordering::SeqCst);
        } else {
            self.gate.leave(place);
        }
    }

    /// Provisioned places that are taken.
    pub(crate) fn taken(&self) -> u32 {
        self.taken.load(Ordering::SeqCst)
    }

    pub(crate) fn places(&self) -> u32 {
        self.places.load(Ordering::SeqCst)
    }

    /// After every change of the provision.
    pub(crate) fn publish(&self, state: &State<F>) {
        let Provision { target, allocated, .. } = state.provision;
        self.places.store(allocated.min(target), Ordering::SeqCst);
    }

    pub(crate) fn finishing(&self) -> usize {
        usize::try_from(self.finishing.load(Ordering::SeqCst)).unwrap_or(0)
    }
}

impl<F: EnvironmentFactory> State<F> {
    /// An idle environment for an invocation: provisioned places go to provisioned ones first.
    pub(crate) fn pick(&mut self, place: Place) -> Option<Arc<Member<F::Environment>>> {
        if place == Place::Provisioned
            && let Some(member) = self.ready.pop()
        {
            return Some(member);
        }
        let idle = self.idle.pop().map(|(_, member)| member);
        idle.or_else(|| self.ready.pop())
    }

    /// Puts an environment where it waits for the next invocation.
    pub(crate) fn rest(&mut self, member: Arc<Member<F::Environment>>) {
        if member.provisioned {
            self.ready.push(member);
        } else {
            self.idle.push((Instant::now(), member));
        }
    }

    /// It is gone, or about to.
    pub(crate) fn remove(&mut self, member: &Member<F::Environment>) {
        if self.members.remove(&member.id).is_some() && member.provisioned {
            self.provision.allocated -= 1;
        }
    }

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
        if self.wanting {
            // They are served as soon as there is room.
            self.timer = false;
            return (0, None);
        }
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

    /// Since when the oldest waiter waits that could be given an environment now.
    pub(crate) fn unserved(&self) -> Option<Instant> {
        let rests = !self.idle.is_empty() || !self.ready.is_empty();
        let oldest = if rests { self.waiters.front() } else { self.waiters.get(self.creating) };
        oldest.map(|waiter| waiter.since)
    }

    /// Takes out the waiters that nobody is on the way to and whose time is over; and when to
    /// look again.
    pub(crate) fn overstayed(
        &mut self,
        now: Instant,
        limit: Duration,
    ) -> (Vec<Waiter<F>>, Option<Instant>) {
        let mut gone = Vec::new();
        while let Some(end) = self.waiters.get(self.creating).map(|waiter| waiter.since + limit) {
            if end > now {
                return (gone, Some(end));
            }
            gone.extend(self.waiters.remove(self.creating));
        }
        self.expiring = false;
        (gone, None)
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

    /// Serves those who wait and nobody else from now on; takes out what is idle.
    pub(crate) fn close(&mut self) -> Vec<Arc<Member<F::Environment>>> {
        self.closed = true;
        self.provision.target = 0;
        let mut gone = self.expired(Instant::now(), Duration::ZERO);
        gone.extend(self.surplus());
        gone
    }

    /// Takes out ready environments beyond the target.
    pub(crate) fn surplus(&mut self) -> Vec<Arc<Member<F::Environment>>> {
        let mut gone = Vec::new();
        while self.provision.allocated > self.provision.target
            && let Some(member) = self.ready.pop()
        {
            self.remove(&member);
            gone.push(member);
        }
        gone
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
            && self.waiters.is_empty()
            && self.creating == 0
            && self.provision.creating == 0
            && self.provision.target == 0
    }
}
