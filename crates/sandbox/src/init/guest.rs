//! From a fork of pid 1 to the guest's program: limits, user, filter, and when it is known which,
//! its execution.

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
use crate::spec::{Command, Event, ProcessId, Spec, Victim};
use crate::step::Step;
use crate::sys::{self, Cloned};
use crate::wire::{self, FromSpawner, Received, Receiver};

const OPEN_FILES: u64 = 1024;
const MEMORY_LOCK_BYTES: u64 = 64 << 10;

/// A message of a guest that did not come to execute its program: step, error number (0 stands for a
/// fault point), and the candidate that was tried, cut where the kernel knows no longer one.
const REPORT_MAX_BYTES: usize = 4096;

/// A guest without a program: a fork of pid 1 that has done every step but the execution, and waits
/// to be told what. The first one of a sandbox is made ahead, when nobody else runs there.
pub(super) struct Blank {
    pub(super) pid: Pid,
    /// Takes one [`Command`]; with a descriptor for its output where that is not the common pipe, or
    /// with three, which are its stdin, stdout and stderr.
    orders: OwnedFd,
    /// Closed by the execution, or has the reason why there is none.
    pub(super) report: OwnedFd,
}

/// How the start of a program ended.
pub(crate) enum Outcome {
    Executed(Pid),
    Failed(Failure),
    /// It died before it had its orders.
    Died,
}

/// Why a program was not executed.
#[derive(Debug)]
pub(crate) struct Failure {
    step: Step,
    errno: i32,
    program: Option<String>,
}

impl From<Failed> for Failure {
    fn from((step, error): Failed) -> Failure {
        Failure { step, errno: errno_of(&error), program: None }
    }
}

impl Failure {
    /// As the host is told; a fault point strikes here.
    pub(super) fn event(mut self, kit: &Kit<'_>, process: ProcessId) -> Event {
        if self.errno == 0 {
            fault(kit);
            self.errno = libc::EINTR;
        }
        self.told(process)
    }

    /// As the host is told.
    pub(crate) fn told(self, process: ProcessId) -> Event {
        let Failure { step, errno, program } = self;
        Event::SpawnFailed { process, program, step, errno }
    }
}

/// Starts a program in `blank`, or where there is none in a new one.
pub(super) fn start(
    kit: &Kit<'_>,
    inside: &Inside,
    mut blank: Option<Blank>,
    command: &Command,
    stdio: &[OwnedFd],
) -> Result<Pid, Failure> {
    loop {
        let ahead = blank.is_some();
        let made = match blank.take() {
            Some(blank) => blank,
            None => wire::pair()
                .map_err(|e| (Step::GuestExec, e))
                .and_then(|(orders, theirs)| make(kit, inside, orders, &theirs))
                .map_err(Failure::from)?,
        };
        match made.execute(command, stdio) {
            Outcome::Executed(pid) => return Ok(pid),
            Outcome::Failed(failure) => return Err(failure),
            // Whoever killed the one that was made ahead did not mean this program.
            Outcome::Died if ahead => {}
            Outcome::Died => {
                let (step, errno) = (Step::GuestExec, libc::ESRCH);
                return Err(Failure { step, errno, program: None });
            }
        }
    }
}

fn errno_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EINVAL)
}

/// Makes a guest without a program; `theirs` is where it is told which.
pub(super) fn make(
    kit: &Kit<'_>,
    inside: &Inside,
    orders: OwnedFd,
    theirs: &OwnedFd,
) -> Result<Blank, Failed> {
    let (report, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|e| (Step::GuestExec, e.into()))?;
    let into = kit.group.clone_into.as_ref().map(AsFd::as_fd);
    match sys::clone_process(0, into) {
        Ok(Cloned::Child) => {
            or_report(&write, |tried| become_guest(kit, inside, theirs, &write, tried))
        }
        Ok(Cloned::Parent { pid }) => Ok(Blank { pid, orders, report }),
        Err(e) => Err((Step::GuestCgroup, e)),
    }
}

/// Becomes a program, or says why not and ends; the candidate that is tried is left where `become_it`
/// is shown.
pub(crate) fn or_report(
    report: &OwnedFd,
    become_it: impl FnOnce(&Tried) -> Result<Never, Failed>,
) -> ! {
    let tried = Tried::default();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| become_it(&tried)));
    let (step, error) = match outcome {
        Ok(Err(failed)) => failed,
        Ok(Ok(never)) => match never {},
        Err(_) => (Step::GuestExec, io::Error::from_raw_os_error(libc::EIO)),
    };
    let (errno, program) = (errno_of(&error), tried.take());
    report_to(report, &Failure { step, errno, program });
    sys::exit(127)
}

impl Blank {
    fn execute(self, command: &Command, stdio: &[OwnedFd]) -> Outcome {
        let fds: Vec<_> = stdio.iter().map(AsFd::as_fd).collect();
        let told = wire::send(self.orders.as_fd(), command, &fds, true);
        let outcome = self.outcome();
        match (outcome, told) {
            (Outcome::Executed(pid), Err(_)) => {
                wait_for(pid);
                Outcome::Died
            }
            (outcome, _) => outcome,
        }
    }

    /// What became of it, once its report says something.
    pub(super) fn outcome(self) -> Outcome {
        let Blank { pid, orders, report } = self;
        // Should it have no orders, it must not wait for them.
        drop(orders);
        outcome(pid, &report)
    }
}

/// What became of a process that reports why it executes nothing.
pub(crate) fn outcome(pid: Pid, report: &OwnedFd) -> Outcome {
    match read_report(report) {
        // Closed by the execution, or by a death on the way: its exit tells.
        None => Outcome::Executed(pid),
        Some(failure) => {
            wait_for(pid);
            Outcome::Failed(failure)
        }
    }
}

fn wait_for(pid: Pid) {
    let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
}

/// The first candidate that is a regular file, links followed, or that the guest may not look at:
/// then its execution says so.
fn find<'a>(programs: &'a [String], cwd: &Path) -> Option<(&'a String, PathBuf)> {
    programs.iter().map(|program| (program, cwd.join(program))).find(|(_, path)| {
        match path.metadata() {
            Ok(metadata) => metadata.is_file(),
            Err(e) => e.kind() == io::ErrorKind::PermissionDenied,
        }
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

/// Does once, for nothing, what is done with orders: its memory is this process's own then, and
/// there, which would else take as long as the doing.
fn rehearse() {
    let orders = Command {
        programs: vec!["/rehearsal".to_owned()],
        env: vec![("REHEARSAL".to_owned(), "x".repeat(64)); 32],
        ..Command::default()
    };
    let read = serde_json::to_vec(&orders).and_then(|text| serde_json::from_slice(&text));
    let read: Command = read.unwrap_or(orders);
    let missing = find(&read.programs, Path::new("/")).is_none();
    let _ = Image::new(Path::new("/"), &read).map(|image| (image.env.len(), missing));
}

pub(crate) enum Never {}

pub(crate) type Failed = (Step, io::Error);

/// The candidate that is tried.
pub(crate) type Tried = std::cell::RefCell<Option<String>>;

fn become_guest(
    kit: &Kit<'_>,
    inside: &Inside,
    orders: &OwnedFd,
    report: &OwnedFd,
    tried: &Tried,
) -> Result<Never, Failed> {
    let step = |step: Step, action: &dyn Fn() -> io::Result<()>| {
        if kit.fault.is_some_and(|fault| fault.step == step) {
            report_to(report, &Failure { step, errno: 0, program: None });
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
        sys::duplicate_to(kit.null.as_fd(), 0)?;
        sys::duplicate_to(kit.output.as_fd(), 1)?;
        sys::duplicate_to(kit.output.as_fd(), 2)?;
        sys::close_all_but(&[0, 1, 2, report.as_raw_fd(), orders.as_raw_fd()])?;
        sys::unblock_signals();
        kit.filter.load()
    })?;
    // From here on it does what its filter lets every guest do.
    rehearse();
    let received = Receiver::new().receive::<Command>(orders, true);
    let (command, stdio) = match received.map_err(|e| (Step::GuestExec, e))? {
        Received::Message(command, fds) => (command, fds),
        // Nobody wants it any more.
        Received::Nothing | Received::End => sys::exit(0),
    };
    kit.makers.let_go();
    step(Step::GuestExec, &|| execute(&command, &stdio, tried).map(|never| match never {}))?;
    Err((Step::GuestExec, io::Error::from_raw_os_error(libc::EIO)))
}

/// Executes a program in place of this process, which leads a session of its own.
pub(crate) fn execute(command: &Command, stdio: &[OwnedFd], tried: &Tried) -> io::Result<Never> {
    match stdio {
        [] => {}
        [output] => {
            sys::duplicate_to(output.as_fd(), 1)?;
            sys::duplicate_to(output.as_fd(), 2)?;
        }
        all => {
            for (number, fd) in (0..3).zip(all) {
                sys::duplicate_to(fd.as_fd(), number)?;
            }
            if rustix::termios::isatty(&all[0]) {
                // The session has no terminal, and the terminal no session.
                rustix::process::ioctl_tiocsctty(&all[0])?;
            }
        }
    }
    let cwd = if command.cwd.is_empty() { "/" } else { &command.cwd };
    let Some((program, path)) = find(&command.programs, Path::new(cwd)) else {
        return Err(io::Error::from_raw_os_error(libc::ENOENT));
    };
    tried.replace(Some(program.clone()));
    let image = Image::new(&path, command);
    let image = image.map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    rustix::process::chdir(cwd)?;
    Err(sys::execve(&image.program, &image.args, &image.env))
}

fn limits(kit: &Kit<'_>) -> io::Result<()> {
    common_limits(kit.spec)?;
    lower(Resource::Memlock, MEMORY_LOCK_BYTES)?;
    if kit.spec.processes > 0 {
        lower(Resource::Nproc, kit.spec.processes)?;
    }
    Ok(())
}

/// What guests have with walls and without.
pub(crate) fn common_limits(spec: &Spec) -> io::Result<()> {
    rustix::process::umask(Mode::from_raw_mode(0o022));
    lower(Resource::Nofile, if spec.open_files == 0 { OPEN_FILES } else { spec.open_files })?;
    lower(Resource::Core, 0)
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

fn report_to(to: &OwnedFd, Failure { step, errno, program }: &Failure) {
    let mut bytes = Vec::with_capacity(REPORT_MAX_BYTES);
    bytes.extend_from_slice(&(*step as u32).to_ne_bytes());
    bytes.extend_from_slice(&errno.to_ne_bytes());
    bytes.extend_from_slice(program.as_deref().unwrap_or_default().as_bytes());
    bytes.truncate(REPORT_MAX_BYTES);
    let _ = rustix::io::write(to, &bytes);
}

fn read_report(from: &OwnedFd) -> Option<Failure> {
    let mut bytes = [0u8; REPORT_MAX_BYTES];
    let length = loop {
        match rustix::io::read(from, &mut bytes[..]) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(length) => break length,
            Err(_) => return None,
        }
    };
    // Nothing, as a fork says that died on the way.
    let (step, rest) = bytes[..length].split_first_chunk()?;
    let (errno, program) = rest.split_first_chunk()?;
    let step = *Step::ALL.get(u32::from_ne_bytes(*step) as usize)?;
    let errno = i32::from_ne_bytes(*errno);
    let program = Some(String::from_utf8_lossy(program).into_owned());
    Some(Failure { step, errno, program: program.filter(|program| !program.is_empty()) })
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
