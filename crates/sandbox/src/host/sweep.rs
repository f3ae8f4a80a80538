//! Removing what an earlier run of an owner left.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::{cgroup, ids, network, processes};

/// How long a spawner may take to end after its host did.
const ENDING: Duration = Duration::from_secs(10);

/// Takes the lock that every spawner holds on its work folder while it lives.
pub(crate) fn lock(work_dir: &Path, patience: Duration) -> io::Result<fs::File> {
    let folder = fs::File::open(work_dir)?;
    let deadline = Instant::now() + patience;
    loop {
        match folder.try_lock() {
            Ok(()) => return Ok(folder),
            Err(fs::TryLockError::Error(e)) => return Err(e),
            Err(fs::TryLockError::WouldBlock) if Instant::now() > deadline => {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            // Waiting for a lock has no time limit of its own.
            Err(fs::TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// Files of the work folder, all of which can be made again.
const LEFTOVERS: &[&str] = &["root", "cgroups.json", network::MARK];

/// Removes what an earlier run of this owner left: processes, control groups, files,
/// and what it changed of the network. Only what
/// carries the owner's name, or lies in its work folder, is touched. `WouldBlock`: a spawner of this
/// owner is still running.
pub fn sweep(owner: &str, work_dir: &Path) -> io::Result<()> {
    // A spawner whose host was killed is busy with this same work for a moment.
    let _lock = match lock(work_dir, ENDING) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        other => Some(other?),
    };
    let record = work_dir.join("cgroups.json");
    let recorded: Vec<PathBuf> = match fs::read(&record) {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    // Processes need no search: they die with their spawner, and it with its host. What is in a
    // control group all the same is killed there.
    cgroup::sweep(owner, &recorded);
    // Without namespaces that may be untrue, where all that looked after them were killed.
    processes::sweep(work_dir);
    if ids::is_real_root() {
        network::sweep(owner, work_dir.join(network::MARK).exists())?;
    }
    let entries = match fs::read_dir(work_dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let name = entry?.file_name();
        let text = name.to_string_lossy();
        let image = text.starts_with("tmp-") && text.ends_with(".ext4");
        let node = text.strip_prefix("loop").is_some_and(|n| n.parse::<u32>().is_ok());
        if image || node || LEFTOVERS.contains(&&*text) {
            let path = work_dir.join(&name);
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
        }
    }
    Ok(())
}
