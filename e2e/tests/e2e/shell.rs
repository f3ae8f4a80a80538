//! `lambfold shell`: a person, or a script, plays the runtime.

use crate::e2e::harness::{Api, lambfold, server, wait_until};
use crate::e2e::terminal::Terminal;
use lambfold_testkit::TempServer;
use serde_json::{Value, json};
use std::io::Write as _;
use std::process::{Child, Output, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

/// Asks for an event; leaves its id in `$id`.
const NEXT: &str = r#"
api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime
next() {
  curl -sS -D /tmp/h $api/invocation/next > /tmp/event
  id=$(tr -d '\r' < /tmp/h | sed -n 's/^[Ll]ambda-[Rr]untime-[Aa]ws-[Rr]equest-[Ii]d: //p')
}
"#;

fn shell(server: &TempServer, function: &str) -> Child {
    let mut command = server.client(lambfold());
    command.args(["shell", function]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Runs a script to its end.
fn script(server: &TempServer, function: &str, script: &str) -> Output {
    let mut child = shell(server, function);
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether a process with this in its command line lives on this machine.
fn lives(mark: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.windows(mark.len()).any(|part| part == mark.as_bytes())
    })
}

fn invoke(api: &Api, function: &'static str, event: Value) -> JoinHandle<(Value, Option<String>)> {
    let api = api.clone();
    std::thread::spawn(move || {
        let reply = api.invoke(function, &event);
        (reply.json(), reply.header("x-amz-function-error").map(str::to_owned))
    })
}

#[test]
fn a_script_plays_the_runtime() {
    let server = server();
    let api = Api::new(server.url());
    api.create_puppet("f", json!({}));
    // A warm environment of its own has to stay out of it.
    assert_eq!(api.invoke("f", &json!({"do": "count"})).json()["count"], 1);
    let mut child = shell(&server, "f");
    let mut stdin = child.stdin.take().unwrap();
    let play = format!(
        r#"{NEXT}
next; curl -sS -d "{{\"played\":$(cat /tmp/event)}}" $api/invocation/$id/response
next; curl -sS -d '{{"errorType":"Played","errorMessage":"no"}}' $api/invocation/$id/error
echo to stderr >&2
exit 7
"#
    );
    stdin.write_all(play.as_bytes()).unwrap();
    stdin.flush().unwrap();
    // Which is attached when the shell has said so; before that an invocation goes elsewhere.
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut stderr, &mut line).unwrap();
    assert!(line.starts_with("a shell in an execution environment of f"), "{line}");
    assert_eq!(api.invoke("f", &json!({"n": 1})).json(), json!({"played": {"n": 1}}));
    let reply = api.invoke("f", &json!({"n": 2}));
    assert_eq!(reply.header("x-amz-function-error"), Some("Unhandled"));
    assert_eq!(reply.json()["errorType"], "Played");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    let accepted = "{\"status\":\"OK\"}\n";
    assert_eq!(text(&output.stdout), format!("{accepted}{accepted}"));
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut stderr, &mut rest).unwrap();
    assert_eq!(rest, "to stderr\n");
    // The bootstrap is back, in the environment that it had.
    assert_eq!(api.invoke("f", &json!({"do": "count"})).json()["count"], 2);
}

#[test]
fn a_person_plays_the_runtime_in_a_terminal() {
    let server = server();
    let api = Api::new(server.url());
    api.create_puppet("f", json!({}));
    let terminal = Terminal::of(&server);
    // Who types ahead loses nothing.
    terminal.line("lambfold shell f; echo \"ended:$?\"\necho typed ''ahead");
    let screen = terminal.wait_for_text("typed ahead");
    assert!(screen.contains("curl -i $api/invocation/next"), "{screen}");
    terminal.line("stty size; echo \"as $(id -u) in $PWD\"");
    let screen = terminal.wait_for_text("as 993 in /var/task");
    assert!(screen.contains("30 100"), "{screen}");
    terminal.line("until [ \"$(stty size)\" = \"40 120\" ]; do :; done; echo resi''zed");
    terminal.resize(120, 40);
    terminal.wait_for_text("resized");
    terminal.line("api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime");
    terminal.line("curl -v $api/invocation/next");
    terminal.wait_for_text("> GET /2018-06-01/runtime/invocation/next");
    // Ctrl-C is for curl, not for the shell, and not for lambfold.
    terminal.keys(&["C-c"]);
    terminal.wait_for_text("^C");
    terminal.line("curl -sS -D /tmp/h $api/invocation/next; echo \" is the event\"");
    let answer = invoke(&api, "f", json!({"hello": "person"}));
    terminal.wait_for_text("{\"hello\":\"person\"} is the event");
    terminal.line("id=$(grep -i request-id /tmp/h | tr -d '\\r' | sed 's/.*: //')");
    terminal.line("curl -d '{\"typed\":\"by hand\"}' $api/invocation/$id/response");
    terminal.wait_for_text("{\"status\":\"OK\"}");
    assert_eq!(answer.join().unwrap(), (json!({"typed": "by hand"}), None));
    // Ctrl-D ends a shell that reads a line, not one that is about to.
    terminal.line("PS1='[$?] '; (exit 5)");
    terminal.wait_for_text("[5]");
    terminal.keys(&["C-d"]);
    assert_eq!(terminal.ended(), 5);
    // The terminal is as it was: lines are edited and echoed again.
    terminal.clear();
    assert_eq!(terminal.run("stty -a | grep -c ' icanon.*echo '"), 0);
    terminal.wait("an ordinary terminal", |screen| screen.contains("\n1\nended:0"));
}

/// What a process may and sees, as it says itself.
const PROBE: &str = r#"
grep -E '^(Uid|Gid|Groups|CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp|Seccomp_filters):' /proc/self/status
awk '{ $1 = $2 = $3 = ""; print }' /proc/self/mountinfo | sed 's/[0-9a-f]\{32,\}/ID/g; s/loop[0-9]*/loop/; s/master:[0-9]*//; s/shared:[0-9]*//' | sort
cat /proc/net/dev | wc -l; cat /proc/self/cgroup
for what in n c u v f; do ulimit -$what; done
ls -a /dev /opt /var/task / | sort
pwd; umask; hostname
env | grep -vE '^(_|PWD|OLDPWD|SHLVL|TERM|AWS_LAMBDA_LOG_STREAM_NAME)=' | sort
"#;

#[test]
fn a_shell_is_behind_the_walls_of_the_bootstrap() {
    let server = server();
    let api = Api::new(server.url());
    let folder = tempfile::tempdir().unwrap();
    let bootstrap = format!(
        r#"#!/bin/bash
{NEXT}
while :; do
  next
  {{ {PROBE} }} > /tmp/probe 2>&1
  base64 -w 0 < /tmp/probe | sed 's/.*/"&"/' > /tmp/answer
  curl -sS --data-binary @/tmp/answer $api/invocation/$id/response > /dev/null
done
"#
    );
    std::fs::write(folder.path().join("bootstrap"), bootstrap).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path().join("bootstrap"), mode).unwrap();
    let more = json!({"Environment": {"Variables": {"OWN": "variable"}}});
    api.create_from("f", folder.path(), more);
    use base64::Engine as _;
    let of_bootstrap = api.invoke("f", &json!({})).json();
    let of_bootstrap = base64::engine::general_purpose::STANDARD
        .decode(of_bootstrap.as_str().unwrap())
        .map(|bytes| text(&bytes))
        .unwrap();
    assert!(of_bootstrap.contains("Seccomp:\t2"), "{of_bootstrap}");
    assert!(of_bootstrap.contains("OWN=variable"), "{of_bootstrap}");
    let output = script(&server, "f", &format!("{{ {PROBE} }} 2>&1"));
    assert_eq!(text(&output.stdout), of_bootstrap);
}

#[test]
fn a_client_that_is_killed_leaves_nothing() {
    let server = server();
    let api = Api::new(server.url());
    api.create_puppet("f", json!({}));
    let mark = format!("98765.{}", std::process::id());
    let mut child = shell(&server, "f");
    let mut stdin = child.stdin.take().unwrap();
    // One that does not listen, in a session of its own.
    writeln!(stdin, "setsid sleep {mark} & trap '' HUP TERM INT; sleep {mark}").unwrap();
    stdin.flush().unwrap();
    wait_until("the processes of the shell", || lives(&mark));
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("their end", || !lives(&mark));
    wait_until("the bootstrap's return", || {
        api.invoke("f", &json!({"do": "count"})).json()["count"] != Value::Null
    });
}

#[test]
fn whoever_waits_for_a_shell_that_ends_goes_to_the_bootstrap() {
    let server = server();
    let api = Api::new(server.url());
    api.create_puppet("f", json!({}));
    let mut child = shell(&server, "f");
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut said = || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
        line
    };
    writeln!(stdin, "{NEXT}\necho attached").unwrap();
    assert_eq!(said(), "attached\n");
    let first = invoke(&api, "f", json!({"do": "count", "n": 1}));
    writeln!(stdin, "next; cat /tmp/event; echo").unwrap();
    assert_eq!(said(), "{\"do\":\"count\",\"n\":1}\n");
    let second = invoke(&api, "f", json!({"do": "count", "n": 2}));
    // Nobody else answers it meanwhile: what is seen of the function is one waiting call.
    let other = server.client(lambfold()).args(["shell", "f"]).output().unwrap();
    assert_eq!(other.status.code(), Some(1));
    assert!(text(&other.stderr).contains("has a shell already"), "{}", text(&other.stderr));
    assert!(!second.is_finished());
    writeln!(stdin, "exit 3").unwrap();
    let (error, kind) = first.join().unwrap();
    assert_eq!(kind.as_deref(), Some("Unhandled"));
    assert_eq!(error["errorType"], "Runtime.ExitError");
    assert_eq!(second.join().unwrap().0["count"], 1);
    assert_eq!(child.wait().unwrap().code(), Some(3));
}

#[test]
fn what_cannot_be_is_explained() {
    let mut server = server();
    let api = Api::new(server.url());
    let nobody = script(&server, "nobody", "");
    assert_eq!(nobody.status.code(), Some(1));
    assert!(text(&nobody.stderr).contains("Function not found"), "{}", text(&nobody.stderr));
    api.create_puppet("f", json!({}));
    let killed = script(&server, "f", "kill -9 $$");
    assert_eq!(killed.status.code(), Some(128 + 9));
    // A platform that is told that init failed ends the runtime: also this one.
    let error = r#"curl -sS -d '{"errorType":"E","errorMessage":"m"}' http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/init/error; read forever; echo still here"#;
    let mut child = shell(&server, "f");
    let mut stdin = child.stdin.take().unwrap();
    writeln!(stdin, "{error}").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(128 + 9), "{}", text(&output.stderr));
    assert!(!text(&output.stdout).contains("still here"));
    assert!(text(&output.stderr).contains("as it does when init has failed"), "{output:?}");
    drop(stdin);
    // And the server's end.
    let mut child = shell(&server, "f");
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    writeln!(stdin, "echo attached; read forever").unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
    assert_eq!(line, "attached\n");
    assert_eq!(server.stop(Duration::from_secs(30)), Some(0));
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("shutting down"), "{}", text(&output.stderr));
}

#[test]
fn an_environment_without_curl_or_shell_says_so() {
    let root = tempfile::tempdir().unwrap();
    let settings = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(settings.path(), format!("[rootfs]\nbare = \"{}\"\n", root.path().display()))
        .unwrap();
    let options = lambfold_testkit::ServerOptions::new(lambfold())
        .arg("--config")
        .arg(settings.path().to_str().unwrap());
    let server = TempServer::start(&options).unwrap();
    let api = Api::new(server.url());
    api.create_puppet("f", json!({"Tags": {"lambfold:rootfs": "bare"}}));
    let output = script(&server, "f", "echo hello");
    assert_eq!(output.status.code(), Some(1));
    let talk = text(&output.stderr);
    assert!(talk.contains("there is no curl in this environment"), "{talk}");
    assert!(talk.contains("there is neither bash nor sh in this environment"), "{talk}");
}
