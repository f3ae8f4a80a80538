use std::sync::Arc;
use tokio::sync::broadcast;

/// One change of one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Written, at this revision.
    Put {
        /// Its key.
        key: String,
        /// Its new revision.
        revision: u64,
    },
    /// Removed, by the commit of this revision.
    Delete {
        /// Its key.
        key: String,
        /// Of the commit.
        revision: u64,
    },
    /// The watcher was too slow and missed some changes: read everything anew.
    Missed,
}

impl Change {
    fn key(&self) -> &str {
        match self {
            Self::Put { key, .. } | Self::Delete { key, .. } => key,
            Self::Missed => "",
        }
    }
}

/// Changes as they become durable, in the order of their commits.
#[derive(Debug)]
pub struct Watch {
    prefix: String,
    receiver: broadcast::Receiver<Arc<[Change]>>,
    pending: std::collections::VecDeque<Change>,
}

impl Watch {
    /// A watch of those changes that a backend sends, one message a commit.
    #[must_use]
    pub fn new(prefix: &str, receiver: broadcast::Receiver<Arc<[Change]>>) -> Self {
        Self { prefix: prefix.to_owned(), receiver, pending: std::collections::VecDeque::new() }
    }

    /// Waits for the next change; `None` when the store is closed. May be dropped and called
    /// again without losing a change.
    pub async fn next(&mut self) -> Option<Change> {
        loop {
            if let Some(change) = self.pending.pop_front() {
                return Some(change);
            }
            match self.receiver.recv().await {
                Ok(changes) => self
                    .pending
                    .extend(changes.iter().filter(|c| c.key().starts_with(&self.prefix)).cloned()),
                Err(broadcast::error::RecvError::Lagged(_)) => return Some(Change::Missed),
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }
}
