use crate::context::Now;
use crate::environment::{OnAnswer, OnEnd};
use crate::fault::Fault;
use crate::isolation::{Cell, Squeeze};
use crate::output::Moment;
use bytes::Bytes;
use lambfold_runtime_api::{Delivery, Event, ExtensionDelivery, Refusal, ShutdownReason};
use lambfold_types::{Answer, PhaseEnd, RequestId, ResponseSink};
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Where an environment is in its life; the data of a phase lives in its variant.
pub(crate) enum Phase {
    /// The init phase: launched, and waiting for the first `next`.
    Init(Init),
    /// The runtime waits for an event.
    Idle,
    /// An invocation is in progress.
    Invoke(Box<Invoke>),
    /// The guests are being killed.
    Reset(Over),
    /// There is no process; the next invocation starts one.
    Cold,
    /// It is no longer needed, and its extensions are being told.
    Shutdown,
    /// There is no sandbox.
    Gone,
}

/// The init phase.
pub(crate) struct Init {
    /// Monotonic.
    pub(crate) since_us: u64,
    /// Told true when it is over, whatever came of it; false when the sandbox was lost.
    pub(crate) ready: oneshot::Sender<bool>,
}

/// What a reset ended.
pub(crate) enum Over {
    Init {
        init: Init,
        fault: Fault,
        duration_us: u64,
    },
    /// Nothing: the process ended between invocations. One that comes in the meantime waits.
    Idle {
        next: Option<Box<Invoke>>,
    },
    Invoke {
        invoke: Box<Invoke>,
        fault: Fault,
        end: Now,
    },
}

/// One invocation.
pub(crate) struct Invoke {
    pub(crate) request_id: RequestId,
    /// When it was received, monotonic.
    pub(crate) since_us: u64,
    /// How much of the timeout was gone then, on purpose.
    pub(crate) gone_us: u64,
    pub(crate) deadline: Instant,
    pub(crate) stage: Stage,
    /// The runtime has asked for the next event; extensions may not have.
    pub(crate) runtime_done: bool,
    /// The tracing header.
    pub(crate) trace: Option<Arc<str>>,
    /// Present while somebody wants to know.
    pub(crate) timing: Option<Timing>,
    pub(crate) wants_tail: bool,
    /// Where a streamed response goes.
    pub(crate) sink: Option<Arc<dyn ResponseSink>>,
    /// Until it is answered.
    pub(crate) answer: Option<OnAnswer>,
    pub(crate) ended: OnEnd,
    /// Answered when the phase ends without a fault that explains it better.
    pub(crate) withheld: Option<Answer>,
    /// The error type of a result that the platform refused while the runtime stays well.
    pub(crate) refused: Option<&'static str>,
    /// Its memory was taken away on purpose: no answer of its runtime counts.
    pub(crate) out_of_memory: bool,
}

/// What became of an event and when, for telemetry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    pub(crate) released: Moment,
    /// The runtime began to answer.
    pub(crate) answering: Option<Moment>,
    /// Its answer was complete.
    pub(crate) answered: Option<Moment>,
    /// It asked for the next event.
    pub(crate) done: Option<Moment>,
    pub(crate) produced_bytes: u64,
}

impl Timing {
    pub(crate) fn new(released: Moment) -> Self {
        Self { released, answering: None, answered: None, done: None, produced_bytes: 0 }
    }
}

/// The orderly end of the processes of an environment that has extensions (behaviour
/// specification §2.4).
#[derive(Debug)]
pub(crate) struct Stop {
    pub(crate) reason: ShutdownReason,
    /// When everything is killed.
    pub(crate) until: Instant,
    pub(crate) step: StopStep,
    /// The phase that ended has its last log lines.
    pub(crate) concluded: bool,
    pub(crate) tail: Option<Vec<u8>>,
}

/// Who is being waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopStep {
    /// The runtime was told SIGTERM.
    Runtime,
    /// Subscribers are given what is left of telemetry.
    Flush,
    /// Extensions were told SHUTDOWN.
    Extensions,
    /// Everything is killed.
    Kill,
}

/// How far an invocation is.
pub(crate) enum Stage {
    /// A process was started for it; the event waits for the first `next`.
    Init {
        event: Box<Event>,
        /// Monotonic.
        since_us: u64,
    },
    /// The event is the runtime's.
    Run,
}

/// What is to be done after unlocking.
#[derive(Default)]
pub(crate) struct Effects {
    pub(crate) deliver: Option<(oneshot::Sender<Delivery>, Delivery)>,
    pub(crate) refuse: Option<(Vec<oneshot::Sender<Delivery>>, Refusal)>,
    /// Extensions that wait, and what they are told.
    pub(crate) tell: Vec<(oneshot::Sender<ExtensionDelivery>, ExtensionDelivery)>,
    pub(crate) answer: Option<(OnAnswer, Answer)>,
    /// The sink of a response whose runtime is given up; before the answer.
    pub(crate) close: Option<Arc<dyn ResponseSink>>,
    pub(crate) ended: Option<(OnEnd, PhaseEnd)>,
    pub(crate) ready: Option<(oneshot::Sender<bool>, bool)>,
    /// The keeper sleeps for too long.
    pub(crate) wake: bool,
    /// Memory to take away, which blocks.
    pub(crate) squeeze: Option<Arc<dyn Squeeze>>,
    /// The sandbox, to be dropped; the environment is gone.
    pub(crate) destroy: Option<Box<dyn Cell>>,
}

/// An answer that the platform gives in the function's place.
pub(crate) fn platform_answer(payload: Bytes) -> Answer {
    let content_type = Some("application/json".into());
    Answer { payload, content_type, function_error: true, stream_error: None }
}
