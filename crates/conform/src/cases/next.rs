//! The start, and how `next` is asked.

use super::{USUAL, book};
use crate::case::{Case, Place};
use crate::trial::{Call, Event, Step, Trial, fail};
use crate::wire::Head;
use serde_json::json;
use std::time::Duration;

/// Until a second `next` beside the first would have come.
const BESIDE: Duration = Duration::from_secs(1);

pub(super) const CASES: &[Case<'static>] = &[
    Case {
        id: "start",
        title: "the bootstrap starts and asks for the next event",
        why: "The init phase is over when the first `next` arrives; without it every invocation \
              ends in a timeout.",
        mend: "Read AWS_LAMBDA_RUNTIME_API and GET /2018-06-01/runtime/invocation/next from \
               http://$AWS_LAMBDA_RUNTIME_API.",
        reference: book::CUSTOM,
        run: |trial| trial.next().map(|_| ()),
        ..USUAL
    },
    Case {
        id: "next-request-line",
        title: "`next` is GET /2018-06-01/runtime/invocation/next HTTP/1.1, to the letter",
        why: "Another method is answered 405 and another path 404.",
        mend: "Use GET and exactly this path: no query, no closing slash, no full address.",
        reference: book::NEXT,
        run: request_line,
        ..USUAL
    },
    Case {
        id: "next-host",
        title: "requests carry one Host header",
        why: "A server has to refuse an HTTP/1.1 request without Host, or with two, with 400.",
        mend: "Send `Host: ` and the value of AWS_LAMBDA_RUNTIME_API, once.",
        reference: "RFC 9112, HTTP/1.1, section 3.2",
        run: |trial| {
            let head = first(trial)?;
            match head.all("host").collect::<Vec<_>>()[..] {
                [host] if !host.is_empty() => Ok(()),
                [] => fail("`next` has no Host header"),
                ref many => fail(format!("`next` has the Host headers {many:?}")),
            }
        },
        ..USUAL
    },
    Case {
        id: "next-no-body",
        title: "`next` has no body",
        why: "A server may refuse a GET with a body, or take the body for the next request.",
        mend: "Leave Content-Length and Transfer-Encoding out of GET requests.",
        reference: "RFC 9110, HTTP semantics, section 9.3.1",
        run: |trial| {
            trial.next()?;
            let sent = trial.heads.iter().find(|(call, _)| *call == Call::Next);
            let head = sent.map(|(_, head)| head);
            let length = head.and_then(|head| head.header("content-length")).unwrap_or("0");
            let chunked = head.and_then(|head| head.header("transfer-encoding"));
            if length != "0" || chunked.is_some() {
                return fail(format!("`next` has a body: length {length}, {chunked:?}"));
            }
            Ok(())
        },
        ..USUAL
    },
    Case {
        id: "next-idle",
        title: "`next` is waited for as long as it takes",
        why: "Between two events may be hours. A client that gives up ends a warm environment, or \
              loses the event that came while it was away.",
        mend: "Switch off the read timeout of the HTTP client for `next` (curl: --max-time 0; \
               many libraries have 30 or 60 seconds by default).",
        reference: book::NEXT,
        run: idle,
        ..USUAL
    },
    Case {
        id: "next-alone",
        title: "one `next` at a time, unless AWS_LAMBDA_MAX_CONCURRENCY asks for more",
        why: "The service gives an event to one of them; the other one may get the same event, or \
              a refusal.",
        mend: "Ask again only after the event has been answered.",
        reference: book::NEXT,
        run: |trial| {
            trial.next()?;
            trial.pass(BESIDE.min(trial.settings.idle))?;
            match trial.waiting() {
                0 => Ok(()),
                more => fail(format!("{more} more `next` came while one was waiting")),
            }
        },
        ..USUAL
    },
    Case {
        id: "next-freeze",
        title: "a freeze between two events does no harm",
        why: "An idle environment is frozen: its processes stop, and the clock jumps when they go \
              on. Watchdogs and timeouts that run meanwhile take that for a failure.",
        mend: "Do not measure time while `next` waits, and start no timer there.",
        reference: book::ENVIRONMENT,
        run: freeze,
        ..USUAL
    },
    Case {
        id: "environment-address",
        title: "the Runtime API is looked for where AWS_LAMBDA_RUNTIME_API says",
        why: "Address and port differ between platforms, and between generations of one platform.",
        mend: "Take host and port from AWS_LAMBDA_RUNTIME_API; write neither into the program.",
        reference: book::CUSTOM,
        place: Place::OtherAddress,
        run: |trial| trial.lives_on("its start"),
        ..USUAL
    },
];

fn first(trial: &mut Trial<'_>) -> Step<Head> {
    trial.next()?;
    match trial.heads.iter().find(|(call, _)| *call == Call::Next) {
        Some((_, head)) => Ok(head.clone()),
        None => fail("there was no `next`"),
    }
}

fn request_line(trial: &mut Trial<'_>) -> Step<()> {
    let head = first(trial)?;
    let line = format!("{} {} {}", head.method, head.target, head.version);
    if line == "GET /2018-06-01/runtime/invocation/next HTTP/1.1" {
        return Ok(());
    }
    fail(format!("the request line is {line:?}"))
}

fn idle(trial: &mut Trial<'_>) -> Step<()> {
    let idle = trial.settings.idle;
    let connection = trial.next()?;
    trial.pass(idle)?;
    if !trial.host.is_open(connection) {
        return fail(format!("it gave up within {:.1} s", idle.as_secs_f32()));
    }
    let body = json!({ "after": "idle" });
    let event = Event::json(&body);
    trial.give_to(connection, event);
    let outcome = trial.outcome()?;
    crate::trial::same(&outcome, body.to_string().as_bytes())
}

fn freeze(trial: &mut Trial<'_>) -> Step<()> {
    const FROZEN: Duration = Duration::from_millis(1200);
    trial.lives_on("its start")?;
    let connection = trial.next()?;
    let broken = |error| crate::trial::Stop::Broken(format!("freeze: {error}"));
    trial.guest.freeze(true).map_err(broken)?;
    trial.pass(FROZEN)?;
    trial.guest.freeze(false).map_err(broken)?;
    let body = json!({ "after": "a freeze" });
    trial.give_to(connection, Event::json(&body));
    let outcome = trial.outcome()?;
    trial.accept(&outcome);
    crate::trial::same(&outcome, body.to_string().as_bytes())?;
    trial.lives_on("a freeze")?;
    // What woke up with it may take a moment to see that the clock has jumped.
    trial.next()?;
    trial.pass(Duration::from_millis(1000))?;
    match trial.guest.end {
        None => Ok(()),
        Some(_) => fail("it ended soon after a freeze"),
    }
}
