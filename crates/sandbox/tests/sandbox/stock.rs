//! Sandboxes that are made ahead: who gets which, what is left of them, and what their pid 1 keeps.

use std::path::Path;

use lambfold_sandbox::{
    Command, CreateError, Event, ExitStatus, Fault, IdMode, ProcessId, Rootfs, Spec, Step, Stock,
    TmpMode, Victim,
};

use crate::Test;
use crate::death::{Doomed, groups, kill, loops, mounts};
use crate::world::{Inside, World, bash, bind, chain, config, spec, wait_for};

pub const TESTS: &[Test] = &[
    ("stock::each_is_given_away_once", each_is_given_away_once),
    ("stock::nobody_gets_one_of_another_kind", nobody_gets_one_of_another_kind),
    ("stock::a_first_program_needs_no_further_question", a_first_program),
    ("stock::a_first_program_that_cannot_be_executed_says_why", a_first_program_that_cannot),
    ("stock::a_reset_works_as_in_any_other", a_reset_works_as_in_any_other),
    ("stock::limits_are_those_of_its_user", limits_are_those_of_its_user),
    ("stock::a_missing_source_names_its_step", a_missing_source_names_its_step),
    ("stock::one_that_dies_is_replaced", one_that_dies_is_replaced),
    ("stock::a_killed_spawner_takes_it_along", a_killed_spawner_takes_it_along),
    ("stock::dropping_all_leaves_nothing", dropping_all_leaves_nothing),
    ("stock::a_killed_host_leaves_nothing", a_killed_host_leaves_nothing),
    ("stock::a_death_at_each_step_leaves_nothing", a_death_at_each_step),
    ("stock::pid_1_keeps_what_a_reset_needs", pid_1_keeps_what_a_reset_needs),
    ("stock::the_spawner_keeps_no_descriptor_of_those_in_use", the_spawner_keeps_no_descriptor),
];

const SIZE: usize = 3;

fn stocked() -> World {
    let (mut config, dir) = config();
    config.stock = Some(Stock { size: SIZE, first: spec() });
    let world = World::with(config, dir);
    wait_until_full(&world);
    world
}

fn wait_until_full(world: &World) {
    wait_for("a full stock", || world.sandboxes.in_stock() == SIZE);
}

/// One of the stock.
fn take(world: &World, spec: Spec) -> Inside {
    let sandbox = world.create_any(spec).unwrap_or_else(|e| panic!("{}", chain(&e)));
    assert!(sandbox.from_stock());
    Inside::new(sandbox)
}

fn each_is_given_away_once() {
    let world = stocked();
    let mut used = Vec::new();
    for n in 0..2 * SIZE {
        wait_until_full(&world);
        let inside = take(&world, spec());
        // Whatever was done in one before is seen in none.
        let seen = inside.bash("ls -A /tmp; echo /proc/[0-9]*; touch /tmp/used").ok();
        assert_eq!(seen.split_whitespace().count(), 2, "{n}: {seen}");
        if n % 2 == 0 {
            used.push(inside);
        }
    }
}

fn nobody_gets_one_of_another_kind() {
    let (mut config, dir) = config();
    let root = dir.path().join("other");
    std::fs::create_dir_all(root.join("usr")).unwrap();
    for folder in ["bin", "lib", "lib64", "usr/bin"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    crate::roots::copy_programs(&root, &["/bin/bash", "/bin/cat"]);
    config.more_rootfs.insert("other".to_owned(), Rootfs::Dir(root));
    config.stock = Some(Stock { size: SIZE, first: spec() });
    let world = World::with(config, dir);
    let code = world.folder("code", &[("file", "code\n")]);
    let look = "[ -e /usr/bin/perl ] && echo perl; read -r name < /proc/sys/kernel/hostname; \
                echo $name; cat /var/task/file; ulimit -n -u";
    let listener = "169.254.100.7:80".parse().unwrap();
    let kinds = [
        (Spec { ..spec() }, "perl\ninside\ncode\n"),
        (Spec { rootfs: Some("other".into()), ..spec() }, "inside\ncode\n"),
        (Spec { hostname: "elsewhere".into(), ..spec() }, "perl\nelsewhere\ncode\n"),
        (Spec { tmp_bytes: 8 << 20, ..spec() }, "perl\ninside\ncode\n"),
        (Spec { listeners: vec![listener], ..spec() }, "perl\ninside\ncode\n"),
        (Spec { open_files: 77, processes: 99, ..spec() }, "perl\ninside\ncode\n"),
    ];
    let mut from_stock = 0;
    for round in 0..3 {
        for (kind, expected) in &kinds {
            // Asked for often enough, each kind is in the stock.
            for _ in 0..2 {
                wait_until_full(&world);
                let binds = vec![bind(&code, "/var/task")];
                let made = world.create_any(Spec { binds, ..kind.clone() });
                let inside = Inside::new(made.unwrap_or_else(|e| panic!("{}", chain(&e))));
                from_stock += usize::from(inside.sandbox.from_stock());
                let seen = inside.bash(look).output;
                assert!(seen.starts_with(expected), "{round} {kind:?}: {seen}");
                let open = if kind.open_files == 0 { 1024 } else { kind.open_files };
                assert!(seen.contains(&format!(" {open}\n")), "{kind:?}: {seen}");
                assert_eq!(inside.sandbox.listeners.len(), kind.listeners.len());
                if kind.rootfs.is_none() {
                    let known = inside.bash("cat /proc/net/fib_trie; df -k --output=size /tmp");
                    let known = known.ok();
                    let there = known.contains("-- 169.254.100.7\n");
                    assert_eq!(there, !kind.listeners.is_empty(), "{known}");
                    let size: u64 = known.lines().last().unwrap().trim().parse().unwrap();
                    assert!(size.abs_diff(kind.tmp_bytes >> 10) < 4 << 10, "{size} KiB");
                }
            }
        }
    }
    assert!(from_stock >= kinds.len(), "{from_stock} only");
}

fn command(programs: &[&str], args: &[&str]) -> Command {
    let own = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
    Command { programs: own(programs), args: own(args), ..bash("") }
}

fn a_first_program() {
    let world = stocked();
    let code = world.folder("code", &[("file", "code\n")]);
    let first = bash("cat file; echo here");
    for from_stock in [true, false] {
        // The other kind is made for it.
        let tmp_bytes = if from_stock { 64 << 20 } else { 32 << 20 };
        let binds = vec![bind(&code, "/var/task")];
        let spec = Spec { binds, first: Some(first.clone()), tmp_bytes, ..spec() };
        wait_until_full(&world);
        let mut inside = Inside::new(world.create_any(spec).unwrap());
        assert_eq!(inside.sandbox.from_stock(), from_stock);
        let process = ProcessId::FIRST;
        assert_eq!(inside.sandbox.take_first(), Some(process));
        assert_eq!(inside.sandbox.take_first(), None);
        // Another one at once does not take its place.
        let other = inside.sandbox.spawn(bash("read line < /proc/self/stat; exit 3")).unwrap();
        assert_ne!(other, process);
        let mut events: Vec<_> = (0..3).map(|_| inside.event()).collect();
        for expected in [
            Event::Started(other),
            Event::Exited { process, status: ExitStatus::Code(0) },
            Event::Exited { process: other, status: ExitStatus::Code(3) },
        ] {
            let place = events.iter().position(|event| *event == expected);
            events.remove(place.unwrap_or_else(|| panic!("{expected:?}: {events:?}")));
        }
        assert_eq!(inside.output(), "code\nhere\n");
    }
}

fn a_first_program_that_cannot() {
    let world = stocked();
    let files = [("garbage", "\u{1}\u{2}\n"), ("program", "#!/missing\n")];
    let code = world.folder("code", &files);
    for (name, program, errno) in [
        ("missing", None, libc::ENOENT),
        ("garbage", Some(()), libc::ENOEXEC),
        ("program", Some(()), libc::ENOENT),
        ("a\0b", Some(()), libc::EINVAL),
    ] {
        let path = format!("/var/task/{name}");
        let program = program.map(|()| path.clone()).filter(|_| errno != libc::EINVAL);
        let first = Some(command(&["/var/task/nothing", &path], &[]));
        wait_until_full(&world);
        let inside = take(&world, Spec { binds: vec![bind(&code, "/var/task")], first, ..spec() });
        // A name with a zero in it is the name of no file.
        let errno = if name.contains('\0') { libc::ENOENT } else { errno };
        let (process, step) = (ProcessId::FIRST, Step::GuestExec);
        assert_eq!(inside.event(), Event::SpawnFailed { process, program, step, errno });
        inside.bash("true").ok();
    }
}

fn a_reset_works_as_in_any_other() {
    let world = stocked();
    let first = Some(bash("echo kept > /tmp/file; trap '' TERM; echo up; while :; do :; done"));
    let inside = take(&world, Spec { first, ..spec() });
    inside.output_until("up");
    let process = ProcessId::FIRST;
    inside.sandbox.freeze().unwrap();
    inside.sandbox.kill_guests().unwrap();
    assert_eq!(inside.event(), Event::Exited { process, status: ExitStatus::Signal(9) });
    assert_eq!(inside.event(), Event::GuestsKilled);
    assert_eq!(inside.bash("cat /tmp/file").ok(), "kept\n");
    // Before its first program, too.
    wait_until_full(&world);
    let inside = take(&world, spec());
    inside.sandbox.kill_guests().unwrap();
    assert_eq!(inside.event(), Event::GuestsKilled);
    assert_eq!(inside.bash("echo here").ok(), "here\n");
}

/// One is made with the limits of whoever asked last: the next may have larger or smaller ones.
fn limits_are_those_of_its_user() {
    const MIB: u64 = 1 << 20;
    let (mut config, dir) = config();
    let of = |mib: u64| Spec { memory_bytes: mib * MIB, cpu_weight: mib, ..spec() };
    config.stock = Some(Stock { size: 1, first: of(64) });
    let world = World::with(config, dir);
    let limited = world.sandboxes.capabilities().memory_limit;
    for (n, mib) in [32, 128, 32, 64, 64].into_iter().enumerate() {
        wait_for("a stock", || world.sandboxes.in_stock() == 1);
        let inside = take(&world, of(mib));
        // A tmpfs makes room for itself.
        let tmpfs = world.sandboxes.capabilities().tmp == TmpMode::Tmpfs;
        let room = if tmpfs { 64 } else { 0 };
        let hold = |mib: u64| inside.run(crate::limits::hold(mib)).status == ExitStatus::Code(0);
        assert!(hold(mib / 2), "{n}: {mib} MiB");
        assert_eq!(hold(mib + room + 8), !limited, "{n}: {mib} MiB");
    }
}

fn a_missing_source_names_its_step() {
    let world = stocked();
    let binds = vec![bind(&world.dir.path().join("missing"), "/opt")];
    let error = world.create_any(Spec { binds, ..spec() }).unwrap_err();
    let CreateError::Step { source, .. } = error else { panic!("{error}") };
    assert_eq!((source.step, source.errno), (Step::BindViews, libc::ENOENT));
    wait_until_full(&world);
    take(&world, spec()).bash("true").ok();
}

/// Host pids of the pid 1s of a world.
fn inits(world: &World) -> Vec<u32> {
    let spawner = world.sandboxes.spawner_pid();
    let children = format!("/proc/{spawner}/task/{spawner}/children");
    let children = std::fs::read_to_string(children).unwrap_or_default();
    let is_init = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|name| name.trim() == "lambfold-init")
    };
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(is_init).collect()
}

fn one_that_dies_is_replaced() {
    let world = stocked();
    let inits = inits(&world);
    assert_eq!(inits.len(), SIZE);
    if world.sandboxes.capabilities().ids == IdMode::Two {
        // It has an id of its own, over which this process has no power.
        return;
    }
    kill(inits[0]);
    wait_for("its loss to be seen", || world.sandboxes.in_stock() == SIZE - 1);
    // Others might die of the same: they are made when it is clear that somebody needs them.
    take(&world, spec()).bash("true").ok();
    wait_until_full(&world);
    take(&world, spec()).bash("true").ok();
}

fn a_killed_spawner_takes_it_along() {
    let world = stocked();
    let (old, dead) = (world.sandboxes.spawner_pid(), inits(&world));
    kill(old);
    wait_for("another spawner", || ![0, old].contains(&world.sandboxes.spawner_pid()));
    for pid in dead {
        wait_for("the death of the stock", || !Path::new(&format!("/proc/{pid}")).exists());
    }
    wait_until_full(&world);
    take(&world, spec()).bash("true").ok();
}

fn dropping_all_leaves_nothing() {
    let world = stocked();
    let inits = inits(&world);
    let World { sandboxes, dir, owner } = world;
    drop(sandboxes);
    for pid in inits {
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
    assert_eq!(groups(&owner), Vec::<String>::new());
    wait_for("loop devices to be freed", || loops(dir.path()) == 0);
    assert_eq!(mounts(&dir.path().display().to_string()), 0);
}

fn a_killed_host_leaves_nothing() {
    let mut doomed = Doomed::start_with(None, "stock");
    let spawner = doomed.spawner();
    kill(doomed.child.id());
    doomed.check(Some(spawner));
}

/// A fault that strikes while the stock is made, or while one of it is finished.
fn a_death_at_each_step() {
    let first = Step::ALL.iter().position(|s| *s == Step::Cgroup).unwrap();
    for victim in [Victim::Init, Victim::Spawner] {
        for step in Step::ALL[first..].iter().copied() {
            let (mut config, dir) = config();
            config.fault = Some(Fault { step, victim });
            config.stock = Some(Stock { size: 1, first: spec() });
            let world = World::with(config, dir);
            // Views are not made ahead, and nothing is executed.
            let later = [Step::BindViews, Step::MountBinds, Step::GuestExec];
            let ahead = !later.contains(&step);
            if !ahead {
                wait_for("a stock", || world.sandboxes.in_stock() == 1);
            }
            let binds = vec![bind(&world.folder("code", &[]), "/var/task")];
            match world.create_any(Spec { binds, ..spec() }) {
                Ok(sandbox) => {
                    assert!(ahead || sandbox.from_stock(), "{victim:?} at {step}");
                    let inside = Inside::new(sandbox);
                    if step > Step::Ready {
                        let _ = inside.sandbox.spawn(bash("echo out"));
                        while !matches!(inside.event(), Event::Gone) {}
                    } else {
                        assert!(
                            victim == Victim::Init && step <= Step::Clone,
                            "{victim:?} at {step}"
                        );
                        inside.bash("true").ok();
                    }
                }
                Err(CreateError::Died { .. } | CreateError::SpawnerGone { .. }) => {
                    assert!(step != Step::GuestExec, "{victim:?} at {step}");
                }
                Err(CreateError::Step { source, .. }) => assert_eq!(source.errno, libc::ESRCH),
                Err(other) => panic!("{victim:?} at {step}: {}", chain(&other)),
            }
            let World { sandboxes, dir, owner } = world;
            drop(sandboxes);
            assert_eq!(groups(&owner), Vec::<String>::new(), "{victim:?} at {step}");
            wait_for("loop devices to be freed", || loops(dir.path()) == 0);
        }
    }
}

/// What the descriptors of a process are, without numbers.
fn descriptors(pid: u32) -> Vec<String> {
    let folder = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let mut kinds: Vec<String> = folder
        .map(|entry| {
            let target = std::fs::read_link(entry.unwrap().path()).unwrap();
            let target = target.display().to_string();
            // Of v1 the files to enter by, of v2 the folder that guests are cloned into.
            if target.contains("lambfold-test-") {
                return "group".to_owned();
            }
            let numbered = ["socket", "pipe"].into_iter().find(|kind| target.starts_with(kind));
            numbered.map_or(target, str::to_owned)
        })
        .collect();
    kinds.sort();
    kinds.dedup_by(|a, b| a == b && a == "group");
    kinds
}

fn pid_1_keeps_what_a_reset_needs() {
    let world = stocked();
    let pid = inits(&world)[0];
    if world.sandboxes.capabilities().ids != IdMode::Own {
        // Its owner is kept from it as everybody is.
        assert!(std::fs::read_dir(format!("/proc/{pid}/fd")).is_err());
        return;
    }
    let kept = |more: &[&str]| {
        let mut all = vec![
            // Standard input, output and error, and the source of guests' input.
            "/dev/null",
            "/dev/null",
            "/dev/null",
            "/dev/null",
            // Its host; the guests' common output; the end of the spawner; deaths of guests.
            "socket",
            "pipe",
            "anon_inode:[pidfd]",
            "anon_inode:[signalfd]",
        ];
        all.extend(more);
        if world.sandboxes.capabilities().landlock > 0 {
            all.push("anon_inode:[landlock-ruleset]");
        }
        if !groups(&world.owner).is_empty() {
            all.push("group");
        }
        all.sort_unstable();
        all.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    // As long as the first guest waits for its program: where it is told, and what comes of it.
    let waiting = kept(&["socket", "pipe"]);
    let mut seen = Vec::new();
    for _ in 0..1000 {
        seen = descriptors(pid);
        if seen == waiting {
            break;
        }
        std::thread::yield_now();
    }
    assert_eq!(seen, waiting);
    let inside = take(&world, spec());
    inside.bash("true").ok();
    let used: Vec<u32> = inits(&world);
    assert!(used.iter().any(|pid| descriptors(*pid) == kept(&[])), "{:?}", descriptors(pid));
}

fn the_spawner_keeps_no_descriptor() {
    let world = stocked();
    let spawner = world.sandboxes.spawner_pid();
    if world.sandboxes.capabilities().ids != IdMode::Own {
        return;
    }
    let mut used = Vec::new();
    for _ in 0..2 * SIZE {
        used.push(take(&world, spec()));
        wait_until_full(&world);
    }
    let kept = |kind: &str| {
        let links = std::fs::read_dir(format!("/proc/{spawner}/fd")).unwrap().flatten();
        let links = links.flat_map(|link| std::fs::read_link(link.path()));
        links.filter(|target| target.to_string_lossy().starts_with(kind)).count()
    };
    // Its own, which every pid 1 has too. One for each of the others would make the table of
    // descriptors larger with which pid 1s and guests begin.
    assert_eq!(kept("anon_inode:[pidfd]"), 1);
    // Those of the stock are where they are finished.
    wait_for("views of those in stock only", || kept("mnt:") <= 2 + SIZE);
}
