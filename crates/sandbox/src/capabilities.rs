//! What this machine and this user allow: said, never silently missing.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::spec::{Isolation, Network};
use crate::step::Step;

/// What sandboxes made here have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// How sandboxes are kept apart.
    pub isolation: Isolation,
    /// How the ids inside map to the host's.
    pub ids: IdMode,
    /// Whether memory is limited.
    pub memory_limit: bool,
    /// Whether memory's peak and out-of-memory kills are counted.
    pub memory_accounting: bool,
    /// Whether the number of processes is limited by a control group (else by `RLIMIT_NPROC`, and
    /// only where ids allow).
    pub processes_limit: bool,
    /// Whether processor shares are weighed.
    pub cpu_weight: bool,
    /// Whether processor time can be limited.
    pub cpu_quota: bool,
    /// Version of the kernel's Landlock interface that guests are held by; 0: none.
    pub landlock: u32,
    /// How freezing is done.
    pub freeze: FreezeMode,
    /// What `/tmp` is made of.
    pub tmp: TmpMode,
    /// How sandboxes reach the network; never [`Network::NatIfPossible`].
    pub network: Network,
    /// Name servers that only this machine reaches, which sandboxes ask through its own process.
    pub relayed_name_servers: Vec<IpAddr>,
    /// How `/bin/sh` is made to be bash.
    pub shell: ShellView,
    /// Whether host files are seen as root's inside.
    pub host_files_seen_as_root: bool,
    /// Programs that Amazon Linux has and the root file system here lacks, each with the Debian
    /// package that brings it.
    pub missing_programs: Vec<(String, String)>,
    /// The same of each of [`crate::Config::more_rootfs`].
    pub more_missing_programs: BTreeMap<String, Vec<(String, String)>>,
    /// Everything that is lesser than it could be.
    pub notes: Vec<Note>,
}

/// Something that is lesser than it could be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// The step that found it.
    pub step: Step,
    /// What it costs.
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl Note {
    pub(crate) fn new(step: Step, what: impl Into<String>, remedy: impl Into<String>) -> Note {
        Note { step, what: what.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}

/// How the ids inside map to the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum IdMode {
    /// Root: each sandbox's guest has a host id of its own.
    Own,
    /// Ordinary user with subordinate ids: pid 1 and the guest have different ids.
    Two,
    /// Ordinary user without: pid 1 (or the keeper) and the guest are the same user.
    One,
}

/// How freezing is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FreezeMode {
    /// cgroup v2 `cgroup.freeze`.
    CgroupV2,
    /// cgroup v1 freezer.
    CgroupV1,
    /// SIGSTOP and SIGCONT, which the guest can see.
    Signals,
}

/// What `/tmp` is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TmpMode {
    /// An ext4 image on a loop device: not charged to memory.
    Image,
    /// A tmpfs; the memory limit, if there is one, is raised by its size.
    Tmpfs,
    /// It is the host's; `TMPDIR` names a folder of the sandbox's own, of no limited size
    /// ([`Isolation::Process`]).
    Folder,
}

/// How `/bin/sh` is made to be bash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ShellView {
    /// It is bash already, or the root file system is not the host's.
    AsIs,
    /// A read-only mount on the link itself.
    MountOnLink,
    /// It could not be done, or there is no bash: `/bin/sh` is the host's own.
    HostShell,
}
