//! Bootstraps that cannot run: the same sentence, with the fix, at each place where their author
//! looks, and AWS's own words for the caller.

use super::harness::{Api, lambfold, server};
use lambfold_testkit::TempServer;
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A bootstrap that cannot run.
struct Broken {
    name: &'static str,
    /// What the sentence about it holds.
    says: &'static str,
    fix: &'static str,
    /// AWS's answer.
    error_type: &'static str,
    message: &'static str,
    /// Wrong everywhere: it is refused before an upload.
    refused: bool,
}

const BROKEN: &[Broken] = &[
    Broken {
        name: "architecture",
        says: "/var/task/bootstrap is a program for ",
        fix: "build it for ",
        error_type: "Runtime.InvalidEntrypoint",
        message: "fork/exec /var/task/bootstrap: exec format error",
        refused: true,
    },
    Broken {
        name: "interpreter",
        says: "the interpreter /opt/bin/ruby of /var/task/bootstrap does not exist",
        fix: "bring it in a layer",
        error_type: "Runtime.InvalidEntrypoint",
        message: "fork/exec /var/task/bootstrap: no such file or directory",
        refused: false,
    },
    Broken {
        name: "env-interpreter",
        says: "the interpreter no-such-shell of /var/task/bootstrap does not exist",
        fix: "bring it in a layer",
        error_type: "Runtime.ExitError",
        message: "Runtime exited with error: exit status 127",
        refused: false,
    },
    Broken {
        name: "crlf",
        says: "ends in a carriage return (Windows line ends)",
        fix: "sed -i 's/\\r$//' bootstrap",
        error_type: "Runtime.InvalidEntrypoint",
        message: "fork/exec /var/task/bootstrap: no such file or directory",
        refused: true,
    },
    Broken {
        name: "mode",
        says: "/var/task/bootstrap is not executable",
        fix: "chmod 755 bootstrap",
        error_type: "Runtime.InvalidEntrypoint",
        message: "fork/exec /var/task/bootstrap: permission denied",
        refused: true,
    },
    Broken {
        name: "library",
        says: "/var/task/bootstrap needs the library liblambfold-absent.so",
        fix: "put it into the folder lib of the zip or of a layer",
        error_type: "Runtime.ExitError",
        message: "Runtime exited with error: exit status 127",
        refused: false,
    },
];

fn write(path: &Path, content: impl AsRef<[u8]>, mode: u32) {
    std::fs::write(path, content).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A program that is linked with a library; the library is put there if it is to be had.
fn linked(folder: &Path, with_library: bool) {
    let work = tempfile::tempdir().unwrap();
    let at = |name: &str| work.path().join(name);
    std::fs::write(at("lib.c"), "int absent(void) { return 3; }\n").unwrap();
    std::fs::write(at("main.c"), "int absent(void); int main(void) { return absent(); }\n")
        .unwrap();
    let library = at("liblambfold-absent.so");
    let cc = |args: &[&str]| {
        let status = Command::new("cc").args(args).current_dir(work.path()).status().unwrap();
        assert!(status.success(), "cc {args:?}");
    };
    cc(&["-shared", "-fPIC", "-o", "liblambfold-absent.so", "lib.c"]);
    let bootstrap = folder.join("bootstrap");
    cc(&["-o", bootstrap.to_str().unwrap(), "main.c", "-L.", "-llambfold-absent"]);
    if with_library {
        std::fs::create_dir(folder.join("lib")).unwrap();
        std::fs::copy(library, folder.join("lib/liblambfold-absent.so")).unwrap();
    }
}

fn build(broken: &Broken, folder: &Path) {
    let bootstrap = folder.join("bootstrap");
    match broken.name {
        "architecture" => {
            // This very program, said to be for another machine: s390.
            let mut program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
            program.truncate(1 << 16);
            program[18..20].copy_from_slice(&22_u16.to_le_bytes());
            write(&bootstrap, program, 0o755);
        }
        "interpreter" => write(&bootstrap, "#!/opt/bin/ruby\n", 0o755),
        "env-interpreter" => write(&bootstrap, "#!/usr/bin/env no-such-shell\n", 0o755),
        "crlf" => write(&bootstrap, "#!/bin/sh\r\necho\r\n", 0o755),
        "mode" => write(&bootstrap, "#!/bin/sh\n", 0o644),
        "library" => linked(folder, false),
        other => panic!("{other}"),
    }
}

/// A zip as people make them, with whatever is wrong.
fn zipped(folder: &Path, work: &Path) -> PathBuf {
    let zip = work.join("function.zip");
    let _ = std::fs::remove_file(&zip);
    let mut command = Command::new("zip");
    let output = command.args(["-q", "-r"]).arg(&zip).arg(".").current_dir(folder).output();
    assert!(output.unwrap().status.success(), "zip (tools/setup test)");
    zip
}

fn run(args: &[&str], endpoint: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(lambfold());
    command.args(args).env("AWS_ENDPOINT_URL", endpoint).env("COLUMNS", "100000");
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn each_kind_of_broken_bootstrap_is_explained_wherever_its_author_looks() {
    let server = server();
    let api = Api::new(server.url());
    for broken in BROKEN {
        let name = broken.name;
        let work = tempfile::tempdir().unwrap();
        let folder = work.path().join("function");
        std::fs::create_dir(&folder).unwrap();
        build(broken, &folder);
        let folder_text = folder.to_str().unwrap();
        let explained = |place: &str, text: &str| {
            let text = text.replace('\n', " ");
            assert!(text.contains(broken.says), "{name} at {place}: {text}");
            assert!(text.contains(broken.fix), "{name} at {place}: {text}");
        };

        let out = work.path().join("packed.zip");
        let (code, _, stderr) =
            run(&["package", folder_text, "-o", out.to_str().unwrap()], server.url());
        explained("package", &stderr);
        assert_eq!((code, out.exists()), (Some(i32::from(broken.refused)), !broken.refused));

        let deployed = format!("deployed-{name}");
        let deploy = ["deploy", folder_text, "--name", &deployed, "--handler", "f.h"];
        let (code, _, stderr) = run(&deploy, server.url());
        explained("deploy", &stderr);
        assert_eq!(code, Some(i32::from(broken.refused)), "{stderr}");
        assert_eq!(stderr.matches(broken.says).count(), 1, "{stderr}");

        // Whoever uploads it all the same, with another tool, is told by the platform.
        let zip = std::fs::read(zipped(&folder, work.path())).unwrap();
        let code = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, zip);
        let request = json!({
            "FunctionName": name,
            "Runtime": "provided.al2023",
            "Handler": "f.h",
            "Role": "arn:aws:iam::000000000000:role/any",
            "Code": { "ZipFile": code },
        });
        let reply = api.call("POST", "/2015-03-31/functions", &request);
        assert_eq!(reply.status, 201, "{}", reply.text());
        let (code, stdout, stderr) = run(&["invoke", name], server.url());
        assert_eq!(code, Some(3), "{name}: {stderr}");
        explained("invoke", &stderr);
        // What the caller gets is AWS's, and nothing more.
        let body: Value = serde_json::from_str(&stdout).unwrap();
        let message = body["errorMessage"].as_str().unwrap();
        let (_, text) = message.split_once(" Error: ").unwrap();
        assert_eq!(body["errorType"], broken.error_type, "{name}");
        assert_eq!(text, broken.message, "{name}");
        assert_eq!(body.as_object().unwrap().len(), 2, "{stdout}");
        let log = api.log_messages(name);
        let lines = log.iter().filter(|line| line.contains(broken.says));
        let lines: Vec<_> = lines.collect();
        // Of the init phase, and of the one inside the invocation.
        assert_eq!(lines.len(), 2, "{name}: {log:?}");
        assert!(lines[0].starts_with("[lambfold] "), "{lines:?}");
        explained("the log", lines[0]);

        let (code, stdout, stderr) =
            run(&["conform", folder_text, "--case", "start"], server.url());
        assert_eq!(code, Some(1), "{name}: {stdout}{stderr}");
        explained("conform", &stderr);
        if !broken.refused {
            // The report wraps its lines.
            let words: Vec<&str> = stdout.split_whitespace().collect();
            explained("the report of conform", &words.join(" "));
        }

        explained("dev", &developed(&folder, broken.says, &server));
    }
}

/// What `lambfold dev` prints about a folder until it says this, besides the function's log.
fn developed(folder: &Path, says: &str, server: &TempServer) -> String {
    let mut command = server.client(lambfold());
    command.arg("dev").arg(folder).args(["--handler", "f.h", "--port", "0", "--output", "json"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut printed = String::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        if line["Type"] == "error" {
            let texts = [&line["Message"], &line["Causes"], &line["Hints"]];
            let texts = texts.iter().flat_map(|of| match of {
                Value::Array(all) => all.clone(),
                one => vec![(*one).clone()],
            });
            texts.filter_map(|text| text.as_str().map(str::to_owned)).for_each(|text| {
                printed.push_str(&text);
                printed.push('\n');
            });
        }
        if printed.contains(says) {
            break;
        }
    }
    let interrupt = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupt.unwrap().success());
    child.wait().unwrap();
    printed
}

#[test]
fn a_library_that_the_zip_brings_is_not_missed() {
    let server = server();
    let work = tempfile::tempdir().unwrap();
    linked(work.path(), true);
    let folder = work.path().to_str().unwrap();
    let out = work.path().join("out.zip");
    let (code, _, stderr) = run(&["package", folder, "-o", out.to_str().unwrap()], server.url());
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    std::fs::remove_file(out).unwrap();
    let deploy = ["deploy", folder, "--name", "f", "--handler", "f.h"];
    let (code, _, stderr) = run(&deploy, server.url());
    assert!(code == Some(0) && !stderr.contains("warning"), "{stderr}");
    // It is started, and ends of its own will: nothing is said of libraries.
    let (code, stdout, stderr) = run(&["invoke", "f"], server.url());
    assert_eq!(code, Some(3));
    assert!(stdout.contains("exit status 3") && !stderr.contains("library"), "{stdout}{stderr}");
}

#[test]
fn the_diagnosis_is_served_to_tools() {
    let server = server();
    let api = Api::new(server.url());
    api.create_puppet("good", json!({}));
    let ask = |method: &str, query: &str| {
        api.send(method, &format!("/_lambfold/v1/diagnosis{query}"), &[], b"").unwrap()
    };
    let reply = ask("GET", "?function=good&qualifier=%24LATEST");
    assert_eq!((reply.status, reply.json()), (200, json!({ "Findings": [] })));
    let reply = ask("GET", "?function=none");
    assert_eq!(reply.status, 404);
    assert_eq!(reply.header("x-amzn-errortype"), Some("ResourceNotFoundException"));
    assert_eq!(ask("GET", "").status, 400);
    assert_eq!(ask("POST", "?function=good").status, 405);
    let foreign = [("origin", "http://example.com")];
    let path = "/_lambfold/v1/diagnosis?function=good";
    assert_eq!(api.send("GET", path, &foreign, b"").unwrap().status, 403);
}
