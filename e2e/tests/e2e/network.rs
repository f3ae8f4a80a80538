//! What a function reaches in each of the network modes.

use super::harness::{Api, lambfold};
use lambfold_testkit::{ServerOptions, TempServer};
use serde_json::json;
use std::os::unix::fs::MetadataExt as _;

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// Runs a server and lets a function call the server's own API; whether it answered.
fn function_calls_the_api(args: &[&str], says: &str) -> bool {
    let options = ServerOptions::new(lambfold());
    let options = args.iter().fold(options, |options, arg| options.arg(*arg));
    let server = TempServer::start(&options).unwrap();
    assert!(server.log().contains(says), "{args:?}: {}", server.log());
    let api = Api::new(server.url());
    for (name, runtime) in [("al2023", "provided.al2023"), ("al2", "provided.al2")] {
        // It answers at all: its Runtime API is where it was told.
        api.create_puppet(name, json!({ "Runtime": runtime, "Timeout": 30 }));
        let echo = json!({ "do": "echo", "x": runtime });
        assert_eq!(api.invoke(name, &echo).json(), echo, "{args:?}");
    }
    let script = format!(
        "curl -s -o /dev/null --max-time 10 {}/health/live && echo reached || echo $?",
        server.url().trim_end_matches('/')
    );
    let reply = api.invoke("al2023", &json!({ "do": "run", "shell": script })).json();
    match reply["out"].as_str().unwrap().trim() {
        "reached" => true,
        // Of curl: the connection was refused.
        "7" => false,
        _ => panic!("{args:?}: {reply}"),
    }
}

#[test]
fn a_function_reaches_the_aws_api_only_in_the_hosts_network() {
    let none = "network none: functions reach nothing (as asked for)";
    assert!(!function_calls_the_api(&["--network", "none"], none));
    if is_root() {
        let nat = "network nat: functions reach the outside, and nothing of this machine";
        assert!(!function_calls_the_api(&["--network", "nat"], nat));
        // Without the flag: the same, where it can be had.
        let default = format!("{nat} (the default where it can be had)");
        assert!(!function_calls_the_api(&[], &default));
        let host = "network host: functions reach whatever this machine reaches";
        // The control run of the others.
        assert!(function_calls_the_api(&["--network", "host", "--insecure"], host));
    } else {
        let why = "nat cannot be had here, see above";
        assert!(!function_calls_the_api(&[], why));
    }
}
