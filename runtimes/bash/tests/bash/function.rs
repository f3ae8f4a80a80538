use lambfold_runtime_client::scripted::Event;

use crate::harness::{function, setup};

const MIB: usize = 1 << 20;

#[test]
fn the_event_is_the_argument_and_stdin_and_stdout_is_the_answer() {
    let mut runtime = function(
        r#"handler() { read -r line; printf '%s|%s|%d' "$1" "$line" "$#"; echo logged >&2; }"#,
    )
    .start();
    assert_eq!(runtime.invoke("{\"a\":1}"), "{\"a\":1}|{\"a\":1}|1");
    assert_eq!(runtime.invoke("second"), "second|second|1");
    runtime.wait_log("logged\nlogged\n");
}

#[test]
fn quotes_newlines_backslashes_and_globs_pass_unchanged() {
    let mut runtime = function("handler() { printf %s \"$1\"; }").start();
    for event in
        ["it's \"quoted\"", "a\nb\n\n", "\\n \\\\ $HOME `id` $(id) * ? ~", "", " a  b ", "é€😀"]
    {
        let expected = if event.is_empty() { "null" } else { event };
        assert_eq!(runtime.invoke(event), expected);
    }
}

#[test]
fn bytes_that_are_no_text_pass_unchanged() {
    for setup in [
        function("handler() { printf %s \"$1\"; cat; }"),
        function("handler() { printf %s \"$1\"; cat; }").variable("LANG", "C"),
    ] {
        let mut runtime = setup.start();
        for size in [1, 300, 40_000] {
            let event: Vec<u8> = (0..size).map(|n| (n % 255 + 1) as u8).collect();
            let twice = [event.as_slice(), &event].concat();
            assert!(runtime.post(Event::new("1", event)).body == twice, "{size} bytes");
        }
    }
}

#[test]
fn events_around_the_size_up_to_which_they_come_with_their_context() {
    let mut runtime = function("handler() { printf '%s,' \"${#1}\"; wc -c; }").start();
    for size in [16_383, 16_384, 16_385, 1, 16_385, 16_384, 2] {
        assert_eq!(runtime.invoke("x".repeat(size)), format!("{size},{size}\n"));
    }
}

#[test]
fn posix_mode_of_the_file_is_survived() {
    let mut runtime =
        function("set -o posix\nhandler() { echo \"$1\"; [[ $1 == good ]]; }").start();
    for _ in 0..2 {
        assert_eq!(runtime.invoke("good"), "good\n");
        runtime.fail("bad");
    }
}

#[test]
fn an_answer_is_passed_on_to_the_byte_and_nothing_is_null() {
    let mut runtime =
        function(r"handler() { [[ $1 == bytes ]] && printf 'a\0b\377\n\n'; return 0; }").start();
    let post = runtime.post(Event::new("1", "bytes"));
    assert_eq!(post.body, b"a\0b\xff\n\n");
    assert_eq!(runtime.invoke("nothing"), "null");
}

#[test]
fn nuls_are_on_stdin_and_left_out_of_the_argument() {
    let mut runtime =
        function("handler() { printf '%s ' \"$1\"; od -An -tx1 | tr -d ' \\n'; }").start();
    assert_eq!(runtime.invoke(b"a\0b\0\0c\0".to_vec()), "abc 61006200006300");
    runtime.wait_log("NUL bytes");
    assert_eq!(runtime.invoke("ab"), "ab 6162");
}

#[test]
fn events_of_six_mebibytes_come_in_and_go_out() {
    let mut runtime =
        function("handler() { if [[ ${1:0:1} == c ]]; then cat; else printf %s \"${#1}\"; fi; }")
            .start();
    let text = "0123456789abcde\n".repeat(6 * MIB / 16);
    assert_eq!(runtime.invoke(text.clone()), (6 * MIB).to_string());
    let text = format!("c{}", &text[1..]);
    assert_eq!(runtime.invoke(text.clone()), text);
}

#[test]
fn an_answer_that_is_too_large_goes_to_the_platform_as_too_large() {
    let mut runtime = function("handler() { head -c \"$1\" /dev/zero; }").start();
    let mut sent = |size: usize| runtime.post(Event::new("1", size.to_string())).body.len();
    assert_eq!(sent(6_291_556), 6_291_556);
    assert_eq!(sent(6_291_557), 6_291_557);
    assert_eq!(sent(20_000_000), 6_291_557);
}

#[test]
fn an_answer_that_the_platform_refuses_ends_its_event_only() {
    let mut runtime = function("handler() { printf %s \"$1\"; }").start();
    runtime.server.answer_next_post_with(413, "{\"errorType\":\"RequestEntityTooLarge\"}");
    runtime.invoke("1");
    assert_eq!(runtime.invoke("2"), "2");
    runtime.wait_log("RequestEntityTooLarge");
}

#[test]
fn the_file_is_sourced_once_and_each_event_starts_from_that_state() {
    let mut runtime = function(
        r#"
        echo "init with $# arguments"
        count=10
        declare -A table=([a]=1)
        handler() { ((count += 1)); table[a]+=x; cd /; set -f; printf '%s %s %s %s' "$count" "${table[a]}" "$OLDPWD" "$-"; }
        "#,
    )
    .start();
    let first = runtime.invoke("");
    let folder = runtime.folder.path().to_str().unwrap().to_owned();
    assert!(first.starts_with(&format!("11 1x {folder} ")), "{first}");
    assert_eq!(runtime.invoke(""), first);
    assert_eq!(runtime.log_so_far().matches("init with 0 arguments").count(), 1);
}

#[test]
fn options_and_settings_of_the_file_hold_in_its_functions_and_do_not_hurt_the_runtime() {
    let mut runtime = function(
        r#"
        set -euo pipefail
        shopt -s nullglob
        IFS=,
        set -o noclobber
        set -a
        handler() { local x=$-; printf '%s' "${x//[^aeuC]/}"; [[ -o pipefail ]] && printf ' %q' "$IFS"; printf ' %s' $1; false | true; echo not-reached; }
        "#,
    )
    .start();
    for _ in 0..2 {
        let error = runtime.fail("a,b");
        assert!(
            error["errorMessage"].as_str().unwrap().ends_with("function.sh:7: true"),
            "{error}"
        );
    }
    let mut runtime = function(
        "set -eua; IFS=,; set -C; handler() { local x=$-; printf '%s %q' \"${x//[^aeuC]/}\" \"$IFS\"; printf ' %s' $1; }",
    )
    .start();
    for _ in 0..3 {
        assert_eq!(runtime.invoke("a,b"), "aeuC \\, a b");
    }
}

#[test]
fn tracing_shows_the_handler_and_not_the_runtime() {
    let mut runtime = function("PS4='TRACE '; set -x\nhandler() { echo \"$1\"; }\n").start();
    assert_eq!(runtime.invoke("one"), "one\n");
    assert_eq!(runtime.invoke("two"), "two\n");
    let log = runtime.wait_log("TRACE echo two");
    assert!(log.contains("TRACE handler one"), "{log}");
    assert!(log.lines().filter(|line| line.contains("__lambfold")).count() <= 3, "{log}");
}

#[test]
fn functions_named_like_builtins_do_not_confuse_the_runtime() {
    let mut runtime = function(
        r#"
        read() { command false; }; printf() { command false; }; export() { :; }; trap() { :; }
        source() { :; }; mapfile() { :; }; exit() { :; }; set() { :; }; local() { :; }
        handler() { echo "<$1>"; }
        "#,
    )
    .start();
    assert_eq!(runtime.invoke("a"), "<a>\n");
    assert_eq!(runtime.invoke("b"), "<b>\n");
}

#[test]
fn the_context_is_in_the_environment_and_what_is_absent_is_unset() {
    let mut runtime = function(
        r#"handler() {
            env | grep -E '^(AWS_LAMBDA_(REQ|DEAD|FUNCTION_ARN|TRACE|CLIENT|COG|TEN|CONTENT)|_X_AMZN|HOME=)' | sed 's/DEADLINE_MS=[0-9]\{13\}$/DEADLINE_MS=ok/' | sort
        }"#,
    )
    .start();
    let full = Event::new("id-full", "")
        .with_field("Lambda-Runtime-Trace-Id", "Root=1-2;Sampled=1")
        .with_field("Lambda-Runtime-Client-Context", "{\"a\": \"it's\"}")
        .with_field("Lambda-Runtime-Cognito-Identity", "{}")
        .with_field("Lambda-Runtime-Aws-Tenant-Id", "tenant é");
    assert_eq!(
        runtime.post(full).text().lines().collect::<Vec<_>>(),
        [
            "AWS_LAMBDA_CLIENT_CONTEXT={\"a\": \"it's\"}",
            "AWS_LAMBDA_COGNITO_IDENTITY={}",
            "AWS_LAMBDA_CONTENT_TYPE=application/json",
            "AWS_LAMBDA_DEADLINE_MS=ok",
            "AWS_LAMBDA_FUNCTION_ARN=arn:aws:lambda:us-east-1:000000000000:function:test",
            "AWS_LAMBDA_REQUEST_ID=id-full",
            "AWS_LAMBDA_TENANT_ID=tenant é",
            "AWS_LAMBDA_TRACE_ID=Root=1-2;Sampled=1",
            "HOME=/tmp",
            "_X_AMZN_TRACE_ID=Root=1-2;Sampled=1",
        ]
    );
    let text = runtime.post(Event::new("id-bare", "")).text();
    assert!(
        !text.contains("TRACE") && !text.contains("CLIENT") && !text.contains("TENANT"),
        "{text}"
    );
}

#[test]
fn each_event_has_its_own_context_whatever_the_one_before_had() {
    let show = r#"handler() {
        local name
        for name in AWS_LAMBDA_{REQUEST_ID,FUNCTION_ARN,CONTENT_TYPE,TRACE_ID,CLIENT_CONTEXT,TENANT_ID} _X_AMZN_TRACE_ID; do
            [[ ${!name@a} != *x* ]] || printf '%s=%s\n' "$name" "${!name-unset}"
        done
    }"#;
    // Which of them an event has, each beside each other.
    let has = |event: u32, bit: u32| event & (1 << bit) != 0;
    for setup in [function(show), function(show).persist()] {
        let mut runtime = setup.start();
        for (count, which) in
            (0..16).flat_map(|one| (0..16).flat_map(move |two| [one, two])).enumerate()
        {
            let id = format!("id-{count}");
            let arn = format!("arn:aws:lambda:us-east-1:000000000000:function:f:{}", which & 1);
            let mut event =
                Event::new(&id, "").with_field("Lambda-Runtime-Invoked-Function-Arn", &arn);
            let mut expected = vec![
                format!("AWS_LAMBDA_REQUEST_ID={id}"),
                format!("AWS_LAMBDA_FUNCTION_ARN={arn}"),
            ];
            for (bit, field, names) in [
                (1, "Lambda-Runtime-Trace-Id", &["AWS_LAMBDA_TRACE_ID", "_X_AMZN_TRACE_ID"][..]),
                (2, "Lambda-Runtime-Client-Context", &["AWS_LAMBDA_CLIENT_CONTEXT"]),
                (3, "Lambda-Runtime-Aws-Tenant-Id", &["AWS_LAMBDA_TENANT_ID"]),
            ] {
                if has(which, bit) {
                    let value = format!("{field} of {count}");
                    event = event.with_field(field, &value);
                    expected.extend(names.iter().map(|name| format!("{name}={value}")));
                }
            }
            expected.push("AWS_LAMBDA_CONTENT_TYPE=application/json".to_owned());
            expected.sort_unstable();
            let text = runtime.post(event).text();
            let mut seen: Vec<_> = text.lines().collect();
            seen.sort_unstable();
            assert_eq!(seen, expected);
        }
    }
}

#[test]
fn the_working_directory_and_dollar_zero_are_what_a_bootstrap_has() {
    let mut runtime = function(
        "handler() { printf '%s %s %s' \"$PWD\" \"${0##*/}\" \"${BASH_SOURCE[0]##*/}\"; }",
    )
    .start();
    let expected = format!("{} bash-bootstrap function.sh", runtime.folder.path().display());
    assert_eq!(runtime.invoke(""), expected);
}

#[test]
fn other_files_of_the_function_can_be_sourced_and_run() {
    let mut runtime = setup("lib/main.run")
        .file("helper.sh", "helper() { echo helped \"$@\"; }", 0o644)
        .file("tool", "#!/bin/sh\necho tool \"$@\"\n", 0o755);
    std::fs::create_dir(runtime.path().join("lib")).unwrap();
    runtime = runtime.file(
        "lib/main.sh",
        "source ./helper.sh\nrun() { helper \"$1\"; ./tool x; }\n",
        0o644,
    );
    assert_eq!(runtime.start().invoke("1"), "helped 1\ntool x\n");
}

#[test]
fn remaining_time_is_told_and_counts_down() {
    let mut runtime = function(
        "handler() { local x; lambda_remaining_ms x; printf '%s %s' \"$x\" \"$(lambda_remaining_ms)\"; }",
    )
    .start();
    let answer = runtime.invoke("");
    let left: Vec<u64> = answer.split(' ').map(|n| n.parse().unwrap()).collect();
    assert!(left[0] <= 60_000 && left[1] <= left[0] && left[1] > 30_000, "{left:?}");
}

#[test]
fn nothing_that_a_handler_starts_inherits_a_pipe_of_the_runtime() {
    // What this process hands down is not the runtime's: it is in both lists.
    let output = std::process::Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
    let count = |listing: &str| listing.lines().filter(|line| line.contains("->")).count();
    let expected = count(&String::from_utf8(output.stdout).unwrap());
    for setup in [
        function("handler() { ls -l /proc/self/fd; }"),
        function("handler() { ls -l /proc/self/fd; }").persist(),
        setup("s.sh").file("s.sh", "ls -l /proc/self/fd", 0o644),
    ] {
        let listing = setup.start().invoke("");
        assert_eq!(count(&listing), expected, "{listing}");
    }
}

#[test]
fn several_events_at_once_have_a_shell_each() {
    let mut runtime = function(
        "handler() { : >\"$1\"; until [[ -e a && -e b && -e c ]]; do [[ -d $PWD ]] || exit; done; echo \"$1\"; }",
    )
    .variable("AWS_LAMBDA_MAX_CONCURRENCY", "3")
    .start();
    assert!(runtime.server.wait_waiting(3, crate::harness::SOON));
    for id in ["a", "b", "c"] {
        runtime.server.push(Event::new(id, id));
    }
    let mut answers: Vec<_> =
        (0..3).map(|_| runtime.server.post(crate::harness::SOON).unwrap().text()).collect();
    answers.sort();
    assert_eq!(answers, ["a\n", "b\n", "c\n"]);
    assert_eq!(runtime.invoke("a"), "a\n");
}

#[test]
fn nothing_stays_behind_when_the_bootstrap_is_killed() {
    let runtime = function("handler() { :; }").start();
    assert!(runtime.server.wait_waiting(1, crate::harness::SOON));
    let id = runtime.id();
    let children = || {
        let list = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"));
        list.unwrap_or_default().split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let bash = children();
    assert_eq!(bash.len(), 1);
    drop(runtime);
    crate::harness::wait_until("the end of bash", || {
        !std::path::Path::new(&format!("/proc/{}", bash[0])).exists()
    });
}
