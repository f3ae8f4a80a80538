//! The bootstrap as a process: in a sandbox, or without one where there is none to be had.

use lambfold_package::{LIBRARY_PATH, PATH};
use lambfold_sandbox::{
    Bind, Command, Event, ExitStatus, ProcessId, Sandbox, Sandboxes, Spec, Unconfined,
};
use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Memory limit of a guest, bytes.
const MEMORY_BYTES: u64 = 1024 << 20;
/// Size of its `/tmp`, bytes.
pub(crate) const TMP_BYTES: u64 = 512 << 20;
const PROCESSES: u64 = 1024;
const OPEN_FILES: u64 = 1024;
/// Most that is kept of a guest's output, bytes.
const OUTPUT_BYTES: usize = 1 << 20;
/// For a sandbox, or for a program that looks around inside.
const PATIENCE: Duration = Duration::from_secs(30);
/// Prints, for each process that it may look into: id, open descriptors, resident KiB.
const LOOK: &str = r#"for d in /proc/[0-9]*; do
[ "${d#/proc/}" = $$ ] && continue
[ -r "$d/status" ] || continue
m=0
{ while read -r k v r; do [ "$k" != VmRSS: ] || m=$v; done < "$d/status"; } 2> /dev/null
set -- "$d"/fd/*
echo "${d#/proc/} $# $m"
done"#;

/// Where guests are started.
#[derive(Debug)]
pub(crate) enum Ground {
    Sandboxes {
        sandboxes: Sandboxes,
        next: AtomicU64,
        /// Holds what the sandboxes need; goes after them.
        _work: tempfile::TempDir,
    },
    /// The machine itself.
    Machine,
}

/// What to start.
#[derive(Debug, Clone)]
pub(crate) struct Plan<'a> {
    pub(crate) task: &'a Path,
    pub(crate) opt: Option<&'a Path>,
    /// The address in sandboxes; without one a port is found.
    pub(crate) address: SocketAddrV4,
    /// All but what depends on the ground.
    pub(crate) env: Vec<(String, String)>,
}

enum Process {
    Sandboxed { sandbox: Box<Sandbox>, process: ProcessId },
    Unconfined(Unconfined),
}

/// How a guest ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    Exited(ExitStatus),
    /// It did not come to run; a sentence.
    NotStarted(String),
}

/// A bootstrap that was started.
pub(crate) struct Guest {
    process: Process,
    /// What it wrote, the latest part.
    pub(crate) output: Vec<u8>,
    pub(crate) end: Option<End>,
}

/// What a guest's processes hold together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) memory_kib: u64,
    pub(crate) descriptors: u64,
    pub(crate) processes: u64,
}

impl Ground {
    /// Starts a bootstrap; the sockets are those it is to talk to.
    pub(crate) fn start(&self, plan: Plan<'_>) -> Result<(Guest, Vec<TcpListener>), String> {
        match self {
            Self::Sandboxes { sandboxes, next, .. } => {
                let id = next.fetch_add(1, Ordering::Relaxed);
                sandboxed(sandboxes, id, plan)
            }
            Self::Machine => unconfined(plan),
        }
    }
}

/// The variables that depend on where the guest is; the plan's own win.
fn environment(
    plan: &Plan<'_>,
    api: SocketAddrV4,
    task: &str,
    library_path: &str,
) -> Vec<(String, String)> {
    let mut env: Vec<(String, String)> = [
        ("PATH", PATH),
        ("LD_LIBRARY_PATH", library_path),
        ("LANG", "en_US.UTF-8"),
        ("TZ", ":UTC"),
        ("LAMBDA_TASK_ROOT", task),
        ("LAMBDA_RUNTIME_DIR", "/var/runtime"),
        ("AWS_LAMBDA_RUNTIME_API", &api.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    env.retain(|(name, value)| {
        !value.is_empty() && !plan.env.iter().any(|(given, _)| given == name)
    });
    env.extend(plan.env.iter().cloned());
    env
}

fn sandboxed(
    sandboxes: &Sandboxes,
    id: u64,
    plan: Plan<'_>,
) -> Result<(Guest, Vec<TcpListener>), String> {
    let bind =
        |source: &Path, target: &str| Bind { source: source.to_owned(), target: target.to_owned() };
    let mut binds = vec![bind(plan.task, "/var/task")];
    binds.extend(plan.opt.map(|opt| bind(opt, "/opt")));
    let spec = Spec {
        id: format!("conform-{id}"),
        binds,
        tmp_bytes: TMP_BYTES,
        memory_bytes: MEMORY_BYTES,
        processes: PROCESSES,
        open_files: OPEN_FILES,
        listeners: vec![plan.address],
        hostname: "169.254.100.1".to_owned(),
        ..Spec::default()
    };
    let (done, made) = mpsc::channel();
    sandboxes.create(spec, move |sandbox| {
        let _ = done.send(sandbox);
    });
    let made = made.recv_timeout(PATIENCE).map_err(|_| "no answer from the sandbox spawner")?;
    let mut sandbox = made.map_err(|error| chain(&error))?;
    let listeners = std::mem::take(&mut sandbox.listeners);
    let command = Command {
        programs: ["/var/runtime/bootstrap", "/var/task/bootstrap", "/opt/bootstrap"]
            .map(str::to_owned)
            .to_vec(),
        args: Vec::new(),
        env: environment(&plan, plan.address, "/var/task", LIBRARY_PATH),
        cwd: "/var/task".to_owned(),
    };
    let process = sandbox.spawn(command).map_err(|error| error.to_string())?;
    let process = Process::Sandboxed { sandbox: Box::new(sandbox), process };
    Ok((Guest { process, output: Vec::new(), end: None }, listeners))
}

fn unconfined(plan: Plan<'_>) -> Result<(Guest, Vec<TcpListener>), String> {
    let listen = || {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        io::Result::Ok((listener, SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)))
    };
    let (listener, address) = listen().map_err(|error| format!("could not listen: {error}"))?;
    let task = plan.task.display().to_string();
    let command = Command {
        programs: vec![plan.task.join("bootstrap").display().to_string()],
        args: Vec::new(),
        env: environment(&plan, address, &task, ""),
        cwd: task,
    };
    let mut guest = match Unconfined::start(&command) {
        Ok(process) => {
            Guest { process: Process::Unconfined(process), output: Vec::new(), end: None }
        }
        Err(error) => return Err(format!("the bootstrap could not be executed: {error}")),
    };
    guest.pump();
    Ok((guest, vec![listener]))
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

impl Guest {
    /// Readable when [`Guest::pump`] has something to take in.
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        if self.end.is_some() {
            return Vec::new();
        }
        match &self.process {
            Process::Sandboxed { sandbox, .. } => vec![sandbox.event_fd(), sandbox.output.as_fd()],
            Process::Unconfined(process) => vec![process.event_fd(), process.output.as_fd()],
        }
    }

    /// Takes in its output and its end; never blocks.
    pub(crate) fn pump(&mut self) {
        if self.end.is_none() {
            self.end = self.look_for_end();
        }
        let output = match &self.process {
            Process::Sandboxed { sandbox, .. } => &sandbox.output,
            Process::Unconfined(process) => &process.output,
        };
        let mut buffer = [0; 16 << 10];
        while let Ok(count @ 1..) = rustix::io::read(output, &mut buffer) {
            self.output.extend_from_slice(&buffer[..count]);
        }
        if self.output.len() > OUTPUT_BYTES {
            self.output.drain(..self.output.len() - OUTPUT_BYTES);
        }
    }

    fn look_for_end(&mut self) -> Option<End> {
        match &mut self.process {
            Process::Sandboxed { sandbox, process } => loop {
                match sandbox.try_event() {
                    Ok(None) => return None,
                    Ok(Some(Event::Exited { process: ended, status })) if ended == *process => {
                        return Some(End::Exited(status));
                    }
                    Ok(Some(Event::SpawnFailed { process: ended, program, errno, .. }))
                        if ended == *process =>
                    {
                        return Some(End::NotStarted(not_started(program.as_deref(), errno)));
                    }
                    Ok(Some(Event::Gone)) | Err(_) => {
                        return Some(End::NotStarted("the sandbox was lost".to_owned()));
                    }
                    Ok(Some(_)) => {}
                }
            },
            Process::Unconfined(process) => process.try_wait().ok().flatten().map(End::Exited),
        }
    }

    pub(crate) fn signal(&self, signal: i32) -> io::Result<()> {
        match &self.process {
            Process::Sandboxed { sandbox, process } => sandbox.signal_group(*process, signal),
            Process::Unconfined(process) => process.signal_group(signal),
        }
    }

    /// Stops it as the platform does between events, or lets it run again.
    pub(crate) fn freeze(&self, frozen: bool) -> io::Result<()> {
        use rustix::process::Signal;
        match &self.process {
            Process::Sandboxed { sandbox, .. } if frozen => sandbox.freeze(),
            Process::Sandboxed { sandbox, .. } => sandbox.thaw(),
            Process::Unconfined(process) => {
                let signal = if frozen { Signal::STOP } else { Signal::CONT };
                process.signal_group(signal.as_raw())
            }
        }
    }

    /// What its processes hold now; `Err` says why that is not known.
    pub(crate) fn usage(&mut self) -> Result<Usage, String> {
        let usage = match &self.process {
            Process::Sandboxed { sandbox, .. } => look_inside(sandbox)?,
            Process::Unconfined(process) => look_at_group(process.id()),
        };
        if usage.memory_kib == 0 || usage.descriptors == 0 {
            return Err("the bootstrap's processes cannot be looked into here".to_owned());
        }
        Ok(usage)
    }
}

fn not_started(program: Option<&str>, errno: i32) -> String {
    let reason = io::Error::from_raw_os_error(errno);
    match program {
        None => "there is no file /var/task/bootstrap or /opt/bootstrap".to_owned(),
        Some(program) if errno == rustix::io::Errno::NOENT.raw_os_error() => format!(
            "{program} could not be executed: its interpreter, or its dynamic loader, is not there"
        ),
        Some(program) => format!("{program} could not be executed: {reason}"),
    }
}

/// Runs a shell inside that looks at its neighbours.
fn look_inside(sandbox: &Sandbox) -> Result<Usage, String> {
    let (mut read, write) = io::pipe().map_err(|error| error.to_string())?;
    let command = Command {
        programs: vec!["/bin/sh".to_owned()],
        args: vec!["-c".to_owned(), LOOK.to_owned()],
        env: vec![("PATH".to_owned(), PATH.to_owned())],
        cwd: "/".to_owned(),
    };
    let write = OwnedFd::from(write);
    sandbox.spawn_to(command, write.as_fd()).map_err(|error| error.to_string())?;
    drop(write);
    // The end of the pipe is the end of the shell, or of the attempt to start one.
    let deadline = Instant::now() + PATIENCE;
    let mut text = String::new();
    let mut buffer = [0; 4096];
    loop {
        let wait = rustix::event::Timespec { tv_sec: 1, tv_nsec: 0 };
        let mut polls = [rustix::event::PollFd::new(&read, rustix::event::PollFlags::IN)];
        let ready = rustix::event::poll(&mut polls, Some(&wait));
        if matches!(ready, Ok(0)) {
            if Instant::now() > deadline {
                return Err("a look into the sandbox took too long".to_owned());
            }
            continue;
        }
        match read.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => text.push_str(&String::from_utf8_lossy(&buffer[..count])),
            Err(error) => return Err(error.to_string()),
        }
    }
    let mut usage = Usage { memory_kib: 0, descriptors: 0, processes: 0 };
    for line in text.lines() {
        let numbers: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [id, descriptors, memory_kib] = numbers[..] else { continue };
        // Pid 1 is the sandbox's own.
        if id != 1 {
            usage.processes += 1;
            usage.descriptors += descriptors;
            usage.memory_kib += memory_kib;
        }
    }
    Ok(usage)
}

fn look_at_group(group: u32) -> Usage {
    let mut usage = Usage { memory_kib: 0, descriptors: 0, processes: 0 };
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let path: PathBuf = entry.path();
        let stat = std::fs::read_to_string(path.join("stat")).unwrap_or_default();
        // After the name in brackets: state, parent, group.
        let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ').nth(2);
        if fields.and_then(|field| field.parse().ok()) != Some(group) {
            continue;
        }
        let status = std::fs::read_to_string(path.join("status")).unwrap_or_default();
        let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = memory.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        usage.processes += 1;
        usage.memory_kib += kib.unwrap_or(0);
        usage.descriptors +=
            std::fs::read_dir(path.join("fd")).map_or(0, |all| all.flatten().count() as u64);
    }
    usage
}
