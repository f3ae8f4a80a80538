//! A memory limit that is lowered until the kernel has to kill.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, CWD};

use super::Sandbox;

/// Least change of a limit that is tried.
const PAGE: u64 = 4_096;

/// Takes the memory away from the guests of one sandbox, and gives it back.
///
/// On cgroup v2 the kernel kills at once. On v1 it refuses a limit below what cannot be reclaimed:
/// the limit is as low as it lets it be, and whoever needs one page more is killed.
#[derive(Debug)]
pub struct MemorySqueeze(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    limit: File,
    /// v1; v2 needs none.
    usage: Option<File>,
    before: String,
    restored: bool,
}

impl Sandbox {
    /// Prepares to take the guests' memory away; `None` where there is no limit for it.
    pub fn memory_squeeze(&self) -> Option<MemorySqueeze> {
        let file = self.oom.as_ref()?;
        // The limit is beside it. Carrying one more descriptor for each sandbox, for what hardly
        // ever happens, would cost more than this.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let path = std::fs::read_link(path).ok()?;
        let found = rustix::fs::statat(CWD, &path, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        let own = rustix::fs::fstat(file.as_fd()).ok()?;
        let is_it = (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino);
        MemorySqueeze::new(path.parent().filter(|_| is_it)?).ok()
    }
}

impl MemorySqueeze {
    /// Of the group in this folder.
    fn new(group: &Path) -> io::Result<Self> {
        let open = |name: &str| File::options().read(true).write(true).open(group.join(name));
        let (mut limit, usage) = match open("memory.max") {
            Ok(limit) => (limit, None),
            Err(_) => {
                let usage = File::open(group.join("memory.usage_in_bytes"))?;
                (open("memory.limit_in_bytes")?, Some(usage))
            }
        };
        let before = text(&mut limit)?;
        Ok(Self(Mutex::new(Inner { limit, usage, before, restored: false })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the memory away. Blocks for as long as the kernel looks for some to reclaim, and on v2
    /// kills: some milliseconds. Without effect after [`MemorySqueeze::restore`].
    ///
    /// # Errors
    /// The limit cannot be set at all.
    pub fn lower(&self) -> io::Result<()> {
        let mut lowest = {
            let mut inner = self.inner();
            if inner.restored {
                return Ok(());
            }
            let Some(usage) = &mut inner.usage else { return inner.set(0) };
            let used = text(usage)?.parse().map_err(io::Error::other)?;
            inner.set(used)?;
            used
        };
        let mut step = lowest / 4;
        while step >= PAGE {
            let mut inner = self.inner();
            if inner.restored {
                return Ok(());
            }
            match inner.set(lowest - step) {
                Ok(()) => lowest -= step,
                Err(_) => step /= 2,
            }
            step = step.min(lowest / 2);
        }
        Ok(())
    }

    /// Gives it back, for the guests to come.
    pub fn restore(&self) {
        let mut inner = self.inner();
        inner.restored = true;
        let before = inner.before.clone();
        // A group that is gone needs none.
        let _ = put(&mut inner.limit, &before);
    }
}

impl Inner {
    fn set(&mut self, bytes: u64) -> io::Result<()> {
        put(&mut self.limit, &bytes.to_string())
    }
}

fn put(file: &mut File, value: &str) -> io::Result<()> {
    file.rewind()?;
    file.write_all(value.as_bytes())
}

fn text(file: &mut File) -> io::Result<String> {
    let mut text = String::new();
    file.rewind()?;
    file.read_to_string(&mut text)?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// On a folder in place of a group: what is written, and that it is put back.
    #[test]
    fn limits_are_lowered_and_put_back() {
        let group = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(group.path().join(name), text).unwrap();
        let read = |name: &str| std::fs::read_to_string(group.path().join(name)).unwrap();
        assert!(MemorySqueeze::new(group.path()).is_err());
        write("memory.limit_in_bytes", "134217728\n");
        write("memory.usage_in_bytes", "999424\n");
        let squeeze = MemorySqueeze::new(group.path()).unwrap();
        squeeze.lower().unwrap();
        let lowered = read("memory.limit_in_bytes");
        // A file is no kernel: it takes whatever is written, and keeps what is longer.
        assert!(
            lowered.starts_with(|digit: char| digit.is_ascii_digit()) && lowered != "134217728\n"
        );
        squeeze.restore();
        assert!(read("memory.limit_in_bytes").starts_with("134217728"));
        write("memory.limit_in_bytes", "1");
        squeeze.lower().unwrap();
        assert_eq!(read("memory.limit_in_bytes"), "1");

        write("memory.max", "268435456");
        let squeeze = MemorySqueeze::new(group.path()).unwrap();
        squeeze.lower().unwrap();
        assert!(read("memory.max").starts_with('0'));
        squeeze.restore();
        assert_eq!(read("memory.max"), "268435456");
    }
}
