//! The example runtimes that show the flow in other languages.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use lambfold_runtime_client::scripted::{Call, Event, Server};

const SOON: Duration = Duration::from_secs(60);

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/runtimes")
}

fn says_hello(program: &Path) {
    let server = Server::start().unwrap();
    let child = Command::new(program).env("AWS_LAMBDA_RUNTIME_API", server.endpoint()).spawn();
    let _running = Running(child.unwrap_or_else(|error| panic!("{}: {error}", program.display())));
    for round in 0..3 {
        let post = server.invoke(Event::new(&format!("id-{round}"), "\"ada\""), SOON).unwrap();
        assert_eq!((post.call, post.request_id), (Call::Response, format!("id-{round}")));
        let body: serde_json::Value = serde_json::from_slice(&post.body).unwrap();
        assert_eq!(body, serde_json::json!({"hello": "ada"}));
        let post = server.invoke(Event::new("bad", "7"), SOON).unwrap();
        assert_eq!((post.call, post.request_id.as_str()), (Call::Error, "bad"));
        let body: serde_json::Value = serde_json::from_slice(&post.body).unwrap();
        assert_eq!(body["errorMessage"], "the event is not a string");
        assert!(post.field("lambda-runtime-function-error-type").unwrap().starts_with("Function."));
    }
}

#[test]
fn python() {
    says_hello(&folder().join("python/bootstrap.py"));
}

#[test]
fn shell() {
    says_hello(&folder().join("shell/bootstrap"));
}

#[test]
fn c() {
    let build = tempfile::tempdir().unwrap();
    let program = build.path().join("bootstrap");
    let status = Command::new("cc")
        .args(["-O2", "-Wall", "-Wextra", "-Werror", "-o"])
        .args([program.as_path(), &folder().join("c/bootstrap.c")])
        .status()
        .unwrap();
    assert!(status.success());
    says_hello(&program);
}
