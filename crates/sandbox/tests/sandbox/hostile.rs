//! Guests that want out. Each probe has a control run in which it gets through.

use lambfold_sandbox::{ExitStatus, IdMode, Spec};

use crate::Test;
use crate::world::{Inside, World, bash, bind, outside, perl, spec};

pub const TESTS: &[Test] = &[
    ("hostile::no_privilege_is_left", no_privilege_is_left),
    ("hostile::set_uid_programs_give_nothing", set_uid_programs_give_nothing),
    ("hostile::refused_system_calls", refused_system_calls),
    ("hostile::missing_system_calls", missing_system_calls),
    ("hostile::ordinary_system_calls_work", ordinary_system_calls_work),
    ("hostile::pid_1_cannot_be_looked_into", pid_1_cannot_be_looked_into),
    ("hostile::pid_1_cannot_be_killed", pid_1_cannot_be_killed),
    ("hostile::sandboxes_do_not_see_each_other", sandboxes_do_not_see_each_other),
    ("hostile::device_nodes_cannot_be_made", device_nodes_cannot_be_made),
    ("hostile::kernel_settings_cannot_be_written", kernel_settings_cannot_be_written),
    ("hostile::raw_sockets_are_refused", raw_sockets_are_refused),
    ("hostile::links_in_code_lead_nowhere", links_in_code_lead_nowhere),
];

fn no_privilege_is_left() {
    let world = World::new();
    let status = bash("grep -E '^(Cap|NoNewPrivs|Seccomp:|Groups)' /proc/self/status");
    let ran = world.sandbox().run(status.clone()).ok();
    for set in ["Inh", "Prm", "Eff", "Bnd", "Amb"] {
        assert!(ran.contains(&format!("Cap{set}:\t0000000000000000\n")), "{ran}");
    }
    assert!(ran.contains("NoNewPrivs:\t1\n") && ran.contains("Seccomp:\t2\n"), "{ran}");
    if world.sandboxes.capabilities().ids != IdMode::One {
        assert!(ran.contains("Groups:\t990 \n"), "{ran}");
    }
    let control = outside(&status).ok();
    assert!(control.contains("NoNewPrivs:\t0\n"), "{control}");
    assert!(!control.contains("CapBnd:\t0000000000000000\n"), "{control}");
}

fn set_uid_programs_give_nothing() {
    let world = World::new();
    let task = world.folder("task", &[("id", "")]);
    std::fs::copy("/usr/bin/id", task.join("id")).unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(task.join("id"), std::fs::Permissions::from_mode(0o6755)).unwrap();
    let inside = world.create(Spec { binds: vec![bind(&task, "/var/task")], ..spec() });
    assert_eq!(
        inside.bash("stat -c %a /var/task/id; /var/task/id -u; /var/task/id -g").ok(),
        "6755\n993\n990\n"
    );
}

/// Makes a system call and says `ok` or its error number.
fn call(number: i64, arguments: &str) -> lambfold_sandbox::Command {
    let comma = if arguments.is_empty() { "" } else { ", " };
    perl(&format!(
        "my $buffer = chr(0) x 4096; my $r = syscall({number}{comma}{arguments}); \
         print $r == -1 ? 0 + $! : 'ok', qq(\\n)"
    ))
}

fn answer(inside: &Inside, number: i64, arguments: &str) -> String {
    inside.run(call(number, arguments)).ok().trim().to_owned()
}

fn refused_system_calls() {
    let world = World::new();
    let inside = world.sandbox();
    let new_user = libc::CLONE_NEWUSER;
    let child = libc::SIGCHLD;
    // With what the same call answers outside: anything but EPERM, so that the filter it is that
    // refuses. Calls that need root outside as well are run with arguments that fail earlier.
    let probes: &[(i64, String)] = &[
        (libc::SYS_unshare, format!("{new_user}")),
        (libc::SYS_clone, format!("{} | {child}, 0, 0, 0, 0", new_user)),
        (libc::SYS_ptrace, "0, 0, 0, 0".to_owned()),
        (libc::SYS_process_vm_readv, "$$, 0, 0, 0, 0, 0".to_owned()),
        (libc::SYS_keyctl, "0, -3, 1".to_owned()),
        (libc::SYS_add_key, "0, 0, 0, 0, 0".to_owned()),
        (libc::SYS_setns, "-1, 0".to_owned()),
        (libc::SYS_kcmp, "$$, $$, 0, 0, 0".to_owned()),
        (libc::SYS_pidfd_getfd, "-1, 0, 0".to_owned()),
        (libc::SYS_get_mempolicy, "0, 0, 0, 0, 0".to_owned()),
        (libc::SYS_open_tree, "-1, 0, 0xffff".to_owned()),
        (libc::SYS_socket, format!("{}, 1, 0", libc::AF_VSOCK)),
        (libc::SYS_socket, format!("{}, 5, 0", libc::AF_ALG)),
    ];
    for (number, arguments) in probes {
        assert_eq!(answer(&inside, *number, arguments), "1", "call {number} ({arguments})");
        let control = outside(&call(*number, arguments));
        // A clone without a stack of its own goes on in both.
        let first = control.output.lines().next().unwrap_or("killed").to_owned();
        assert_ne!(first, "1", "call {number} ({arguments}) is refused outside too");
    }
    // These need a capability anyway: outside, with one, the kernel looks at the arguments.
    for number in [
        libc::SYS_mount,
        libc::SYS_move_mount,
        libc::SYS_umount2,
        libc::SYS_pivot_root,
        libc::SYS_chroot,
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_reboot,
        libc::SYS_kexec_load,
        libc::SYS_init_module,
        libc::SYS_sethostname,
        libc::SYS_syslog,
    ] {
        assert_eq!(answer(&inside, number, "0, 0, 0, 0, 0"), "1", "call {number}");
    }
}

fn missing_system_calls() {
    let world = World::new();
    let inside = world.sandbox();
    let missing = libc::ENOSYS.to_string();
    for (number, arguments) in [
        (libc::SYS_clone3, "$buffer, 0"),
        (libc::SYS_io_uring_setup, "0, $buffer"),
        (libc::SYS_io_uring_enter, "-1, 0, 0, 0, 0, 0"),
    ] {
        assert_eq!(answer(&inside, number, arguments), missing, "call {number}");
        assert_ne!(outside(&call(number, arguments)).output.trim(), missing, "call {number}");
    }
}

fn ordinary_system_calls_work() {
    let world = World::new();
    let inside = world.sandbox();
    assert_eq!(answer(&inside, libc::SYS_getpid, ""), "ok");
    assert_eq!(answer(&inside, libc::SYS_socket, &format!("{}, 1, 0", libc::AF_INET6)), "ok");
    assert_eq!(answer(&inside, libc::SYS_personality, "0xffffffff"), "ok");
    assert_eq!(answer(&inside, libc::SYS_epoll_create1, "0"), "ok");
}

fn pid_1_cannot_be_looked_into() {
    let world = World::new();
    let inside = world.sandbox();
    let look = |pid: &str| {
        bash(&format!(
            "for f in mem environ maps exe fd ns/mnt root cwd; do \
             if [ -L /proc/{pid}/$f ]; then readlink /proc/{pid}/$f > /dev/null 2>&1 && echo $f; \
             else (head -c0 /proc/{pid}/$f || ls /proc/{pid}/$f/0) > /dev/null 2>&1 && echo $f; fi; \
             done; (: > /proc/{pid}/mem) 2>/dev/null && echo written; true"
        ))
    };
    assert_eq!(inside.run(look("1")).ok(), "");
    // Control: a process may look into itself, in the same way.
    let own = inside.run(look("self")).ok();
    for file in ["mem", "environ", "exe", "written"] {
        assert!(own.lines().any(|l| l == file), "{file}: {own}");
    }
}

fn pid_1_cannot_be_killed() {
    let world = World::new();
    let inside = world.sandbox();
    inside
        .bash("for s in KILL TERM STOP SEGV ABRT USR1 CHLD; do kill -$s 1 2>/dev/null; done; true")
        .ok();
    inside.bash("kill -KILL -1; true");
    assert_eq!(inside.bash("echo alive").ok(), "alive\n");
    // Control: a process of its own it can kill.
    assert_eq!(inside.bash("kill -KILL $$").status, ExitStatus::Signal(9));
}

fn sandboxes_do_not_see_each_other() {
    let world = World::new();
    let (a, b) = (world.sandbox(), world.sandbox());
    // A process with a name, an abstract socket, shared memory with a known key, a file in /tmp.
    let share = "use Socket; use IPC::SysV qw(IPC_CREAT); $0 = 'neighbour'; \
                 socket(my $s, PF_UNIX, SOCK_STREAM, 0); bind($s, pack_sockaddr_un(qq(\\0name))) or die; \
                 listen($s, 1); shmget(42, 100, 01666) // die qq(shm $!); \
                 open(my $f, '>', '/tmp/file'); $| = 1; print qq(up\\n); sleep 1000";
    let share = share.replace("use IPC::SysV qw(IPC_CREAT); ", "");
    a.start(perl(&share));
    a.output_until("up");
    let look = "use Socket; socket(my $s, PF_UNIX, SOCK_STREAM, 0); \
                print qq(socket\\n) if connect($s, pack_sockaddr_un(qq(\\0name))); \
                print qq(shm\\n) if defined shmget(42, 100, 0); \
                print qq(file\\n) if -e '/tmp/file'; \
                for (glob '/proc/[0-9]*/cmdline') { open(my $f, '<', $_) or next; \
                print qq(process\\n) if (<$f> // '') =~ /^neighbour/ }";
    assert_eq!(b.run(perl(look)).ok(), "");
    assert_eq!(a.run(perl(look)).ok(), "socket\nshm\nfile\nprocess\n", "the control run");
}

fn device_nodes_cannot_be_made() {
    let world = World::new();
    let inside = world.sandbox();
    let ran =
        inside.bash("mknod /tmp/sda b 8 0 || echo refused; mkfifo /tmp/pipe && echo pipe").ok();
    assert!(ran.ends_with("refused\npipe\n"), "{ran}");
}

fn kernel_settings_cannot_be_written() {
    let world = World::new();
    let inside = world.sandbox();
    let ran = inside.bash(
        "for f in /proc/sys/kernel/core_pattern /proc/sys/vm/drop_caches \
         /proc/sys/net/ipv4/ip_forward /proc/self/uid_map /proc/self/setgroups; do \
         [ -e $f ] || echo missing $f; (: >> $f) 2>/dev/null && echo x 2>/dev/null >> $f && echo wrote $f; \
         done; cat /proc/kcore 2>/dev/null | head -c1; true",
    );
    assert_eq!(ran.ok(), "");
}

fn raw_sockets_are_refused() {
    let world = World::new();
    let inside = world.sandbox();
    let (inet, packet) = (libc::AF_INET, libc::AF_PACKET);
    assert_eq!(answer(&inside, libc::SYS_socket, &format!("{inet}, 3, 1")), "1");
    assert_eq!(answer(&inside, libc::SYS_socket, &format!("{packet}, 3, 0")), "1");
    assert_eq!(answer(&inside, libc::SYS_socket, &format!("{inet}, 2, 0")), "ok");
    if lambfold_sandbox::is_root() {
        let control = outside(&call(libc::SYS_socket, &format!("{packet}, 3, 0")));
        assert_eq!(control.output.trim(), "ok");
    }
}

fn links_in_code_lead_nowhere() {
    let world = World::new();
    let secret = world.folder("secret", &[("file", "secret\n")]);
    let task = world.folder("task", &[]);
    std::os::unix::fs::symlink(secret.join("file"), task.join("absolute")).unwrap();
    std::os::unix::fs::symlink("../secret/file", task.join("relative")).unwrap();
    std::os::unix::fs::symlink("../../../../../../etc/hostname", task.join("etc")).unwrap();
    let inside = world.create(Spec { binds: vec![bind(&task, "/var/task")], ..spec() });
    let ran = inside.bash("cat absolute relative etc 2>/dev/null").output;
    assert_eq!(ran, "");
    let control = bash(&format!("cat {}/absolute", task.display()));
    assert_eq!(outside(&control).ok(), "secret\n");
}
