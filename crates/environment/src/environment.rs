use crate::context::Context;
use crate::core::Core;
use crate::isolation::Dialing;
use crate::phase::Effects;
use lambfold_package::{Finding, Hold, View};
use lambfold_runtime_api::{
    Call, Caller, Disturbance, ExtensionError, ExtensionRefusal, ExtensionReply, Host, Network,
    NextReply, Post, Posted, Posting, Refusal, Registered, Registration, SubscribeError,
    Subscription, SubscriptionRefusal, Ticket, deliver,
};
use lambfold_trace::Tap;
use lambfold_types::{Answer, Architecture, FunctionVersion, Invocation, PhaseEnd};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use uuid::Uuid;

/// Called once with an invocation's result, without a lock held.
pub type OnAnswer = Box<dyn FnOnce(Answer) + Send>;
/// Called once at the end of an invoke phase, after the answer, without a lock held.
pub type OnEnd = Box<dyn FnOnce(PhaseEnd) + Send>;

/// One execution environment. Dropping it shuts it down.
pub struct Environment {
    inner: Arc<Inner>,
}

impl Environment {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }

    /// Starts one invoke phase. `answer` is called as soon as the result is known; `ended` when
    /// the phase is over and the environment may take the next invocation (or must not: see
    /// [`PhaseEnd::reusable`]). Where there is no runtime, because init failed or the last phase
    /// was reset, one is started first, within the function's timeout.
    ///
    /// A call before the phase before has ended is answered `Sandbox.Failure`.
    pub fn begin(&self, invocation: Invocation, answer: OnAnswer, ended: OnEnd) {
        self.inner.with(|core, ctx, fx| core.begin(ctx, invocation, answer, ended, fx));
    }

    /// Shuts it down, even in the middle of a phase, which then ends as `Sandbox.Failure`.
    /// Returns at once; without extensions the runtime is killed and not asked, with them all
    /// processes are told and have 2 s (500 ms with internal extensions only): see
    /// [`Launcher::drained`](crate::Launcher::drained).
    pub fn retire(&self) {
        self.inner.retire();
    }

    /// True when its runtime waits for an event: false after an init phase that failed.
    #[must_use]
    pub fn is_initialized(&self) -> bool {
        self.inner.lock().core.is_idle()
    }

    /// The version that runs in it.
    #[must_use]
    pub fn version(&self) -> &Arc<FunctionVersion> {
        &self.inner.ctx.version
    }

    /// The name of its log stream.
    #[must_use]
    pub fn log_stream(&self) -> &str {
        &self.inner.ctx.log_stream
    }
}

impl Drop for Environment {
    fn drop(&mut self) {
        self.inner.retire();
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("function", &self.version().name)
            .field("log_stream", &self.log_stream())
            .finish_non_exhaustive()
    }
}

/// What the tasks of an environment share.
pub(crate) struct Inner {
    core: Mutex<State>,
    /// Wakes the keeper.
    pub(crate) wake: Notify,
    pub(crate) ctx: Context,
    pub(crate) folders: Folders,
    me: Weak<Inner>,
    tasks: Mutex<Vec<AbortHandle>>,
}

/// The folders that the sandbox shows.
pub(crate) struct Folders {
    pub(crate) task: PathBuf,
    pub(crate) opt: Option<PathBuf>,
    /// The guest's `/`, where it is known.
    pub(crate) root: Option<PathBuf>,
    /// Names of what is in `/opt/extensions`.
    pub(crate) extensions: Vec<Arc<str>>,
    /// Keeps the first two from being collected.
    pub(crate) _holds: Vec<Hold>,
}

impl Folders {
    /// Why the bootstrap in them would not run with these variables. Reads files: it takes some
    /// milliseconds.
    pub(crate) fn diagnose(
        &self,
        variables: &[(String, String)],
        architecture: Architecture,
    ) -> Vec<Finding> {
        let variable = |wanted: &str| {
            let found = variables.iter().find(|(name, _)| name == wanted);
            found.map_or("", |(_, value)| value.as_str())
        };
        let view = View {
            task: &self.task,
            opt: self.opt.as_deref(),
            root: self.root.as_deref(),
            path: variable("PATH"),
            library_path: variable("LD_LIBRARY_PATH"),
        };
        view.diagnose(architecture)
    }
}

/// The core, and what keeps `ended` behind `answer`: the runtime may ask for the next event on
/// another connection while the answer is still being handed over.
struct State {
    core: Core,
    answering: bool,
    held_end: Option<(OnEnd, PhaseEnd)>,
}

impl Inner {
    pub(crate) fn new(core: Core, ctx: Context, folders: Folders) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            core: Mutex::new(State { core, answering: false, held_end: None }),
            wake: Notify::new(),
            ctx,
            folders,
            me: Weak::clone(me),
            tasks: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a transition under the lock and its effects after it.
    pub(crate) fn with<R>(&self, run: impl FnOnce(&mut Core, &Context, &mut Effects) -> R) -> R {
        let mut fx = Effects::default();
        let result = {
            let mut state = self.lock();
            let result = run(&mut state.core, &self.ctx, &mut fx);
            if fx.answer.is_some() {
                state.answering = true;
            } else if state.answering && fx.ended.is_some() {
                state.held_end = fx.ended.take();
            }
            result
        };
        self.perform(fx);
        result
    }

    fn perform(&self, fx: Effects) {
        if let Some((sender, delivery)) = fx.deliver {
            // A `next` whose connection has just broken reports itself.
            let _ = sender.send(delivery);
        }
        if let Some((senders, refusal)) = fx.refuse {
            for sender in senders {
                let _ = sender.send(Err(refusal));
            }
        }
        if let Some(squeeze) = fx.squeeze {
            tokio::task::spawn_blocking(move || {
                if let Err(error) = squeeze.lower() {
                    tracing::warn!(%error, "a memory limit could not be lowered on purpose");
                }
            });
        }
        for (sender, delivery) in fx.tell {
            let _ = sender.send(delivery);
        }
        if fx.wake {
            self.wake.notify_one();
        }
        let mut ended = fx.ended;
        if let Some(sink) = fx.close {
            sink.close();
        }
        if let Some((on_answer, answer)) = fx.answer {
            on_answer(answer);
            let mut state = self.lock();
            state.answering = false;
            ended = ended.or_else(|| state.held_end.take());
        }
        if let Some((ready, outcome)) = fx.ready {
            let _ = ready.send(outcome);
        }
        if let Some(cell) = fx.destroy {
            drop(cell);
            for task in self.tasks().drain(..) {
                task.abort();
            }
        }
        if let Some((on_end, end)) = ended {
            on_end(end);
        }
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<AbortHandle>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These tasks end with the environment.
    pub(crate) fn own(&self, tasks: impl IntoIterator<Item = AbortHandle>) {
        self.tasks().extend(tasks);
        if self.lock().core.is_gone() {
            self.tasks().drain(..).for_each(|task| task.abort());
        }
    }

    pub(crate) fn retire(&self) {
        self.with(|core, ctx, fx| core.retire(ctx, fx));
    }
}

impl Host for Inner {
    fn generation(&self) -> u64 {
        self.ctx.generation.load(Ordering::Relaxed)
    }

    fn disturbance(&self, call: Call) -> Option<Disturbance> {
        if !self.ctx.faults.any() {
            return None;
        }
        self.with(|core, ctx, _| core.disturbance(ctx, call))
    }

    fn tap(&self) -> Option<&Tap> {
        Some(&self.ctx.tap)
    }

    /// With walls nobody else can connect: there is a namespace, or a rule of the kernel.
    fn admits(&self, connection: &TcpStream) -> bool {
        let Some(user) = self.ctx.only_of_user else { return true };
        match (connection.peer_addr(), connection.local_addr()) {
            (Ok(SocketAddr::V4(peer)), Ok(SocketAddr::V4(own))) => {
                lambfold_sandbox::user_of_peer(peer, own) == Some(user)
            }
            _ => false,
        }
    }

    fn next(&self, caller: Caller<'_>) -> NextReply {
        self.with(|core, ctx, fx| {
            if core.is_starting() {
                tracing::debug!(function = %ctx.version.name, release = caller.release(), "runtime");
            }
            core.next(ctx, fx)
        })
    }

    fn abandon(&self, ticket: Ticket) {
        self.with(|core, _, fx| core.abandon(ticket, fx));
    }

    fn begin_post(&self, id: &str, post: Post) -> Result<Posting, Refusal> {
        self.lock().core.begin_post(&self.ctx, id, post)
    }

    fn begin_init_error(&self) -> Result<Posting, Refusal> {
        self.lock().core.begin_init_error()
    }

    fn finish(&self, posting: Posting, posted: Posted) -> Result<(), Refusal> {
        self.with(|core, ctx, fx| core.finish_post(ctx, posting, posted, fx))
    }

    fn register(&self, registration: &Registration) -> Result<Registered, ExtensionRefusal> {
        self.with(|core, ctx, fx| core.register(ctx, registration, fx))
    }

    fn extension_next(&self, id: Uuid) -> ExtensionReply {
        self.with(|core, ctx, fx| core.extension_next(ctx, id, fx))
    }

    fn extension_abandon(&self, id: Uuid, ticket: Ticket) {
        self.lock().core.extension_abandon(id, ticket);
    }

    fn extension_error(
        &self,
        id: Uuid,
        error: ExtensionError,
        error_type: &str,
    ) -> Result<(), ExtensionRefusal> {
        self.with(|core, ctx, fx| core.extension_error(ctx, id, error, error_type, fx))
    }

    fn subscribe(
        &self,
        id: Uuid,
        subscription: Result<Subscription, SubscriptionRefusal>,
    ) -> Result<(), SubscribeError> {
        let network = Arc::new(Inside(Weak::clone(&self.me)));
        self.with(|core, ctx, _| {
            core.subscribe(ctx, id, subscription, |outlet| {
                tokio::spawn(deliver(outlet, network)).abort_handle()
            })
        })
    }
}

/// The network of the sandbox.
struct Inside(Weak<Inner>);

impl Network for Inside {
    fn dial(&self, port: u16) -> Dialing {
        match self.0.upgrade() {
            Some(inner) => inner.lock().core.dial(port),
            None => Box::pin(async { Err(std::io::ErrorKind::NotConnected.into()) }),
        }
    }

    fn drained(&self) {
        if let Some(inner) = self.0.upgrade() {
            inner.with(|core, ctx, fx| core.telemetry_drained(ctx, fx));
        }
    }
}
