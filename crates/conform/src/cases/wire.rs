//! The same answer of the host in many forms: each means the same, and each is met in service.

use super::{USUAL, book};
use crate::answer::{After, Answer, Body, Names};
use crate::case::Case;
use crate::trial::{Event, Step, Trial, dropped, same};
use serde_json::{Value, json};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "header-lower",
        title: "header names in lower case are understood",
        why: "Header names have no case. Proxies and other platforms write them in lower case.",
        mend: "Compare header names without regard to case.",
        reference: "RFC 9110, HTTP semantics, section 5.1",
        run: |trial| twice(trial, |answer| answer.names = Names::Lower),
        ..USUAL
    },
    Case {
        id: "header-upper",
        title: "header names in upper case are understood",
        why: "Header names have no case.",
        mend: "Compare header names without regard to case.",
        reference: "RFC 9110, HTTP semantics, section 5.1",
        run: |trial| twice(trial, |answer| answer.names = Names::Upper),
        ..USUAL
    },
    Case {
        id: "header-order",
        title: "headers may come in any order",
        why: "The order of headers means nothing and differs between platforms.",
        mend: "Read all headers up to the empty line before looking for one.",
        reference: "RFC 9110, HTTP semantics, section 5.3",
        run: |trial| {
            twice(trial, |answer| {
                answer.headers.reverse();
                answer.framing_first = true;
            })
        },
        ..USUAL
    },
    Case {
        id: "header-space",
        title: "`Name:value` and `Name:   value` are understood",
        why: "Blanks around a header's value are optional and no part of it.",
        mend: "Split at the first colon and trim blanks and tabs from the value.",
        reference: "RFC 9112, HTTP/1.1, section 5",
        run: |trial| {
            twice(trial, |answer| answer.separator = ":")?;
            twice(trial, |answer| answer.separator = ": \t  ")
        },
        ..USUAL
    },
    Case {
        id: "header-many",
        title: "headers that nobody knows are passed over, also sixty of them",
        why: "Platforms add headers; a table of fixed size overflows one day.",
        mend: "Ignore what is not known, and do not limit the number of headers tightly.",
        reference: book::SEMANTICS,
        run: |trial| {
            let more = (0..60).map(|n| (format!("X-Conform-{n}"), format!("{n}")));
            let more: Vec<_> = more.collect();
            twice(trial, move |answer| {
                for (at, header) in more.iter().enumerate() {
                    answer.headers.insert(at, header.clone());
                }
            })
        },
        ..USUAL
    },
    Case {
        id: "header-long",
        title: "a header of 3 KiB is read whole",
        why: "A client context may have 3,583 bytes, and trace headers grow with their lineage.",
        mend: "Read lines into a buffer that grows.",
        reference: book::NEXT,
        run: |trial| {
            let context = json!({ "custom": { "long": "x".repeat(3000) } }).to_string();
            twice(trial, move |answer| {
                let name = "Lambda-Runtime-Client-Context".to_owned();
                answer.headers.insert(0, (name, context.clone()));
            })
        },
        ..USUAL
    },
    Case {
        id: "chunked",
        title: "an event in chunks is put together",
        why: "Large events and proxies use Transfer-Encoding: chunked; sizes are hexadecimal, in \
              either case, with or without leading zeros.",
        mend: "Decode chunks where Transfer-Encoding says so, or use a library that does.",
        reference: "RFC 9112, HTTP/1.1, section 7.1",
        run: |trial| {
            let sizes = || vec![1, 10, 27, 175];
            chunked(trial, sizes(), |size| format!("{size:X}"), &[])?;
            chunked(trial, sizes(), |size| format!("{size:x}"), &[])?;
            chunked(trial, sizes(), |size| format!("{size:04x}"), &[])
        },
        ..USUAL
    },
    Case {
        id: "chunk-extension",
        title: "extensions of a chunk's size are passed over",
        why: "`5;name=value` is a chunk of five bytes.",
        mend: "Stop reading the size at the first `;`.",
        reference: "RFC 9112, HTTP/1.1, section 7.1.1",
        run: |trial| chunked(trial, vec![9, 4], |size| format!("{size};name=\"v\""), &[]),
        ..USUAL
    },
    Case {
        id: "chunk-trailers",
        title: "trailers after the last chunk are read away",
        why: "What is left unread on a kept connection is taken for the next answer.",
        mend: "After the chunk of size 0 read lines up to the empty one.",
        reference: "RFC 9112, HTTP/1.1, section 7.1.2",
        run: |trial| {
            chunked(trial, vec![9, 4], |size| format!("{size}"), &[("X-Sum", "1"), ("X-End", "2")])
        },
        ..USUAL
    },
    Case {
        id: "dribble",
        title: "an answer may come a byte at a time",
        why: "TCP is a stream: one read may give half a header, or half a character.",
        mend: "Read until the framing says that the message is over, however many reads it takes.",
        reference: book::HTTP,
        run: |trial| {
            trial.echo(Event::json(&body()).wire(|answer| answer.dribble = true))?;
            let event = Event::json(&body()).wire(|answer| {
                answer.dribble = true;
                answer.framing = chunks(vec![9, 3], |size| format!("{size}"), &[]);
            });
            trial.echo(event)?;
            trial.lives_on("answers a byte at a time")
        },
        ..USUAL
    },
    Case {
        id: "until-close",
        title: "a body without a length ends with its connection",
        why: "Without Content-Length and chunks, the end of the connection is the end of the body.",
        mend: "Read to the end of the connection then, and connect anew for the next call.",
        reference: "RFC 9112, HTTP/1.1, section 6.3",
        run: |trial| twice(trial, |answer| answer.framing = Body::UntilEnd),
        ..USUAL
    },
    Case {
        id: "connection-close",
        title: "`Connection: close` is followed",
        why: "A host may end each connection after one answer.",
        mend: "After an answer with `Connection: close` open a new connection for the next call.",
        reference: "RFC 9112, HTTP/1.1, section 9.6",
        run: |trial| {
            let closed = |mut answer: Answer| {
                answer.after = After::Closed;
                answer
            };
            in_turn(trial, closed)
        },
        ..USUAL
    },
    Case {
        id: "connection-dropped",
        title: "a kept connection that the host has ended is replaced",
        why: "A host may end an idle connection without notice. A runtime that dies of it makes \
              the next event a cold start, or an error.",
        mend: "When a kept connection turns out to be dead, open a new one and send the request \
               again.",
        reference: "RFC 9112, HTTP/1.1, section 9.3.1",
        run: |trial| {
            // Only where nothing is lost: after a post has been answered.
            for n in 0..3 {
                let body = json!({ "dropped": n });
                trial.give(Event::json(&body))?;
                let outcome = trial.outcome()?;
                trial.conclude(&outcome, &dropped(Answer::accepted()));
                same(&outcome, body.to_string().as_bytes())?;
            }
            trial.lives_on("an ended connection")
        },
        ..USUAL
    },
    Case {
        id: "status-reason",
        title: "the reason after the status means nothing",
        why: "`HTTP/1.1 200 ` without a reason, or with another one, is a 200.",
        mend: "Look at the three digits of the status only.",
        reference: "RFC 9112, HTTP/1.1, section 4",
        run: |trial| {
            twice(trial, |answer| answer.reason = Some(""))?;
            twice(trial, |answer| answer.reason = Some("All Is Well"))
        },
        ..USUAL
    },
    Case {
        id: "accepted-chunked",
        title: "a 202 in chunks is read away",
        why: "Its body is on the connection whether anybody wants it or not.",
        mend: "Read the whole answer to a post before the connection is used again.",
        reference: book::RESPONSE,
        run: |trial| {
            in_turn_post(trial, |mut answer| {
                answer.framing = chunks(vec![7], |size| format!("{size:x}"), &[]);
                answer
            })
        },
        ..USUAL
    },
    Case {
        id: "accepted-empty",
        title: "a 202 without a body is fine",
        why: "The body of a 202 says nothing and may be missing on other platforms.",
        mend: "Look at the status only.",
        reference: book::RESPONSE,
        run: |trial| {
            in_turn_post(trial, |mut answer| {
                answer.body.clear();
                answer.headers.clear();
                answer
            })
        },
        ..USUAL
    },
];

fn body() -> Value {
    json!({ "text": "abcdefghij".repeat(20), "n": [1, 2, 3] })
}

/// Two events in this form: the second one shows that the connection was left in order.
fn twice(trial: &mut Trial<'_>, change: impl Fn(&mut Answer)) -> Step<()> {
    for _ in 0..2 {
        trial.echo(Event::json(&body()).wire(&change))?;
    }
    Ok(())
}

fn chunks(sizes: Vec<usize>, size_line: fn(usize) -> String, trailers: &[(&str, &str)]) -> Body {
    let trailers = trailers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Body::Chunks { sizes, size_line, trailers: trailers.collect() }
}

fn chunked(
    trial: &mut Trial<'_>,
    sizes: Vec<usize>,
    size_line: fn(usize) -> String,
    trailers: &[(&str, &str)],
) -> Step<()> {
    let framing = chunks(sizes, size_line, trailers);
    twice(trial, |answer| answer.framing = framing.clone())
}

/// Three events, with this done to every answer.
fn in_turn(trial: &mut Trial<'_>, change: impl Fn(Answer) -> Answer) -> Step<()> {
    for n in 0..3 {
        let body = json!({ "turn": n });
        let event = Event::json(&body).wire(|answer| *answer = change(answer.clone()));
        trial.give(event)?;
        let outcome = trial.outcome()?;
        trial.conclude(&outcome, &change(Answer::accepted()));
        same(&outcome, body.to_string().as_bytes())?;
    }
    trial.lives_on("three events")
}

/// Three events, with this done to the answers to posts.
fn in_turn_post(trial: &mut Trial<'_>, change: impl Fn(Answer) -> Answer) -> Step<()> {
    for n in 0..3 {
        let body = json!({ "turn": n });
        trial.give(Event::json(&body))?;
        let outcome = trial.outcome()?;
        trial.conclude(&outcome, &change(Answer::accepted()));
        same(&outcome, body.to_string().as_bytes())?;
    }
    trial.lives_on("three events")
}
