//! When the function cannot be loaded.

use super::{USUAL, book};
use crate::answer::Answer;
use crate::case::{Case, Place};
use crate::guest::End;
use crate::host::Incoming;
use crate::trial::{Event, Step, Trial, fail, not_applicable};
use crate::wire::Request;
use lambfold_sandbox::ExitStatus;
use serde_json::json;
use std::time::Duration;

/// For a runtime to end after its init error.
const PROMPTLY: Duration = Duration::from_secs(3);
/// Makes the function fail while it is loaded.
const FAILING: &[(&str, &str)] = &[("LAMBFOLD_CONFORM_INIT", "error")];

pub(super) const CASES: &[Case] = &[
    Case {
        id: "init-error",
        title: "a function that cannot be loaded is reported to init/error",
        why: "Without the report, callers learn the exit status and nothing of the reason.",
        mend: "Catch what loading the function raises, and POST it to \
               /2018-06-01/runtime/init/error.",
        reference: book::INIT_ERROR,
        env: FAILING,
        run: |trial| match begin(trial)? {
            Begun::Posted(_) => Ok(()),
            Begun::Ended(status) => {
                fail(format!("it ended ({}) without a word to init/error", said(status)))
            }
            Begun::Late => fail("it reported the failure at the first event only"),
        },
        ..USUAL
    },
    Case {
        id: "init-error-shape",
        title: "an init error has a path, a header and a body like any other error",
        why: "The body is what the first caller gets.",
        mend: "Post {\"errorMessage\": …, \"errorType\": …} with the header \
               Lambda-Runtime-Function-Error-Type.",
        reference: book::INIT_ERROR,
        env: FAILING,
        run: |trial| match begin(trial)? {
            Begun::Posted(incoming) => shape(&incoming.request),
            Begun::Ended(_) | Begun::Late => not_applicable(NONE),
        },
        ..USUAL
    },
    Case {
        id: "init-error-exit",
        title: "a runtime whose init failed ends, with a status other than 0",
        why: "A runtime that stays holds the environment until the init's ten seconds are over.",
        mend: "Exit with 1 after the init error has been posted.",
        reference: book::INIT_ERROR,
        env: FAILING,
        run: |trial| {
            let status = match begin(trial)? {
                Begun::Posted(incoming) => {
                    trial.reply(incoming.connection, &Answer::accepted());
                    trial.end("the end of the bootstrap after its init error", PROMPTLY)?
                }
                Begun::Ended(status) => status,
                Begun::Late => return not_applicable(NONE),
            };
            match status {
                ExitStatus::Code(0) => fail("it exited with 0, which says that all is well"),
                _ => Ok(()),
            }
        },
        ..USUAL
    },
    Case {
        id: "init-error-alone",
        title: "after an init error there is no `next`",
        why: "`next` says that init went well; the host refuses it in this state.",
        mend: "Do not enter the loop of events when the function was not loaded.",
        reference: book::INIT_ERROR,
        env: FAILING,
        run: |trial| match begin(trial)? {
            Begun::Posted(incoming) => {
                trial.reply(incoming.connection, &Answer::accepted());
                let over = Duration::from_millis(700);
                let asked = trial.wait_for("nothing", over, |trial| {
                    (trial.open_next().is_some()).then_some(true)
                });
                match asked {
                    Ok(_) => fail("`next` followed the init error"),
                    Err(_) => Ok(()),
                }
            }
            Begun::Ended(_) | Begun::Late => not_applicable(NONE),
        },
        ..USUAL
    },
    Case {
        id: "init-error-500",
        title: "a host that does not take the init error does not keep the runtime",
        why: "Retrying for ever holds the environment, and hides the reason.",
        mend: "Post once, write the reason to the log as well, and exit whatever the answer.",
        reference: book::INIT_ERROR,
        env: FAILING,
        run: |trial| match begin(trial)? {
            Begun::Posted(incoming) => {
                let answer = Answer::refused(500, "InternalServerError", "Internal Server Error");
                trial.reply(incoming.connection, &answer);
                let what = "the end of the bootstrap after a refused init error";
                trial.wait_for(what, PROMPTLY, |trial| {
                    if let Some(again) = trial.init_error() {
                        trial.reply(again.connection, &answer);
                    }
                    trial.guest.end.clone().map(|_| ())
                })
            }
            Begun::Ended(_) | Begun::Late => not_applicable(NONE),
        },
        ..USUAL
    },
    Case {
        id: "init-handler-missing",
        title: "a handler that is not there is an init error",
        why: "A wrong handler is the most common mistake of a deployment. It has to be found at \
              the start, with its name in the message.",
        mend: "Resolve _HANDLER before the first `next`, and report what is missing to init/error.",
        reference: book::CUSTOM,
        place: Place::MissingHandler,
        run: |trial| match begin(trial)? {
            Begun::Posted(_) => Ok(()),
            Begun::Ended(status) => {
                fail(format!("it ended ({}) without a word to init/error", said(status)))
            }
            Begun::Late => fail("it missed the handler at the first event only"),
        },
        ..USUAL
    },
];

const NONE: &str = "there is no init error, see init-error";

enum Begun {
    Posted(Incoming),
    Ended(ExitStatus),
    /// At the first event.
    Late,
}

/// What a bootstrap does that cannot load its function.
fn begin(trial: &mut Trial<'_>) -> Step<Begun> {
    enum Seen {
        Post(Incoming),
        Next(crate::host::ConnectionId),
        End(End),
    }
    let seen = trial.wait("an init error", |trial| {
        let post = trial.init_error().map(Seen::Post);
        let next = post.or_else(|| trial.open_next().map(Seen::Next));
        next.or_else(|| trial.guest.end.clone().map(Seen::End))
    })?;
    match seen {
        Seen::Post(incoming) => Ok(Begun::Posted(incoming)),
        Seen::End(End::Exited(status)) => {
            // It may have posted just before it ended.
            match trial.init_error() {
                Some(incoming) => Ok(Begun::Posted(incoming)),
                None => Ok(Begun::Ended(status)),
            }
        }
        Seen::End(End::NotStarted(why)) => fail(why),
        Seen::Next(connection) => {
            let body = json!({ "after": "a failed init" });
            trial.give_to(connection, Event::json(&body));
            let outcome = trial.outcome()?;
            trial.accept(&outcome);
            if outcome.is_error {
                return Ok(Begun::Late);
            }
            not_applicable(
                "the function was loaded: it does not look at LAMBFOLD_CONFORM_INIT, or not at _HANDLER",
            )
        }
    }
}

fn shape(request: &Request) -> Step<()> {
    if request.head.target != "/2018-06-01/runtime/init/error" || request.head.method != "POST" {
        return fail(format!("it came as {} {}", request.head.method, request.head.target));
    }
    if request.head.header("lambda-runtime-function-error-type").is_none_or(str::is_empty) {
        return fail("it has no Lambda-Runtime-Function-Error-Type");
    }
    let body: Option<serde_json::Value> = serde_json::from_slice(&request.body).ok();
    let Some(body) = body else {
        return fail(format!("it is no JSON: {}", crate::trial::shown(&request.body)));
    };
    match ["errorMessage", "errorType"].into_iter().find(|key| !body[*key].is_string()) {
        None => Ok(()),
        Some(key) => fail(format!("{key} is no text in {body}")),
    }
}

fn said(status: ExitStatus) -> String {
    match status {
        ExitStatus::Code(code) => format!("status {code}"),
        ExitStatus::Signal(signal) => format!("signal {signal}"),
    }
}
