//! The AWS service model, reduced: routing, input collection, validation, exceptions.
//!
//! `lambda.json` is generated from the pinned model by `lambfold-xtask model`; it is parsed once.
//! A request's method, path, query, headers and body flow in; an operation and its checked input
//! flow out, or an error in AWS's own wording. Forbidden here: sockets, HTTP libraries, and what
//! an operation means.

mod body;
mod built;
mod collect;
mod exception;
mod pattern;
mod router;
mod table;
mod uri;
mod validate;

pub use built::{Built, compatibility_page};
pub use collect::{Input, Request};
pub use exception::{ApiError, Exception};
pub use router::Routed;
pub use table::{Location, Member, Model, Operation, Shape, ShapeKind};
pub use uri::{percent_decode, query_pairs};
