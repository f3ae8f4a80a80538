use crate::context::Context;
use crate::core::Core;
use crate::environment::{Environment, Folders, Inner};
use crate::hint::MissingPrograms;
use crate::isolation::{self, Made, MakeError};
use crate::keeper;
use crate::output::{Output, Sink, Writer};
use crate::plan::{binds, bootstrap, external_extensions, init_limit, sized};
use crate::shell::{FOREVER, Place};
use crate::variables::{self, View};
use lambfold_fault::Faults;
use lambfold_logs::{Logs, stream_name};
use lambfold_package::{Finding, PackageError, Trees};
use lambfold_runtime_api::{Limits, serve};
use lambfold_sandbox::{Command, CreateError, Isolation, Network, Sandboxes, Spec};
use lambfold_trace::Hub;
use lambfold_types::{
    Clock, Digest, FunctionVersion, InitializationType, LAYERS_NEED_WALLS, ROOTFS_TAG, SystemClock,
    limits,
};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};

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
    /// It has layers, and there is no `/opt` to show them in.
    #[error("function {function} cannot run here: {LAYERS_NEED_WALLS}")]
    Layered {
        /// The function.
        function: String,
    },
    /// Its code could not be protected from being changed.
    #[error("could not make the code of function {function} read-only")]
    Protect {
        /// The function.
        function: String,
        /// What the system said.
        source: io::Error,
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
    isolation: Arc<dyn isolation::Isolation>,
    trees: Arc<Trees>,
    sinks: MakeSink,
    missing: Missing,
    config: LauncherConfig,
    /// Where the Runtime API will be served is known before there is a sandbox, and so is the
    /// bootstrap's process environment: it is started together with the sandbox.
    early: bool,
    /// Functions see their own root file system, and not this machine's.
    walls: bool,
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
        let walls = capabilities.isolation == Isolation::Namespace;
        let sinks: MakeSink = Box::new(move |version, stream| {
            Box::new(logs.stream(&version.scope, &version.logging.group, stream))
        });
        let launcher = Self::made(sandboxes, trees, sinks, missing, config);
        Arc::new(Self { early, walls, ..launcher })
    }

    #[cfg(test)]
    pub(crate) fn with_isolation(
        isolation: Arc<dyn isolation::Isolation>,
        trees: Arc<Trees>,
        sinks: MakeSink,
        missing: Missing,
        config: LauncherConfig,
    ) -> Arc<Self> {
        Arc::new(Self::made(isolation, trees, sinks, missing, config))
    }

    fn made(
        isolation: Arc<dyn isolation::Isolation>,
        trees: Arc<Trees>,
        sinks: MakeSink,
        missing: Missing,
        config: LauncherConfig,
    ) -> Self {
        let leaving = watch::Sender::new(0);
        Self { isolation, trees, sinks, missing, config, early: false, walls: true, leaving }
    }

    /// Functions see this machine from now on.
    #[cfg(test)]
    pub(crate) fn tear_walls_down(&mut self) {
        self.walls = false;
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
        let view = self.view(&folders);
        let id = uuid::Uuid::new_v4();
        let log_stream = stream_name(self.config.clock.epoch_ms(), version.version, id.as_u128());
        let first = (self.early && shell.is_none() && folders.extensions.is_empty())
            .then(|| bootstrap(&version, initialization, &log_stream, &[], &view));
        let spec = Spec {
            rootfs: rootfs.clone(),
            first: first.clone(),
            binds: if self.walls { binds(&folders) } else { Vec::new() },
            id: id.simple().to_string(),
            ..sized(version.memory_mib, version.ephemeral_storage_mib, self.config.processors)
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
        let mut command = first
            .unwrap_or_else(|| bootstrap(&version, initialization, &log_stream, &opened, &view));
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
            only_of_user: (!self.walls).then(lambfold_sandbox::own_user),
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

    /// What a function that has these sees.
    fn view(&self, folders: &Folders) -> View {
        match self.walls {
            true => View::Sandbox,
            false => View::Host { task: folders.task.display().to_string() },
        }
    }

    async fn folders(
        &self,
        version: &FunctionVersion,
        rootfs: Option<&str>,
    ) -> Result<Folders, LaunchError> {
        if !self.walls && !version.layers.is_empty() {
            return Err(LaunchError::Layered { function: version.name.as_str().to_owned() });
        }
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
        if !self.walls {
            let (trees, code) = (Arc::clone(&self.trees), version.code.clone());
            let protected = tokio::task::spawn_blocking(move || trees.protect(&code)).await;
            let protected = protected.unwrap_or_else(|error| Err(io::Error::other(error)));
            protected.map_err(|source| LaunchError::Protect {
                function: version.name.as_str().to_owned(),
                source,
            })?;
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
        let view = self.view(&folders);
        let env = variables::variables(&version, InitializationType::OnDemand, "", "", &view);
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

/// A sandbox whose descriptors belong to the runtime's reactor.
struct Taken {
    listeners: Vec<TcpListener>,
    pipe: AsyncFd<Arc<File>>,
    /// Both ends of the pipe of external extensions, where there are any.
    extensions: Option<(AsyncFd<Arc<File>>, OwnedFd)>,
    events: AsyncFd<OwnedFd>,
    cell: Box<dyn isolation::Cell>,
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
