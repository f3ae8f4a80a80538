//! One sandbox: what is done outside of it, up to the clone.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use super::{Living, Parts, READY_IMAGES, READY_PARTS, READY_SIZES, Spawner, Waiting};
use crate::capabilities::{IdMode, TmpMode};
use crate::cgroup::Limits;
use crate::init::{self, Kit};
use crate::network;
use crate::spec::Bind;
use crate::step::{Place, Runner, Step, StepError, StepTiming};
use crate::sys::{self, Cloned};

const NAMESPACES: u64 =
    (libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS) as u64;

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
                self.fill(bytes)
            }
        }
    }

    /// Asks for images of this size until enough are under way.
    pub(super) fn fill(&mut self, bytes: u64) -> io::Result<()> {
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
        sizes.into_iter().try_for_each(|bytes| self.fill(bytes))?;
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
                    self.fill(made.bytes)?;
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
            Ok((pid, pidfd)) => {
                let group = parts.group.number();
                self.living.insert(pid, Living { ticket: request.ticket, pidfd, group, seat });
                Ok(())
            }
            Err(error) => {
                self.groups.remove(parts.group.number());
                self.release(seat);
                Err(error)
            }
        }
    }

    fn clone_with(
        &self,
        request: &Waiting,
        parts: &Parts,
        tmp: Option<&OwnedFd>,
        timings: &mut Vec<StepTiming>,
    ) -> Result<(rustix::process::Pid, OwnedFd), StepError> {
        let spec = &*request.spec;
        let fault = self.config.fault;
        let timings = std::mem::take(timings);
        let mut runner = Runner::new(timings, fault, &self.socket, &self.own_pidfd, Place::Spawner);
        runner.run(Step::Cgroup, "limit the control group", || {
            // Pages of a tmpfs are charged to the guest: without an image the limit makes room.
            let room = if tmp.is_none() { spec.tmp_bytes } else { 0 };
            let memory_bytes =
                if spec.memory_bytes == 0 { 0 } else { spec.memory_bytes.saturating_add(room) };
            parts.group.limit(Limits {
                memory_bytes,
                processes: spec.processes,
                cpu_weight: spec.cpu_weight,
                cpu_quota_us: spec.cpu_quota_us,
            })
        })?;
        let binds = runner
            .run(Step::BindViews, "make views of the bound folders", || self.views(&spec.binds))?;
        runner.point(Step::Clone);
        let clone_start = Instant::now();
        // The clone's mounts are a copy of those that are around the spawner at this moment.
        let other_root = spec.rootfs.as_ref().and_then(|name| self.more_roots.get(name));
        let enter = |mounts: &OwnedFd| {
            sys::setns(mounts.as_fd(), libc::CLONE_NEWNS)
                .map_err(|e| StepError::new(Step::Clone, "enter the mounts of a root", &e))
        };
        if let Some(mounts) = other_root {
            enter(mounts)?;
        }
        let cloned = sys::clone_process(NAMESPACES, None);
        if other_root.is_some() && !matches!(cloned, Ok(Cloned::Child)) {
            enter(&self.own_mounts)?;
        }
        match cloned {
            Err(e) => Err(StepError::new(Step::Clone, "clone into new namespaces", &e)),
            Ok(Cloned::Parent { pid, pidfd }) => Ok((pid, pidfd)),
            Ok(Cloned::Child) => {
                let mut timings = runner.take_timings();
                timings.push(StepTiming { step: Step::Clone, took: clone_start.elapsed() });
                init::run(Kit {
                    ticket: request.ticket,
                    spec,
                    user: &self.config.user,
                    mode: self.ids.mode,
                    filter: &self.filter,
                    control: &request.control,
                    output: &request.output,
                    reply: &self.socket,
                    spawner: &self.own_pidfd,
                    null: &self.null,
                    namespace: &parts.namespace,
                    network: parts.network.as_ref(),
                    group: &parts.group,
                    binds: &binds,
                    tmp,
                    keep_proc: self.ids.mode != IdMode::Own,
                    landlock: self.capabilities.landlock,
                    fault,
                    timings,
                })
            }
        }
    }

    /// Views of the sources, which are looked up in the mount namespace that follows the host's.
    fn views(&self, binds: &[Bind]) -> io::Result<Vec<(OwnedFd, String)>> {
        if binds.is_empty() {
            return Ok(Vec::new());
        }
        sys::setns(self.host_mounts.as_fd(), libc::CLONE_NEWNS)?;
        let id_map = self.file_map.as_ref().map(AsFd::as_fd);
        let views = binds
            .iter()
            .map(|bind| {
                crate::mount::view(&bind.source, id_map).map(|(fd, _)| (fd, bind.target.clone()))
            })
            .collect();
        sys::setns(self.own_mounts.as_fd(), libc::CLONE_NEWNS)?;
        views
    }
}
