//! Leases of events; in memory alone, so that a crash hands every event out again.

use crate::backend::{Event, EventId};
use rusqlite::{Connection, params};
use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

#[derive(Debug, Default)]
pub(crate) struct Leases(Mutex<HashSet<u64>>);

impl Leases {
    /// Called by the writer after the event's row is gone or changed durably.
    pub(crate) fn end(&self, id: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
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
        let mut leased = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut statement = connection.prepare_cached(
            "SELECT id, scope, enqueued_ms, not_before_ms, attempt, payload FROM event
             WHERE not_before_ms <= ? ORDER BY not_before_ms, id",
        )?;
        let now = i64::try_from(now_ms).unwrap_or(i64::MAX);
        let mut rows = statement.query(params![now])?;
        let mut events = Vec::new();
        while events.len() < limit {
            let Some(row) = rows.next()? else { break };
            let id = row.get::<_, i64>(0)?.cast_unsigned();
            if leased.contains(&id) {
                continue;
            }
            events.push(Event {
                id: EventId(id),
                scope: String::from_utf8_lossy(row.get_ref(1)?.as_blob()?).into_owned(),
                enqueued_ms: row.get::<_, i64>(2)?.cast_unsigned(),
                not_before_ms: row.get::<_, i64>(3)?.cast_unsigned(),
                attempt: row.get(4)?,
                payload: row.get(5)?,
            });
        }
        leased.extend(events.iter().map(|event| event.id.0));
        Ok(events)
    }

    /// The earliest due time of what is not leased.
    pub(crate) fn next_due_ms(&self, connection: &Connection) -> rusqlite::Result<Option<u64>> {
        let leased = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut statement = connection
            .prepare_cached("SELECT id, not_before_ms FROM event ORDER BY not_before_ms, id")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            if !leased.contains(&row.get::<_, i64>(0)?.cast_unsigned()) {
                return Ok(Some(row.get::<_, i64>(1)?.cast_unsigned()));
            }
        }
        Ok(None)
    }
}
