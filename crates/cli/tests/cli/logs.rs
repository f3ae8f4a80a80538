use crate::scripted::{Reply, Scripted};
use crate::{against, lambfold};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

fn configuration() -> Reply {
    Reply::json(200, json!({"FunctionName": "f"}))
}

fn event(timestamp: i64, id: &str, message: &str) -> Value {
    json!({
        "logStreamName": "2026/01/02/[$LATEST]0",
        "timestamp": timestamp,
        "message": message,
        "ingestionTime": timestamp,
        "eventId": id,
    })
}

fn page(events: &[Value], next: Option<&str>) -> Reply {
    let mut body = json!({"events": events, "searchedLogStreams": []});
    if let Some(next) = next {
        body["nextToken"] = next.into();
    }
    Reply::json(200, body)
}

#[test]
fn all_pages_are_printed_in_order() {
    let first = page(&[event(1_763_823_845_123, "1", "START\n")], Some("t"));
    let second = page(&[event(1_763_823_845_124, "2", "END\n")], None);
    let server = Scripted::new([configuration(), first, second]);
    let ran = against(&server, &["logs", "f", "--since", "1h"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(ran.stdout, "2025-11-22T15:04:05.123Z START\n2025-11-22T15:04:05.124Z END\n");
    assert_eq!(server.next().line, "GET /2015-03-31/functions/f/configuration HTTP/1.1");
    let request = server.next();
    assert_eq!(request.line, "POST / HTTP/1.1");
    assert_eq!(request.header("x-amz-target"), Some("Logs_20140328.FilterLogEvents"));
    assert_eq!(request.header("content-type"), Some("application/x-amz-json-1.1"));
    let authorization = request.header("authorization").unwrap();
    assert!(authorization.contains("/us-east-1/logs/aws4_request"), "{authorization}");
    assert!(authorization.contains("x-amz-target"), "{authorization}");
    let input = request.json();
    assert_eq!(input["logGroupName"], "/aws/lambda/f");
    assert!(input["startTime"].as_i64().is_some_and(|ms| ms > 1_700_000_000_000));
    assert_eq!(server.next().json()["nextToken"], "t");
}

#[test]
fn a_chosen_log_group_is_read() {
    let chosen = json!({"FunctionName": "f", "LoggingConfig": {"LogGroup": "/mine"}});
    let server = Scripted::new([Reply::json(200, chosen), page(&[], None)]);
    let ran = against(&server, &["logs", "f"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""));
    assert!(ran.stderr.contains("no log lines in the last 10m"), "{}", ran.stderr);
    server.next();
    assert_eq!(server.next().json()["logGroupName"], "/mine");
}

#[test]
fn a_function_that_never_ran_has_no_lines_and_one_that_is_not_there_is_an_error() {
    let no_group =
        || Reply::json(400, json!({"__type": "ResourceNotFoundException", "message": "no group"}));
    let server = Scripted::new([configuration(), no_group()]);
    let ran = against(&server, &["logs", "f"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""), "{}", ran.stderr);
    let server = Scripted::new([Reply::not_found(), no_group()]);
    let ran = against(&server, &["logs", "f"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("Function not found"), "{}", ran.stderr);
}

#[test]
fn lines_of_a_deleted_function_can_still_be_read() {
    let left = || page(&[event(1_763_823_845_123, "1", "bye\n")], None);
    let server = Scripted::new([Reply::not_found(), left(), left()]);
    let ran = against(&server, &["logs", "f"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "2025-11-22T15:04:05.123Z bye\n"));
}

#[test]
fn following_prints_each_line_once_as_it_comes() {
    let now = 4_000_000_000_000;
    let replies = [
        configuration(),
        page(&[event(now, "1", "one\n")], None),
        page(&[event(now, "1", "one\n"), event(now, "2", "two\n")], None),
        page(&[event(now - 1, "3", "late\n"), event(now, "2", "two\n")], None),
    ];
    let server = Scripted::new(replies);
    let mut command = lambfold(&["logs", "f", "--follow", "--output", "json"]);
    command.env("AWS_ENDPOINT_URL", server.url()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let reader = BufReader::new(child.stdout.take().unwrap());
    let messages: Vec<_> = reader
        .lines()
        .take(3)
        .map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap()["message"].clone())
        .collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(messages, ["one\n", "two\n", "late\n"]);
    for _ in 0..3 {
        server.next();
    }
    assert_eq!(server.next().json()["startTime"], now - 5_000);
}
