use crate::context::Context;
use crate::core::Core;
use crate::environment::{Environment, Folders, Inner};
use crate::fault::BOOTSTRAPS;
use crate::hint::MissingPrograms;
use crate::isolation::{Isolation, Made, MakeError};
use crate::output::{Output, Sink, Writer};
use crate::shell::{FOREVER, Place};
use crate::{keeper, variables};
use lambfold_fault::Faults;
use lambfold_logs::{Logs, stream_name};
use lambfold_package::{Finding, PackageError, Trees};
use lambfold_runtime_api::{Limits, serve};
use lambfold_sandbox::{Bind, CPU_PERIOD_US, Command, CreateError, Network, Sandboxes, Spec};
use lambfold_trace::Hub;
use lambfold_types::{
    Clock, Digest, FunctionVersion, InitializationType, ROOTFS_TAG, SystemClock, limits,
};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

/// MemorySize that buys one processor, MiB.
const MIB_PER_CPU: u32 = 1769;
/// Least budget of the init phase of a provisioned environment; a longer timeout is a longer one.
const PROVISIONED_INIT: Duration = Duration::from_secs(130);
/// Share of one processor, as cgroup v2 counts.
const WEIGHT_PER_CPU: u32 = 100;

/// How environments are made.
#[derive(Clone)]
pub struct LauncherConfig {
    /// For log times and durations; deadlines are tokio's.
    pub clock: Arc<dyn Clock>,
    /// The folder that guests see as `/`, to look for missing interpreters; `None` where it is
    /// not known.
    pub root: Option<PathBuf>,
    /// The like of each other root file system of the sandboxes, by its name. A function gets the
    /// one that its tag names, else the one with the name of its runtime, else the default.
    pub more_roots: BTreeMap<String, PathBuf>,
    /// How processors are shared out.
    pub processors: Processors,
    /// What goes wrong on purpose.
    pub faults: Arc<Faults>,
    /// Where the calls of all environments are shown to whoever watches them.
    pub traces: Arc<Hub>,
}

/// How processors are shared out, by MemorySize.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Processors {
    /// Whoever needs them has them; where they are short, by weight.
    #[default]
    Weight,
    /// Never more than AWS gives: one processor for each 1,769 MB.
    Quota,
}

impl Default for LauncherConfig {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock::new()),
            root: None,
            more_roots: BTreeMap::new(),
            processors: Processors::default(),
            faults: Arc::default(),
            traces: Hub::new(),
        }
    }
}

impl fmt::Debug for LauncherConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LauncherConfig").field("root", &self.root).finish_non_exhaustive()
    }
}

/// Why an environment could not be made: the platform's fault, never the function's.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// Its layers could not be merged.
    #[error("could not merge the layers of function {function}")]
    Layers {
        /// The function.
        function: String,
        /// Why.
        source: PackageError,
    },
    /// Its root file system is not among those that are configured.
    #[error(
        "function {function} asks for the root file system {rootfs}, which this server does not \
         have: name it under [rootfs] in the settings file, or change the tag {ROOTFS_TAG}"
    )]
    Rootfs {
        /// The function.
        function: String,
        /// What its tag names.
        rootfs: String,
    },
    /// There is no sandbox.
    #[error("could not make a sandbox for function {function}")]
    Sandbox {
        /// The function.
        function: String,
        /// Why.
        source: CreateError,
    },
    /// A socket or pipe of the sandbox could not be taken over.
    #[error("could not take over the sandbox of function {function}")]
    Descriptors {
        /// The function.
        function: String,
        /// What the system said.
        source: io::Error,
    },
    /// The sandbox was lost before its init phase was over.
    #[error("lost the sandbox of function {function} during its init phase; try again")]
    Lost {
        /// The function.
        function: String,
    },
}

/// What each root file system lacks.
pub(crate) struct Missing {
    pub(crate) default: Arc<MissingPrograms>,
    pub(crate) more: BTreeMap<String, Arc<MissingPrograms>>,
}

/// What runs in the bootstrap's place, and how its command differs from the bootstrap's.
pub(crate) type InPlace = (Place, Box<dyn FnOnce(&mut Command) + Send>);

type MakeSink = Box<dyn Fn(&FunctionVersion, &str) -> Box<dyn Sink> + Send + Sync>;

/// Makes execution environments.
pub struct Launcher {
    isolation: Arc<dyn Isolation>,
    trees: Arc<Trees>,
    sinks: MakeSink,
    missing: Missing,
    config: LauncherConfig,
    /// Where the Runtime API will be served is known before there is a sandbox, and so is the
    /// bootstrap's process environment: it is started together with the sandbox.
    early: bool,
    /// How many environments take their time to shut down.
    leaving: watch::Sender<usize>,
}

impl fmt::Debug for Launcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launcher").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Launcher {
    /// A launcher over these sandboxes, code trees and logs.
    #[must_use]
    pub fn new(
        sandboxes: Arc<Sandboxes>,
        trees: Arc<Trees>,
        logs: Arc<Logs>,
        config: LauncherConfig,
    ) -> Arc<Self> {
        let capabilities = sandboxes.capabilities();
        let more = capabilities.more_missing_programs.iter();
        let missing = Missing {
            default: capabilities.missing_programs.clone().into(),
            more: more.map(|(name, list)| (name.clone(), list.clone().into())).collect(),
        };
        let early = capabilities.network != Network::Host;
        let sinks: MakeSink = Box::new(move |version, stream| {
            Box::new(logs.stream(&version.scope, &version.logging.group, stream))
        });
        let launcher = Self::made(sandboxes, trees, sinks, missing, config);
        Arc::new(Self { early, ..launcher })
    }

    #[cfg(test)]
    pub(crate) fn with_isolation(
        isolation: Arc<dyn Isolation>,
        trees: Arc<Trees>,
        sinks: MakeSink,
        missing: Missing,
        config: LauncherConfig,
    ) -> Arc<Self> {
        Arc::new(Self::made(isolation, trees, sinks, missing, config))
    }

    fn made(
        isolation: Arc<dyn Isolation>,
        trees: Arc<Trees>,
        sinks: MakeSink,
        missing: Missing,
        config: LauncherConfig,
    ) -> Self {
        let leaving = watch::Sender::new(0);
        Self { isolation, trees, sinks, missing, config, early: false, leaving }
    }

    /// What the sandboxes of most functions are like, to make some of them ahead
    /// ([`lambfold_sandbox::Stock`]).
    #[must_use]
    pub fn usual_spec(processors: Processors) -> Spec {
        let id = "stock".to_owned();
        let (memory, storage) = (limits::MEMORY_DEFAULT_MIB, limits::EPHEMERAL_STORAGE_DEFAULT_MIB);
        Spec { id, ..sized(memory, storage, processors) }
    }

    /// Makes an environment and runs its init phase. Returns when it is over, however it went: a
    /// runtime that failed is started again inside the first invocation.
    ///
    /// Must be called within a tokio runtime with time and I/O.
    ///
    /// # Errors
    /// When the platform could not make or keep the sandbox.
    pub async fn launch(
        self: &Arc<Self>,
        version: Arc<FunctionVersion>,
    ) -> Result<Arc<Environment>, LaunchError> {
        self.launch_as(version, InitializationType::OnDemand).await
    }

    /// [`Launcher::launch`] for a reason that the runtime is told.
    ///
    /// # Errors
    /// As there.
    pub async fn launch_as(
        self: &Arc<Self>,
        version: Arc<FunctionVersion>,
        initialization: InitializationType,
    ) -> Result<Arc<Environment>, LaunchError> {
        let function = || version.name.as_str().to_owned();
        let (ready, over) = oneshot::channel();
        let environment = self.make(Arc::clone(&version), initialization, None, ready).await?;
        match over.await {
            Ok(true) => Ok(environment),
            Ok(false) | Err(_) => Err(LaunchError::Lost { function: function() }),
        }
    }

    /// Makes an environment and begins its init phase; `ready` is told when that is over.
    pub(crate) async fn make(
        self: &Arc<Self>,
        version: Arc<FunctionVersion>,
        initialization: InitializationType,
        shell: Option<InPlace>,
        ready: oneshot::Sender<bool>,
    ) -> Result<Arc<Environment>, LaunchError> {
        let function = || version.name.as_str().to_owned();
        let rootfs = self.rootfs(&version)?.map(str::to_owned);
        let folders = self.folders(&version, rootfs.as_deref()).await?;
        let id = uuid::Uuid::new_v4();
        let log_stream = stream_name(self.config.clock.epoch_ms(), version.version, id.as_u128());
        let first = (self.early && shell.is_none() && folders.extensions.is_empty())
            .then(|| bootstrap(&version, initialization, &log_stream, &[]));
        let spec = Spec {
            rootfs: rootfs.clone(),
            first: first.clone(),
            ..spec(&version, &folders, id.simple().to_string(), self.config.processors)
        };
        let (done, made) = oneshot::channel();
        self.isolation.create(
            spec,
            // Who invokes it waits no longer for anything.
            Duration::from_secs(version.timeout_s.into()),
            Box::new(move |result| {
                // Nobody waits any more: dropping it destroys it.
                let _ = done.send(result);
            }),
        );
        let made = made.await.map_err(|_| LaunchError::Lost { function: function() })?;
        let made = made.map_err(|error| match error {
            MakeError::Create(source) => LaunchError::Sandbox { function: function(), source },
            MakeError::Descriptors(source) => {
                LaunchError::Descriptors { function: function(), source }
            }
        })?;
        let taken = take_over(made, !folders.extensions.is_empty())
            .map_err(|source| LaunchError::Descriptors { function: function(), source })?;
        let missing = rootfs.and_then(|name| self.missing.more.get(&name));
        let missing = Arc::clone(missing.unwrap_or(&self.missing.default));
        let opened: Vec<_> =
            taken.listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        let mut command =
            first.unwrap_or_else(|| bootstrap(&version, initialization, &log_stream, &opened));
        let mut init_limit = init_limit(&version, initialization);
        let shell = shell.map(|(place, change)| {
            change(&mut command);
            init_limit = FOREVER;
            place
        });
        let clock = Arc::clone(&self.config.clock);
        let (scope, name) = (&version.scope, &version.name);
        let traces = &self.config.traces;
        let tap = traces.tap(scope, name, version.version, &log_stream, Arc::clone(&clock));
        let ctx = Context {
            extension_env: variables::extension_variables(
                &version,
                initialization,
                &log_stream,
                &variables::runtime_api(&version, &opened),
            ),
            init_limit,
            version,
            initialization,
            clock,
            faults: Arc::clone(&self.config.faults),
            log_stream,
            command,
            extensions: folders.extensions.clone(),
            leaving: self.leaving.clone(),
            generation: AtomicU64::new(0),
            tap,
            shell,
        };
        Ok(self.start(ctx, folders, taken, missing, ready))
    }

    /// Starts the init phase of an environment and then its tasks: a process that was started with
    /// the sandbox may be there already.
    fn start(
        &self,
        ctx: Context,
        folders: Folders,
        taken: Taken,
        missing: Arc<MissingPrograms>,
        ready: oneshot::Sender<bool>,
    ) -> Arc<Environment> {
        let sink = (self.sinks)(&ctx.version, &ctx.log_stream);
        let extensions = taken.extensions.as_ref().map(|(pipe, _)| Arc::clone(pipe.get_ref()));
        let output = Output::new(
            Arc::clone(taken.pipe.get_ref()),
            extensions,
            sink,
            &ctx.version.logging,
            missing,
        );
        let (extension_pipe, extension_output) = taken.extensions.unzip();
        let core = Core::new(taken.cell, output, extension_output);
        let inner = Inner::new(core, ctx, folders);
        inner.with(|core, ctx, fx| core.init(ctx, ready, fx));
        let mut tasks = vec![
            tokio::spawn(serve(taken.listeners, Arc::clone(&inner), Limits::default())),
            tokio::spawn(keeper::keep(Arc::clone(&inner), taken.events)),
            tokio::spawn(keeper::pump(Arc::clone(&inner), Writer::Function, taken.pipe)),
        ];
        tasks.extend(
            extension_pipe.map(|pipe| {
                tokio::spawn(keeper::pump(Arc::clone(&inner), Writer::Extensions, pipe))
            }),
        );
        inner.own(tasks.into_iter().map(|task| task.abort_handle()));
        Arc::new(Environment::new(inner))
    }

    /// The root file system of a version: `None` is the default one.
    fn rootfs<'a>(&self, version: &'a FunctionVersion) -> Result<Option<&'a str>, LaunchError> {
        let has = |name: &str| self.config.more_roots.contains_key(name);
        match version.rootfs.as_deref() {
            Some(name) if has(name) => Ok(Some(name)),
            Some(name) => Err(LaunchError::Rootfs {
                function: version.name.as_str().to_owned(),
                rootfs: name.to_owned(),
            }),
            None => Ok(Some(version.runtime.as_str()).filter(|name| has(name))),
        }
    }

    async fn folders(
        &self,
        version: &FunctionVersion,
        rootfs: Option<&str>,
    ) -> Result<Folders, LaunchError> {
        let layers: Vec<Digest> = version.layers.iter().map(|layer| layer.code.clone()).collect();
        let mut holds = vec![self.trees.hold(std::slice::from_ref(&version.code))];
        let mut opt = None;
        let mut extensions = Vec::new();
        if !layers.is_empty() {
            holds.push(self.trees.hold(&layers));
            let trees = Arc::clone(&self.trees);
            // Links a whole tree the first time.
            let merged = tokio::task::spawn_blocking(move || {
                let tree = trees.merge(&layers)?;
                let extensions = external_extensions(&tree);
                Ok((tree, extensions))
            })
            .await;
            let function = || version.name.as_str().to_owned();
            let merged = merged.map_err(|_| LaunchError::Lost { function: function() })?;
            let (tree, names) =
                merged.map_err(|source| LaunchError::Layers { function: function(), source })?;
            opt = Some(tree);
            extensions = names;
        }
        let task = self.trees.path(&version.code);
        let root = match rootfs {
            Some(name) => self.config.more_roots.get(name).cloned(),
            None => self.config.root.clone(),
        };
        Ok(Folders { task, opt, root, extensions, _holds: holds })
    }

    /// Why the bootstrap of a version would not run in an environment of its own, each a sentence
    /// with the fix; nothing is started.
    ///
    /// # Errors
    /// When its layers cannot be merged, or its root file system is not known.
    pub async fn diagnose(
        &self,
        version: Arc<FunctionVersion>,
    ) -> Result<Vec<Finding>, LaunchError> {
        let rootfs = self.rootfs(&version)?.map(str::to_owned);
        let folders = self.folders(&version, rootfs.as_deref()).await?;
        let env = variables::variables(&version, InitializationType::OnDemand, "", "");
        let architecture = version.architecture;
        let findings =
            tokio::task::spawn_blocking(move || folders.diagnose(&env, architecture)).await;
        Ok(findings.unwrap_or_default())
    }

    /// Waits until every environment that was retired is gone: those with extensions take their
    /// time, 2 s at most.
    pub async fn drained(&self) {
        // It cannot close: the sender is here.
        let _ = self.leaving.subscribe().wait_for(|count| *count == 0).await;
    }
}

/// What starts the bootstrap; `opened` is where the Runtime API is served, if it is not where it is
/// asked to be.
fn bootstrap(
    version: &FunctionVersion,
    initialization: InitializationType,
    log_stream: &str,
    opened: &[SocketAddr],
) -> Command {
    let runtime_api = variables::runtime_api(version, opened);
    Command {
        programs: BOOTSTRAPS.map(str::to_owned).to_vec(),
        args: Vec::new(),
        env: variables::variables(version, initialization, log_stream, &runtime_api),
        cwd: "/var/task".to_owned(),
    }
}

/// Budget of the init phase: nobody waits for a provisioned environment.
fn init_limit(version: &FunctionVersion, initialization: InitializationType) -> Duration {
    match initialization {
        InitializationType::OnDemand => Duration::from_millis(limits::INIT_MS),
        InitializationType::ProvisionedConcurrency => {
            PROVISIONED_INIT.max(Duration::from_secs(version.timeout_s.into()))
        }
    }
}

/// What is directly in the folder `extensions` of an `/opt` tree and not a folder itself, sorted.
/// A link in place of the folder is not followed: it may lead anywhere on this machine.
fn external_extensions(opt: &Path) -> Vec<Arc<str>> {
    let folder = opt.join("extensions");
    if !folder.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Vec::new();
    }
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let mut names: Vec<Arc<str>> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir()))
        .map(|entry| entry.file_name().to_string_lossy().into())
        .collect();
    names.sort();
    names
}

/// AWS's share of the processors, microseconds of each period of the kernel's.
fn cpu_quota_us(memory_mib: u32) -> u64 {
    u64::from(memory_mib) * CPU_PERIOD_US / u64::from(MIB_PER_CPU)
}

fn spec(version: &FunctionVersion, folders: &Folders, id: String, processors: Processors) -> Spec {
    let bind =
        |source: &PathBuf, target: &str| Bind { source: source.clone(), target: target.to_owned() };
    let mut binds = vec![bind(&folders.task, "/var/task")];
    binds.extend(folders.opt.as_ref().map(|opt| bind(opt, "/opt")));
    Spec { id, binds, ..sized(version.memory_mib, version.ephemeral_storage_mib, processors) }
}

/// What sandboxes of this MemorySize and EphemeralStorage have in common, MiB.
fn sized(memory_mib: u32, ephemeral_storage_mib: u32, processors: Processors) -> Spec {
    const MIB: u64 = 1 << 20;
    Spec {
        tmp_bytes: u64::from(ephemeral_storage_mib) * MIB,
        memory_bytes: u64::from(memory_mib) * MIB,
        processes: limits::PROCESSES,
        open_files: limits::OPEN_FILES,
        cpu_weight: u64::from((memory_mib * WEIGHT_PER_CPU / MIB_PER_CPU).max(1)),
        cpu_quota_us: match processors {
            Processors::Weight => 0,
            Processors::Quota => cpu_quota_us(memory_mib),
        },
        listeners: variables::listeners(),
        // An address, as AWS does it: it resolves without an entry in /etc/hosts.
        hostname: "169.254.100.1".to_owned(),
        ..Spec::default()
    }
}

/// A sandbox whose descriptors belong to the runtime's reactor.
struct Taken {
    listeners: Vec<TcpListener>,
    pipe: AsyncFd<Arc<File>>,
    /// Both ends of the pipe of external extensions, where there are any.
    extensions: Option<(AsyncFd<Arc<File>>, OwnedFd)>,
    events: AsyncFd<OwnedFd>,
    cell: Box<dyn crate::isolation::Cell>,
}

fn take_over(made: Made, with_extensions: bool) -> io::Result<Taken> {
    let Made { listeners, output, events, cell } = made;
    Ok(Taken {
        listeners: listeners.into_iter().map(TcpListener::from_std).collect::<Result<_, _>>()?,
        pipe: watch(Arc::new(File::from(output)))?,
        extensions: with_extensions.then(extension_pipe).transpose()?,
        events: watch(events)?,
        cell,
    })
}

fn extension_pipe() -> io::Result<(AsyncFd<Arc<File>>, OwnedFd)> {
    let (read, write) = lambfold_sandbox::output_pipe()?;
    Ok((watch(Arc::new(File::from(read)))?, write))
}

/// Registers a descriptor for readability.
#[expect(
    deprecated,
    reason = "the replacement is unsafe: its caller promises that the descriptor stays open and \
              the same. `OwnedFd` and `Arc<File>` own theirs and keep that promise by themselves"
)]
pub(crate) fn watch<T: AsFd + AsRawFd>(descriptor: T) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(descriptor, Interest::READABLE)
}

#[cfg(test)]
mod tests {
    use super::cpu_quota_us;

    #[test]
    fn aws_gives_one_processor_for_each_1769_mb() {
        assert_eq!(cpu_quota_us(1_769), 100_000);
        assert_eq!(cpu_quota_us(128), 7_235);
        assert_eq!(cpu_quota_us(10_240), 578_858);
    }
}
