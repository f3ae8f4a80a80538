use crate::scripted::{Reply, Scripted};
use crate::{against, lambfold, run, write};
use serde_json::{Value, json};
use std::path::Path;
use tempfile::TempDir;

const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:function:f";
const LAYER: &str = "arn:aws:lambda:us-east-1:000000000000:layer:bash:1";

fn function(state: &str) -> Value {
    json!({
        "FunctionName": "f",
        "FunctionArn": ARN,
        "State": state,
        "LastUpdateStatus": "Successful",
        "CodeSha256": "of-other-code",
        "Architectures": ["x86_64"],
    })
}

fn active() -> Reply {
    Reply::json(200, function("Active"))
}

fn busy() -> Reply {
    let text =
        "The operation cannot be performed at this time. An update is in progress for resource: f";
    Reply::error(409, "ResourceConflictException", text)
}

/// A folder with a bootstrap.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("bootstrap"), "#!/bin/sh\n", 0o755);
    write(&folder.path().join("function.sh"), "handler () { cat; }\n", 0o644);
    folder
}

fn deploy(server: &Scripted, folder: &Path, more: &[&str]) -> crate::Ran {
    let path = folder.to_str().unwrap();
    let mut args = vec!["deploy", path, "--name", "f", "--architecture", "x86_64"];
    args.extend(more);
    against(server, &args)
}

fn lines(server: &Scripted) -> Vec<String> {
    let requests = server.requests();
    requests.iter().map(|request| request.line.replace(" HTTP/1.1", "")).collect()
}

#[test]
fn a_new_function_is_created_and_waited_for() {
    let created = Reply::json(201, function("Pending"));
    let pending = Reply::json(200, function("Pending"));
    let server = Scripted::new([Reply::not_found(), created, pending, active()]);
    let more = [
        "--handler",
        "function.handler",
        "--memory",
        "256",
        "--timeout",
        "10",
        "--env",
        "A=1",
        "--env",
        "B=x=y",
        "--layer",
        LAYER,
    ];
    let ran = deploy(&server, folder().path(), &more);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, &*format!("{ARN}\n")), "{}", ran.stderr);
    assert!(ran.stderr.starts_with("created f ("), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: run it: lambfold invoke f"), "{}", ran.stderr);
    assert_eq!(server.next().line, "GET /2015-03-31/functions/f/configuration HTTP/1.1");
    let create = server.next();
    assert_eq!(create.line, "POST /2015-03-31/functions HTTP/1.1");
    let mut input = create.json();
    let zip = input["Code"]["ZipFile"].take();
    assert!(zip.as_str().is_some_and(|text| text.starts_with("UEs")), "{zip}");
    assert_eq!(
        input,
        json!({
            "FunctionName": "f",
            "Runtime": "provided.al2023",
            "Role": "arn:aws:iam::000000000000:role/lambfold",
            "Handler": "function.handler",
            "Code": {"ZipFile": null},
            "Architectures": ["x86_64"],
            "Layers": [LAYER],
            "Environment": {"Variables": {"A": "1", "B": "x=y"}},
            "MemorySize": 256,
            "Timeout": 10,
        })
    );
}

#[test]
fn a_new_function_needs_a_handler() {
    let server = Scripted::new([Reply::not_found()]);
    let ran = deploy(&server, folder().path(), &[]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
    assert!(ran.stderr.contains("--handler"), "{}", ran.stderr);
}

#[test]
fn an_update_sends_code_then_configuration_and_waits_for_others() {
    let replies = [
        active(),
        active(),
        busy(),
        active(),
        Reply::json(200, function("Active")),
        active(),
        Reply::json(200, function("Active")),
        active(),
    ];
    let server = Scripted::new(replies);
    let ran = deploy(&server, folder().path(), &["--timeout", "9"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, &*format!("{ARN}\n")), "{}", ran.stderr);
    assert!(ran.stderr.starts_with("updated f ("), "{}", ran.stderr);
    let requests = server.requests();
    let puts: Vec<_> = requests.iter().filter(|request| request.line.starts_with("PUT ")).collect();
    assert_eq!(puts.len(), 3);
    assert!(puts[0].line.contains("/f/code ") && puts[1].line.contains("/f/code "));
    assert_eq!(puts[1].json()["Architectures"], json!(["x86_64"]));
    assert!(puts[2].line.contains("/f/configuration "));
    assert_eq!(puts[2].json(), json!({"Timeout": 9}));
}

#[test]
fn code_that_is_there_is_not_sent_again() {
    let folder = folder();
    let zip = tempfile::tempdir().unwrap().path().join("f.zip");
    std::fs::create_dir_all(zip.parent().unwrap()).unwrap();
    let (from, to) = (folder.path().to_str().unwrap(), zip.to_str().unwrap());
    let packed = run(&mut lambfold(&[
        "package",
        from,
        "-o",
        to,
        "--architecture",
        "x86_64",
        "--output",
        "json",
    ]));
    assert_eq!(packed.code, 0, "{}", packed.stderr);
    let packed: Value = serde_json::from_str(&packed.stdout).unwrap();
    let mut same = function("Active");
    same["CodeSha256"] = packed["CodeSha256"].clone();
    let server = Scripted::new([Reply::json(200, same.clone()), Reply::json(200, same.clone())]);
    let ran = deploy(&server, folder.path(), &["--output", "json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(serde_json::from_str::<Value>(&ran.stdout).unwrap(), same);
    let get = "GET /2015-03-31/functions/f/configuration";
    assert_eq!(lines(&server), [get, get]);
    // The zip itself has the same digest as the folder.
    let server = Scripted::new([Reply::json(200, same.clone()), Reply::json(200, same)]);
    let args = ["deploy", to, "--name", "f", "--architecture", "x86_64"];
    assert_eq!(against(&server, &args).code, 0);
    assert_eq!(lines(&server), [get, get]);
}

#[test]
fn a_creation_that_lost_a_race_becomes_an_update() {
    let exists = Reply::error(409, "ResourceConflictException", "Function already exist: f");
    let ok = || Reply::json(200, function("Active"));
    let replies = [Reply::not_found(), exists, active(), active(), ok(), active(), ok(), active()];
    let server = Scripted::new(replies);
    let ran = deploy(&server, folder().path(), &["--handler", "h"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.starts_with("updated f"), "{}", ran.stderr);
    let puts: Vec<_> = lines(&server).into_iter().filter(|line| line.starts_with("PUT")).collect();
    let base = "PUT /2015-03-31/functions/f";
    assert_eq!(puts, [format!("{base}/code"), format!("{base}/configuration")]);
}

#[test]
fn code_that_cannot_run_is_refused_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let bootstrap = folder.path().join("bootstrap");
    let cases = [
        ("#!/bin/sh\n", 0o644, "not executable"),
        ("#!/bin/sh\r\n", 0o755, "carriage return"),
        ("echo no shebang\n", 0o755, "#!"),
    ];
    for (content, mode, expected) in cases {
        write(&bootstrap, content, mode);
        let server = Scripted::new([Reply::not_found()]);
        let ran = deploy(&server, folder.path(), &["--handler", "h"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{}", ran.stderr);
        assert!(ran.stderr.contains("the bootstrap in "), "{}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{}", ran.stderr);
        assert!(server.requests().is_empty(), "{content:?}");
    }
}

#[test]
fn code_without_a_bootstrap_needs_a_layer() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("function.sh"), "handler () { cat; }\n", 0o644);
    let server = Scripted::new([Reply::not_found()]);
    let ran = deploy(&server, folder.path(), &["--handler", "h"]);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: a runtime from a layer: --layer ARN"), "{}", ran.stderr);
    assert_eq!(lines(&server), ["GET /2015-03-31/functions/f/configuration"]);
    // With a layer, or with layers that the function has already, it is sent.
    let created = Reply::json(201, function("Active"));
    let server = Scripted::new([Reply::not_found(), created, active()]);
    let ran = deploy(&server, folder.path(), &["--handler", "h", "--layer", LAYER]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let mut layered = function("Active");
    layered["Layers"] = json!([{"Arn": LAYER, "CodeSize": 1}]);
    let layered = || Reply::json(200, layered.clone());
    let server = Scripted::new([layered(), layered(), layered(), layered()]);
    let ran = deploy(&server, folder.path(), &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

#[test]
fn a_function_that_fails_says_why() {
    let mut failed = function("Failed");
    failed["StateReason"] = "the layer is gone".into();
    let created = Reply::json(201, function("Pending"));
    let server = Scripted::new([Reply::not_found(), created, Reply::json(200, failed)]);
    let ran = deploy(&server, folder().path(), &["--handler", "h"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("caused by: the layer is gone"), "{}", ran.stderr);
}
