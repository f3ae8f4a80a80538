#![allow(clippy::unwrap_used)]
use super::*;
use crate::call::{Answer, Message};
use bytes::Bytes;
use proptest::prelude::*;

fn call(environment: &str, path: &str) -> Call {
    Call {
        at: 5_000,
        environment: environment.into(),
        version: "3".into(),
        state: State::Answered,
        method: "POST".into(),
        path: path.into(),
        request: Message::default(),
        answer: None,
        took_us: None,
    }
}

fn message(headers: &[(&str, &str)], body: &str) -> Message {
    let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    Message { headers, body: Body::new(&Bytes::copy_from_slice(body.as_bytes()), usize::MAX) }
}

/// The `next` that gave an event.
fn given(environment: &str, id: &str, event: &str) -> Call {
    let headers = [("lambda-runtime-aws-request-id", id), ("lambda-runtime-client-context", "{}")];
    let message = message(&headers, event);
    Call { answer: Some(Answer { status: 200, message }), at: 4_900, ..call(environment, NEXT) }
}

fn posted(environment: &str, id: &str, kind: &str, body: &str, status: u16) -> Call {
    let path = format!("/2018-06-01/runtime/invocation/{id}/{kind}");
    let answer = Some(Answer { status, message: Message::default() });
    let request = message(&[("content-type", "application/json")], body);
    Call { request, answer, ..call(environment, &path) }
}

fn read(bytes: &[u8]) -> Result<Vec<Recorded>, RecordingError> {
    Recording::open(bytes)?.collect()
}

#[test]
fn events_and_their_answers_are_written_and_read() {
    let mut recorder = Recorder::default();
    let mut file = Recorder::head("arn:f", 1_000);
    for call in [
        given("a", "1", "{\"n\":1}"),
        given("b", "2", "\u{0}\n"),
        posted("b", "2", "error", "{\"errorType\":\"E\"}", 202),
        posted("a", "1", "response", "ok", 202),
        // For an event that is over.
        posted("a", "1", "response", "again", 400),
    ] {
        file.extend(recorder.take(&call).into_iter().flatten());
    }
    assert_eq!(recorder.unanswered(), 0);
    let recording = Recording::open(&file[..]).unwrap();
    assert_eq!((&*recording.function, recording.recorded_at), ("arn:f", 1_000));
    let events: Vec<Recorded> = recording.map(Result::unwrap).collect();
    assert_eq!(events.len(), 2);
    assert_eq!((&*events[0].request_id, events[0].answer.outcome), ("2", Outcome::Error));
    assert_eq!(events[0].event.kept(), "\u{0}\n");
    assert_eq!((&*events[1].request_id, events[1].answer.outcome), ("1", Outcome::Response));
    assert_eq!(events[1].answer.body.kept(), "ok");
    assert_eq!((&*events[1].version, events[1].client_context()), ("3", Some("{}")));
    assert_eq!(events[1].took_us, Some(100_000));
}

#[test]
fn events_without_an_answer_are_counted() {
    let mut recorder = Recorder::default();
    assert_eq!(recorder.take(&given("a", "1", "{}")), None);
    // The same event is given again to a runtime that asks again.
    assert_eq!(recorder.take(&given("a", "1", "{}")), None);
    assert_eq!(recorder.take(&given("a", "2", "{}")), None);
    assert_eq!(recorder.take(&posted("a", "1", "response", "late", 202)), None);
    assert_eq!(recorder.take(&posted("a", "2", "response", "refused", 413)), None);
    assert_eq!(recorder.unanswered(), 2);
}

#[test]
fn a_recording_to_the_byte() {
    let mut recorder = Recorder::default();
    recorder.take(&given("a", "1", "{}"));
    let line = recorder.take(&posted("a", "1", "response", "ok", 202)).unwrap();
    assert_eq!(
        String::from_utf8(Recorder::head("arn:f", 1_000)).unwrap(),
        "{\"type\":\"recording\",\"format\":1,\"function\":\"arn:f\",\"recordedAt\":1000}\n"
    );
    assert_eq!(
        String::from_utf8(line).unwrap(),
        concat!(
            r#"{"type":"event","at":5000,"version":"3","requestId":"1","#,
            r#""headers":{"lambda-runtime-aws-request-id":"1","lambda-runtime-client-context":"{}"},"#,
            r#""event":{"bytes":2,"text":"{}"},"answer":{"outcome":"response","#,
            r#""headers":{"content-type":"application/json"},"body":{"bytes":2,"text":"ok"}},"#,
            r#""tookUs":100000}"#,
            "\n"
        )
    );
}

#[test]
fn what_is_no_recording_is_refused_with_its_line() {
    let head = String::from_utf8(Recorder::head("f", 1)).unwrap();
    let error = |text: &str| read(text.as_bytes()).unwrap_err().to_string();
    assert!(error("").contains("no recording"));
    assert!(error("{}\n").contains("no recording"));
    assert!(error("PK\u{3}\u{4}").contains("no recording"));
    let newer = "{\"type\":\"recording\",\"format\":2,\"what\":\"else\"}\n";
    assert_eq!(error(newer), "it has format 2, and this program reads formats up to 1");
    assert_eq!(error(&format!("{head}\n{{\"type\":1}}\n")), "line 3 is no event of a recording");
    assert_eq!(error(&format!("{head}{head}")), "line 2 is no event of a recording");
    assert_eq!(read(head.as_bytes()).unwrap(), []);
}

#[test]
fn lines_have_a_limit() {
    let read = |text: &[u8], limit| read_line(&mut &text[..], limit);
    assert_eq!(read(b"abc\nd", 4).unwrap().unwrap(), b"abc\n");
    assert_eq!(read(b"abcd", 4).unwrap().unwrap(), b"abcd");
    assert!(matches!(read(b"abcd\n", 4), Err(None)));
    assert!(matches!(read(b"abcde", 4), Err(None)));
    assert_eq!(read(b"", 4).unwrap(), None);
    let mut long = Recorder::head("f", 1);
    long.resize(long.len() + LINE_BYTES, b' ');
    assert_eq!(tests::read(&long).unwrap(), []);
    long.push(b' ');
    assert!(matches!(tests::read(&long), Err(RecordingError::LongLine { line: 2 })));
}

#[test]
fn there_are_so_many_events_and_no_more() {
    let mut recorder = Recorder::default();
    recorder.take(&given("a", "1", "{}"));
    let line = recorder.take(&posted("a", "1", "response", "", 202)).unwrap();
    let mut file = Recorder::head("f", 1);
    for _ in 0..EVENTS {
        file.extend_from_slice(&line);
    }
    assert_eq!(read(&file).unwrap().len(), EVENTS);
    file.extend_from_slice(&line);
    assert!(matches!(read(&file), Err(RecordingError::TooMany)));
}

proptest! {
    #[test]
    fn any_file_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
        let mut file = Recorder::head("f", 1);
        file.extend_from_slice(&bytes);
        let _ = read(&file);
    }

    /// Whatever order calls come in, an event is written once at most, with its own answer.
    #[test]
    fn answers_stay_with_their_events(
        calls in prop::collection::vec((0u8..3, 0u8..4, 0u8..3), 0..60),
    ) {
        let mut recorder = Recorder::default();
        let mut file = Recorder::head("f", 1);
        for (environment, id, kind) in calls {
            let (environment, id) = (environment.to_string(), format!("{environment}-{id}"));
            let call = match kind {
                0 => given(&environment, &id, &id),
                1 => posted(&environment, &id, "response", &id, 202),
                _ => posted(&environment, &id, "error", &id, 202),
            };
            file.extend(recorder.take(&call).into_iter().flatten());
        }
        for event in read(&file).unwrap() {
            prop_assert_eq!(event.event.kept(), event.answer.body.kept());
            prop_assert_eq!(event.request_id.as_bytes(), &event.event.kept()[..]);
        }
    }
}
