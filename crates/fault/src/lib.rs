//! Faults on purpose: what can be made to go wrong for a function, how often and until when.
//!
//! A [`Wish`] flows into [`Faults::set`]; whoever runs invocations asks [`Faults::strikes`] and
//! [`Faults::sabotage`] whether a fault acts now, and does it. Nothing acts here. While no fault is
//! on, asking is one load of an atomic. Everything is in memory: a restart of the server switches
//! all off.
//!
//! Forbidden here: HTTP, processes, files, and the real clock.

mod kind;
mod table;

pub use kind::{Call, Kind, LONGEST, LONGEST_DELAY, SHORTEST, Sabotage, Wish, WishError};
pub use table::{Fault, Faults, Note, Off, Strike, Target};
