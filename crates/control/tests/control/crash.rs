//! The process is stopped inside of CreateFunction; the next start finds the function whole
//! or not at all, and nothing left over.

use crate::fixture::{NOW_MS, World, code, create_request, name, open, scope, sha256};
use lambfold_control::{Control, Options};
use lambfold_package::Trees;
use lambfold_store::{CrashPoint, Hook, Store};
use lambfold_types::ManualClock;
use serde_json::json;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const DIR: &str = "LAMBFOLD_CONTROL_TEST_DIR";
const STOP: &str = "LAMBFOLD_CONTROL_TEST_STOP";

/// Works when another test starts this binary with a folder in its environment, and is
/// nothing otherwise.
#[tokio::test]
async fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let stop = std::env::var(STOP).unwrap();
    let armed = Arc::new(AtomicBool::new(false));
    let hook = Hook::new({
        let armed = armed.clone();
        move |point| {
            if armed.load(Ordering::SeqCst) && format!("{point:?}") == stop {
                std::process::abort();
            }
        }
    });
    let dir = Path::new(&dir);
    let options = lambfold_store::Options { hook, ..lambfold_store::Options::default() };
    let store = Store::open_with(dir, options).unwrap();
    let trees = Arc::new(Trees::open(dir, lambfold_package::Options::default()).unwrap());
    let clock = Arc::new(ManualClock::at(NOW_MS));
    let control = Control::open(store, trees, clock, Options::default()).await.unwrap();
    armed.store(true, Ordering::SeqCst);
    let request = create_request("f", json!({"Publish": true}));
    control.create_function(&scope(), request).await.unwrap();
}

fn crash(point: CrashPoint, dir: &Path) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(STOP, format!("{point:?}"))
        .output()
        .unwrap();
    assert_eq!(output.status.signal(), Some(6), "{point:?} was not reached");
}

#[tokio::test]
async fn function_is_whole_or_not_there() {
    for point in [
        CrashPoint::BlobCreated,
        CrashPoint::BlobPartial,
        CrashPoint::BlobSynced,
        CrashPoint::BlobRenamed,
        CrashPoint::BlobDurable,
        CrashPoint::TransactionBegun,
        CrashPoint::TransactionPartial,
        CrashPoint::TransactionFilled,
        CrashPoint::TransactionCommitted,
        CrashPoint::TransactionAnswered,
    ] {
        let world = World::new().await;
        let World { control, store, trees, dir, .. } = world;
        drop((control, store, trees));
        crash(point, dir.path());
        let (control, store, trees) = open(dir.path(), Options::default()).await;
        let committed =
            matches!(point, CrashPoint::TransactionCommitted | CrashPoint::TransactionAnswered);
        let digest = sha256(&code("f"));
        assert_eq!(control.resolve(&scope(), &name("f"), None).is_ok(), committed, "{point:?}");
        assert_eq!(control.resolve_text(&scope(), "f:1", None).is_ok(), committed, "{point:?}");
        assert_eq!(store.list_blobs().await.unwrap().contains(&digest), committed, "{point:?}");
        assert_eq!(trees.contains(&digest), committed, "{point:?}");
        if !committed {
            let request = create_request("f", json!({"Publish": true}));
            let answer = control.create_function(&scope(), request).await.unwrap();
            assert_eq!(answer.version, "1", "{point:?}");
        }
    }
}
