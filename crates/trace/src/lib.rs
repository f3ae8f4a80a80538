//! Calls of the Runtime API as they are watched, and the format in which they are recorded.
//!
//! In: calls, from the connections of execution environments, through the [`Tap`] that each
//! environment holds. Out: what a [`Watch`] of a function gets of them, in order, within bounds;
//! [`Line`]s, which is how a watch is written on the wire; and [`Recording`]s of whole events and
//! answers, written, read and compared.
//!
//! While nobody watches, a call costs one atomic load. Whoever watches is never waited for: what
//! does not fit into its queue is dropped and counted.
//!
//! Forbidden here: sockets, HTTP, files, any asynchronous runtime. What is shown of a call is
//! decided here and nowhere else, so that one place can be read to see that no secret is.

mod body;
mod call;
mod compare;
mod hub;
mod line;
mod recording;

pub use body::Body;
pub use call::{Answer, Call, Message, State};
pub use compare::{Answered, Difference, compare};
pub use hub::{Hub, QUEUE_BYTES, QUEUE_CALLS, Seen, Tap, TooManyWatches, WATCHES, Watch};
pub use line::{FORMAT, Line};
pub use recording::{
    EVENTS, Given, LINE_BYTES, Outcome, Recorded, Recorder, Recording, RecordingError,
};
