//! The concurrency of functions: what is reserved, and environments that are initialised ahead
//! of invocations.
//!
//! When a function's provisioned concurrency moves to another version, the environments of the
//! old one stay until those of the new one are there.

use crate::gate::{Account, Gate};
use crate::pool::Pool;
use crate::slot::{Member, Provision, Slot};
use crate::{CreateError, Environment, EnvironmentFactory, relay};
use lambfold_types::{FunctionName, FunctionVersion, InitializationType, Scope};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

/// Environments of one version that are initialised at a time.
const AT_A_TIME: u32 = 8;

/// What a function's concurrency shall be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Concurrency {
    /// For all its versions together, provisioned environments included; `None`: they share what
    /// the account has.
    pub reserved: Option<u32>,
    /// Environments to initialise, each version once.
    pub provisioned: Vec<(Arc<FunctionVersion>, u32)>,
}

/// How far the provisioned concurrency of one version is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// The version.
    pub version: Arc<FunctionVersion>,
    /// Environments asked for; 0 when they are on their way out.
    pub requested: u32,
    /// Environments that are initialised.
    pub allocated: u32,
    /// Why there will be no more.
    pub failure: Option<AllocationFailure>,
}

/// Why provisioned environments are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllocationFailure {
    /// The function's init phase fails; tried again when the concurrency is set again.
    Init,
    /// The platform could not make them; tried again in a few seconds.
    Platform,
    /// The server may not hold more environments; tried again in a few seconds.
    NoRoom,
}

impl AllocationFailure {
    fn is_lasting(self) -> bool {
        self == Self::Init
    }
}

impl fmt::Display for AllocationFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Init => "the function's init phase failed",
            Self::Platform => "execution environments could not be created",
            Self::NoRoom => "the server may not hold more execution environments",
        })
    }
}

/// All functions that have environments or limits of their own.
pub(crate) struct Functions<F: EnvironmentFactory> {
    account_concurrency: u32,
    accounts: HashMap<Scope, Arc<Account>>,
    by_name: HashMap<(Scope, FunctionName), Function<F>>,
}

struct Function<F: EnvironmentFactory> {
    gate: Arc<Gate>,
    reserved: Option<u32>,
    /// Slots with a target.
    targets: Vec<Arc<Slot<F>>>,
    /// What it takes from the account, whether it uses it or not.
    held: u32,
    /// Slots whose environments stay until all targets are met.
    leaving: Vec<Arc<Slot<F>>>,
}

impl<F: EnvironmentFactory> Function<F> {
    fn slots(&self) -> impl Iterator<Item = &Arc<Slot<F>>> {
        self.targets.iter().chain(&self.leaving)
    }

    fn refresh(&self) {
        let provisioned = self.slots().map(|slot| slot.places()).sum();
        self.gate.set_reserved(self.reserved, provisioned);
    }

    fn is_idle(&self) -> bool {
        self.reserved.is_none() && self.targets.is_empty() && self.leaving.is_empty()
    }
}

impl<F: EnvironmentFactory> Functions<F> {
    pub(crate) fn new(account_concurrency: u32) -> Self {
        Self { account_concurrency, accounts: HashMap::new(), by_name: HashMap::new() }
    }

    fn function(&mut self, scope: &Scope, name: &FunctionName) -> &mut Function<F> {
        let limit = self.account_concurrency;
        let account = self.accounts.entry(scope.clone());
        let account = account.or_insert_with(|| Arc::new(Account::new(limit)));
        self.by_name.entry((scope.clone(), name.clone())).or_insert_with(|| Function {
            gate: Arc::new(Gate::new(Arc::clone(account))),
            reserved: None,
            targets: Vec::new(),
            held: 0,
            leaving: Vec::new(),
        })
    }

    pub(crate) fn gate(&mut self, version: &FunctionVersion) -> Arc<Gate> {
        Arc::clone(&self.function(&version.scope, &version.name).gate)
    }

    /// Environments that are allocated.
    pub(crate) fn provisioned(&self) -> u64 {
        let slots = self.by_name.values().flat_map(Function::slots);
        slots.map(|slot| u64::from(slot.places())).sum()
    }

    /// Invocations that took no provisioned place and are not answered.
    pub(crate) fn running(&self) -> u64 {
        self.by_name.values().map(|function| u64::from(function.gate.running())).sum()
    }

    /// What the account has left for functions that reserve nothing.
    fn refresh_account(&self, scope: &Scope) {
        let of_scope = self.by_name.iter().filter(|((other, _), _)| other == scope);
        let held: u32 = of_scope.map(|(_, function)| function.held).fold(0, u32::saturating_add);
        if let Some(account) = self.accounts.get(scope) {
            account.set_limit(self.account_concurrency.saturating_sub(held));
        }
    }

    /// Forgets functions that have neither slots nor limits.
    fn tidy(&mut self) {
        self.by_name.retain(|_, f| !f.is_idle() || Arc::strong_count(&f.gate) > 1);
    }
}

impl<F: EnvironmentFactory> Pool<F> {
    pub(crate) fn functions(&self) -> MutexGuard<'_, Functions<F>> {
        self.functions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets the concurrency of a function, in place of what it was: from now on for its limits,
    /// as soon as may be for its environments. Saying the same again tries anew what failed.
    pub fn set_concurrency(&self, scope: &Scope, name: &FunctionName, concurrency: Concurrency) {
        let _one_at_a_time = self.setting.lock().unwrap_or_else(PoisonError::into_inner);
        let Concurrency { reserved, provisioned } = concurrency;
        let total: u32 = provisioned.iter().map(|(_, count)| *count).fold(0, u32::saturating_add);
        let wanted = provisioned.into_iter().filter(|(_, count)| *count > 0);
        let targets: Vec<_> = wanted.map(|(version, count)| self.aim(version, count)).collect();
        {
            let mut functions = self.functions();
            let function = functions.function(scope, name);
            let stays = |slot: &Arc<Slot<F>>| targets.iter().any(|t| Arc::ptr_eq(t, slot));
            let old = std::mem::replace(&mut function.targets, targets.clone());
            function.leaving.extend(old);
            function.leaving.retain(|slot| !stays(slot));
            function.reserved = reserved;
            function.held = reserved.unwrap_or(total);
            functions.refresh_account(scope);
        }
        targets.iter().for_each(|slot| self.trim(slot));
        targets.iter().for_each(|slot| self.provision(slot));
        self.settle(scope, name);
        self.distribute();
    }

    /// The slot of a version, which from now on is to have this many provisioned environments.
    fn aim(&self, version: Arc<FunctionVersion>, count: u32) -> Arc<Slot<F>> {
        let key = self.key(version);
        loop {
            let slot = self.slot(&key);
            let mut state = slot.lock();
            if state.closed && !self.is_draining() {
                continue;
            }
            state.provision.target = count;
            state.provision.failure = None;
            slot.publish(&state);
            drop(state);
            return slot;
        }
    }

    /// How far the provisioned concurrency of a function is, by version.
    #[must_use]
    pub fn allocations(&self, scope: &Scope, name: &FunctionName) -> Vec<Allocation> {
        let functions = self.functions();
        let Some(function) = functions.by_name.get(&(scope.clone(), name.clone())) else {
            return Vec::new();
        };
        let allocation = |slot: &Arc<Slot<F>>, leaving: bool| {
            let Provision { target, allocated, failure, .. } = slot.lock().provision;
            Allocation {
                version: Arc::clone(&slot.version),
                requested: if leaving { 0 } else { target },
                allocated: allocated.min(target),
                failure,
            }
        };
        let targets = function.targets.iter().map(|slot| allocation(slot, false));
        targets.chain(function.leaving.iter().map(|slot| allocation(slot, true))).collect()
    }

    /// Starts what is missing of a slot's provisioned environments.
    fn provision(&self, slot: &Arc<Slot<F>>) {
        loop {
            {
                let mut state = slot.lock();
                let closed = state.closed;
                let Provision { target, allocated, creating, failure } = &mut state.provision;
                let missing = *allocated + *creating < *target && *creating < AT_A_TIME;
                if closed || !missing || failure.is_some() {
                    return;
                }
                *creating += 1;
            }
            // Those who wait for room go first.
            while !self.room.take_unless_wanted(slot.memory_mib()) {
                if self.room.is_wanted() || !self.evict() {
                    let mut state = slot.lock();
                    state.provision.creating -= 1;
                    state.provision.failure = Some(AllocationFailure::NoRoom);
                    return;
                }
            }
            self.start(slot, InitializationType::ProvisionedConcurrency);
        }
    }

    /// One creation for provisioned concurrency is over.
    pub(crate) fn provisioned_one(
        self: &Arc<Self>,
        slot: &Arc<Slot<F>>,
        result: Result<Arc<F::Environment>, CreateError>,
    ) {
        self.counters.creating.fetch_sub(1, Ordering::Relaxed);
        let mut gone = None;
        let mut next = None;
        let mut state = slot.lock();
        state.provision.creating -= 1;
        match result {
            Err(error) => {
                state.provision.failure = Some(AllocationFailure::Platform);
                self.room.give(slot.memory_mib());
                self.creation_failed(slot, &error);
            }
            Ok(environment) => {
                let id = self.counters.next_id.fetch_add(1, Ordering::Relaxed);
                let initialized = environment.is_initialized();
                let member = Member::new(id, environment, true);
                let Provision { target, allocated, .. } = state.provision;
                if !initialized {
                    state.provision.failure = Some(AllocationFailure::Init);
                    gone = Some(member);
                } else if state.closed || allocated >= target {
                    gone = Some(member);
                } else {
                    state.provision.allocated += 1;
                    state.members.insert(id, Arc::clone(&member));
                    match state.waiters.pop_front() {
                        Some(waiter) => next = Some((member, waiter)),
                        None => state.rest(member),
                    }
                }
            }
        }
        slot.publish(&state);
        drop(state);
        self.retire(slot, gone);
        if let Some((member, waiter)) = next {
            self.counters.cold_starts.fetch_add(1, Ordering::Relaxed);
            let (pool, slot) = (Arc::clone(self), Arc::clone(slot));
            relay::run(move || pool.begin(&slot, member, waiter));
        }
        self.reallocated(slot);
        self.distribute();
    }

    /// The number of a slot's provisioned environments has changed.
    #[cold]
    pub(crate) fn reallocated(&self, slot: &Arc<Slot<F>>) {
        self.settle(&slot.version.scope, &slot.version.name);
        self.provision(slot);
    }

    /// Once all targets are met, or cannot be, the environments of other versions go.
    fn settle(&self, scope: &Scope, name: &FunctionName) {
        let key = (scope.clone(), name.clone());
        let leaving = {
            let mut functions = self.functions();
            let Some(function) = functions.by_name.get_mut(&key) else { return };
            function.refresh();
            let met = |slot: &Arc<Slot<F>>| {
                let state = slot.lock();
                let Provision { target, allocated, failure, .. } = state.provision;
                state.closed || allocated >= target || failure.is_some()
            };
            if !function.targets.iter().all(met) {
                return;
            }
            std::mem::take(&mut function.leaving)
        };
        for slot in &leaving {
            slot.lock().provision.target = 0;
            self.trim(slot);
        }
        if !leaving.is_empty()
            && let Some(function) = self.functions().by_name.get(&key)
        {
            function.refresh();
        }
    }

    /// Retires ready environments beyond the target; busy ones go at the end of their phase.
    fn trim(&self, slot: &Arc<Slot<F>>) {
        let mut state = slot.lock();
        let surplus = state.surplus();
        slot.publish(&state);
        drop(state);
        self.retire(slot, surplus);
    }

    /// Tries again what failed for a reason that may have passed.
    pub(crate) fn reallocate(&self) {
        let targets: Vec<_> = {
            let mut functions = self.functions();
            functions.tidy();
            functions.by_name.values().flat_map(|f| f.targets.iter().cloned()).collect()
        };
        for slot in targets {
            let mut state = slot.lock();
            if state.provision.failure.is_some_and(|failure| !failure.is_lasting()) {
                state.provision.failure = None;
            }
            drop(state);
            self.provision(&slot);
        }
    }
}
