//! The proof of the conformance kit: well-known good runtimes pass, but for deviations that are
//! named here and in docs/conform.md; and for each case there is a broken bootstrap that fails it
//! and no other.

use super::harness::{bin, lambfold, root};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

/// Longest wait for what should come at once: other tests keep this machine busy.
const PATIENCE: &str = "30";

struct Ran {
    code: Option<i32>,
    report: Value,
    stderr: String,
}

fn conform(path: &Path, args: &[&str]) -> Ran {
    let output = Command::new(lambfold())
        .arg("conform")
        .arg(path)
        .args(["--output", "json", "--patience", PATIENCE])
        .args(args)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("no report ({error}): {stderr}{}", String::from_utf8_lossy(&output.stdout))
    });
    Ran { code: output.status.code(), report, stderr }
}

fn cases(report: &Value, verdict: &str) -> BTreeSet<String> {
    let cases = report["Cases"].as_array().unwrap().iter();
    let found = cases.filter(|case| case["Verdict"] == verdict);
    found.map(|case| case["Id"].as_str().unwrap().to_owned()).collect()
}

fn details(report: &Value) -> String {
    let cases = report["Cases"].as_array().unwrap().iter();
    let failed = cases.filter(|case| case["Verdict"] == "fail");
    failed.map(|case| format!("\n{}: {}", case["Id"], case["Detail"])).collect()
}

fn all_cases() -> Vec<String> {
    let output =
        Command::new(lambfold()).args(["conform", "--list", "--output", "json"]).output().unwrap();
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    let ids = list.as_array().unwrap().iter().map(|case| case["Id"].as_str().unwrap().to_owned());
    ids.collect()
}

/// The runtime passes with exactly these deviations, and does not apply to these cases.
fn good(
    name: &str,
    path: &Path,
    args: &[&str],
    deviations: &[(&str, &str)],
    inapplicable: &[&str],
) {
    let page = std::fs::read_to_string(root().join("docs/conform.md")).unwrap();
    let exceptions: Vec<String> =
        deviations.iter().map(|(case, reason)| format!("--except={case}={reason}")).collect();
    let mut all: Vec<&str> = exceptions.iter().map(String::as_str).collect();
    all.extend_from_slice(args);
    all.extend(["--idle", "3", "--events", "10000"]);
    let ran = conform(path, &all);
    assert_eq!(ran.code, Some(0), "{name}: {}{}", details(&ran.report), ran.stderr);
    assert_eq!(ran.report["Isolated"], true, "{name}");
    // An exception that is not needed is a line of the page that is not true.
    let named: BTreeSet<String> = deviations.iter().map(|(case, _)| (*case).to_owned()).collect();
    assert_eq!(cases(&ran.report, "excepted"), named, "{name}");
    for case in &named {
        let row =
            page.lines().find(|line| line.contains(&format!("`{case}`")) && line.contains(name));
        assert!(row.is_some(), "docs/conform.md does not name {case} of {name}");
    }
    let expected: BTreeSet<String> = all_cases()
        .into_iter()
        .filter(|id| {
            inapplicable.iter().any(|name| match name.strip_suffix('*') {
                Some(start) => id.starts_with(start),
                None => name == id,
            })
        })
        .collect();
    assert_eq!(cases(&ran.report, "not-applicable"), expected, "{name}");
}

#[test]
fn the_crate_lambda_runtime_conforms() {
    let deviations = [
        ("response-500", "it asks for the next event"),
        ("init-error", "the crate has no init error; a main that fails ends"),
    ];
    // A compiled function has no handler to miss, and the example is neither a stream nor built
    // with the crate's feature for concurrency.
    let inapplicable = [
        "error-stack",
        "init-error-shape",
        "init-error-alone",
        "init-error-500",
        "init-handler-missing",
        "stream-*",
        "concurrency-*",
    ];
    good("`lambda_runtime`", &bin("conform-lambda-runtime"), &[], &deviations, &inapplicable);
}

#[test]
fn the_package_awslambdaric_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let packages = root().join("target/guest/awslambdaric");
    assert!(packages.exists(), "{} is missing: run `tools/setup test`", packages.display());
    let example = root().join("examples/conform/python");
    for (from, to) in [
        (&packages, "lib"),
        (&example.join("bootstrap"), "bootstrap"),
        (&example.join("function.py"), "function.py"),
    ] {
        let copied = Command::new("cp").arg("-r").arg(from).arg(folder.path().join(to)).status();
        assert!(copied.unwrap().success());
    }
    let ends = "it ends when a post is refused";
    let deviations = [
        ("response-413", ends),
        ("response-413-early", ends),
        ("response-400", ends),
        ("response-403", ends),
        ("error-header", "it sends the type in the body only"),
    ];
    good("`awslambdaric`", folder.path(), &[], &deviations, &["stream-*"]);
}

#[test]
fn the_package_aws_lambda_ric_conforms() {
    let folder = tempfile::tempdir().unwrap();
    super::clients::node_client(folder.path());
    let function = root().join("examples/conform/node/function.js");
    std::fs::copy(function, folder.path().join("function.js")).unwrap();
    let stays = "it stays and asks no more";
    let deviations = [
        ("error-header", "it sends the type in the body only"),
        ("response-500", "it asks for the next event"),
        ("next-500", stays),
        ("next-reset", stays),
    ];
    // The stack of an error is in a field of its own, and the example is no stream.
    let inapplicable = ["error-stack", "stream-*", "concurrency-*"];
    good("`aws-lambda-ric`", folder.path(), &[], &deviations, &inapplicable);
}

fn layer(runtime: &str, to: &Path) -> String {
    let file = to.join(format!("{runtime}.zip"));
    let output =
        Command::new(lambfold()).args(["layer", "build", runtime, "-o"]).arg(&file).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    file.to_str().unwrap().to_owned()
}

const NO_LENGTH: (&str, &str) = ("until-close", "a body without a length is refused");

#[test]
fn our_bash_runtime_conforms() {
    let work = tempfile::tempdir().unwrap();
    let layer = layer("bash", work.path());
    let path = root().join("examples/conform/bash");
    good("bash runtime", &path, &["--layer", &layer], &[NO_LENGTH], &[]);
}

#[test]
fn our_php_runtime_conforms() {
    let work = tempfile::tempdir().unwrap();
    let layer = layer("php", work.path());
    let path = root().join("examples/conform/php");
    let args = ["--layer", &layer, "--handler", "index.php", "--env", "LAMBFOLD_PHP_MODE=function"];
    // Streams are for pages.
    good("PHP runtime", &path, &args, &[NO_LENGTH], &["stream-*"]);
}

/// The broken bootstrap without what only a debugger needs, so that each run unpacks less.
fn puppet(work: &Path) -> std::path::PathBuf {
    let stripped = work.join("puppet");
    let strip = Command::new("strip").arg("-o").arg(&stripped).arg(bin("conform-puppet")).status();
    assert!(strip.unwrap().success());
    stripped
}

#[test]
fn a_bootstrap_without_faults_passes_every_case_with_and_without_a_sandbox() {
    let work = tempfile::tempdir().unwrap();
    let puppet = puppet(work.path());
    for isolation in ["namespace", "none"] {
        let junit = work.path().join("conform.xml");
        let args = ["--idle", "3", "--events", "300", "--isolation", isolation, "--junit"];
        let ran = conform(&puppet, &[&args[..], &[junit.to_str().unwrap()]].concat());
        assert_eq!(ran.code, Some(0), "{isolation}: {}{}", details(&ran.report), ran.stderr);
        assert_eq!(cases(&ran.report, "pass").len(), all_cases().len(), "{isolation}");
        assert_eq!(ran.report["Isolated"], isolation == "namespace");
        let said = ran.stderr.contains("with your rights and without limits");
        assert_eq!(said, isolation == "none", "{}", ran.stderr);
        let xml = std::fs::read_to_string(&junit).unwrap();
        assert_eq!(xml.matches("<testcase ").count(), all_cases().len());
    }
}

#[test]
fn each_case_is_failed_by_its_own_broken_bootstrap_and_by_no_other() {
    let work = tempfile::tempdir().unwrap();
    let puppet = puppet(work.path());
    let faults = all_cases();
    assert!(faults.len() >= 60, "only {} cases", faults.len());
    let queue = Mutex::new(faults);
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        // Most of them wait most of the time.
        for _ in 0..6 {
            scope.spawn(|| {
                loop {
                    let Some(fault) = queue.lock().unwrap().pop() else { return };
                    let variable = format!("CONFORM_FAULT={fault}");
                    let args =
                        ["--idle", "3", "--events", "300", "--jobs", "8", "--env", &variable];
                    let ran = conform(&puppet, &args);
                    let failed = cases(&ran.report, "fail");
                    if failed != BTreeSet::from([fault.clone()]) || ran.code != Some(1) {
                        let what = details(&ran.report);
                        wrong
                            .lock()
                            .unwrap()
                            .push(format!("fault {fault}, code {:?}: {what}", ran.code));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn wrong_usage_is_2_and_a_bootstrap_that_cannot_run_is_explained() {
    let run = |args: &[&str]| {
        let output = Command::new(lambfold()).arg("conform").args(args).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (args, why) in [
        (&[][..], "required"),
        (&["/nonexistent"], "there is no file or folder /nonexistent"),
        (&["/", "--case", "nothing"], "there is no case nothing"),
        (&["/", "--except", "start"], "--except start is not CASE=REASON"),
        (&["/", "--except", "start="], "--except start= needs a reason"),
        (&["/", "--except", "nothing=x"], "there is no case nothing"),
        (&["/", "--env", "X"], "--env X is not KEY=VALUE"),
        (&["/", "--rootfs", "/nonexistent"], "neither host nor a folder"),
        (&["/", "--events", "2"], "2"),
        (&["/", "--jobs", "65"], "65"),
    ] {
        let (code, stderr) = run(args);
        assert_eq!(code, Some(2), "{args:?}: {stderr}");
        assert!(stderr.contains(why), "{args:?}: {stderr}");
    }
    let folder = tempfile::tempdir().unwrap();
    let bootstrap = folder.path().join("bootstrap");
    std::fs::write(&bootstrap, "#!/bin/sh\r\nexit\r\n").unwrap();
    let chmod = Command::new("chmod").arg("755").arg(&bootstrap).status();
    assert!(chmod.unwrap().success());
    let (code, stderr) = run(&[bootstrap.to_str().unwrap()]);
    assert!(code == Some(1) && stderr.contains("cannot be deployed"), "{stderr}");
    // One that starts, and ends: the first case says so, and the others do not apply.
    std::fs::write(&bootstrap, "#!/bin/sh\necho oh dear\nexit 3\n").unwrap();
    let ran = conform(folder.path(), &[]);
    assert_eq!((ran.code, cases(&ran.report, "fail").len()), (Some(1), 1));
    assert!(details(&ran.report).contains("oh dear"), "{}", details(&ran.report));
}
