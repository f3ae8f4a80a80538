//! Who descends from whom, as `/proc` tells.

use std::collections::HashMap;
use std::fs;
use std::sync::OnceLock;

use rustix::process::Pid;

fn pid(text: &str) -> Option<Pid> {
    text.parse().ok().and_then(Pid::from_raw)
}

/// All processes that can be seen.
pub(super) fn everybody() -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| pid(entry.file_name().to_str()?)).collect()
}

/// Whether this kernel lists children (`CONFIG_PROC_CHILDREN`).
fn are_listed() -> bool {
    static LISTED: OnceLock<bool> = OnceLock::new();
    *LISTED.get_or_init(|| fs::exists("/proc/thread-self/children").unwrap_or(false))
}

/// The children of a process, dead ones that nobody has waited for among them. Who comes or goes
/// meanwhile may be missed: what must be complete is asked for again.
pub(super) fn children(parent: Pid) -> Vec<Pid> {
    if are_listed() { listed(parent) } else { parents().remove(&parent).unwrap_or_default() }
}

/// All that descend from a process, each after its parent.
pub(super) fn below(eldest: Pid) -> Vec<Pid> {
    if are_listed() {
        return descend(eldest, listed);
    }
    let mut parents = parents();
    descend(eldest, |parent| parents.remove(&parent).unwrap_or_default())
}

fn descend(eldest: Pid, mut children: impl FnMut(Pid) -> Vec<Pid>) -> Vec<Pid> {
    let mut found = vec![eldest];
    let mut next = 0;
    while let Some(parent) = found.get(next).copied() {
        // Who is adopted while this runs is seen twice.
        let mut new = children(parent);
        new.retain(|child| !found.contains(child));
        found.extend(new);
        next += 1;
    }
    found.remove(0);
    found
}

/// By the kernel's own list, which each thread has of what it has started.
fn listed(parent: Pid) -> Vec<Pid> {
    let tasks = fs::read_dir(format!("/proc/{}/task", parent.as_raw_nonzero()));
    let mut found = Vec::new();
    for task in tasks.into_iter().flatten().flatten() {
        let text = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        found.extend(text.split_ascii_whitespace().filter_map(pid));
    }
    found
}

/// Everybody's children, by everybody's word of their parents.
fn parents() -> HashMap<Pid, Vec<Pid>> {
    let mut found = HashMap::<Pid, Vec<Pid>>::new();
    for child in everybody() {
        let stat = fs::read(format!("/proc/{}/stat", child.as_raw_nonzero())).unwrap_or_default();
        if let Some(parent) = parent(&stat) {
            found.entry(parent).or_default().push(child);
        }
    }
    found
}

/// The name before the last parenthesis may hold anything.
fn parent(stat: &[u8]) -> Option<Pid> {
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    pid(std::str::from_utf8(&stat[end + 1..]).ok()?.split_ascii_whitespace().nth(1)?)
}

/// The most memory that each process below a keeper has held, together. What they share is counted
/// for each of them.
pub(crate) fn memory_peak_bytes(keeper: u32) -> u64 {
    let Some(keeper) = i32::try_from(keeper).ok().and_then(Pid::from_raw) else { return 0 };
    let of_one = |pid: Pid| {
        let path = format!("/proc/{}/status", pid.as_raw_nonzero());
        high_water_bytes(&fs::read_to_string(path).ok()?)
    };
    below(keeper).into_iter().filter_map(of_one).sum()
}

fn high_water_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Read;
    use std::process::{Command, Stdio};

    #[test]
    fn the_offspring_of_a_process_is_found_either_way() {
        let script = "sleep 1000 & (sleep 1001 & echo up; wait) & wait";
        let mut shell =
            Command::new("/bin/bash").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut up = [0; 3];
        shell.stdout.take().unwrap().read_exact(&mut up).unwrap();
        let eldest = Pid::from_child(&shell);
        let sorted = |mut list: Vec<Pid>| {
            list.sort_by_key(|pid| pid.as_raw_nonzero());
            list
        };
        let found = sorted(descend(eldest, listed));
        assert_eq!(found.len(), 3, "{found:?}");
        let mut all = parents();
        assert_eq!(sorted(all[&eldest].clone()), sorted(listed(eldest)));
        assert_eq!(sorted(descend(eldest, |pid| all.remove(&pid).unwrap_or_default())), found);
        assert_eq!(sorted(below(eldest)), found);
        assert_eq!(children(eldest).len(), 2);
        let peak = memory_peak_bytes(shell.id());
        assert!(peak > 1 << 20, "{peak} bytes");
        shell.kill().unwrap();
        shell.wait().unwrap();
        for pid in found {
            crate::sys::kill(pid, libc::SIGKILL).unwrap();
        }
    }

    #[test]
    fn names_of_programs_may_hold_anything() {
        let parent = |stat: &[u8]| parent(stat).map(|pid| pid.as_raw_nonzero().get());
        assert_eq!(parent(b"12 (a) S 1) (b) S 34 12 12"), Some(34));
        assert_eq!(parent(b"12 (\xff\n) S 34"), Some(34));
        assert_eq!(parent(b"1 (init) S 0 1 1"), None);
        assert_eq!(parent(b""), None);
        assert_eq!(high_water_bytes("VmPeak:\t 9 kB\nVmHWM:\t    12 kB\n"), Some(12 << 10));
        assert_eq!(high_water_bytes("Name:\tzombie\n"), None);
    }
}
