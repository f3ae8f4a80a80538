//! `lambfold trace` and `lambfold invoke --replay`, as people and as programs use them.

use crate::e2e::harness::{Api, bin, lambfold, server, wait_until};
use crate::e2e::terminal::Terminal;
use lambfold_testkit::TempServer;
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// A `lambfold trace` that has said that it sees everything from now on.
struct Tracing {
    child: Child,
    talk: BufReader<std::process::ChildStderr>,
}

impl Tracing {
    fn begin(server: &TempServer, arguments: &[&str]) -> Self {
        let mut command = server.client(lambfold());
        command.arg("trace").args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut talk = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        talk.read_line(&mut line).unwrap();
        assert!(line.starts_with("tracing "), "{line}");
        Self { child, talk }
    }

    /// Waits for its end: exit code, data, talk.
    fn end(mut self) -> (i32, String, String) {
        let output = self.child.wait_with_output().unwrap();
        let mut talk = String::new();
        std::io::Read::read_to_string(&mut self.talk, &mut talk).unwrap();
        let data = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), data, talk)
    }
}

fn lines(data: &str) -> Vec<Value> {
    data.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn run(server: &TempServer, arguments: &[&str]) -> Output {
    server.client(lambfold()).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_call_is_seen_as_json() {
    let server = server();
    let api = Api::new(server.url());
    api.create_puppet("traced", json!({}));
    api.create_puppet("other", json!({}));
    let tracing = Tracing::begin(&server, &["traced", "--output", "json", "--count", "3"]);
    api.invoke("other", &json!({}));
    api.invoke("traced", &json!({"do": "echo", "n": 1}));
    api.invoke("traced", &json!({"do": "fail"}));
    let (code, data, _) = tracing.end();
    assert_eq!(code, 0);
    let lines = lines(&data);
    assert_eq!(lines[0]["type"], "begin");
    assert_eq!(lines.last().unwrap(), &json!({"type": "end", "reason": "count"}));
    let calls: Vec<&Value> = lines.iter().filter(|line| line["type"] == "call").collect();
    let answered: Vec<&&Value> = calls.iter().filter(|call| call["state"] == "answered").collect();
    let next = "/2018-06-01/runtime/invocation/next";
    assert_eq!((&answered[0]["method"], &answered[0]["path"]), (&"GET".into(), &next.into()));
    assert_eq!(answered[0]["answer"]["body"]["text"], "{\"do\":\"echo\",\"n\":1}");
    assert_eq!(answered[0]["version"], "$LATEST");
    let id = answered[0]["answer"]["headers"]["lambda-runtime-aws-request-id"].as_str().unwrap();
    let path = format!("/2018-06-01/runtime/invocation/{id}/response");
    assert_eq!(answered[1]["path"], path.as_str());
    assert_eq!(answered[1]["answer"]["status"], 202);
    assert!(answered[1]["tookUs"].is_u64());
    // The environment of the other function would be another one.
    let environments: std::collections::BTreeSet<_> =
        calls.iter().map(|call| call["environment"].to_string()).collect();
    assert_eq!(environments.len(), 1, "{environments:?}");
}

#[test]
fn a_trace_ends_with_its_time_and_with_its_server() {
    let mut server = server();
    Api::new(server.url()).create_puppet("f", json!({}));
    let (code, data, talk) = Tracing::begin(&server, &["f", "--for", "1s"]).end();
    assert_eq!((code, &*data), (0, ""));
    assert!(talk.contains("no calls were seen"), "{talk}");
    let tracing = Tracing::begin(&server, &["f"]);
    assert_eq!(server.stop(std::time::Duration::from_secs(30)), Some(0));
    let (code, _, talk) = tracing.end();
    assert_eq!(code, 0);
    assert!(talk.contains("the server is shutting down"), "{talk}");
    let gone = run(&server, &["trace", "f"]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(text(&gone.stderr).contains("lambfold serve"), "{}", text(&gone.stderr));
}

#[test]
fn variables_of_the_function_are_not_shown() {
    let server = server();
    let api = Api::new(server.url());
    let secret = json!({"Environment": {"Variables": {"PASSWORD": "swordfish"}}});
    api.create_puppet("f", secret);
    let tracing = Tracing::begin(&server, &["f", "--output", "json", "--count", "2"]);
    api.invoke("f", &json!({}));
    let (_, data, _) = tracing.end();
    assert!(!data.contains("swordfish"), "{data}");
}

/// A function of bash whose answer is the text in its `answer` file.
fn echo_once(folder: &Path, answer: &str) {
    let bootstrap = r#"#!/bin/sh
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
while :; do
  event=$(curl -sS -D /tmp/headers "$api/next")
  id=$(tr -d '\r' < /tmp/headers | sed -n 's/^[Ll]ambda-[Rr]untime-[Aa]ws-[Rr]equest-[Ii]d: //p')
  case $event in
    *fail*) curl -sS -d '{"errorType":"Asked","errorMessage":"as asked"}' "$api/$id/error" ;;
    *) curl -sS -d "{\"event\":$event,\"greeting\":\"$(cat answer)\",\"id\":\"$id\"}" "$api/$id/response" ;;
  esac > /dev/null
done
"#;
    std::fs::write(folder.join("bootstrap"), bootstrap).unwrap();
    std::fs::write(folder.join("answer"), answer).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.join("bootstrap"), mode).unwrap();
}

#[test]
fn what_is_recorded_is_sent_again_and_compared() {
    let server = server();
    let api = Api::new(server.url());
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    echo_once(old.path(), "hello");
    echo_once(new.path(), "good morning");
    api.create_from("f", old.path(), json!({"Publish": true}));
    let file = old.path().join("recording.jsonl");
    let path = file.to_str().unwrap();

    let tracing = Tracing::begin(&server, &["f", "--record", path, "--count", "3", "--body", "0"]);
    for event in [json!({"n": 1}), json!({"fail": true}), json!("text")] {
        assert_eq!(api.invoke("f", &event).status, 200);
    }
    let (code, data, talk) = tracing.end();
    assert_eq!(code, 0, "{talk}");
    assert!(talk.contains("3 events recorded in "), "{talk}");
    assert!(data.contains("/runtime/invocation/next -> 200"), "{data}");
    let recorded = lines(&std::fs::read_to_string(&file).unwrap());
    assert_eq!(recorded.len(), 4);
    assert_eq!((&recorded[0]["type"], &recorded[0]["format"]), (&"recording".into(), &1.into()));
    assert_eq!(recorded[1]["event"]["text"], "{\"n\":1}");
    assert_eq!(recorded[2]["answer"]["outcome"], "error");

    // The request id is another one each time.
    let same = run(&server, &["invoke", "f", "--replay", path, "--ignore", "/id"]);
    assert_eq!(same.status.code(), Some(0), "{}{}", text(&same.stdout), text(&same.stderr));
    assert!(text(&same.stderr).contains("3 the same, 0 different"), "{}", text(&same.stderr));
    let differs = run(&server, &["invoke", "f", "--replay", path]);
    assert_eq!(differs.status.code(), Some(1));

    let zip = crate::e2e::harness::zip(new.path());
    use base64::Engine as _;
    let zip = base64::engine::general_purpose::STANDARD.encode(zip);
    let update = json!({"ZipFile": zip, "Publish": true});
    assert_eq!(api.call("PUT", "/2015-03-31/functions/f/code", &update).status, 200);
    let other = ["invoke", "f", "--replay", path, "--ignore", "/id"];
    let changed = run(&server, &other);
    assert_eq!(changed.status.code(), Some(1));
    let shown = text(&changed.stdout);
    assert!(shown.contains("  /greeting\n    - \"hello\"\n    + \"good morning\"\n"), "{shown}");
    assert!(shown.contains("event 2 (") && shown.contains("): same\n"), "{shown}");
    // The version that was recorded still answers as it did.
    let first = run(&server, &[&other[..], &["--qualifier", "1", "--output", "json"]].concat());
    assert_eq!(first.status.code(), Some(0));
    let report: Value = serde_json::from_slice(&first.stdout).unwrap();
    assert_eq!((&report["Same"], &report["Different"]), (&3.into(), &0.into()));

    let wrong =
        run(&server, &["invoke", "f", "--replay", old.path().join("answer").to_str().unwrap()]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong.stderr).contains("it is no recording"), "{}", text(&wrong.stderr));
    let usage = run(&server, &["invoke", "f", "--replay", path, "--payload", "{}"]);
    assert_eq!(usage.status.code(), Some(2));
}

#[test]
fn the_conformance_kit_takes_recordings_as_cases() {
    let server = server();
    let api = Api::new(server.url());
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    echo_once(old.path(), "hello");
    echo_once(new.path(), "good morning");
    api.create_from("f", old.path(), json!({}));
    let file = recording(&server, &api);
    let recording = file.path().to_str().unwrap();
    let conform = |code: &Path, more: &[&str]| {
        let mut command = Command::new(lambfold());
        command.arg("conform").arg(code).args(["--recording", recording]).args(more);
        command.output().unwrap()
    };
    let recorded = ["--case", "recorded-*"];
    // The event has the request id that it had, so that even an answer with it is the same.
    let same = conform(old.path(), &recorded);
    assert_eq!(same.status.code(), Some(0), "{}", text(&same.stdout));
    assert!(text(&same.stdout).ends_with("2 passed, 0 failed\n"), "{same:?}");
    let other = conform(new.path(), &[&recorded[..], &["--output", "json"]].concat());
    assert_eq!(other.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&other.stdout).unwrap();
    assert_eq!(report["Cases"][0]["Id"], "recorded-1");
    assert_eq!(report["Cases"][0]["Verdict"], "fail");
    let detail = report["Cases"][0]["Detail"].as_str().unwrap();
    assert_eq!(detail, "at /greeting there was \"hello\" and is \"good morning\"");
    // An error is as it was.
    assert_eq!(report["Cases"][1]["Verdict"], "pass");
    let ignored = conform(new.path(), &[&recorded[..], &["--ignore", "/greeting"]].concat());
    assert_eq!(ignored.status.code(), Some(0), "{}", text(&ignored.stdout));
    let list = text(&conform(new.path(), &["--list"]).stdout);
    assert!(list.lines().last().unwrap().starts_with("recorded-2 "), "{list}");
    let none = conform(new.path(), &["--case", "recorded-3"]);
    assert_eq!(none.status.code(), Some(2));
}

/// A recording of two events of the function `f`, one of which fails.
fn recording(server: &TempServer, api: &Api) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let tracing = Tracing::begin(server, &["f", "--record", path, "--count", "2"]);
    for event in [json!({"n": 1}), json!({"fail": true})] {
        assert_eq!(api.invoke("f", &event).status, 200);
    }
    let (code, _, talk) = tracing.end();
    assert_eq!(code, 0, "{talk}");
    file
}

#[test]
fn a_trace_in_a_terminal_shows_calls_until_ctrl_c() {
    let server = server();
    let api = Api::new(server.url());
    api.create_puppet("f", json!({}));
    let terminal = Terminal::sized(&server, 140, 40);
    terminal.line("lambfold trace f --record calls.jsonl; echo \"ended:$?\"");
    terminal.wait_for_text("tracing f; Ctrl-C ends it");
    api.invoke("f", &json!({"do": "echo", "word": "\u{1b}[31mred"}));
    let screen = terminal.wait_for_text("< {\"status\":\"OK\"} (16 bytes)");
    assert!(screen.contains("GET /2018-06-01/runtime/invocation/next waits"), "{screen}");
    assert!(screen.contains("next -> 200 after "), "{screen}");
    assert!(screen.contains("> {\"do\":\"echo\",\"word\":\"\\u001b[31mred\"}"), "{screen}");
    assert!(screen.contains("/response -> 202 after "), "{screen}");
    terminal.keys(&["C-c"]);
    assert_eq!(terminal.ended(), 0);
    terminal.wait_for_text("1 event recorded in calls.jsonl");
    terminal.keys(&["C-l"]);
    assert_eq!(terminal.run("lambfold invoke f --replay calls.jsonl"), 0);
    let screen = terminal.screen();
    assert!(screen.contains("): same") && screen.contains("1 the same, 0 different"), "{screen}");
}

#[test]
fn a_reader_who_is_stopped_holds_nobody_up() {
    let server = server();
    let api = Api::new(server.url());
    api.create_puppet("f", json!({}));
    let tracing = Tracing::begin(&server, &["f", "--output", "json", "--body", "6291456"]);
    let pid = tracing.child.id().to_string();
    let signal = |name: &str| {
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    };
    signal("-STOP");
    // More than all buffers on the way and the queue hold together.
    let large = json!({"do": "echo", "large": "x".repeat(4 << 20)});
    for _ in 0..16 {
        let reply = api.invoke("f", &large);
        assert_eq!(reply.status, 200);
        assert!(reply.header("x-amz-function-error").is_none(), "{}", reply.text());
    }
    signal("-CONT");
    let mut data = BufReader::new(tracing.child.stdout.unwrap());
    let mut missing = 0;
    wait_until("word of what is missing", || {
        let mut line = String::new();
        data.read_line(&mut line).unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        missing += line["count"].as_u64().unwrap_or(0);
        line["type"] == "dropped"
    });
    assert!(missing > 0);
    signal("-KILL");
}

#[test]
fn the_crate_lambda_runtime_is_seen_too() {
    // It speaks HTTP of a kind that is served the long way.
    let server = server();
    let api = Api::new(server.url());
    api.create("f", &bin("lambda-runtime-echo"), json!({}));
    let tracing = Tracing::begin(&server, &["f", "--output", "json", "--count", "2"]);
    api.invoke("f", &json!({"from": "rust"}));
    let (_, data, _) = tracing.end();
    assert!(data.contains("aws-lambda-rust"), "{data}");
    assert!(data.contains(r#"{\"from\":\"rust\"}"#), "{data}");
}
