//! Guests that want out. Each probe has a control run in which it gets through.

use lambfold_sandbox::{Command, Event, ExitStatus, IdMode, Spec, is_root};

use crate::Test;
use crate::world::{Inside, World, bash, bind, outside, outside_as_root, perl, spec, wrapped};

pub const TESTS: &[Test] = &[
    ("hostile::no_privilege_is_left", no_privilege_is_left),
    ("hostile::set_uid_programs_give_nothing", set_uid_programs_give_nothing),
    ("hostile::refused_system_calls", refused_system_calls),
    ("hostile::refused_calls_of_administrators", refused_calls_of_administrators),
    ("hostile::missing_system_calls", missing_system_calls),
    ("hostile::ordinary_system_calls_work", ordinary_system_calls_work),
    ("hostile::pid_1_cannot_be_looked_into", pid_1_cannot_be_looked_into),
    ("hostile::pid_1_cannot_be_killed", pid_1_cannot_be_killed),
    ("hostile::sandboxes_do_not_see_each_other", sandboxes_do_not_see_each_other),
    ("hostile::device_nodes_cannot_be_made", device_nodes_cannot_be_made),
    ("hostile::kernel_settings_cannot_be_written", kernel_settings_cannot_be_written),
    ("hostile::raw_sockets_are_refused", raw_sockets_are_refused),
    ("hostile::links_in_code_lead_nowhere", links_in_code_lead_nowhere),
    ("hostile::links_in_tmp_lead_nowhere", links_in_tmp_lead_nowhere),
    ("hostile::landlock_is_a_second_wall", landlock_is_a_second_wall),
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
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let open = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let world = World::new();
    let task = world.folder("task", &[("id", "")]);
    std::fs::copy("/usr/bin/id", task.join("id")).unwrap();
    open(&task.join("id"), 0o6755);
    open(world.dir.path(), 0o755);
    let inside = world.create(Spec { binds: vec![bind(&task, "/var/task")], ..spec() });
    let ids = |program: &str| bash(&format!("stat -c %a {program}; {program} -u; {program} -g"));
    assert_eq!(inside.run(ids("/var/task/id")).ok(), "6755\n993\n990\n");
    let program = task.join("id").display().to_string();
    let drop = ["--reuid", "993", "--regid", "990", "--clear-groups"];
    match world.sandboxes.capabilities().ids {
        IdMode::Own => {
            let control = wrapped("/usr/bin/setpriv", &drop, &ids(&program)).ok();
            assert_eq!(control, "6755\n0\n0\n");
        }
        IdMode::Two => {
            let mut args = vec!["--user", "--map-root-user", "--map-auto", "/usr/bin/setpriv"];
            args.extend(drop);
            let control = wrapped("/usr/bin/unshare", &args, &ids(&program)).ok();
            assert_eq!(control, "6755\n0\n0\n");
        }
        // There is no second user to become: the owner of the file is the guest itself.
        IdMode::One => {
            assert_eq!(inside.bash("stat -c %u /var/task/id").ok(), "993\n");
            let own = std::fs::metadata("/proc/self").unwrap().uid();
            assert_eq!(std::fs::metadata(&program).unwrap().uid(), own);
        }
    }
    // A set-uid program of the host's root. It waits for a password, or has given up already: its
    // ids are those that it got at its start until it is waited for. While it is being executed it
    // has its name before its ids, and runs.
    let host = perl(
        "pipe(my $hold, my $keep); my $child = fork; \
         if (!$child) { open(STDIN, '<&', $hold); open(STDERR, '>', '/dev/null'); \
         open(STDOUT, '>', '/dev/null'); exec '/usr/bin/su' } \
         my $status; do { open(my $f, '<', qq(/proc/$child/status)) or die; local $/; $status = <$f> } \
         until $status =~ /^Name:\\tsu$/m && $status =~ /^State:\\t[SZ]/m; kill 9, $child; \
         my ($ids) = $status =~ /^Uid:\\t(.*)$/m; my @ids = split ' ', $ids; \
         print qq($ids[0] became $ids[1]\\n)",
    );
    assert_eq!(inside.run(host.clone()).ok(), "993 became 993\n");
    let control =
        if is_root() { wrapped("/usr/bin/setpriv", &drop, &host) } else { outside(&host) };
    let control = control.ok();
    assert!(control.ends_with(" became 0\n") && !control.starts_with("0 "), "{control}");
}

/// Makes a system call and says `ok` or its error number.
fn call(number: i64, arguments: &str) -> Command {
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
        (libc::SYS_request_key, "0, 0, 0, 0".to_owned()),
        (libc::SYS_process_vm_writev, "$$, 0, 0, 0, 0, 0".to_owned()),
        (libc::SYS_process_madvise, "-1, 0, 0, 0, 0".to_owned()),
        (libc::SYS_setns, "-1, 0".to_owned()),
        (libc::SYS_kcmp, "$$, $$, 0, 0, 0".to_owned()),
        (libc::SYS_pidfd_getfd, "-1, 0, 0".to_owned()),
        (libc::SYS_get_mempolicy, "0, 0, 0, 0, 0".to_owned()),
        (libc::SYS_open_tree, "-1, 0, 0xffff".to_owned()),
        (libc::SYS_socket, format!("{}, 1, 0", libc::AF_VSOCK)),
        (libc::SYS_socket, format!("{}, 5, 0", libc::AF_ALG)),
        (libc::SYS_socketpair, format!("{}, 1, 0, $buffer", libc::AF_INET)),
        (libc::SYS_ioctl, "-1, 0x5412, $buffer".to_owned()), // TIOCSTI
        (libc::SYS_ioctl, "-1, 0x541C, $buffer".to_owned()), // TIOCLINUX
        (libc::SYS_personality, "0x0400000".to_owned()),     // READ_IMPLIES_EXEC
    ];
    for (number, arguments) in probes {
        assert_eq!(answer(&inside, *number, arguments), "1", "call {number} ({arguments})");
        let control = outside(&call(*number, arguments));
        // A clone without a stack of its own goes on in both.
        let first = control.output.lines().next().unwrap_or("killed").to_owned();
        assert_ne!(first, "1", "call {number} ({arguments}) is refused outside too");
    }
}

/// A kernel setting; 0 where there is none.
fn setting(path: &str) -> i64 {
    std::fs::read_to_string(path).map_or(0, |text| text.trim().parse().unwrap())
}

fn refused_calls_of_administrators() {
    const DONE: &str = "ok";
    const REFUSED: &str = "1"; // EPERM
    const NOT_BUILT: &str = "38"; // ENOSYS
    // Of calls that would harm the host, the control run has an argument that the kernel looks at
    // only after it has let the caller through.
    const WRONG_ARGUMENT: &str = "22"; // EINVAL
    const NO_SUCH_FILE_ANY_MORE: &str = "116"; // ESTALE
    const NO_MODULE: &str = "8"; // ENOEXEC
    let world = World::new();
    let inside = world.sandbox();
    // Perl passes no literal to a system call, which might write to it.
    let say = "sub say { print $_[0] == -1 ? 0 + $! : 'ok', qq(\\n) } \
               my ($none, $tmpfs, $tmp, $here, $other) = ('', qw(tmpfs /tmp . other)); ";
    let tmpfs = format!("syscall({}, $none, $tmp, $tmpfs, 0, 0)", libc::SYS_mount);
    let clone = format!("syscall({}, -100, $tmp, 1)", libc::SYS_open_tree);
    // A kernel may be built without these; a file tells.
    let bpf = "/proc/sys/kernel/unprivileged_bpf_disabled";
    let perf = "/proc/sys/kernel/perf_event_paranoid";
    let faults = "/proc/sys/vm/unprivileged_userfaultfd";
    let (kexec, modules) = ("/sys/kernel/kexec_loaded", "/proc/modules");
    // Some the kernel refuses to roots of user namespaces: it asks for the host's root.
    let host_root = |granted: bool, answer| if granted { answer } else { REFUSED };
    let probes: &[(i64, String, Option<&str>, &str)] = &[
        (libc::SYS_mount, format!("say({tmpfs})"), None, DONE),
        (
            libc::SYS_move_mount,
            format!("{tmpfs}; my $tree = {clone}; say(syscall(NR, $tree, $none, -100, $tmp, 4))"),
            None,
            DONE,
        ),
        (libc::SYS_umount2, format!("{tmpfs}; say(syscall(NR, $tmp, 0))"), None, DONE),
        (
            libc::SYS_pivot_root,
            format!("{tmpfs}; chdir $tmp; say(syscall(NR, $here, $here))"),
            None,
            DONE,
        ),
        (
            // A file by its number instead of its name: no wall of names holds. This number is
            // nobody's, which is looked at after the caller.
            libc::SYS_open_by_handle_at,
            "my $handle = pack('LL', 8, 1) . chr(0) x 128; say(syscall(NR, -100, $handle, 0))"
                .to_owned(),
            None,
            host_root(is_root(), NO_SUCH_FILE_ANY_MORE),
        ),
        (libc::SYS_chroot, "say(syscall(NR, $tmp))".to_owned(), None, DONE),
        (
            // An array of one element.
            libc::SYS_bpf,
            "my $map = pack('L4', 2, 4, 4, 1) . chr(0) x 56; say(syscall(NR, 0, $map, 72))".into(),
            Some(bpf),
            host_root(is_root() || setting(bpf) == 0, DONE),
        ),
        (
            // The software clock of the caller, neither of the kernel nor of a hypervisor.
            libc::SYS_perf_event_open,
            "my $event = pack('LLQ5', 1, 112, 0, 0, 0, 0, 3 << 5) . chr(0) x 64; \
             say(syscall(NR, $event, 0, -1, -1, 0))"
                .into(),
            Some(perf),
            // Debian's and Ubuntu's kernels know a third level, with EACCES.
            if is_root() || setting(perf) <= 2 { DONE } else { "13" },
        ),
        (
            // Faults of user mode only, which every user may handle.
            libc::SYS_userfaultfd,
            "say(syscall(NR, 1))".to_owned(),
            Some(faults),
            DONE,
        ),
        (libc::SYS_reboot, "say(syscall(NR, 0, 0, 0, 0))".to_owned(), None, WRONG_ARGUMENT),
        (
            libc::SYS_kexec_load,
            "say(syscall(NR, 0, 0, 0, 0xffff))".to_owned(),
            Some(kexec),
            host_root(
                is_root() && setting("/proc/sys/kernel/kexec_load_disabled") == 0,
                WRONG_ARGUMENT,
            ),
        ),
        (
            libc::SYS_init_module,
            "say(syscall(NR, 0, 0, $none))".to_owned(),
            Some(modules),
            host_root(is_root() && setting("/proc/sys/kernel/modules_disabled") == 0, NO_MODULE),
        ),
        (libc::SYS_sethostname, "say(syscall(NR, $other, 5))".to_owned(), None, DONE),
        (
            // The size of the log.
            libc::SYS_syslog,
            "say(syscall(NR, 10, 0, 0))".to_owned(),
            None,
            host_root(is_root() || setting("/proc/sys/kernel/dmesg_restrict") == 0, DONE),
        ),
    ];
    for (number, script, tells, expected) in probes {
        let probe = perl(&format!("{say}{}", script.replace("NR", &number.to_string())));
        assert_eq!(inside.run(probe.clone()).ok(), format!("{REFUSED}\n"), "call {number}");
        let there = tells.is_none_or(|file| std::path::Path::new(file).exists());
        let expected = if there { expected } else { NOT_BUILT };
        let control = outside_as_root(&[], &probe).ok();
        assert_eq!(control, format!("{expected}\n"), "call {number} outside");
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
        (libc::SYS_io_uring_register, "-1, 0, 0, 0"),
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
    let make = |folder: &str| {
        bash(&format!(
            "cd {folder}; mknod node b 8 0 2>/dev/null && echo node || echo refused; \
             mkfifo pipe && echo pipe"
        ))
    };
    assert_eq!(inside.run(make("/tmp")).ok(), "refused\npipe\n");
    let control = outside_as_root(&[], &make(&world.dir.path().display().to_string())).ok();
    // Block devices are for the host's root alone, also without any wall of ours.
    assert_eq!(control, if is_root() { "node\npipe\n" } else { "refused\npipe\n" });
}

fn kernel_settings_cannot_be_written() {
    const OF_HOST: [&str; 2] = ["/proc/sys/kernel/core_pattern", "/proc/sys/vm/swappiness"];
    const OF_NETWORK: &str = "/proc/sys/net/ipv4/ip_forward";
    let world = World::new();
    let inside = world.sandbox();
    // What is there is written again: the control run changes nothing.
    let settings = bash(&format!(
        "for f in {} {OF_NETWORK}; do [ -e $f ] || echo missing $f; value=$(cat $f); \
         (printf %s \"$value\" > $f) 2>/dev/null && echo wrote $f; done; \
         (head -c4 /proc/kcore | grep -aq ELF) 2>/dev/null && echo read /proc/kcore; true",
        OF_HOST.join(" ")
    ));
    assert_eq!(inside.run(settings.clone()).ok(), "");
    let control = outside_as_root(&["--net"], &settings).ok();
    let mut expected = String::new();
    // Of all settings, the root of a user namespace may write those of its own network only, and
    // not every kernel shows its memory.
    if is_root() {
        OF_HOST.iter().for_each(|file| expected.push_str(&format!("wrote {file}\n")));
    }
    expected.push_str(&format!("wrote {OF_NETWORK}\n"));
    if is_root() && std::path::Path::new("/proc/kcore").exists() {
        expected.push_str("read /proc/kcore\n");
    }
    assert_eq!(control, expected);

    let identity = perl(&format!(
        "my $id = $>; syscall({}, {}); \
         for (['setgroups', 'deny'], ['uid_map', qq(0 $id 1\\n)]) {{ \
         open(my $f, '>', qq(/proc/self/$$_[0])) or next; \
         print qq(wrote $$_[0]\\n) if syswrite($f, $$_[1]) }}",
        libc::SYS_unshare,
        libc::CLONE_NEWUSER,
    ));
    assert_eq!(inside.run(identity.clone()).ok(), "");
    assert_eq!(outside(&identity).ok(), "wrote setgroups\nwrote uid_map\n");
}

fn raw_sockets_are_refused() {
    let world = World::new();
    let inside = world.sandbox();
    let (inet, packet) = (libc::AF_INET, libc::AF_PACKET);
    for arguments in [format!("{inet}, 3, 1"), format!("{packet}, 3, 0")] {
        assert_eq!(answer(&inside, libc::SYS_socket, &arguments), "1", "socket {arguments}");
        let control = outside_as_root(&["--net"], &call(libc::SYS_socket, &arguments)).ok();
        assert_eq!(control, "ok\n", "socket {arguments} outside");
    }
    assert_eq!(answer(&inside, libc::SYS_socket, &format!("{inet}, 2, 0")), "ok");
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
    let control = bash(&format!("cd {}; cat absolute relative", task.display()));
    assert_eq!(outside(&control).ok(), "secret\nsecret\n");
    let control = bash(&format!("cmp {}/etc /etc/hostname", task.display()));
    assert_eq!(outside(&control).ok(), "");
}

/// A guest lays traps for whoever comes to its `/tmp` from outside: pid 1, which looks for programs
/// and folders by name, and the host, which takes the sandbox apart.
fn links_in_tmp_lead_nowhere() {
    let world = World::new();
    let program = "#!/bin/bash\necho ran\n";
    let host = world.folder("host", &[("secret", "secret\n"), ("program", program)]);
    let path = host.display();
    let inside = world.sandbox();
    let traps = format!(
        "cd /tmp; ln -s {path}/secret secret; ln -s {path}/program program; ln -s {path} folder; \
         ln -s / root; ln -s ../../../../../../../.. up; ln -s /proc/1/root one; \
         for f in secret folder/secret root{path}/secret up{path}/secret one{path}/secret; do \
         cat $f 2>/dev/null; (echo x > $f) 2>/dev/null && echo wrote $f; done; \
         ln /etc/passwd passwd 2>/dev/null && echo linked; mv /tmp /tmp2 2>/dev/null && echo moved; \
         rmdir /tmp 2>/dev/null && echo removed; true"
    );
    assert_eq!(inside.bash(&traps).ok(), "");
    // Pid 1 goes where the links lead inside, where nothing is.
    for (program, cwd) in [("/tmp/program", "/var/task"), ("/bin/true", "/tmp/folder")] {
        let command = Command { programs: vec![program.into()], cwd: cwd.into(), ..bash("") };
        let process = inside.sandbox.spawn(command).unwrap();
        match inside.event() {
            Event::SpawnFailed { process: p, errno, .. } => {
                assert_eq!((p, errno), (process, libc::ENOENT), "{program} in {cwd}");
            }
            other => panic!("{other:?}"),
        }
    }
    let of_host = |name: &str| std::fs::read_to_string(host.join(name)).unwrap();
    let untouched = || (of_host("secret"), of_host("program"));
    assert_eq!(untouched(), ("secret\n".to_owned(), program.to_owned()));
    drop(inside);
    drop(world.sandbox());
    assert_eq!(untouched(), ("secret\n".to_owned(), program.to_owned()));
    // Control: in a folder of the host the same links lead there.
    let folder = world.folder("tmp", &[]);
    let follow = format!(
        "cd {}; ln -s {path}/secret secret; ln -s {path}/program program; cat secret; ./program",
        folder.display()
    );
    assert_eq!(outside(&bash(&follow)).ok(), "secret\nran\n");
}

/// The one thing that Landlock alone forbids shows that it is there: every user may make the device
/// node 0:0, which no function needs. What functions do need works under it.
fn landlock_is_a_second_wall() {
    let world = World::new();
    let inside = world.sandbox();
    let node = |folder: &str| {
        perl(&format!(
            "my $path = '{folder}/node'; my $r = syscall({}, -100, $path, 020600, 0); \
             print $r == -1 ? 0 + $! : 'ok', qq(\\n)",
            libc::SYS_mknodat,
        ))
    };
    let held = world.sandboxes.capabilities().landlock > 0;
    let refused = format!("{}\n", libc::EACCES);
    let expected = if held { refused.as_str() } else { "ok\n" };
    assert_eq!(inside.run(node("/tmp")).ok(), expected);
    assert_eq!(outside(&node(&world.dir.path().display().to_string())).ok(), "ok\n");
    // The kernel's own word, against a machine on which it is missing in silence.
    let control = outside(&perl(&format!(
        "print syscall({}, 0, 0, 1), qq(\\n)",
        libc::SYS_landlock_create_ruleset
    )));
    let version: i64 = control.ok().trim().parse().unwrap();
    assert_eq!(held, version >= 2, "the kernel's Landlock is of version {version}");
    let uses = "cd /tmp; mkdir a b; echo x > a/file; mv a/file b/file; ln b/file a/link; \
                cat a/link; : > b/file; mkfifo b/pipe; mv b a/; rm -r a; \
                cp /bin/true program; ./program && echo executed; \
                echo x > /dev/null; echo name > /proc/self/comm && echo named; \
                exec 3<> <(:); echo done";
    assert_eq!(inside.bash(uses).ok(), "x\nexecuted\nnamed\ndone\n");
}
