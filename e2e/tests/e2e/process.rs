//! `serve --isolation process`: an ordinary user's functions as plain processes, for machines where
//! namespaces cannot be had. Who runs these tests is who `user.rs` says.

use super::crash::{Place, Server};
use super::harness::{Api, lambfold, root, venv, wait_until, zip};
use super::labs::Aws;
use super::user::{family, have_ended, ordinary_user, processes};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

const WITHOUT_WALLS: [&str; 3] = ["--isolation", "process", "--insecure"];

fn place() -> Place {
    Place::of(ordinary_user()).with(&WITHOUT_WALLS)
}

fn run(api: &Api, function: &str, shell: &str) -> String {
    let reply = api.invoke(function, &json!({ "do": "run", "shell": shell }));
    assert_eq!(reply.header("x-amz-function-error"), None, "{}", reply.text());
    reply.json()["out"].as_str().unwrap().to_owned()
}

/// Whether a process carries this word, alone or in what a shell was given to run.
fn lives(word: &str) -> bool {
    processes().values().any(|process| process.command.contains(word))
}

/// A client command of `lambfold`.
fn client(server: &Server, args: &[&str]) -> Command {
    let mut command = Command::new(lambfold());
    command.args(args).env("AWS_ENDPOINT_URL", &server.endpoint).env("AWS_REGION", "us-east-1");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn lab_1_with_the_aws_cli_and_all_that_tells_that_there_are_no_walls() {
    let place = place();
    let server = place.start();
    assert!(server.said.iter().any(|line| line.contains("NO WALLS")), "{:?}", server.said);
    assert!(server.said.iter().any(|line| line.contains("network host")), "{:?}", server.said);
    let endpoint = server.endpoint.trim_end_matches('/').to_owned();
    let aws = Aws { program: venv("aws").display().to_string(), endpoint, version_2: false };
    let work = tempfile::tempdir().unwrap();
    let zip = super::harness::example("bash-echo", work.path());
    aws.create("lab1", &zip, &[]);
    aws.run(&["lambda", "wait", "function-active-v2", "--function-name", "lab1"]);
    for start in ["cold", "warm"] {
        let (reply, answer) = aws.invoke(work.path(), "lab1", r#"{"text":"Hello"}"#);
        assert_eq!(reply["FunctionError"], Value::Null, "{start}: {answer}");
        assert!(answer.contains("Hello"), "{start}: {answer}");
        let log = STANDARD.decode(reply["LogResult"].as_str().unwrap()).unwrap();
        let log = text(&log);
        assert!(log.starts_with("START RequestId: ") && log.contains("\nEND RequestId: "), "{log}");
        let memory = log.split("Max Memory Used: ").nth(1).unwrap();
        let mib: u64 = memory.split(' ').next().unwrap().parse().unwrap();
        assert!((2..128).contains(&mib), "{log}");
    }
    let ready = Api::new(&server.endpoint).send("GET", "/health/ready", &[], b"").unwrap();
    let expected = "ready\nwarning: functions run without walls (--isolation process)\n";
    assert_eq!((ready.status, ready.text().as_str()), (200, expected));
    let doctor = text(&client(&server, &["doctor"]).output().unwrap().stdout);
    let doctor = doctor.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(doctor.contains("functions run without walls (--isolation process)"), "{doctor}");
    server.stop();
}

#[test]
fn a_function_has_its_code_a_folder_and_addresses_of_its_own() {
    let place = place();
    let server = place.start();
    let api = Api::new(&server.endpoint);
    api.create_puppet("f", json!({ "Environment": { "Variables": { "MINE": "1" } } }));
    let variables = api.invoke("f", &json!({ "do": "env" })).json();
    let get = |name: &str| variables[name].as_str().unwrap_or_else(|| panic!("{variables}"));
    let task = get("LAMBDA_TASK_ROOT");
    assert!(task.starts_with(place.data().join("trees").to_str().unwrap()), "{task}");
    assert!(get("AWS_LAMBDA_RUNTIME_API").starts_with("127."), "{variables}");
    assert_eq!(get("MINE"), "1");
    for foreign in ["HOME", "USER", "LAMBFOLD_ISOLATION", "SHELL"] {
        assert_eq!(variables[foreign], Value::Null, "of the server's environment");
    }
    let user = ordinary_user().map_or_else(|| run(&api, "f", "id -u"), |(id, _)| format!("{id}\n"));
    assert_eq!(run(&api, "f", "id -u; pwd"), format!("{user}{task}\n"));
    // The Runtime API is its user's.
    let mut peer = std::net::TcpStream::connect(get("AWS_LAMBDA_RUNTIME_API")).unwrap();
    let mut answer = Vec::new();
    // Closed before it was read is an error.
    let _ = peer.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let _ = peer.read_to_end(&mut answer);
    match ordinary_user() {
        Some(_) => assert_eq!(text(&answer), "", "root is another user"),
        None => assert!(text(&answer).starts_with("HTTP/1.1 404"), "{}", text(&answer)),
    }
    // By mistake nobody writes to the code.
    let written = run(&api, "f", "echo x 2> /dev/null > $LAMBDA_TASK_ROOT/file || echo refused");
    assert_eq!(written, "refused\n");
    assert_eq!(run(&api, "f", "echo kept > $TMPDIR/file; cat $TMPDIR/file"), "kept\n");
    let tmp = get("TMPDIR").to_owned();
    assert!(Path::new(&tmp).join("file").exists());

    // Two at once are two environments.
    let rendezvous = |mine: &str, other: &str| {
        format!(
            "mkdir -p $MEET; : > $MEET/{mine}; until [ -e $MEET/{other} ]; do :; done; echo $TMPDIR $AWS_LAMBDA_RUNTIME_API"
        )
    };
    let meet = place.data().join("meet");
    let variables = json!({ "Variables": { "MEET": meet } });
    api.create_puppet("two", json!({ "Timeout": 60, "Environment": variables }));
    let threads = [("a", "b"), ("b", "a")].map(|(mine, other)| {
        let (api, shell) = (api.clone(), rendezvous(mine, other));
        std::thread::spawn(move || run(&api, "two", &shell))
    });
    let [one, other] = threads.map(|thread| thread.join().unwrap());
    let parts = |told: &str| told.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let (one, other) = (parts(&one), parts(&other));
    assert!(one[0] != other[0] && one[1] != other[1], "{one:?} {other:?}");

    // The folder goes with the environment.
    assert_eq!(api.call("DELETE", "/2015-03-31/functions/f", &json!({})).status, 204);
    wait_until("its folder is removed", || !Path::new(&tmp).exists());
    server.stop();
    assert_eq!(std::fs::read_dir(place.data().join("run/sandbox")).unwrap().count(), 0);
    // What was read-only can be removed again by ordinary means.
    std::fs::remove_dir_all(place.data().join("trees")).unwrap();
}

#[test]
fn the_built_in_bash_runtime_works_in_the_functions_own_zip() {
    let place = place();
    let server = place.start();
    let api = Api::new(&server.endpoint);
    let built = root().join("target/bootstraps/bash-bootstrap");
    assert!(built.exists(), "{} is missing: run `tools/bootstraps`", built.display());
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(&built, folder.path().join("bootstrap")).unwrap();
    let function = "handler () { printf '%s' \"$1\"; basename \"$LAMBDA_TASK_ROOT\" >&2; }\n";
    std::fs::write(folder.path().join("function.sh"), function).unwrap();
    api.create_from("f", folder.path(), json!({}));
    for event in [json!({ "n": 1 }), json!({ "n": 2 })] {
        let reply = api.invoke_tail("f", &event);
        assert_eq!(reply.json(), event, "{}", reply.text());
        assert!(reply.log().contains("REPORT RequestId: "), "{}", reply.log());
    }
    server.stop();
}

#[test]
fn errors_crashes_and_time_outs_are_what_they_are_with_walls() {
    let place = place();
    let server = place.start();
    let api = Api::new(&server.endpoint);
    api.create_puppet("f", json!({ "Timeout": 1 }));
    let error = |event: Value| {
        let reply = api.invoke("f", &event);
        assert_eq!(reply.header("x-amz-function-error"), Some("Unhandled"), "{}", reply.text());
        reply.json()
    };
    assert_eq!(error(json!({ "do": "raise" }))["errorType"], "Puppet.Raised");
    let exited = error(json!({ "do": "exit", "code": 3 }));
    assert_eq!(exited["errorType"], "Runtime.ExitError", "{exited}");
    assert!(exited["errorMessage"].as_str().unwrap().ends_with("exit status 3"), "{exited}");
    run(&api, "f", "echo kept > $TMPDIR/file");
    // All that it started goes with it, in whatever session.
    let word = format!("{}-late", place.data().display());
    let daemon = format!("setsid bash -c 'while :; do sleep 1000; done' {word} & sleep 1000");
    let late = error(json!({ "do": "run", "shell": daemon }));
    assert_eq!(late["errorType"], "Sandbox.Timedout", "{late}");
    wait_until("the daemon is killed", || !lives(&word));
    let reply = api.invoke("f", &json!({ "do": "count" }));
    assert_eq!(reply.json()["count"], 1, "after the time-out: {}", reply.text());
    assert_eq!(run(&api, "f", "cat $TMPDIR/file"), "kept\n");
    let log = api.log_messages("f").concat();
    for part in ["Task timed out after 1.00 seconds", "INIT_START", "Status: timeout"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    // It may end its keeper: then the environment is lost, and the next one is another.
    let daemon = format!(
        "setsid bash -c 'while :; do sleep 1000; done' {word} & kill -9 $(ps -o ppid= $PPID)"
    );
    error(json!({ "do": "run", "shell": daemon }));
    wait_until("the daemon is killed", || !lives(&word));
    assert_eq!(api.invoke("f", &json!({ "do": "count" })).json()["count"], 1);
    server.stop();
}

#[test]
fn layers_are_refused_by_invocations_and_kept() {
    let place = place();
    let server = place.start();
    let api = Api::new(&server.endpoint);
    let layer = STANDARD.encode(zip(&root().join("examples/bash-layer/layer")));
    let request = json!({ "Content": { "ZipFile": layer } });
    let reply = api.call("POST", "/2018-10-31/layers/l/versions", &request);
    assert_eq!(reply.status, 201, "{}", reply.text());
    api.create_puppet("f", json!({ "Layers": [reply.json()["LayerVersionArn"]] }));
    for kind in ["RequestResponse", "Event", "DryRun"] {
        let reply = api.invoke_with("f", &json!({}), &[("x-amz-invocation-type", kind)]);
        assert_eq!(reply.status, 400, "{kind}: {}", reply.text());
        let told = reply.text();
        assert_eq!(
            reply.header("x-amzn-errortype"),
            Some("InvalidParameterValueException"),
            "{told}"
        );
        assert!(told.contains("The function f cannot run here: it has layers"), "{told}");
        assert!(told.contains("--isolation process") && told.contains("own zip"), "{told}");
    }
    let shell = client(&server, &["shell", "f"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(shell.status.code(), Some(1));
    assert!(text(&shell.stderr).contains("it has layers"), "{}", text(&shell.stderr));
    server.stop();
    // A server with walls runs it.
    let place = place.with(&[]);
    let server = place.start();
    let reply = Api::new(&server.endpoint).invoke("f", &json!({ "do": "count" }));
    assert_eq!(reply.json()["count"], 1, "{}", reply.text());
    server.stop();
}

#[test]
fn a_shell_is_a_process_like_a_bootstrap() {
    let place = place();
    let server = place.start();
    let api = Api::new(&server.endpoint);
    api.create_from("lab1", &root().join("examples/bash-echo"), json!({}));
    let mut shell = client(&server, &["shell", "lab1"]);
    shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut shell = shell.spawn().unwrap();
    shell.stdin.take().unwrap().write_all(b"pwd; echo $LAMBDA_TASK_ROOT; exit 5").unwrap();
    let output = shell.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", text(&output.stderr));
    let lines = text(&output.stdout);
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(lines[0], lines[1]);
    server.stop();
}

#[test]
fn killed_without_walls_it_leaves_no_process() {
    let place = place();
    let server = place.start();
    let api = Api::new(&server.endpoint);
    api.create_puppet("idle", json!({}));
    api.create_puppet("busy", json!({ "Timeout": 60 }));
    assert_eq!(api.invoke("idle", &json!({ "do": "count" })).json()["count"], 1);
    let word = format!("{}-stays", place.data().display());
    let stay = "while :; do sleep 1000; done";
    let shell =
        format!("setsid bash -c '{stay}' {word}-daemon & exec bash -c '{stay}' {word}-child");
    let later = [("x-amz-invocation-type", "Event")];
    let event = json!({ "do": "run", "shell": shell });
    assert_eq!(api.invoke_with("busy", &event, &later).status, 202);
    let eldest = server.id();
    wait_until("the busy function runs", || {
        lives(&format!("{word}-daemon")) && lives(&format!("{word}-child"))
    });
    let of_server = family(eldest);
    let own = of_server[&eldest].user;
    assert_ne!(own, 0, "it runs as root");
    // server, spawner, and of each function a keeper, its bootstrap and what that has started
    assert!(of_server.len() >= 8, "{of_server:?}");
    for process in of_server.values() {
        assert_eq!(process.user, own, "{process:?}");
    }
    server.kill();
    wait_until("every process of the killed server ends", || {
        !lives(&word) && have_ended(&of_server)
    });
    let server = place.start();
    let reply = Api::new(&server.endpoint).invoke("idle", &json!({ "do": "count" }));
    assert_eq!(reply.json()["count"], 1, "{}", reply.text());
    // the accepted event runs once more: there is nothing to wait for
    server.kill();
    wait_until("it ends again", || !lives(&word));
}

fn serve(program: &mut Command) -> Output {
    let folder = tempfile::tempdir().unwrap();
    program.current_dir(folder.path()).env("HOME", folder.path()).output().unwrap()
}

#[test]
fn root_is_refused_whatever_else_is_said() {
    if ordinary_user().is_none() {
        // An ordinary user is root in a namespace, which is as bad there.
        let inside = ["--user", "--map-root-user"];
        let output = serve(
            Command::new("unshare")
                .args(inside)
                .arg(lambfold())
                .args(["serve", "--ephemeral"])
                .args(WITHOUT_WALLS),
        );
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
        return;
    }
    let output = serve(Command::new(lambfold()).args(["serve", "--ephemeral"]).args(WITHOUT_WALLS));
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    let expected = "error: --isolation process is refused to root: every function would be root on \
                    this machine\nhint: run lambfold serve as an ordinary user, or choose namespace\n";
    assert_eq!(text(&output.stderr), expected);
}

/// Runs it as an ordinary user of a user namespace in which no other one can be made.
fn where_namespaces_end() -> Command {
    let mut command = Command::new("unshare");
    let script = "echo 1 > /proc/sys/user/max_user_namespaces && \
                  exec unshare --user --map-user=1000 --map-group=1000 -- \"$@\"";
    command
        .args(["--user", "--map-root-user", "--", "/bin/sh", "-c", script, "sh"])
        .arg(lambfold());
    command
}

#[test]
fn where_namespaces_cannot_be_had_the_step_and_the_flag_are_named_and_the_flag_works() {
    let output =
        serve(where_namespaces_end().args(["serve", "--ephemeral", "--listen", "127.0.0.1:0"]));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in [
        "error: execution environments cannot be isolated here",
        "caused by: step user-namespace: enter a user namespace: No space left on device",
        "hint: raise user.max_user_namespaces with sysctl",
        "hint: or run functions without any walls, as plain processes of yours: --isolation process",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let output = serve(where_namespaces_end().arg("doctor"));
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("lambfold serve --isolation process"), "{said}");

    let folder = tempfile::tempdir().unwrap();
    let mut command = where_namespaces_end();
    command.args(["serve", "--ephemeral", "--listen", "127.0.0.1:0"]).args(WITHOUT_WALLS);
    command.current_dir(folder.path()).env("HOME", folder.path());
    let server = Server::of(&mut command);
    let api = Api::new(&server.endpoint);
    api.create_from("lab1", &root().join("examples/bash-echo"), json!({}));
    let reply = api.invoke("lab1", &json!({ "text": "Hello" }));
    assert_eq!(reply.header("x-amz-function-error"), None, "{}", reply.text());
    assert!(reply.text().contains("Hello"), "{}", reply.text());
    server.stop();
}
