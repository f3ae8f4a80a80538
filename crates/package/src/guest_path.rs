//! Finds what a path means inside an execution environment, from outside: `/var/task`, `/opt`
//! and the root lie in different folders here, and absolute links lead from one to another.

use crate::diagnose::{LIBRARY_PATH, PATH};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// As many links as the kernel follows.
const LINKS: u32 = 40;

/// What a guest path is.
pub(crate) enum Guest {
    /// It leads into a part of the file system that is not known.
    Unknown,
    Missing,
    Directory,
    File {
        file: Option<File>,
        mode: u32,
    },
    /// A device, socket or fifo.
    Special,
}

/// The folders that make up the guest's file system.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// Seen as `/var/task`.
    pub task: &'a Path,
    /// Seen as `/opt`; `None` when there is no layer, or when nothing but the code is known.
    pub opt: Option<&'a Path>,
    /// Seen as `/`; `None` when it is not known, and then nothing is said about interpreters
    /// and loaders in it.
    pub root: Option<&'a Path>,
    /// The guest's `PATH`.
    pub path: &'a str,
    /// The guest's `LD_LIBRARY_PATH`.
    pub library_path: &'a str,
}

impl<'a> View<'a> {
    /// Nothing but the code is known.
    #[must_use]
    pub fn new(task: &'a Path) -> Self {
        Self { task, opt: None, root: None, path: PATH, library_path: LIBRARY_PATH }
    }
}

impl View<'_> {
    /// Follows a path as the guest's kernel would, links included.
    pub(crate) fn resolve(&self, path: &[u8]) -> Guest {
        let mut pending: VecDeque<Vec<u8>> = components(path);
        let mut at: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        let mut found = Guest::Directory;
        while let Some(component) = pending.pop_front() {
            match found {
                Guest::Directory => {}
                Guest::Unknown => return found,
                _ => return Guest::Missing,
            }
            if component == b".." {
                at.pop();
                continue;
            }
            at.push(component);
            match self.look(&at) {
                Look::Link(target) => {
                    links += 1;
                    if links > LINKS {
                        return Guest::Missing;
                    }
                    if target.starts_with(b"/") {
                        at.clear();
                    } else {
                        at.pop();
                    }
                    for component in components(&target).into_iter().rev() {
                        pending.push_front(component);
                    }
                }
                Look::Found(guest) => found = guest,
            }
        }
        found
    }

    fn look(&self, at: &[Vec<u8>]) -> Look {
        let is = |index: usize, name: &[u8]| at.get(index).is_some_and(|part| part == name);
        let (base, rest) = if is(0, b"var") && is(1, b"task") {
            (Some(self.task), &at[2..])
        } else if is(0, b"opt") {
            match self.opt {
                Some(opt) => (Some(opt), &at[1..]),
                None if at.len() == 1 => return Look::Found(Guest::Directory),
                None if self.root.is_none() => return Look::Found(Guest::Unknown),
                None => return Look::Found(Guest::Missing),
            }
        } else if is(0, b"var") && at.len() == 1 {
            return Look::Found(Guest::Directory);
        } else {
            (self.root, at)
        };
        let Some(base) = base else { return Look::Found(Guest::Unknown) };
        if rest.is_empty() {
            return Look::Found(Guest::Directory);
        }
        look_in(base, &rest.join(&b'/')).unwrap_or(Look::Found(Guest::Missing))
    }
}

enum Look {
    Found(Guest),
    Link(Vec<u8>),
}

fn look_in(base: &Path, path: &[u8]) -> rustix::io::Result<Look> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let base = rustix::fs::openat(CWD, base, flags, Mode::empty())?;
    let open = |flags: OFlags| -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        rustix::fs::openat2(&base, OsStr::from_bytes(path), flags, Mode::empty(), inside)
    };
    let place = open(OFlags::PATH)?;
    let mode = rustix::fs::fstat(&place)?.st_mode;
    Ok(match FileType::from_raw_mode(mode) {
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(&place, "", Vec::new())?;
            Look::Link(target.into_bytes())
        }
        FileType::Directory => Look::Found(Guest::Directory),
        FileType::RegularFile => {
            let file = open(OFlags::RDONLY | OFlags::NONBLOCK).ok().map(File::from);
            Look::Found(Guest::File { file, mode })
        }
        _ => Look::Found(Guest::Special),
    })
}

fn components(path: &[u8]) -> VecDeque<Vec<u8>> {
    path.split(|byte| *byte == b'/')
        .filter(|part| !part.is_empty() && *part != b".")
        .map(<[u8]>::to_vec)
        .collect()
}
