//! From the environments of a function to those who watch it.
//!
//! ```text
//!   Tap (one an environment) ──► channel (one a function) ──► queue (one a watch) ──► Watch
//! ```

use crate::call::Call;
use lambfold_types::{Clock, FunctionName, Scope, Version};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

/// Most calls that wait for one watch.
pub const QUEUE_CALLS: usize = 4_096;
/// Most memory that the calls of one watch take while they wait, bytes.
pub const QUEUE_BYTES: usize = 32 << 20;
/// Most watches at a time.
pub const WATCHES: usize = 64;

/// There are [`WATCHES`] already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{WATCHES} traces run already, which is the limit; end one of them")]
pub struct TooManyWatches;

/// All functions of a server.
#[derive(Default)]
pub struct Hub {
    channels: Mutex<Channels>,
    watches: Arc<AtomicUsize>,
}

type Key = (Scope, FunctionName);

#[derive(Default)]
struct Channels {
    of: HashMap<Key, Weak<Channel>>,
    /// Size at which those that nobody uses any more are thrown out.
    sweep_at: usize,
}

/// One function.
#[derive(Default)]
struct Channel {
    /// 0: nobody watches; else one more than the most bytes of a body that anybody wants.
    wanted: AtomicUsize,
    queues: Mutex<Vec<Arc<Queue>>>,
}

/// What waits for one watch.
struct Queue {
    version: Option<Version>,
    body_bytes: usize,
    state: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    items: VecDeque<Seen>,
    calls: usize,
    bytes: usize,
    waker: Option<Waker>,
}

/// What a watch sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// A call.
    Call(Arc<Call>),
    /// So many calls, here, that its queue had no room for.
    Dropped(u64),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// One that nobody watches.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn channel(&self, scope: &Scope, name: &FunctionName) -> Arc<Channel> {
        const SPARE: usize = 64;
        let mut channels = lock(&self.channels);
        let key = (scope.clone(), name.clone());
        if let Some(channel) = channels.of.get(&key).and_then(Weak::upgrade) {
            return channel;
        }
        if channels.of.len() >= channels.sweep_at {
            channels.of.retain(|_, channel| channel.strong_count() > 0);
            channels.sweep_at = 2 * channels.of.len() + SPARE;
        }
        let channel = Arc::new(Channel::default());
        channels.of.insert(key, Arc::downgrade(&channel));
        channel
    }

    /// What an environment of a function holds.
    #[must_use]
    pub fn tap(
        &self,
        scope: &Scope,
        name: &FunctionName,
        version: Version,
        environment: &str,
        clock: Arc<dyn Clock>,
    ) -> Tap {
        let channel = self.channel(scope, name);
        Tap { channel, version, environment: environment.to_owned(), clock }
    }

    /// Watches the environments of a function, those that come later included, and of a `version`
    /// only if one is given. `body_bytes` of each body are kept.
    ///
    /// # Errors
    /// When there are too many watches.
    pub fn watch(
        &self,
        scope: &Scope,
        name: &FunctionName,
        version: Option<Version>,
        body_bytes: usize,
    ) -> Result<Watch, TooManyWatches> {
        let place = Place::take(&self.watches)?;
        let channel = self.channel(scope, name);
        let queue = Arc::new(Queue { version, body_bytes, state: Mutex::default() });
        let mut queues = lock(&channel.queues);
        queues.push(Arc::clone(&queue));
        channel.publish(&queues);
        drop(queues);
        Ok(Watch { channel, queue, _place: place })
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("watches", &self.watches).finish_non_exhaustive()
    }
}

/// One of the places for watches; given back when it is dropped.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(watches: &Arc<AtomicUsize>) -> Result<Self, TooManyWatches> {
        let more = |count: usize| (count < WATCHES).then_some(count + 1);
        let taken = watches.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.map(|_| Self(Arc::clone(watches))).map_err(|_| TooManyWatches)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Channel {
    fn publish(&self, queues: &[Arc<Queue>]) {
        let wanted = queues.iter().map(|queue| queue.body_bytes.saturating_add(1)).max();
        self.wanted.store(wanted.unwrap_or(0), Ordering::Relaxed);
    }
}

/// Where the calls of one environment go.
pub struct Tap {
    channel: Arc<Channel>,
    version: Version,
    environment: String,
    clock: Arc<dyn Clock>,
}

impl Tap {
    /// How many bytes of a body are wanted; `None` while nobody watches, which costs an atomic
    /// load to learn.
    #[must_use]
    pub fn wanted(&self) -> Option<usize> {
        self.channel.wanted.load(Ordering::Relaxed).checked_sub(1)
    }

    /// Now, for [`Call::took_us`], microseconds.
    #[must_use]
    pub fn now_us(&self) -> u64 {
        self.clock.monotonic_us()
    }

    /// Gives a call to everybody who watches; waits for nobody. Time, environment and version are
    /// filled in.
    pub fn offer(&self, mut call: Call) {
        call.at = self.clock.epoch_ms();
        call.environment.clone_from(&self.environment);
        call.version = self.version.to_string();
        let call = Arc::new(call);
        for queue in lock(&self.channel.queues).iter() {
            if queue.version.is_none_or(|version| version == self.version) {
                queue.push(&call);
            }
        }
    }
}

impl fmt::Debug for Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tap").field("environment", &self.environment).finish_non_exhaustive()
    }
}

impl Queue {
    fn push(&self, call: &Arc<Call>) {
        let weight = call.weight();
        let mut state = lock(&self.state);
        if state.calls >= QUEUE_CALLS || state.bytes + weight > QUEUE_BYTES {
            match state.items.back_mut() {
                Some(Seen::Dropped(count)) => *count += 1,
                _ => state.items.push_back(Seen::Dropped(1)),
            }
        } else {
            state.calls += 1;
            state.bytes += weight;
            state.items.push_back(Seen::Call(Arc::clone(call)));
        }
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Somebody who watches; dropping it ends that.
pub struct Watch {
    channel: Arc<Channel>,
    queue: Arc<Queue>,
    _place: Place,
}

impl Watch {
    /// How many bytes of each body it was asked to keep.
    #[must_use]
    pub fn body_bytes(&self) -> usize {
        self.queue.body_bytes
    }

    /// The next thing to see.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Seen> {
        let mut state = lock(&self.queue.state);
        match state.items.pop_front() {
            Some(seen) => {
                if let Seen::Call(call) = &seen {
                    state.calls -= 1;
                    state.bytes -= call.weight();
                }
                Poll::Ready(seen)
            }
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut queues = lock(&self.channel.queues);
        queues.retain(|queue| !Arc::ptr_eq(queue, &self.queue));
        self.channel.publish(&queues);
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("version", &self.queue.version).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
