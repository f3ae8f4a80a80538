//! Picks the events of one page out of all that pass by, in bounded memory.

use crate::query::Event;
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Most bytes of messages in a page, unless one event is larger.
pub(crate) const PAGE_BYTES: usize = 1 << 20;

/// Place of an event in time: milliseconds, then sequence.
pub(crate) type Position = (u64, u64);

struct Entry {
    rank: Position,
    event: Event,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank.cmp(&other.rank)
    }
}

/// Keeps the earliest events (or the latest, when `newest_first`).
pub(crate) struct Selection {
    limit: usize,
    newest_first: bool,
    /// The worst on top.
    heap: BinaryHeap<Entry>,
    bytes: usize,
    /// Nothing from this rank on is in the page: it was full before.
    ceiling: Option<Position>,
}

impl Selection {
    pub(crate) fn new(limit: usize, newest_first: bool) -> Self {
        let limit = limit.clamp(1, 10_000);
        Self { limit, newest_first, heap: BinaryHeap::new(), bytes: 0, ceiling: None }
    }

    pub(crate) fn newest_first(&self) -> bool {
        self.newest_first
    }

    fn rank(&self, (ms, sequence): Position) -> Position {
        if self.newest_first { (u64::MAX - ms, u64::MAX - sequence) } else { (ms, sequence) }
    }

    /// False when nothing within these times could get in.
    pub(crate) fn may_take(&self, first_ms: u64, last_ms: u64) -> bool {
        let best = if self.newest_first { (last_ms, u64::MAX) } else { (first_ms, 0) };
        self.ceiling.is_none_or(|ceiling| self.rank(best) < ceiling)
    }

    pub(crate) fn offer(&mut self, position: Position, bytes: usize, make: impl FnOnce() -> Event) {
        let rank = self.rank(position);
        if self.ceiling.is_some_and(|ceiling| rank >= ceiling) {
            return;
        }
        self.heap.push(Entry { rank, event: make() });
        self.bytes += bytes;
        while self.heap.len() > self.limit || (self.bytes > PAGE_BYTES && self.heap.len() > 1) {
            let Some(worst) = self.heap.pop() else { break };
            self.bytes -= worst.event.bytes.len();
            self.ceiling = Some(worst.rank);
        }
    }

    /// The events in order of time, and whether there are more.
    pub(crate) fn finish(self) -> (Vec<Event>, bool) {
        let mut events: Vec<_> =
            self.heap.into_sorted_vec().into_iter().map(|entry| entry.event).collect();
        if self.newest_first {
            events.reverse();
        }
        (events, self.ceiling.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_page_is_the_beginning_of_the_sorted_whole(
            sizes in proptest::collection::vec((0u64..20, 0usize..400_000), 0..40),
            limit in 1usize..20,
            newest_first in any::<bool>(),
        ) {
            let mut selection = Selection::new(limit, newest_first);
            let mut all = Vec::new();
            for (sequence, (ms, bytes)) in (1u64..).zip(sizes) {
                let event = Event { stream: "s".into(), epoch_ms: ms, sequence, bytes: vec![0; bytes] };
                all.push(event.clone());
                selection.offer((ms, sequence), bytes, || event);
            }
            all.sort_by_key(|event| (event.epoch_ms, event.sequence));
            if newest_first {
                all.reverse();
            }
            let mut total = 0;
            let fitting = all.iter().take(limit).take_while(|event| {
                total += event.bytes.len();
                total <= PAGE_BYTES || total == event.bytes.len()
            }).count();
            let more = fitting < all.len();
            all.truncate(fitting);
            if newest_first {
                all.reverse();
            }
            prop_assert_eq!(selection.finish(), (all, more));
        }
    }
}
