//! The server run by an ordinary user: with what the kernel gives to anybody, it keeps what callers
//! are promised.
//!
//! Run by root, these tests run it as `lambfold-test`, whom `tools/setup test` makes; run by
//! somebody else, they run it as oneself.

use super::crash::Place;
use super::harness::{Api, layer_functions, root, wait_until, zip};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

const USER: &str = "lambfold-test";

/// User and group to run the server as; none when the test is nobody special itself.
pub(super) fn ordinary_user() -> Option<(u32, u32)> {
    if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = users.lines().find(|line| line.split(':').next() == Some(USER));
    let line = line.unwrap_or_else(|| panic!("no user {USER}: run `tools/setup test`"));
    let ids: Vec<u32> = line.split(':').skip(2).take(2).map(|id| id.parse().unwrap()).collect();
    Some((ids[0], ids[1]))
}

/// A process as everybody may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    parent: u32,
    pub(super) user: u32,
    /// In clock ticks since boot; with its id it names a process for good.
    pub(super) started: u64,
    pub(super) command: String,
}

/// Whether all of these have ended, as told by what was seen of them: an id may be another's by now.
pub(super) fn have_ended(were: &BTreeMap<u32, Process>) -> bool {
    let all = processes();
    were.iter().all(|(id, was)| all.get(id).is_none_or(|now| now.started != was.started))
}

/// All processes that have not ended.
pub(super) fn processes() -> BTreeMap<u32, Process> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(id) = entry.file_name().to_string_lossy().parse() else { continue };
        // It may end between any two reads.
        let read = |file: &str| std::fs::read(entry.path().join(file)).ok();
        let (Some(stat), Some(status), Some(command)) =
            (read("stat"), read("status"), read("cmdline"))
        else {
            continue;
        };
        let (stat, status) = (String::from_utf8_lossy(&stat), String::from_utf8_lossy(&status));
        // The name before the last parenthesis may hold anything.
        let Some((_, stat)) = stat.rsplit_once(')') else { continue };
        let stat: Vec<&str> = stat.split_whitespace().collect();
        let user = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        let user = user.and_then(|ids| ids.split_whitespace().next()).unwrap();
        if stat[0] == "Z" || stat[0] == "X" {
            continue;
        }
        let process = Process {
            parent: stat[1].parse().unwrap(),
            user: user.parse().unwrap(),
            started: stat[19].parse().unwrap(),
            command: String::from_utf8_lossy(&command).replace('\0', " "),
        };
        found.insert(id, process);
    }
    found
}

/// A process and all that descend from it.
pub(super) fn family(eldest: u32) -> BTreeMap<u32, Process> {
    let all = processes();
    let mut found = BTreeMap::from([(eldest, all[&eldest].clone())]);
    loop {
        let before = found.len();
        for (id, process) in &all {
            if found.contains_key(&process.parent) {
                found.insert(*id, process.clone());
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

#[test]
fn an_ordinary_user_deploys_and_invokes() {
    let place = Place::of(ordinary_user());
    let server = place.start();
    let api = Api::new(&server.endpoint);

    // lab 1: bootstrap and function.sh in one zip
    api.create_from("lab1", &root().join("examples/bash-echo"), json!({}));
    let reply = api.invoke("lab1", &json!({ "text": "Hello" }));
    assert_eq!(reply.header("x-amz-function-error"), None, "{}", reply.text());
    assert!(reply.text().contains("Hello"), "{}", reply.text());

    // lab 2: the runtime as a layer
    let layer = STANDARD.encode(zip(&root().join("examples/bash-layer/layer")));
    let request = json!({ "Content": { "ZipFile": layer } });
    let reply = api.call("POST", "/2018-10-31/layers/bash-runtime/versions", &request);
    assert_eq!(reply.status, 201, "{}", reply.text());
    let layer = reply.json()["LayerVersionArn"].clone();
    for function in layer_functions() {
        let folder = root().join("examples/bash-layer").join(&function);
        api.create_from(&function, &folder, json!({ "Layers": [layer] }));
        let reply = api.invoke(&function, &json!({ "text": "Hello" }));
        assert_eq!(reply.header("x-amz-function-error"), None, "{function}: {}", reply.text());
        assert_eq!(reply.status, 200, "{function}: {}", reply.text());
    }

    api.create_puppet("f", json!({ "Timeout": 1 }));
    let reply = api.invoke("f", &json!({ "do": "run", "shell": "id -u; id -g" }));
    assert_eq!(reply.json()["out"], "993\n990\n", "{}", reply.text());
    // /tmp can be written, and keeps what was written for the next event; the code cannot
    let write = json!({ "do": "run", "shell": "echo kept > /tmp/file" });
    assert_eq!(api.invoke("f", &write).json()["status"], 0);
    let reply = api.invoke("f", &json!({ "do": "read", "path": "/tmp/file" }));
    assert_eq!(reply.json()["text"], "kept\n", "{}", reply.text());
    let reply = api.invoke("f", &json!({ "do": "write", "path": "/var/task/file", "mib": 1 }));
    assert_eq!(reply.json()["errno"], 30, "not EROFS: {}", reply.text());

    let reply = api.invoke("f", &json!({ "do": "sleep", "ms": 60_000 }));
    assert_eq!(reply.header("x-amz-function-error"), Some("Unhandled"), "{}", reply.text());
    assert_eq!(reply.json()["errorType"], "Sandbox.Timedout", "{}", reply.text());
    let reply = api.invoke("f", &json!({ "do": "count" }));
    assert_eq!(reply.json()["count"], 1, "after the time-out: {}", reply.text());

    server.stop();
    // what was deployed outlives the server
    let server = place.start();
    let reply = Api::new(&server.endpoint).invoke("lab1", &json!({ "text": "Hello" }));
    assert!(reply.text().contains("Hello"), "{}", reply.text());
    server.stop();
}

#[test]
fn killed_as_an_ordinary_user_it_leaves_no_process() {
    let user = ordinary_user();
    let place = Place::of(user);
    let server = place.start();
    let api = Api::new(&server.endpoint);
    api.create_puppet("idle", json!({}));
    api.create_puppet("busy", json!({ "Timeout": 60 }));
    assert_eq!(api.invoke("idle", &json!({ "do": "count" })).json()["count"], 1);
    let later = [("x-amz-invocation-type", "Event")];
    let event = json!({ "do": "run", "shell": "sleep 3600 & sleep 3601" });
    assert_eq!(api.invoke_with("busy", &event, &later).status, 202);

    let eldest = server.id();
    let mut family_of_server = BTreeMap::new();
    wait_until("the busy function runs", || {
        family_of_server = family(eldest);
        let runs = |command: &str| family_of_server.values().any(|p| p.command.trim() == command);
        runs("sleep 3600") && runs("sleep 3601")
    });
    // server, spawner, and of each function a first process and its bootstrap
    assert!(family_of_server.len() >= 8, "{family_of_server:?}");
    let own = user.map_or_else(|| std::fs::metadata("/proc/self").unwrap().uid(), |(id, _)| id);
    assert_eq!(family_of_server[&eldest].user, own);
    for process in family_of_server.values() {
        assert_ne!(process.user, 0, "runs as root: {process:?}");
    }

    server.kill();
    wait_until("every process of the killed server ends", || have_ended(&family_of_server));
    // the next start works on what was left
    let server = place.start();
    let reply = Api::new(&server.endpoint).invoke("idle", &json!({ "do": "count" }));
    assert_eq!(reply.json()["count"], 1, "{}", reply.text());
    // the accepted event runs once more: there is nothing to wait for
    server.kill();
}
