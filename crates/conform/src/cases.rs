//! The cases, a file a group. A case asks one question and passes over everything else.

mod concurrency;
mod context;
mod error;
mod event;
mod init;
mod next;
mod refusal;
mod response;
mod shutdown;
mod steady;
mod stream;
mod wire;

pub(crate) use steady::Steady;

use crate::case::{Case, Place};

/// In the order of reports; the first case is the start itself.
pub(crate) const GROUPS: &[&[Case]] = &[
    next::CASES,
    wire::CASES,
    event::CASES,
    response::CASES,
    error::CASES,
    refusal::CASES,
    init::CASES,
    context::CASES,
    shutdown::CASES,
    stream::CASES,
    concurrency::CASES,
    steady::CASES,
];

/// Where a point is written.
mod book {
    pub(super) const NEXT: &str = "AWS Lambda: Runtime API, next invocation";
    pub(super) const RESPONSE: &str = "AWS Lambda: Runtime API, invocation response";
    pub(super) const ERROR: &str = "AWS Lambda: Runtime API, invocation error";
    pub(super) const INIT_ERROR: &str = "AWS Lambda: Runtime API, initialization error";
    pub(super) const CUSTOM: &str = "AWS Lambda: building a custom runtime";
    pub(super) const STREAM: &str =
        "AWS Lambda: building a custom runtime, implementing response streaming";
    pub(super) const MANAGED: &str = "AWS Lambda: managed instances, custom runtimes";
    pub(super) const ENVIRONMENT: &str = "AWS Lambda: execution environment lifecycle";
    pub(super) const QUOTAS: &str = "AWS Lambda: quotas, invocation payload";
    pub(super) const HTTP: &str = "RFC 9112, HTTP/1.1";
    pub(super) const SEMANTICS: &str = "RFC 9110, HTTP semantics";
}

/// What a case has when nothing is unusual about it.
const USUAL: Case = Case {
    id: "",
    title: "",
    why: "",
    mend: "",
    reference: "",
    env: &[],
    place: Place::Usual,
    run: |_| Ok(()),
};
