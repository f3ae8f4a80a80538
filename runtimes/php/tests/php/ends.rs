//! However a page ends: the right answer, and the next event is fine.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{Runtime, get, index, wait_until};

/// A page that does what its path says.
const PAGE: &str = r#"<?php
function deep($n) { if ($n > 0) { deep($n - 1); } else { throw new LogicException('too deep'); } }
switch ($_SERVER['REQUEST_URI']) {
    case '/fatal': undefined_function(); break;
    case '/throw': deep(2); break;
    case '/late-fatal': echo 'begun '; flush(); undefined_function(); break;
    case '/exit': echo 'said'; exit(3);
    case '/memory': $all = []; while (true) { $all[] = str_repeat('x', 1000000); } break;
    case '/time': set_time_limit(1); while (true) { } break;
    case '/kill': posix_kill(getmypid(), SIGKILL); break;
    case '/late-kill': echo str_repeat('x', 100000); flush(); posix_kill(getmypid(), SIGKILL); break;
    case '/segv': posix_kill(getmypid(), SIGSEGV); break;
    case '/forever': while (true) { sleep(1000); } break;
    case '/child': shell_exec('sleep 600 > /dev/null 2>&1 < /dev/null & echo $! > child'); echo trim(file_get_contents('child')); break;
    case '/hang-child': file_put_contents('child', getmypid()); shell_exec('sleep 600'); break;
    case '/warning': echo $undefined; error_log('said so'); echo 'fine'; break;
    default: echo 'fine';
}
"#;

fn fine(runtime: &mut Runtime) {
    assert_eq!(runtime.http(&get("/")).text(), "fine");
    runtime.wait_idle();
    assert_eq!(runtime.children().len(), 1);
}

#[test]
fn fatal_errors_are_a_500_and_stand_in_the_log() {
    let mut runtime = index(PAGE).start();
    let shown = runtime.http(&get("/fatal"));
    assert_eq!((shown.status, shown.text().as_str()), (500, ""));
    runtime.wait_log("undefined function undefined_function()");
    fine(&mut runtime);
    assert_eq!(runtime.http(&get("/throw")).status, 500);
    let log = runtime.wait_log("too deep");
    assert!(log.contains("index.php:2") && log.contains("#0"), "{log}");
    fine(&mut runtime);
    // The status had been sent.
    let shown = runtime.http(&get("/late-fatal"));
    assert_eq!((shown.status, shown.text().as_str()), (200, "begun "));
    fine(&mut runtime);
}

#[test]
fn warnings_are_for_the_log() {
    let mut runtime = index(PAGE).start();
    assert_eq!(runtime.http(&get("/warning")).text(), "fine");
    let log = runtime.wait_log("said so\n");
    assert!(log.contains("Undefined variable $undefined in"), "{log}");
}

#[test]
fn exit_ends_the_page_with_what_it_has_said() {
    let mut runtime = index(PAGE).start();
    runtime.wait_idle();
    let before = runtime.children();
    assert_eq!(runtime.http(&get("/exit")).text(), "said");
    fine(&mut runtime);
    assert_eq!(runtime.children(), before);
}

#[test]
fn the_limits_of_memory_and_time_are_a_500() {
    let mut runtime = index(PAGE).variable("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128").start();
    assert_eq!(runtime.http(&get("/memory")).status, 500);
    runtime.wait_log("Allowed memory size of 100663296 bytes exhausted");
    fine(&mut runtime);
    assert_eq!(runtime.http(&get("/time")).status, 500);
    runtime.wait_log("Maximum execution time of 1 second exceeded");
    fine(&mut runtime);
}

#[test]
fn a_php_that_dies_is_an_error_and_gets_a_successor() {
    let mut runtime = index(PAGE).start();
    for (path, how) in [
        ("/kill", "signal 9 (SIGKILL)"),
        ("/late-kill", "signal 9 (SIGKILL)"),
        ("/segv", "signal 11 (SIGSEGV)"),
    ] {
        let error = runtime.fail(&get(path));
        assert_eq!(error["errorType"], "Function.WorkerDied", "{path}");
        let message = error["errorMessage"].as_str().unwrap();
        assert!(message.contains(how) && message.contains("index.php"), "{message}");
        fine(&mut runtime);
    }
}

#[test]
fn a_php_that_dies_between_events_is_not_missed() {
    let mut runtime = index(PAGE).start();
    fine(&mut runtime);
    for _ in 0..5 {
        let before = runtime.children();
        let pid = rustix::process::Pid::from_raw(before[0]).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        wait_until("its end", || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", before[0]));
            stat.map_or(true, |stat| stat.contains(") Z "))
        });
        fine(&mut runtime);
        assert_ne!(runtime.children(), before);
    }
}

#[test]
fn a_php_that_waits_long_for_its_first_page_answers_it() {
    // PHP closes a connection that says nothing for five seconds. Environments that are made ahead
    // wait longer.
    let mut runtime = index(PAGE).start();
    runtime.wait_idle();
    let before = runtime.children();
    let start = std::time::Instant::now();
    let sockets = || {
        let files = std::fs::read_dir(format!("/proc/{}/fd", before[0])).unwrap().flatten();
        let links = files.filter_map(|file| std::fs::read_link(file.path()).ok());
        links.filter(|link| link.to_string_lossy().starts_with("socket:")).count()
    };
    wait_until("its patience to end", || {
        sockets() == 1 && start.elapsed() > Duration::from_secs(6)
    });
    assert_eq!(runtime.http(&get("/")).text(), "fine");
    assert_eq!(runtime.children(), before);
}

#[test]
fn the_deadline_is_an_error_and_nothing_runs_on() {
    let mut runtime = index(PAGE).start();
    fine(&mut runtime);
    for path in ["/forever", "/hang-child"] {
        let event = runtime.event(&get(path)).with_timeout(Duration::from_millis(1500));
        let error = runtime.fail_with(event);
        assert_eq!(error["errorType"], "Function.Timeout");
        assert_eq!(error["errorMessage"], "index.php was stopped 149 ms before its deadline");
        fine(&mut runtime);
    }
    // The whole family is gone.
    let parent = std::fs::read_to_string(runtime.folder().join("child")).unwrap();
    wait_until("the end of its children", || !is_group(&parent));
}

/// Whether any process is in the process group.
fn is_group(group: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest.to_owned()).unwrap_or_default();
        let mut fields = fields.split_whitespace();
        let (state, group_id) = (fields.next(), fields.nth(1));
        group_id == Some(group) && state != Some("Z")
    })
}

#[test]
fn what_a_page_leaves_running_does_not_hold_up_the_answer() {
    let mut runtime = index(PAGE).start();
    let child = runtime.http(&get("/child")).text();
    fine(&mut runtime);
    let error = runtime.fail(&get("/kill"));
    assert_eq!(error["errorType"], "Function.WorkerDied");
    wait_until("the end of the child", || {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat"));
        stat.map_or(true, |stat| stat.contains(") Z "))
    });
    fine(&mut runtime);
}

#[test]
fn a_php_may_be_renewed_after_so_many_pages() {
    let mut runtime =
        index("<?php echo getmypid();").variable("PHP_FCGI_MAX_REQUESTS", "3").start();
    let pids: Vec<Value> = (0..9).map(|_| runtime.http(&get("/")).json()).collect();
    let mut different = pids.clone();
    different.dedup();
    assert_eq!(different.len(), 3, "{pids:?}");
}
