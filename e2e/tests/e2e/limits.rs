//! Limits of an execution environment, on both sides.

use super::harness::{Api, server};
use serde_json::json;
use std::time::Instant;

fn max_memory_used_mb(log: &str) -> u64 {
    let (_, rest) = log.split_once("Max Memory Used: ").expect(log);
    rest.split(' ').next().unwrap().parse().unwrap()
}

/// `/tmp` has its size, and what is in it is not the function's memory.
#[test]
fn tmp_takes_its_size_and_not_more_in_a_function_of_128_mb() {
    let server = server();
    let api = Api::new(server.url());
    api.create_puppet("f", json!({ "Timeout": 120 }));
    let first = api.invoke("f", &json!({ "do": "count" })).json()["pid"].clone();
    let reply = api.invoke("f", &json!({ "do": "write", "path": "/tmp/a", "mib": 480 })).json();
    assert_eq!(reply, json!({ "written": 480 }));
    let reply = api.invoke("f", &json!({ "do": "write", "path": "/tmp/b", "mib": 20 })).json();
    assert_eq!(reply, json!({ "written": 20 }));
    // 500 MiB are there; 13 more would be the 513th
    let reply = api.invoke("f", &json!({ "do": "write", "path": "/tmp/c", "mib": 13 })).json();
    assert_eq!(reply["errno"], 28, "{reply}");
    let last = api.invoke("f", &json!({ "do": "count" })).json();
    assert_eq!(last["pid"], first, "nothing was killed");
}

#[test]
fn tmp_is_kept_across_invokes_and_resets() {
    let server = server();
    let api = Api::new(server.url());
    api.create_puppet("f", json!({}));
    let write = json!({ "do": "run", "shell": "echo kept > /tmp/note" });
    assert_eq!(api.invoke("f", &write).json()["status"], 0);
    let reply = api.invoke("f", &json!({ "do": "exit", "code": 1 }));
    assert!(reply.header("x-amz-function-error").is_some());
    let reply = api.invoke("f", &json!({ "do": "read", "path": "/tmp/note" })).json();
    assert_eq!(reply, json!({ "text": "kept\n" }));
}

#[test]
fn the_report_tells_the_memory_that_was_used() {
    let server = server();
    let api = Api::new(server.url());
    api.create_puppet("small", json!({}));
    api.create_puppet("large", json!({}));
    let small = api.invoke_tail("small", &json!({ "do": "allocate", "mib": 10 }));
    let large = api.invoke_tail("large", &json!({ "do": "allocate", "mib": 90 }));
    let (small, large) = (max_memory_used_mb(&small.log()), max_memory_used_mb(&large.log()));
    assert!((10..40).contains(&small), "{small}");
    assert!((90..128).contains(&large), "{large}");
}

#[test]
fn memory_over_the_limit_is_an_out_of_memory_error_and_the_next_event_is_fine() {
    let server = server();
    let api = Api::new(server.url());
    api.create_puppet("f", json!({ "Timeout": 60 }));
    let reply = api.invoke_tail("f", &json!({ "do": "allocate", "mib": 200 }));
    assert_eq!(reply.json()["errorType"], "Runtime.OutOfMemory", "{}", reply.text());
    let message = reply.json()["errorMessage"].as_str().unwrap().to_owned();
    assert!(message.ends_with("Runtime exited with error: signal: killed"), "{message}");
    assert!(reply.log().contains("Error Type: Runtime.OutOfMemory"), "{}", reply.log());
    assert_eq!(api.invoke("f", &json!({ "do": "allocate", "mib": 60 })).status, 200);
}

#[test]
fn the_duration_is_what_the_function_took() {
    let server = server();
    let api = Api::new(server.url());
    api.create_puppet("f", json!({}));
    api.invoke("f", &json!({}));
    let begin = Instant::now();
    let log = api.invoke_tail("f", &json!({ "do": "sleep", "ms": 250 })).log();
    let waited_ms = begin.elapsed().as_secs_f64() * 1000.0;
    let (_, rest) = log.split_once("\tDuration: ").unwrap();
    let ms: f64 = rest.split(' ').next().unwrap().parse().unwrap();
    assert!((250.0..waited_ms).contains(&ms), "{log} in {waited_ms} ms");
    let billed = format!("Billed Duration: {} ms", ms.ceil());
    assert!(log.contains(&billed), "{log}");
}

#[test]
fn events_on_both_sides_of_the_limit() {
    let server = server();
    let api = Api::new(server.url());
    api.create_puppet("f", json!({ "Timeout": 30 }));
    let event = |bytes: usize| {
        let head = br#"{"do":"count","x":""#;
        let mut text = head.to_vec();
        text.resize(bytes - 2, b'x');
        text.extend_from_slice(br#""}"#);
        text
    };
    let path = "/2015-03-31/functions/f/invocations";
    let json = [("content-type", "application/json")];
    assert_eq!(api.send("POST", path, &json, &event(6_291_456)).unwrap().status, 200);
    assert_eq!(api.send("POST", path, &json, &event(6_291_457)).unwrap().status, 413);
    let later = [("content-type", "application/json"), ("x-amz-invocation-type", "Event")];
    assert_eq!(api.send("POST", path, &later, &event(1_048_576)).unwrap().status, 202);
    assert_eq!(api.send("POST", path, &later, &event(1_048_577)).unwrap().status, 413);
}

#[test]
fn the_deadline_is_the_timeout_from_now() {
    let server = server();
    let api = Api::new(server.url());
    api.create_puppet("f", json!({ "Timeout": 7 }));
    let left = api.invoke("f", &json!({ "do": "deadline" })).json()["left_ms"].as_i64().unwrap();
    assert!((6000..=7000).contains(&left), "{left}");
}
