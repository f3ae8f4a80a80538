//! Which host ids the ids inside stand for.
//!
//! Root: `0` inside is [`ROOT_VIEW`] on the host, an id that owns nothing else, the same for every
//! sandbox, so that one id-mapped view of host files serves all; the guest has a host id of its own
//! in each sandbox. Ordinary user: the spawner has a user namespace in which `0` is the user and,
//! with subordinate ids, `1` is the first of those; sandboxes nest in it.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;

use crate::capabilities::IdMode;
use crate::spec::User;
use crate::sys::{self, Cloned};

/// Host id that root-owned files are seen through; above the ranges that distributions, systemd and
/// container engines hand out (up to 0x6FFF_FFFF).
pub(crate) const ROOT_VIEW: u32 = 0x7000_0000;
const FIRST_GUEST: u32 = 0x7001_0000;
const GUESTS: u32 = 0x0FF0_0000;

/// The plan of this spawner.
#[derive(Debug, Clone)]
pub(crate) struct Ids {
    pub(crate) mode: IdMode,
    pub(crate) user: User,
    /// Next guest id, [`IdMode::Own`] only.
    next: u32,
}

impl Ids {
    pub(crate) fn new(mode: IdMode, user: User, owner: &str) -> Ids {
        // Owners start at different places, so that two servers rarely share a guest id.
        let hash =
            owner.bytes().fold(0x811c_9dc5u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
        Ids { mode, user, next: hash % GUESTS }
    }

    /// The host's id of the next sandbox's guest; its own only as root.
    pub(crate) fn next_guest(&self) -> u32 {
        FIRST_GUEST + self.next
    }

    /// The maps of one more sandbox: of user ids and of group ids.
    pub(crate) fn maps(&mut self) -> (String, String) {
        let (uid, gid) = (self.user.uid, self.user.gid);
        match self.mode {
            IdMode::Own => {
                let guest = self.next_guest();
                self.next = (self.next + 1) % GUESTS;
                (
                    format!("0 {ROOT_VIEW} 1\n{uid} {guest} 1\n"),
                    format!("0 {ROOT_VIEW} 1\n{gid} {guest} 1\n"),
                )
            }
            IdMode::Two => (format!("0 0 1\n{uid} 1 1\n"), format!("0 0 1\n{gid} 1 1\n")),
            IdMode::One => (format!("{uid} 0 1\n"), format!("{gid} 0 1\n")),
        }
    }

    /// The map through which files of the host's root are seen as root's inside, where ids allow.
    pub(crate) fn file_map(&self) -> Option<String> {
        (self.mode == IdMode::Own).then(|| format!("0 {ROOT_VIEW} 1\n"))
    }

    /// Who owns, on the host, what is seen as root's inside.
    pub(crate) fn root_owner(&self) -> u32 {
        if self.mode == IdMode::Own { ROOT_VIEW } else { 0 }
    }
}

/// Makes a user namespace with these maps and returns it.
pub(crate) fn make_namespace(proc: BorrowedFd<'_>, uids: &str, gids: &str) -> io::Result<OwnedFd> {
    // It lives only until the namespace is held by a descriptor.
    sys::in_user_namespace(|pid| write_maps(proc, pid, uids, gids))?
}

fn write_maps(proc: BorrowedFd<'_>, pid: Pid, uids: &str, gids: &str) -> io::Result<OwnedFd> {
    let pid = pid.as_raw_nonzero().get();
    write_at(proc, &format!("{pid}/uid_map"), uids)?;
    write_at(proc, &format!("{pid}/gid_map"), gids)?;
    Ok(rustix::fs::openat(
        proc,
        format!("{pid}/ns/user"),
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?)
}

pub(crate) fn write_at(dir: BorrowedFd<'_>, path: &str, text: &str) -> io::Result<()> {
    let file = rustix::fs::openat(dir, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    fs::File::from(file).write_all(text.as_bytes())
}

/// Whether this process is the real root: all ids are there, not those of a container's.
pub(crate) fn is_real_root() -> bool {
    rustix::process::geteuid().is_root()
        && fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| {
            let mut parts = map.split_whitespace();
            parts.next() == Some("0")
                && parts.next() == Some("0")
                && parts.next().and_then(|n| n.parse().ok()).is_some_and(|n: u32| n > 0x8000_0000)
        })
}

/// A user namespace for the spawner of somebody who is not the real root: this process enters it.
/// Returns whether there are two ids, and otherwise what stands in the way.
pub(crate) fn enter_own_namespace() -> io::Result<(IdMode, String)> {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    let me = std::process::id();
    let (ready_read, ready_write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let (done_read, done_write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    // The helper stays outside: only there does it have, or may it ask a set-uid program for, the
    // right to map more than one id.
    let helper = match sys::clone_process(0, None)? {
        Cloned::Child => {
            drop(ready_write);
            let _ = rustix::io::read(&ready_read, &mut [0u8; 1]);
            let reason = map_two(me, uid, gid).err().unwrap_or_default();
            let _ = fs::File::from(done_write).write_all(reason.as_bytes());
            sys::exit(0)
        }
        Cloned::Parent { pid, .. } => pid,
    };
    drop(done_write);
    sys::unshare(libc::CLONE_NEWUSER)?;
    drop(ready_write);
    let mut reason = String::new();
    fs::File::from(done_read).read_to_string(&mut reason)?;
    let _ = rustix::process::waitpid(Some(helper), rustix::process::WaitOptions::empty());
    let proc = rustix::fs::open("/proc/self", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    if reason.is_empty() {
        take_root()?;
        return Ok((IdMode::Two, reason));
    }
    write_at(proc.as_fd(), "setgroups", "deny")?;
    write_at(proc.as_fd(), "uid_map", &format!("0 {uid} 1\n"))?;
    write_at(proc.as_fd(), "gid_map", &format!("0 {gid} 1\n"))?;
    take_root()?;
    Ok((IdMode::One, reason))
}

fn take_root() -> io::Result<()> {
    let (uid, gid) = (rustix::fs::Uid::ROOT, rustix::fs::Gid::ROOT);
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

/// Maps 0 to the user and 1 to its first subordinate id, by the set-uid helpers of `uidmap`, or
/// directly where this process has the right (root of a container).
fn map_two(pid: u32, uid: u32, gid: u32) -> Result<(), String> {
    if uid == 0 {
        let spare = spare_id("/proc/self/uid_map").ok_or("this container has one user id")?;
        let spare_group =
            spare_id("/proc/self/gid_map").ok_or("this container has one group id")?;
        let write = |file: &str, text: String| {
            fs::write(format!("/proc/{pid}/{file}"), text).map_err(|e| format!("{file}: {e}"))
        };
        write("uid_map", format!("0 0 1\n1 {spare} 1\n"))?;
        return write("gid_map", format!("0 {gid} 1\n1 {spare_group} 1\n"));
    }
    let name = user_name(uid);
    let sub_uid = subordinate("/etc/subuid", uid, name.as_deref())
        .ok_or("/etc/subuid has no range for this user")?;
    let sub_gid = subordinate("/etc/subgid", uid, name.as_deref())
        .ok_or("/etc/subgid has no range for this user")?;
    for (program, own, sub) in [("newuidmap", uid, sub_uid), ("newgidmap", gid, sub_gid)] {
        let args = [pid, 0, own, 1, 1, sub, 1].map(|n| n.to_string());
        // The spawner's environment is cleared: PATH is named here.
        let output = std::process::Command::new(program)
            .args(args)
            .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
            .stdin(std::process::Stdio::null())
            .output()
            .map_err(|e| format!("cannot execute {program}: {e}"))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{program} refused: {}", text.trim()));
        }
    }
    Ok(())
}

/// An id of this user namespace other than 0.
fn spare_id(map: &str) -> Option<u32> {
    let text = fs::read_to_string(map).ok()?;
    let ranges = text.lines().filter_map(|line| {
        let mut parts = line.split_whitespace().map(|p| p.parse::<u64>().ok());
        let (first, _, count) = (parts.next()??, parts.next()??, parts.next()??);
        Some(first + count - 1)
    });
    ranges.filter(|&last| last > 0).max().and_then(|last| u32::try_from(last).ok())
}

fn user_name(uid: u32) -> Option<String> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let mut parts = line.split(':');
        let name = parts.next()?;
        (parts.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// First id of the user's first range in a file of lines `name-or-uid:first:count`.
fn subordinate(file: &str, uid: u32, name: Option<&str>) -> Option<u32> {
    parse_subordinate(&fs::read_to_string(file).ok()?, uid, name)
}

fn parse_subordinate(text: &str, uid: u32, name: Option<&str>) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut parts = line.split(':');
        let who = parts.next()?;
        let first = parts.next()?.parse().ok()?;
        let count: u32 = parts.next()?.trim().parse().ok()?;
        let mine = Some(who) == name || who.parse() == Ok(uid);
        (mine && count > 0).then_some(first)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sandbox_of_root_has_a_guest_id_of_its_own() {
        let mut ids = Ids::new(IdMode::Own, User::default(), "a");
        let (first, second) = (ids.maps(), ids.maps());
        assert_ne!(first, second);
        assert!(first.0.starts_with("0 1879048192 1\n993 "), "{}", first.0);
        assert!(first.1.starts_with("0 1879048192 1\n990 "), "{}", first.1);
    }

    #[test]
    fn guest_ids_start_again_at_the_end() {
        let mut ids = Ids::new(IdMode::Own, User::default(), "a");
        ids.next = GUESTS - 1;
        assert!(ids.maps().0.contains(&format!(" {} 1\n", FIRST_GUEST + GUESTS - 1)));
        assert!(ids.maps().0.contains(&format!(" {FIRST_GUEST} 1\n")));
    }

    #[test]
    fn subordinate_ranges() {
        let text = "other:1:2\n\nbroken\nme:100000:65536\n1001:7:0\n1001:9:1\n";
        assert_eq!(parse_subordinate(text, 5, Some("me")), Some(100_000));
        assert_eq!(parse_subordinate(text, 1001, None), Some(9));
        assert_eq!(parse_subordinate(text, 5, Some("nobody")), None);
    }
}
