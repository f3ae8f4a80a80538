//! The one thread that writes. Operations that arrive while a transaction is being synced
//! share the next one (group commit).

use crate::backend::{Expected, Write};
use crate::change::Change;
use crate::error::{CommitError, StoreError};
use crate::fault::{CrashPoint, Hook};
use crate::queue::Leases;
use crate::reader::range_end;
use rusqlite::{Connection, OptionalExtension as _, params};
use std::collections::HashMap;
use std::sync::{Arc, mpsc};
use tokio::sync::{broadcast, oneshot, watch};

/// Operations of one transaction at most; bounds its memory and the wait of the first.
const GROUP: usize = 512;

pub(crate) enum Operation {
    Commit(Vec<Write>, oneshot::Sender<Result<Vec<u64>, CommitError>>),
    Ack(u64, oneshot::Sender<Result<(), StoreError>>),
    HandBack {
        id: u64,
        not_before_ms: u64,
        attempts: u32,
        done: oneshot::Sender<Result<(), StoreError>>,
    },
    Purge(String, oneshot::Sender<Result<u64, StoreError>>),
}

pub(crate) struct Writer {
    pub(crate) connection: Connection,
    pub(crate) leases: Arc<Leases>,
    pub(crate) changes: broadcast::Sender<Arc<[Change]>>,
    pub(crate) queue_changes: watch::Sender<u64>,
    pub(crate) hook: Hook,
}

/// What is to be said when the transaction is durable.
enum Answer {
    Commit(oneshot::Sender<Result<Vec<u64>, CommitError>>, Result<Vec<u64>, CommitError>),
    Done(oneshot::Sender<Result<(), StoreError>>),
    Purged(oneshot::Sender<Result<u64, StoreError>>, u64),
}

impl Answer {
    fn give(self) {
        // A caller that is gone does not matter: what it asked for is done.
        match self {
            Self::Commit(sender, result) => drop(sender.send(result)),
            Self::Done(sender) => drop(sender.send(Ok(()))),
            Self::Purged(sender, count) => drop(sender.send(Ok(count))),
        }
    }

    fn fail(self, error: &StoreError) {
        match self {
            // A conflict stays a conflict only if the state it was found in became durable.
            Self::Commit(sender, _) => drop(sender.send(Err(error.clone().into()))),
            Self::Done(sender) => drop(sender.send(Err(error.clone()))),
            Self::Purged(sender, _) => drop(sender.send(Err(error.clone()))),
        }
    }
}

/// Effects outside of the database, to be made once the transaction is durable.
#[derive(Default)]
struct Effects {
    changes: Vec<Change>,
    leases_ended: Vec<u64>,
    queue_changed: bool,
}

impl Writer {
    /// Runs until every sender is gone.
    pub(crate) fn run(mut self, operations: &mpsc::Receiver<Operation>) {
        while let Ok(first) = operations.recv() {
            let mut group = vec![first];
            while group.len() < GROUP {
                let Ok(next) = operations.try_recv() else { break };
                group.push(next);
            }
            self.commit_group(group);
        }
    }

    fn commit_group(&mut self, group: Vec<Operation>) {
        let mut answers = Vec::with_capacity(group.len());
        let mut effects = Effects::default();
        match self.transact(group, &mut answers, &mut effects) {
            Ok(()) => {
                self.hook.pass(CrashPoint::TransactionCommitted);
                for id in effects.leases_ended {
                    self.leases.end(id);
                }
                if !effects.changes.is_empty() {
                    let _ = self.changes.send(effects.changes.into());
                }
                if effects.queue_changed {
                    self.queue_changes.send_modify(|count| *count += 1);
                }
                answers.into_iter().for_each(Answer::give);
                self.hook.pass(CrashPoint::TransactionAnswered);
            }
            Err(error) => {
                let error = StoreError::Database { action: "write", source: Arc::new(error) };
                tracing::error!(error = %error, cause = ?error, "a transaction failed and was rolled back");
                answers.into_iter().for_each(|answer| answer.fail(&error));
            }
        }
    }

    fn transact(
        &mut self,
        group: Vec<Operation>,
        answers: &mut Vec<Answer>,
        effects: &mut Effects,
    ) -> rusqlite::Result<()> {
        // The answers come first: whatever fails from here on, everybody is told.
        let mut work = Vec::with_capacity(group.len());
        for operation in group {
            match operation {
                Operation::Commit(writes, sender) => {
                    answers.push(Answer::Commit(sender, Ok(Vec::new())));
                    work.push(Work::Writes(writes));
                }
                Operation::Ack(id, sender) => {
                    answers.push(Answer::Done(sender));
                    work.push(Work::Ack(id));
                }
                Operation::HandBack { id, not_before_ms, attempts, done } => {
                    answers.push(Answer::Done(done));
                    work.push(Work::HandBack { id, not_before_ms, attempts });
                }
                Operation::Purge(prefix, sender) => {
                    answers.push(Answer::Purged(sender, 0));
                    work.push(Work::Purge(prefix));
                }
            }
        }
        let transaction =
            self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        self.hook.pass(CrashPoint::TransactionBegun);
        let mut revision = transaction
            .prepare_cached("SELECT value FROM counter WHERE name = 'revision'")?
            .query_row([], |row| row.get::<_, i64>(0))?;
        let before = revision;
        for (work, answer) in work.into_iter().zip(answers.iter_mut()) {
            match (work, answer) {
                (Work::Writes(writes), Answer::Commit(_, result)) => {
                    *result = apply(&transaction, writes, &mut revision, effects)?;
                }
                (Work::Ack(id), _) => {
                    transaction
                        .prepare_cached("DELETE FROM event WHERE id = ?")?
                        .execute(params![id.cast_signed()])?;
                    effects.leases_ended.push(id);
                }
                (Work::HandBack { id, not_before_ms, attempts }, _) => {
                    transaction
                        .prepare_cached(
                            "UPDATE event SET not_before_ms = ?, attempt = attempt + ? WHERE id = ?",
                        )?
                        .execute(params![not_before_ms.cast_signed(), attempts, id.cast_signed()])?;
                    effects.leases_ended.push(id);
                    effects.queue_changed = true;
                }
                (Work::Purge(prefix), answer) => {
                    let gone = purge(&transaction, &prefix)?;
                    if let Answer::Purged(_, count) = answer {
                        *count = gone.len() as u64;
                    }
                    effects.leases_ended.extend(gone);
                }
                (Work::Writes(_), _) => {}
            }
            self.hook.pass(CrashPoint::TransactionPartial);
        }
        if revision != before {
            transaction
                .prepare_cached("UPDATE counter SET value = ? WHERE name = 'revision'")?
                .execute(params![revision])?;
        }
        self.hook.pass(CrashPoint::TransactionFilled);
        transaction.commit()
    }
}

enum Work {
    Writes(Vec<Write>),
    Ack(u64),
    HandBack { id: u64, not_before_ms: u64, attempts: u32 },
    Purge(String),
}

/// Checks all expectations, then writes. The inner error refuses this commit alone.
fn apply(
    connection: &Connection,
    writes: Vec<Write>,
    revision: &mut i64,
    effects: &mut Effects,
) -> rusqlite::Result<Result<Vec<u64>, CommitError>> {
    let mut found = HashMap::new();
    for write in &writes {
        let (Write::Put { key, expected, .. }
        | Write::Delete { key, expected }
        | Write::Check { key, expected }) = write
        else {
            continue;
        };
        let current = connection
            .prepare_cached("SELECT revision FROM document WHERE key = ?")?
            .query_row(params![key.as_bytes()], |row| row.get::<_, i64>(0))
            .optional()?
            .map(i64::cast_unsigned);
        let holds = match expected {
            Expected::Any => true,
            Expected::Absent => current.is_none(),
            Expected::Revision(revision) => current == Some(*revision),
        };
        if !holds {
            return Ok(Err(CommitError::Conflict { key: key.clone(), found: current }));
        }
        found.insert(key.clone(), current);
    }
    let mut results = Vec::with_capacity(writes.len());
    let mut numbered = false;
    let mut next = |revision: &mut i64| {
        if !numbered {
            *revision += 1;
            numbered = true;
        }
        revision.cast_unsigned()
    };
    for write in writes {
        match write {
            Write::Put { key, value, .. } => {
                let revision = next(revision);
                connection
                    .prepare_cached(
                        "INSERT INTO document (key, revision, value) VALUES (?1, ?2, ?3)
                         ON CONFLICT (key) DO UPDATE SET revision = ?2, value = ?3",
                    )?
                    .execute(params![key.as_bytes(), revision.cast_signed(), value])?;
                results.push(revision);
                effects.changes.push(Change::Put { key, revision });
            }
            Write::Delete { key, .. } => {
                if found.get(&key).copied().flatten().is_none() {
                    results.push(0);
                    continue;
                }
                let revision = next(revision);
                connection
                    .prepare_cached("DELETE FROM document WHERE key = ?")?
                    .execute(params![key.as_bytes()])?;
                results.push(revision);
                effects.changes.push(Change::Delete { key, revision });
            }
            Write::Check { .. } => results.push(0),
            Write::Enqueue(event) => {
                connection
                    .prepare_cached(
                        "INSERT INTO event (scope, enqueued_ms, not_before_ms, attempt, payload)
                         VALUES (?, ?, ?, 0, ?)",
                    )?
                    .execute(params![
                        event.scope.as_bytes(),
                        event.enqueued_ms.cast_signed(),
                        event.not_before_ms.cast_signed(),
                        event.payload
                    ])?;
                results.push(connection.last_insert_rowid().cast_unsigned());
                effects.queue_changed = true;
            }
        }
    }
    Ok(Ok(results))
}

fn purge(connection: &Connection, prefix: &str) -> rusqlite::Result<Vec<u64>> {
    let start = prefix.as_bytes();
    let row_id = |row: &rusqlite::Row<'_>| row.get::<_, i64>(0).map(i64::cast_unsigned);
    match range_end(start) {
        Some(end) => connection
            .prepare_cached("DELETE FROM event WHERE scope >= ? AND scope < ? RETURNING id")?
            .query_map(params![start, end], row_id)?
            .collect(),
        None => connection
            .prepare_cached("DELETE FROM event WHERE scope >= ? RETURNING id")?
            .query_map(params![start], row_id)?
            .collect(),
    }
}
