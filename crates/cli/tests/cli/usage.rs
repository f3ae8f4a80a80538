use crate::{lambfold, run};
use std::io::Write;
use std::process::Stdio;

#[test]
fn wrong_usage_is_exit_code_2_and_leaves_standard_output_alone() {
    let zip = "/nonexistent.zip";
    let cases: &[&[&str]] = &[
        &[],
        &["fly"],
        &["invoke"],
        &["invoke", "not a name"],
        &["invoke", "f", "--payload", "{a}"],
        &["invoke", "f", "--async", "--tail"],
        &["invoke", "f", "--endpoint-url", "https://localhost"],
        &["invoke", "f", "--endpoint-url", "localhost:9000"],
        &["invoke", "f", "--region", "nowhere"],
        &["deploy", zip, "--name", "f", "--memory", "127"],
        &["deploy", zip, "--name", "f", "--memory", "10241"],
        &["deploy", zip, "--name", "f", "--timeout", "0"],
        &["deploy", zip, "--name", "f", "--timeout", "901"],
        &["deploy", zip, "--name", "f", "--env", "NOVALUE"],
        &["deploy", zip, "--name", "f", "--layer", "bash"],
        &["deploy", zip, "--name", "f", "--runtime", "nodejs22.x"],
        &["deploy", zip, "--name", "f", "--architecture", "mips"],
        &["deploy", zip, "--name", "a/b"],
        &["layer", "publish", zip, "--name", "a b"],
        &["layer", "import", zip, "--alias-arn", "arn:aws:lambda:us-east-1:1:layer:x:1"],
        &["logs", "f", "--since", "yesterday"],
        &["doctor", "--rootfs", "/nonexistent"],
        &["fault"],
        &["fault", "f"],
        &["fault", "f", "slow-next"],
        &["fault", "f", "flood", "--for", "1m"],
        &["fault", "f", "oom", "--for", "soon"],
        &["fault", "f", "oom", "--for", "0s"],
        &["fault", "f", "oom", "--for", "86401s"],
        &["fault", "f", "oom", "--for", "1m", "--rate", "0"],
        &["fault", "f", "oom", "--for", "1m", "--rate", "1.1"],
        &["fault", "f", "oom", "--for", "1m", "--delay", "1s"],
        &["fault", "f", "throttle", "--for", "1m", "--remaining", "1s"],
        &["fault", "f", "deadline", "--for", "1m", "--call", "next"],
        &["fault", "f", "deadline", "--for", "1m", "--remaining", "soon"],
        &["fault", "f", "--list", "--clear"],
        &["fault", "--clear"],
        &["fault", "not a name", "--list"],
        &["completions"],
        &["completions", "tcsh"],
        &["man", "/tmp", "--page", "invoke"],
        &["serve", "--listen", "0.0.0.0:0"],
        &["serve", "--listen", "9000"],
        &["serve", "--network", "host"],
        &["serve", "--isolation", "process"],
        &["serve", "--account-id", "1"],
        &["serve", "--strict=perhaps"],
        &["serve", "--data-dir", "x", "--ephemeral"],
        &["serve", "--config", "/nonexistent.toml"],
    ];
    let folder = tempfile::tempdir().unwrap();
    for args in cases {
        let ran = run(lambfold(args).current_dir(folder.path()).env("HOME", folder.path()));
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{args:?}: {}", ran.stderr);
        // Called with nothing, it explains itself.
        let says_why = ran.stderr.starts_with("error: ") || args.is_empty();
        assert!(says_why, "{args:?}: {}", ran.stderr);
    }
}

#[test]
fn settings_of_serve_are_read_from_file_and_environment() {
    let folder = tempfile::tempdir().unwrap();
    let serve = || {
        let mut command = lambfold(&["serve"]);
        command.current_dir(folder.path()).env("HOME", folder.path());
        command
    };
    std::fs::write(folder.path().join("lambfold.toml"), "listen = '0.0.0.0:1'\n").unwrap();
    let ran = run(&mut serve());
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.starts_with("error: listen in lambfold.toml would let"), "{}", ran.stderr);
    assert!(ran.stderr.contains("hint: "), "{}", ran.stderr);
    let ran = run(serve().env("LAMBFOLD_LISTEN", "nonsense"));
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.starts_with("error: LAMBFOLD_LISTEN has the wrong value"), "{}", ran.stderr);
    std::fs::write(folder.path().join("other.toml"), "colour = 'blue'\n").unwrap();
    let ran = run(serve().env("LAMBFOLD_CONFIG", "other.toml"));
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("other.toml has the unknown key \"colour\""), "{}", ran.stderr);
}

#[test]
fn env_prints_what_a_shell_can_evaluate() {
    let ran = run(&mut lambfold(&["env", "--region", "cn-north-1"]));
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let mut shell = std::process::Command::new("sh");
    shell.stdin(Stdio::piped()).stdout(Stdio::piped()).env_clear();
    let mut shell = shell.spawn().unwrap();
    let script = format!(
        "{}echo $AWS_ENDPOINT_URL $AWS_REGION $AWS_DEFAULT_REGION $AWS_ACCESS_KEY_ID $AWS_SECRET_ACCESS_KEY",
        ran.stdout
    );
    shell.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = shell.wait_with_output().unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "http://127.0.0.1:9000 cn-north-1 cn-north-1 lambfold lambfold\n"
    );
    let ran = run(lambfold(&["env", "--output", "json"]).env("AWS_DEFAULT_REGION", "eu-west-1"));
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json["AWS_REGION"], "eu-west-1");
}

#[test]
fn a_reader_that_went_away_is_no_failure() {
    for args in [&["env"][..], &["--help"], &["env", "--output", "json"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = lambfold(args).stdout(writer).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert_eq!(output.stderr, b"", "{args:?}");
    }
}

#[test]
fn a_server_that_is_not_there_comes_with_a_hint() {
    // A port that was free a moment ago and that nobody listens on.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    for args in [&["invoke", "f"][..], &["logs", "f"]] {
        let ran = run(lambfold(args).env("AWS_ENDPOINT_URL", &url));
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{args:?}");
        let mut lines = ran.stderr.lines();
        assert_eq!(lines.next(), Some(format!("error: could not connect to {url}").as_str()));
        assert!(lines.next().is_some_and(|line| line.starts_with("caused by: ")), "{}", ran.stderr);
        assert!(ran.stderr.contains("hint: is the server running"), "{}", ran.stderr);
        assert!(ran.stderr.contains("lambfold serve"), "{}", ran.stderr);
    }
}

#[test]
fn a_stranger_at_the_address_is_not_taken_for_the_server() {
    use crate::scripted::{Reply, Scripted};
    let server = Scripted::new([Reply::new(404, "<html>no</html>")]);
    let ran = crate::against(&server, &["invoke", "f"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("not of the AWS API"), "{}", ran.stderr);
}

/// Whatever this machine allows, the report is whole and its exit code says the same.
#[test]
fn doctor_names_a_remedy_for_all_that_does_not_hold() {
    let ran = run(&mut lambfold(&["doctor", "--output", "json"]));
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let works = report["Works"].as_bool().unwrap();
    assert_eq!(ran.code, i32::from(!works), "{}", ran.stderr);
    let checks = report["Checks"].as_array().unwrap();
    let steps = checks.iter().filter(|check| check["Group"] == "sandbox").count();
    assert!(steps > 20, "{report:#}");
    for check in checks {
        let wrong = ["lesser", "fails"].iter().any(|outcome| check["Outcome"] == *outcome);
        let remedy = check["Remedy"].as_str().unwrap_or_default();
        assert!(!wrong || check["Group"] == "server" || !remedy.is_empty(), "{check:#}");
    }
}

/// What else writes to the same terminal must not get into the middle of a line.
#[test]
fn each_line_of_talk_is_one_write() {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixDatagram;
    for args in [&["events", "list"][..], &["events", "generate", "none"]] {
        // A packet a write.
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let mut command = lambfold(args);
        command.stdout(Stdio::null()).stderr(OwnedFd::from(theirs));
        command.status().unwrap();
        drop(command);
        ours.set_nonblocking(true).unwrap();
        let mut lines = 0;
        let mut bytes = [0; 4096];
        while let Ok(length @ 1..) = ours.recv(&mut bytes) {
            let text = String::from_utf8_lossy(&bytes[..length]);
            let (line, rest) = text.split_once('\n').unwrap_or_else(|| panic!("{text:?}"));
            assert!(!line.is_empty() && rest.is_empty(), "{text:?}");
            lines += 1;
        }
        assert!(lines > 0, "{args:?}");
    }
}
