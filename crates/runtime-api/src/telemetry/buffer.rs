use super::{Buffering, DroppedRecord};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::time::Instant;

/// How many batches may wait for a slow subscriber, counted in its `maxBytes`.
pub const QUEUE_FACTOR: usize = 4;

/// What waits to be sent to one subscriber. Sans-IO: it is told the time.
pub struct Buffer {
    limits: Buffering,
    queue: VecDeque<Arc<str>>,
    bytes: usize,
    first_at: Option<Instant>,
    /// A batch is on its way.
    sending: bool,
    /// Everything is to be sent at once.
    flushing: bool,
    dropped_records: u64,
    dropped_bytes: u64,
    dropped: DroppedRecord,
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffer")
            .field("records", &self.queue.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

impl Buffer {
    /// Empty; `dropped` makes the record that says what was dropped.
    #[must_use]
    pub fn new(limits: Buffering, dropped: DroppedRecord) -> Self {
        Self {
            limits,
            queue: VecDeque::new(),
            bytes: 0,
            first_at: None,
            sending: false,
            flushing: false,
            dropped_records: 0,
            dropped_bytes: 0,
            dropped,
        }
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.bytes + bytes <= self.limits.bytes * QUEUE_FACTOR
            && self.queue.len() < self.limits.items * QUEUE_FACTOR
    }

    /// Adds a record, or drops it when the subscriber is too slow. True: whoever sends must look
    /// again at [`Buffer::ripe_at`].
    pub fn push(&mut self, now: Instant, record: Arc<str>) -> bool {
        if !self.has_room(record.len()) {
            self.lost(1, u64::try_from(record.len()).unwrap_or(u64::MAX));
            return false;
        }
        let before = self.ripe_at();
        self.admit_dropped();
        self.bytes += record.len();
        self.queue.push_back(record);
        self.first_at.get_or_insert(now);
        !self.sending && self.ripe_at() != before
    }

    /// Counts what was dropped, to be told with the next record or when the queue is empty.
    pub fn lost(&mut self, records: u64, bytes: u64) {
        self.dropped_records += records;
        self.dropped_bytes += bytes;
    }

    /// Says what was dropped, before anything that came later.
    fn admit_dropped(&mut self) {
        if self.dropped_records > 0 {
            let record = (self.dropped)(self.dropped_records, self.dropped_bytes);
            (self.dropped_records, self.dropped_bytes) = (0, 0);
            self.bytes += record.len();
            self.queue.push_back(record);
        }
    }

    /// When the next batch is to be sent; in the past: now. `None`: not before more comes.
    #[must_use]
    pub fn ripe_at(&self) -> Option<Instant> {
        let first = self.first_at?;
        let full = self.queue.len() >= self.limits.items || self.bytes >= self.limits.bytes;
        Some(if full || self.flushing { first } else { first + self.limits.timeout })
    }

    /// Takes the next batch; [`Buffer::sent`] must follow.
    pub fn take(&mut self, now: Instant) -> Vec<Arc<str>> {
        let mut bytes = 0;
        let mut count = 0;
        for record in self.queue.iter().take(self.limits.items) {
            // The last one may go beyond the limit, as on AWS.
            if bytes >= self.limits.bytes {
                break;
            }
            bytes += record.len();
            count += 1;
        }
        self.bytes -= bytes;
        let batch: Vec<_> = self.queue.drain(..count).collect();
        if self.queue.is_empty() && self.dropped_records > 0 {
            self.admit_dropped();
        }
        self.first_at = (!self.queue.is_empty()).then_some(now);
        self.sending = true;
        batch
    }

    /// The batch was sent.
    pub fn sent(&mut self) {
        self.sending = false;
    }

    /// The batch was given up: the subscriber does not take it.
    pub fn given_up(&mut self, now: Instant, batch: &[Arc<str>]) {
        self.sending = false;
        let bytes: usize = batch.iter().map(|record| record.len()).sum();
        let count = |n| u64::try_from(n).unwrap_or(u64::MAX);
        self.lost(count(batch.len()), count(bytes));
        if !self.queue.is_empty() {
            self.admit_dropped();
            self.first_at.get_or_insert(now);
        }
    }

    /// Everything is to be sent at once, now and from now on.
    pub fn flush(&mut self) {
        self.flushing = true;
    }

    /// Nothing waits and nothing is under way.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.queue.is_empty() && !self.sending
    }

    #[cfg(test)]
    pub(super) fn queue_is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}
