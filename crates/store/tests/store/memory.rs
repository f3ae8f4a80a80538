//! The simplest backend: maps behind a lock. The model for random tests.

use lambfold_store::{
    Backend, Change, CommitError, Document, Event, EventId, Expected, KEY_BYTES, NewEvent,
    StoreError, VALUE_BYTES, Watch, Write,
};
use lambfold_types::Digest;
use sha2::Digest as _;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek as _, Write as _};
use std::sync::{Arc, Mutex};
use tokio::sync::{broadcast, watch};

#[derive(Default)]
struct State {
    revision: u64,
    documents: BTreeMap<String, Document>,
    last_event: u64,
    events: BTreeMap<u64, Event>,
    leased: HashSet<u64>,
    blobs: BTreeMap<Digest, Vec<u8>>,
}

pub(crate) struct Memory {
    state: Mutex<State>,
    changes: broadcast::Sender<Arc<[Change]>>,
    queue: watch::Sender<u64>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            changes: broadcast::channel(1024).0,
            queue: watch::channel(0).0,
        }
    }
}

impl Memory {
    fn hand_back(&self, id: EventId, not_before_ms: u64, attempts: u32) -> Result<(), StoreError> {
        if i64::try_from(not_before_ms).is_err() {
            return Err(StoreError::NumberSize { what: "the due time", value: not_before_ms });
        }
        let mut state = self.state.lock().unwrap();
        if let Some(event) = state.events.get_mut(&id.0) {
            event.not_before_ms = not_before_ms;
            event.attempt += attempts;
        }
        state.leased.remove(&id.0);
        self.queue.send_modify(|count| *count += 1);
        Ok(())
    }
}

fn check(writes: &[Write]) -> Result<(), StoreError> {
    let mut keys = HashSet::new();
    for write in writes {
        let key = match write {
            Write::Put { key, value, .. } => {
                if value.len() > VALUE_BYTES {
                    return Err(StoreError::ValueSize { key: key.clone(), bytes: value.len() });
                }
                key
            }
            Write::Delete { key, .. } | Write::Check { key, .. } => key,
            Write::Enqueue(event) => {
                if event.payload.len() > VALUE_BYTES {
                    let bytes = event.payload.len();
                    return Err(StoreError::ValueSize { key: event.scope.clone(), bytes });
                }
                continue;
            }
        };
        if key.is_empty() || key.len() > KEY_BYTES {
            return Err(StoreError::KeySize { bytes: key.len() });
        }
        if !keys.insert(key) {
            return Err(StoreError::KeyTwice { key: key.clone() });
        }
    }
    Ok(())
}

impl Backend for Memory {
    async fn get(&self, key: &str) -> Result<Option<Document>, StoreError> {
        Ok(self.state.lock().unwrap().documents.get(key).cloned())
    }

    async fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Document)>, StoreError> {
        let state = self.state.lock().unwrap();
        Ok(state
            .documents
            .iter()
            .filter(|(key, _)| key.starts_with(prefix))
            .filter(|(key, _)| after.is_none_or(|after| key.as_str() > after))
            .take(limit)
            .map(|(key, document)| (key.clone(), document.clone()))
            .collect())
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Vec<u64>, CommitError> {
        check(&writes)?;
        let mut state = self.state.lock().unwrap();
        for write in &writes {
            let (Write::Put { key, expected, .. }
            | Write::Delete { key, expected }
            | Write::Check { key, expected }) = write
            else {
                continue;
            };
            let found = state.documents.get(key).map(|document| document.revision);
            let holds = match expected {
                Expected::Any => true,
                Expected::Absent => found.is_none(),
                Expected::Revision(revision) => found == Some(*revision),
            };
            if !holds {
                return Err(CommitError::Conflict { key: key.clone(), found });
            }
        }
        let revision = state.revision + 1;
        let mut changes = Vec::new();
        let mut results = Vec::new();
        for write in writes {
            match write {
                Write::Put { key, value, .. } => {
                    state.documents.insert(key.clone(), Document { value, revision });
                    changes.push(Change::Put { key, revision });
                    results.push(revision);
                }
                Write::Delete { key, .. } => match state.documents.remove(&key) {
                    Some(_) => {
                        changes.push(Change::Delete { key, revision });
                        results.push(revision);
                    }
                    None => results.push(0),
                },
                Write::Check { .. } => results.push(0),
                Write::Enqueue(event) => {
                    state.last_event += 1;
                    let id = state.last_event;
                    let NewEvent { scope, payload, enqueued_ms, not_before_ms } = event;
                    let id_ = EventId(id);
                    let event =
                        Event { id: id_, scope, payload, enqueued_ms, not_before_ms, attempt: 0 };
                    state.events.insert(id, event);
                    results.push(id);
                    self.queue.send_modify(|count| *count += 1);
                }
            }
        }
        if !changes.is_empty() {
            state.revision = revision;
            let _ = self.changes.send(changes.into());
        }
        Ok(results)
    }

    fn watch(&self, prefix: &str) -> Watch {
        Watch::new(prefix, self.changes.subscribe())
    }

    async fn put_blob(
        &self,
        mut reader: impl Read + Send + 'static,
    ) -> Result<(Digest, u64), StoreError> {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).map_err(|source| StoreError::Io {
            action: "read",
            path: "memory".into(),
            source: Arc::new(source),
        })?;
        let digest = Digest::from_bytes(&sha2::Sha256::digest(&bytes).into());
        let size = bytes.len() as u64;
        self.state.lock().unwrap().blobs.insert(digest.clone(), bytes);
        Ok((digest, size))
    }

    async fn open_blob(&self, digest: &Digest) -> Result<Option<File>, StoreError> {
        let state = self.state.lock().unwrap();
        Ok(state.blobs.get(digest).map(|bytes| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            file.rewind().unwrap();
            file
        }))
    }

    async fn delete_blob(&self, digest: &Digest) -> Result<(), StoreError> {
        self.state.lock().unwrap().blobs.remove(digest);
        Ok(())
    }

    async fn list_blobs(&self) -> Result<Vec<Digest>, StoreError> {
        Ok(self.state.lock().unwrap().blobs.keys().cloned().collect())
    }

    async fn enqueue(&self, event: NewEvent) -> Result<EventId, StoreError> {
        match self.commit(vec![Write::Enqueue(event)]).await {
            Ok(ids) => Ok(EventId(ids[0])),
            Err(CommitError::Store(error)) => Err(error),
            Err(CommitError::Conflict { .. }) => Err(StoreError::Closed),
        }
    }

    async fn due(&self, now_ms: u64, limit: usize) -> Result<Vec<Event>, StoreError> {
        let mut state = self.state.lock().unwrap();
        let mut due: Vec<Event> = state
            .events
            .values()
            .filter(|event| event.not_before_ms <= now_ms && !state.leased.contains(&event.id.0))
            .cloned()
            .collect();
        due.sort_by_key(|event| (event.not_before_ms, event.id));
        due.truncate(limit);
        state.leased.extend(due.iter().map(|event| event.id.0));
        Ok(due)
    }

    async fn due_fair(
        &self,
        now_ms: u64,
        room: usize,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        let mut state = self.state.lock().unwrap();
        let mut taken = Vec::new();
        while taken.len() < limit.min(room) {
            let leases = |scope: &str| {
                let leased = state.leased.iter().filter_map(|id| state.events.get(id));
                leased.filter(|event| event.scope == scope).count()
            };
            let due = state.events.values().filter(|event| {
                event.not_before_ms <= now_ms && !state.leased.contains(&event.id.0)
            });
            let next =
                due.min_by_key(|event| (leases(&event.scope), event.not_before_ms, event.id));
            match next.cloned() {
                Some(event) if leases(&event.scope) < room - taken.len() => {
                    state.leased.insert(event.id.0);
                    taken.push(event);
                }
                _ => break,
            }
        }
        Ok(taken)
    }

    async fn next_due_ms(&self) -> Result<Option<u64>, StoreError> {
        let state = self.state.lock().unwrap();
        let free = state.events.values().filter(|event| !state.leased.contains(&event.id.0));
        Ok(free.map(|event| event.not_before_ms).min())
    }

    async fn ack(&self, id: EventId) -> Result<(), StoreError> {
        let mut state = self.state.lock().unwrap();
        state.events.remove(&id.0);
        state.leased.remove(&id.0);
        Ok(())
    }

    async fn retry(&self, id: EventId, not_before_ms: u64) -> Result<(), StoreError> {
        self.hand_back(id, not_before_ms, 1)
    }

    async fn postpone(&self, id: EventId, not_before_ms: u64) -> Result<(), StoreError> {
        self.hand_back(id, not_before_ms, 0)
    }

    async fn purge(&self, prefix: &str) -> Result<u64, StoreError> {
        let mut state = self.state.lock().unwrap();
        let before = state.events.len();
        state.events.retain(|_, event| !event.scope.starts_with(prefix));
        let gone = before - state.events.len();
        let left: HashSet<u64> = state.events.keys().copied().collect();
        state.leased.retain(|id| left.contains(id));
        Ok(gone as u64)
    }

    fn queue_changes(&self) -> watch::Receiver<u64> {
        self.queue.subscribe()
    }
}
