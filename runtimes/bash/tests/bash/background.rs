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
        // Without the main shell and those that make the others: the last event's, which may be
        // about to end, and those of the next two, which wait.
        let killed = match round % 10 {
            0 => vec![main],
            5 => children(main)[..1].to_vec(),
            6 => children(main)[1..].to_vec(),
            _ => subshells(main),
        };
        for pid in killed {
            kill(pid);
            // A process that is dying can still read, and take an event along.
            wait_until("its end", || is_dead(pid));
        }
    }
}

fn subshells(main: u32) -> Vec<u32> {
    children(main).into_iter().flat_map(children).collect()
}

/// Reports, commands and context of the first lane are 64 to 66, those of the second one follow.
fn commands(bootstrap: u32, lane: usize) -> String {
    format!("/proc/{bootstrap}/fd/{}", 65 + 3 * lane)
}

/// The shell that waits for a command.
fn waiting(main: u32, lane: usize) -> u32 {
    // One that runs a handler has an event there.
    let reads = |pid: &u32| {
        std::fs::read_link(format!("/proc/{pid}/fd/0"))
            .is_ok_and(|file| file == Path::new("/dev/null"))
    };
    let mut found = None;
    wait_until("a shell that waits", || {
        found = children(children(main)[lane]).into_iter().find(reads);
        found.is_some()
    });
    found.unwrap()
}

#[test]
fn an_event_that_a_dying_shell_took_along_goes_to_the_next_one() {
    let mut runtime = function("handler() { echo \"$1\" >>seen; echo \"$1\"; }").start();
    assert!(runtime.server.wait_waiting(1, SOON));
    let [main] = children(runtime.id())[..] else { panic!("one shell was expected") };
    let mut command = [0; 8];
    for number in 1..=15 {
        // Lanes take turns, so that one in three is now of the first and now of the second.
        if number % 3 > 0 {
            assert_eq!(runtime.invoke(format!("{number}")), format!("{number}\n"));
            continue;
        }
        let lane = usize::from(number % 2 == 0);
        let waiting = waiting(main, lane);
        signal(waiting, "STOP");
        // Until it has stopped it still takes what comes.
        wait_until("its stop", || state(waiting) == Some('T'));
        runtime.server.push(Event::new("taken", format!("taken {number}")));
        // In its place, as it could do itself while it dies.
        File::open(commands(runtime.id(), lane)).unwrap().read_exact(&mut command).unwrap();
        kill(waiting);
        let post = runtime.server.post(SOON).expect("an answer");
        assert_eq!((post.call, post.text()), (Call::Response, format!("taken {number}\n")));
    }
    let seen = std::fs::read_to_string(runtime.path("seen")).unwrap();
    assert_eq!(seen.lines().count(), 15, "{seen}");
}

#[test]
fn whenever_a_shell_is_killed_its_event_begins_once_at_most() {
    let runtime = function("handler() { echo \"$1\" >>seen; echo \"$1\"; }").start();
    assert!(runtime.server.wait_waiting(1, SOON));
    let [main] = children(runtime.id())[..] else { panic!("one shell was expected") };
    for round in 0..100 {
        assert!(runtime.server.wait_waiting(1, SOON));
        let killed = subshells(main);
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

fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

fn is_dead(pid: u32) -> bool {
    matches!(state(pid), None | Some('Z'))
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

#[test]
fn a_handler_that_kills_the_shell_above_it_fails_and_the_next_event_is_fine() {
    let mut runtime = function(
        r#"handler() {
            if [[ $1 == up ]]; then
                read -r _ _ _ above _ <"/proc/$BASHPID/stat"
                kill -KILL "$above"
                sleep 600
            fi
            echo "$1"
        }"#,
    )
    .start();
    for _ in 0..3 {
        let error = runtime.fail("up");
        let message = error["errorMessage"].as_str().unwrap();
        assert!(message.contains("status 137"), "{message}");
        assert_eq!(runtime.invoke("next"), "next\n");
        assert_eq!(runtime.invoke("and the next"), "and the next\n");
    }
}

#[test]
fn no_signal_is_ignored_in_what_a_handler_starts() {
    // Hexadecimal masks of signals, of which bit 1 is SIGINT and bit 2 is SIGQUIT.
    let text = "handler() { grep SigIgn /proc/self/status | tr -d '\\n'; }";
    for setup in [function(text), function(text).persist()] {
        let mut runtime = setup.start();
        for _ in 0..2 {
            let mask = runtime.invoke("");
            let mask = u64::from_str_radix(mask.trim_start_matches("SigIgn:").trim(), 16).unwrap();
            assert_eq!(mask & 0b110, 0, "{mask:x}");
        }
    }
}
