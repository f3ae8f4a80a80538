//! Functions, environments, a queue and a clock for tests.

use bytes::Bytes;
use lambfold_control::{ControlError, Resolved};
use lambfold_invoke::{Functions, PortFuture, Queue};
use lambfold_pool::{CreateError, Environment, EnvironmentFactory, OnAnswer, OnEnd};
use lambfold_store::{Event, EventId, NewEvent, StoreError};
use lambfold_types::{
    AccountId, Answer, Architecture, Clock, Digest, FunctionName, FunctionVersion,
    InitializationType, Invocation, LogFormat, LoggingConfig, PhaseEnd, Region, RuntimeId, Scope,
    Version,
};
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

pub(crate) fn scope() -> Scope {
    Scope {
        account: AccountId::parse("000000000000").unwrap(),
        region: Region::parse("us-east-1").unwrap(),
    }
}

/// Knows the functions `f` and `other` until they are deleted.
#[derive(Clone, Default)]
pub(crate) struct Names {
    deleted: Arc<AtomicBool>,
    layered: Arc<AtomicBool>,
}

impl Names {
    pub(crate) fn delete(&self) {
        self.deleted.store(true, Ordering::SeqCst);
    }

    /// Whether they have layers from now on, on a server that shows none.
    pub(crate) fn layered(&self, layered: bool) {
        self.layered.store(layered, Ordering::SeqCst);
    }
}

impl Functions for Names {
    fn resolve(
        &self,
        scope: &Scope,
        function: &str,
        qualifier: Option<&str>,
    ) -> Result<Resolved, ControlError> {
        let arn = format!("{}function:{function}", scope.arn_prefix());
        if !["f", "other"].contains(&function) || self.deleted.load(Ordering::SeqCst) {
            let arn = format!("{arn}:{}", qualifier.unwrap_or("$LATEST"));
            return Err(ControlError::FunctionNotFound { arn });
        }
        if self.layered.load(Ordering::SeqCst) {
            return Err(ControlError::LayersNotRun { name: function.to_owned() });
        }
        let version = FunctionVersion {
            scope: scope.clone(),
            name: FunctionName::parse(function).unwrap(),
            version: Version::Latest,
            revision: function.to_owned(),
            runtime: RuntimeId::ProvidedAl2023,
            architecture: Architecture::X86_64,
            handler: "h".to_owned(),
            memory_mib: 128,
            timeout_s: 3,
            ephemeral_storage_mib: 512,
            variables: BTreeMap::new(),
            code: Digest::from_bytes(&[0; 32]),
            layers: Vec::new(),
            logging: LoggingConfig {
                group: "/aws/lambda/f".to_owned(),
                format: LogFormat::Text,
                application_level: None,
                system_level: None,
            },
            rootfs: None,
        };
        let invoked_arn = match qualifier {
            Some(qualifier) => format!("{arn}:{qualifier}"),
            None => arn,
        };
        Ok(Resolved { version: Arc::new(version), invoked_arn })
    }
}

/// What the function does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Behaviour {
    /// Echoes.
    Answers,
    /// Function errors.
    Fails,
    /// Function errors for so many invocations.
    FailsFirst(usize),
    /// Echoes after this time, unless the function is `other`.
    Slow(Duration),
}

/// What the function saw.
#[derive(Clone)]
pub(crate) struct World(Arc<WorldState>);

struct WorldState {
    behaviour: Behaviour,
    start: Instant,
    seen: Mutex<Vec<(Duration, Invocation)>>,
    told: mpsc::UnboundedSender<Invocation>,
    news: tokio::sync::Mutex<mpsc::UnboundedReceiver<Invocation>>,
    running: AtomicUsize,
    most: AtomicUsize,
}

impl World {
    pub(crate) fn new(behaviour: Behaviour) -> Self {
        let (told, news) = mpsc::unbounded_channel();
        Self(Arc::new(WorldState {
            behaviour,
            start: Instant::now(),
            seen: Mutex::default(),
            told,
            news: tokio::sync::Mutex::new(news),
            running: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
        }))
    }

    pub(crate) fn factory(&self) -> Fake {
        Fake(self.clone())
    }

    /// With the time since the beginning.
    pub(crate) fn seen(&self) -> Vec<(Duration, Invocation)> {
        self.0.seen.lock().unwrap().clone()
    }

    /// Waits for the next invocation.
    pub(crate) async fn next(&self) -> Invocation {
        self.0.news.lock().await.recv().await.unwrap()
    }

    pub(crate) fn most_at_a_time(&self) -> usize {
        self.0.most.load(Ordering::SeqCst)
    }
}

pub(crate) struct Fake(World);

pub(crate) struct FakeEnvironment(World);

impl EnvironmentFactory for Fake {
    type Environment = FakeEnvironment;

    async fn create(
        &self,
        _: Arc<FunctionVersion>,
        _: InitializationType,
    ) -> Result<Arc<FakeEnvironment>, CreateError> {
        tokio::time::sleep(Duration::from_millis(10)).await;
        Ok(Arc::new(FakeEnvironment(self.0.clone())))
    }
}

impl Environment for FakeEnvironment {
    fn begin(&self, invocation: Invocation, answer: OnAnswer, ended: OnEnd) {
        let world = Arc::clone(&self.0.0);
        let number = {
            let mut seen = world.seen.lock().unwrap();
            seen.push((world.start.elapsed(), invocation.clone()));
            seen.len()
        };
        let running = world.running.fetch_add(1, Ordering::SeqCst) + 1;
        world.most.fetch_max(running, Ordering::SeqCst);
        world.told.send(invocation.clone()).unwrap();
        tokio::spawn(async move {
            let (wait, function_error) = match world.behaviour {
                Behaviour::Answers => (Duration::ZERO, false),
                Behaviour::Fails => (Duration::ZERO, true),
                Behaviour::FailsFirst(count) => (Duration::ZERO, number <= count),
                Behaviour::Slow(_) if invocation.invoked_function_arn.ends_with(":other") => {
                    (Duration::ZERO, false)
                }
                Behaviour::Slow(wait) => (wait, false),
            };
            tokio::time::sleep(wait).await;
            world.running.fetch_sub(1, Ordering::SeqCst);
            let payload: Bytes = invocation.payload;
            answer(Answer { payload, content_type: None, function_error, stream_error: None });
            let log_tail = invocation.wants_log_tail.then(|| b"the log".to_vec());
            ended(PhaseEnd { reusable: true, log_tail });
        });
    }

    fn is_initialized(&self) -> bool {
        true
    }

    fn retire(&self) {}
}

/// Wall time that goes with tokio's.
pub(crate) struct TokioClock(Instant);

impl TokioClock {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }
}

impl Clock for TokioClock {
    fn epoch_ms(&self) -> u64 {
        1_800_000_000_000 + u64::try_from(self.0.elapsed().as_millis()).unwrap()
    }

    fn monotonic_us(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap()
    }
}

/// The queue's contract in memory: the embedded store has threads, which paused time does not
/// wait for.
#[derive(Clone)]
pub(crate) struct MemoryQueue(Arc<Mutex<QueueState>>, watch::Sender<u64>);

#[derive(Default)]
struct QueueState {
    events: Vec<Event>,
    leased: HashSet<EventId>,
    leased_at_ms: u64,
    postponed: Vec<u64>,
    next_id: u64,
    failures: usize,
}

impl Default for MemoryQueue {
    fn default() -> Self {
        Self(Arc::default(), watch::channel(0).0)
    }
}

impl MemoryQueue {
    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().events.len()
    }

    pub(crate) fn attempts(&self) -> Vec<u32> {
        self.0.lock().unwrap().events.iter().map(|event| event.attempt).collect()
    }

    /// The waits of all postponements, in seconds.
    pub(crate) fn postponed(&self) -> Vec<u64> {
        self.0.lock().unwrap().postponed.clone()
    }

    /// The next operations fail.
    pub(crate) fn fail(&self, operations: usize) {
        self.0.lock().unwrap().failures = operations;
    }

    fn with<T: Send + 'static>(
        &self,
        changes: bool,
        operation: impl FnOnce(&mut QueueState) -> T,
    ) -> PortFuture<'_, T> {
        let mut state = self.0.lock().unwrap();
        if state.failures > 0 {
            state.failures -= 1;
            return Box::pin(async { Err(StoreError::Closed) });
        }
        let result = operation(&mut state);
        drop(state);
        if changes {
            self.1.send_modify(|count| *count += 1);
        }
        Box::pin(async { Ok(result) })
    }

    fn hand_back(&self, id: EventId, not_before_ms: u64, attempts: u32) -> PortFuture<'_, ()> {
        self.with(true, move |state| {
            state.leased.remove(&id);
            if attempts == 0 {
                let wait = (not_before_ms - state.leased_at_ms) / 1000;
                state.postponed.push(wait);
            }
            let event = state.events.iter_mut().find(|event| event.id == id).unwrap();
            event.not_before_ms = not_before_ms;
            event.attempt += attempts;
        })
    }
}

impl Queue for MemoryQueue {
    fn enqueue(&self, event: NewEvent) -> PortFuture<'_, EventId> {
        self.with(true, |state| {
            state.next_id += 1;
            let id = EventId(state.next_id);
            let NewEvent { scope, payload, enqueued_ms, not_before_ms } = event;
            state.events.push(Event { id, scope, payload, enqueued_ms, not_before_ms, attempt: 0 });
            id
        })
    }

    fn due_fair(&self, now_ms: u64, room: usize, limit: usize) -> PortFuture<'_, Vec<Event>> {
        self.with(false, |state| {
            state.leased_at_ms = now_ms;
            let mut taken = Vec::new();
            while taken.len() < limit.min(room) {
                let leases = |scope: &str| {
                    let of_scope = state.events.iter().filter(|event| event.scope == scope);
                    of_scope.filter(|event| state.leased.contains(&event.id)).count()
                };
                let due = state.events.iter().filter(|event| {
                    event.not_before_ms <= now_ms && !state.leased.contains(&event.id)
                });
                let next =
                    due.min_by_key(|event| (leases(&event.scope), event.not_before_ms, event.id));
                match next.cloned() {
                    Some(event) if leases(&event.scope) < room - taken.len() => {
                        state.leased.insert(event.id);
                        taken.push(event);
                    }
                    _ => break,
                }
            }
            taken
        })
    }

    fn next_due_ms(&self) -> PortFuture<'_, Option<u64>> {
        self.with(false, |state| {
            let free = state.events.iter().filter(|event| !state.leased.contains(&event.id));
            free.map(|event| event.not_before_ms).min()
        })
    }

    fn ack(&self, id: EventId) -> PortFuture<'_, ()> {
        self.with(false, |state| {
            state.leased.remove(&id);
            state.events.retain(|event| event.id != id);
        })
    }

    fn retry(&self, id: EventId, not_before_ms: u64) -> PortFuture<'_, ()> {
        self.hand_back(id, not_before_ms, 1)
    }

    fn postpone(&self, id: EventId, not_before_ms: u64) -> PortFuture<'_, ()> {
        self.hand_back(id, not_before_ms, 0)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.1.subscribe()
    }
}
