//! Leases of events; in memory alone, so that a crash hands every event out again.

use crate::backend::{Event, EventId};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
pub(crate) struct Leases(Mutex<Held>);

/// Scopes are bytes: they are compared and never shown.
#[derive(Debug, Default)]
struct Held {
    scopes: HashMap<u64, Vec<u8>>,
    counts: HashMap<Vec<u8>, usize>,
}

impl Held {
    fn add(&mut self, event: &Event) {
        let scope = event.scope.as_bytes().to_vec();
        *self.counts.entry(scope.clone()).or_default() += 1;
        self.scopes.insert(event.id.0, scope);
    }

    fn remove(&mut self, id: u64) {
        let Some(scope) = self.scopes.remove(&id) else { return };
        if let Some(count) = self.counts.get_mut(&scope) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&scope);
            }
        }
    }
}

/// What of one scope is due and not leased: due times and ids, oldest first.
struct Waiting {
    leases: usize,
    events: VecDeque<(i64, i64)>,
}

impl Waiting {
    fn rank(&self) -> (usize, Option<(i64, i64)>) {
        (self.leases, self.events.front().copied())
    }
}

const COLUMNS: &str = "id, scope, enqueued_ms, not_before_ms, attempt, payload";

fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    Ok(Event {
        id: EventId(row.get::<_, i64>(0)?.cast_unsigned()),
        scope: String::from_utf8_lossy(row.get_ref(1)?.as_blob()?).into_owned(),
        enqueued_ms: row.get::<_, i64>(2)?.cast_unsigned(),
        not_before_ms: row.get::<_, i64>(3)?.cast_unsigned(),
        attempt: row.get(4)?,
        payload: row.get(5)?,
    })
}

impl Leases {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called by the writer after the event's row is gone or changed durably.
    pub(crate) fn end(&self, id: u64) {
        self.lock().remove(id);
    }

    /// Leases due events. The lock is held while reading: a lease ends only after its row has
    /// changed, so a snapshot taken under the lock never shows an event whose lease has ended
    /// as it was before.
    pub(crate) fn take(
        &self,
        connection: &Connection,
        now_ms: u64,
        limit: usize,
    ) -> rusqlite::Result<Vec<Event>> {
        let mut held = self.lock();
        let mut statement = connection.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM event WHERE not_before_ms <= ? ORDER BY not_before_ms, id"
        ))?;
        let now = i64::try_from(now_ms).unwrap_or(i64::MAX);
        let mut rows = statement.query(params![now])?;
        let mut events = Vec::new();
        while events.len() < limit {
            let Some(row) = rows.next()? else { break };
            if !held.scopes.contains_key(&row.get::<_, i64>(0)?.cast_unsigned()) {
                events.push(event(row)?);
            }
        }
        events.iter().for_each(|event| held.add(event));
        Ok(events)
    }

    /// Leases due events in turn, scope by scope; see [`crate::Backend::due_fair`]. The lock is
    /// held for the reason above, and all statements see one snapshot.
    pub(crate) fn take_fair(
        &self,
        connection: &Connection,
        now_ms: u64,
        room: usize,
        limit: usize,
    ) -> rusqlite::Result<Vec<Event>> {
        let mut held = self.lock();
        let snapshot = connection.unchecked_transaction()?;
        let mut waiting = waiting(&snapshot, &held, now_ms, limit)?;
        let mut chosen = Vec::new();
        while chosen.len() < limit.min(room)
            && let Some(next) = waiting.iter_mut().min_by_key(|scope| scope.rank())
            && next.leases < room - chosen.len()
            && let Some((_, id)) = next.events.pop_front()
        {
            next.leases += 1;
            chosen.push(id);
            waiting.retain(|scope| !scope.events.is_empty());
        }
        let mut statement =
            snapshot.prepare_cached(&format!("SELECT {COLUMNS} FROM event WHERE id = ?"))?;
        let mut events = Vec::with_capacity(chosen.len());
        for id in chosen {
            events.extend(statement.query_row(params![id], event).optional()?);
        }
        events.iter().for_each(|event| held.add(event));
        Ok(events)
    }

    /// The earliest due time of what is not leased.
    pub(crate) fn next_due_ms(&self, connection: &Connection) -> rusqlite::Result<Option<u64>> {
        let held = self.lock();
        let mut statement = connection
            .prepare_cached("SELECT id, not_before_ms FROM event ORDER BY not_before_ms, id")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if !held.scopes.contains_key(&row.get::<_, i64>(0)?.cast_unsigned()) {
                return Ok(Some(row.get::<_, i64>(1)?.cast_unsigned()));
            }
        }
        Ok(None)
    }
}

/// By scope, up to `limit` of each. Jumps from scope to scope in the index, so that a long queue
/// of one costs no more than a short one.
fn waiting(
    connection: &Connection,
    held: &Held,
    now_ms: u64,
    limit: usize,
) -> rusqlite::Result<Vec<Waiting>> {
    let now = i64::try_from(now_ms).unwrap_or(i64::MAX);
    let mut next = connection
        .prepare_cached("SELECT scope FROM event WHERE scope > ? ORDER BY scope LIMIT 1")?;
    let mut due = connection.prepare_cached(
        "SELECT not_before_ms, id FROM event WHERE scope = ? AND not_before_ms <= ?
         ORDER BY not_before_ms, id",
    )?;
    let mut all = Vec::new();
    // No scope sorts before this one but the empty one.
    let mut scope: Option<Vec<u8>> = connection
        .prepare_cached("SELECT scope FROM event ORDER BY scope LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    while let Some(current) = scope {
        let mut events = VecDeque::new();
        let mut rows = due.query(params![current, now])?;
        while events.len() < limit
            && let Some(row) = rows.next()?
        {
            let found: (i64, i64) = (row.get(0)?, row.get(1)?);
            if !held.scopes.contains_key(&found.1.cast_unsigned()) {
                events.push_back(found);
            }
        }
        drop(rows);
        let following = next.query_row(params![current], |row| row.get(0)).optional()?;
        if !events.is_empty() {
            let leases = held.counts.get(&current).copied().unwrap_or_default();
            all.push(Waiting { leases, events });
        }
        scope = following;
    }
    Ok(all)
}
