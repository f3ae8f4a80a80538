//! Connections that read; each statement sees one snapshot and never waits for the writer.

use crate::error::StoreError;
use crate::schema;
use rusqlite::Connection;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Idle connections that are kept; more readers at once open more for a moment.
const KEPT: usize = 4;

#[derive(Debug)]
pub(crate) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, idle: Mutex::new(Vec::new()) }
    }

    /// Runs `read` on a connection of its own. Blocking.
    pub(crate) fn with<T>(
        &self,
        action: &'static str,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let failed = |source| StoreError::Database { action, source: Arc::new(source) };
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let connection = match idle {
            Some(connection) => connection,
            None => schema::reader(&self.path).map_err(failed)?,
        };
        let result = read(&connection).map_err(failed);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push(connection);
        }
        result
    }
}

/// The end of the range of keys that begin with `prefix`; `None`: there is no end.
pub(crate) fn range_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_ends_behind_the_last_key_with_the_prefix() {
        assert_eq!(range_end(b"a/"), Some(b"a0".to_vec()));
        assert_eq!(range_end(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(range_end(b"\xff"), None);
        assert_eq!(range_end(b""), None);
    }
}
