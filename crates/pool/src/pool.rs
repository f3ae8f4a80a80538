//! The pool: finds the slot, begins phases, takes environments back, retires them.

use crate::config::{Counters, Metrics, PoolConfig};
use crate::flight::{Answering, Caller, Creation, InFlight, Phase, Ticket};
use crate::provision::Functions;
use crate::room::Room;
use crate::slot::{Demand, Key, KeyHasher, Member, Slot, State, Waiter};
use crate::{CreateError, Environment, EnvironmentFactory, PoolError, relay};
use lambfold_types::{FunctionVersion, InitializationType, Invocation, PhaseEnd};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

const SHARDS: usize = 32;

type Shard<F> = RwLock<HashMap<Key, Arc<Slot<F>>, BuildHasherDefault<KeyHasher>>>;
type Locked<'a, F> = MutexGuard<'a, State<F>>;

/// Places invocations on environments.
pub struct Pool<F: EnvironmentFactory> {
    pub(crate) factory: F,
    pub(crate) config: PoolConfig,
    pub(crate) shards: [Shard<F>; SHARDS],
    /// Out of the map, but with environments or waiters left.
    forgotten: Mutex<Vec<Weak<Slot<F>>>>,
    hasher: RandomState,
    pub(crate) counters: Counters,
    pub(crate) room: Room<F>,
    pub(crate) functions: Mutex<Functions<F>>,
    /// One change of a function's concurrency at a time.
    pub(crate) setting: Mutex<()>,
    draining: AtomicBool,
    quiet: Notify,
    pub(crate) runtime: Handle,
    pub(crate) me: Weak<Self>,
}

impl<F: EnvironmentFactory> Pool<F> {
    /// A pool without environments. Its tasks run on the tokio runtime that this is called in.
    #[must_use]
    pub fn new(factory: F, config: PoolConfig) -> Arc<Self> {
        let pool = Arc::new_cyclic(|me| Self {
            factory,
            shards: std::array::from_fn(|_| RwLock::default()),
            forgotten: Mutex::default(),
            hasher: RandomState::new(),
            counters: Counters::default(),
            room: Room::new(config.max_environments, config.max_memory_mib),
            functions: Mutex::new(Functions::new(config.account_concurrency)),
            setting: Mutex::default(),
            config,
            draining: AtomicBool::new(false),
            quiet: Notify::new(),
            runtime: Handle::current(),
            me: me.clone(),
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
        self.admit(&version)?;
        let (caller, in_flight) = Caller::new();
        let since = Instant::now();
        let key = self.key(version);
        loop {
            let slot = self.slot(&key);
            let place = match slot.enter() {
                Ok(place) => place,
                Err(error) => {
                    self.counters.throttles.fetch_add(1, Ordering::Relaxed);
                    self.inactive();
                    return Err(error);
                }
            };
            let mut state = slot.lock();
            if state.closed {
                drop(state);
                slot.leave(place);
                continue;
            }
            let ticket = Ticket::new(Arc::clone(self), Arc::clone(&slot), place, caller);
            let waiter = Waiter { since, invocation, ticket };
            if let Some(member) = state.pick(place) {
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
                let stays = !gone(&key.version);
                if !stays {
                    removed.push(Arc::clone(slot));
                }
                stays
            });
            for slot in removed {
                let mut state = slot.lock();
                let idle = state.close();
                slot.publish(&state);
                let empty = state.is_empty();
                drop(state);
                self.retire(&slot, idle);
                if !empty {
                    self.forgotten().push(Arc::downgrade(&slot));
                }
            }
        }
        self.distribute();
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
            let idle = state.close();
            slot.publish(&state);
            let waiters = std::mem::take(&mut state.waiters);
            let busy: Vec<_> = state.members.values().cloned().collect();
            drop(state);
            self.retire(&slot, idle);
            busy.iter().for_each(|member| member.retire());
            waiters.into_iter().for_each(|waiter| waiter.ticket.fail(PoolError::Draining));
        }
        self.distribute();
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }

    fn forgotten(&self) -> MutexGuard<'_, Vec<Weak<Slot<F>>>> {
        self.forgotten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counters now. They are read one after the other, so that sums may be off by the
    /// invocations that passed meanwhile. Invocations pay for as few of them as may be: some are
    /// counted here, slot by slot.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let c = &self.counters;
        let (mut idle, mut taken) = (0, 0);
        let mut count = |slot: &Slot<F>| {
            let state = slot.lock();
            idle += (state.idle.len() + state.ready.len()) as u64;
            taken += u64::from(slot.taken());
        };
        self.forgotten().iter().filter_map(Weak::upgrade).for_each(|slot| count(&slot));
        for shard in &self.shards {
            let slots = shard.read().unwrap_or_else(PoisonError::into_inner);
            slots.values().for_each(|slot| count(slot));
        }
        let (environments, memory_mib) = self.room.taken();
        let creating = c.creating.load(Ordering::Relaxed).into();
        let functions = self.functions();
        Metrics {
            environments,
            memory_mib,
            creating,
            busy: environments.saturating_sub(creating).saturating_sub(idle),
            idle,
            provisioned: functions.provisioned(),
            concurrent_executions: functions.running() + taken,
            cold_starts: c.cold_starts.load(Ordering::Relaxed),
            warm_starts: c.warm_starts.load(Ordering::Relaxed),
            throttles: c.throttles.load(Ordering::Relaxed),
            creation_failures: c.creation_failures.load(Ordering::Relaxed),
        }
    }

    fn admit(&self, version: &FunctionVersion) -> Result<(), PoolError> {
        let limit_mib = self.config.max_memory_mib;
        if u64::from(version.memory_mib) > limit_mib {
            let function = version.name.to_string();
            return Err(PoolError::TooLarge {
                function,
                memory_mib: version.memory_mib,
                limit_mib,
            });
        }
        self.counters.active.fetch_add(1, Ordering::SeqCst);
        if self.is_draining() {
            self.inactive();
            return Err(PoolError::Draining);
        }
        Ok(())
    }

    pub(crate) fn inactive(&self) {
        if self.counters.active.fetch_sub(1, Ordering::SeqCst) == 1 && self.is_draining() {
            self.quiet.notify_waiters();
        }
    }

    pub(crate) fn key(&self, version: Arc<FunctionVersion>) -> Key {
        Key::new(version, &self.hasher)
    }

    pub(crate) fn slot(&self, key: &Key) -> Arc<Slot<F>> {
        // The map within uses the lowest and the highest bits.
        let number = (key.hash >> 32) % SHARDS as u64;
        let shard = &self.shards[usize::try_from(number).unwrap_or(0)];
        if let Some(slot) = shard.read().unwrap_or_else(PoisonError::into_inner).get(key) {
            return Arc::clone(slot);
        }
        let mut slots = write(shard);
        let slot = slots.entry(key.clone()).or_insert_with(|| {
            let gate = self.functions().gate(&key.version);
            Slot::new(Arc::clone(&key.version), gate)
        });
        Arc::clone(slot)
    }

    pub(crate) fn begin(
        self: &Arc<Self>,
        slot: &Arc<Slot<F>>,
        member: Arc<Member<F::Environment>>,
        waiter: Waiter<F>,
    ) {
        let Waiter { invocation, mut ticket, .. } = waiter;
        let environment = Arc::clone(&member.environment);
        let mut phase = Phase::new(Arc::clone(self), Arc::clone(slot), member, ticket.take_end());
        let mut answering = Answering(ticket);
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
        let mut state = slot.lock();
        let mut next = None;
        let mut gone = None;
        let mut lost = false;
        let surplus = member.provisioned && state.provision.allocated > state.provision.target;
        let others_want = !member.provisioned && self.room.is_wanted();
        if !end.reusable || surplus || (state.closed && (state.waiters.is_empty() || others_want)) {
            lost = member.provisioned;
            state.remove(&member);
            slot.publish(&state);
            gone = Some(member);
            self.supply(slot, state);
        } else if others_want && !state.waiters.is_empty() {
            // Somebody may have waited longer for the room that this one takes.
            state.rest(member);
            self.want(slot, &mut state);
            drop(state);
        } else if let Some(waiter) = state.waiters.pop_front() {
            drop(state);
            next = Some((member, waiter));
        } else {
            state.rest(member);
            drop(state);
        }
        self.retire(slot, gone);
        if let Some(caller) = caller {
            let _ = caller.send(end);
        }
        self.inactive();
        if let Some((member, waiter)) = next {
            self.counters.warm_starts.fetch_add(1, Ordering::Relaxed);
            let (pool, slot) = (Arc::clone(self), Arc::clone(slot));
            relay::run(move || pool.begin(&slot, member, waiter));
        }
        self.distribute();
        if lost {
            self.reallocated(slot);
        }
    }

    /// Sees to it that somebody is on the way to every waiter, and gives up the lock.
    #[cold]
    fn supply(self: &Arc<Self>, slot: &Arc<Slot<F>>, mut state: Locked<'_, F>) {
        if state.wanting {
            self.want(slot, &mut state);
            drop(state);
            return self.distribute();
        }
        let Demand { creations, timer } = state.demand(slot.finishing());
        drop(state);
        self.create(slot, creations);
        if timer {
            let look =
                look_after_grace(Arc::downgrade(self), Arc::clone(slot), self.config.finish_grace);
            self.runtime.spawn(look);
        }
    }

    /// Starts creations that the slot has counted already.
    fn create(self: &Arc<Self>, slot: &Arc<Slot<F>>, creations: usize) {
        for started in 0..creations {
            if !self.room.take_unless_wanted(slot.memory_mib()) {
                let mut state = slot.lock();
                state.creating -= creations - started;
                self.want(slot, &mut state);
                drop(state);
                self.distribute();
                return;
            }
            self.start(slot, InitializationType::OnDemand);
        }
    }

    /// Starts one creation that is counted and has its room.
    pub(crate) fn start(&self, slot: &Arc<Slot<F>>, initialization: InitializationType) {
        let Some(me) = self.me.upgrade() else { return };
        self.counters.creating.fetch_add(1, Ordering::Relaxed);
        self.runtime.spawn(Creation::new(me, Arc::clone(slot), initialization).run());
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
                let member = Member::new(id, environment, false);
                if let Some(waiter) = state.waiters.pop_front() {
                    state.members.insert(id, Arc::clone(&member));
                    drop(state);
                    self.counters.cold_starts.fetch_add(1, Ordering::Relaxed);
                    let (pool, slot) = (Arc::clone(self), Arc::clone(slot));
                    relay::run(move || pool.begin(&slot, member, waiter));
                } else if state.closed {
                    drop(state);
                    self.retire(slot, Some(member));
                } else {
                    state.members.insert(id, Arc::clone(&member));
                    state.rest(member);
                    drop(state);
                }
            }
            Err(error) => {
                let stranded = state.stranded(slot.finishing());
                self.room.give(slot.memory_mib());
                self.supply(slot, state);
                self.creation_failed(slot, &error);
                if let Some(waiter) = stranded {
                    waiter.ticket.fail(PoolError::Create(Arc::new(error)));
                }
            }
        }
        self.distribute();
    }

    pub(crate) fn creation_failed(&self, slot: &Slot<F>, error: &CreateError) {
        self.counters.creation_failures.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(function = %slot.version.name, error = %error, source = %error.source, "creation failed");
    }

    /// Shuts down environments that are in no slot any more. The caller distributes the room.
    pub(crate) fn retire(
        &self,
        slot: &Slot<F>,
        members: impl IntoIterator<Item = Arc<Member<F::Environment>>>,
    ) {
        for member in members {
            member.retire();
            self.room.give(slot.memory_mib());
        }
    }

    fn reap(self: &Arc<Self>) {
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
                self.retire(&slot, expired);
            }
            if empty {
                write(shard).retain(|_, slot| {
                    let mut state = slot.lock();
                    state.closed |= state.is_empty();
                    !state.closed
                });
            }
        }
        self.distribute();
        self.reallocate();
    }
}

pub(crate) fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
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
        pool.create(&slot, creations);
        match next {
            Some(next) => pause = next,
            None => return,
        }
    }
}
