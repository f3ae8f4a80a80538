//! From a fork of pid 1 to the guest's program: limits, user, filter, execution.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, Uid};
use rustix::process::{Pid, Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::Kit;
use super::setup::Inside;
use crate::capabilities::IdMode;
use crate::cgroup::Use;
use crate::spec::{Command, Event, ProcessId, Victim};
use crate::step::Step;
use crate::sys::{self, Cloned};
use crate::wire::{self, FromSpawner};

const OPEN_FILES: u64 = 1024;
const MEMORY_LOCK_BYTES: u64 = 64 << 10;

/// A message of a fork that did not come to execute its program: step and error number; the error
/// number 0 stands for a fault point.
const REPORT_BYTES: usize = 8;

/// Starts it; `Err` is the event to report.
pub(super) fn start(
    kit: &Kit<'_>,
    inside: &Inside,
    process: ProcessId,
    command: &Command,
    stdio: [&OwnedFd; 3],
) -> Result<Pid, Event> {
    let failed = |program: Option<&String>, step, errno| Event::SpawnFailed {
        process,
        program: program.cloned(),
        step,
        errno,
    };
    let errno = |e: &io::Error| e.raw_os_error().unwrap_or(libc::EINVAL);
    let cwd = if command.cwd.is_empty() { "/" } else { &command.cwd };
    let Some((program, path)) = find(&command.programs, Path::new(cwd)) else {
        return Err(failed(None, Step::GuestExec, libc::ENOENT));
    };
    let image = Image::new(&path, command)
        .map_err(|_| failed(Some(program), Step::GuestExec, libc::EINVAL))?;
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|e| failed(Some(program), Step::GuestExec, e.raw_os_error()))?;
    let into = kit.group.clone_into.as_ref().map(AsFd::as_fd);
    match sys::clone_process(0, into) {
        Ok(Cloned::Child) => {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                become_guest(kit, inside, &image, cwd, stdio, &write)
            }));
            let (step, error) = match outcome {
                Ok(Err(failed)) => failed,
                Ok(Ok(never)) => match never {},
                Err(_) => (Step::GuestExec, io::Error::from_raw_os_error(libc::EIO)),
            };
            report(&write, step, errno(&error));
            sys::exit(127)
        }
        Ok(Cloned::Parent { pid, .. }) => {
            drop(write);
            let mut bytes = [0u8; REPORT_BYTES];
            match read_report(&read, &mut bytes) {
                // Closed by the execution.
                None => Ok(pid),
                Some((step, 0)) => {
                    fault(kit);
                    let _ =
                        rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
                    Err(failed(Some(program), step, libc::EINTR))
                }
                Some((step, errno)) => {
                    let _ =
                        rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
                    Err(failed(Some(program), step, errno))
                }
            }
        }
        Err(e) => Err(failed(Some(program), Step::GuestCgroup, errno(&e))),
    }
}

/// The first candidate that is a regular file, links followed.
fn find<'a>(programs: &'a [String], cwd: &Path) -> Option<(&'a String, PathBuf)> {
    programs.iter().find_map(|program| {
        let path = cwd.join(program);
        path.metadata().is_ok_and(|m| m.is_file()).then_some((program, path))
    })
}

/// What `execve` takes.
struct Image {
    program: CString,
    args: Vec<CString>,
    env: Vec<CString>,
}

impl Image {
    fn new(path: &Path, command: &Command) -> Result<Image, std::ffi::NulError> {
        use std::os::unix::ffi::OsStrExt;
        let program = CString::new(path.as_os_str().as_bytes())?;
        let mut args = vec![program.clone()];
        for arg in &command.args {
            args.push(CString::new(arg.as_str())?);
        }
        let env = command.env.iter().map(|(k, v)| CString::new(format!("{k}={v}")));
        Ok(Image { program, args, env: env.collect::<Result<_, _>>()? })
    }
}

enum Never {}

type Failed = (Step, io::Error);

fn become_guest(
    kit: &Kit<'_>,
    inside: &Inside,
    image: &Image,
    cwd: &str,
    stdio: [&OwnedFd; 3],
    report_to: &OwnedFd,
) -> Result<Never, Failed> {
    let step = |step: Step, action: &dyn Fn() -> io::Result<()>| {
        if kit.fault.is_some_and(|fault| fault.step == step) {
            report(report_to, step, 0);
            sys::exit(127);
        }
        action().map_err(|e| (step, e))
    };
    step(Step::GuestCgroup, &|| {
        rustix::process::setsid()?;
        for (tasks, used) in &kit.group.enter {
            // Without a weight or quota of its own it shares with everybody else.
            let cpu = kit.spec.cpu_weight > 0 || kit.spec.cpu_quota_us > 0;
            if cpu || !matches!(used, Use::Cpu { .. }) {
                rustix::io::write(tasks, b"0")?;
            }
        }
        // Seen from its own group as the root, a guest does not learn how the host names things.
        sys::unshare(libc::CLONE_NEWCGROUP)
    })?;
    step(Step::GuestLimits, &|| limits(kit))?;
    step(Step::GuestCredentials, &|| credentials(kit))?;
    step(Step::GuestLandlock, &|| match &inside.rules {
        None => Ok(()),
        Some(rules) => {
            rustix::thread::set_no_new_privs(true)?;
            sys::landlock_restrict(rules.as_fd())
        }
    })?;
    step(Step::GuestSeccomp, &|| {
        for (number, fd) in (0..).zip(stdio) {
            sys::duplicate_to(fd.as_fd(), number)?;
        }
        if rustix::termios::isatty(stdio[0]) {
            // This process leads a session without a terminal, and the terminal has none.
            rustix::process::ioctl_tiocsctty(stdio[0])?;
        }
        sys::close_all_but(&[0, 1, 2, report_to.as_raw_fd()])?;
        sys::unblock_signals();
        kit.filter.load()
    })?;
    step(Step::GuestExec, &|| {
        rustix::process::chdir(cwd)?;
        Err(sys::execve(&image.program, &image.args, &image.env))
    })?;
    Err((Step::GuestExec, io::Error::from_raw_os_error(libc::EIO)))
}

fn limits(kit: &Kit<'_>) -> io::Result<()> {
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let open_files = if kit.spec.open_files == 0 { OPEN_FILES } else { kit.spec.open_files };
    lower(Resource::Nofile, open_files)?;
    lower(Resource::Core, 0)?;
    lower(Resource::Memlock, MEMORY_LOCK_BYTES)?;
    if kit.spec.processes > 0 {
        lower(Resource::Nproc, kit.spec.processes)?;
    }
    Ok(())
}

/// Sets both limits, but never above what this process has.
fn lower(resource: Resource, value: u64) -> io::Result<()> {
    let hard = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let value = Some(value.min(hard));
    Ok(rustix::process::setrlimit(resource, Rlimit { current: value, maximum: value })?)
}

fn credentials(kit: &Kit<'_>) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(kit.user.uid), Gid::from_raw(kit.user.gid));
    if kit.mode != IdMode::One {
        rustix::thread::set_thread_groups(&[gid])?;
    }
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    rustix::thread::clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets)?;
    Ok(())
}

fn report(to: &OwnedFd, step: Step, errno: i32) {
    let mut bytes = [0u8; REPORT_BYTES];
    bytes[..4].copy_from_slice(&(step as u32).to_ne_bytes());
    bytes[4..].copy_from_slice(&errno.to_ne_bytes());
    let _ = rustix::io::write(to, &bytes);
}

fn read_report(from: &OwnedFd, bytes: &mut [u8; REPORT_BYTES]) -> Option<(Step, i32)> {
    loop {
        match rustix::io::read(from, &mut bytes[..]) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(REPORT_BYTES) => break,
            // Nothing, or a fork that died on the way: its exit tells.
            _ => return None,
        }
    }
    let [a, b, c, d, e, f, g, h] = *bytes;
    let step = u32::from_ne_bytes([a, b, c, d]) as usize;
    Some((*Step::ALL.get(step)?, i32::from_ne_bytes([e, f, g, h])))
}

/// A fault point of a guest step, reached in its fork: the victim is killed from here.
fn fault(kit: &Kit<'_>) {
    match kit.fault.map(|fault| fault.victim) {
        Some(Victim::Init) => sys::exit(137),
        Some(victim) => {
            let event = FromSpawner::Fault(victim);
            let _ = wire::send(kit.reply.as_fd(), &event, &[], true);
        }
        None => {}
    }
}
