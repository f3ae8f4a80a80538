//! Removing groups: after a sandbox, and after a run that was killed.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a killed process may take to leave its group.
const LEAVE: Duration = Duration::from_secs(5);

/// Kills what is in the groups of this owner, and removes them: in every hierarchy that is mounted,
/// wherever they are, since the earlier run may have had another group of its own.
pub(crate) fn sweep(owner: &str, recorded: &[PathBuf]) {
    let name = format!("lambfold-{owner}");
    let mut folders: Vec<PathBuf> = recorded
        .iter()
        .filter(|path| path.ends_with(&name) && path.starts_with("/sys/fs/cgroup"))
        .cloned()
        .collect();
    if let Ok(mut found) = super::find::existing(owner) {
        folders.append(&mut found);
    }
    folders.sort();
    folders.dedup();
    let folders: Vec<PathBuf> = folders.iter().flat_map(|path| folders_of(path)).collect();
    for folder in &folders {
        kill_tree(folder);
        kill_guests(folder);
    }
    let deadline = Instant::now() + LEAVE;
    for folder in &folders {
        while folder.exists() {
            remove_tree(folder);
            if !folder.exists() || holds_us(folder) || Instant::now() > deadline {
                break;
            }
            kill_tree(folder);
            kill_guests(folder);
            // Nothing tells when a group is empty on v1: look again soon.
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Whether nothing is left but the group that this very process was moved to.
fn holds_us(folder: &Path) -> bool {
    let own = std::process::id().to_string();
    children(folder) == [folder.join("init")]
        && fs::read_to_string(folder.join("init/cgroup.procs"))
            .is_ok_and(|pids| pids.lines().any(|pid| pid == own))
}

/// Our folder `…/lambfold-<owner>`, and groups `…/lambfold-<owner>.<number>`, as far as there are
/// any.
pub(super) fn folders_of(path: &Path) -> Vec<PathBuf> {
    let (Some(place), Some(name)) = (path.parent(), path.file_name()) else { return Vec::new() };
    let mut found = children(place);
    found.retain(|child| {
        let other = child.file_name().unwrap_or_default().as_encoded_bytes();
        let rest = other.strip_prefix(name.as_encoded_bytes());
        rest.is_some_and(|rest| rest.is_empty() || is_number(rest))
    });
    found
}

/// `.<number>`
fn is_number(text: &[u8]) -> bool {
    text.strip_prefix(b".").is_some_and(|rest| rest.iter().all(u8::is_ascii_digit))
}

/// Kills what is in a group that stands for itself; in our folder itself there is nobody.
fn kill_guests(folder: &Path) {
    if folder.extension().is_some_and(|number| !number.is_empty()) {
        kill_group(folder);
    }
}

fn children(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .map(|entries| {
            entries
                .filter_map(Result::ok)
                .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
                .map(|e| e.path())
                .collect()
        })
        .unwrap_or_default()
}

fn kill_tree(folder: &Path) {
    for child in children(folder) {
        // `init` holds the server itself, and is empty when another one sweeps.
        if child.file_name().is_some_and(|n| n != "init") {
            kill_tree(&child);
            kill_group(&child);
        }
    }
}

fn kill_group(group: &Path) {
    // A frozen v1 group does not die before it is thawed.
    let _ = write(&group.join("freezer.state"), "THAWED");
    if write(&group.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    let pids = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    for pid in pids.lines().filter_map(|l| l.parse().ok()) {
        if let Some(pid) = rustix::process::Pid::from_raw(pid) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

fn write(file: &Path, text: &str) -> std::io::Result<()> {
    fs::OpenOptions::new().write(true).open(file)?.write_all(text.as_bytes())
}

/// Removes a group and those in it, as far as they are empty.
pub(super) fn remove_tree(folder: &Path) {
    for child in children(folder) {
        remove_tree(&child);
    }
    let _ = fs::remove_dir(folder);
}
