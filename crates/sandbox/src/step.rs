//! The ordered, named steps of making a sandbox.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use serde::{Deserialize, Serialize};

use crate::network;
use crate::spec::{Fault, Victim};
use crate::sys;
use crate::wire::{self, FromSpawner};

macro_rules! steps {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// A step of making sandboxes, in the order in which they are done.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Step { $($(#[doc = $doc])+ $name,)+ }

        impl Step {
            /// Every step, in order.
            pub const ALL: &'static [Step] = &[$(Step::$name,)+];

            /// Its name, as errors and `LAMBFOLD_SANDBOX_FAULT` have it.
            pub fn name(self) -> &'static str {
                match self { $(Step::$name => $text,)+ }
            }

            /// What it does, in words.
            pub fn explanation(self) -> &'static str {
                match self { $(Step::$name => concat!($($doc,)+).trim_ascii(),)+ }
            }
        }
    };
}

steps! {
    /// The spawner takes the owner's work folder.
    WorkFolder = "work-folder",
    /// The control groups that limit sandboxes are found.
    CgroupBase = "cgroup-base",
    /// The spawner gets a user namespace of its own (ordinary users only).
    UserNamespace = "user-namespace",
    /// A router of its own is linked to the host's network, for sandboxes that reach the outside.
    NetworkLink = "network-link",
    /// Rules let sandboxes out and keep them from this machine, metadata and each other.
    NetworkRules = "network-rules",
    /// The host passes the router's packets on.
    NetworkForwarding = "network-forwarding",
    /// The spawner gets mount namespaces of its own.
    MountNamespace = "mount-namespace",
    /// A file system for /tmp is made ready.
    TmpImage = "tmp-image",
    /// The root file system that all sandboxes share is put together.
    RootTemplate = "root-template",
    /// The spawner makes the template its root and lets the host's root go.
    PivotRoot = "pivot-root",
    /// The system call filter is compiled.
    SeccompCompile = "seccomp-compile",
    /// A user namespace with the sandbox's ids is made.
    GuestUserNamespace = "guest-user-namespace",
    /// The control groups of the sandbox are made.
    Cgroup = "cgroup",
    /// Read-only views of the host directories are made.
    BindViews = "bind-views",
    /// The views are attached.
    MountBinds = "mount-binds",
    /// Pid 1 is cloned into new mount, pid, ipc and uts namespaces.
    Clone = "clone",
    /// Pid 1 closes every descriptor that is not its own and ties its life to the spawner's.
    Detach = "detach",
    /// /proc of the new pid namespace is mounted.
    MountProc = "mount-proc",
    /// /tmp is attached.
    MountTmp = "mount-tmp",
    /// The rules of the second wall around files are made (Landlock).
    Landlock = "landlock",
    /// The host name is set.
    Hostname = "hostname",
    /// Pid 1 enters a network namespace with its loopback interface and addresses.
    Network = "network",
    /// The listening sockets are opened.
    Listeners = "listeners",
    /// Pid 1 enters the sandbox's user namespace, which owns none of its other namespaces.
    EnterUserNamespace = "enter-user-namespace",
    /// Pid 1 takes an id that is not the guest's and cannot be inspected by it.
    InitCredentials = "init-credentials",
    /// The sandbox is handed to the host.
    Ready = "ready",
    /// The guest enters its control groups, and a cgroup namespace that ends at them.
    GuestCgroup = "guest-cgroup",
    /// The guest's limits are set.
    GuestLimits = "guest-limits",
    /// The guest becomes its user, without any capability, and can gain none.
    GuestCredentials = "guest-credentials",
    /// The guest is held by the Landlock rules.
    GuestLandlock = "guest-landlock",
    /// The guest's system call filter is loaded.
    GuestSeccomp = "guest-seccomp",
    /// The guest's program is executed.
    GuestExec = "guest-exec",
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("step {step}: {what}: {}", std::io::Error::from_raw_os_error(*errno))]
pub struct StepError {
    /// Which step.
    pub step: Step,
    /// The operation and its object, such as `mount /proc`.
    pub what: String,
    /// The kernel's reason.
    pub errno: i32,
}

impl StepError {
    pub(crate) fn new(step: Step, what: impl Into<String>, error: &io::Error) -> StepError {
        let errno = error.raw_os_error().unwrap_or(libc::EIO);
        StepError { step, what: what.into(), errno }
    }

    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        let refused = matches!(self.errno, libc::EPERM | libc::EACCES);
        match self.step {
            Step::WorkFolder if self.errno == libc::EWOULDBLOCK => {
                "stop the server that uses this data folder"
            }
            Step::WorkFolder => "choose a data folder that you may write to",
            Step::UserNamespace | Step::GuestUserNamespace if self.errno == libc::ENOSPC => {
                "raise user.max_user_namespaces with sysctl"
            }
            Step::UserNamespace | Step::GuestUserNamespace if refused => {
                "allow user namespaces: sysctl kernel.unprivileged_userns_clone=1, or \
             kernel.apparmor_restrict_unprivileged_userns=0, or run as root"
            }
            Step::NetworkLink | Step::NetworkRules | Step::NetworkForwarding => network::REMEDY,
            Step::MountProc if refused => {
                "a container that masks /proc forbids a new one: run it with unmasked /proc \
             (--security-opt systempaths=unconfined), or on the host"
            }
            Step::MountNamespace | Step::RootTemplate | Step::PivotRoot | Step::Clone
                if refused =>
            {
                "a container or security module forbids namespaces: run on the host, or allow \
             unshare and mount"
            }
            _ if self.errno == libc::ENOSYS || self.errno == libc::EINVAL => {
                "use Linux 5.15 or newer"
            }
            _ if self.errno == libc::EMFILE || self.errno == libc::ENFILE => {
                "raise the limit of open files (ulimit -n)"
            }
            _ => "run as root, or report this with the line above",
        }
    }

    /// Whether it is about keeping sandboxes apart, and not about the place where that is done.
    pub fn is_of_isolation(&self) -> bool {
        !matches!(self.step, Step::WorkFolder)
    }
}

/// Runs steps in order: measures them, names the one that fails, and stops at a fault point.
#[derive(Debug)]
pub(crate) struct Runner<'a> {
    timings: Vec<StepTiming>,
    fault: Option<Fault>,
    reply: &'a OwnedFd,
    spawner: &'a OwnedFd,
    place: Place,
}

/// The process that runs steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The spawner.
    Spawner,
    /// A sandbox's pid 1.
    Init,
}

impl<'a> Runner<'a> {
    pub(crate) fn new(
        timings: Vec<StepTiming>,
        fault: Option<Fault>,
        reply: &'a OwnedFd,
        spawner: &'a OwnedFd,
        place: Place,
    ) -> Runner<'a> {
        Runner { timings, fault, reply, spawner, place }
    }

    pub(crate) fn run<T>(
        &mut self,
        step: Step,
        what: &str,
        action: impl FnOnce() -> io::Result<T>,
    ) -> Result<T, StepError> {
        self.point(step);
        let start = Instant::now();
        let outcome = action().map_err(|e| StepError::new(step, what, &e));
        self.timings.push(StepTiming { step, took: start.elapsed() });
        outcome
    }

    pub(crate) fn take_timings(&mut self) -> Vec<StepTiming> {
        std::mem::take(&mut self.timings)
    }

    /// Kills the victim if this is the fault's step. After the host's death everything goes on by
    /// itself, as it would if the death had come by chance at this moment.
    pub(crate) fn point(&self, step: Step) {
        let Some(fault) = self.fault.filter(|fault| fault.step == step) else { return };
        match (fault.victim, self.place) {
            (Victim::Init, Place::Init) | (Victim::Spawner, Place::Spawner) => sys::exit(137),
            (Victim::Init, Place::Spawner) => return,
            (Victim::Spawner, Place::Init) | (Victim::Host, _) => {}
        }
        let _ = wire::send(self.reply.as_fd(), &FromSpawner::Fault(fault.victim), &[], true);
        // The spawner waits for the host's end of the socket to close, pid 1 for the spawner's death.
        let (fd, events) = match self.place {
            Place::Spawner => (self.reply, PollFlags::HUP),
            Place::Init => (self.spawner, PollFlags::IN),
        };
        let mut polls = [PollFd::new(fd, events)];
        let _ = rustix::event::poll(&mut polls, None);
    }
}

/// How long a step took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepTiming {
    /// Which step.
    pub step: Step,
    /// Wall time.
    pub took: Duration,
}

/// What [`crate::probe`] found about one thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepReport {
    /// Name of the step or of the thing that was looked at.
    pub name: String,
    /// What came of it.
    pub outcome: StepOutcome,
    /// In words.
    pub explanation: String,
    /// What to do about it; empty when nothing is wrong.
    pub remedy: String,
}

/// What came of a probed step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepOutcome {
    /// It holds.
    Holds,
    /// It works in a lesser way, which the explanation names.
    Lesser,
    /// It failed; sandboxes cannot be made.
    Fails,
    /// An earlier step failed, so that it was not reached.
    NotReached,
}
