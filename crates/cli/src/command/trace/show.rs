//! A call as people read it.

use super::shared;
use lambfold_trace::{Body, Call, Message, State};
use std::fmt::Write as _;

/// Characters of an environment's id that tell it from others.
const ID_CHARS: usize = 8;

/// A call in lines: what was asked and how it ended, then `>` for what was sent and `<` for what
/// was answered. Nothing that a guest sent can write to the terminal beyond its line.
pub(super) fn call(call: &Call, limit: usize) -> String {
    let time = shared::show_time(i64::try_from(call.at).unwrap_or(i64::MAX));
    let mut text =
        format!("{time} {} {} {}", environment(call), visible(&call.method), visible(&call.path));
    match (call.state, &call.answer) {
        (State::Waiting, _) => text.push_str(" waits"),
        (State::Gone, _) => text.push_str(" broke off"),
        (State::Answered, Some(answer)) => {
            let _ = write!(text, " -> {}", answer.status);
        }
        (State::Answered, None) => {}
    }
    match call.took_us {
        Some(took) if call.state != State::Waiting => {
            let _ = write!(text, " after {}", duration(took));
        }
        _ => {}
    }
    text.push('\n');
    if call.state == State::Waiting {
        return text;
    }
    message(&mut text, '>', &call.request, limit);
    if let Some(answer) = &call.answer {
        message(&mut text, '<', &answer.message, limit);
    }
    text
}

/// The same call with less of its bodies.
pub(super) fn shortened(call: &Call, limit: usize) -> Call {
    let mut call = call.clone();
    call.request.body = cut(&call.request.body, limit);
    if let Some(answer) = &mut call.answer {
        answer.message.body = cut(&answer.message.body, limit);
    }
    call
}

fn cut(body: &Body, limit: usize) -> Body {
    let kept = body.kept().len().min(limit);
    Body::beginning(body.kept().slice(..kept), body.bytes())
}

/// `[version]` and the first digits of the id, of `2025/11/22/[$LATEST]0123456789abcdef…`.
fn environment(call: &Call) -> String {
    let stream = &call.environment;
    match stream.split_once('[').and_then(|(_, rest)| rest.split_once(']')) {
        Some((version, id)) => {
            let id: String = id.chars().take(ID_CHARS).collect();
            format!("[{}]{}", visible(version), visible(&id))
        }
        None => visible(stream),
    }
}

fn duration(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{}.{} ms", us / 1_000, us / 100 % 10),
        _ => format!("{}.{:03} s", us / 1_000_000, us / 1_000 % 1_000),
    }
}

fn message(text: &mut String, sign: char, message: &Message, limit: usize) {
    for (name, value) in &message.headers {
        let _ = writeln!(text, "    {sign} {}: {}", visible(name), visible(value));
    }
    let body = cut(&message.body, limit);
    if body.bytes() == 0 {
        return;
    }
    let shown = match std::str::from_utf8(body.kept()) {
        Ok(shown) => visible(shown.strip_suffix('\n').unwrap_or(shown)),
        Err(_) => {
            format!("bytes that are no text: {}", visible(&body.kept().escape_ascii().to_string()))
        }
    };
    let more = if body.is_whole() { "" } else { "…" };
    let bytes = if body.bytes() == 1 { "byte" } else { "bytes" };
    let _ = writeln!(text, "    {sign} {shown}{more} ({} {bytes})", body.bytes());
}

/// Text with its control characters written out.
fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use lambfold_trace::Answer;
    use proptest::prelude::*;

    fn sample(state: State) -> Call {
        let message = |body: &str| Message {
            headers: [("content-type".to_owned(), "application/json".to_owned())].into(),
            body: Body::new(&body.to_owned().into(), usize::MAX),
        };
        Call {
            at: 1_763_823_845_123,
            environment: "2025/11/22/[$LATEST]0123456789abcdef".into(),
            version: "$LATEST".into(),
            state,
            method: "POST".into(),
            path: "/2018-06-01/runtime/invocation/1/response".into(),
            request: message("{\n  \"a\": 1}\n"),
            answer: Some(Answer { status: 202, message: message("{\"status\":\"OK\"}\n") }),
            took_us: Some(1_234),
        }
    }

    #[test]
    fn a_call_as_people_read_it() {
        assert_eq!(
            call(&sample(State::Answered), 1024),
            "2025-11-22T15:04:05.123Z [$LATEST]01234567 POST /2018-06-01/runtime/invocation/1/response -> 202 after 1.2 ms
    > content-type: application/json
    > {\\n  \"a\": 1} (12 bytes)
    < content-type: application/json
    < {\"status\":\"OK\"} (16 bytes)
"
        );
        let waits = call(&sample(State::Waiting), 1024);
        assert!(waits.ends_with("/response waits\n"), "{waits}");
        let gone = Call { answer: None, took_us: None, ..sample(State::Gone) };
        assert!(call(&gone, 1024).contains("/response broke off\n"));
    }

    #[test]
    fn bodies_are_shown_up_to_the_limit() {
        let text = call(&sample(State::Answered), 3);
        assert!(text.contains("> {\\n … (12 bytes)"), "{text}");
        let shortened = shortened(&sample(State::Answered), 3);
        assert_eq!(shortened.request.body.kept(), "{\n ");
        assert_eq!(shortened.request.body.bytes(), 12);
    }

    #[test]
    fn durations_have_their_unit() {
        assert_eq!(duration(999), "999 µs");
        assert_eq!(duration(1_000), "1.0 ms");
        assert_eq!(duration(999_999), "999.9 ms");
        assert_eq!(duration(61_005_000), "61.005 s");
    }

    proptest! {
        #[test]
        fn no_guest_writes_to_the_terminal(path in ".{0,30}", body in prop::collection::vec(any::<u8>(), 0..60), name in "\\PC{0,9}", value in ".{0,20}") {
            let mut sample = sample(State::Answered);
            sample.path = path;
            sample.request = Message { headers: [(name, value)].into(), body: Body::new(&body.into(), 50) };
            let text = call(&sample, 40);
            prop_assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{:?}", text);
            prop_assert!(text.lines().count() <= 5);
        }
    }
}
