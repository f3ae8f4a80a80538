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
    let (server, _running) = start(program);
    is_hello(&server);
}

fn start(program: &Path) -> (Server, Running) {
    let server = Server::start().unwrap();
    let child = Command::new(program).env("AWS_LAMBDA_RUNTIME_API", server.endpoint()).spawn();
    let child = child.unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    (server, Running(child))
}

fn is_hello(server: &Server) {
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

/// An example of this package; cargo builds them with its tests.
fn own(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().join("examples").join(name)
}

#[test]
fn rust() {
    says_hello(&own("hello"));
}

#[test]
fn rust_in_a_stream() {
    let (server, _running) = start(&own("stream"));
    let post = server.invoke(Event::new("a", "3"), SOON).unwrap();
    assert_eq!((post.call, post.text().as_str()), (Call::Response, "3\n2\n1\n"));
    assert_eq!(post.field("lambda-runtime-function-response-mode"), Some("streaming"));
    let post = server.invoke(Event::new("b", "11"), SOON).unwrap();
    assert!(post.text().ends_with("2\n1\n"), "{}", post.text());
    assert_eq!(post.trailer("lambda-runtime-function-error-type"), Some("Function.TooFar"));
    assert_eq!(server.invoke(Event::new("c", "x"), SOON).unwrap().call, Call::Error);
}

const MAX_PROGRAM_BYTES: u64 = 700 * 1024;
const MAX_RESIDENT_KIB: u64 = 1536;

#[test]
fn a_static_hello_is_small() {
    let program = folder().join("../../target/bootstraps/hello");
    let bytes = std::fs::read(&program).unwrap_or_else(|error| {
        panic!("{}: {error}; run tools/bootstraps", program.display());
    });
    assert!(bytes.len() as u64 <= MAX_PROGRAM_BYTES, "{} bytes", bytes.len());
    // Static: no program header asks for a loader (PT_INTERP, 3).
    let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]) as usize;
    let headers = u64::from_le_bytes(bytes[32..40].try_into().unwrap()) as usize;
    assert!((0..word(56)).all(|n| word(headers + n * word(54)) != 3), "it asks for a loader");
    let (server, running) = start(&program);
    is_hello(&server);
    assert!(server.wait_waiting(1, SOON));
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.0.id())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let resident: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(resident <= MAX_RESIDENT_KIB, "{resident} KiB at most");
    println!("{} bytes, {resident} KiB resident at most", bytes.len());
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
