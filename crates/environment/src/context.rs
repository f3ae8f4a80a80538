use crate::output::Moment;
use crate::shell::{FOREVER, Place};
use lambfold_fault::Faults;
use lambfold_runtime_api::Event;
use lambfold_sandbox::Command;
use lambfold_trace::Tap;
use lambfold_types::{Clock, FunctionVersion, InitializationType, Invocation};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Where external extensions are.
pub(crate) const EXTENSIONS_FOLDER: &str = "/opt/extensions";

/// What never changes in an environment's life, and one counter.
pub(crate) struct Context {
    pub(crate) version: Arc<FunctionVersion>,
    /// What it is made for.
    pub(crate) initialization: InitializationType,
    pub(crate) clock: Arc<dyn Clock>,
    /// What goes wrong on purpose.
    pub(crate) faults: Arc<Faults>,
    /// Its log stream.
    pub(crate) log_stream: String,
    /// Starts the bootstrap.
    pub(crate) command: Command,
    /// External extensions, in the order in which they are started.
    pub(crate) extensions: Vec<Arc<str>>,
    /// The process environment of extensions.
    pub(crate) extension_env: Vec<(String, String)>,
    /// Counts environments that take their time to shut down.
    pub(crate) leaving: watch::Sender<usize>,
    /// Budget of the init phase.
    pub(crate) init_limit: Duration,
    /// Of whom alone connections to the Runtime API are taken; `None`: nobody else can connect.
    pub(crate) only_of_user: Option<u32>,
    /// How many runtime processes were given up: connections of earlier ones are closed.
    pub(crate) generation: AtomicU64,
    /// Shows its calls to whoever watches the function.
    pub(crate) tap: Tap,
    /// A shell runs in the bootstrap's place.
    pub(crate) shell: Option<Place>,
}

/// One moment, by each of the clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// For deadlines.
    pub(crate) instant: Instant,
    /// For the log and for durations.
    pub(crate) moment: Moment,
}

impl Now {
    pub(crate) fn us(self) -> u64 {
        self.moment.monotonic_us
    }
}

impl Context {
    pub(crate) fn now(&self) -> Now {
        Now { instant: Instant::now(), moment: self.moment() }
    }

    pub(crate) fn moment(&self) -> Moment {
        let (epoch_ms, monotonic_us) = (self.clock.epoch_ms(), self.clock.monotonic_us());
        Moment { epoch_ms, monotonic_us }
    }

    /// Starts an extension.
    pub(crate) fn extension_command(&self, name: &str) -> Command {
        Command {
            programs: vec![format!("{EXTENSIONS_FOLDER}/{name}")],
            args: Vec::new(),
            env: self.extension_env.clone(),
            cwd: "/".to_owned(),
        }
    }

    pub(crate) fn timeout(&self) -> Duration {
        match self.shell {
            Some(_) => FOREVER,
            None => Duration::from_secs(self.version.timeout_s.into()),
        }
    }

    pub(crate) fn timeout_us(&self) -> u64 {
        u64::try_from(self.timeout().as_micros()).unwrap_or(u64::MAX)
    }

    /// The event that the runtime gets for an invocation that is received now, when so much of the
    /// timeout is gone.
    pub(crate) fn event(&self, invocation: Invocation, now: Now, gone: Duration) -> Event {
        let gone_ms = u64::try_from(gone.as_millis()).unwrap_or(u64::MAX);
        let left_ms = (u64::from(self.version.timeout_s) * 1000).saturating_sub(gone_ms);
        let deadline_ms = now.moment.epoch_ms + left_ms;
        Event { invocation, deadline_ms }
    }
}
