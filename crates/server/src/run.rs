use crate::factory::{Allocations, Factory};
use crate::faults::{self, OnPurpose};
use crate::line::{Lines, Places};
use crate::shell::Starter;
use crate::{Config, DataDir};
use lambfold_control::Control;
use lambfold_environment::{Launcher, LauncherConfig, Processors};
use lambfold_gateway::{Gateway, Metric, Tools};
use lambfold_invoke::{Invoker, Spoiled};
use lambfold_logs::Logs;
use lambfold_package::Trees;
use lambfold_pool::{Pool, PoolConfig};
use lambfold_sandbox::{CreateError, Isolation, Network, Rootfs, Sandboxes, Spec, Stock};
use lambfold_store::Store;
use lambfold_trace::Hub;
use lambfold_types::{Clock, Scope, SystemClock, limits};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is not on loopback, and there are no credentials yet.
    #[error(
        "refusing to listen on {0}: it is not a loopback address and requests are not \
         authenticated yet; listen on 127.0.0.1, or add --insecure if every peer may run code here"
    )]
    NotLoopback(SocketAddr),
    /// Functions in the host's network reach the AWS API, and there are no credentials yet.
    #[error(
        "refusing to let functions into the host's network: they would reach this server's AWS \
         API, and requests are not authenticated yet; choose the network nat, or add --insecure"
    )]
    HostNetwork,
    /// Functions without walls, as root.
    #[error(
        "refusing to run functions without walls as root (--isolation process): every function would \
         be root on this machine; run as an ordinary user, or choose the isolation namespace"
    )]
    RootWithoutWalls,
    /// The address is taken, or may not be used.
    #[error("could not listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The data folder.
    #[error("could not open the data folder")]
    Store(#[from] lambfold_store::OpenError),
    /// The folders of unpacked code.
    #[error("could not open the code folders in {}", path.display())]
    Trees {
        /// The data folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The log store.
    #[error("could not open the log store")]
    Logs(#[from] lambfold_logs::OpenError),
    /// What an earlier run left could not be removed.
    #[error("could not remove what an earlier run left in {}", path.display())]
    Sweep {
        /// The folder of the sandboxes.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Sandboxes cannot be made here.
    #[error("execution environments cannot be isolated here; `lambfold doctor` tries every step")]
    Sandbox(#[from] lambfold_sandbox::StartError),
    /// The first sandbox could not be made.
    #[error("execution environments cannot be isolated here; `lambfold doctor` tries every step")]
    Trial(#[source] CreateError),
    /// Quotas were asked for.
    #[error(
        "processors cannot be shared out as AWS does (--cpu aws): there is no cgroup controller cpu \
         with quotas here; run as root or in a delegated group, or leave it at --cpu weight"
    )]
    CpuQuota,
    /// The control plane.
    #[error("could not load the functions")]
    Control(#[from] lambfold_control::OpenError),
    /// Threads, timers or signals.
    #[error("could not start the server's runtime")]
    Runtime(#[source] io::Error),
}

/// What `/health/ready` says where it is so.
const WITHOUT_WALLS: &str = "functions run without walls (--isolation process)";

/// An error and its causes in one line, for the log.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Runs a server until SIGINT or SIGTERM, then drains it; a second signal ends it at once.
///
/// Prints one line to standard error when it is ready: `lambfold is ready at http://…/`.
///
/// # Errors
/// When it cannot start.
pub fn run(config: Config) -> Result<(), Error> {
    let prepared = Prepared::new(config, tracing::Level::INFO)?;
    for note in &prepared.sandboxes.capabilities().notes {
        tracing::warn!("{note}");
    }
    let serving = async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Runtime)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(Error::Runtime)?;
        let signalled = async || {
            tokio::select! {
                _ = interrupt.recv() => (),
                _ = terminate.recv() => (),
            }
        };
        let ready = |address| {
            // In one piece: the log goes there too.
            let line = format!("lambfold is ready at http://{address}/\n");
            let _ = io::stderr().write_all(line.as_bytes());
        };
        serve(&prepared.config, prepared.store, prepared.sandboxes, ready, signalled).await
    };
    prepared.runtime.block_on(serving)
}

/// A server inside a process that has other things to do, for as long as this value lives. It
/// leaves signals to its owner. Dropping it drains it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    notes: Vec<String>,
    /// Dropped to stop it.
    stop: Option<tokio::sync::mpsc::Sender<()>>,
    thread: Option<std::thread::JoinHandle<Result<(), Error>>>,
}

impl Server {
    /// Starts a server and returns when it answers. Of its log only warnings are printed, unless
    /// `LAMBFOLD_LOG` says otherwise.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn start(config: Config) -> Result<Self, Error> {
        let prepared = Prepared::new(config, tracing::Level::WARN)?;
        let notes =
            prepared.sandboxes.capabilities().notes.iter().map(ToString::to_string).collect();
        let (stop, mut stopped) = tokio::sync::mpsc::channel::<()>(1);
        let (ready, is_ready) = std::sync::mpsc::channel();
        let run = move || {
            let ready = move |address| {
                let _ = ready.send(address);
            };
            let Prepared { config, store, sandboxes, runtime } = prepared;
            // Whoever stops it waits for the end of the draining: there is no second signal.
            let mut first = true;
            let stopped = async || {
                if !std::mem::take(&mut first) {
                    std::future::pending::<()>().await;
                }
                stopped.recv().await;
            };
            runtime.block_on(serve(&config, store, sandboxes, ready, stopped))
        };
        let thread = std::thread::Builder::new().name("server".into()).spawn(run);
        let thread = thread.map_err(Error::Runtime)?;
        match is_ready.recv() {
            Ok(address) => Ok(Self { address, notes, stop: Some(stop), thread: Some(thread) }),
            Err(_) => match thread.join() {
                Ok(Err(error)) => Err(error),
                Ok(Ok(())) => Err(Error::Runtime(io::Error::other("it ended at once"))),
                Err(panic) => std::panic::resume_unwind(panic),
            },
        }
    }

    /// What a sandbox cannot have on this machine or for this user, a sentence each. Nobody has
    /// been told yet.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Where the AWS API is served.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // What it would say has been logged.
            let _ = thread.join();
        }
    }
}

/// What has to be there before the first task runs.
struct Prepared {
    config: Config,
    store: Store,
    sandboxes: Arc<Sandboxes>,
    runtime: tokio::runtime::Runtime,
}

impl Prepared {
    fn new(config: Config, level: tracing::Level) -> Result<Self, Error> {
        if !config.listen.ip().is_loopback() && !config.insecure {
            return Err(Error::NotLoopback(config.listen));
        }
        if config.network == Network::Host && !config.insecure {
            return Err(Error::HostNetwork);
        }
        if config.isolation == Isolation::Process && lambfold_sandbox::is_root() {
            return Err(Error::RootWithoutWalls);
        }
        start_tracing(level);
        let store = match &config.data {
            DataDir::Persistent(path) => Store::open(path)?,
            DataDir::Ephemeral => Store::ephemeral()?,
        };
        // The spawner is started while this process is still small and has a single thread of
        // note.
        let sandboxes = start_sandboxes(&config, &store)?;
        // Half of the processors: the guests need the rest, and every further thread adds a
        // wake-up to the invocations that hop between threads. With one thread alone, invocations
        // that come together wait for it while another processor idles.
        let processors = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        let (starting, ending) = (Arc::clone(&sandboxes), Arc::clone(&sandboxes));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads((processors / 2).max(2).min(processors))
            .on_thread_start(move || starting.join_thread())
            .on_thread_stop(move || ending.leave_thread())
            .enable_all()
            .build()
            .map_err(Error::Runtime)?;
        Ok(Self { config, store, sandboxes, runtime })
    }
}

fn start_tracing(default: tracing::Level) {
    let level = std::env::var("LAMBFOLD_LOG").ok().and_then(|level| level.parse().ok());
    // In a test the harness may have set one.
    let _ = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(level.unwrap_or(default))
        .try_init();
}

fn start_sandboxes(config: &Config, store: &Store) -> Result<Arc<Sandboxes>, Error> {
    let work = store.dir().join("run").join("sandbox");
    let sweep = |source| Error::Sweep { path: work.clone(), source };
    lambfold_sandbox::sweep(store.id(), &work).map_err(sweep)?;
    let mut sandbox = lambfold_sandbox::Config::new(store.id(), &work);
    sandbox.rootfs = config.rootfs.clone();
    sandbox.isolation = config.isolation;
    sandbox.network = config.network;
    sandbox.program = config.spawner.clone();
    sandbox.more_rootfs = config.more_rootfs.clone();
    // Where extensions say that they listen for telemetry.
    sandbox.hosts = ["sandbox.localdomain", "sandbox"]
        .map(|name| (std::net::Ipv4Addr::LOCALHOST, name.to_owned()))
        .to_vec();
    sandbox.tmp_ready_bytes = vec![u64::from(limits::EPHEMERAL_STORAGE_DEFAULT_MIB) << 20];
    sandbox.stock =
        Some(Stock { size: config.sandbox_stock, first: Launcher::usual_spec(config.processors) });
    let sandboxes = Sandboxes::start(sandbox)?;
    try_one(&sandboxes, Launcher::usual_spec(config.processors))?;
    let capabilities = sandboxes.capabilities();
    tracing::info!("{}", network_in_words(config.network, capabilities.network));
    if config.processors == Processors::Quota && !sandboxes.capabilities().cpu_quota {
        return Err(Error::CpuQuota);
    }
    Ok(Arc::new(sandboxes))
}

/// Makes one sandbox: what is refused only then, such as a `/proc` of its own in a container, is said
/// at the start and not by the first invocation.
fn try_one(sandboxes: &Sandboxes, spec: Spec) -> Result<(), Error> {
    let (done, made) = std::sync::mpsc::channel();
    sandboxes.create(Spec { id: "trial".to_owned(), ..spec }, move |sandbox| {
        // It is of no further use.
        let _ = done.send(sandbox.map(drop));
    });
    let gone = || CreateError::SpawnerGone { id: "trial".to_owned() };
    made.recv().unwrap_or_else(|_| Err(gone())).map_err(Error::Trial)
}

/// Which network functions have, and why.
fn network_in_words(asked: Network, is: Network) -> String {
    let what = match is {
        Network::Nat => "nat: functions reach the outside, and nothing of this machine",
        Network::Host => "host: functions reach whatever this machine reaches",
        Network::None | Network::NatIfPossible => "none: functions reach nothing",
    };
    let why = match asked {
        Network::NatIfPossible if is == Network::Nat => "the default where it can be had",
        Network::NatIfPossible => "nat cannot be had here, see above",
        Network::None | Network::Nat | Network::Host => "as asked for",
    };
    format!("network {what} ({why})")
}

/// Serves until `signalled` ends for the first time; when it ends again, nothing is waited for.
async fn serve(
    config: &Config,
    store: Store,
    sandboxes: Arc<Sandboxes>,
    ready: impl FnOnce(SocketAddr),
    mut signalled: impl AsyncFnMut(),
) -> Result<(), Error> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let durable = config.data != DataDir::Ephemeral;
    let options = lambfold_package::Options { durable, ..Default::default() };
    let trees = Trees::open(store.dir(), options)
        .map_err(|source| Error::Trees { path: store.dir().to_owned(), source })?;
    let trees = Arc::new(trees);
    let logs = Logs::open(&store.dir().join("logs"), lambfold_logs::Options::default())?;
    let options = lambfold_control::Options {
        strict: config.strict,
        without_layers: config.isolation == Isolation::Process,
        rootfs: config.more_rootfs.keys().cloned().collect(),
    };
    let control = Control::open(store.clone(), trees.clone(), clock.clone(), options).await?;

    let on_purpose = OnPurpose::new(clock.clone(), logs.clone());
    let place = |rootfs: &Rootfs| match rootfs {
        Rootfs::Host => Path::new("/").to_owned(),
        Rootfs::Dir(path) => path.clone(),
    };
    let more = config.more_rootfs.iter();
    let traces = Hub::new();
    let launcher_config = LauncherConfig {
        clock: clock.clone(),
        root: Some(place(&config.rootfs)),
        more_roots: more.map(|(name, rootfs)| (name.clone(), place(rootfs))).collect(),
        processors: config.processors,
        faults: Arc::clone(&on_purpose.faults),
        traces: traces.clone(),
    };
    let launcher = Launcher::new(
        Arc::clone(&sandboxes),
        trees.clone(),
        Arc::new(logs.clone()),
        launcher_config,
    );
    let limits = PoolConfig::default();
    let limits = PoolConfig {
        max_environments: config.max_environments.unwrap_or(limits.max_environments),
        max_memory_mib: config.max_memory_mib.unwrap_or(limits.max_memory_mib),
        ..limits
    };
    let pool = Pool::new(Factory(launcher.clone()), limits);
    tokio::spawn(crate::pressure::relieve(Arc::downgrade(&pool)));
    control.set_allocator(Arc::new(Allocations(pool.clone())));
    let forgetful = Arc::downgrade(&pool);
    control.on_gone(move |gone| {
        if let Some(pool) = forgetful.upgrade() {
            pool.forget(|version| version == gone.as_ref());
        }
    });
    on_purpose.run(&pool);
    let lines = Arc::new(Lines::default());
    let places = Places { pool: pool.clone(), lines: lines.clone() };
    let placement = Spoiled::new(places, Arc::clone(&on_purpose.faults));
    let invoker = Invoker::new(control.clone(), placement, store, clock);
    let shells = Starter { launcher: launcher.clone(), pool: pool.clone(), lines };

    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|source| Error::Listen { address: config.listen, source })?;
    let address =
        listener.local_addr().map_err(|source| Error::Listen { address: config.listen, source })?;
    let gateway_config = lambfold_gateway::Config {
        scope: Scope { account: config.account.clone(), region: config.region.clone() },
        hosts: vec![config.listen.ip().to_string()],
        warning: (config.isolation == Isolation::Process).then(|| WITHOUT_WALLS.to_owned()),
        limits: lambfold_gateway::Limits::default(),
    };
    let (counted, counted_faults) = (pool.clone(), Arc::clone(&on_purpose.faults));
    let metrics = move || {
        let mut all = metrics(&counted.metrics());
        all.extend(faults::metrics(&counted_faults));
        all
    };
    let looking = launcher.clone();
    let tools = Tools {
        traces,
        shells: Some(Arc::new(shells)),
        faults: Arc::clone(&on_purpose.faults),
        diagnose: Some(Box::new(move |version| {
            let launcher = looking.clone();
            Box::pin(async move {
                let findings = launcher.diagnose(version).await.map_err(|error| chain(&error))?;
                Ok(findings.iter().map(ToString::to_string).collect())
            })
        })),
    };
    let gateway =
        Gateway::new(gateway_config, control, invoker.clone(), logs.clone(), tools, metrics);

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(lambfold_gateway::serve(listener, gateway.clone(), async {
        let _ = stopped.await;
    }));
    ready(address);

    signalled().await;
    tracing::info!("draining: invocations in flight may finish; a second signal ends them");
    gateway.set_ready(false);
    invoker.stop();
    let drained = async {
        let _ = stop.send(());
        pool.drain().await;
        launcher.drained().await;
        let _ = serving.await;
    };
    tokio::select! {
        () = drained => (),
        () = signalled() => tracing::warn!("ended by a second signal"),
    }
    logs.flush();
    // Tasks that nobody waits for may still have them, and their folder is about to be removed.
    sandboxes.end();
    if config.isolation == Isolation::Process
        && let Err(error) = trees.release()
    {
        tracing::warn!(%error, "folders of code are left read-only");
    }
    Ok(())
}

fn metrics(pool: &lambfold_pool::Metrics) -> Vec<Metric> {
    let metric = |name, help, value: u64| {
        // counters far below 2^52: exact
        #[allow(clippy::cast_precision_loss)]
        let value = value as f64;
        Metric { name, help, value }
    };
    vec![
        metric(
            "lambfold_environments",
            "Execution environments that exist or are being created.",
            pool.environments,
        ),
        metric(
            "lambfold_environments_creating",
            "Execution environments in creation or init.",
            pool.creating,
        ),
        metric(
            "lambfold_environments_busy",
            "Execution environments in an invoke phase.",
            pool.busy,
        ),
        metric(
            "lambfold_environments_idle",
            "Execution environments that wait for an event.",
            pool.idle,
        ),
        metric(
            "lambfold_environments_provisioned",
            "Execution environments of provisioned concurrency, ready or busy.",
            pool.provisioned,
        ),
        metric(
            "lambfold_environments_memory_mib",
            "MemorySize of all execution environments together, MiB.",
            pool.memory_mib,
        ),
        metric(
            "lambfold_concurrent_executions",
            "Invocations accepted and not yet answered.",
            pool.concurrent_executions,
        ),
        metric(
            "lambfold_cold_starts_total",
            "Invocations that were the first of their environment.",
            pool.cold_starts,
        ),
        metric(
            "lambfold_warm_starts_total",
            "Invocations that found or awaited a used environment.",
            pool.warm_starts,
        ),
        metric("lambfold_throttles_total", "Invocations refused for a limit.", pool.throttles),
        metric(
            "lambfold_environment_failures_total",
            "Execution environments that could not be created.",
            pool.creation_failures,
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_says_which_network_and_why() {
        let text = network_in_words(Network::NatIfPossible, Network::None);
        assert_eq!(
            text,
            "network none: functions reach nothing (nat cannot be had here, see above)"
        );
        let text = network_in_words(Network::NatIfPossible, Network::Nat);
        assert!(text.ends_with("(the default where it can be had)"), "{text}");
        assert!(network_in_words(Network::None, Network::None).ends_with("(as asked for)"));
    }
}
