//! What is done once, before the first sandbox.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountPropagationFlags;
use rustix::process::Resource;

use super::{Parts, Spawner};
use crate::capabilities::{Capabilities, FreezeMode, IdMode, Note, TmpMode};
use crate::cgroup::{self, Hierarchies};
use crate::ids::{self, Ids};
use crate::landlock;
use crate::network::{self, Nat, Shared, Way};
use crate::processors::Makers;
use crate::seccomp::Filter;
use crate::spec::{Config, Isolation, Network, Rootfs};
use crate::step::{Step, StepError};
use crate::sys;
use crate::template;
use crate::tmp::Maker;

/// Size of the image that shows whether images can be made.
const TRIAL_BYTES: u64 = 16 << 20;

/// The host has swept before: the lock is free, or free in a moment.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

fn step<T>(step: Step, what: &str, result: io::Result<T>) -> Result<T, StepError> {
    result.map_err(|e| StepError::new(step, what, &e))
}

fn named<T>(step: Step, result: Result<T, template::Failed>) -> Result<T, StepError> {
    result.map_err(|(what, e)| StepError::new(step, what, &e))
}

pub(super) fn prepare(
    config: Config,
    socket: OwnedFd,
    null: OwnedFd,
) -> Result<Spawner, StepError> {
    let mut notes = Vec::new();
    let signals = step(Step::WorkFolder, "watch children", sys::signal_fd(&[libc::SIGCHLD]))?;
    raise_open_files();
    let host = rustix::process::getppid().map_or(0, |p| p.as_raw_nonzero().get() as u32);
    let missing = |rootfs: &Rootfs| {
        crate::programs::missing(match rootfs {
            Rootfs::Host => Path::new("/"),
            Rootfs::Dir(dir) => dir,
        })
    };
    let missing_programs = missing(&config.rootfs);
    let more = config.more_rootfs.iter();
    let more_missing_programs = more.map(|(name, root)| (name.clone(), missing(root))).collect();
    step(Step::WorkFolder, "make the work folder", fs::create_dir_all(&config.work_dir))?;

    let lock = crate::host::sweep::lock(&config.work_dir, LOCK_PATIENCE);
    let lock = step(Step::WorkFolder, "lock the work folder", lock)?;

    // Control groups first: their files are opened as the user that starts us, by its paths.
    let found = step(Step::CgroupBase, "find control groups", cgroup::find(&config.owner, host))?;
    notes.extend(found.notes);
    let mut groups = Hierarchies::new(found.list);
    record(&config, &groups);
    note_groups(&groups, &mut notes);

    let mode = user_namespace(&mut notes)?;
    if mode == IdMode::Own {
        step(Step::CgroupBase, "let pid 1 use control groups", groups.allow(ids::ROOT_VIEW))?;
    }
    let own_pidfd = rustix::process::pidfd_open(
        rustix::process::getpid(),
        rustix::process::PidfdFlags::empty(),
    );
    let own_pidfd =
        step(Step::UserNamespace, "open a descriptor of itself", own_pidfd.map_err(Into::into))?;
    let ids = Ids::new(mode, config.user.clone(), &config.owner);

    let proc = rustix::fs::open("/proc", OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let proc = step(Step::UserNamespace, "open /proc", proc.map_err(Into::into))?;
    let way = enter_network(&config, mode, proc.as_fd(), &mut notes)?;
    let own_network = network::open_own(proc.as_fd());
    let own_network = step(Step::UserNamespace, "open its network namespace", own_network)?;
    let file_map = match ids.file_map() {
        None => None,
        Some(map) => Some(step(
            Step::UserNamespace,
            "make a user namespace for views",
            ids::make_namespace(proc.as_fd(), &map, &map),
        )?),
    };
    let host_mounts = mount_namespace(MountPropagationFlags::DOWNSTREAM)?;
    let maker = image_maker(mode, &config, &ids, &mut notes)?;
    let id_map = file_map.as_ref().map(AsFd::as_fd);
    let resolv_conf = match &way {
        Some(Way::Nat(nat)) => nat.resolver.text.clone(),
        Some(Way::Shared(_)) | None => fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
    };
    let enter_root = |rootfs: &Rootfs, notes: &mut Vec<Note>| {
        let mounts = mount_namespace(MountPropagationFlags::PRIVATE)?;
        let place = config.work_dir.join("root");
        let template = named(
            Step::RootTemplate,
            template::build(
                &config,
                rootfs,
                &ids,
                &place,
                id_map,
                mode != IdMode::Own,
                &resolv_conf,
            ),
        )?;
        named(Step::PivotRoot, template::pivot(&place))?;
        notes.extend(template.notes.iter().cloned());
        Ok((mounts, template))
    };
    let mut more_roots = BTreeMap::new();
    for (name, rootfs) in &config.more_rootfs {
        let (mounts, _) = enter_root(rootfs, &mut notes)?;
        more_roots.insert(name.clone(), mounts);
        let back = sys::setns(host_mounts.as_fd(), libc::CLONE_NEWNS);
        step(Step::MountNamespace, "return to the host's mounts", back)?;
    }
    let (own_mounts, template) = enter_root(&config.rootfs, &mut notes)?;
    let filter = Filter::compile();
    let landlock = landlock::version().unwrap_or_else(|reason| {
        notes.push(Note::new(
            Step::Landlock,
            format!("there is no second wall around files: no Landlock, {reason}"),
            "use Linux 5.19 or newer, with landlock in its list of security modules (lsm=)",
        ));
        0
    });

    let tmp = if maker.is_some() { TmpMode::Image } else { TmpMode::Tmpfs };
    let capabilities = Capabilities {
        isolation: Isolation::Namespace,
        ids: mode,
        memory_limit: groups.has_memory(),
        memory_accounting: groups.has_memory(),
        processes_limit: groups.has_pids(),
        cpu_weight: groups.has_cpu(),
        cpu_quota: groups.has_cpu_quota(),
        landlock,
        freeze: groups.freeze_mode(),
        tmp,
        network: match &way {
            Some(Way::Nat(_)) => Network::Nat,
            Some(Way::Shared(_)) => Network::Host,
            None => Network::None,
        },
        relayed_name_servers: match &way {
            Some(Way::Nat(nat)) => nat.resolver.relayed.clone(),
            _ => Vec::new(),
        },
        shell: template.shell,
        host_files_seen_as_root: template.seen_as_root,
        missing_programs,
        more_missing_programs,
        notes,
    };
    let mut spawner = Spawner {
        socket,
        _lock: lock,
        signals,
        own_pidfd,
        null,
        proc,
        host_mounts,
        own_mounts,
        more_roots,
        own_network,
        way,
        addresses: Vec::new(),
        file_map,
        ids,
        filter,
        groups,
        maker,
        makers: Makers::new(),
        capabilities,
        parts: Vec::new(),
        stocks: Default::default(),
        living: Default::default(),
        spent: Vec::new(),
        tickets: Default::default(),
        config,
    };
    // The first one shows whether they can be made at all.
    let parts: Parts = spawner.make_parts()?;
    spawner.parts.push(parts);
    for bytes in spawner.config.tmp_ready_bytes.clone() {
        spawner
            .order_images(bytes)
            .map_err(|e| StepError::new(Step::TmpImage, "ask for images", &e))?;
    }
    Ok(spawner)
}

fn raise_open_files() {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // With the lower limit fewer sandboxes can be made at once, which they then say.
    let _ = rustix::process::setrlimit(Resource::Nofile, limit);
}

/// Writes down where our control groups are, for the sweep of a run that starts elsewhere.
fn record(config: &Config, groups: &Hierarchies) {
    let list: Vec<_> = groups.list.iter().map(|h| h.path.as_path()).collect();
    if let Ok(text) = serde_json::to_vec(&list) {
        let _ = fs::write(config.work_dir.join("cgroups.json"), text);
    }
}

fn note_groups(groups: &Hierarchies, notes: &mut Vec<Note>) {
    let mut note = |what| notes.push(Note::new(Step::CgroupBase, what, cgroup::REMEDY));
    if !groups.has_memory() {
        note("memory is neither limited nor measured: no control group");
    }
    if !groups.has_pids() {
        note("the number of processes is limited by RLIMIT_NPROC only: no control group");
    }
    if !groups.has_cpu() {
        note("processor shares are not weighed: no control group");
    }
    if groups.freeze_mode() == FreezeMode::Signals {
        note("idle sandboxes are stopped by SIGSTOP, which guests can see: no control group");
    }
}

fn user_namespace(notes: &mut Vec<Note>) -> Result<IdMode, StepError> {
    if ids::is_real_root() {
        return Ok(IdMode::Own);
    }
    let (mode, reason) =
        step(Step::UserNamespace, "enter a user namespace", ids::enter_own_namespace())?;
    notes.push(Note::new(
        Step::UserNamespace,
        "host files are seen as nobody's: only root can map their owner",
        "run as root where a program insists on files of root's",
    ));
    if mode == IdMode::One {
        notes.push(Note::new(
            Step::UserNamespace,
            format!("pid 1 and the guest of a sandbox are the same user: {reason}"),
            "install the Debian package uidmap and give the user a range in /etc/subuid and \
             /etc/subgid",
        ));
    }
    Ok(mode)
}

/// Enters a network namespace: the router's, or an empty one. The spawner needs no network itself.
fn enter_network(
    config: &Config,
    mode: IdMode,
    proc: BorrowedFd<'_>,
    notes: &mut Vec<Note>,
) -> Result<Option<Way>, StepError> {
    let empty = || {
        let entered = sys::unshare(libc::CLONE_NEWNET);
        step(Step::UserNamespace, "enter a network namespace", entered)
    };
    let made = match (config.network, mode) {
        (Network::None, _) => {
            empty()?;
            return Ok(None);
        }
        (Network::Host, IdMode::Own) => Shared::start(&config.owner, proc).map(Way::Shared),
        (Network::Nat | Network::NatIfPossible, IdMode::Own) => {
            // For the sweep of the next run.
            let marked = fs::write(config.work_dir.join(network::MARK), "");
            step(Step::NetworkLink, "mark the work folder", marked)
                .and_then(|()| Nat::start(&config.owner, proc))
                .map(Way::Nat)
        }
        (network, IdMode::Two | IdMode::One) => {
            empty()?;
            let (at, what) = if network == Network::Host {
                (Step::NetworkRules, "keep sandboxes' listeners apart as an ordinary user")
            } else {
                (Step::NetworkLink, "make a link to the host's network as an ordinary user")
            };
            step(at, what, Err(io::Error::from_raw_os_error(libc::EPERM)))
        }
    };
    match made {
        Err(error) if config.network == Network::NatIfPossible => {
            let what = format!("sandboxes reach no network ({error})");
            notes.push(Note::new(error.step, what, network::REMEDY));
            Ok(None)
        }
        Ok(way) => {
            notes.extend(no_resolver(&way));
            Ok(Some(way))
        }
        Err(error) => Err(error),
    }
}

fn no_resolver(way: &Way) -> Option<Note> {
    let Way::Nat(nat) = way else { return None };
    let resolver = &nat.resolver;
    let refused = resolver.refused.join(", ");
    (resolver.servers.is_empty() && resolver.relayed.is_empty()).then(|| {
        Note::new(
            Step::NetworkRules,
            format!(
                "sandboxes cannot resolve names: no name server of /etc/resolv.conf can be reached \
                 from there ({refused})"
            ),
            "add a name server by its IPv4 address; for one of this machine's or of IPv6 the kernel \
             has to have the module nft_limit, and its address may name no interface",
        )
    })
}

/// Enters a new mount namespace and returns it.
fn mount_namespace(propagation: MountPropagationFlags) -> Result<OwnedFd, StepError> {
    let entered = sys::unshare(libc::CLONE_NEWNS).and_then(|()| {
        rustix::mount::mount_change("/", propagation | MountPropagationFlags::REC)?;
        template::own_namespace("mnt")
    });
    step(Step::MountNamespace, "enter a mount namespace", entered)
}

/// The helper that makes images, if a trial shows that it can.
fn image_maker(
    mode: IdMode,
    config: &Config,
    ids: &Ids,
    notes: &mut Vec<Note>,
) -> Result<Option<Maker>, StepError> {
    let reason = if mode == IdMode::Own {
        let maker = Maker::start(&config.work_dir, ids.root_owner());
        let mut maker = step(Step::TmpImage, "start the maker of images", maker)?;
        let trial = maker.ask(TRIAL_BYTES).and_then(|()| maker.answer(true));
        match trial {
            Ok(Some((made, Some(_)))) if made.errno == 0 => return Ok(Some(maker)),
            Ok(Some((made, _))) => {
                format!("{}: {}", made.what, io::Error::from_raw_os_error(made.errno))
            }
            Ok(None) => "no answer".to_owned(),
            Err(e) => e.to_string(),
        }
    } else {
        "only root can use loop devices".to_owned()
    };
    notes.push(Note::new(
        Step::TmpImage,
        format!("/tmp is a tmpfs, and the memory limit (if any) is raised by its size: {reason}"),
        "run as root with loop devices and the Debian package e2fsprogs",
    ));
    Ok(None)
}
