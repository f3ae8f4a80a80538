//! Control groups, v2, v1 or both at once: found once, then one group a sandbox for its guests.
//!
//! Pid 1 stays where the spawner is, unlimited and never frozen; only guests enter the group. Groups
//! are named `lambfold-<owner>/<number>` under our own group, so that limits put on us hold for the
//! sandboxes too, and so that [`crate::sweep`] finds what is ours and nothing else. Those of the v1
//! `cpu` controller are named `lambfold-<owner>.<number>`, a level less: each level costs a tenth of
//! a guest's wake-ups and sleeps.

mod find;
mod remove;

use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{AtFlags, Mode, OFlags};

pub(crate) use find::find;
pub(crate) use remove::sweep;

use crate::capabilities::FreezeMode;
use crate::spec::CPU_PERIOD_US;

/// How to get control groups.
pub(crate) const REMEDY: &str =
    "run as root, or alone in a delegated group (systemd-run --user --scope -p Delegate=yes)";

/// What a hierarchy is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// v1 `memory`.
    Memory,
    /// v1 `pids`.
    Pids,
    /// v1 `cpu`; `alone` when our groups are not inside a folder of ours, whose weight would bound
    /// theirs together.
    Cpu { alone: bool },
    /// v1 `freezer`, where there is no v2.
    Freezer,
    /// v2, with these of its controllers.
    Unified { memory: bool, pids: bool, cpu: bool },
}

/// One hierarchy, with our place in it.
#[derive(Debug)]
pub(crate) struct Hierarchy {
    pub(crate) used: Use,
    /// `…/lambfold-<owner>` as the host sees it: our folder, or what the names of our groups begin
    /// with.
    pub(crate) path: PathBuf,
    /// The folder that our groups are in, open: usable whatever the root directory is.
    pub(crate) dir: OwnedFd,
    /// What is before the number in the names of our groups.
    pub(crate) prefix: String,
}

impl Hierarchy {
    fn name(&self, number: u64) -> String {
        format!("{}{number}", self.prefix)
    }

    /// v2: whoever is in our folder without being a guest goes back to the group around it.
    fn leave(&self) -> io::Result<()> {
        let Some(place) = self.path.parent() else { return Ok(()) };
        let there = fs::read_to_string(self.path.join("init/cgroup.procs"))?;
        let go_back = || {
            there.lines().try_for_each(|pid| match fs::write(place.join("cgroup.procs"), pid) {
                // It has ended.
                Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(()),
                other => other,
            })
        };
        go_back().or_else(|_| {
            // It holds no processes while the groups in it have controllers, and had none of those
            // when they came from there: they are ours to switch off, unless somebody else has
            // groups there by now.
            for controller in find::switched_on(place)?.split_whitespace() {
                for group in [&self.path, place] {
                    find::switch(group, '-', controller)?;
                }
            }
            go_back()
        })
    }
}

/// All hierarchies that are used.
#[derive(Debug, Default)]
pub(crate) struct Hierarchies {
    pub(crate) list: Vec<Hierarchy>,
    next: u64,
    /// Host id of pid 1s, where it is not ours.
    init: Option<u32>,
}

/// The limits of one sandbox; 0 is none.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Limits {
    pub(crate) memory_bytes: u64,
    pub(crate) processes: u64,
    pub(crate) cpu_weight: u64,
    /// Of each [`CPU_PERIOD_US`].
    pub(crate) cpu_quota_us: u64,
}

/// The group of one sandbox's guests; removed by [`Hierarchies::remove`].
#[derive(Debug)]
pub(crate) struct Group {
    number: u64,
    /// v1: `tasks` files, into which a process writes itself. They were opened by the spawner, whose
    /// right counts then.
    pub(crate) enter: Vec<(OwnedFd, Use)>,
    /// v2: the directory that a process is cloned into. Moving it there afterwards would wait for a
    /// grace period of the whole kernel, many milliseconds on an idle machine.
    pub(crate) clone_into: Option<OwnedFd>,
    pub(crate) peak: Option<OwnedFd>,
    pub(crate) oom: Option<OwnedFd>,
    pub(crate) freeze: Option<OwnedFd>,
    pub(crate) freezer: Option<OwnedFd>,
    limits: Vec<(OwnedFd, Use)>,
}

impl Hierarchies {
    pub(crate) fn new(list: Vec<Hierarchy>) -> Hierarchies {
        Hierarchies { list, next: 0, init: None }
    }

    /// Lets pid 1s with this host id clone guests into v2 groups.
    pub(crate) fn allow(&mut self, init: u32) -> io::Result<()> {
        self.init = Some(init);
        self.list
            .iter()
            .filter(|h| matches!(h.used, Use::Unified { .. }))
            .try_for_each(|h| self.give(h.dir.as_fd()))
    }

    fn give(&self, dir: BorrowedFd<'_>) -> io::Result<()> {
        let Some(init) = self.init else { return Ok(()) };
        let owner = Some(rustix::fs::Uid::from_raw(init));
        Ok(rustix::fs::chownat(dir, "cgroup.procs", owner, None, AtFlags::empty())?)
    }

    fn any(&self, test: impl Fn(Use) -> bool) -> bool {
        self.list.iter().any(|h| test(h.used))
    }

    pub(crate) fn has_memory(&self) -> bool {
        self.any(|u| matches!(u, Use::Memory | Use::Unified { memory: true, .. }))
    }

    pub(crate) fn has_pids(&self) -> bool {
        self.any(|u| matches!(u, Use::Pids | Use::Unified { pids: true, .. }))
    }

    pub(crate) fn has_cpu(&self) -> bool {
        self.any(|u| matches!(u, Use::Cpu { .. } | Use::Unified { cpu: true, .. }))
    }

    /// Whether the kernel was built with quotas.
    pub(crate) fn has_cpu_quota(&self) -> bool {
        self.list.iter().any(|hierarchy| {
            let file = match hierarchy.used {
                Use::Cpu { .. } => "cpu.cfs_quota_us",
                Use::Unified { cpu: true, .. } => "cpu.max",
                _ => return false,
            };
            rustix::fs::statat(&hierarchy.dir, file, AtFlags::empty()).is_ok()
        })
    }

    pub(crate) fn freeze_mode(&self) -> FreezeMode {
        if self.any(|u| matches!(u, Use::Unified { .. })) {
            FreezeMode::CgroupV2
        } else if self.any(|u| u == Use::Freezer) {
            FreezeMode::CgroupV1
        } else {
            FreezeMode::Signals
        }
    }

    /// Makes the group of one more sandbox, without limits yet.
    pub(crate) fn make(&mut self) -> io::Result<Group> {
        let number = self.next;
        self.next += 1;
        let mut group = Group {
            number,
            enter: Vec::new(),
            clone_into: None,
            peak: None,
            oom: None,
            freeze: None,
            freezer: None,
            limits: Vec::new(),
        };
        let made = self.fill(&mut group);
        if made.is_err() {
            self.remove(group.number);
        }
        made.map(|()| group)
    }

    fn fill(&self, group: &mut Group) -> io::Result<()> {
        for hierarchy in &self.list {
            let name = hierarchy.name(group.number);
            match rustix::fs::mkdirat(&hierarchy.dir, &name, Mode::from_raw_mode(0o755)) {
                // Two controllers of one hierarchy.
                Err(rustix::io::Errno::EXIST) => {}
                made => made?,
            }
            let dir = rustix::fs::openat(
                &hierarchy.dir,
                &name,
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            let open = |file: &str, flags| open(dir.as_fd(), file, flags);
            match hierarchy.used {
                Use::Unified { memory, .. } => {
                    if memory {
                        // memory.peak is newer than memory.events, and writable later still.
                        group.peak = open("memory.peak", OFlags::RDWR)
                            .or_else(|_| open("memory.peak", OFlags::RDONLY))
                            .ok();
                        group.oom = Some(open("memory.events", OFlags::RDONLY)?);
                    }
                    group.freeze = Some(open("cgroup.freeze", OFlags::RDWR)?);
                    let _ = put(dir.as_fd(), NO_PRESSURE.0, NO_PRESSURE.1);
                    // Pid 1, which clones, must be allowed to write here and to the parent.
                    self.give(dir.as_fd())?;
                    group.clone_into = Some(dir.try_clone()?);
                }
                used => {
                    group.enter.push((open("tasks", OFlags::WRONLY)?, used));
                    if used == Use::Memory {
                        group.peak = Some(open("memory.max_usage_in_bytes", OFlags::RDWR)?);
                        group.oom = Some(open("memory.oom_control", OFlags::RDONLY)?);
                    }
                    if used == Use::Freezer {
                        group.freezer = Some(open("freezer.state", OFlags::RDWR)?);
                    }
                }
            }
            group.limits.push((dir, hierarchy.used));
        }
        Ok(())
    }

    /// Removes the group of a sandbox whose processes are all dead.
    pub(crate) fn remove(&self, number: u64) {
        for hierarchy in &self.list {
            let name = hierarchy.name(number);
            // The last process may be leaving at this moment: what stays is swept at the next
            // start, and nothing is in it.
            for _ in 0..50 {
                match rustix::fs::unlinkat(&hierarchy.dir, &name, AtFlags::REMOVEDIR) {
                    Err(rustix::io::Errno::BUSY) => std::thread::yield_now(),
                    _ => break,
                }
            }
        }
    }

    /// Removes our folders, when nothing is in them any more.
    pub(crate) fn remove_all(&self) {
        for hierarchy in &self.list {
            // This process is in one of them. Where it cannot leave, the next start removes it.
            if matches!(hierarchy.used, Use::Unified { .. }) {
                let _ = hierarchy.leave();
            }
            for folder in remove::folders_of(&hierarchy.path) {
                remove::remove_tree(&folder);
            }
        }
    }
}

impl Group {
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Sets the limits. `set`: those that it has, each of which may become another one, but not none.
    pub(crate) fn limit(&self, limits: Limits, set: Option<Limits>) -> io::Result<()> {
        let before = set.unwrap_or_default();
        let Limits { memory_bytes, processes, cpu_weight, cpu_quota_us } = limits;
        let new_memory = memory_bytes != before.memory_bytes;
        let new_processes = processes != before.processes;
        let new_weight = cpu_weight != before.cpu_weight;
        let new_quota = cpu_quota_us != before.cpu_quota_us;
        for (dir, used) in &self.limits {
            let put = |file: &str, value: u64| put(dir.as_fd(), file, &value.to_string());
            match *used {
                Use::Memory if new_memory => {
                    let with_swap = || optional(put("memory.memsw.limit_in_bytes", memory_bytes));
                    // The one may never be above the other.
                    let grows = before.memory_bytes > 0 && memory_bytes > before.memory_bytes;
                    if grows {
                        with_swap()?;
                    }
                    put("memory.limit_in_bytes", memory_bytes)?;
                    if !grows {
                        with_swap()?;
                    }
                }
                Use::Pids if new_processes => put("pids.max", processes)?,
                Use::Cpu { alone } => {
                    if new_weight {
                        let factor = if alone { ALONE } else { 1 };
                        put("cpu.shares", shares(factor * cpu_weight))?;
                    }
                    if new_quota {
                        put("cpu.cfs_period_us", CPU_PERIOD_US)?;
                        put("cpu.cfs_quota_us", cpu_quota_us)?;
                    }
                }
                Use::Unified { memory, pids, cpu } => {
                    if memory && new_memory {
                        put("memory.max", memory_bytes)?;
                        optional(put("memory.swap.max", 0))?;
                    }
                    if pids && new_processes {
                        put("pids.max", processes)?;
                    }
                    if cpu && new_weight {
                        put("cpu.weight", cpu_weight)?;
                    }
                    if cpu && new_quota {
                        let quota = format!("{cpu_quota_us} {CPU_PERIOD_US}");
                        self::put(dir.as_fd(), "cpu.max", &quota)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Nobody reads how long guests wait for what, and counting it costs at each of their wake-ups and
/// sleeps. Linux before 6.1 has no such switch.
const NO_PRESSURE: (&str, &str) = ("cgroup.pressure", "0");

/// How much more a group weighs that has the machine's other processes beside it: with the weight
/// of one process for each processor's worth, guests would wait for whatever else is busy.
const ALONE: u64 = 8;

/// v2 counts 1 to 10000 around 100, v1 2 to 262144 around 1024.
fn shares(weight: u64) -> u64 {
    (weight * 1024 / 100).clamp(2, 262_144)
}

/// A file that exists only on kernels with swap accounting.
fn optional(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn open(dir: BorrowedFd<'_>, file: &str, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(dir, file, flags | OFlags::CLOEXEC, Mode::empty())?)
}

fn put(dir: BorrowedFd<'_>, file: &str, value: &str) -> io::Result<()> {
    fs::File::from(open(dir, file, OFlags::WRONLY)?).write_all(value.as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn shares_follow_the_weight_on_both_sides_of_the_range() {
        assert_eq!(shares(100), 1024);
        assert_eq!(shares(1), 10);
        assert_eq!(shares(10_000), 102_400);
    }

    /// On a folder tree in place of a v2 file system: which files are written, and with what.
    #[test]
    fn unified_limits() {
        let temp = tempfile::tempdir().unwrap();
        let files = [
            "memory.max",
            "memory.swap.max",
            "pids.max",
            "cpu.weight",
            "cpu.max",
            "memory.events",
            "cgroup.freeze",
        ];
        let group_dir = temp.path().join("group");
        fs::create_dir(&group_dir).unwrap();
        for file in files {
            fs::write(group_dir.join(file), "").unwrap();
        }
        let dir =
            rustix::fs::open(&group_dir, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let group = Group {
            number: 0,
            enter: Vec::new(),
            clone_into: None,
            peak: None,
            oom: None,
            freeze: None,
            freezer: None,
            limits: vec![(dir, Use::Unified { memory: true, pids: true, cpu: true })],
        };
        let limits =
            Limits { memory_bytes: 134_217_728, processes: 7, cpu_weight: 55, cpu_quota_us: 7_235 };
        group.limit(limits, None).unwrap();
        let read = |file| fs::read_to_string(group_dir.join(file)).unwrap();
        assert_eq!(read("memory.max"), "134217728");
        assert_eq!(read("memory.swap.max"), "0");
        assert_eq!(read("pids.max"), "7");
        assert_eq!(read("cpu.weight"), "55");
        assert_eq!(read("cpu.max"), "7235 100000");
        // What is to stay is not written again.
        for file in files {
            fs::write(group_dir.join(file), "").unwrap();
        }
        let other = Limits { memory_bytes: 7, ..limits };
        group.limit(other, Some(limits)).unwrap();
        let written = files.map(read);
        assert_eq!(written, ["7", "0", "", "", "", "", ""]);
    }
}
