//! The process is stopped at every named point of every write; then everything that was
//! acknowledged is there, and nothing is half done.

use crate::workload::{Plan, Said, verify};
use lambfold_store::CrashPoint;
use std::os::unix::process::ExitStatusExt as _;

const SIGABRT: i32 = 6;

/// Runs until the point is passed for the `times`-th time; false when it never was.
fn crash(point: CrashPoint, times: u64) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("data");
    let plan = Plan { dir: &path, stop: format!("{point:?} {times}"), steps: 7, fill_bytes: 100 };
    let output = plan.command(&[]).output().unwrap();
    let mut said = Said::default();
    said.hear(&String::from_utf8_lossy(&output.stdout));
    let stopped = output.status.signal() == Some(SIGABRT);
    assert!(
        stopped || (output.status.success() && said.ended),
        "{point:?} {times}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(!(stopped && said.ended));
    verify(&path, &said);
    stopped
}

#[test]
fn nothing_acknowledged_is_lost_at_any_point() {
    for point in CrashPoint::ALL {
        let times: &[u64] = match point {
            CrashPoint::FolderLocked
            | CrashPoint::FolderIdWritten
            | CrashPoint::FolderFormatWritten
            | CrashPoint::DatabaseCreated => &[1],
            CrashPoint::BlobUnlinked => &[1, 3],
            _ => &[1, 2, 11],
        };
        for times in times {
            assert!(crash(point, *times), "{point:?} was not passed {times} times");
        }
    }
}

#[test]
fn control_run_without_a_crash_reaches_its_end() {
    assert!(!crash(CrashPoint::TransactionBegun, u64::MAX));
}
