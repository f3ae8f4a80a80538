//! The program that is executed as the spawner.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::{MemfdFlags, SealFlags};

use crate::capabilities::Note;
use crate::spawner;
use crate::step::Step;

/// What is executed as the spawner.
#[derive(Debug, Clone, Default)]
pub enum Program {
    /// The running program itself. It must call [`crate::dispatch`] first.
    #[default]
    Itself,
    /// Another program that does.
    File(PathBuf),
    /// The bytes of one, from this crate's `lambfold-spawner`. Where memory cannot be executed, it
    /// is the running program after all, which a note among the capabilities says.
    Bytes(&'static [u8]),
}

/// Something to execute.
pub(super) struct Executable {
    pub(super) path: PathBuf,
    /// What the path leads to, where that is memory.
    memory: Option<OwnedFd>,
    /// It was to be memory.
    was_memory: bool,
}

/// The very file that runs, even when an update has replaced it under its name.
const ITSELF: &str = "/proc/self/exe";

impl Program {
    pub(super) fn executable(&self) -> Executable {
        let memory = match self {
            Program::Bytes(bytes) => in_memory(bytes).ok(),
            _ => None,
        };
        let path = match (self, &memory) {
            (Program::File(path), _) => path.clone(),
            (_, Some(memory)) => format!("/proc/self/fd/{}", memory.as_raw_fd()).into(),
            (_, None) => ITSELF.into(),
        };
        Executable { path, memory, was_memory: matches!(self, Program::Bytes(_)) }
    }
}

impl Executable {
    /// Executes it with this as its number 0; with what is to be known of it.
    pub(super) fn spawn(&self, socket: OwnedFd) -> io::Result<(Child, Option<Note>)> {
        let spawn = |path: &Path, socket| {
            Command::new(path)
                .arg0(spawner::ROLE)
                .arg(spawner::SOURCES)
                .env_clear()
                .stdin(Stdio::from(socket))
                .stdout(Stdio::null())
                .stderr(Stdio::inherit())
                .spawn()
        };
        if self.memory.is_some()
            && let Ok(child) = spawn(&self.path, socket.try_clone()?)
        {
            return Ok((child, None));
        }
        let path = if self.memory.is_some() { Path::new(ITSELF) } else { &self.path };
        let lesser = self.was_memory.then(|| {
            let what = "the small program that makes sandboxes cannot be executed from memory, and \
                        this whole one does it: each takes longer and holds more";
            let remedy = "allow files in memory to be executed (vm.memfd_noexec=0, no rule of a \
                          security module against it)";
            Note::new(Step::Clone, what, remedy)
        });
        Ok((spawn(path, socket)?, lesser))
    }
}

/// A file without a name that nobody can change any more.
fn in_memory(bytes: &[u8]) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 have no word for what they always allow.
    let file = match rustix::fs::memfd_create(c"lambfold-spawner", flags | MemfdFlags::EXEC) {
        Err(rustix::io::Errno::INVAL) => rustix::fs::memfd_create(c"lambfold-spawner", flags),
        other => other,
    }?;
    let mut file = File::from(file);
    file.write_all(bytes)?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_in_memory_can_be_executed_and_not_be_changed() {
        let program = std::fs::read("/bin/true").unwrap();
        let memory = in_memory(&program).unwrap();
        assert!(rustix::io::pwrite(&memory, b"x", 0).is_err());
        assert!(rustix::fs::ftruncate(&memory, 0).is_err());
        let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
        assert!(Command::new(path).status().unwrap().success());
    }
}
