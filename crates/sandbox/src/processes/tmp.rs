//! The folders for temporary files, one for each sandbox, and what is known by them.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Pid;

use super::tree;
use crate::sys;

/// The variable that names it to guests.
pub(super) const VARIABLE: &str = "TMPDIR";

const PREFIX: &str = "tmp-";
/// How long a process that was killed may take to be gone.
const ENDING: Duration = Duration::from_secs(10);

/// The folder of a sandbox; a short path, since names of sockets end at 107 bytes.
pub(super) fn of(work_dir: &Path, ticket: u64) -> PathBuf {
    work_dir.join(format!("{PREFIX}{ticket}"))
}

/// Removes one, whatever is in it.
pub(super) fn remove(folder: &Path) {
    if let Err(e) = fs::remove_dir_all(folder)
        && e.kind() == io::ErrorKind::PermissionDenied
    {
        open_up(folder);
        // What is left is left for the next start to try.
        let _ = fs::remove_dir_all(folder);
    }
}

/// Its guests may have closed folders even to themselves.
fn open_up(folder: &Path) {
    let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o700));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}

/// Ends what is left of sandboxes whose host, spawner and keeper were all killed, and removes their
/// folders. Nobody else's work folder is touched, and no process that was not started with one of
/// these folders as its `TMPDIR`.
pub(crate) fn sweep(work_dir: &Path) {
    for entry in fs::read_dir(work_dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let ticket = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if ticket.is_some_and(|ticket| ticket.parse::<u64>().is_ok()) {
            let folder = entry.path();
            end_started_with(&folder);
            remove(&folder);
        }
    }
}

fn end_started_with(folder: &Path) {
    let deadline = Instant::now() + ENDING;
    let mark = format!("{VARIABLE}={}", folder.display());
    let has_mark = |pid: &Pid| {
        let environment = fs::read(format!("/proc/{}/environ", pid.as_raw_nonzero()));
        environment.is_ok_and(|all| all.split(|byte| *byte == 0).any(|one| one == mark.as_bytes()))
    };
    loop {
        let mut left = tree::everybody();
        left.retain(has_mark);
        if left.is_empty() || Instant::now() > deadline {
            return;
        }
        for pid in left {
            let _ = sys::kill(pid, libc::SIGKILL);
        }
        // It is nobody's child here whose end could be waited for.
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn a_folder_goes_with_all_that_is_in_it_and_nothing_that_links_lead_to() {
        let place = tempfile::tempdir().unwrap();
        let (other, folder) = (place.path().join("other"), of(place.path(), 7));
        fs::create_dir_all(folder.join("a/b")).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("file"), "kept").unwrap();
        fs::write(folder.join("a/b/file"), "").unwrap();
        std::os::unix::fs::symlink(&other, folder.join("a/link")).unwrap();
        for closed in ["a/b", "a"] {
            fs::set_permissions(folder.join(closed), fs::Permissions::from_mode(0o000)).unwrap();
        }
        remove(&folder);
        assert!(!folder.exists());
        assert_eq!(fs::read_to_string(other.join("file")).unwrap(), "kept");
    }

    #[test]
    fn a_sweep_ends_what_was_started_with_a_folder_that_is_left_and_nobody_else() {
        let place = tempfile::tempdir().unwrap();
        let start = |ticket| {
            let folder = of(place.path(), ticket);
            let mut command = std::process::Command::new("/bin/sleep");
            let child = command.arg("1000").env_clear().env(VARIABLE, folder).spawn().unwrap();
            // While it executes its program it has no environment that could be read.
            while fs::read(format!("/proc/{}/environ", child.id())).unwrap().is_empty() {
                std::thread::yield_now();
            }
            child
        };
        fs::create_dir(of(place.path(), 1)).unwrap();
        fs::create_dir(place.path().join("tmp-others")).unwrap();
        let (mut left, mut other) = (start(1), start(12));
        sweep(place.path());
        assert_eq!(left.wait().unwrap().signal(), Some(libc::SIGKILL));
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(!of(place.path(), 1).exists());
        assert!(place.path().join("tmp-others").exists());
    }
}
