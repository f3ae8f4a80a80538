//! What the machine gives a function: its root file system and its processors.

use super::harness::{Api, lambfold, root, server, wait_until};
use lambfold_testkit::{ServerOptions, TempServer};
use serde_json::json;
use std::path::Path;

const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:f";

/// Where the machine's own PHP is, which the Debian of the test does not have.
fn sees_php(api: &Api, function: &str) -> bool {
    let script = "command -v php; test -x /usr/bin/dpkg || echo no Debian";
    let reply = api.invoke(function, &json!({ "do": "run", "shell": script })).json();
    let out = reply["out"].as_str().unwrap_or_else(|| panic!("{reply}"));
    assert!(!out.contains("no Debian"), "{reply}");
    out.contains("php")
}

#[test]
fn functions_have_root_file_systems_of_their_own() {
    let debian = root().join("target/rootfs/debian-12");
    assert!(debian.is_dir(), "{} is missing: run `tools/setup test`", debian.display());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lambfold.toml");
    let text = format!("[rootfs]\n'provided.al2' = {debian:?}\nbookworm = {debian:?}\n");
    std::fs::write(&file, text).unwrap();
    let options = |file: &Path| {
        ServerOptions::new(lambfold())
            .arg("--config")
            .arg(file.to_str().unwrap())
            .data_dir(folder.path().join("data"))
    };
    let mut server = TempServer::start(&options(&file)).unwrap();
    let api = Api::new(server.url());
    // the machine's own, and one by the name of the runtime
    api.create_puppet("f", json!({}));
    api.create_puppet("by-runtime", json!({ "Runtime": "provided.al2" }));
    assert!(Path::new("/usr/bin/php").exists());
    assert!(sees_php(&api, "f"));
    assert!(!sees_php(&api, "by-runtime"));

    // the tag, and warm environments of before are not used any more
    let tags = format!("/2017-03-31/tags/{ARN}");
    let tag =
        |value: &str| api.call("POST", &tags, &json!({ "Tags": { "lambfold:rootfs": value } }));
    assert_eq!(tag("bookworm").status, 204);
    assert!(!sees_php(&api, "f"));
    let refused = tag("/etc");
    assert_eq!(refused.status, 400);
    let message = refused.json()["message"].as_str().unwrap().to_owned();
    assert!(message.ends_with("/etc. This server has: bookworm, provided.al2."), "{message}");
    assert!(!sees_php(&api, "f"));
    let untag = format!("{tags}?tagKeys=lambfold:rootfs");
    assert_eq!(api.send("DELETE", &untag, &[], b"").unwrap().status, 204);
    assert!(sees_php(&api, "f"));

    // a server without it says so, and runs the function again when it has it back
    assert_eq!(tag("bookworm").status, 204);
    server.stop(std::time::Duration::from_secs(20));
    let bare = folder.path().join("bare.toml");
    std::fs::write(&bare, "").unwrap();
    let mut server = TempServer::start(&options(&bare)).unwrap();
    let api = Api::new(server.url());
    assert_eq!(api.invoke("f", &json!({})).status, 500);
    wait_until("the reason in the log", || {
        server.log().contains("asks for the root file system bookworm")
    });
    server.stop(std::time::Duration::from_secs(20));
    let server = TempServer::start(&options(&file)).unwrap();
    assert!(!sees_php(&Api::new(server.url()), "f"));
}

/// A tenth of a second of work takes 128 MB 1.4 seconds, and 1,769 MB no longer than it takes.
#[test]
fn processor_time_as_aws_gives_it() {
    let options = ServerOptions::new(lambfold()).arg("--cpu").arg("aws");
    let limited = TempServer::start(&options).unwrap();
    let free = server();
    let work =
        json!({ "do": "run", "shell": "perl -e 'until ((times)[0] > 0.1) { $n++ for 1..1000 }'" });
    let create = |server: &TempServer, name: &str, memory: u32| {
        let api = Api::new(server.url());
        api.create_puppet(name, json!({ "MemorySize": memory, "Timeout": 60 }));
        api.invoke(name, &json!({}));
    };
    let took = |server: &TempServer, name: &str| {
        let api = Api::new(server.url());
        let start = std::time::Instant::now();
        let reply = api.invoke(name, &work).json();
        assert_eq!(reply["status"], 0, "{reply}");
        start.elapsed()
    };
    create(&limited, "small", 128);
    let small = took(&limited, "small");
    assert!(small.as_millis() > 1_000, "{small:?}");
    for (server, name, memory) in [(&limited, "one", 1_769), (&free, "small", 128)] {
        create(server, name, memory);
        // Other programs may have the processor once, but not every time.
        let what = format!("{name} to take less than with a share");
        wait_until(&what, || took(server, name).as_millis() < 1_000);
    }
}
