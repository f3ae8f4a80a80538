//! Runs the events of the queue: each at least once, the failed ones again.
//!
//! ```text
//!   queued ──due──► running ──answer──────────────────────────► done
//!     ▲                │ └──function error, no retries left───► given up
//!     │                │
//!     ├──1 min, 2 min──┤ function error (counts an attempt)
//!     └──1 s … 5 min───┘ throttled, platform error (counts none; given up after 6 h)
//! ```
//!
//! Places are given in turn by function, and each leaves as many free as it has: a function that
//! is slow or fails holds up itself alone.
//!
//! An event stays in the queue until it is done or given up, so that a crash at any moment
//! runs it again, under the same request id.

use crate::event::StoredEvent;
use crate::invoker::AsyncConfig;
use crate::port::{Functions, Placement, PortFuture, Queue};
use lambfold_control::{ControlError, ErrorKind};
use lambfold_pool::{PoolError, ThrottleReason};
use lambfold_store::{Event, EventId};
use lambfold_types::{Clock, Invocation, InvocationKind};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// Longest sleep of the dispatcher: wall time may be set anew meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);
/// Events taken from the queue at a time.
const BATCH: usize = 32;

pub(crate) struct Dispatcher {
    pub(crate) functions: Arc<dyn Functions>,
    pub(crate) pool: Arc<dyn Placement>,
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) config: AsyncConfig,
}

/// Events that run now.
#[derive(Default)]
struct Running {
    count: AtomicUsize,
    ended: Notify,
}

/// One of them.
struct Place(Arc<Running>);

impl Place {
    fn take(running: &Arc<Running>) -> Self {
        running.count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(running))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::SeqCst);
        self.0.ended.notify_one();
    }
}

/// What becomes of an event after an attempt.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Done,
    /// Told to the operator; destinations will be told here.
    GivenUp(&'static str),
    Retry(Duration),
    Postpone(Duration),
    /// The server shuts down: it runs after the next start.
    Leave,
}

impl Dispatcher {
    /// Until `stopped` is true or its sender is gone.
    pub(crate) async fn run(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let running = Arc::default();
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = self.dispatch(&running) => {}
        }
    }

    async fn dispatch(self: &Arc<Self>, running: &Arc<Running>) {
        let places = self.config.parallelism.max(1);
        let mut changes = self.queue.changes();
        loop {
            changes.mark_unchanged();
            let mut ended = pin!(running.ended.notified());
            ended.as_mut().enable();
            let room = places.saturating_sub(running.count.load(Ordering::SeqCst));
            match self.queue.due_fair(self.clock.epoch_ms(), room, room.min(BATCH)).await {
                Ok(events) if events.is_empty() => self.wait(&mut changes, ended).await,
                Ok(events) => {
                    for event in events {
                        let place = Place::take(running);
                        let dispatcher = Arc::clone(self);
                        tokio::spawn(async move {
                            dispatcher.handle(event).await;
                            drop(place);
                        });
                    }
                }
                Err(error) => {
                    tracing::error!(error = %error, cause = ?error, "the event queue cannot be read; trying again in 5 s");
                    tokio::time::sleep(Duration::from_secs(5)).await;
                }
            }
        }
    }

    /// Until an event may be due, or one that is due may have its turn.
    async fn wait(&self, changes: &mut watch::Receiver<u64>, ended: impl Future<Output = ()>) {
        let sleep = match self.queue.next_due_ms().await {
            Ok(Some(due_ms)) => match due_ms.saturating_sub(self.clock.epoch_ms()) {
                // Its function has as many places as it may, or none is left.
                0 => LONGEST_SLEEP,
                wait => Duration::from_millis(wait).min(LONGEST_SLEEP),
            },
            Ok(None) => LONGEST_SLEEP,
            Err(_) => Duration::from_secs(5),
        };
        tokio::select! {
            () = tokio::time::sleep(sleep) => {}
            () = ended => {}
            changed = changes.changed() => if changed.is_err() {
                tokio::time::sleep(sleep).await;
            }
        }
    }

    async fn handle(&self, event: Event) {
        let id = event.id;
        let (enqueued_ms, attempt) = (event.enqueued_ms, event.attempt);
        let verdict = match StoredEvent::parse(event.payload) {
            Ok(stored) => {
                let (function, request_id) = (stored.function.clone(), stored.request_id);
                let verdict = self.attempt(stored, enqueued_ms, attempt).await;
                if let Verdict::GivenUp(why) = &verdict {
                    tracing::warn!(%function, %request_id, attempts = attempt + 1, why, "an asynchronous event is dropped");
                }
                verdict
            }
            Err(error) => {
                tracing::error!(event = id.0, %error, "an asynchronous event is dropped");
                Verdict::GivenUp("damaged")
            }
        };
        self.settle(id, &verdict).await;
    }

    async fn attempt(&self, event: StoredEvent, enqueued_ms: u64, attempt: u32) -> Verdict {
        let StoredEvent { request_id, scope, function, qualifier, content_type, trace_id, payload } =
            event;
        let resolved = match self.functions.resolve(&scope, &function, qualifier.as_deref()) {
            Ok(resolved) => resolved,
            // A server with other settings may run it.
            Err(ControlError::LayersNotRun { .. }) => return self.postpone(enqueued_ms),
            Err(error) if error.kind() == ErrorKind::Service => {
                return self.postpone(enqueued_ms);
            }
            Err(_) => return Verdict::GivenUp("the function or version does not exist any more"),
        };
        let invocation = Invocation {
            request_id,
            kind: InvocationKind::Asynchronous,
            invoked_function_arn: resolved.invoked_arn.into(),
            payload,
            content_type,
            client_context: None,
            trace_id,
            wants_log_tail: false,
            sink: None,
        };
        let answer = match self.pool.invoke(resolved.version, invocation) {
            Ok(in_flight) => in_flight.answer.await.unwrap_or(Err(PoolError::Lost)),
            Err(error) => Err(error),
        };
        match answer {
            Ok(answer) if !answer.function_error => Verdict::Done,
            Ok(_) => self.retry(enqueued_ms, attempt),
            Err(PoolError::Draining) => Verdict::Leave,
            Err(PoolError::Throttled {
                reason: ThrottleReason::ReservedFunctionConcurrentInvocationLimitExceeded,
                limit: 0,
                ..
            }) => Verdict::GivenUp("its reserved concurrency is 0"),
            Err(_) => self.postpone(enqueued_ms),
        }
    }

    /// After a function error.
    fn retry(&self, enqueued_ms: u64, attempt: u32) -> Verdict {
        let waits = &self.config.retry_waits;
        match usize::try_from(attempt).ok().and_then(|attempt| waits.get(attempt)) {
            None => Verdict::GivenUp("the function failed and no retries are left"),
            Some(wait) if self.too_old(enqueued_ms, *wait) => Verdict::GivenUp(TOO_OLD),
            Some(wait) => Verdict::Retry(*wait),
        }
    }

    /// After an attempt that the function never saw, or that the platform broke off.
    fn postpone(&self, enqueued_ms: u64) -> Verdict {
        let (shortest, longest) = self.config.backoff;
        let wait = self.age(enqueued_ms).clamp(shortest, longest.max(shortest));
        if self.too_old(enqueued_ms, wait) {
            return Verdict::GivenUp(TOO_OLD);
        }
        Verdict::Postpone(wait)
    }

    fn age(&self, enqueued_ms: u64) -> Duration {
        Duration::from_millis(self.clock.epoch_ms().saturating_sub(enqueued_ms))
    }

    fn too_old(&self, enqueued_ms: u64, wait: Duration) -> bool {
        self.age(enqueued_ms) + wait > self.config.max_age
    }

    /// Records the verdict; tries until the store takes it, since the event would else stay
    /// leased until the next start.
    async fn settle(&self, id: EventId, verdict: &Verdict) {
        let mut pause = Duration::from_secs(1);
        loop {
            let at = |wait: &Duration| {
                let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                self.clock.epoch_ms().saturating_add(wait)
            };
            let recorded: PortFuture<'_, ()> = match verdict {
                Verdict::Done | Verdict::GivenUp(_) => self.queue.ack(id),
                Verdict::Retry(wait) => self.queue.retry(id, at(wait)),
                Verdict::Postpone(wait) => self.queue.postpone(id, at(wait)),
                Verdict::Leave => return,
            };
            match recorded.await {
                Ok(()) => return,
                Err(error) => {
                    tracing::error!(event = id.0, error = %error, cause = ?error, "the event queue cannot be written; trying again");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(60));
        }
    }
}

const TOO_OLD: &str = "it is older than the longest age of an event";
