//! Between the address and the function: a request becomes an event for the version that serves at
//! that moment, and stays with it.

use super::lines::{Lines, Note, Report};
use super::page;
use crate::client::{Answer, Body, Client, ClientError, Request, Service, encode};
use crate::command::shared;
use crate::failure::Failure;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Response;
use lambfold_events::http::{self as events, Format};
use lambfold_front::Handler;
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};
use ureq::http;

/// The account of events.
const ACCOUNT: &str = "000000000000";

/// A published version. Whoever holds one keeps it from being deleted.
#[derive(Debug)]
pub(super) struct Version {
    pub(super) number: String,
    /// An environment is initialised that no event has gone to.
    is_fresh: AtomicBool,
}

impl Version {
    pub(super) fn new(number: String) -> Self {
        Self { number, is_fresh: AtomicBool::new(false) }
    }

    pub(super) fn set_warm(&self, is_warm: bool) {
        self.is_fresh.store(is_warm, Ordering::Relaxed);
    }

    /// Whether an invocation waited for an init phase, by its report: the first event of an
    /// environment that was initialised ahead has an init duration too.
    fn was_cold(&self, report: &Report) -> bool {
        report.init_ms.is_some() && !self.is_fresh.swap(false, Ordering::Relaxed)
    }
}

/// Who answers requests.
#[derive(Debug, Clone)]
pub(super) enum Serving {
    /// Nobody yet.
    Starting,
    Version(Arc<Version>),
    /// What is in the folder cannot be a function; this is why.
    Broken(Arc<Failure>),
}

pub(super) struct Relay {
    client: Arc<Client>,
    function: String,
    format: Format,
    serving: RwLock<Serving>,
    lines: Arc<Lines>,
}

/// What an invocation gave.
struct Invoked {
    error: Option<String>,
    payload: Vec<u8>,
    log: String,
    id: String,
    elapsed: Duration,
}

impl Relay {
    pub(super) fn new(
        client: &Arc<Client>,
        function: &str,
        format: Format,
        lines: Arc<Lines>,
    ) -> Self {
        let serving = RwLock::new(Serving::Starting);
        Self { client: client.clone(), function: function.to_owned(), format, serving, lines }
    }

    /// Lets new requests go to somebody else; returns to whom they went.
    pub(super) fn switch(&self, to: Serving) -> Serving {
        std::mem::replace(&mut *self.serving.write().unwrap_or_else(PoisonError::into_inner), to)
    }

    fn serving(&self) -> Serving {
        self.serving.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn is_broken(&self) -> bool {
        !matches!(self.serving(), Serving::Version(_))
    }

    pub(super) fn version(&self) -> Option<Arc<Version>> {
        match self.serving() {
            Serving::Version(version) => Some(version),
            Serving::Starting | Serving::Broken(_) => None,
        }
    }

    fn invoke(&self, version: &Version, event: &Value) -> Result<Invoked, ClientError> {
        let path = format!("/2015-03-31/functions/{}/invocations", encode(&self.function));
        let request = Request::new(Service::Lambda, "POST", path)
            .query("Qualifier", &version.number)
            .header("content-type", "application/json")
            .header("x-amz-log-type", "Tail")
            .body(Body::Bytes(event.to_string().into_bytes()))
            .patient();
        let start = Instant::now();
        let answer: Answer = self.client.send(request)?;
        let elapsed = start.elapsed();
        let header = |name: &str| answer.header(name).map(str::to_owned);
        let log = header("x-amz-log-result").and_then(|log| STANDARD.decode(log).ok());
        Ok(Invoked {
            error: header("x-amz-function-error"),
            log: String::from_utf8_lossy(&log.unwrap_or_default()).into_owned(),
            id: header("x-amzn-requestid").unwrap_or_default(),
            payload: answer.body,
            elapsed,
        })
    }

    /// Sends an event of the user's own and lets its answer be printed.
    pub(super) fn send(&self, version: &Version, event: &Value, notes: &Sender<Note>) {
        let note = match self.invoke(version, event) {
            Ok(invoked) => {
                let report = Report::of(&invoked.log);
                let cold = version.was_cold(&report);
                Note::Response {
                    id: invoked.id,
                    payload: invoked.payload,
                    error: invoked.error,
                    elapsed: invoked.elapsed,
                    cold,
                    report,
                }
            }
            Err(error) => Note::Failure(shared::explain(&error)),
        };
        let _ = notes.send(note);
    }

    fn respond(&self, request: &lambfold_front::Request) -> (Response<Vec<u8>>, Ran) {
        let accept = request.head.headers.get(http::header::ACCEPT);
        let accept = accept.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let page = page::Kind::wanted(accept.as_deref());
        let Some(body) = &request.body else {
            return (page.too_large(), Ran::not());
        };
        let version = match self.serving() {
            Serving::Version(version) => version,
            Serving::Starting => return (page.starting(), Ran::not()),
            Serving::Broken(failure) => return (page.broken(&failure), Ran::not()),
        };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let event = events::event(
            self.format,
            &events::Request {
                head: &request.head,
                body,
                peer: request.peer.ip(),
                port: request.local.port(),
                id: &request_id(now),
                epoch_ms: u64::try_from(now.as_millis()).unwrap_or_default(),
                account: ACCOUNT,
                region: self.client.region(),
            },
        );
        let invoked = match self.invoke(&version, &event) {
            Ok(invoked) => invoked,
            Err(error) => return (page.refused(&shared::explain(&error), &error), Ran::not()),
        };
        let report = Report::of(&invoked.log);
        let cold = version.was_cold(&report);
        let ran =
            Ran { id: invoked.id, version: version.number.clone(), report: Some(report), cold };
        if invoked.error.is_some() {
            return (page.function_error(&invoked.payload, &invoked.log), ran);
        }
        match events::response(self.format, &invoked.payload) {
            Ok(response) => {
                let mut answer = Response::new(response.body);
                *answer.headers_mut() = response.headers;
                if let Ok(status) = response.status.try_into() {
                    *answer.status_mut() = status;
                }
                (answer, ran)
            }
            Err(error) => (page.no_response(&error, &invoked.payload), ran),
        }
    }
}

/// What the line of a request says of its invocation.
struct Ran {
    id: String,
    version: String,
    report: Option<Report>,
    cold: bool,
}

impl Ran {
    fn not() -> Self {
        Self { id: String::new(), version: String::new(), report: None, cold: false }
    }
}

impl Handler for Relay {
    fn answer(&self, request: lambfold_front::Request) -> Response<Vec<u8>> {
        let start = Instant::now();
        let (answer, ran) = self.respond(&request);
        let target = request.head.uri.path_and_query().map_or("/", |target| target.as_str());
        let note = Note::Request {
            id: ran.id,
            method: request.head.method.to_string(),
            target: target.to_owned(),
            status: answer.status().as_u16(),
            elapsed: start.elapsed(),
            version: ran.version,
            cold: ran.cold,
            report: ran.report,
        };
        let _ = self.lines.sender().send(note);
        answer
    }
}

/// Looks like a UUID and is another one each time; nothing depends on more.
fn request_id(now: Duration) -> String {
    use std::hash::{BuildHasher as _, RandomState};
    let half = |salt: u32| RandomState::new().hash_one((now.as_nanos(), salt));
    let (a, b) = (half(0), half(1));
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xfff,
        b >> 52,
        b & 0xffff_ffff_ffff
    )
}
