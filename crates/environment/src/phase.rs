use crate::context::Now;
use crate::environment::{OnAnswer, OnEnd};
use crate::fault::Fault;
use crate::isolation::Cell;
use bytes::Bytes;
use lambfold_runtime_api::{Delivery, Event, Refusal};
use lambfold_types::{Answer, PhaseEnd, RequestId};
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
    pub(crate) deadline: Instant,
    pub(crate) stage: Stage,
    pub(crate) wants_tail: bool,
    /// Until it is answered.
    pub(crate) answer: Option<OnAnswer>,
    pub(crate) ended: OnEnd,
    /// Answered when the phase ends without a fault that explains it better.
    pub(crate) withheld: Option<Answer>,
    /// The error type of a result that the platform refused while the runtime stays well.
    pub(crate) refused: Option<&'static str>,
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
    pub(crate) answer: Option<(OnAnswer, Answer)>,
    pub(crate) ended: Option<(OnEnd, PhaseEnd)>,
    pub(crate) ready: Option<(oneshot::Sender<bool>, bool)>,
    /// The keeper sleeps for too long.
    pub(crate) wake: bool,
    /// The sandbox, to be dropped; the environment is gone.
    pub(crate) destroy: Option<Box<dyn Cell>>,
}

/// An answer that the platform gives in the function's place.
pub(crate) fn platform_answer(payload: Bytes) -> Answer {
    let content_type = Some("application/json".into());
    Answer { payload, content_type, function_error: true }
}
