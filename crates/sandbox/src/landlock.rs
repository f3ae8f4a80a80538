//! The second wall around files: what the mounts forbid, Landlock forbids again, by another part of
//! the kernel. Should a mount be writable by mistake, nothing but these places is; and a process
//! that Landlock holds can neither change mounts nor trace one that it does not hold.
//!
//! Pid 1 makes the rules when its mounts are in place; every guest is held by them before it is
//! executed. The network and signals are left to the namespaces.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use crate::sys;

/// Rights over files, bits of `<linux/landlock.h>`.
const EXECUTE: u64 = 1 << 0;
const WRITE_FILE: u64 = 1 << 1;
const READ_FILE: u64 = 1 << 2;
const READ_DIR: u64 = 1 << 3;
const REMOVE_DIR: u64 = 1 << 4;
const REMOVE_FILE: u64 = 1 << 5;
const MAKE_CHAR: u64 = 1 << 6;
const MAKE_DIR: u64 = 1 << 7;
const MAKE_REG: u64 = 1 << 8;
const MAKE_SOCK: u64 = 1 << 9;
const MAKE_FIFO: u64 = 1 << 10;
const MAKE_BLOCK: u64 = 1 << 11;
const MAKE_SYM: u64 = 1 << 12;
/// Renaming and linking from one folder to another; before it was known all of that was forbidden,
/// which programs could not live with.
const REFER: u64 = 1 << 13;
const TRUNCATE: u64 = 1 << 14;

/// The oldest version of the interface that is of use: the one with [`REFER`], of Linux 5.19.
const OLDEST: u32 = 2;

/// Where what is allowed, and why.
const RULES: &[(&str, u64, &str)] = &[
    ("/", EXECUTE | READ_FILE | READ_DIR, "programs, libraries and code are read and executed"),
    (
        "/tmp",
        WRITE_FILE
            | TRUNCATE
            | REMOVE_DIR
            | REMOVE_FILE
            | MAKE_DIR
            | MAKE_REG
            | MAKE_SOCK
            | MAKE_FIFO
            | MAKE_SYM
            | REFER,
        "the one folder of the guest's own: everything but device nodes, which no function needs",
    ),
    ("/dev", WRITE_FILE | TRUNCATE, "/dev/null and its like are written to"),
    ("/proc", WRITE_FILE | TRUNCATE, "settings of the guest's own processes, such as their names"),
];

/// Everything that is forbidden where no rule allows it, in this version of the interface.
fn handled(version: u32) -> u64 {
    let all = RULES.iter().fold(MAKE_CHAR | MAKE_BLOCK, |all, (_, rights, _)| all | rights);
    if version < 3 { all & !TRUNCATE } else { all }
}

/// The version of the kernel's interface; `Err`: none that is of use, and why.
pub(crate) fn version() -> Result<u32, String> {
    match sys::landlock_version() {
        Ok(version) if version >= OLDEST => Ok(version),
        Ok(_) => Err("it is older than Linux 5.19's".to_owned()),
        Err(e) if e.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            Err("it was switched off when the machine was booted".to_owned())
        }
        Err(e) => Err(e.to_string()),
    }
}

/// The rules over this process's own view of files.
pub(crate) fn rules(version: u32) -> io::Result<OwnedFd> {
    rules_below("", version)
}

fn rules_below(root: &str, version: u32) -> io::Result<OwnedFd> {
    let handled = handled(version);
    let rules = sys::landlock_ruleset(handled)?;
    for (path, rights, _) in RULES {
        let path = format!("{root}{path}");
        let place = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        sys::landlock_allow(rules.as_fd(), place.as_fd(), rights & handled)?;
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::path::Path;

    #[test]
    fn every_rule_has_a_reason_and_rights() {
        for (path, rights, why) in RULES {
            assert!(path.starts_with('/') && *rights != 0 && why.len() > 10, "{path}");
        }
        assert_eq!(handled(3) & !handled(2), TRUNCATE);
    }

    /// What a guest would try if no other wall stood: each on its own, as what it did or `-`.
    fn attack(root: &Path) -> String {
        let at = |name: &str| root.join(name);
        let did = |name: &str, result: io::Result<()>| match result {
            Ok(()) => format!("{name} "),
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => "- ".to_owned(),
            Err(e) => format!("{name}: {e} "),
        };
        let node = |path: &Path, kind| {
            // A whiteout: the one device node that every user may make.
            let mode = Mode::from_raw_mode(0o600);
            Ok(rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0)?)
        };
        [
            did("read", fs::read(at("etc/file")).map(drop)),
            did("write", fs::write(at("etc/file"), "x")),
            did("make", fs::write(at("etc/new"), "x")),
            did("remove", fs::remove_file(at("etc/old"))),
            did("write in tmp", fs::write(at("tmp/file"), "x")),
            did("rename in tmp", fs::rename(at("tmp/a/file"), at("tmp/b/file"))),
            did("rename out of tmp", fs::rename(at("tmp/file"), at("etc/out"))),
            did("node in tmp", node(&at("tmp/node"), rustix::fs::FileType::CharacterDevice)),
            did("write to a device", fs::write(at("dev/null"), "x")),
        ]
        .concat()
    }

    /// The rules alone, on a tree that its owner may change at will.
    #[test]
    fn the_rules_hold_without_any_other_wall() {
        let Ok(version) = version() else {
            // Said by the probe too; then there is nothing that could hold.
            return;
        };
        let tree = || {
            let temp = tempfile::tempdir().unwrap();
            for folder in ["etc", "tmp/a", "tmp/b", "dev", "proc"] {
                fs::create_dir_all(temp.path().join(folder)).unwrap();
            }
            for file in ["etc/file", "etc/old", "tmp/a/file", "dev/null"] {
                fs::write(temp.path().join(file), "").unwrap();
            }
            temp
        };
        let (open, held) = (tree(), tree());
        // Rules hold for a thread and what it starts.
        let root = held.path().to_owned();
        let thread = std::thread::spawn(move || {
            let rules = rules_below(root.to_str().unwrap(), version).unwrap();
            rustix::thread::set_no_new_privs(true).unwrap();
            sys::landlock_restrict(rules.as_fd()).unwrap();
            attack(&root)
        });
        assert_eq!(
            thread.join().unwrap(),
            "read - - - write in tmp rename in tmp - - write to a device "
        );
        // Control: without the rules everything is done.
        assert_eq!(
            attack(open.path()),
            "read write make remove write in tmp rename in tmp rename out of tmp node in tmp \
             write to a device "
        );
    }
}
