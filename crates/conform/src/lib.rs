//! The conformance kit for custom runtimes: a host that puts a bootstrap through the Runtime API's
//! contract and its traps.
//!
//! In: a [`Subject`] (a function's code with its layers), [`Settings`], a choice of [`Case`]s.
//! Out: a [`Report`] with a [`Verdict`] a case, as text, JSON or JUnit XML. Each case starts the
//! bootstrap anew, in a sandbox, and speaks HTTP with it byte by byte.
//!
//! The host here is not `runtime-api`: that one is right, and has one way to say a thing. This one
//! says the same thing in every way that HTTP allows, refuses, hangs up and stays silent.
//!
//! Forbidden here: the server and its parts, and any asynchronous runtime. A trial is one thread
//! with one loop, so that the order of what happens is the case's to decide.

mod answer;
mod case;
mod cases;
mod guest;
mod host;
mod report;
mod run;
mod subject;
mod trial;
pub mod wire;

pub use case::Case;
pub use report::{CaseResult, Report, Verdict};
pub use run::{Isolation, Kit, KitError, Settings};
pub use subject::{Subject, SubjectError};
