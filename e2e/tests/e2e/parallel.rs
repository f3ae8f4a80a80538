//! Many at once.

use super::gate::Gate;
use super::harness::{Api, server, wait_until};
use serde_json::json;
use std::collections::HashSet;

#[test]
fn a_hundred_invokes_of_one_function_each_have_an_environment_of_their_own() {
    let gate = Gate::new();
    let server = gate.server(&[]);
    let api = Api::new(server.url());
    api.create_puppet("f", json!({ "Timeout": 60 }));
    let start = std::sync::Barrier::new(100);
    let streams: Vec<String> = std::thread::scope(|scope| {
        let invoke = || {
            start.wait();
            let reply = api.invoke("f", &gate.held("echo $AWS_LAMBDA_LOG_STREAM_NAME"));
            assert_eq!(reply.status, 200, "{}", reply.text());
            assert_eq!(reply.header("x-amz-function-error"), None, "{}", reply.text());
            reply.json()["out"].as_str().unwrap().to_owned()
        };
        let threads: Vec<_> = (0..100).map(|_| scope.spawn(invoke)).collect();
        wait_until("all to run", || api.metric("lambfold_environments_busy") == 100);
        gate.open();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let distinct: HashSet<&String> = streams.iter().collect();
    assert_eq!(distinct.len(), 100);
}

#[test]
fn two_hundred_cold_starts_at_once_are_all_answered() {
    let server = server();
    let api = Api::new(server.url());
    for at in 0..200 {
        api.create_puppet(&format!("f{at}"), json!({ "Timeout": 60 }));
    }
    let start = std::sync::Barrier::new(200);
    std::thread::scope(|scope| {
        let invoke = |at: u64| {
            start.wait();
            let reply = api.invoke(&format!("f{at}"), &json!({ "do": "count", "at": at }));
            assert_eq!(reply.status, 200, "{}", reply.text());
            assert_eq!(reply.json()["count"], 1, "{}", reply.text());
        };
        let threads: Vec<_> = (0..200).map(|at| scope.spawn(move || invoke(at))).collect();
        for thread in threads {
            thread.join().unwrap();
        }
    });
}
