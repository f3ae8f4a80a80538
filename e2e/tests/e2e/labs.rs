//! Labs 1 and 2 as a learner types them, with the AWS CLI of PyPI and with Debian's old one.

use super::harness::{example, server, venv};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// An AWS CLI and how it is told where the server is.
pub(super) struct Aws {
    pub(super) program: String,
    pub(super) endpoint: String,
    /// Debian's 2.9.19, which does not know `AWS_ENDPOINT_URL`; PyPI's is version 1, which takes
    /// a payload as it is.
    pub(super) version_2: bool,
}

impl Aws {
    pub(super) fn run(&self, args: &[&str]) -> Value {
        let mut command = Command::new(&self.program);
        command.args(args).env_remove("AWS_ENDPOINT_URL").envs([
            ("AWS_REGION", "us-east-1"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "any"),
            ("AWS_SECRET_ACCESS_KEY", "any"),
            ("AWS_PAGER", ""),
            ("AWS_EC2_METADATA_DISABLED", "true"),
        ]);
        if self.version_2 {
            command.args(["--endpoint-url", &self.endpoint]);
        } else {
            command.env("AWS_ENDPOINT_URL", &self.endpoint);
        }
        let output = command.output().unwrap_or_else(|e| panic!("{}: {e}", self.program));
        let talk = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "aws {args:?}: {talk}");
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    pub(super) fn invoke(&self, work: &Path, function: &str, payload: &str) -> (Value, String) {
        let out = work.join("answer.json");
        let out_text = out.to_str().unwrap();
        let mut args = vec!["lambda", "invoke", "--function-name", function, "--payload", payload];
        if self.version_2 {
            args.extend(["--cli-binary-format", "raw-in-base64-out"]);
        }
        args.extend(["--log-type", "Tail", out_text]);
        let reply = self.run(&args);
        (reply, std::fs::read_to_string(out).unwrap())
    }

    pub(super) fn create(&self, name: &str, zip: &Path, layers: &[&str]) -> Value {
        let zip = format!("fileb://{}", zip.display());
        let mut args = vec![
            "lambda",
            "create-function",
            "--function-name",
            name,
            "--runtime",
            "provided.al2023",
            "--handler",
            "function.handler",
            "--role",
            "arn:aws:iam::000000000000:role/lambda",
            "--zip-file",
            &zip,
        ];
        if !layers.is_empty() {
            args.push("--layers");
            args.extend_from_slice(layers);
        }
        self.run(&args)
    }
}

fn labs(program: String, version_2: bool) {
    let server = server();
    let aws = Aws { program, endpoint: server.url().trim_end_matches('/').to_owned(), version_2 };
    let work = tempfile::tempdir().unwrap();

    // lab 1: bootstrap and function.sh in one zip
    let zip = example("bash-echo", work.path());
    let created = aws.create("lab1", &zip, &[]);
    assert_eq!(created["FunctionArn"], "arn:aws:lambda:us-east-1:000000000000:function:lab1");
    aws.run(&["lambda", "wait", "function-active-v2", "--function-name", "lab1"]);
    let (reply, answer) = aws.invoke(work.path(), "lab1", r#"{"text":"Hello"}"#);
    assert_eq!(reply["StatusCode"], 200, "{answer}");
    assert_eq!(reply["FunctionError"], Value::Null, "{answer}");
    assert!(answer.contains("Hello"), "{answer}");
    let (_, again) = aws.invoke(work.path(), "lab1", r#"{"text":"Hello"}"#);
    assert_eq!(answer, again);

    // lab 2: the runtime as a layer, two functions with nothing but their function.sh
    let layer = example("bash-layer/layer", work.path());
    let layer = format!("fileb://{}", layer.display());
    let published = aws.run(&[
        "lambda",
        "publish-layer-version",
        "--layer-name",
        "bash-runtime",
        "--zip-file",
        &layer,
    ]);
    let arn = published["LayerVersionArn"].as_str().unwrap();
    assert_eq!(arn, "arn:aws:lambda:us-east-1:000000000000:layer:bash-runtime:1");
    let mut answers = Vec::new();
    for function in super::harness::layer_functions() {
        let zip = example(&format!("bash-layer/{function}"), work.path());
        aws.create(&function, &zip, &[arn]);
        let (reply, answer) = aws.invoke(work.path(), &function, r#"{"text":"Hello"}"#);
        assert_eq!(reply["FunctionError"], Value::Null, "{answer}");
        answers.push(answer);
    }
    assert_eq!(answers.len(), 2);
    assert_ne!(answers[0], answers[1], "two functions, two answers");
    aws.run(&["lambda", "delete-function", "--function-name", "lab1"]);
    let listed = aws.run(&["lambda", "list-functions"]);
    assert_eq!(listed["Functions"].as_array().unwrap().len(), 2);
}

#[test]
fn labs_with_the_aws_cli_of_pypi() {
    labs(venv("aws").display().to_string(), false);
}

#[test]
fn labs_with_the_old_aws_cli_of_debian() {
    labs("/usr/bin/aws".to_owned(), true);
}
