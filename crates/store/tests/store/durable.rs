//! What is true of a data folder: it is kept, locked, and gone when it was temporary.

use lambfold_store::{Expected, NewEvent, OpenError, Store, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

fn put(key: &str, value: &str) -> Write {
    Write::Put { key: key.to_owned(), value: value.into(), expected: Expected::Any }
}

fn event(payload: &str) -> NewEvent {
    let payload = payload.as_bytes().to_vec();
    NewEvent { scope: "s".to_owned(), payload, enqueued_ms: 0, not_before_ms: 0 }
}

#[tokio::test]
async fn everything_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("made/by/open");
    let store = Store::open(&path).unwrap();
    let id = store.id().to_owned();
    let revision = store.commit(vec![put("a", "1")]).await.unwrap()[0];
    let done = store.enqueue(event("done")).await.unwrap();
    let tried = store.enqueue(event("tried")).await.unwrap();
    let leased = store.enqueue(event("leased")).await.unwrap();
    assert_eq!(store.due(0, 10).await.unwrap().len(), 3);
    store.ack(done).await.unwrap();
    store.retry(tried, 7).await.unwrap();
    let (digest, _) = store.put_blob(&b"blob"[..]).await.unwrap();
    drop(store);

    let store = Store::open(&path).unwrap();
    assert_eq!(store.id(), id);
    assert_eq!(store.get("a").await.unwrap().unwrap().revision, revision);
    assert_eq!(store.commit(vec![put("a", "2")]).await.unwrap()[0], revision + 1);
    let due = store.due(7, 10).await.unwrap();
    let seen: Vec<_> = due.iter().map(|event| (event.id, event.attempt)).collect();
    assert_eq!(seen, [(leased, 0), (tried, 1)], "a lease ends with the process");
    assert!(store.open_blob(&digest).await.unwrap().is_some());
}

#[tokio::test]
async fn second_store_on_one_folder_is_refused_until_the_first_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let clone = store.clone();
    drop(store);
    match Store::open(dir.path()) {
        Err(OpenError::InUse { dir: refused, pid }) => {
            assert_eq!(refused, dir.path());
            assert_eq!(pid, Some(std::process::id()));
        }
        other => panic!("{other:?}"),
    }
    drop(clone);
    Store::open(dir.path()).unwrap();
}

#[tokio::test]
async fn ephemeral_folder_goes_with_its_store() {
    let store = Store::ephemeral().unwrap();
    let dir = store.dir().to_owned();
    store.commit(vec![put("a", "1")]).await.unwrap();
    assert!(dir.join("store.db").exists());
    drop(store);
    assert!(!dir.exists());
}

#[tokio::test]
async fn database_and_blobs_are_the_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.commit(vec![put("a", "secret")]).await.unwrap();
    let (digest, _) = store.put_blob(&b"secret"[..]).await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o077;
    for name in ["store.db", "store.db-wal", "store.db-shm", "lambfold.lock", "blobs"] {
        assert_eq!(mode(&dir.path().join(name)), 0, "{name}");
    }
    assert_eq!(mode(&dir.path().join("blobs").join(digest.as_str())), 0);
}

#[tokio::test]
async fn damaged_blob_is_mended_by_putting_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (digest, _) = store.put_blob(&b"good"[..]).await.unwrap();
    let path = dir.path().join("blobs").join(digest.as_str());
    std::fs::write(&path, "bad").unwrap();
    store.put_blob(&b"good"[..]).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"good");
}

#[test]
fn damaged_database_is_refused_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path()).unwrap());
    std::fs::write(dir.path().join("store.db"), "this is not a database, for sure".repeat(9))
        .unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(error.to_string().contains("store.db"), "{error}");
}

#[tokio::test]
async fn dropped_commits_are_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    for i in 0..50 {
        let value = i.to_string();
        let mut commit = Box::pin(store.commit(vec![put("a", &value), put("b", &value)]));
        let once = std::future::poll_fn(|context| {
            let _ = commit.as_mut().poll(context);
            std::task::Poll::Ready(())
        });
        once.await;
        drop(commit);
    }
    let last = store.commit(vec![put("end", "")]).await.unwrap()[0];
    assert_eq!(last, 51, "every commit that was started was carried out");
    let a = store.get("a").await.unwrap().unwrap();
    assert_eq!(Some(a), store.get("b").await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_commits_share_a_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let begun = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = begun.clone();
    let hook = lambfold_store::Hook::new(move |point| {
        if point == lambfold_store::CrashPoint::TransactionBegun {
            counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    });
    let options = lambfold_store::Options { hook, ..lambfold_store::Options::default() };
    let store = Store::open_with(dir.path(), options).unwrap();
    let tasks: Vec<_> = (0..500)
        .map(|i| {
            let store = store.clone();
            tokio::spawn(async move { store.commit(vec![put(&i.to_string(), "")]).await.unwrap() })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let begun = begun.load(std::sync::atomic::Ordering::SeqCst);
    assert!(begun < 400, "{begun} transactions for 500 commits");
}
