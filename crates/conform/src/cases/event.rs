//! What is in an event.

use super::{USUAL, book};
use crate::case::Case;
use crate::trial::{Event, Step, Stop, Trial, fail};
use lambfold_types::limits::SYNC_REQUEST_BYTES;
use serde_json::{Value, json};

pub(super) const CASES: &[Case] = &[
    Case {
        id: "event-empty",
        title: "an event of 0 bytes gets an answer",
        why: "A caller may send nothing. A runtime that waits for a first byte, or ends, makes \
              that a timeout.",
        mend: "Treat an empty body as an event; where it has to be JSON, post an error.",
        reference: book::NEXT,
        run: |trial| anything(trial, b"", "an empty event"),
        ..USUAL
    },
    Case {
        id: "event-scalar",
        title: "events that are a number, a word, a text or a list are passed on",
        why: "Any JSON value is an event, not only an object.",
        mend: "Decode into any JSON value, and look for members only in objects.",
        reference: book::NEXT,
        run: |trial| {
            for text in ["1", "-2.5", "true", "null", "\"text\"", "\"\"", "[1,[2]]"] {
                trial.echo(Event::new(text.as_bytes()))?;
            }
            Ok(())
        },
        ..USUAL
    },
    Case {
        id: "event-utf8",
        title: "text in all scripts comes through",
        why: "JSON is UTF-8. Runtimes that read in another encoding, or count characters for \
              bytes, damage or cut it.",
        mend: "Read and write bytes, set the encoding to UTF-8, and give lengths in bytes.",
        reference: "RFC 8259, JSON, section 8.1",
        run: |trial| {
            let text = "äß é 中文 العربية हिन्दी 🦀👩‍👩‍👧 \u{2028}\u{2029} \u{feff}";
            trial.echo(Event::json(&json!({ "text": text, "名": text.repeat(50) })))?;
            trial.lives_on("text in all scripts")
        },
        ..USUAL
    },
    Case {
        id: "event-escapes",
        title: "escapes of JSON keep their meaning",
        why: "Quotes, backslashes, surrogate pairs and \\u0000 are ordinary content; shells and C \
              strings stumble over them.",
        mend: "Pass the event on as bytes; where a shell is involved, never through its syntax.",
        reference: "RFC 8259, JSON, section 7",
        run: |trial| {
            let text = r#"{"a":"\"\\\/\b\f\n\r\t","b":"\ud83e\udd80 \u00e9","c":"x\u0000y","d":"$(id) `id` %s %n '' ; & |"}"#;
            trial.echo(Event::new(text.as_bytes()))?;
            trial.lives_on("escapes")
        },
        ..USUAL
    },
    Case {
        id: "event-binary",
        title: "bytes that are no UTF-8 come back as they were, or as an error",
        why: "The service does not look into events. A runtime that ends or hangs over a strange \
              byte lets one caller take its environments down.",
        mend: "Catch the failure to decode and post it as an error.",
        reference: book::NEXT,
        run: |trial| {
            let bytes: Vec<u8> = (0..=255).rev().collect();
            anything(trial, &bytes, "a binary event")
        },
        ..USUAL
    },
    Case {
        id: "event-whitespace",
        title: "line ends and blanks in an event are harmless",
        why: "Events may be pretty-printed, with CR LF and an empty line at the end. A runtime \
              that reads a line gets `{`.",
        mend: "Read as many bytes as the framing says, not lines.",
        reference: "RFC 8259, JSON, section 2",
        run: |trial| {
            trial.echo(Event::new(
                b"\r\n{\r\n\t\"a\" : [ 1,\n 2 ] ,\r\n\r\n\"b\":\"x\"}\r\n\r\n\n",
            ))?;
            trial.lives_on("an event of several lines")
        },
        ..USUAL
    },
    Case {
        id: "event-content-type",
        title: "the Content-Type of an event decides nothing",
        why: "Callers may send any type, whatever the event is.",
        mend: "Do not refuse an event for its Content-Type.",
        reference: book::NEXT,
        run: |trial| {
            for kind in
                ["application/octet-stream", "application/json; charset=utf-8", "a/b;c=\"d\""]
            {
                let event = Event::json(&json!({ "type": kind }));
                trial.echo(event.header("Content-Type", Some(kind)))?;
            }
            Ok(())
        },
        ..USUAL
    },
    Case {
        id: "event-sizes",
        title: "events at the sizes of buffers come through whole",
        why: "Pages of 4 KiB, pipes of 64 KiB and arguments of 128 KiB are where bytes get lost.",
        mend: "Loop until everything is read and written; do not pass events as arguments.",
        reference: book::NEXT,
        run: |trial| {
            for edge in [4096, 16_384, 65_536, 131_072, 1 << 20] {
                for size in [edge - 1, edge, edge + 1] {
                    trial.echo(Event::new(&text(size)))?;
                }
            }
            Ok(())
        },
        ..USUAL
    },
    Case {
        id: "event-6mib",
        title: "an event of 6 MiB comes through whole",
        why: "That is the largest event of a synchronous invocation.",
        mend: "Let buffers grow, and mind that memory holds event and response together.",
        reference: book::QUOTAS,
        run: |trial| {
            trial.echo(Event::new(&text(SYNC_REQUEST_BYTES)))?;
            trial.lives_on("an event of 6 MiB")
        },
        ..USUAL
    },
    Case {
        id: "event-deep",
        title: "an event of a hundred levels is no problem",
        why: "Nested documents are ordinary; parsers with a small limit refuse them.",
        mend: "Raise the parser's limit of depth to some hundred.",
        reference: "RFC 8259, JSON, section 9",
        run: |trial| {
            let deep = (0..100).fold(json!("bottom"), |inner, _| json!([inner]));
            trial.echo(Event::json(&deep))?;
            trial.lives_on("a deep event")
        },
        ..USUAL
    },
];

/// A JSON text of so many bytes.
fn text(size: usize) -> Vec<u8> {
    // No two blocks are the same: one that is lost, doubled or moved has to show.
    const BLOCK: usize = 1024;
    let mut text = String::with_capacity(size);
    text.push('"');
    let filler = "0123456789abcdef".repeat(BLOCK / 16);
    while text.len() + 1 < size {
        let block = format!("<{}>{filler}", text.len());
        let room = (size - 1 - text.len()).min(BLOCK);
        text.push_str(&block[..room]);
    }
    text.push('"');
    text.into_bytes()
}

/// The event comes back as it was, or as an error; then the next one is fine.
fn anything(trial: &mut Trial<'_>, bytes: &[u8], what: &str) -> Step<()> {
    let outcome = trial.exchange(Event::new(bytes)).map_err(|stop| match stop {
        Stop::Fail(why) => Stop::Fail(format!("{what}: {why}")),
        other => other,
    })?;
    // Nothing may become `null`, as it does for languages without a word for nothing.
    let is_nothing = bytes.is_empty() && !matches!(outcome.json(), Some(Value::Object(_)));
    if !outcome.is_error && outcome.body() != bytes && !is_nothing {
        return fail(format!("{what} came back as {}", outcome.shown()));
    }
    trial.lives_on(what)
}
