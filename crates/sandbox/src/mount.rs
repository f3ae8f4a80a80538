//! Views of directories and files: mounts that are attached nowhere yet.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags};

use crate::sys;

const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;

/// The mount tree at `path`, unchanged. Links in the last part are followed.
pub(crate) fn tree(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    Ok(rustix::mount::open_tree(CWD, path, flags)?)
}

/// A read-only view of the tree at `path`, with what is mounted in it; root's files are seen as
/// root's inside when `id_map` is given and every file system in it can do that (second value).
///
/// Attributes are only added, so that those locked by another user namespace stay.
pub(crate) fn view(path: &Path, id_map: Option<BorrowedFd<'_>>) -> io::Result<(OwnedFd, bool)> {
    let fd = tree(path)?;
    if id_map.is_some()
        && sys::mount_setattr(fd.as_fd(), true, READ_ONLY, libc::MS_PRIVATE, id_map).is_ok()
    {
        return Ok((fd, true));
    }
    sys::mount_setattr(fd.as_fd(), true, READ_ONLY, libc::MS_PRIVATE, None)?;
    Ok((fd, false))
}

/// Attaches a view; a link in the last part of `target` is covered, not followed.
pub(crate) fn attach(fd: impl AsFd, target: &Path) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(rustix::mount::move_mount(fd, c"", CWD, target, flags)?)
}
