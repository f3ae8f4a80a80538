//! Telemetry of one execution environment (behaviour specification §3): who subscribed, what is
//! kept for later subscribers, what waits to be sent to each, and the sending itself.
//!
//! ```text
//!   record ──► Relay ──► backlog, until subscriptions close
//!                │
//!                └────► Buffer of each subscriber ──► deliver ──► HTTP or TCP, inside the sandbox
//! ```

mod buffer;
mod deliver;
mod subscription;

pub use buffer::{Buffer, QUEUE_FACTOR};
pub use deliver::{Network, Outlet, deliver};
pub use subscription::{
    Buffering, Destination, Subscription, SubscriptionRefusal, TelemetryApi, Types,
};

use std::sync::Arc;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// Most that is kept for later subscribers, bytes; what comes after it is counted and told as
/// dropped.
pub const BACKLOG_BYTES: usize = 1 << 20;

/// Whose record it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordKind {
    /// The platform's.
    Platform,
    /// A line of the function's output.
    Function,
    /// A line of an extension's output.
    Extension,
}

/// One record, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Whose it is.
    pub kind: RecordKind,
    /// Subscribers of the Telemetry API are told.
    pub telemetry: bool,
    /// Subscribers of the Logs API are told, from this schema on.
    pub logs: Option<LogsSchema>,
    /// The JSON document, on one line.
    pub json: Arc<str>,
}

/// The versions of the Logs API's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogsSchema {
    /// `2020-08-15`
    V2020,
    /// `2021-03-18`, which knows `platform.runtimeDone`.
    V2021,
}

/// Makes the record that says how many records, and how many bytes, were dropped.
pub type DroppedRecord = Arc<dyn Fn(u64, u64) -> Arc<str> + Send + Sync>;

struct Subscriber {
    extension: Arc<str>,
    subscription: Subscription,
    outlet: Arc<Outlet>,
    task: Option<AbortHandle>,
}

impl Subscriber {
    fn wants(&self, record: &Record) -> bool {
        let types = self.subscription.types;
        let kind = match record.kind {
            RecordKind::Platform => types.platform,
            RecordKind::Function => types.function,
            RecordKind::Extension => types.extension,
        };
        kind && match self.subscription.api {
            TelemetryApi::Telemetry => record.telemetry,
            TelemetryApi::Logs(schema) => record.logs.is_some_and(|since| schema >= since),
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

/// Passes records on to subscribers, and keeps those of the init phase for who comes later.
pub struct Relay {
    /// `None` once subscriptions are closed.
    backlog: Option<Backlog>,
    subscribers: Vec<Subscriber>,
    dropped: DroppedRecord,
}

#[derive(Default)]
struct Backlog {
    records: Vec<Record>,
    bytes: usize,
    dropped_records: u64,
    dropped_bytes: u64,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay")
            .field("open", &self.backlog.is_some())
            .field("subscribers", &self.subscribers.len())
            .finish_non_exhaustive()
    }
}

impl Relay {
    /// Open to subscriptions.
    #[must_use]
    pub fn new(dropped: DroppedRecord) -> Self {
        Self { backlog: Some(Backlog::default()), subscribers: Vec::new(), dropped }
    }

    /// Passes a record on.
    pub fn push(&mut self, now: Instant, record: Record) {
        for subscriber in self.subscribers.iter().filter(|s| s.wants(&record)) {
            subscriber.outlet.push(now, &record.json);
        }
        let Some(backlog) = &mut self.backlog else { return };
        let bytes = record.json.len();
        if backlog.bytes + bytes > BACKLOG_BYTES {
            backlog.dropped_records += 1;
            backlog.dropped_bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
            return;
        }
        backlog.bytes += bytes;
        backlog.records.push(record);
    }

    /// Adds a subscriber, who is told everything since the init phase began. `None`: this
    /// extension has subscribed before, and that stands. Otherwise the caller starts
    /// [`deliver`] on the outlet, tells [`Relay::started`], and pushes the record of the
    /// subscription.
    ///
    /// # Errors
    /// When subscriptions are closed, or the other API is in use.
    pub fn subscribe(
        &mut self,
        now: Instant,
        extension: &Arc<str>,
        subscription: Subscription,
    ) -> Result<Option<Arc<Outlet>>, SubscriptionRefusal> {
        let api = subscription.api;
        let Some(backlog) = &self.backlog else { return Err(SubscriptionRefusal::Closed(api)) };
        let is_logs = |api| matches!(api, TelemetryApi::Logs(_));
        if self.subscribers.iter().any(|s| is_logs(s.subscription.api) != is_logs(api)) {
            return Err(SubscriptionRefusal::OtherApi(api));
        }
        if self.subscribers.iter().any(|s| s.extension == *extension) {
            return Ok(None);
        }
        let buffer = Buffer::new(subscription.buffering, Arc::clone(&self.dropped));
        let outlet = Arc::new(Outlet::new(buffer, subscription.destination.clone()));
        let subscriber = Subscriber {
            extension: Arc::clone(extension),
            subscription,
            outlet: Arc::clone(&outlet),
            task: None,
        };
        for record in backlog.records.iter().filter(|record| subscriber.wants(record)) {
            outlet.push(now, &record.json);
        }
        if backlog.dropped_records > 0 {
            outlet.lost(backlog.dropped_records, backlog.dropped_bytes);
        }
        self.subscribers.push(subscriber);
        Ok(Some(outlet))
    }

    /// The task that delivers to the newest subscriber; it ends with the relay.
    pub fn started(&mut self, task: AbortHandle) {
        match self.subscribers.last_mut() {
            Some(subscriber) => subscriber.task = Some(task),
            None => task.abort(),
        }
    }

    /// The init phase is over: nobody can subscribe any more. False: nobody has.
    pub fn close(&mut self) -> bool {
        self.backlog = None;
        !self.subscribers.is_empty()
    }

    /// Sends everything as soon as it can be.
    pub fn flush(&self) {
        self.subscribers.iter().for_each(|subscriber| subscriber.outlet.flush());
    }

    /// Nothing waits and nothing is under way.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.subscribers.iter().all(|subscriber| subscriber.outlet.is_drained())
    }
}

#[cfg(test)]
mod tests;
