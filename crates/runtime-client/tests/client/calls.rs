use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use lambfold_runtime_client::scripted::{Call, Event, Server};
use lambfold_runtime_client::{Client, Error, Frame, FunctionError};

const SOON: Duration = Duration::from_secs(20);

fn client(server: &Server) -> Client {
    Client::new(server.endpoint()).unwrap()
}

#[test]
fn an_event_arrives_with_all_that_the_platform_says_about_it() {
    let server = Server::start().unwrap();
    server.push(
        Event::new("id-1", "{\"a\":1}")
            .with_field("Lambda-Runtime-Deadline-Ms", "1700000000123")
            .with_field("Lambda-Runtime-Trace-Id", "Root=1-2;Sampled=1")
            .with_field("Lambda-Runtime-Client-Context", "{\"client\":\"é\"}")
            .with_field("Lambda-Runtime-Cognito-Identity", "{}")
            .with_field("Lambda-Runtime-Aws-Tenant-Id", "tenant a")
            .with_field("Lambfold-Invoke-Mode", "RESPONSE_STREAM")
            .with_field("Content-Type", "text/plain"),
    );
    let event = client(&server).next().unwrap();
    assert_eq!(event.request_id(), "id-1");
    assert_eq!(event.deadline_ms(), 1_700_000_000_123);
    assert_eq!(event.remaining(), Duration::ZERO);
    assert_eq!(event.trace_id(), Some("Root=1-2;Sampled=1"));
    assert_eq!(event.client_context(), Some("{\"client\":\"é\"}"));
    assert_eq!(event.cognito_identity(), Some("{}"));
    assert_eq!(event.tenant_id(), Some("tenant a"));
    assert!(event.caller_streams());
    assert_eq!(event.content_type(), "text/plain");
    assert!(event.function_arn().ends_with(":function:test"));
    assert_eq!(event.body(), b"{\"a\":1}");
}

#[test]
fn what_was_not_sent_is_absent_and_the_deadline_counts_down() {
    let server = Server::start().unwrap();
    server.push(Event::new("id", "").with_timeout(Duration::from_secs(100)));
    let event = client(&server).next().unwrap();
    assert_eq!((event.trace_id(), event.tenant_id()), (None, None));
    assert!(!event.caller_streams());
    assert_eq!(event.body(), b"");
    let left = event.remaining();
    assert!(left > Duration::from_secs(50) && left <= Duration::from_secs(100), "{left:?}");
}

#[test]
fn many_events_go_over_one_connection() {
    let server = Server::start().unwrap();
    let mut client = client(&server);
    for round in 0..50 {
        let body = vec![b'x'; round * 1000];
        server.push(Event::new(&format!("id-{round}"), body.clone()));
        let event = client.next().unwrap();
        client.respond(event.request_id(), "application/json", event.body()).unwrap();
        let post = server.post(SOON).unwrap();
        assert_eq!((post.call, post.request_id), (Call::Response, format!("id-{round}")));
        assert_eq!(post.body, body);
    }
    assert_eq!(server.connections(), 1);
}

#[test]
fn events_and_answers_of_six_mebibytes_pass_unchanged() {
    let server = Server::start().unwrap();
    let mut client = client(&server);
    let body: Vec<u8> = (0..6_291_556_u32).map(|n| (n * 7 + n / 251) as u8).collect();
    server.push(Event::new("id", body.clone()));
    let event = client.next().unwrap();
    client.respond(event.request_id(), "application/octet-stream", event.body()).unwrap();
    assert_eq!(server.post(SOON).unwrap().body, body);
}

#[test]
fn an_error_carries_type_message_stack_and_cause() {
    let server = Server::start().unwrap();
    let mut client = client(&server);
    server.push(Event::new("id", ""));
    let event = client.next().unwrap();
    let stack = vec![Frame { path: "/var/task/x".into(), line: 7, label: "f".into() }];
    client
        .error(event.request_id(), &FunctionError::new("Oops", "line\n\"2\"").with_stack(stack))
        .unwrap();
    let post = server.post(SOON).unwrap();
    assert_eq!(post.call, Call::Error);
    assert_eq!(post.field("lambda-runtime-function-error-type"), Some("Function.Oops"));
    let cause = post.field("lambda-runtime-function-xray-error-cause").unwrap();
    let cause: serde_json::Value = serde_json::from_str(cause).unwrap();
    assert_eq!(cause["exceptions"][0]["stack"][0]["label"], "f");
    let body: serde_json::Value = serde_json::from_slice(&post.body).unwrap();
    assert_eq!(
        body,
        serde_json::json!({
            "errorMessage": "line\n\"2\"", "errorType": "Oops", "stackTrace": ["f (/var/task/x:7)"]
        })
    );
}

#[test]
fn a_cause_of_almost_a_mebibyte_arrives() {
    let server = Server::start().unwrap();
    server.push(Event::new("id", ""));
    let mut client = client(&server);
    let event = client.next().unwrap();
    let cause = format!("\"{}\"", "c".repeat(900_000));
    client
        .error(event.request_id(), &FunctionError::new("T", "m").with_cause(cause.clone()))
        .unwrap();
    let post = server.post(SOON).unwrap();
    assert_eq!(post.field("lambda-runtime-function-xray-error-cause"), Some(cause.as_str()));
}

#[test]
fn a_failed_init_is_told_once_and_is_the_error_of_every_worker() {
    let server = Server::start().unwrap();
    let cause = FunctionError::new("Runtime.NoHandler", "there is no handler");
    let told = || Client::new(server.endpoint()).unwrap().fail_init(&cause).to_string();
    let expected = "init failed: Runtime.NoHandler: there is no handler";
    assert_eq!(told(), expected);
    // Another worker was first.
    server.answer_next_post_with(403, "{}");
    assert_eq!(told(), expected);
    // That it could not be told counts more.
    server.answer_next_post_with(500, "{}");
    let untold = told();
    assert!(untold.contains("refused `init/error` with status 500"), "{untold}");
}

#[test]
fn an_init_error_is_posted_before_any_event() {
    let server = Server::start().unwrap();
    client(&server).init_error(&FunctionError::new("Runtime.HandlerNotFound", "none")).unwrap();
    let post = server.post(SOON).unwrap();
    assert_eq!(post.call, Call::InitError);
    assert_eq!(post.field("lambda-runtime-function-error-type"), Some("Runtime.HandlerNotFound"));
}

#[test]
fn streamed_parts_arrive_before_the_end_and_the_connection_stays() {
    let server = Server::start().unwrap();
    let mut client = client(&server);
    server.push(Event::new("id", ""));
    client.next().unwrap();
    let mut stream = client.stream("id", "text/plain").unwrap();
    stream.write_all(b"first").unwrap();
    assert!(server.wait_streamed(SOON, |bytes| bytes == b"first").is_some());
    stream.write_all(b"").unwrap();
    stream.write_all(b" second").unwrap();
    stream.finish().unwrap();
    let post = server.post(SOON).unwrap();
    assert_eq!(post.text(), "first second");
    assert_eq!(post.field("lambda-runtime-function-response-mode"), Some("streaming"));
    assert_eq!(post.field("content-type"), Some("text/plain"));
    assert!(post.trailers.is_empty() && !post.is_cut);
    server.push(Event::new("id-2", ""));
    assert_eq!(client.next().unwrap().request_id(), "id-2");
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_stream_that_fails_says_so_in_trailers() {
    let server = Server::start().unwrap();
    let mut client = client(&server);
    server.push(Event::new("id", ""));
    client.next().unwrap();
    let mut stream = client.stream("id", "text/plain").unwrap();
    stream.write_all(b"part").unwrap();
    stream.fail(&FunctionError::new("Function.Broken", "x")).unwrap();
    let post = server.post(SOON).unwrap();
    assert_eq!(post.text(), "part");
    assert_eq!(post.trailer("lambda-runtime-function-error-type"), Some("Function.Broken"));
    assert_eq!(
        post.trailer("lambda-runtime-function-error-body"),
        Some("eyJlcnJvck1lc3NhZ2UiOiJ4IiwiZXJyb3JUeXBlIjoiRnVuY3Rpb24uQnJva2VuIiwic3RhY2tUcmFjZSI6W119")
    );
}

#[test]
fn a_stream_that_is_dropped_is_seen_as_cut() {
    let server = Server::start().unwrap();
    let mut client = client(&server);
    server.push(Event::new("id", ""));
    client.next().unwrap();
    let mut stream = client.stream("id", "text/plain").unwrap();
    stream.write_all(b"part").unwrap();
    drop(stream);
    assert!(server.post(SOON).unwrap().is_cut);
    server.push(Event::new("id-2", ""));
    assert_eq!(client.next().unwrap().request_id(), "id-2");
}

#[test]
fn refusals_name_call_status_and_reason() {
    let server = Server::start().unwrap();
    let mut client = client(&server);
    for (status, about_this_event, too_large) in
        [(400, true, false), (403, true, false), (413, true, true), (500, false, false)]
    {
        server.push(Event::new("id", ""));
        client.next().unwrap();
        server.answer_next_post_with(status, "{\"errorMessage\":\"why\"}");
        let error = client.respond("id", "application/json", b"{}").unwrap_err();
        assert_eq!(error.is_about_this_event(), about_this_event, "{status}");
        assert_eq!(error.is_too_large(), too_large, "{status}");
        let text = error.to_string();
        assert!(text.contains("`response`") && text.contains("why"), "{text}");
        assert!(text.contains(&status.to_string()), "{text}");
    }
}

#[test]
fn next_is_asked_again_when_a_kept_connection_was_closed() {
    let server = Server::start().unwrap();
    let mut client = client(&server);
    server.push(Event::new("id-1", ""));
    client.next().unwrap();
    server.drop_connection_once();
    client.respond("id-1", "application/json", b"{}").unwrap();
    server.push(Event::new("id-2", ""));
    assert_eq!(client.next().unwrap().request_id(), "id-2");
    assert_eq!(server.connections(), 2);
}

/// Answers each connection's first request with the given bytes and closes it.
fn raw_server(answers: Vec<Vec<u8>>) -> (String, thread::JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let served = thread::spawn(move || {
        let mut count = 0;
        for answer in answers {
            let (mut stream, _): (TcpStream, _) = listener.accept().unwrap();
            count += 1;
            let _ = stream.read(&mut [0; 4096]);
            stream.write_all(&answer).unwrap();
        }
        count
    });
    (endpoint, served)
}

#[test]
fn events_without_what_every_event_has_are_refused() {
    let event = |fields: &str| {
        let answer = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 0\r\n\r\n");
        let (endpoint, _served) = raw_server(vec![answer.into_bytes()]);
        Client::new(endpoint).unwrap().next()
    };
    let id = "Lambda-Runtime-Aws-Request-Id: a-1\r\n";
    let deadline = "Lambda-Runtime-Deadline-Ms: 5\r\n";
    assert!(event(&format!("{id}{deadline}")).is_ok());
    for (fields, header) in [
        (deadline.to_owned(), "Lambda-Runtime-Aws-Request-Id"),
        (
            format!("Lambda-Runtime-Aws-Request-Id: a/b\r\n{deadline}"),
            "Lambda-Runtime-Aws-Request-Id",
        ),
        (
            format!("Lambda-Runtime-Aws-Request-Id: a b\r\n{deadline}"),
            "Lambda-Runtime-Aws-Request-Id",
        ),
        (id.to_owned(), "Lambda-Runtime-Deadline-Ms"),
        (format!("{id}Lambda-Runtime-Deadline-Ms: soon\r\n"), "Lambda-Runtime-Deadline-Ms"),
    ] {
        let error = event(&fields).unwrap_err();
        assert!(matches!(error, Error::BadEvent { header: h } if h == header), "{error}");
    }
}

#[test]
fn an_answer_that_comes_before_the_whole_body_was_taken_is_what_counts() {
    let answer =
        b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}".to_vec();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 100]);
        stream.write_all(&answer).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        // Takes the rest so that the answer is not lost to a reset.
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let mut client = Client::new(endpoint).unwrap();
    let error = client.respond("id", "application/json", &vec![0; 1 << 22]).unwrap_err();
    assert!(error.is_too_large(), "{error}");
    drop(client);
    server.join().unwrap();
}

#[test]
fn nobody_there_is_an_error_that_names_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = Client::new(endpoint.clone()).unwrap().next().unwrap_err();
    assert!(error.to_string().contains(&endpoint), "{error}");
}

#[test]
fn header_injection_through_a_content_type_is_impossible() {
    let server = Server::start().unwrap();
    let mut client = client(&server);
    server.push(Event::new("id", ""));
    client.next().unwrap();
    client.respond("id", "text/plain\r\nX-Evil: 1", b"").unwrap();
    let post = server.post(SOON).unwrap();
    assert_eq!(post.field("x-evil"), None);
    assert_eq!(post.field("content-type"), Some("text/plainX-Evil: 1"));
}
