//! The short way of HTTP/1.1, for the few requests that a server answers all day: they are parsed
//! where they arrived and answered with one write, without a map of headers and without a task.
//!
//! What flows in is a connection. What flows out of it, one by one, are requests that are plain
//! (see [`Arrival::Foreign`] for what is not) and that the server wants; at the first other one the
//! connection turns into a [`Rewound`], from which a whole HTTP server reads that request from its
//! first byte, and everything after it. So the rules of HTTP that matter for safety, and their
//! errors, are that server's: nothing is refused here, and nothing is understood here that it
//! would understand otherwise.
//!
//! Forbidden here: routes, and any knowledge of who asks for what.

mod connection;
mod draft;
mod head;
mod rewound;

pub use connection::{Arrival, Connection, Parts, Peer};
pub use draft::Draft;
pub use head::{BODY_BYTES, Fields, HEAD_BYTES, HEADERS, Head, Method};
pub use rewound::Rewound;
