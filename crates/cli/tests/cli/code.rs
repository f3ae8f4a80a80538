//! `package` and the layer commands.

use crate::scripted::{Reply, Scripted};
use crate::{against, lambfold, run, write};
use serde_json::{Value, json};
use std::fs::FileTimes;
use std::path::Path;
use std::time::{Duration, SystemTime};

fn fill(folder: &Path) {
    write(&folder.join("bootstrap"), "#!/bin/sh\n", 0o755);
    write(&folder.join("function.sh"), "handler () { cat; }\n", 0o644);
    std::fs::create_dir(folder.join("lib")).unwrap();
    write(&folder.join("lib/tool"), "#!/bin/sh\n", 0o700);
    std::os::unix::fs::symlink("tool", folder.join("lib/link")).unwrap();
}

fn package(folder: &Path, out: &Path) -> crate::Ran {
    run(lambfold(&["package", ".", "-o", out.to_str().unwrap()]).current_dir(folder))
}

#[test]
fn the_same_content_is_the_same_zip() {
    let out = tempfile::tempdir().unwrap();
    let mut zips = Vec::new();
    for (index, name) in ["a.zip", "b.zip"].into_iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        fill(folder.path());
        let past = SystemTime::now() - Duration::from_secs(100_000 * index as u64);
        let file = std::fs::File::open(folder.path().join("function.sh")).unwrap();
        file.set_times(FileTimes::new().set_modified(past)).unwrap();
        let path = out.path().join(name);
        let ran = package(folder.path(), &path);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(ran.stdout, format!("{}\n", path.display()));
        zips.push(std::fs::read(&path).unwrap());
    }
    assert_eq!(zips[0], zips[1]);
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 2, "nothing else is left there");
}

#[test]
fn what_cannot_run_is_refused_and_the_old_zip_stays() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("bootstrap"), "#!/bin/sh\r\necho\r\n", 0o755);
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("f.zip");
    std::fs::write(&path, "old").unwrap();
    let ran = package(folder.path(), &path);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.contains("carriage return"), "{}", ran.stderr);
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 1);
}

#[test]
fn a_zip_may_be_written_into_its_own_folder() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    let first = package(folder.path(), Path::new("f.zip"));
    assert_eq!(first.code, 0, "{}", first.stderr);
}

#[test]
fn json_describes_the_zip() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("function.sh"), "12345", 0o644);
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("f.zip");
    let args = ["package", ".", "-o", path.to_str().unwrap(), "--output", "json"];
    let ran = run(lambfold(&args).current_dir(folder.path()));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("note: no bootstrap"), "{}", ran.stderr);
    let value: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(value["UnpackedSize"], 5);
    assert_eq!(value["CodeSize"], std::fs::metadata(&path).unwrap().len());
    assert_eq!(value["CodeSha256"].as_str().map(str::len), Some(44));
}

#[test]
fn a_folder_becomes_a_layer_version() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("bootstrap"), "#!/bin/sh\n", 0o755);
    let arn = "arn:aws:lambda:us-east-1:000000000000:layer:bash:3";
    let server = Scripted::new([Reply::json(201, json!({"LayerVersionArn": arn, "Version": 3}))]);
    let path = folder.path().to_str().unwrap();
    let ran = against(&server, &["layer", "publish", path, "--name", "bash", "--description", "d"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, &*format!("{arn}\n")), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("--layer {arn}")), "{}", ran.stderr);
    let request = server.next();
    assert_eq!(request.line, "POST /2018-10-31/layers/bash/versions HTTP/1.1");
    let input = request.json();
    assert_eq!(input["Description"], "d");
    assert!(input["Content"]["ZipFile"].as_str().is_some_and(|text| text.starts_with("UEs")));
}

#[test]
fn a_zip_is_imported_under_a_foreign_arn_byte_by_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layer.zip");
    let content: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    std::fs::write(&path, &content).unwrap();
    let arn = "arn:aws:lambda:eu-central-1:873528684822:layer:php-84:21";
    let server = Scripted::new([Reply::json(200, json!({}))]);
    let ran = against(
        &server,
        &["layer", "import", path.to_str().unwrap(), "--alias-arn", arn, "--output", "json"],
    );
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    // Not a terminal: no progress.
    assert_eq!(ran.stderr, "");
    let value: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(value["LayerVersionArn"], arn);
    let request = server.next();
    assert_eq!(
        request.line,
        "PUT /_lambfold/v1/layers?arn=arn%3Aaws%3Alambda%3Aeu-central-1%3A873528684822%3Alayer%3Aphp-84%3A21 HTTP/1.1"
    );
    assert_eq!(request.header("content-type"), Some("application/zip"));
    assert!(request.body == content);
}

#[test]
fn an_import_for_another_region_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layer.zip");
    std::fs::write(&path, "zip").unwrap();
    let arn = "arn:aws:lambda:eu-central-1:873528684822:layer:php-84:21";
    let import = ["layer", "import", path.to_str().unwrap(), "--alias-arn", arn];
    let server = Scripted::new([Reply::json(201, json!({})), Reply::json(201, json!({}))]);
    let ran = against(&server, &import);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, &*format!("{arn}\n")), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: a function and its layers"), "{}", ran.stderr);
    let ran = against(&server, &[&import[..], &["--region", "eu-central-1"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(!ran.stderr.contains("hint: "), "{}", ran.stderr);
}

#[test]
fn a_hostile_zip_is_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.zip");
    std::fs::write(&path, "this is not a zip").unwrap();
    let server = Scripted::new([Reply::not_found()]);
    let name = path.to_str().unwrap();
    let ran = against(&server, &["deploy", name, "--name", "f", "--handler", "h"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("is not a deployment package"), "{}", ran.stderr);
    assert!(server.requests().is_empty());
}
