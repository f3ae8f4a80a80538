//! One sandbox: what is done outside of it. That is all up to the clone of its pid 1, and for one
//! that was made ahead, what only its user knows: limits and views.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Mode, OFlags};

use super::{Living, Parts, READY_IMAGES, READY_PARTS, READY_SIZES, Spawner, Unfilled, Waiting};
use crate::capabilities::{IdMode, TmpMode};
use crate::cgroup::{Group, Limits};
use crate::init::{self, Kit};
use crate::network;
use crate::spec::{Bind, Spec};
use crate::step::{Place, Runner, Step, StepError, StepTiming};
use crate::sys::{self, Cloned};
use crate::wire::{self, FromSpawner};

/// In a burst on one processor the next sandbox waits so long, at most, for the guest of this one.
const FOR_ITS_GUEST: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

const NAMESPACES: u64 = (libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS) as u64;

/// A pid 1, as the spawner sees it.
struct Clone {
    pid: rustix::process::Pid,
    /// Where something is to be done later: its mount namespace, and where its first guest is told
    /// its program.
    later: Option<(OwnedFd, OwnedFd)>,
}

impl Spawner {
    /// Makes a sandbox now, or as soon as its image is ready.
    pub(super) fn create(&mut self, request: Waiting) -> io::Result<()> {
        if self.capabilities.tmp == TmpMode::Tmpfs {
            return self.start(request, None);
        }
        let bytes = request.spec.tmp_bytes;
        let known = self.stocks.contains_key(&bytes);
        if !known && self.stocks.len() >= READY_SIZES {
            // Sizes in use are few: forget one that nobody waits for.
            let idle = self.stocks.iter().find(|(_, s)| s.waiting.is_empty() && s.asked == 0);
            let idle = idle.map(|(bytes, _)| *bytes);
            idle.and_then(|bytes| self.stocks.remove(&bytes));
        }
        let stock = self.stocks.entry(bytes).or_default();
        match stock.ready.pop() {
            // Another one is made when this start is over, not beside it.
            Some(mount) => self.start(request, Some(mount)),
            None => {
                stock.waiting.push_back(request);
                self.order_images(bytes)
            }
        }
    }

    /// Asks for images of this size until enough are under way.
    pub(super) fn order_images(&mut self, bytes: u64) -> io::Result<()> {
        let Some(maker) = &self.maker else { return Ok(()) };
        let stock = self.stocks.entry(bytes).or_default();
        while stock.ready.len() + stock.asked < READY_IMAGES + stock.waiting.len() {
            match maker.ask(bytes) {
                Ok(()) => stock.asked += 1,
                // Its queue is full: each answer asks again.
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && stock.asked > 0 => break,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Makes ready what the next sandboxes need, one thing at a time; whether there is more to do.
    pub(super) fn make_ready(&mut self) -> io::Result<bool> {
        let sizes: Vec<u64> = self.stocks.keys().copied().collect();
        sizes.into_iter().try_for_each(|bytes| self.order_images(bytes))?;
        let addresses = &self.addresses;
        let stale = self.parts.iter().position(|p| {
            p.network.as_ref().is_some_and(|network| network.addresses != *addresses)
        });
        if let Some(stale) = stale {
            let parts = self.parts.swap_remove(stale);
            self.groups.remove(parts.group.number());
            self.release(parts.network.and_then(|network| network.seat));
        }
        if self.parts.len() >= READY_PARTS {
            return Ok(false);
        }
        // What cannot be made ahead is tried again, and reported, when it is needed.
        let Ok(parts) = self.make_parts_ahead() else { return Ok(false) };
        self.parts.push(parts);
        Ok(true)
    }

    /// Takes in what the maker has made.
    pub(super) fn images(&mut self) -> io::Result<()> {
        loop {
            let Some(maker) = &mut self.maker else { return Ok(()) };
            let Some((made, mount)) = maker.answer(false)? else { return Ok(()) };
            let stock = self.stocks.entry(made.bytes).or_default();
            stock.asked = stock.asked.saturating_sub(1);
            let waiting = stock.waiting.pop_front();
            match (waiting, mount) {
                (Some(request), Some(mount)) => {
                    self.start(request, Some(mount))?;
                    self.order_images(made.bytes)?;
                }
                (None, Some(mount)) => stock.ready.push(mount),
                (Some(request), None) => {
                    let error =
                        StepError { step: Step::TmpImage, what: made.what, errno: made.errno };
                    self.fail(request.ticket, error)?;
                }
                // Made ahead in vain; the next request of this size asks again and is told.
                (None, None) => {}
            }
        }
    }

    /// What every sandbox needs.
    pub(super) fn make_parts(&mut self) -> Result<Parts, StepError> {
        let user = self.ids.next_guest();
        let (uids, gids) = self.ids.maps();
        let namespace = crate::ids::make_namespace(self.proc.as_fd(), &uids, &gids);
        let namespace = namespace
            .map_err(|e| StepError::new(Step::GuestUserNamespace, "make a user namespace", &e))?;
        let group = self.groups.make();
        let group = group.map_err(|e| StepError::new(Step::Cgroup, "make a control group", &e))?;
        Ok(Parts { group, namespace, user, network: None })
    }

    /// What every sandbox needs, with what can be done ahead.
    pub(super) fn make_parts_ahead(&mut self) -> Result<Parts, StepError> {
        let mut parts = self.make_parts()?;
        // It is tried again, and reported, when it is needed.
        parts.network = self.prepare_network(parts.user).ok();
        Ok(parts)
    }

    fn prepare_network(&mut self, user: u32) -> io::Result<network::Prepared> {
        let (proc, own) = (self.proc.as_fd(), self.own_network.as_fd());
        network::prepare(proc, own, &self.addresses, self.way.as_mut(), user)
    }

    /// A way to the outside is made here, which pid 1 could not; mostly it was made ahead.
    fn connect(&mut self, parts: &mut Parts) -> Result<(), StepError> {
        if self.way.is_none()
            || parts.network.as_ref().is_some_and(|n| n.addresses == self.addresses)
        {
            return Ok(());
        }
        self.release(parts.network.take().and_then(|network| network.seat));
        let made = self.prepare_network(parts.user);
        let what = "connect a network namespace to the router";
        parts.network = Some(made.map_err(|e| StepError::new(Step::Network, what, &e))?);
        Ok(())
    }

    fn start(&mut self, request: Waiting, tmp: Option<OwnedFd>) -> io::Result<()> {
        let ticket = request.ticket;
        match self.clone_sandbox(request, tmp) {
            Ok(()) => Ok(()),
            Err(error) => self.fail(ticket, error),
        }
    }

    fn clone_sandbox(&mut self, request: Waiting, tmp: Option<OwnedFd>) -> Result<(), StepError> {
        let start = Instant::now();
        let addresses = network::addresses(&request.spec.listeners);
        if addresses != self.addresses {
            // What is ready has others; the next ones are made with these.
            self.addresses = addresses;
        }
        let mut parts = match self.parts.pop() {
            Some(parts) => parts,
            None => self.make_parts()?,
        };
        if let Err(error) = self.connect(&mut parts) {
            self.groups.remove(parts.group.number());
            return Err(error);
        }
        let seat = parts.network.as_ref().and_then(|network| network.seat);
        let mut timings =
            vec![StepTiming { step: Step::GuestUserNamespace, took: start.elapsed() }];
        let spawner = &*self;
        let outcome = spawner.clone_with(&request, &parts, tmp.as_ref(), &mut timings);
        match outcome {
            Ok(Clone { pid, later }) => {
                let (ticket, group) = (request.ticket, parts.group.number());
                let unfilled = later.map(|(mounts, orders)| Unfilled {
                    mounts,
                    group: parts.group,
                    limits: limits(&request.spec, tmp.is_none()),
                    orders,
                    tmpfs: tmp.is_none(),
                });
                self.living.insert(pid, Living { ticket, group, seat, unfilled });
                self.tickets.insert(ticket, pid);
                Ok(())
            }
            Err(error) => {
                self.groups.remove(parts.group.number());
                self.release(seat);
                Err(error)
            }
        }
    }

    /// Clones pid 1 into a mount namespace of its own.
    fn clone_with(
        &self,
        request: &Waiting,
        parts: &Parts,
        tmp: Option<&OwnedFd>,
        timings: &mut Vec<StepTiming>,
    ) -> Result<Clone, StepError> {
        let spec = &*request.spec;
        let fault = self.config.fault;
        let timings = std::mem::take(timings);
        let mut runner = Runner::new(timings, fault, &self.socket, &self.own_pidfd, Place::Spawner);
        let orders = wire::pair()
            .map_err(|e| StepError::new(Step::Clone, "make a socket for the first guest", &e))?;
        limit(&mut runner, &parts.group, limits(spec, tmp.is_none()), None)?;
        let binds = if request.fill { self.views(&mut runner, &spec.binds)? } else { Vec::new() };
        let new_mounts = || {
            // The new mounts are a copy of those that are around the spawner at this moment.
            let other = spec.rootfs.as_ref().and_then(|name| self.more_roots.get(name));
            if other.is_some() || !binds.is_empty() {
                let root = other.unwrap_or(&self.own_mounts);
                sys::setns(root.as_fd(), libc::CLONE_NEWNS)?;
            }
            sys::unshare(libc::CLONE_NEWNS)
        };
        let first = Instant::now();
        let made = new_mounts()
            .map_err(|e| StepError::new(Step::Clone, "make a mount namespace", &e))
            .and_then(|()| {
                let mounted = first.elapsed();
                if request.fill {
                    attach(&mut runner, &binds)?;
                }
                if let Some(command) = &request.first {
                    order(orders.0.as_fd(), command)?;
                }
                runner.point(Step::Clone);
                let second = Instant::now();
                let failed = |e| StepError::new(Step::Clone, "clone into new namespaces", &e);
                let mounts = if request.fill { None } else { Some(self.here().map_err(failed)?) };
                let cloned = sys::clone_process(NAMESPACES, None).map_err(failed)?;
                Ok((cloned, mounts, mounted + second.elapsed()))
            });
        let (pid, mounts) = match made {
            Err(error) => {
                self.go_home();
                return Err(error);
            }
            Ok((Cloned::Parent { pid }, mounts, _)) => (pid, mounts),
            Ok((Cloned::Child, _, took)) => {
                sys::CloneMemory::begin();
                let mut timings = runner.take_timings();
                timings.push(StepTiming { step: Step::Clone, took });
                init::run(Kit {
                    ticket: request.ticket,
                    spec,
                    user: &self.config.user,
                    mode: self.ids.mode,
                    filter: &self.filter,
                    control: &request.control,
                    orders: &orders,
                    output: &request.output,
                    reply: &self.socket,
                    spawner: &self.own_pidfd,
                    null: &self.null,
                    namespace: &parts.namespace,
                    network: parts.network.as_ref(),
                    group: &parts.group,
                    tmp,
                    keep_proc: self.ids.mode != IdMode::Own,
                    landlock: self.capabilities.landlock,
                    makers: &self.makers,
                    fault,
                    timings,
                })
            }
        };
        self.go_home();
        let (orders, guests_end) = orders;
        drop(guests_end);
        if self.makers.one_by_one() && request.first.is_some() {
            // Its guest executes the program, or is dead.
            let mut executes = [PollFd::new(&orders, PollFlags::empty())];
            let _ = rustix::event::poll(&mut executes, Some(&FOR_ITS_GUEST));
        }
        Ok(Clone { pid, later: mounts.map(|mounts| (mounts, orders)) })
    }

    /// Does what was left out when a sandbox was made ahead.
    pub(super) fn fill(
        &mut self,
        ticket: u64,
        spec: &Spec,
        first: Option<&[u8]>,
    ) -> io::Result<()> {
        let living = self.tickets.get(&ticket).and_then(|pid| self.living.get_mut(pid));
        // It died, which the host was told before.
        let Some(living) = living else { return Ok(()) };
        let Some(unfilled) = living.unfilled.take() else {
            return Err(io::Error::from_raw_os_error(libc::EPROTO));
        };
        let fault = self.config.fault;
        let (socket, own) = (&self.socket, &self.own_pidfd);
        let mut runner = Runner::new(Vec::new(), fault, socket, own, Place::Spawner);
        let wanted = limits(spec, unfilled.tmpfs);
        let filled = limit(&mut runner, &unfilled.group, wanted, Some(unfilled.limits))
            .and_then(|()| self.views(&mut runner, &spec.binds))
            .and_then(|binds| {
                if binds.is_empty() {
                    return Ok(());
                }
                let entered = sys::setns(unfilled.mounts.as_fd(), libc::CLONE_NEWNS).map_err(|e| {
                    StepError::new(Step::MountBinds, "enter the sandbox's mounts", &e)
                });
                let attached = entered.and_then(|()| attach(&mut runner, &binds));
                self.go_home();
                attached
            })
            .and_then(|()| match first {
                Some(command) => order(unfilled.orders.as_fd(), command),
                None => Ok(()),
            });
        self.spent.push(unfilled);
        match filled {
            Ok(()) => self.say(&FromSpawner::Filled { ticket, timings: runner.take_timings() }),
            // The host lets go of it, and pid 1 ends.
            Err(error) => self.fail(ticket, error),
        }
    }

    /// The mount namespace that this process is in now.
    fn here(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(&self.proc, "self/ns/mnt", flags, Mode::empty())?)
    }

    /// Returns to the spawner's own mounts. Elsewhere nothing may be done: an error ends it.
    fn go_home(&self) {
        if sys::setns(self.own_mounts.as_fd(), libc::CLONE_NEWNS).is_err() {
            sys::exit(1);
        }
    }

    /// Views of the sources, which are looked up in the mount namespace that follows the host's.
    /// Where there are any this process stays there, unless it failed: it goes elsewhere next.
    fn views(
        &self,
        runner: &mut Runner<'_>,
        binds: &[Bind],
    ) -> Result<Vec<(OwnedFd, String)>, StepError> {
        runner.run(Step::BindViews, "make views of the bound folders", || {
            if binds.is_empty() {
                return Ok(Vec::new());
            }
            sys::setns(self.host_mounts.as_fd(), libc::CLONE_NEWNS)?;
            let id_map = self.file_map.as_ref().map(AsFd::as_fd);
            let views: io::Result<_> = binds
                .iter()
                .map(|bind| {
                    crate::mount::view(&bind.source, id_map)
                        .map(|(fd, _)| (fd, bind.target.clone()))
                })
                .collect();
            if views.is_err() {
                self.go_home();
            }
            views
        })
    }
}

/// Tells a first guest its program.
fn order(orders: BorrowedFd<'_>, command: &[u8]) -> Result<(), StepError> {
    wire::send_bytes(orders, command, &[], false)
        .map_err(|e| StepError::new(Step::GuestExec, "tell the first guest its program", &e))
}

fn limits(spec: &Spec, tmpfs: bool) -> Limits {
    // Pages of a tmpfs are charged to the guest: without an image the limit makes room.
    let room = if tmpfs { spec.tmp_bytes } else { 0 };
    Limits {
        memory_bytes: if spec.memory_bytes == 0 {
            0
        } else {
            spec.memory_bytes.saturating_add(room)
        },
        processes: spec.processes,
        cpu_weight: spec.cpu_weight,
        cpu_quota_us: spec.cpu_quota_us,
    }
}

/// Sets the limits of a sandbox that has none, or these.
fn limit(
    runner: &mut Runner<'_>,
    group: &Group,
    limits: Limits,
    set: Option<Limits>,
) -> Result<(), StepError> {
    runner.run(Step::Cgroup, "limit the control group", || group.limit(limits, set))
}

/// Attaches views where this process is.
fn attach(runner: &mut Runner<'_>, binds: &[(OwnedFd, String)]) -> Result<(), StepError> {
    runner.run(Step::MountBinds, "attach views", || {
        binds.iter().try_for_each(|(fd, target)| crate::mount::attach(fd, Path::new(target)))
    })
}
