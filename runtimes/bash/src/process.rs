//! A child, its end, and everything that it started.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal};

/// How often a child is looked at where the kernel cannot say when it ends (before Linux 5.3).
pub(crate) const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// How often a family is looked at while it still grows.
const MAX_ROUNDS: usize = 16;

/// A child process; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// Readable when the child has ended.
    end: Option<OwnedFd>,
    status: Option<i32>,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> io::Result<Process> {
        let child = command.spawn()?;
        let end = end_of(child.id());
        Ok(Process { child, end, status: None })
    }

    /// Becomes readable when the process has ended, where the kernel offers that.
    pub(crate) fn end(&self) -> Option<BorrowedFd<'_>> {
        self.end.as_ref().map(AsFd::as_fd)
    }

    /// The exit status as a shell counts it (128 and the signal), once the process has ended.
    pub(crate) fn status(&mut self) -> Option<i32> {
        if self.status.is_none() {
            let status = self.child.try_wait().ok().flatten()?;
            let by_signal = status.signal().map(|signal| 128 + signal);
            self.status = Some(status.code().or(by_signal).unwrap_or(255));
        }
        self.status
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.status().is_none()
    }

    /// Signals the process and everything that it started and that still descends from it. What has
    /// left the family is nobody's any more, and is left alone.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.is_alive() {
            signal_family(self.child.id(), true, signal);
        }
    }

    /// Signals what descends from one of the shells that the process has started, if that shell has
    /// not ended, but neither shell nor process.
    pub(crate) fn signal_below(&mut self, shell: u32, signal: Signal) {
        if self.is_alive() && descendants(self.child.id()).contains(&shell) {
            signal_family(shell, false, signal);
        }
    }
}

fn signal_family(root: u32, itself_too: bool, signal: Signal) {
    let mut family = descendants(root);
    if signal == Signal::KILL {
        // Stopped before they are killed: one that is killed alone may have started another
        // meanwhile, which would then belong to nobody.
        for _ in 0..MAX_ROUNDS {
            send(&family, Signal::STOP);
            let grown = descendants(root);
            if grown.iter().all(|pid| family.contains(pid)) {
                break;
            }
            family = grown;
        }
    }
    if itself_too {
        family.insert(0, root);
    }
    // Parents first: one that saw a child die of the signal would go on with its next line.
    send(&family, signal);
}

/// Becomes readable when a process has ended, where the kernel offers that.
pub(crate) fn end_of(pid: u32) -> Option<OwnedFd> {
    rustix::process::pidfd_open(to_pid(pid)?, PidfdFlags::empty()).ok()
}

/// Whether a process has ended and has been waited for.
pub(crate) fn is_gone(pid: u32) -> bool {
    to_pid(pid).is_none_or(|pid| rustix::process::test_kill_process(pid).is_err())
}

fn to_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

fn send(pids: &[u32], signal: Signal) {
    for pid in pids {
        if let Some(pid) = to_pid(*pid) {
            // It may have ended meanwhile.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_alive() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn descendants(root: u32) -> Vec<u32> {
    let all = match fs::exists(format!("/proc/{root}/task/{root}/children")) {
        Ok(true) => None,
        _ => Some(children_of_all()),
    };
    let mut found = Vec::new();
    let mut next = vec![root];
    while let Some(pid) = next.pop() {
        let of_pid = match &all {
            None => children_of(pid),
            Some(all) => all.get(&pid).cloned().unwrap_or_default(),
        };
        found.extend_from_slice(&of_pid);
        next.extend(of_pid);
    }
    found
}

/// Each thread has its own children. A kernel without CONFIG_PROC_CHILDREN does not tell.
fn children_of(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let list = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        found.extend(list.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    found
}

fn children_of_all() -> HashMap<u32, Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        if let Some(parent) = parent_of(&stat) {
            children.entry(parent).or_default().push(pid);
        }
    }
    children
}

/// The fourth field of `/proc/<pid>/stat`; the second is a name in parentheses that may itself hold
/// spaces and parentheses.
fn parent_of(stat: &str) -> Option<u32> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader, Read};
    use std::process::Stdio;

    #[test]
    fn a_name_cannot_hide_a_parent() {
        assert_eq!(parent_of("7 (a b) c) S 3 7 7"), Some(3));
        assert_eq!(parent_of("7 (x"), None);
        assert_eq!(parent_of(""), None);
    }

    #[test]
    fn both_ways_to_find_children_agree() {
        let mut command = Command::new("bash");
        command.args(["-c", "sleep 600 & sleep 600 & echo up; wait"]);
        let mut process = Process::start(command.stdout(Stdio::piped())).expect("bash runs");
        let mut up = [0; 3];
        let mut stdout = process.child.stdout.take().expect("a pipe");
        stdout.read_exact(&mut up).expect("it says that it is up");
        let root = process.child.id();
        let mut scanned = children_of_all().remove(&root).unwrap_or_default();
        let mut listed = children_of(root);
        scanned.sort_unstable();
        listed.sort_unstable();
        assert_eq!(scanned.len(), 2);
        assert_eq!(scanned, listed);
        process.signal(Signal::KILL);
        process.child.wait().expect("it ends");
    }

    #[test]
    fn no_parent_goes_on_when_its_child_is_stopped() {
        let mut command = Command::new("bash");
        // The many others give it the time to.
        let script = "sleep 600 & first=$!; for i in {1..300}; do sleep 600 & done
            echo up; wait $first; echo late";
        command.args(["-c", script]);
        for signal in [Signal::TERM, Signal::KILL] {
            let mut process = Process::start(command.stdout(Stdio::piped())).expect("bash runs");
            let mut stdout = process.child.stdout.take().expect("a pipe");
            let mut up = [0; 3];
            stdout.read_exact(&mut up).expect("it says that it is up");
            process.signal(signal);
            let mut rest = String::new();
            stdout.read_to_string(&mut rest).expect("text");
            assert_eq!(rest, "", "{signal:?}");
        }
    }

    #[test]
    fn a_signal_reaches_what_a_shell_of_the_process_started() {
        let mut command = Command::new("bash");
        let script = "(echo $BASHPID; bash -c 'echo up; sleep 600; :'; exit 7); exit $?";
        let mut process =
            Process::start(command.args(["-c", script]).stdout(Stdio::piped())).expect("bash runs");
        let stdout = process.child.stdout.take().expect("a pipe");
        let mut lines = BufReader::new(stdout).lines().map(|line| line.expect("text"));
        let shell = lines.next().expect("a line").parse().expect("a process id");
        assert_eq!(lines.next().as_deref(), Some("up"));
        // No shell of this process's: left alone.
        process.signal_below(std::process::id(), Signal::KILL);
        process.signal_below(shell, Signal::KILL);
        process.child.wait().expect("it ends");
        assert_eq!(process.status(), Some(7));
    }
}
