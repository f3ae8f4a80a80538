//! More than one event at a time, where the platform asks for it.

use std::collections::BTreeSet;

use lambfold_runtime_client::scripted::Event;
use serde_json::Value;

use crate::harness::{SOON, get, index};

#[test]
fn each_worker_has_a_php_of_its_own() {
    let runtime = index(
        "<?php file_put_contents('here', 'x', FILE_APPEND);
        while (filesize('here') < 3) { usleep(1000); clearstatcache(); } echo getmypid();",
    )
    .variable("AWS_LAMBDA_MAX_CONCURRENCY", "3")
    .start();
    assert!(runtime.server.wait_waiting(3, SOON), "{}", runtime.log_so_far());
    for number in 0..3 {
        runtime.server.push(Event::new(&format!("id-{number}"), get("/").to_string()));
    }
    let mut pids = BTreeSet::new();
    for _ in 0..3 {
        let answer: Value =
            serde_json::from_slice(&runtime.server.post(SOON).unwrap().body).unwrap();
        pids.insert(answer["body"].as_str().unwrap().to_owned());
    }
    assert_eq!(pids.len(), 3);
}
