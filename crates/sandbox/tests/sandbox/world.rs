//! What every test needs: sandboxes of its own, and a shell inside.

use std::cell::Cell;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

use lambfold_sandbox::{
    Bind, Command, Config, CreateError, Event, ExitStatus, ProcessId, Program, Sandbox, Sandboxes,
    Spec, Stock,
};
use rustix::event::{PollFd, PollFlags, Timespec};

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The spawner that is a program of its own: beside this one, where they were copied together.
pub fn spawner() -> &'static [u8] {
    static SPAWNER: OnceLock<Vec<u8>> = OnceLock::new();
    SPAWNER.get_or_init(|| {
        let beside = std::env::current_exe().unwrap().with_file_name("lambfold-spawner");
        let built = Path::new(env!("CARGO_BIN_EXE_lambfold-spawner"));
        std::fs::read(if beside.exists() { &beside } else { built }).unwrap()
    })
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// Whether this thread's tests are about sandboxes that were made ahead, by a spawner that is a
    /// program of its own.
    pub static STOCKED: Cell<bool> = const { Cell::new(false) };
}

/// Sandboxes with a work folder of their own.
pub struct World {
    pub sandboxes: Sandboxes,
    pub dir: tempfile::TempDir,
    pub owner: String,
}

pub fn owner() -> String {
    format!("test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

pub fn config() -> (Config, tempfile::TempDir) {
    // Ordinary users' namespaces need every folder on the way to be open to them.
    let dir = tempfile::Builder::new().prefix("lambfold-sandbox-").tempdir().unwrap();
    (Config::new(owner(), dir.path().join("work")), dir)
}

impl World {
    pub fn new() -> World {
        let (config, dir) = config();
        World::with(config, dir)
    }

    pub fn with(mut config: Config, dir: tempfile::TempDir) -> World {
        if STOCKED.get() && config.stock.is_none() {
            config.stock = Some(Stock { size: 1, first: spec() });
            config.program = Program::Bytes(spawner());
        }
        let owner = config.owner.clone();
        let sandboxes = Sandboxes::start(config).unwrap_or_else(|e| panic!("{}", chain(&e)));
        World { sandboxes, dir, owner }
    }

    /// Where tests run with sandboxes of the stock, one of those.
    pub fn try_create(&self, spec: Spec) -> Result<Sandbox, CreateError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let made = self.create_any(spec.clone());
            match &made {
                Ok(sandbox) if STOCKED.get() && !sandbox.from_stock() => {
                    assert!(Instant::now() < deadline, "none was made ahead");
                    wait_for("a stock", || self.sandboxes.in_stock() == 1);
                }
                _ => return made,
            }
        }
    }

    pub fn create_any(&self, spec: Spec) -> Result<Sandbox, CreateError> {
        let (done, result) = mpsc::channel();
        self.sandboxes.create(spec, move |made| done.send(made).unwrap());
        result.recv_timeout(PATIENCE).expect("an answer")
    }

    pub fn create(&self, spec: Spec) -> Inside {
        Inside::new(self.try_create(spec).unwrap_or_else(|e| panic!("{}", chain(&e))))
    }

    pub fn sandbox(&self) -> Inside {
        self.create(spec())
    }

    /// A folder of the host with these files in it, everybody may read.
    pub fn folder(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let folder = self.dir.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for (file, text) in files {
            let path = folder.join(file);
            std::fs::write(&path, text).unwrap();
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        folder
    }
}

pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

pub fn spec() -> Spec {
    Spec {
        id: format!("sandbox-{}", NUMBER.fetch_add(1, Ordering::Relaxed)),
        tmp_bytes: 64 << 20,
        memory_bytes: 256 << 20,
        processes: 128,
        hostname: "inside".to_owned(),
        ..Spec::default()
    }
}

pub fn bind(source: &Path, target: &str) -> Bind {
    Bind { source: source.to_owned(), target: target.to_owned() }
}

/// A sandbox with what it said so far.
pub struct Inside {
    pub sandbox: Sandbox,
}

/// How a program ended, and what it wrote.
#[derive(Debug)]
pub struct Ran {
    pub status: ExitStatus,
    pub output: String,
}

impl Ran {
    pub fn ok(self) -> String {
        assert_eq!(self.status, ExitStatus::Code(0), "{}", self.output);
        self.output
    }
}

pub fn bash(script: &str) -> Command {
    Command {
        programs: vec!["/bin/bash".to_owned()],
        args: vec!["-c".to_owned(), script.to_owned()],
        env: vec![("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned())],
        cwd: "/var/task".to_owned(),
    }
}

/// A perl program that makes raw system calls.
pub fn perl(script: &str) -> Command {
    Command {
        programs: vec!["/usr/bin/perl".to_owned()],
        args: vec!["-e".to_owned(), script.to_owned()],
        ..bash("")
    }
}

impl Inside {
    pub fn new(sandbox: Sandbox) -> Inside {
        Inside { sandbox }
    }

    /// The next event.
    pub fn event(&self) -> Event {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(event) = self.sandbox.try_event().unwrap() {
                return event;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no event; output: {}", self.output());
            let fd = self.sandbox.event_fd();
            let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: 0 };
            rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&left)).unwrap();
        }
    }

    /// What the guests wrote since the last call.
    pub fn output(&self) -> String {
        let mut bytes = Vec::new();
        let mut chunk = [0u8; 65536];
        while let Ok(n @ 1..) = rustix::io::read(&self.sandbox.output, &mut chunk) {
            bytes.extend_from_slice(&chunk[..n]);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Reads output until `text` was seen.
    pub fn output_until(&self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = String::new();
        while !seen.contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{text:?} was not written, but: {seen}");
            let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: 0 };
            let fd = &self.sandbox.output;
            rustix::event::poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&left)).unwrap();
            seen.push_str(&self.output());
        }
        seen
    }

    pub fn start(&self, command: Command) -> ProcessId {
        let process = self.sandbox.spawn(command).unwrap();
        assert_eq!(self.event(), Event::Started(process));
        process
    }

    pub fn run(&self, command: Command) -> Ran {
        let process = self.start(command);
        let mut output = String::new();
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Both are drained, so that a program that writes much can end.
            let event_fd = self.sandbox.event_fd();
            let mut polls = [
                PollFd::new(&event_fd, PollFlags::IN),
                PollFd::new(&self.sandbox.output, PollFlags::IN),
            ];
            let wait = Timespec { tv_sec: 1, tv_nsec: 0 };
            rustix::event::poll(&mut polls, Some(&wait)).unwrap();
            output.push_str(&self.output());
            match self.sandbox.try_event().unwrap() {
                Some(Event::Exited { process: p, status }) if p == process => {
                    output.push_str(&self.output());
                    return Ran { status, output };
                }
                Some(other) => panic!("{other:?}: {output}"),
                None => assert!(Instant::now() < deadline, "still running: {output}"),
            }
        }
    }

    pub fn bash(&self, script: &str) -> Ran {
        self.run(bash(script))
    }
}

/// The same script outside: the control run of a hostile probe.
pub fn outside(command: &Command) -> Ran {
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut child = std::process::Command::new(&command.programs[0]);
    child.args(&command.args).stdout(writer.try_clone().unwrap()).stderr(writer).process_group(0);
    let mut running = child.spawn().unwrap();
    drop(child);
    let mut output = String::new();
    let _ = reader.as_raw_fd();
    reader.read_to_string(&mut output).unwrap();
    let status = running.wait().unwrap();
    let status = match (status.code(), status.signal()) {
        (Some(code), _) => ExitStatus::Code(code),
        (None, signal) => ExitStatus::Signal(signal.unwrap_or(0)),
    };
    Ran { status, output }
}

/// As [`outside`], by the root of namespaces of its own (not of a network of its own, unless
/// `more` says so): the control run of what ordinary users may not do either. Root stays the host's
/// root in it; an ordinary user is root of a user namespace, which the kernel trusts with less.
pub fn outside_as_root(more: &[&str], command: &Command) -> Ran {
    let mut args = vec!["--mount", "--uts", "--ipc", "--pid", "--fork", "--kill-child"];
    if !lambfold_sandbox::is_root() {
        args.extend(["--user", "--map-root-user"]);
    }
    args.extend(more);
    args.push("--");
    wrapped("/usr/bin/unshare", &args, command)
}

/// As [`outside`], started by another program.
pub fn wrapped(program: &str, args: &[&str], command: &Command) -> Ran {
    let args = args.iter().map(|a| (*a).to_owned());
    let args = args.chain([command.programs[0].clone()]).chain(command.args.clone()).collect();
    outside(&Command { programs: vec![program.to_owned()], args, ..bash("") })
}

/// Waits until `condition` holds.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::yield_now();
    }
}
