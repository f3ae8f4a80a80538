//! Starting, output, exits, signals, listeners: what every caller relies on.

use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::AsFd;

use lambfold_sandbox::{Command, CreateError, Event, ExitStatus, Spec, Step};

use crate::Test;
use crate::world::{Inside, World, bash, bind, spec};

pub const TESTS: &[Test] = &[
    ("basics::output_of_both_kinds_keeps_its_order", output_of_both_kinds_keeps_its_order),
    ("basics::an_exit_comes_after_its_output", an_exit_comes_after_its_output),
    ("basics::exit_codes_and_signals", exit_codes_and_signals),
    ("basics::the_first_regular_file_is_executed", the_first_regular_file_is_executed),
    ("basics::what_cannot_be_executed_says_why", what_cannot_be_executed_says_why),
    ("basics::a_guest_gets_what_it_was_given_and_no_more", a_guest_gets_what_it_was_given),
    ("basics::killing_guests_keeps_tmp", killing_guests_keeps_tmp),
    ("basics::frozen_guests_do_not_run", frozen_guests_do_not_run),
    ("basics::frozen_guests_can_be_killed", frozen_guests_can_be_killed),
    ("basics::listeners_belong_to_the_inside", listeners_belong_to_the_inside),
    ("basics::two_sandboxes_may_listen_on_one_address", two_sandboxes_may_listen_on_one_address),
    ("basics::a_sandbox_has_its_own_addresses_only", a_sandbox_has_its_own_addresses_only),
    ("basics::a_signal_reaches_a_whole_group", a_signal_reaches_a_whole_group),
    ("basics::output_may_go_elsewhere", output_may_go_elsewhere),
    ("basics::sockets_of_the_inside_reach_the_inside", sockets_of_the_inside_reach_the_inside),
    ("basics::output_can_be_opened_by_its_name", output_can_be_opened_by_its_name),
    ("basics::threads_and_interpreters_run", threads_and_interpreters_run),
    ("basics::specifications_are_checked", specifications_are_checked),
    ("basics::a_missing_source_names_its_step", a_missing_source_names_its_step),
    ("basics::two_hundred_at_once", two_hundred_at_once),
    ("basics::every_step_is_timed", every_step_is_timed),
];

fn output_of_both_kinds_keeps_its_order() {
    let world = World::new();
    let script = "for i in 1 2 3; do echo out$i; echo err$i >&2; done";
    assert_eq!(world.sandbox().bash(script).ok(), "out1\nerr1\nout2\nerr2\nout3\nerr3\n");
}

fn an_exit_comes_after_its_output() {
    let world = World::new();
    let inside = world.sandbox();
    for n in 0..50 {
        let process = inside.start(bash(&format!("echo {n}")));
        let status = ExitStatus::Code(0);
        assert_eq!(inside.event(), Event::Exited { process, status });
        assert_eq!(inside.output(), format!("{n}\n"));
    }
}

fn exit_codes_and_signals() {
    let world = World::new();
    let inside = world.sandbox();
    assert_eq!(inside.bash("exit 0").status, ExitStatus::Code(0));
    assert_eq!(inside.bash("exit 255").status, ExitStatus::Code(255));
    assert_eq!(inside.bash("kill -SEGV $$").status, ExitStatus::Signal(11));
    let process =
        inside.start(bash("trap 'echo got it; exit 7' TERM; echo up; while :; do :; done"));
    inside.output_until("up");
    inside.sandbox.signal(process, 15).unwrap();
    assert_eq!(inside.event(), Event::Exited { process, status: ExitStatus::Code(7) });
    assert_eq!(inside.output(), "got it\n");
    // It is gone: no error, and nobody else is hit.
    inside.sandbox.signal(process, 9).unwrap();
    inside.bash("true").ok();
}

fn the_first_regular_file_is_executed() {
    let world = World::new();
    let task = world.folder("task", &[("second", "#!/bin/bash\necho second $0\n")]);
    std::fs::create_dir(task.join("first")).unwrap();
    std::os::unix::fs::symlink("/var/task/second", task.join("link")).unwrap();
    let inside = world.create(Spec { binds: vec![bind(&task, "/var/task")], ..spec() });
    let programs = ["/var/task/missing", "/var/task/first", "/var/task/link", "/var/task/second"];
    let programs = programs.map(str::to_owned).to_vec();
    assert_eq!(inside.run(Command { programs, ..bash("") }).ok(), "second /var/task/link\n");
}

fn what_cannot_be_executed_says_why() {
    let world = World::new();
    let files = [
        ("no-interpreter", "#!/missing/interpreter\n"),
        ("garbage", "\u{1}\u{2}\u{3}\n"),
        ("not-executable", "#!/bin/bash\n"),
    ];
    let task = world.folder("task", &files);
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(task.join("not-executable"), mode).unwrap();
    let inside = world.create(Spec { binds: vec![bind(&task, "/var/task")], ..spec() });
    let cases = [
        ("missing", None, libc::ENOENT),
        ("no-interpreter", Some(()), libc::ENOENT),
        ("garbage", Some(()), libc::ENOEXEC),
        ("not-executable", Some(()), libc::EACCES),
    ];
    for (name, tried, errno) in cases {
        let path = format!("/var/task/{name}");
        let command = Command { programs: vec![path.clone()], ..bash("") };
        let process = inside.sandbox.spawn(command).unwrap();
        let program = tried.map(|()| path);
        let step = Step::GuestExec;
        assert_eq!(inside.event(), Event::SpawnFailed { process, program, step, errno });
    }
    let cwd = "/missing".to_owned();
    let process = inside.sandbox.spawn(Command { cwd, ..bash("true") }).unwrap();
    assert!(
        matches!(inside.event(), Event::SpawnFailed { process: p, errno: libc::ENOENT, .. } if p == process)
    );
    inside.bash("true").ok();
}

fn a_guest_gets_what_it_was_given() {
    let world = World::new();
    let task = world.folder("task", &[]);
    let inside = world.create(Spec { binds: vec![bind(&task, "/var/task")], ..spec() });
    let env = vec![("A".to_owned(), "b c".to_owned()), ("D".to_owned(), String::new())];
    let programs = vec!["/usr/bin/env".to_owned()];
    let ran = inside.run(Command { programs, env, args: Vec::new(), ..bash("") });
    assert_eq!(ran.ok(), "A=b c\nD=\n");
    let script = "pwd; umask; ls /proc/self/fd | tr '\\n' ' '; readlink /proc/self/fd/0; hostname";
    let ran = inside.bash(script).ok();
    // 3 is the directory that ls reads.
    assert_eq!(ran, "/var/task\n0022\n0 1 2 3 /dev/null\ninside\n");
    let signals = inside.bash("grep -E '^Sig(Blk|Ign)' /proc/self/status").ok();
    assert_eq!(signals, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
    let session = inside.bash("set -- $(cat /proc/$$/stat); [ $1 = $5 -a $1 = $6 ] && echo own");
    assert_eq!(session.ok(), "own\n");
}

fn killing_guests_keeps_tmp() {
    let world = World::new();
    let inside = world.sandbox();
    let script = "echo kept > /tmp/file; (setsid bash -c 'while :; do :; done' &) ; trap '' TERM; \
                  echo up; while :; do :; done";
    let first = inside.start(bash(script));
    inside.output_until("up");
    inside.sandbox.kill_guests().unwrap();
    let status = ExitStatus::Signal(9);
    assert_eq!(inside.event(), Event::Exited { process: first, status });
    assert_eq!(inside.event(), Event::GuestsKilled);
    let processes = inside.bash("cat /tmp/file; echo /proc/[0-9]*").ok();
    // Pid 1 and this shell.
    assert_eq!(processes.lines().next(), Some("kept"));
    assert_eq!(processes.lines().nth(1).unwrap().split(' ').count(), 2, "{processes}");
    // With nobody there it is answered as well.
    inside.sandbox.kill_guests().unwrap();
    assert_eq!(inside.event(), Event::GuestsKilled);
}

/// Runs something that takes a while, in a sandbox that is not frozen.
fn pass_time(other: &Inside) {
    other.bash("for ((i = 0; i < 100000; i++)); do :; done").ok();
}

fn frozen_guests_do_not_run() {
    let world = World::new();
    let (inside, other) = (world.sandbox(), world.sandbox());
    inside.start(bash("while :; do echo tick; done"));
    inside.output_until("tick");
    pass_time(&other);
    assert!(inside.output().contains("tick"), "the control run does not tick");
    inside.sandbox.freeze().unwrap();
    // What is under way may still arrive.
    pass_time(&other);
    inside.output();
    pass_time(&other);
    assert_eq!(inside.output(), "");
    inside.sandbox.thaw().unwrap();
    inside.output_until("tick");
}

fn frozen_guests_can_be_killed() {
    let world = World::new();
    let inside = world.sandbox();
    let process = inside.start(bash("echo up; while :; do :; done"));
    inside.output_until("up");
    inside.sandbox.freeze().unwrap();
    inside.sandbox.kill_guests().unwrap();
    assert_eq!(inside.event(), Event::Exited { process, status: ExitStatus::Signal(9) });
    assert_eq!(inside.event(), Event::GuestsKilled);
    inside.bash("true").ok();
}

fn addresses() -> Vec<SocketAddrV4> {
    vec!["127.0.0.1:9001".parse().unwrap(), "169.254.100.1:9001".parse().unwrap()]
}

fn listeners_belong_to_the_inside() {
    let world = World::new();
    let inside = world.create(Spec { listeners: addresses(), ..spec() });
    for (n, address) in addresses().iter().enumerate() {
        let (ip, port) = (address.ip(), address.port());
        let script = format!("exec 3<>/dev/tcp/{ip}/{port}; echo hello >&3; cat <&3");
        let process = inside.start(bash(&script));
        let listener = &inside.sandbox.listeners[n];
        listener.set_nonblocking(false).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(false).unwrap();
        let mut line = [0u8; 6];
        stream.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"hello\n");
        stream.write_all(b"answer\n").unwrap();
        drop(stream);
        assert_eq!(inside.event(), Event::Exited { process, status: ExitStatus::Code(0) });
        assert_eq!(inside.output(), "answer\n");
    }
    // From outside nothing is there: no port of the host's is taken.
    assert!(TcpStream::connect("127.0.0.1:9001").is_err());
    // And no way out: a listener of the host's is not reachable from inside.
    let host = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = host.local_addr().unwrap().port();
    let probe = bash(&format!("exec 3<>/dev/tcp/127.0.0.1/{port} && echo through"));
    assert_ne!(inside.run(probe.clone()).status, ExitStatus::Code(0));
    assert_eq!(crate::world::outside(&probe).ok(), "through\n");
}

fn two_sandboxes_may_listen_on_one_address() {
    let world = World::new();
    let a = world.create(Spec { listeners: addresses(), ..spec() });
    let b = world.create(Spec { listeners: addresses(), ..spec() });
    a.start(bash("exec 3<>/dev/tcp/127.0.0.1/9001; echo up; cat <&3"));
    a.output_until("up");
    assert!(a.sandbox.listeners[0].accept().is_ok());
    let none = b.sandbox.listeners[0].accept().unwrap_err();
    assert_eq!(none.kind(), std::io::ErrorKind::WouldBlock);
}

/// Networks are made ahead with the addresses of the last sandbox: those of the next may differ.
fn a_sandbox_has_its_own_addresses_only() {
    let world = World::new();
    let other: Vec<SocketAddrV4> = vec!["169.254.100.7:80".parse().unwrap()];
    for listeners in [addresses(), addresses(), other.clone(), Vec::new(), addresses(), other] {
        for _ in 0..3 {
            let inside = world.create(Spec { listeners: listeners.clone(), ..spec() });
            let known = inside.bash("cat /proc/net/fib_trie").ok();
            for address in ["169.254.100.1", "169.254.100.7"] {
                let wanted = listeners.iter().any(|l| l.ip().to_string() == address);
                assert_eq!(known.contains(&format!("-- {address}\n")), wanted, "{known}");
            }
            let devices = inside.bash("cut -d: -f1 -s /proc/net/dev | tr -d ' '").ok();
            assert_eq!(devices, "lo\n");
        }
    }
}

fn a_signal_reaches_a_whole_group() {
    let world = World::new();
    let inside = world.sandbox();
    let script = "trap 'wait; exit 3' TERM
        (trap 'echo child; exit' TERM; echo up; while :; do :; done) & wait";
    let process = inside.start(bash(script));
    inside.output_until("up");
    inside.sandbox.signal_group(process, 15).unwrap();
    assert_eq!(inside.event(), Event::Exited { process, status: ExitStatus::Code(3) });
    assert_eq!(inside.output(), "child\n");
}

fn output_can_be_opened_by_its_name() {
    let world = World::new();
    let script = "echo out >/dev/stdout; echo err >/dev/stderr; echo fd >/proc/self/fd/1";
    assert_eq!(world.sandbox().bash(script).ok(), "out\nerr\nfd\n");
    // Written to, and no more.
    let run = world.sandbox().bash("exec 2>/dev/null; cat </dev/stdout");
    assert_eq!((run.status, run.output.as_str()), (ExitStatus::Code(1), ""));
}

fn output_may_go_elsewhere() {
    let world = World::new();
    let inside = world.sandbox();
    let (mut read, write) = std::io::pipe().unwrap();
    let process = inside.sandbox.spawn_to(bash("echo out; echo err >&2"), write.as_fd()).unwrap();
    drop(write);
    assert_eq!(inside.event(), Event::Started(process));
    assert_eq!(inside.event(), Event::Exited { process, status: ExitStatus::Code(0) });
    let mut text = String::new();
    read.read_to_string(&mut text).unwrap();
    assert_eq!(
        (text.as_str(), inside.bash("echo common").ok().as_str()),
        ("out\nerr\n", "common\n")
    );
}

fn sockets_of_the_inside_reach_the_inside() {
    let world = World::new();
    let inside = world.create(Spec { listeners: addresses(), ..spec() });
    let request = inside.sandbox.socket().unwrap();
    let socket = loop {
        // Wait by asking: no other test of this binary is slowed by it.
        if let Some(socket) = request.try_take().unwrap() {
            break socket;
        }
        std::thread::yield_now();
    };
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 9001));
    // It connects to the listener of the inside, which is ours here.
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
        Err(error) => panic!("{error}"),
    }
    let (mut accepted, _) = inside.sandbox.listeners[0].accept().unwrap();
    (&socket).write_all(b"x").unwrap();
    accepted.set_nonblocking(false).unwrap();
    let mut byte = [0];
    accepted.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"x");
}

/// A guest with many threads, in Rust.
pub fn guest_threads() {
    let threads: Vec<_> = (0..16u64)
        .map(|n| std::thread::spawn(move || (0..1000).map(|i| i * n).sum::<u64>()))
        .collect();
    let sum: u64 = threads.into_iter().map(|t| t.join().unwrap()).sum();
    assert_eq!(sum, 499_500 * 120);
    let child = std::process::Command::new("/bin/echo").arg("child").output().unwrap();
    assert_eq!(child.stdout, b"child\n");
    assert!("localhost:80".parse::<SocketAddrV4>().is_err());
    use std::net::ToSocketAddrs;
    assert!("localhost:80".to_socket_addrs().unwrap().count() > 0);
    eprintln!("threads done");
}

fn threads_and_interpreters_run() {
    let world = World::new();
    let task = world.folder("task", &[]);
    std::fs::copy(std::env::current_exe().unwrap(), task.join("program")).unwrap();
    let inside = world.create(Spec { binds: vec![bind(&task, "/var/task")], ..spec() });
    let programs = vec!["/var/task/program".to_owned()];
    let args = vec!["guest-threads".to_owned()];
    let ran = inside.run(Command { programs, args, ..bash("") });
    assert_eq!(ran.ok(), "threads done\n");
    let candidates = [
        ("/usr/bin/perl", "print 6 * 7, qq(\\n)"),
        (
            "/usr/bin/python3",
            "import threading\nt = threading.Thread(target=lambda: print(42))\nt.start()\nt.join()",
        ),
        ("/usr/bin/node", "setTimeout(() => console.log(42), 1)"),
    ];
    let mut tried = 0;
    for (program, script) in candidates {
        // What a host has differs; perl-base and bash are always there on Debian.
        if std::path::Path::new(program).exists() {
            let flag = if program.contains("python") { "-c" } else { "-e" };
            let args = vec![flag.to_owned(), script.to_owned()];
            let programs = vec![program.to_owned()];
            assert_eq!(inside.run(Command { programs, args, ..bash("") }).ok(), "42\n");
            tried += 1;
        }
    }
    assert!(tried > 0, "not even perl");
}

fn specifications_are_checked() {
    let world = World::new();
    let error = world.try_create(Spec { id: "../up".to_owned(), ..spec() }).unwrap_err();
    assert!(matches!(error, CreateError::Invalid { field: "id", .. }), "{error}");
}

fn a_missing_source_names_its_step() {
    let world = World::new();
    let binds = vec![bind(&world.dir.path().join("missing"), "/opt")];
    let error = world.try_create(Spec { binds, ..spec() }).unwrap_err();
    let CreateError::Step { source, .. } = error else { panic!("{error}") };
    assert_eq!((source.step, source.errno), (Step::BindViews, libc::ENOENT));
    world.sandbox().bash("true").ok();
}

fn two_hundred_at_once() {
    const COUNT: usize = 200;
    let world = World::new();
    let (made, result) = std::sync::mpsc::channel();
    for _ in 0..COUNT {
        let made = made.clone();
        let spec = Spec { tmp_bytes: 8 << 20, listeners: addresses(), ..spec() };
        world.sandboxes.create(spec, move |sandbox| made.send(sandbox).unwrap());
    }
    let sandboxes: Vec<_> = (0..COUNT)
        .map(|_| Inside::new(result.recv_timeout(crate::world::PATIENCE).unwrap().unwrap()))
        .collect();
    let processes: Vec<_> =
        sandboxes.iter().map(|s| s.sandbox.spawn(bash("echo here")).unwrap()).collect();
    for (sandbox, process) in sandboxes.iter().zip(processes) {
        assert_eq!(sandbox.event(), Event::Started(process));
        assert_eq!(sandbox.event(), Event::Exited { process, status: ExitStatus::Code(0) });
        assert_eq!(sandbox.output(), "here\n");
    }
}

fn every_step_is_timed() {
    let world = World::new();
    let inside = world.sandbox();
    let steps: Vec<_> = inside.sandbox.timings().iter().map(|t| t.step).collect();
    assert!(steps.is_sorted(), "{steps:?}");
    assert!(steps.contains(&Step::Clone) && steps.contains(&Step::Ready), "{steps:?}");
}
