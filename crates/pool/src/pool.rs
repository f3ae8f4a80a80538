//! The pool: finds the slot, begins phases, takes environments back, retires them.

use crate::flight::{Answering, Creation, InFlight, Phase, Ticket};
use crate::slot::{Demand, Key, Member, Slot, State, Waiter};
use crate::{CreateError, Environment, EnvironmentFactory, PoolError, ThrottleReason, relay};
use lambfold_types::{FunctionVersion, Invocation, PhaseEnd, limits};
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

const SHARDS: usize = 32;

/// Policy of the pool.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// How long an environment stays without use.
    pub keep_alive: Duration,
    /// Invocations that may be unanswered at a time.
    pub account_concurrency: u32,
    /// Environments that may exist at a time; the idle one that was longest without use makes
    /// room for a new one.
    pub max_environments: u32,
    /// How long an invocation waits for an environment that has answered, and should be free in
    /// a moment, before a new one is created for it.
    pub finish_grace: Duration,
    /// How long [`Pool::drain`] waits for invocations in flight.
    pub drain_grace: Duration,
}

impl Default for PoolConfig {
    /// 10 minutes, AWS's 1000 executions, 1000 environments, 5 ms, 30 s.
    fn default() -> Self {
        Self {
            keep_alive: Duration::from_secs(600),
            account_concurrency: limits::ACCOUNT_CONCURRENCY,
            max_environments: limits::ACCOUNT_CONCURRENCY,
            finish_grace: Duration::from_millis(5),
            drain_grace: Duration::from_secs(30),
        }
    }
}

/// Counters, for the metrics page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Environments that exist or are being created.
    pub environments: u64,
    /// Of these, being created.
    pub creating: u64,
    /// Of these, in an invoke phase.
    pub busy: u64,
    /// Of these, waiting for an invocation.
    pub idle: u64,
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
    environments: AtomicU32,
    creating: AtomicU32,
    busy: AtomicU32,
    pub(crate) concurrency: AtomicU32,
    /// Accepted invocations whose phase is not over.
    active: AtomicUsize,
    cold_starts: AtomicU64,
    warm_starts: AtomicU64,
    pub(crate) throttles: AtomicU64,
    creation_failures: AtomicU64,
    next_id: AtomicU64,
}

type Shard<F> = RwLock<HashMap<Key, Arc<Slot<F>>>>;
type Locked<'a, F> = MutexGuard<'a, State<F>>;

/// Places invocations on environments.
pub struct Pool<F: EnvironmentFactory> {
    pub(crate) factory: F,
    config: PoolConfig,
    shards: [Shard<F>; SHARDS],
    /// Out of the map, but with environments or waiters left.
    forgotten: Mutex<Vec<Weak<Slot<F>>>>,
    hasher: RandomState,
    pub(crate) counters: Counters,
    draining: AtomicBool,
    quiet: Notify,
    runtime: Handle,
}

impl<F: EnvironmentFactory> Pool<F> {
    /// A pool without environments. Its tasks run on the tokio runtime that this is called in.
    #[must_use]
    pub fn new(factory: F, config: PoolConfig) -> Arc<Self> {
        let pool = Arc::new(Self {
            factory,
            config,
            shards: std::array::from_fn(|_| RwLock::default()),
            forgotten: Mutex::default(),
            hasher: RandomState::new(),
            counters: Counters::default(),
            draining: AtomicBool::new(false),
            quiet: Notify::new(),
            runtime: Handle::current(),
        });
        pool.runtime.spawn(reap(Arc::downgrade(&pool), pool.config.keep_alive));
        pool
    }

    /// Places an invocation: an idle environment of its revision takes it at once; else a new one
    /// is created and the invocation goes to whichever is ready first, in order of arrival.
    ///
    /// # Errors
    /// When a limit is reached or the server is shutting down. Errors that come later are in
    /// [`InFlight::answer`].
    pub fn invoke(
        self: &Arc<Self>,
        version: Arc<FunctionVersion>,
        invocation: Invocation,
    ) -> Result<InFlight, PoolError> {
        self.admit()?;
        let (ticket, in_flight) = Ticket::new(Arc::clone(self));
        let waiter = Waiter { since: Instant::now(), invocation, ticket };
        let key = Key(version);
        loop {
            let slot = self.slot(&key);
            let mut state = slot.lock();
            if state.closed {
                continue;
            }
            if let Some((_, member)) = state.idle.pop() {
                drop(state);
                self.counters.warm_starts.fetch_add(1, Ordering::Relaxed);
                self.begin(&slot, member, waiter);
            } else {
                state.waiters.push_back(waiter);
                self.supply(&slot, state);
            }
            return Ok(in_flight);
        }
    }

    /// Revisions are gone, for example because their function was changed or deleted: their
    /// idle environments are retired now, busy ones at the end of their phase. Invocations that
    /// were accepted still run.
    pub fn forget(&self, gone: impl Fn(&FunctionVersion) -> bool) {
        for shard in &self.shards {
            let mut removed = Vec::new();
            write(shard).retain(|key, slot| {
                let stays = !gone(&key.0);
                if !stays {
                    removed.push(Arc::clone(slot));
                }
                stays
            });
            for slot in removed {
                let mut state = slot.lock();
                state.closed = true;
                let idle = state.expired(Instant::now(), Duration::ZERO);
                let empty = state.is_empty();
                drop(state);
                self.retire(idle);
                if !empty {
                    self.forgotten().push(Arc::downgrade(&slot));
                }
            }
        }
    }

    /// Takes no more invocations, waits for those in flight for at most
    /// [`PoolConfig::drain_grace`], then retires every environment. What still waits for an
    /// environment then is answered with [`PoolError::Draining`].
    pub async fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
        let quiet = async {
            loop {
                let notified = self.quiet.notified();
                if self.counters.active.load(Ordering::SeqCst) == 0 {
                    return;
                }
                notified.await;
            }
        };
        if tokio::time::timeout(self.config.drain_grace, quiet).await.is_err() {
            let active = self.counters.active.load(Ordering::SeqCst);
            tracing::warn!(active, "the grace is over: invocations in flight are cut off");
        }
        let mut slots: Vec<_> = self.forgotten().drain(..).filter_map(|s| s.upgrade()).collect();
        for shard in &self.shards {
            slots.extend(write(shard).drain().map(|(_, slot)| slot));
        }
        for slot in slots {
            let mut state = slot.lock();
            state.closed = true;
            let waiters = std::mem::take(&mut state.waiters);
            let idle = state.expired(Instant::now(), Duration::ZERO);
            let busy: Vec<_> = state.members.values().cloned().collect();
            drop(state);
            self.retire(idle);
            busy.iter().for_each(|member| member.retire());
            waiters.into_iter().for_each(|waiter| waiter.ticket.fail(PoolError::Draining));
        }
    }

    fn forgotten(&self) -> MutexGuard<'_, Vec<Weak<Slot<F>>>> {
        self.forgotten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counters now. They are read one after the other, so that sums may be off by the
    /// invocations that passed meanwhile.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let c = &self.counters;
        let environments = c.environments.load(Ordering::Relaxed).into();
        let creating = c.creating.load(Ordering::Relaxed).into();
        let busy = c.busy.load(Ordering::Relaxed).into();
        Metrics {
            environments,
            creating,
            busy,
            idle: environments.saturating_sub(creating).saturating_sub(busy),
            concurrent_executions: c.concurrency.load(Ordering::Relaxed).into(),
            cold_starts: c.cold_starts.load(Ordering::Relaxed),
            warm_starts: c.warm_starts.load(Ordering::Relaxed),
            throttles: c.throttles.load(Ordering::Relaxed),
            creation_failures: c.creation_failures.load(Ordering::Relaxed),
        }
    }

    fn admit(&self) -> Result<(), PoolError> {
        let limit = self.config.account_concurrency;
        self.counters.active.fetch_add(1, Ordering::SeqCst);
        if self.draining.load(Ordering::SeqCst) {
            self.inactive();
            return Err(PoolError::Draining);
        }
        if self.counters.concurrency.fetch_add(1, Ordering::SeqCst) >= limit {
            self.counters.concurrency.fetch_sub(1, Ordering::SeqCst);
            self.counters.throttles.fetch_add(1, Ordering::Relaxed);
            self.inactive();
            return Err(PoolError::Throttled {
                reason: ThrottleReason::ConcurrentInvocationLimitExceeded,
                limit,
                unit: "concurrent executions",
            });
        }
        Ok(())
    }

    pub(crate) fn inactive(&self) {
        if self.counters.active.fetch_sub(1, Ordering::SeqCst) == 1
            && self.draining.load(Ordering::SeqCst)
        {
            self.quiet.notify_waiters();
        }
    }

    fn slot(&self, key: &Key) -> Arc<Slot<F>> {
        let hash = self.hasher.hash_one(key);
        let shard = &self.shards[usize::try_from(hash % SHARDS as u64).unwrap_or(0)];
        if let Some(slot) = shard.read().unwrap_or_else(PoisonError::into_inner).get(key) {
            return Arc::clone(slot);
        }
        let mut slots = write(shard);
        let slot = slots.entry(key.clone()).or_insert_with(|| Slot::new(Arc::clone(&key.0)));
        Arc::clone(slot)
    }

    fn begin(
        self: &Arc<Self>,
        slot: &Arc<Slot<F>>,
        member: Arc<Member<F::Environment>>,
        waiter: Waiter<F>,
    ) {
        self.counters.busy.fetch_add(1, Ordering::Relaxed);
        let Waiter { invocation, mut ticket, .. } = waiter;
        let environment = Arc::clone(&member.environment);
        let mut phase = Phase::new(Arc::clone(self), Arc::clone(slot), member, ticket.take_end());
        let mut answering = Answering::new(ticket, Arc::clone(slot));
        environment.begin(
            invocation,
            Box::new(move |answer| answering.answer(Ok(answer))),
            Box::new(move |end| phase.end(end)),
        );
    }

    /// A phase is over: the environment serves the next waiter, or becomes idle, or goes.
    pub(crate) fn release(
        self: &Arc<Self>,
        slot: &Arc<Slot<F>>,
        member: Arc<Member<F::Environment>>,
        end: PhaseEnd,
        caller: Option<oneshot::Sender<PhaseEnd>>,
    ) {
        slot.finishing.fetch_sub(1, Ordering::SeqCst);
        self.counters.busy.fetch_sub(1, Ordering::Relaxed);
        let mut state = slot.lock();
        let mut next = None;
        let mut gone = None;
        if !end.reusable {
            state.members.remove(&member.id);
            gone = Some(member);
            self.supply(slot, state);
        } else if let Some(waiter) = state.waiters.pop_front() {
            drop(state);
            next = Some((member, waiter));
        } else if state.closed {
            state.members.remove(&member.id);
            gone = Some(member);
            drop(state);
        } else {
            state.idle.push((Instant::now(), member));
            drop(state);
        }
        self.retire(gone);
        if let Some(caller) = caller {
            let _ = caller.send(end);
        }
        self.inactive();
        if let Some((member, waiter)) = next {
            self.counters.warm_starts.fetch_add(1, Ordering::Relaxed);
            let (pool, slot) = (Arc::clone(self), Arc::clone(slot));
            relay::run(move || pool.begin(&slot, member, waiter));
        }
    }

    /// Sees to it that somebody is on the way to every waiter, and gives up the lock.
    fn supply(self: &Arc<Self>, slot: &Arc<Slot<F>>, mut state: Locked<'_, F>) {
        let finishing = usize::try_from(slot.finishing.load(Ordering::SeqCst)).unwrap_or(0);
        let Demand { creations, timer } = state.demand(finishing);
        drop(state);
        for _ in 0..creations {
            self.create(slot);
        }
        if timer {
            let look =
                look_after_grace(Arc::downgrade(self), Arc::clone(slot), self.config.finish_grace);
            self.runtime.spawn(look);
        }
    }

    /// Starts one creation that the slot has counted already.
    fn create(self: &Arc<Self>, slot: &Arc<Slot<F>>) {
        if !self.make_room() {
            let mut state = slot.lock();
            state.creating -= 1;
            // The newest goes: those before it keep the turn that they were promised.
            let refused =
                if state.waiters.len() > state.creating { state.waiters.pop_back() } else { None };
            drop(state);
            if let Some(waiter) = refused {
                waiter.ticket.fail(PoolError::Throttled {
                    reason: ThrottleReason::ConcurrentInvocationLimitExceeded,
                    limit: self.config.max_environments,
                    unit: "execution environments",
                });
            }
            return;
        }
        self.counters.creating.fetch_add(1, Ordering::Relaxed);
        let creation = Creation::new(Arc::clone(self), Arc::clone(slot));
        self.runtime.spawn(creation.run());
    }

    /// Counts one more environment, if need be in the place of an idle one.
    fn make_room(&self) -> bool {
        let environments = &self.counters.environments;
        loop {
            let taken = environments.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |count| {
                (count < self.config.max_environments).then_some(count + 1)
            });
            if taken.is_ok() {
                return true;
            }
            if !self.evict() {
                return false;
            }
        }
    }

    /// Retires the idle environment that was longest without use, of any revision.
    fn evict(&self) -> bool {
        let mut oldest: Option<(Instant, Arc<Slot<F>>)> = None;
        for shard in &self.shards {
            for slot in shard.read().unwrap_or_else(PoisonError::into_inner).values() {
                if let Some((since, _)) = slot.lock().idle.first()
                    && oldest.as_ref().is_none_or(|(best, _)| since < best)
                {
                    oldest = Some((*since, Arc::clone(slot)));
                }
            }
        }
        let Some((_, slot)) = oldest else { return false };
        let mut state = slot.lock();
        // Somebody may have taken it meanwhile: the caller tries again.
        if !state.idle.is_empty() {
            let (_, member) = state.idle.remove(0);
            state.members.remove(&member.id);
            drop(state);
            self.retire(Some(member));
        }
        true
    }

    pub(crate) fn created(
        self: &Arc<Self>,
        slot: &Arc<Slot<F>>,
        result: Result<Arc<F::Environment>, CreateError>,
    ) {
        self.counters.creating.fetch_sub(1, Ordering::Relaxed);
        let mut state = slot.lock();
        state.creating -= 1;
        match result {
            Ok(environment) => {
                let id = self.counters.next_id.fetch_add(1, Ordering::Relaxed);
                let member = Member::new(id, environment);
                if let Some(waiter) = state.waiters.pop_front() {
                    state.members.insert(id, Arc::clone(&member));
                    drop(state);
                    self.counters.cold_starts.fetch_add(1, Ordering::Relaxed);
                    let (pool, slot) = (Arc::clone(self), Arc::clone(slot));
                    relay::run(move || pool.begin(&slot, member, waiter));
                } else if state.closed {
                    drop(state);
                    self.retire(Some(member));
                } else {
                    state.members.insert(id, Arc::clone(&member));
                    state.idle.push((Instant::now(), member));
                }
            }
            Err(error) => {
                let finishing = usize::try_from(slot.finishing.load(Ordering::SeqCst)).unwrap_or(0);
                let stranded = state.stranded(finishing);
                self.supply(slot, state);
                self.counters.environments.fetch_sub(1, Ordering::SeqCst);
                self.counters.creation_failures.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(function = %slot.version.name, error = %error, source = %error.source, "creation failed");
                if let Some(waiter) = stranded {
                    waiter.ticket.fail(PoolError::Create(Arc::new(error)));
                }
            }
        }
    }

    /// Shuts down environments that are in no slot any more.
    fn retire(&self, members: impl IntoIterator<Item = Arc<Member<F::Environment>>>) {
        for member in members {
            member.retire();
            self.counters.environments.fetch_sub(1, Ordering::SeqCst);
        }
    }

    fn reap(&self) {
        let now = Instant::now();
        self.forgotten().retain(|slot| slot.upgrade().is_some_and(|slot| !slot.lock().is_empty()));
        for shard in &self.shards {
            let slots: Vec<_> =
                shard.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
            let mut empty = false;
            for slot in slots {
                let mut state = slot.lock();
                let expired = state.expired(now, self.config.keep_alive);
                empty |= state.is_empty();
                drop(state);
                self.retire(expired);
            }
            if empty {
                write(shard).retain(|_, slot| {
                    let mut state = slot.lock();
                    state.closed |= state.is_empty();
                    !state.closed
                });
            }
        }
    }
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

/// Looks for environments past their keep-alive, as long as the pool exists.
async fn reap<F: EnvironmentFactory>(pool: Weak<Pool<F>>, keep_alive: Duration) {
    let pause = (keep_alive / 8).clamp(Duration::from_millis(50), Duration::from_secs(10));
    loop {
        tokio::time::sleep(pause).await;
        let Some(pool) = pool.upgrade() else { return };
        pool.reap();
    }
}

/// Creates environments for waiters whose grace is over, until nobody waits without one.
async fn look_after_grace<F: EnvironmentFactory>(
    pool: Weak<Pool<F>>,
    slot: Arc<Slot<F>>,
    grace: Duration,
) {
    let mut pause = grace;
    loop {
        tokio::time::sleep(pause).await;
        let Some(pool) = pool.upgrade() else { return };
        let (creations, next) = slot.lock().overdue(Instant::now(), grace);
        (0..creations).for_each(|_| pool.create(&slot));
        match next {
            Some(next) => pause = next,
            None => return,
        }
    }
}
