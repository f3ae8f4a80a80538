//! The vocabulary of Lambfold: names, ARNs, qualifiers, sizes, limits, invocations, the clock.
//!
//! Every other crate speaks in these types. Text from outside flows in and is parsed once;
//! values that exist are valid. Forbidden here: I/O, an async runtime, HTTP, and any wire shape.

mod clock;
mod function;
mod invocation;
pub mod limits;
mod name;
mod stream;

pub use clock::{Clock, ManualClock, SystemClock};
pub use function::{
    Architecture, Digest, FunctionVersion, InitializationType, LAYERS_NEED_WALLS, LayerUse,
    LogFormat, LoggingConfig, ROOTFS_TAG, RuntimeId, Version,
};
pub use invocation::{Answer, Invocation, InvocationKind, PhaseEnd, RequestId};
pub use name::{
    AccountId, FunctionArn, FunctionName, FunctionRef, LayerName, LayerVersionArn, NameError,
    Partition, Qualifier, Region, Scope,
};
pub use stream::{CallerGone, ResponseSink, SinkFuture};
