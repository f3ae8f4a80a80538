//! Responses that are read while the function runs.

use super::clients::python;
use super::harness::{Api, bin, server};
use super::php::{build, function, publish};
use serde_json::json;

#[test]
fn boto3_reads_a_streamed_response_while_the_function_runs() {
    let server = server();
    let api = Api::new(server.url());
    api.create("f", &bin("lambda-runtime-stream"), json!({ "Timeout": 10, "MemorySize": 256 }));
    api.create("echo", &bin("lambda-runtime-echo"), json!({}));
    let path = "/2017-10-31/functions/f/concurrency";
    let reply = api.call("PUT", path, &json!({ "ReservedConcurrentExecutions": 1 }));
    assert_eq!(reply.status, 200, "{}", reply.text());
    python("streaming.py", &[server.url()]);
}

/// Layers of our own runtimes; each function waits for ever after its first words.
#[test]
fn shell_functions_and_pages_stream() {
    let work = tempfile::tempdir().unwrap();
    let server = server();
    let api = Api::new(server.url());
    let bash = publish(&api, "bash", &build("bash", &[], work.path()));
    let php = publish(&api, "php", &build("php", &[], work.path()));
    let script = "handler() {\n  lambda_stream text/plain\n  echo first\n  exec sleep 60\n}\n";
    function(&api, "shell", &bash, ("function.sh", script), json!({ "Timeout": 8 }));
    let page = "<?php header('Content-Type: text/plain'); echo 'first'; flush(); sleep(60);";
    let more = json!({ "Timeout": 8, "MemorySize": 256 });
    function(&api, "page", &php, ("index.php", page), more);
    python("first_chunk.py", &[server.url(), "shell", "page"]);
}
