//! Which hierarchies there are, and where in them we may make groups.

use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::{Hierarchy, Use};
use crate::capabilities::Note;
use crate::step::Step;

/// What was found, with a sentence for each thing that is missing.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) list: Vec<Hierarchy>,
    pub(crate) notes: Vec<Note>,
}

fn note(found: &mut Found, what: String) {
    found.notes.push(Note::new(Step::CgroupBase, what, super::REMEDY));
}

const SUBTREE_CONTROL: &str = "cgroup.subtree_control";

/// One mount of `/proc/self/mountinfo` that is a cgroup file system.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mounted {
    /// What of the hierarchy is mounted here.
    root: PathBuf,
    point: PathBuf,
    /// v1 controllers; `None` is v2.
    controllers: Option<Vec<String>>,
}

/// Finds, and makes our folder in, every hierarchy that is of use. `host` is the process that asked
/// for sandboxes: where v2 demands it, it is moved into a group of its own together with us.
pub(crate) fn find(owner: &str, host: u32) -> io::Result<Found> {
    let mounts = parse_mounts(&fs::read_to_string("/proc/self/mountinfo")?);
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let mut found = Found::default();
    let unified = mounts.iter().find(|m| m.controllers.is_none());
    for (controller, used) in
        [("memory", Use::Memory), ("pids", Use::Pids), ("cpu", Use::Cpu { alone: false })]
    {
        if let Some(mounted) = v1(&mounts, controller) {
            add_v1(&mut found, mounted, &own, controller, used, owner);
        }
    }
    let taken = |found: &Found, test: fn(Use) -> bool| found.list.iter().any(|h| test(h.used));
    if let Some(mounted) = unified {
        let wanted = [
            ("memory", !taken(&found, |used| used == Use::Memory)),
            ("pids", !taken(&found, |used| used == Use::Pids)),
            ("cpu", !taken(&found, |used| matches!(used, Use::Cpu { .. }))),
        ];
        match own_group(&own, None, owner).and_then(|path| place(mounted, path)) {
            Some(place) => add_v2(&mut found, mounted, &place, wanted, owner, host),
            None => note(&mut found, "the cgroup v2 hierarchy does not show our own group".into()),
        }
    }
    if !found.list.iter().any(|h| matches!(h.used, Use::Unified { .. }))
        && let Some(mounted) = v1(&mounts, "freezer")
    {
        add_v1(&mut found, mounted, &own, "freezer", Use::Freezer, owner);
    }
    Ok(found)
}

/// Where [`find`] would make our folders, or groups whose names begin so.
pub(super) fn existing(owner: &str) -> io::Result<Vec<PathBuf>> {
    let mounts = parse_mounts(&fs::read_to_string("/proc/self/mountinfo")?);
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let name = format!("lambfold-{owner}");
    let mut folders = Vec::new();
    for mounted in &mounts {
        let group = match &mounted.controllers {
            None => own_group(&own, None, owner),
            Some(controllers) => controllers.iter().find_map(|c| own_group(&own, Some(c), owner)),
        };
        folders.push(mounted.point.join(&name));
        folders.extend(group.and_then(|g| place(mounted, g)).map(|p| p.join(&name)));
    }
    folders.sort();
    folders.dedup();
    Ok(folders)
}

fn v1<'a>(mounts: &'a [Mounted], controller: &str) -> Option<&'a Mounted> {
    mounts
        .iter()
        .find(|m| m.controllers.as_ref().is_some_and(|c| c.iter().any(|c| c == controller)))
}

fn add_v1(
    found: &mut Found,
    mounted: &Mounted,
    own: &str,
    controller: &str,
    used: Use,
    owner: &str,
) {
    let made = own_group(own, Some(controller), owner)
        .and_then(|path| place(mounted, path))
        .ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
        .and_then(|place| match used {
            Use::Cpu { .. } if is_alone(mounted) => flat(&place, owner),
            _ => make(&place, owner, used),
        });
    match made {
        Ok(hierarchy) => {
            if hierarchy.used == (Use::Cpu { alone: false }) {
                weigh(&hierarchy.path.join("cpu.shares"), super::shares(own_weight()));
            }
            found.list.push(hierarchy);
        }
        Err(e) => note(found, format!("cgroup v1 {controller} is not ours to use: {e}")),
    }
}

/// Whether `cpu` shares its hierarchy with nothing that we use otherwise.
fn is_alone(mounted: &Mounted) -> bool {
    let others = ["memory", "pids", "freezer"];
    mounted.controllers.iter().flatten().all(|c| !others.contains(&c.as_str()))
}

/// Groups without a folder of ours around them, if we may make any.
fn flat(place: &Path, owner: &str) -> io::Result<Hierarchy> {
    let used = Use::Cpu { alone: true };
    let probe = make(place, owner, used)?;
    fs::remove_dir(&probe.path)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(place, flags, Mode::empty())?;
    let prefix = format!("lambfold-{owner}.");
    Ok(Hierarchy { used, path: probe.path, dir, prefix })
}

fn add_v2(
    found: &mut Found,
    mounted: &Mounted,
    place: &Path,
    wanted: [(&str, bool); 3],
    owner: &str,
    host: u32,
) {
    let mut result = enabled(place, wanted, owner, host);
    // Root may start at the top, which may hold both processes and controllers.
    if rustix::process::geteuid().is_root() && place != mounted.point {
        let lacking = |r: &io::Result<(Hierarchy, [bool; 3])>| {
            r.as_ref().map_or(true, |(_, has)| {
                wanted.iter().zip(has).any(|((_, wanted), has)| *wanted && !has)
            })
        };
        if lacking(&result) {
            let top = enabled(&mounted.point, wanted, owner, host);
            if !lacking(&top) {
                if let Ok((hierarchy, _)) = &result {
                    let _ = hierarchy.leave();
                    super::remove::remove_tree(&hierarchy.path);
                }
                result = top;
            }
        }
    }
    match result {
        Ok((mut hierarchy, [memory, pids, cpu])) => {
            for ((name, wanted), has) in wanted.iter().zip([memory, pids, cpu]) {
                if *wanted && !has {
                    let what = match strangers(place, &hierarchy.path, name) {
                        None => format!("is not delegated to {}", place.display()),
                        Some(pid) => format!(
                            "is kept from groups in {} by other processes in it, such as {pid}",
                            place.display()
                        ),
                    };
                    note(found, format!("cgroup controller {name} {what}"));
                }
            }
            hierarchy.used = Use::Unified { memory, pids, cpu };
            found.list.push(hierarchy);
        }
        Err(e) => {
            note(found, format!("cgroup v2 group {} is not ours to use: {e}", place.display()))
        }
    }
}

/// A process that is in the way of a controller that could be had otherwise.
fn strangers(place: &Path, ours: &Path, controller: &str) -> Option<u32> {
    let read = |folder: &Path, file| fs::read_to_string(folder.join(file)).unwrap_or_default();
    let offered = read(place, "cgroup.controllers");
    let given = read(ours, "cgroup.controllers");
    let has = |list: &str| list.split_whitespace().any(|c| c == controller);
    let first = read(place, "cgroup.procs").lines().find_map(|pid| pid.parse().ok());
    first.filter(|_| has(&offered) && !has(&given))
}

/// Our folder under `place` and which of the wanted controllers groups in it have.
fn enabled(
    place: &Path,
    wanted: [(&str, bool); 3],
    owner: &str,
    host: u32,
) -> io::Result<(Hierarchy, [bool; 3])> {
    let hierarchy = make(place, owner, Use::Unified { memory: false, pids: false, cpu: false })?;
    // The spawner, and so every pid 1: the group that both it and its guests are in must be ours for
    // guests to be cloned into theirs.
    if let Err(e) = enter_init(&hierarchy.path, std::process::id()) {
        super::remove::remove_tree(&hierarchy.path);
        return Err(e);
    }
    let offered = fs::read_to_string(place.join("cgroup.controllers")).unwrap_or_default();
    let has = wanted.map(|(name, wanted)| {
        wanted
            && offered.split_whitespace().any(|c| c == name)
            && (enable(place, name).is_ok()
                || (make_room(place, &hierarchy.path, host).is_ok() && enable(place, name).is_ok()))
            && enable(&hierarchy.path, name).is_ok()
    });
    weigh(&hierarchy.path.join("cpu.weight"), own_weight());
    let _ = super::put(hierarchy.dir.as_fd(), super::NO_PRESSURE.0, super::NO_PRESSURE.1);
    Ok((hierarchy, has))
}

fn enable(group: &Path, controller: &str) -> io::Result<()> {
    if switched_on(group)?.split_whitespace().any(|c| c == controller) {
        return Ok(());
    }
    switch(group, '+', controller)
}

/// Controllers of the groups in this one.
pub(super) fn switched_on(group: &Path) -> io::Result<String> {
    fs::read_to_string(group.join(SUBTREE_CONTROL))
}

/// Switches a controller of the groups in this one on (`+`) or off (`-`).
pub(super) fn switch(group: &Path, sign: char, controller: &str) -> io::Result<()> {
    let text = format!("{sign}{controller}");
    let file = group.join(SUBTREE_CONTROL);
    fs::OpenOptions::new().write(true).open(file)?.write_all(text.as_bytes())
}

/// v2 gives controllers only to children of a group without processes: moves the host out of the
/// way too, if nobody else is there.
fn make_room(place: &Path, ours: &Path, host: u32) -> io::Result<()> {
    let there = fs::read_to_string(place.join("cgroup.procs"))?;
    let there: Vec<u32> = there.lines().filter_map(|l| l.parse().ok()).collect();
    if there.iter().any(|&pid| pid != host) {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    there.into_iter().try_for_each(|pid| enter_init(ours, pid))
}

/// Moves a process into the group of those that are not guests.
fn enter_init(ours: &Path, pid: u32) -> io::Result<()> {
    let leaf = ours.join("init");
    match fs::create_dir(&leaf) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    fs::OpenOptions::new()
        .write(true)
        .open(leaf.join("cgroup.procs"))?
        .write_all(pid.to_string().as_bytes())
}

fn make(place: &Path, owner: &str, used: Use) -> io::Result<Hierarchy> {
    let path = place.join(format!("lambfold-{owner}"));
    match fs::create_dir(&path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    let dir: OwnedFd =
        rustix::fs::open(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok(Hierarchy { used, path, dir, prefix: String::new() })
}

/// The weight of all guests together. One group weighs as much as one process by default, so that
/// on a busy machine all guests would share what a single client has: this is eight processes a
/// processor.
fn own_weight() -> u64 {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (processors as u64 * 800).min(10_000)
}

/// Where it may not be set, as in a delegated group, the default stays.
fn weigh(file: &Path, weight: u64) {
    let _ = fs::OpenOptions::new()
        .write(true)
        .open(file)
        .and_then(|mut file| file.write_all(weight.to_string().as_bytes()));
}

/// Where the group `path` of the hierarchy is in the file system.
fn place(mounted: &Mounted, path: PathBuf) -> Option<PathBuf> {
    let below = path.strip_prefix(&mounted.root).ok()?;
    Some(mounted.point.join(below))
}

/// Our own group: of a v1 controller, or of v2.
fn own_group(text: &str, controller: Option<&str>, owner: &str) -> Option<PathBuf> {
    let leaf = format!("/lambfold-{owner}/init");
    text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let right = match controller {
            None => id == "0" && controllers.is_empty(),
            Some(controller) => controllers.split(',').any(|c| c == controller),
        };
        // A server that restarts itself is in the leaf that it was moved to: start from above it.
        let path = path.strip_suffix(&leaf).unwrap_or(path);
        let path = if path.is_empty() { "/" } else { path };
        right.then(|| PathBuf::from(path))
    })
}

fn parse_mounts(text: &str) -> Vec<Mounted> {
    text.lines().filter_map(parse_mount).collect()
}

fn parse_mount(line: &str) -> Option<Mounted> {
    let (mount, source) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let (root, point) = (unescape(mount.next()?), unescape(mount.next()?));
    let mut source = source.split(' ');
    let kind = source.next()?;
    let options = source.nth(1).unwrap_or("");
    let controllers = match kind {
        "cgroup2" => None,
        "cgroup" => Some(options.split(',').map(str::to_owned).collect()),
        _ => return None,
    };
    Some(Mounted { root, point, controllers })
}

/// Blanks in `mountinfo` are written as `\040`.
fn unescape(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes
            .get(at + 1..at + 4)
            .filter(|_| bytes[at] == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                plain.push(byte);
                at += 4;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    PathBuf::from(std::ffi::OsStr::from_bytes(&plain))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime shared:3 - cgroup cgroup rw,memory
41 31 0:38 /a\\040b /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn mounts_of_both_versions() {
        let mounts = parse_mounts(HYBRID);
        assert_eq!(mounts.len(), 3);
        assert_eq!(v1(&mounts, "cpu").unwrap().point, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert!(v1(&mounts, "pids").is_none());
        assert_eq!(mounts[2].root, Path::new("/a b"));
        assert_eq!(mounts[2].controllers, None);
    }

    #[test]
    fn own_groups() {
        let text = "4:memory:/system.slice/x.service\n1:cpu,cpuacct:/\n0::/y/lambfold-a/init\n";
        assert_eq!(
            own_group(text, Some("memory"), "a").unwrap(),
            Path::new("/system.slice/x.service")
        );
        assert_eq!(own_group(text, Some("cpuacct"), "a").unwrap(), Path::new("/"));
        assert_eq!(own_group(text, Some("pids"), "a"), None);
        assert_eq!(own_group(text, None, "a").unwrap(), Path::new("/y"));
        let other = own_group(text, None, "b").unwrap();
        assert_eq!(other, Path::new("/y/lambfold-a/init"));
    }

    #[test]
    fn a_group_outside_what_is_mounted_has_no_place() {
        let mounted = Mounted { root: "/in".into(), point: "/sys/c".into(), controllers: None };
        assert_eq!(place(&mounted, "/in/side".into()), Some("/sys/c/side".into()));
        assert_eq!(place(&mounted, "/out".into()), None);
    }
}
