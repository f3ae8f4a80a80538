pub use lambfold_environment::Processors;
use lambfold_types::{AccountId, Region};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Everything that can be chosen of a server; the command line fills it from flags,
/// environment, file and defaults.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the AWS API is served; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Where functions, layers, events and logs are kept.
    pub data: DataDir,
    /// The region of requests whose signature names none.
    pub region: Region,
    /// The account that everything belongs to.
    pub account: AccountId,
    /// The root file system of execution environments.
    pub rootfs: lambfold_sandbox::Rootfs,
    /// What is around functions.
    pub isolation: lambfold_sandbox::Isolation,
    /// What functions reach; without walls the host's network.
    pub network: lambfold_sandbox::Network,
    /// Others, by name: those with the name of a runtime are for its functions, and the tag
    /// `lambfold:rootfs` of a function names one for itself.
    pub more_rootfs: BTreeMap<String, lambfold_sandbox::Rootfs>,
    /// How processors are shared out.
    pub processors: Processors,
    /// Refuse what AWS refuses today although it works here, such as the runtime `provided`.
    pub strict: bool,
    /// Execution environments that may exist at a time; `None`: the pool's own default.
    pub max_environments: Option<u32>,
    /// MemorySize of all execution environments together, MiB; `None`: no limit.
    pub max_memory_mib: Option<u64>,
    /// Sandboxes that are made ahead of cold starts.
    pub sandbox_stock: usize,
    /// What their spawner is.
    pub spawner: lambfold_sandbox::Program,
    /// Allow a listener that is not on loopback, and functions in the host's network or without
    /// walls, although there are no credentials yet.
    pub insecure: bool,
}

/// Where a server keeps its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataDir {
    /// A folder that outlives the server.
    Persistent(PathBuf),
    /// A temporary folder, gone with the server; nothing is synced to disk.
    Ephemeral,
}
