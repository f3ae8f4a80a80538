use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use lambfold_runtime_client::scripted::{Call, Event};

use crate::harness::{SOON, function, setup, wait_until};

#[test]
fn what_is_left_running_holds_nothing_up() {
    for setup in [
        function("handler() { sleep 30 & echo \"$1\"; }"),
        function("handler() { sleep 30 & echo \"$1\"; }").persist(),
        setup("s.sh").file("s.sh", "sleep 30 &\necho \"$1\"\n", 0o644),
    ] {
        let mut runtime = setup.start();
        let start = Instant::now();
        for round in 0..20 {
            assert_eq!(runtime.invoke(round.to_string()), format!("{round}\n"));
        }
        assert!(start.elapsed().as_secs() < 60);
    }
}

#[test]
fn late_output_goes_to_the_log_and_into_no_answer() {
    let setup = || {
        function(
            r#"handler() {
            if [[ $1 == leave ]]; then
                ( until [[ -e go ]]; do [[ -d $PWD ]] || exit; done; echo late; until [[ -e gone ]]; do [[ -d $PWD ]] || exit; done ) &
                echo left
            else
                echo "$1"
            fi
        }"#,
        )
    };
    for setup in [setup(), setup().persist()] {
        let mut runtime = setup.start();
        assert_eq!(runtime.invoke("leave"), "left\n");
        std::fs::write(runtime.path("go"), "").unwrap();
        wait_until("the late line", || {
            assert_eq!(runtime.invoke("next"), "next\n");
            runtime.log_so_far().contains("late\n")
        });
        std::fs::write(runtime.path("gone"), "").unwrap();
        assert_eq!(runtime.invoke("last"), "last\n");
    }
}

#[test]
fn a_late_lambda_error_or_stream_is_nobodys() {
    let mut runtime = function(
        r#"handler() {
            if [[ $1 == leave ]]; then
                ( until [[ -e go ]]; do [[ -d $PWD ]] || exit; done; lambda_stream text/plain; : >reported; lambda_error Late late ) &
            else
                : >go
                until [[ -e reported ]]; do [[ -d $PWD ]] || exit; done
            fi
            echo "$1"
        }"#,
    )
    .start();
    assert_eq!(runtime.invoke("leave"), "leave\n");
    for _ in 0..5 {
        assert_eq!(runtime.invoke("next"), "next\n");
    }
}

fn children(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    list.unwrap_or_default().split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

fn kill(pid: u32) {
    signal(pid, "KILL");
}

fn signal(pid: u32, name: &str) {
    // It may have ended by itself.
    Command::new("kill").args([format!("-{name}"), pid.to_string()]).output().unwrap();
}

#[test]
fn shells_that_are_killed_while_nothing_happens_are_replaced() {
    let mut runtime = function("handler() { echo \"$1\"; }").start();
    for round in 0..60 {
        assert_eq!(runtime.invoke(format!("{round}")), format!("{round}\n"));
        assert!(runtime.server.wait_waiting(1, SOON));
        let [main] = children(runtime.id())[..] else { panic!("one shell was expected") };
        // Without the main shell: the last event's, which may be about to end, or the next one's,
        // which waits.
        let killed = if round % 10 == 0 { vec![main] } else { children(main) };
        for pid in killed {
            kill(pid);
            // A process that is dying can still read, and take an event along.
            wait_until("its end", || is_dead(pid));
        }
    }
}

/// The commands of the first shell of a bootstrap. The reports are 64.
fn commands(bootstrap: u32) -> String {
    format!("/proc/{bootstrap}/fd/65")
}

/// The shell that waits for a command.
fn waiting(main: u32) -> u32 {
    // One that runs a handler has an event there.
    let reads = |pid: &u32| {
        std::fs::read_link(format!("/proc/{pid}/fd/0"))
            .is_ok_and(|file| file == Path::new("/dev/null"))
    };
    let mut found = None;
    wait_until("a shell that waits", || {
        found = children(main).into_iter().find(reads);
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn an_event_that_a_dying_shell_took_along_goes_to_the_next_one() {
    let mut runtime = function("handler() { echo \"$1\" >>seen; echo \"$1\"; }").start();
    assert!(runtime.server.wait_waiting(1, SOON));
    let [main] = children(runtime.id())[..] else { panic!("one shell was expected") };
    let mut number = [0; 8];
    for round in 0..5 {
        assert_eq!(runtime.invoke(format!("{round}")), format!("{round}\n"));
        let waiting = waiting(main);
        signal(waiting, "STOP");
        runtime.server.push(Event::new("taken", format!("taken {round}")));
        // In its place, as it could do itself while it dies.
        File::open(commands(runtime.id())).unwrap().read_exact(&mut number).unwrap();
        kill(waiting);
        let post = runtime.server.post(SOON).expect("an answer");
        assert_eq!((post.call, post.text()), (Call::Response, format!("taken {round}\n")));
    }
    let seen = std::fs::read_to_string(runtime.path("seen")).unwrap();
    assert_eq!(seen.lines().count(), 10, "{seen}");
}

#[test]
fn whenever_a_shell_is_killed_its_event_begins_once_at_most() {
    let runtime = function("handler() { echo \"$1\" >>seen; echo \"$1\"; }").start();
    assert!(runtime.server.wait_waiting(1, SOON));
    let [main] = children(runtime.id())[..] else { panic!("one shell was expected") };
    for round in 0..100 {
        assert!(runtime.server.wait_waiting(1, SOON));
        let killed = children(main);
        runtime.server.push(Event::new(&format!("id-{round}"), format!("{round}")));
        // Before the event is taken, in the middle of that, or in the handler.
        (0..round % 20 * 50).for_each(|_| std::hint::spin_loop());
        killed.into_iter().for_each(kill);
        let post = runtime.server.post(SOON).unwrap_or_else(|| panic!("{round}: no answer"));
        let seen = std::fs::read_to_string(runtime.path("seen")).unwrap_or_default();
        let times = seen.lines().filter(|line| *line == format!("{round}")).count();
        match post.call {
            Call::Response => assert_eq!(times, 1, "{round}"),
            _ => assert!(times <= 1, "{round}: {}", post.text()),
        }
    }
}

fn is_dead(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.contains(") Z "))
}

#[test]
fn input_of_an_earlier_event_stays_what_it_was() {
    let mut runtime = function(
        r#"handler() {
            if [[ $1 == first* ]]; then
                # Bash gives background jobs /dev/null, so stdin is passed on by hand.
                { ( until [[ -e go ]]; do [[ -d $PWD ]] || exit; done; cat >seen.new; mv seen.new seen ) <&3 & } 3<&0
            fi
            echo ok
        }"#,
    )
    .start();
    runtime.invoke("first event");
    runtime.invoke("another");
    std::fs::write(runtime.path("go"), "").unwrap();
    wait_until("the copy", || runtime.path("seen").exists());
    assert_eq!(std::fs::read_to_string(runtime.path("seen")).unwrap(), "first event");
}
