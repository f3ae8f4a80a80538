//! The steps from the clone to a sandbox that is ready.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{Gid, Uid};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::{DumpableBehavior, Signal};

use super::Kit;
use crate::capabilities::IdMode;
use crate::landlock;
use crate::mount;
use crate::network;
use crate::step::{Runner, Step, StepError};
use crate::sys;
use crate::wire::{self, FromSpawner, StatFiles};

/// What pid 1 has of its own when everything is set up.
pub(super) struct Inside {
    /// SIGCHLD is read from it.
    pub(super) signals: OwnedFd,
    /// Landlock rules for guests, where the kernel has them.
    pub(super) rules: Option<OwnedFd>,
}

/// Does every step.
pub(super) fn run(kit: &Kit<'_>, runner: &mut Runner<'_>) -> Result<Inside, StepError> {
    let signals = runner.run(Step::Detach, "leave the spawner's process", || detach(kit))?;
    runner.run(Step::MountProc, "mount /proc", || mount_proc(kit))?;
    runner.run(Step::MountTmp, "attach /tmp", || mount_tmp(kit))?;
    let rules = runner.run(Step::Landlock, "make Landlock rules", || match kit.landlock {
        0 => Ok(None),
        version => landlock::rules(version).map(Some),
    })?;
    runner.run(Step::Hostname, "set the host name", || {
        let name = kit.spec.hostname.as_bytes();
        if name.is_empty() { Ok(()) } else { Ok(rustix::system::sethostname(name)?) }
    })?;
    let addresses = network::addresses(&kit.spec.listeners);
    runner.run(Step::Network, "enter a network namespace", || {
        network::enter(kit.network, &addresses)
    })?;
    let listeners = runner
        .run(Step::Listeners, "listen", || network::listen_all(kit.network, &kit.spec.listeners))?;
    runner.run(Step::EnterUserNamespace, "enter the user namespace", || {
        sys::setns(kit.namespace.as_fd(), libc::CLONE_NEWUSER)
    })?;
    runner.run(Step::InitCredentials, "change credentials", || credentials(kit))?;
    runner.run(Step::Ready, "report to the host", || Ok(()))?;
    ready(kit, runner, &listeners)
        .map_err(|e| StepError::new(Step::Ready, "report to the host", &e))?;
    Ok(Inside { signals, rules })
}

fn detach(kit: &Kit<'_>) -> io::Result<OwnedFd> {
    let keep: Vec<_> = kit.descriptors().map(|fd| fd.as_raw_fd()).chain([0, 1, 2]).collect();
    sys::close_all_but(&keep)?;
    for standard in 0..3 {
        sys::duplicate_to(kit.null.as_fd(), standard)?;
    }
    die_with_spawner(kit)?;
    rustix::thread::set_name(c"lambfold-init")?;
    // The spawner's own descriptor of its signals is closed; its mask is the one wanted here.
    sys::signal_fd(&[libc::SIGCHLD])
}

/// The kernel forgets the death signal when credentials change, so this is done after each change;
/// the spawner may have died just before.
fn die_with_spawner(kit: &Kit<'_>) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let mut poll = [PollFd::new(kit.spawner, PollFlags::IN)];
    if rustix::event::poll(&mut poll, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? > 0 {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}

fn mount_proc(kit: &Kit<'_>) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if !kit.keep_proc {
        return Ok(rustix::mount::mount("proc", "/proc", "proc", flags, None)?);
    }
    // The new one may be made only while the host's is visible here, and must not be above it.
    use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
    let context = rustix::mount::fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let fresh = rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    rustix::mount::unmount("/proc", UnmountFlags::DETACH)?;
    mount::attach(fresh, Path::new("/proc"))
}

fn mount_tmp(kit: &Kit<'_>) -> io::Result<()> {
    if let Some(fd) = kit.tmp {
        return mount::attach(fd, Path::new("/tmp"));
    }
    let owner = if kit.mode == IdMode::Own { crate::ids::ROOT_VIEW } else { 0 };
    let size = kit.spec.tmp_bytes;
    let options =
        format!("mode=1777,size={size},nr_inodes={},uid={owner},gid={owner}", inodes(size));
    let options = std::ffi::CString::new(options)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    Ok(rustix::mount::mount("tmp", "/tmp", "tmpfs", flags, Some(options.as_c_str()))?)
}

/// As many as an image of this size has.
fn inodes(bytes: u64) -> u64 {
    (bytes / crate::tmp::BYTES_PER_INODE).max(1024)
}

fn credentials(kit: &Kit<'_>) -> io::Result<()> {
    for number in 0..=63 {
        // Beyond the last capability that this kernel knows the answer is EINVAL.
        let capability = rustix::thread::CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Err(rustix::io::Errno::INVAL) => break,
            other => other?,
        }
    }
    if kit.mode != IdMode::One {
        rustix::thread::set_thread_groups(&[])?;
        rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
        rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
    }
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    die_with_spawner(kit)
}

fn ready(kit: &Kit<'_>, runner: &mut Runner<'_>, listeners: &[OwnedFd]) -> io::Result<()> {
    let group = kit.group;
    let files = StatFiles {
        peak: group.peak.is_some(),
        oom: group.oom.is_some(),
        freeze: group.freeze.is_some(),
        freezer: group.freezer.is_some(),
    };
    let fds: Vec<_> = listeners
        .iter()
        .chain(&group.peak)
        .chain(&group.oom)
        .chain(&group.freeze)
        .chain(&group.freezer)
        .map(AsFd::as_fd)
        .collect();
    let message = FromSpawner::Created {
        ticket: kit.ticket,
        timings: runner.take_timings(),
        listeners: listeners.len(),
        files,
        keeper: None,
    };
    wire::send(kit.reply.as_fd(), &message, &fds, true)
}
