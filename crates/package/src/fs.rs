//! Files below one folder, created and opened so that no link is ever followed and nothing
//! outside is ever reached, whatever the names are: every path goes through `openat2` with
//! RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS.

use crate::name::{last, parent};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const INSIDE: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS);

/// A folder and what lies in it; paths are relative, joined by `/`, the empty one is the
/// folder itself.
pub(crate) struct Folder {
    root: OwnedFd,
    /// The folder opened last: neighbours come one after the other.
    recent: Option<(Vec<u8>, OwnedFd)>,
}

/// A name in a folder.
pub(crate) struct Listed {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: FileType,
}

impl Folder {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())?;
        Ok(Self { root, recent: None })
    }

    pub(crate) fn directory(&mut self, path: &[u8]) -> io::Result<&OwnedFd> {
        if self.recent.as_ref().is_none_or(|(recent, _)| recent != path) {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            self.recent = Some((path.to_vec(), self.opened(path, flags)?));
        }
        Ok(&self.recent.as_ref().ok_or(io::ErrorKind::NotFound)?.1)
    }

    fn opened(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        Ok(rustix::fs::openat2(&self.root, OsStr::from_bytes(path), flags, Mode::empty(), INSIDE)?)
    }

    /// An existing file, for reading.
    pub(crate) fn file(&self, path: &[u8]) -> io::Result<File> {
        Ok(self.opened(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC)?.into())
    }

    /// A new folder, 0755 whatever the umask.
    pub(crate) fn make_directory(&mut self, path: &[u8]) -> io::Result<()> {
        let mode = Mode::from_raw_mode(0o755);
        rustix::fs::mkdirat(self.directory(parent(path))?, OsStr::from_bytes(last(path)), mode)?;
        Ok(rustix::fs::fchmod(self.directory(path)?, mode)?)
    }

    /// A new file for writing, 0644 or 0755 whatever the umask.
    pub(crate) fn make_file(&mut self, path: &[u8], executable: bool) -> io::Result<File> {
        let mode = Mode::from_raw_mode(if executable { 0o755 } else { 0o644 });
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let name = OsStr::from_bytes(last(path));
        let file = rustix::fs::openat2(self.directory(parent(path))?, name, flags, mode, INSIDE)?;
        rustix::fs::fchmod(&file, mode)?;
        Ok(file.into())
    }

    pub(crate) fn make_link(&mut self, path: &[u8], target: &[u8]) -> io::Result<()> {
        let name = OsStr::from_bytes(last(path));
        let folder = self.directory(parent(path))?;
        Ok(rustix::fs::symlinkat(OsStr::from_bytes(target), folder, name)?)
    }

    /// Gives a file of another folder a second name at the same path here.
    pub(crate) fn hard_link(&mut self, from: &mut Folder, path: &[u8]) -> io::Result<()> {
        let name = OsStr::from_bytes(last(path));
        let (old, new) = (from.directory(parent(path))?, self.directory(parent(path))?);
        Ok(rustix::fs::linkat(old, name, new, name, AtFlags::empty())?)
    }

    pub(crate) fn link_target(&mut self, path: &[u8]) -> io::Result<Vec<u8>> {
        let name = OsStr::from_bytes(last(path));
        let target = rustix::fs::readlinkat(self.directory(parent(path))?, name, Vec::new())?;
        Ok(target.into_bytes())
    }

    pub(crate) fn mode(&mut self, path: &[u8]) -> io::Result<u32> {
        let name = OsStr::from_bytes(last(path));
        let folder = self.directory(parent(path))?;
        Ok(rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode)
    }

    /// What is in a folder, sorted by name.
    pub(crate) fn list(&mut self, path: &[u8]) -> io::Result<Vec<Listed>> {
        let folder = self.directory(path)?;
        let mut listed = Vec::new();
        for entry in rustix::fs::Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes().to_vec();
            if name == b"." || name == b".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => {
                    let flags = AtFlags::SYMLINK_NOFOLLOW;
                    let stat = rustix::fs::statat(folder, OsStr::from_bytes(&name), flags)?;
                    FileType::from_raw_mode(stat.st_mode)
                }
                kind => kind,
            };
            listed.push(Listed { name, kind });
        }
        listed.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(listed)
    }

    pub(crate) fn sync_directory(&self, path: &[u8]) -> io::Result<()> {
        let folder = self.opened(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC)?;
        Ok(rustix::fs::fsync(folder)?)
    }

    /// Writes back the whole file system that this folder is on.
    pub(crate) fn sync_file_system(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(&self.root)?)
    }
}

pub(crate) fn set_modified(file: impl AsFd, seconds: i64) -> io::Result<()> {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    Ok(rustix::fs::futimens(file, &times)?)
}

pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
