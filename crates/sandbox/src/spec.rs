//! What a caller says, and what it is told.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::host::Program;
use crate::step::{Step, StepError};

/// How sandboxes are made here; given once to [`crate::Sandboxes::start`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    /// Names every kernel object; `[A-Za-z0-9_.-]{1,64}`. One running owner at a time: the caller
    /// holds a lock for it.
    pub owner: String,
    /// How sandboxes are kept apart.
    pub isolation: Isolation,
    /// A folder for images and templates; made if missing, swept at start, private to this owner.
    pub work_dir: PathBuf,
    /// The root file system of every sandbox that names no other.
    pub rootfs: Rootfs,
    /// Other root file systems, each by the name that [`Spec::rootfs`] asks for it with. They are
    /// put together at the start, and one that cannot be fails the start.
    pub more_rootfs: BTreeMap<String, Rootfs>,
    /// How sandboxes reach the network.
    pub network: Network,
    /// Who the guest is inside.
    pub user: User,
    /// The program that is executed as the spawner.
    #[serde(skip)]
    pub program: Program,
    /// Names that `/etc/hosts` inside knows besides `localhost`.
    pub hosts: Vec<(std::net::Ipv4Addr, String)>,
    /// Sizes of `/tmp`, in bytes, for which a few are made ahead; others are learned in use.
    pub tmp_ready_bytes: Vec<u64>,
    /// Sandboxes that are made ahead of need, in quiet moments; `None`: none.
    pub stock: Option<Stock>,
    /// Kills a process at a named step, to test what is left; builds without debug assertions and
    /// without the feature `faults` refuse it.
    pub fault: Option<Fault>,
}

impl Config {
    /// A configuration with the host's root file system, no network, and the default user.
    pub fn new(owner: impl Into<String>, work_dir: impl Into<PathBuf>) -> Config {
        Config {
            owner: owner.into(),
            isolation: Isolation::Namespace,
            work_dir: work_dir.into(),
            rootfs: Rootfs::Host,
            more_rootfs: BTreeMap::new(),
            network: Network::None,
            user: User::default(),
            program: Program::default(),
            hosts: Vec::new(),
            tmp_ready_bytes: Vec::new(),
            stock: None,
            fault: None,
        }
    }
}

/// How sandboxes are kept from this machine and from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Isolation {
    /// By namespaces, and all the walls that this crate has.
    #[default]
    Namespace,
    /// Not at all, for an ordinary user who has no namespaces: guests are processes of that user's,
    /// who see the host's files and network and are held by no limit. A *keeper* in the place of
    /// pid 1 looks after them: whatever they start is its offspring and ends with it, however it,
    /// the spawner or the host ends. Of a [`Spec`] only the listeners, as with [`Network::Host`],
    /// and the open files have an effect, and it may have neither views nor a first program nor a
    /// root file system. Each sandbox has a folder for temporary files, named by `TMPDIR` in its
    /// guests' environment and gone with it. Root is refused.
    Process,
}

/// Sandboxes that are made before anybody asks for them: up to their views of the host's folders
/// and their limits, which are all that is left to do then. Each is given away once; a used one
/// never comes back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stock {
    /// How many.
    pub size: usize,
    /// What they are made for until others are asked for: from then on they are like those that
    /// were asked for last. Its views and limits are of no matter.
    pub first: Spec,
}

/// Where the root file system of a sandbox comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rootfs {
    /// Read-only views of the host's own programs and libraries.
    Host,
    /// Read-only view of this directory.
    Dir(PathBuf),
}

/// How sandboxes reach the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// A network namespace with nothing but its own loopback interface.
    None,
    /// One with a way to the outside through address translation; this machine, its metadata
    /// service and other sandboxes stay out of reach. For root with veth and nf_tables.
    Nat,
    /// [`Network::Nat`] where it can be had, else [`Network::None`] and a note that says why.
    NatIfPossible,
    /// The host's own network: whatever this machine reaches, a sandbox reaches, but for what
    /// listens for other sandboxes ([`Spec::listeners`]). For root with nf_tables.
    Host,
}

/// The guest's identity inside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Login name, as `/etc/passwd` inside has it.
    pub name: String,
    /// User id, not 0.
    pub uid: u32,
    /// Group id, not 0.
    pub gid: u32,
}

impl Default for User {
    fn default() -> User {
        User { name: "sbx_user1051".to_owned(), uid: 993, gid: 990 }
    }
}

/// Which process dies at a step, for tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The step at which it happens, in a sandbox's pid 1.
    pub step: Step,
    /// The process that is killed.
    pub victim: Victim,
}

/// The process that a [`Fault`] kills with SIGKILL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Victim {
    /// The sandbox's own pid 1.
    Init,
    /// The spawner.
    Spawner,
    /// The process that called [`crate::Sandboxes::start`].
    Host,
}

/// The period of [`Spec::cpu_quota_us`], microseconds: the kernel's default.
pub const CPU_PERIOD_US: u64 = 100_000;

/// One sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Names it; `[A-Za-z0-9_.-]{1,64}`, unique among the living.
    pub id: String,
    /// Read-only views of host directories.
    pub binds: Vec<Bind>,
    /// Size of `/tmp`.
    pub tmp_bytes: u64,
    /// Memory limit of the guests together; 0 is no limit.
    pub memory_bytes: u64,
    /// Most processes and threads of the guests together; 0 is no limit.
    pub processes: u64,
    /// Open files of each guest process (`RLIMIT_NOFILE`); 0 keeps the default of 1024.
    pub open_files: u64,
    /// Relative share of the processors, 1 to 10000 as cgroup v2 counts; 0 is the default of 100.
    pub cpu_weight: u64,
    /// Processor time that the guests together may use in each [`CPU_PERIOD_US`], microseconds; at
    /// least 1000, the kernel's own least; 0 is no limit.
    pub cpu_quota_us: u64,
    /// One of [`Config::more_rootfs`]; `None` is [`Config::rootfs`].
    pub rootfs: Option<String>,
    /// Addresses to listen on inside; each is added to the inside's loopback interface. In the
    /// host's network they would be everybody's: there each has the port on a loopback address of
    /// its own, which the listener tells.
    pub listeners: Vec<SocketAddrV4>,
    /// Host name inside.
    pub hostname: String,
    /// A program that is started as soon as the sandbox is whole, without another question; its id
    /// is [`ProcessId::FIRST`]. That it executes is not said ([`Event::Started`]): nobody is woken
    /// for it.
    #[serde(skip)] // it goes beside the rest, for the guest alone to read
    pub first: Option<Command>,
}

impl Spec {
    /// What sandboxes are made ahead by, once this one was asked for.
    pub(crate) fn pattern(&self) -> Spec {
        Spec { id: String::new(), binds: Vec::new(), first: None, ..self.clone() }
    }

    /// Whether a sandbox that was made by the other one can be given away for it: they differ in
    /// nothing but the name, the views, the first program, and how much the limits are. Whether
    /// there is a limit at all belongs to it, since none cannot be set back.
    pub(crate) fn is_like(&self, other: &Spec) -> bool {
        let limits = |spec: &Spec| {
            [spec.memory_bytes, spec.cpu_weight, spec.cpu_quota_us].map(|value| value > 0)
        };
        let Spec {
            id: _,
            binds: _,
            tmp_bytes,
            memory_bytes: _,
            processes,
            open_files,
            cpu_weight: _,
            cpu_quota_us: _,
            rootfs,
            listeners,
            hostname,
            first: _,
        } = self;
        *tmp_bytes == other.tmp_bytes
            && *processes == other.processes
            && *open_files == other.open_files
            && *rootfs == other.rootfs
            && *listeners == other.listeners
            && *hostname == other.hostname
            && limits(self) == limits(other)
    }
}

/// A read-only view of a host directory inside a sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// An absolute directory of the host.
    pub source: PathBuf,
    /// `/var/task`, `/opt`, `/var/runtime` or `/var/lang`.
    pub target: String,
}

/// A program to run inside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Candidates; the first that is a regular file inside, links followed, is executed.
    pub programs: Vec<String>,
    /// Arguments after the program's own name.
    pub args: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Working directory inside.
    pub cwd: String,
}

/// Names a process started by [`crate::Sandbox::spawn`] or with the sandbox; unique within its sandbox, not a pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessId(pub u32);

impl ProcessId {
    /// That of [`Spec::first`].
    pub const FIRST: ProcessId = ProcessId(0);
}

/// What happened inside, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The program is executing.
    Started(ProcessId),
    /// The program could not be executed; no `Exited` follows.
    SpawnFailed {
        /// Which one.
        process: ProcessId,
        /// The candidate that was tried; `None`: none exists.
        program: Option<String>,
        /// Where: [`Step::GuestExec`] is the program's own fault, anything else the platform's.
        step: Step,
        /// The kernel's reason (`ENOENT` with a program: its interpreter is missing).
        errno: i32,
    },
    /// It ended; everything that it wrote is in the output pipe already.
    Exited {
        /// Which one.
        process: ProcessId,
        /// How.
        status: ExitStatus,
    },
    /// Everything but pid 1 is dead: the answer to [`crate::Sandbox::kill_guests`].
    GuestsKilled,
    /// The sandbox is gone; nothing follows.
    Gone,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It exited with this code.
    Code(i32),
    /// It was killed by this signal.
    Signal(i32),
}

/// Why sandboxes cannot be made here.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A value of the configuration.
    #[error("sandbox configuration: {field} {reason}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// What an earlier run left in the work folder could not be removed.
    #[error("sandbox work folder {} cannot be used", path.display())]
    WorkDir {
        /// The folder.
        path: PathBuf,
        /// Why; `WouldBlock`: another spawner of this owner is running.
        #[source]
        source: std::io::Error,
    },
    /// The spawner could not be executed.
    #[error("cannot execute the sandbox spawner {}", program.display())]
    Execute {
        /// The program that was tried.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A step of the preparation failed.
    #[error("sandboxes cannot be made here")]
    Step(#[source] StepError),
    /// The spawner ended before it was ready.
    #[error("the sandbox spawner ended before it was ready; does main call dispatch() first?")]
    Died,
    /// The spawner is a program of its own, of other sources than its host.
    #[error("the sandbox spawner was built from other sources than this program; build both anew")]
    OtherSources,
}

/// Why one sandbox was not made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CreateError {
    /// A value of the specification.
    #[error("sandbox specification: {field} {reason}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A setup step failed.
    #[error("sandbox {id} was not made")]
    Step {
        /// The sandbox.
        id: String,
        /// Which step, and why.
        #[source]
        source: StepError,
    },
    /// Its pid 1 died during setup.
    #[error("sandbox {id}: pid 1 died during setup ({status:?})")]
    Died {
        /// The sandbox.
        id: String,
        /// How it died.
        status: ExitStatus,
    },
    /// The spawner died, twice with this request or without another one in time, or is stopping.
    #[error("sandbox {id}: the spawner is gone; try again")]
    SpawnerGone {
        /// The sandbox.
        id: String,
    },
    /// The request could not be handed over.
    #[error("sandbox {id}: cannot ask the spawner (errno {errno})")]
    Request {
        /// The sandbox.
        id: String,
        /// The kernel's reason.
        errno: i32,
    },
}
