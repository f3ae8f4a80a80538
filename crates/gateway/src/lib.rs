//! The AWS API over HTTP: the browser guard, routing by the service model, error → status.
//!
//! In flow connections; out flow answers in AWS's wire formats. Calls go down to the control
//! plane, to the invoker and to the logs. This is the only crate that
//! knows HTTP statuses and AWS's error wording on the wire. Forbidden here: business rules.

mod answer;
mod diagnosis;
mod download;
mod error;
mod eventstream;
mod faults;
mod gateway;
mod guard;
mod import;
mod invoke;
mod lambda;
mod logs_api;
mod metrics;
mod receive;
mod scope;
mod server;
mod streaming;
mod sts;

pub use diagnosis::Diagnose;
pub use gateway::{Config, Gateway, Limits};
pub use guard::{Guard, Refusal};
pub use metrics::Metric;
pub use server::serve;
