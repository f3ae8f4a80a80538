//! What every backend must do. Each case takes an empty backend.

use lambfold_store::{
    Backend, Change, CommitError, Event, EventId, Expected, KEY_BYTES, NewEvent, StoreError,
    VALUE_BYTES, Write,
};
use lambfold_types::Digest;
use std::io::{self, Read};

/// One test a case, for the backend that `$store` makes.
macro_rules! cases {
    ($store:expr) => {
        crate::suite::cases!($store;
            missing_documents_are_none,
            put_and_get_back,
            expectations_hold_or_refuse,
            revisions_grow_and_are_never_used_twice,
            commit_is_all_or_nothing,
            expectations_see_the_state_before_the_commit,
            check_alone_changes_nothing,
            delete_removes,
            wrong_writes_are_refused,
            sizes_on_both_sides_of_their_limits,
            empty_commit_does_nothing,
            keys_and_values_are_any_bytes,
            scan_is_ordered_by_bytes_and_bounded_by_the_prefix,
            scan_pages_join_to_the_whole,
            scan_goes_on_behind_a_key_that_is_gone,
            one_of_many_racing_creates_wins,
            racing_increments_are_not_lost,
            watch_sees_each_change_in_order,
            watch_sees_nothing_of_other_prefixes_and_failed_commits,
            slow_watchers_are_told,
            blobs_come_back,
            same_blob_twice_is_one,
            failed_blob_leaves_nothing,
            deleted_blob_is_gone_and_open_files_stay,
            events_come_in_the_order_of_their_due_time,
            leased_events_are_not_given_twice,
            a_long_queue_of_one_scope_leaves_room_for_another,
            acknowledged_events_are_gone,
            retry_counts_and_postpone_does_not,
            event_and_document_in_one_commit,
            next_due_skips_what_is_leased,
            purge_removes_a_scope,
            queue_changes_are_told,
            event_ids_are_never_used_twice,
            times_beyond_the_range_are_refused,
        );
    };
    ($store:expr; $($case:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                crate::suite::$case($store).await;
            }
        )*
    };
}
pub(crate) use cases;

fn put(key: &str, value: impl Into<Vec<u8>>, expected: Expected) -> Write {
    Write::Put { key: key.to_owned(), value: value.into(), expected }
}

fn any(key: &str, value: &str) -> Write {
    put(key, value, Expected::Any)
}

fn delete(key: &str, expected: Expected) -> Write {
    Write::Delete { key: key.to_owned(), expected }
}

fn event(scope: &str, payload: &str, not_before_ms: u64) -> NewEvent {
    NewEvent {
        scope: scope.to_owned(),
        payload: payload.as_bytes().to_vec(),
        enqueued_ms: 1,
        not_before_ms,
    }
}

async fn value(store: &impl Backend, key: &str) -> Option<String> {
    let document = store.get(key).await.unwrap();
    document.map(|document| String::from_utf8(document.value).unwrap())
}

async fn keys(store: &impl Backend, prefix: &str) -> Vec<String> {
    let documents = store.scan(prefix, None, usize::MAX).await.unwrap();
    documents.into_iter().map(|(key, _)| key).collect()
}

pub(crate) async fn missing_documents_are_none(store: &impl Backend) {
    assert_eq!(store.get("a").await.unwrap(), None);
    assert_eq!(store.scan("", None, 10).await.unwrap(), []);
}

pub(crate) async fn put_and_get_back(store: &impl Backend) {
    let revisions = store.commit(vec![any("a", "1")]).await.unwrap();
    let document = store.get("a").await.unwrap().unwrap();
    assert_eq!(document.value, b"1");
    assert_eq!(revisions, [document.revision]);
}

pub(crate) async fn expectations_hold_or_refuse(store: &impl Backend) {
    let first = store.commit(vec![put("a", "1", Expected::Absent)]).await.unwrap()[0];
    let conflict = |error: CommitError| match error {
        CommitError::Conflict { key, found } => (key, found),
        CommitError::Store(error) => panic!("{error}"),
    };
    let error = store.commit(vec![put("a", "2", Expected::Absent)]).await.unwrap_err();
    assert_eq!(conflict(error), ("a".to_owned(), Some(first)));
    let second = store.commit(vec![put("a", "2", Expected::Revision(first))]).await.unwrap()[0];
    let error = store.commit(vec![put("a", "3", Expected::Revision(first))]).await.unwrap_err();
    assert_eq!(conflict(error), ("a".to_owned(), Some(second)));
    let error = store.commit(vec![put("b", "3", Expected::Revision(first))]).await.unwrap_err();
    assert_eq!(conflict(error), ("b".to_owned(), None));
    let error = store.commit(vec![delete("a", Expected::Revision(first))]).await.unwrap_err();
    assert_eq!(conflict(error), ("a".to_owned(), Some(second)));
    assert_eq!(value(store, "a").await.as_deref(), Some("2"));
}

pub(crate) async fn revisions_grow_and_are_never_used_twice(store: &impl Backend) {
    let mut last = 0;
    for _ in 0..5 {
        let put = store.commit(vec![put("a", "x", Expected::Absent)]).await.unwrap()[0];
        assert!(put > last);
        let deleted = store.commit(vec![delete("a", Expected::Revision(put))]).await.unwrap()[0];
        assert!(deleted > put);
        last = deleted;
    }
}

pub(crate) async fn commit_is_all_or_nothing(store: &impl Backend) {
    store.commit(vec![any("z", "old")]).await.unwrap();
    let writes = vec![
        any("a", "1"),
        Write::Enqueue(event("s", "e", 0)),
        delete("z", Expected::Any),
        put("b", "2", Expected::Revision(99)),
    ];
    assert!(store.commit(writes).await.is_err());
    assert_eq!(keys(store, "").await, ["z"]);
    assert_eq!(store.due(u64::MAX, 10).await.unwrap(), []);
}

pub(crate) async fn expectations_see_the_state_before_the_commit(store: &impl Backend) {
    let writes =
        vec![any("a", "1"), Write::Check { key: "b".to_owned(), expected: Expected::Absent }];
    store.commit(writes).await.unwrap();
    let revisions =
        store.commit(vec![any("a", "2"), put("b", "2", Expected::Absent)]).await.unwrap();
    assert_eq!(revisions[0], revisions[1], "one commit, one revision");
}

pub(crate) async fn check_alone_changes_nothing(store: &impl Backend) {
    let revision = store.commit(vec![any("a", "1")]).await.unwrap()[0];
    let check = |expected| vec![Write::Check { key: "a".to_owned(), expected }];
    assert_eq!(store.commit(check(Expected::Revision(revision))).await.unwrap(), [0]);
    assert!(store.commit(check(Expected::Absent)).await.is_err());
    assert_eq!(store.get("a").await.unwrap().unwrap().revision, revision);
    let next = store.commit(vec![any("b", "1")]).await.unwrap()[0];
    assert_eq!(next, revision + 1);
}

pub(crate) async fn delete_removes(store: &impl Backend) {
    store.commit(vec![any("a", "1"), any("b", "1")]).await.unwrap();
    store.commit(vec![delete("a", Expected::Any)]).await.unwrap();
    assert_eq!(keys(store, "").await, ["b"]);
    assert_eq!(store.commit(vec![delete("a", Expected::Any)]).await.unwrap(), [0]);
}

pub(crate) async fn wrong_writes_are_refused(store: &impl Backend) {
    let refused = |result: Result<Vec<u64>, CommitError>| match result {
        Err(CommitError::Store(error)) => error,
        other => panic!("{other:?}"),
    };
    let twice = store.commit(vec![any("a", "1"), delete("a", Expected::Any)]).await;
    assert!(matches!(refused(twice), StoreError::KeyTwice { key } if key == "a"));
    let empty = store.commit(vec![any("", "1")]).await;
    assert!(matches!(refused(empty), StoreError::KeySize { bytes: 0 }));
    assert_eq!(store.scan("", None, 10).await.unwrap(), []);
}

pub(crate) async fn sizes_on_both_sides_of_their_limits(store: &impl Backend) {
    let key = "k".repeat(KEY_BYTES);
    store.commit(vec![any(&key, "1")]).await.unwrap();
    assert!(store.commit(vec![any(&format!("{key}k"), "1")]).await.is_err());
    let value = vec![7; VALUE_BYTES];
    store.commit(vec![put("v", value.clone(), Expected::Any)]).await.unwrap();
    assert_eq!(store.get("v").await.unwrap().unwrap().value, value);
    let larger = vec![7; VALUE_BYTES + 1];
    assert!(store.commit(vec![put("w", larger.clone(), Expected::Any)]).await.is_err());
    let event = NewEvent { payload: larger, ..event("s", "", 0) };
    assert!(store.enqueue(event).await.is_err());
}

pub(crate) async fn empty_commit_does_nothing(store: &impl Backend) {
    assert_eq!(store.commit(Vec::new()).await.unwrap(), []);
    assert_eq!(store.commit(vec![any("a", "")]).await.unwrap(), [1]);
}

pub(crate) async fn keys_and_values_are_any_bytes(store: &impl Backend) {
    let odd = ["\0", "a\0b", "ä/日本", "%", "_", "'; DROP TABLE document; --", "\u{10ffff}"];
    for key in odd {
        store.commit(vec![put(key, vec![0, 255, 128], Expected::Absent)]).await.unwrap();
    }
    for key in odd {
        assert_eq!(store.get(key).await.unwrap().unwrap().value, [0, 255, 128], "{key:?}");
        assert!(keys(store, key).await.contains(&key.to_owned()), "{key:?}");
    }
    assert_eq!(keys(store, "").await.len(), odd.len());
}

pub(crate) async fn scan_is_ordered_by_bytes_and_bounded_by_the_prefix(store: &impl Backend) {
    for key in ["b", "a/2", "a/10", "a", "a/", "A/1", "a0", "a/\u{10ffff}x", "ä"] {
        store.commit(vec![any(key, "")]).await.unwrap();
    }
    assert_eq!(keys(store, "a/").await, ["a/", "a/10", "a/2", "a/\u{10ffff}x"]);
    assert_eq!(keys(store, "c").await, [""; 0]);
    assert_eq!(keys(store, "").await.len(), 9);
}

pub(crate) async fn scan_pages_join_to_the_whole(store: &impl Backend) {
    let writes = (0..23).map(|i| any(&format!("p/{i:02}"), "")).collect();
    store.commit(writes).await.unwrap();
    store.commit(vec![any("q", "")]).await.unwrap();
    let mut all = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = store.scan("p/", after.as_deref(), 5).await.unwrap();
        assert!(page.len() <= 5);
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        all.extend(page.into_iter().map(|(key, _)| key));
    }
    assert_eq!(all, keys(store, "p/").await);
    assert_eq!(all.len(), 23);
    assert_eq!(store.scan("p/", None, 0).await.unwrap(), []);
    assert_eq!(store.scan("p/", Some("a"), 99).await.unwrap().len(), 23);
    assert_eq!(store.scan("p/", Some("z"), 99).await.unwrap(), []);
}

pub(crate) async fn scan_goes_on_behind_a_key_that_is_gone(store: &impl Backend) {
    store.commit(vec![any("1", ""), any("2", ""), any("3", "")]).await.unwrap();
    store.commit(vec![delete("2", Expected::Any)]).await.unwrap();
    let rest = store.scan("", Some("2"), 10).await.unwrap();
    assert_eq!(rest[0].0, "3");
}

pub(crate) async fn one_of_many_racing_creates_wins(store: &impl Backend) {
    let race = (0..16).map(|i| store.commit(vec![put("a", i.to_string(), Expected::Absent)]));
    let results = join(race).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    let winner = results.iter().position(Result::is_ok).unwrap();
    assert_eq!(value(store, "a").await, Some(winner.to_string()));
}

pub(crate) async fn racing_increments_are_not_lost(store: &impl Backend) {
    store.commit(vec![any("n", "0")]).await.unwrap();
    let increment = || async {
        loop {
            let document = store.get("n").await.unwrap().unwrap();
            let n: u64 = String::from_utf8(document.value).unwrap().parse().unwrap();
            let write = put("n", (n + 1).to_string(), Expected::Revision(document.revision));
            match store.commit(vec![write]).await {
                Ok(_) => return,
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    join((0..8).map(|_| increment())).await;
    assert_eq!(value(store, "n").await.as_deref(), Some("8"));
}

/// Polls all futures at once.
async fn join<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        for (future, result) in &mut futures {
            if result.is_none()
                && let std::task::Poll::Ready(output) = future.as_mut().poll(context)
            {
                *result = Some(output);
            }
        }
        if futures.iter().all(|(_, result)| result.is_some()) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    futures.into_iter().map(|(_, result)| result.unwrap()).collect()
}

pub(crate) async fn watch_sees_each_change_in_order(store: &impl Backend) {
    let mut watch = store.watch("a/");
    let one = store.commit(vec![any("a/1", "x"), any("b", "x")]).await.unwrap()[0];
    let two = store.commit(vec![delete("a/1", Expected::Any)]).await.unwrap()[0];
    store.commit(vec![delete("a/1", Expected::Any)]).await.unwrap();
    let three = store.commit(vec![any("a/2", "x"), any("a/3", "x")]).await.unwrap()[0];
    let key = |key: &str| key.to_owned();
    for expected in [
        Change::Put { key: key("a/1"), revision: one },
        Change::Delete { key: key("a/1"), revision: two },
        Change::Put { key: key("a/2"), revision: three },
        Change::Put { key: key("a/3"), revision: three },
    ] {
        assert_eq!(watch.next().await, Some(expected));
    }
}

pub(crate) async fn watch_sees_nothing_of_other_prefixes_and_failed_commits(store: &impl Backend) {
    let mut watch = store.watch("a");
    store.commit(vec![any("b", "x")]).await.unwrap();
    let _ = store.commit(vec![any("a", "x"), put("b", "", Expected::Absent)]).await.unwrap_err();
    let last = store.commit(vec![any("a", "last")]).await.unwrap()[0];
    assert_eq!(watch.next().await, Some(Change::Put { key: "a".to_owned(), revision: last }));
}

pub(crate) async fn slow_watchers_are_told(store: &impl Backend) {
    let mut watch = store.watch("");
    for i in 0..40 {
        let race = (0..40).map(|j| store.commit(vec![any(&format!("{i}/{j}"), "")]));
        for result in join(race).await {
            result.unwrap();
        }
        if i == 0 {
            assert!(matches!(watch.next().await, Some(Change::Put { .. })));
        }
    }
    // Group commit may have joined all of it into few messages: then nothing was missed, and
    // every change is seen.
    let mut seen = 1;
    while seen < 1600 {
        match watch.next().await.unwrap() {
            Change::Missed => return,
            _ => seen += 1,
        }
    }
}

fn digest_of(bytes: &[u8]) -> Digest {
    use sha2::Digest as _;
    Digest::from_bytes(&sha2::Sha256::digest(bytes).into())
}

async fn blob(store: &impl Backend, digest: &Digest) -> Option<Vec<u8>> {
    let mut file = store.open_blob(digest).await.unwrap()?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    Some(bytes)
}

pub(crate) async fn blobs_come_back(store: &impl Backend) {
    for size in [0, 1, 262_144, 1_000_000] {
        let bytes: Vec<u8> = (0..size).map(|i| (i % 251) as u8).collect();
        let (digest, stored) = store.put_blob(io::Cursor::new(bytes.clone())).await.unwrap();
        assert_eq!(stored, size as u64);
        assert_eq!(digest, digest_of(&bytes));
        assert_eq!(blob(store, &digest).await, Some(bytes));
    }
    assert_eq!(store.list_blobs().await.unwrap().len(), 4);
    assert_eq!(blob(store, &digest_of(b"none")).await, None);
}

pub(crate) async fn same_blob_twice_is_one(store: &impl Backend) {
    let race = (0..4).map(|_| store.put_blob(io::Cursor::new(b"same".to_vec())));
    for result in join(race).await {
        assert_eq!(result.unwrap().0, digest_of(b"same"));
    }
    assert_eq!(store.list_blobs().await.unwrap(), [digest_of(b"same")]);
}

pub(crate) async fn failed_blob_leaves_nothing(store: &impl Backend) {
    struct Fails(usize);
    impl Read for Fails {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::Error::other("cut off"));
            }
            self.0 -= 1;
            buffer.fill(1);
            Ok(buffer.len())
        }
    }
    assert!(store.put_blob(Fails(3)).await.is_err());
    assert_eq!(store.list_blobs().await.unwrap(), []);
}

pub(crate) async fn deleted_blob_is_gone_and_open_files_stay(store: &impl Backend) {
    let (digest, _) = store.put_blob(io::Cursor::new(b"text".to_vec())).await.unwrap();
    let mut open = store.open_blob(&digest).await.unwrap().unwrap();
    store.delete_blob(&digest).await.unwrap();
    store.delete_blob(&digest).await.unwrap();
    assert_eq!(store.list_blobs().await.unwrap(), []);
    assert!(store.open_blob(&digest).await.unwrap().is_none());
    let mut text = String::new();
    open.read_to_string(&mut text).unwrap();
    assert_eq!(text, "text");
}

fn payloads(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| std::str::from_utf8(&event.payload).unwrap()).collect()
}

pub(crate) async fn events_come_in_the_order_of_their_due_time(store: &impl Backend) {
    for (payload, not_before) in [("c", 30), ("a", 10), ("b1", 20), ("b2", 20), ("d", 40)] {
        store.enqueue(event("s", payload, not_before)).await.unwrap();
    }
    assert_eq!(store.due(9, 10).await.unwrap(), []);
    assert_eq!(payloads(&store.due(10, 10).await.unwrap()), ["a"]);
    assert_eq!(payloads(&store.due(30, 2).await.unwrap()), ["b1", "b2"]);
    assert_eq!(payloads(&store.due(39, 10).await.unwrap()), ["c"]);
    let last = store.due(40, 10).await.unwrap();
    assert_eq!(last[0].not_before_ms, 40);
    assert_eq!((last[0].enqueued_ms, last[0].attempt, last[0].scope.as_str()), (1, 0, "s"));
}

pub(crate) async fn leased_events_are_not_given_twice(store: &impl Backend) {
    for i in 0..20 {
        store.enqueue(event("s", &i.to_string(), 0)).await.unwrap();
    }
    let leases = join((0..10).map(|_| store.due(0, 3))).await;
    let mut ids: Vec<EventId> =
        leases.into_iter().flat_map(Result::unwrap).map(|event| event.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 20);
    assert_eq!(store.due(u64::MAX, 10).await.unwrap(), []);
}

pub(crate) async fn a_long_queue_of_one_scope_leaves_room_for_another(store: &impl Backend) {
    for i in 0..30 {
        store.enqueue(event("a", &format!("a{i}"), 0)).await.unwrap();
    }
    let mut leased = store.due_fair(0, 8, 3).await.unwrap();
    assert_eq!(payloads(&leased), ["a0", "a1", "a2"]);
    leased.extend(store.due_fair(0, 5, 5).await.unwrap());
    assert_eq!(leased.len(), 4, "4 leases would be more than the 4 that are left");
    assert_eq!(store.due_fair(0, 4, 4).await.unwrap(), []);
    store.enqueue(event("b", "b0", 5)).await.unwrap();
    store.enqueue(event("c", "c0", 4)).await.unwrap();
    store.enqueue(event("b", "b1", 5)).await.unwrap();
    assert_eq!(payloads(&store.due_fair(4, 4, 4).await.unwrap()), ["c0"]);
    assert_eq!(payloads(&store.due_fair(5, 3, 3).await.unwrap()), ["b0", "b1"]);
    store.ack(leased[0].id).await.unwrap();
    store.ack(leased[1].id).await.unwrap();
    assert_eq!(payloads(&store.due_fair(5, 3, 3).await.unwrap()), ["a4"], "a has 2 of 8 now");
    assert_eq!(store.due_fair(5, 0, 4).await.unwrap(), []);
}

pub(crate) async fn acknowledged_events_are_gone(store: &impl Backend) {
    let id = store.enqueue(event("s", "a", 0)).await.unwrap();
    store.enqueue(event("s", "b", 0)).await.unwrap();
    assert_eq!(store.due(0, 10).await.unwrap().len(), 2);
    store.ack(id).await.unwrap();
    store.ack(id).await.unwrap();
    store.retry(id, 0).await.unwrap();
    assert_eq!(store.due(u64::MAX, 10).await.unwrap(), []);
}

pub(crate) async fn retry_counts_and_postpone_does_not(store: &impl Backend) {
    let id = store.enqueue(event("s", "a", 0)).await.unwrap();
    for (attempt, due) in [(1, 100), (2, 200)] {
        assert_eq!(store.due(u64::MAX, 1).await.unwrap().len(), 1);
        store.retry(id, due).await.unwrap();
        assert_eq!(store.due(due - 1, 1).await.unwrap(), []);
        let again = store.due(due, 1).await.unwrap();
        assert_eq!((again[0].id, again[0].attempt, again[0].enqueued_ms), (id, attempt, 1));
        store.postpone(id, due + 1).await.unwrap();
        assert_eq!(store.due(due, 1).await.unwrap(), []);
        let later = store.due(due + 1, 1).await.unwrap();
        assert_eq!(later[0].attempt, attempt);
        store.postpone(id, due).await.unwrap();
    }
}

pub(crate) async fn event_and_document_in_one_commit(store: &impl Backend) {
    let results = store
        .commit(vec![put("a", "1", Expected::Absent), Write::Enqueue(event("s", "e", 5))])
        .await
        .unwrap();
    let due = store.due(5, 10).await.unwrap();
    assert_eq!(due[0].id, EventId(results[1]));
    assert_eq!(value(store, "a").await.as_deref(), Some("1"));
}

pub(crate) async fn next_due_skips_what_is_leased(store: &impl Backend) {
    assert_eq!(store.next_due_ms().await.unwrap(), None);
    store.enqueue(event("s", "a", 10)).await.unwrap();
    store.enqueue(event("s", "b", 20)).await.unwrap();
    assert_eq!(store.next_due_ms().await.unwrap(), Some(10));
    let id = store.due(10, 1).await.unwrap()[0].id;
    assert_eq!(store.next_due_ms().await.unwrap(), Some(20));
    store.retry(id, 15).await.unwrap();
    assert_eq!(store.next_due_ms().await.unwrap(), Some(15));
    store.purge("").await.unwrap();
    assert_eq!(store.next_due_ms().await.unwrap(), None);
}

pub(crate) async fn purge_removes_a_scope(store: &impl Backend) {
    for (scope, payload) in [("a/1", "x"), ("a/1/b", "y"), ("a/2", "z"), ("b", "w")] {
        store.enqueue(event(scope, payload, 0)).await.unwrap();
    }
    let leased = store.due(0, 1).await.unwrap();
    assert_eq!(leased[0].scope, "a/1");
    assert_eq!(store.purge("a/1").await.unwrap(), 2);
    store.retry(leased[0].id, 0).await.unwrap();
    assert_eq!(payloads(&store.due(0, 10).await.unwrap()), ["z", "w"]);
    assert_eq!(store.purge("").await.unwrap(), 2);
    assert_eq!(store.purge("").await.unwrap(), 0);
}

pub(crate) async fn queue_changes_are_told(store: &impl Backend) {
    let mut changes = store.queue_changes();
    changes.mark_unchanged();
    store.commit(vec![any("a", "1")]).await.unwrap();
    assert!(!changes.has_changed().unwrap());
    let id = store.enqueue(event("s", "a", 0)).await.unwrap();
    changes.changed().await.unwrap();
    changes.mark_unchanged();
    store.due(0, 1).await.unwrap();
    store.retry(id, 5).await.unwrap();
    changes.changed().await.unwrap();
}

pub(crate) async fn event_ids_are_never_used_twice(store: &impl Backend) {
    let mut last = EventId(0);
    for _ in 0..4 {
        let id = store.enqueue(event("s", "a", 0)).await.unwrap();
        assert!(id > last);
        store.ack(id).await.unwrap();
        last = id;
    }
}

pub(crate) async fn times_beyond_the_range_are_refused(store: &impl Backend) {
    let largest = i64::MAX as u64;
    let id = store.enqueue(event("s", "a", largest)).await.unwrap();
    assert_eq!(store.due(u64::MAX, 1).await.unwrap()[0].id, id);
    assert!(store.retry(id, largest + 1).await.is_err());
    store.retry(id, largest).await.unwrap();
}
