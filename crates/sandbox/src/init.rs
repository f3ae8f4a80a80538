//! A sandbox's pid 1: a clone of the spawner that executes nothing, sets the sandbox up from the
//! inside, and then starts, signals and reaps guests until its control socket closes.

pub(crate) mod guest;
mod setup;
mod watch;

pub(crate) use watch::exit_status;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::capabilities::IdMode;
use crate::cgroup::Group;
use crate::network::Prepared;
use crate::processors::Makers;
use crate::seccomp::Filter;
use crate::spec::{Fault, Spec, User};
use crate::step::{Place, Runner, StepTiming};
use crate::sys;
use crate::wire::{self, FromSpawner};

/// What a clone takes along from the spawner. Everything else of the spawner's is closed first.
pub(crate) struct Kit<'a> {
    pub(crate) ticket: u64,
    pub(crate) spec: &'a Spec,
    pub(crate) user: &'a User,
    pub(crate) mode: IdMode,
    pub(crate) filter: &'a Filter,
    /// The other end of the host's control socket.
    pub(crate) control: &'a OwnedFd,
    /// Write end of the guests' output.
    pub(crate) output: &'a OwnedFd,
    /// Where the first guest is told its program, and its own end of it. The spawner has the former
    /// too.
    pub(crate) orders: &'a (OwnedFd, OwnedFd),
    /// The spawner's socket to the host, for one message.
    pub(crate) reply: &'a OwnedFd,
    /// Tells when the spawner is dead.
    pub(crate) spawner: &'a OwnedFd,
    /// `/dev/null`.
    pub(crate) null: &'a OwnedFd,
    pub(crate) namespace: &'a OwnedFd,
    pub(crate) network: Option<&'a Prepared>,
    pub(crate) group: &'a Group,
    pub(crate) tmp: Option<&'a OwnedFd>,
    /// The host's `/proc` is below and has to go.
    pub(crate) keep_proc: bool,
    /// Version of the kernel's Landlock interface; 0: none.
    pub(crate) landlock: u32,
    /// The processors that the spawner was started with, and those of a burst if this is part of one.
    pub(crate) makers: &'a Makers,
    pub(crate) fault: Option<Fault>,
    pub(crate) timings: Vec<StepTiming>,
}

impl Kit<'_> {
    /// Every descriptor of the list.
    fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let group = self.group;
        [self.control, self.output, self.reply, self.spawner, self.null, self.namespace]
            .into_iter()
            .chain([&self.orders.0, &self.orders.1])
            .chain(self.tmp)
            .chain(self.network.map(|network| &network.namespace))
            .chain(group.enter.iter().map(|(fd, _)| fd))
            .chain(&group.clone_into)
            .chain(&group.peak)
            .chain(&group.oom)
            .chain(&group.freeze)
            .chain(&group.freezer)
            .map(AsFd::as_fd)
    }
}

/// The life of pid 1.
pub(crate) fn run(kit: Kit<'_>) -> ! {
    let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let mut kit = kit;
        let timings = std::mem::take(&mut kit.timings);
        let mut runner = Runner::new(timings, kit.fault, kit.reply, kit.spawner, Place::Init);
        match setup::run(&kit, &mut runner) {
            Ok(inside) => watch::run(&kit, &inside),
            Err(error) => {
                let failed = FromSpawner::Failed { ticket: kit.ticket, error };
                let _ = wire::send(kit.reply.as_fd(), &failed, &[], true);
                1
            }
        }
    }));
    sys::exit(code.unwrap_or(101))
}
