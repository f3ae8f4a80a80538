//! Room on this machine: how many environments may exist, and how large they may be together.
//! Where there is none, invocations wait; the oldest is served first, whatever its function.

use crate::pool::Pool;
use crate::slot::{Slot, State};
use crate::{EnvironmentFactory, PoolError, relay};
use lambfold_types::InitializationType;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak};
use std::time::Duration;
use tokio::time::Instant;

pub(crate) struct Room<F: EnvironmentFactory> {
    max_environments: u32,
    max_memory_mib: u64,
    ledger: Mutex<Ledger<F>>,
    /// Length of the list of those who want room, to be read without the lock.
    wanting: AtomicUsize,
    /// Held by whoever distributes.
    turn: Mutex<()>,
    /// There may be more to distribute.
    again: AtomicBool,
}

struct Ledger<F: EnvironmentFactory> {
    environments: u32,
    memory_mib: u64,
    /// Slots with waiters that nobody is on the way to, for want of room.
    wanting: Vec<Arc<Slot<F>>>,
}

impl<F: EnvironmentFactory> Room<F> {
    pub(crate) fn new(max_environments: u32, max_memory_mib: u64) -> Self {
        let ledger = Ledger { environments: 0, memory_mib: 0, wanting: Vec::new() };
        Self {
            max_environments,
            max_memory_mib,
            ledger: Mutex::new(ledger),
            wanting: AtomicUsize::new(0),
            turn: Mutex::default(),
            again: AtomicBool::new(false),
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger<F>> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Environments and their memory, MiB.
    pub(crate) fn taken(&self) -> (u64, u64) {
        let ledger = self.ledger();
        (ledger.environments.into(), ledger.memory_mib)
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.wanting.load(Ordering::SeqCst) > 0
    }

    /// Takes room for one environment; not past those who wait for it.
    pub(crate) fn take_unless_wanted(&self, memory_mib: u64) -> bool {
        let mut ledger = self.ledger();
        ledger.wanting.is_empty() && self.take_from(&mut ledger, memory_mib)
    }

    fn take(&self, memory_mib: u64) -> bool {
        self.take_from(&mut self.ledger(), memory_mib)
    }

    fn take_from(&self, ledger: &mut Ledger<F>, memory_mib: u64) -> bool {
        let fits = ledger.environments < self.max_environments
            && ledger.memory_mib + memory_mib <= self.max_memory_mib;
        if fits {
            ledger.environments += 1;
            ledger.memory_mib += memory_mib;
        }
        fits
    }

    /// Somebody who waits for it may have it now: [`Pool::distribute`] is the caller's to call.
    pub(crate) fn give(&self, memory_mib: u64) {
        let mut ledger = self.ledger();
        ledger.environments -= 1;
        ledger.memory_mib -= memory_mib;
    }
}

/// Oldest invocation that could be given an environment.
struct Next<F: EnvironmentFactory> {
    since: Instant,
    slot: Arc<Slot<F>>,
}

impl<F: EnvironmentFactory> Pool<F> {
    /// The slot's waiters wait for room from now on. The caller distributes after unlocking.
    pub(crate) fn want(&self, slot: &Arc<Slot<F>>, state: &mut State<F>) {
        if !state.wanting {
            state.wanting = true;
            self.room.ledger().wanting.push(Arc::clone(slot));
            self.room.wanting.fetch_add(1, Ordering::SeqCst);
        }
        if !state.expiring {
            state.expiring = true;
            let timeout = Duration::from_secs(slot.version.timeout_s.into());
            let limit = self.config.room_wait.min(timeout);
            self.runtime.spawn(expire(self.me.clone(), Arc::clone(slot), limit));
        }
    }

    /// Gives what room there is to those who wait for it, the oldest first. May be called at any
    /// time without a slot's lock.
    pub(crate) fn distribute(&self) {
        if self.room.is_wanted() {
            self.distribute_now();
        }
    }

    #[cold]
    fn distribute_now(&self) {
        let Some(me) = self.me.upgrade() else { return };
        self.room.again.store(true, Ordering::SeqCst);
        while self.room.again.load(Ordering::SeqCst) {
            let turn = match self.room.turn.try_lock() {
                Ok(turn) => turn,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                // Whoever has the turn sees the flag.
                Err(TryLockError::WouldBlock) => return,
            };
            self.room.again.store(false, Ordering::SeqCst);
            while let Some(next) = self.oldest() {
                if !me.serve(&next) {
                    break;
                }
            }
            drop(turn);
        }
    }

    /// Drops from the list whoever does not wait any more.
    fn oldest(&self) -> Option<Next<F>> {
        let wanting = self.room.ledger().wanting.clone();
        let mut oldest: Option<Next<F>> = None;
        for slot in wanting {
            let mut state = slot.lock();
            if let Some(since) = state.unserved() {
                drop(state);
                if oldest.as_ref().is_none_or(|oldest| since < oldest.since) {
                    oldest = Some(Next { since, slot });
                }
            } else {
                state.wanting = false;
                self.room.ledger().wanting.retain(|other| !Arc::ptr_eq(other, &slot));
                self.room.wanting.fetch_sub(1, Ordering::SeqCst);
            }
        }
        oldest
    }

    /// False when there is no room, and nothing that could make room.
    fn serve(self: &Arc<Self>, next: &Next<F>) -> bool {
        let slot = &next.slot;
        let mut state = slot.lock();
        if let Some(place) = state.waiters.front().map(|waiter| waiter.ticket.place)
            && let Some(member) = state.pick(place)
            && let Some(waiter) = state.waiters.pop_front()
        {
            drop(state);
            self.counters.warm_starts.fetch_add(1, Ordering::Relaxed);
            let (pool, slot) = (Arc::clone(self), Arc::clone(slot));
            relay::run(move || pool.begin(&slot, member, waiter));
            return true;
        }
        drop(state);
        if !self.room.take(slot.memory_mib()) {
            return self.evict();
        }
        let mut state = slot.lock();
        if state.waiters.len() > state.creating {
            state.creating += 1;
            drop(state);
            self.start(slot, InitializationType::OnDemand);
        } else {
            drop(state);
            self.room.give(slot.memory_mib());
        }
        true
    }

    /// Retires up to `count` idle environments, those first that were longest without use, for
    /// example because the machine's memory runs short; answers how many. Provisioned ones stay.
    pub fn shed(&self, count: usize) -> usize {
        let shed = (0..count).take_while(|_| self.evict()).count();
        self.distribute();
        shed
    }

    /// Retires the idle environment that was longest without use, of any revision.
    pub(crate) fn evict(&self) -> bool {
        loop {
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
            // Somebody may have taken it meanwhile.
            if !state.idle.is_empty() {
                let (_, member) = state.idle.remove(0);
                state.remove(&member);
                drop(state);
                self.retire(&slot, Some(member));
                return true;
            }
        }
    }
}

/// Throttles waiters who waited for room for as long as they may, until nobody waits.
async fn expire<F: EnvironmentFactory>(pool: Weak<Pool<F>>, slot: Arc<Slot<F>>, limit: Duration) {
    loop {
        let next = {
            let Some(pool) = pool.upgrade() else { return };
            let (gone, next) = slot.lock().overstayed(Instant::now(), limit);
            for waiter in gone {
                waiter.ticket.fail(pool.room.full());
            }
            next
        };
        let Some(next) = next else { return };
        tokio::time::sleep_until(next).await;
    }
}

impl<F: EnvironmentFactory> Room<F> {
    fn full(&self) -> PoolError {
        let by_count = self.ledger().environments >= self.max_environments;
        let (limit, unit) = match by_count {
            true => (self.max_environments.into(), "execution environments"),
            false => (self.max_memory_mib, "MiB for all execution environments"),
        };
        PoolError::NoRoom { limit, unit }
    }
}
