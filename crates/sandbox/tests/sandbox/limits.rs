//! Memory, processes, descriptors and `/tmp`: both sides of each limit.

use lambfold_sandbox::{Event, ExitStatus, Spec, TmpMode};

use crate::Test;
use crate::world::{World, bash, perl, spec};

const MIB: u64 = 1 << 20;

pub const TESTS: &[Test] = &[
    ("limits::tmp_has_its_size_and_is_not_memory", tmp_has_its_size_and_is_not_memory),
    ("limits::tmp_beyond_its_size", tmp_beyond_its_size),
    ("limits::memory_peak_follows_the_guest", memory_peak_follows_the_guest),
    ("limits::a_memory_hog_dies_and_its_sandbox_lives", a_memory_hog_dies),
    ("limits::processes", processes),
    ("limits::open_files", open_files),
    ("limits::memory_that_no_process_has", memory_that_no_process_has),
    ("limits::a_bomb_of_empty_files", a_bomb_of_empty_files),
    ("limits::a_bomb_of_output", a_bomb_of_output),
    ("limits::processor_time", processor_time),
    ("limits::other_limits_of_a_process", other_limits),
];

fn tmp_has_its_size_and_is_not_memory() {
    let world = World::new();
    let spec = Spec { tmp_bytes: 512 * MIB, memory_bytes: 128 * MIB, ..spec() };
    let inside = world.create(spec);
    let wrote = inside.bash("dd if=/dev/zero of=/tmp/a bs=1M count=500 2>&1 && stat -c %s /tmp/a");
    assert!(wrote.ok().ends_with(&format!("{}\n", 500 * MIB)));
    let wrote = inside.bash("dd if=/dev/zero of=/tmp/b bs=1M count=13 2>&1");
    assert_eq!(wrote.status, ExitStatus::Code(1), "{}", wrote.output);
    assert!(wrote.output.contains("No space left on device"), "{}", wrote.output);
    assert!(matches!(inside.sandbox.oom_kills(), None | Some(0)));
    // It can be used again.
    inside.bash("rm /tmp/a /tmp/b && dd if=/dev/zero of=/tmp/c bs=1M count=100 2>&1").ok();
}

fn tmp_beyond_its_size() {
    let world = World::new();
    let inside = world.create(Spec { tmp_bytes: 16 * MIB, ..spec() });
    inside.bash("dd if=/dev/zero of=/tmp/a bs=1M count=14 2>&1").ok();
    let over = inside.bash("dd if=/dev/zero of=/tmp/b bs=1M count=3 2>&1");
    assert_eq!(over.status, ExitStatus::Code(1), "{}", over.output);
    // Each sandbox has its own.
    assert_eq!(world.create(Spec { tmp_bytes: 16 * MIB, ..spec() }).bash("ls -A /tmp").ok(), "");
}

pub fn hold(mib: u64) -> lambfold_sandbox::Command {
    perl(&format!("my $x = ''; vec($x, ({mib} << 20) - 1, 8) = 1; print length($x) >> 20, qq(\\n)"))
}

fn memory_peak_follows_the_guest() {
    let world = World::new();
    let inside = world.sandbox();
    if !world.sandboxes.capabilities().memory_accounting {
        assert_eq!(inside.run(hold(10)).ok(), "10\n");
        assert_eq!(inside.sandbox.memory_peak_bytes(), None);
        return;
    }
    inside.run(hold(10)).ok();
    let small = inside.sandbox.memory_peak_bytes().unwrap();
    assert!((10 * MIB..40 * MIB).contains(&small), "{small}");
    inside.run(hold(90)).ok();
    let large = inside.sandbox.memory_peak_bytes().unwrap();
    assert!((90 * MIB..150 * MIB).contains(&large), "{large}");
    inside.sandbox.reset_memory_peak();
    inside.run(hold(10)).ok();
    let again = inside.sandbox.memory_peak_bytes().unwrap();
    assert!((10 * MIB..60 * MIB).contains(&again), "{again}");
}

fn a_memory_hog_dies() {
    let world = World::new();
    let inside = world.create(Spec { memory_bytes: 128 * MIB, ..spec() });
    let room = match world.sandboxes.capabilities().tmp {
        TmpMode::Image | TmpMode::Folder => 0,
        TmpMode::Tmpfs => spec().tmp_bytes / MIB,
    };
    let ran = inside.run(hold(100));
    assert_eq!(ran.ok(), "100\n");
    if !world.sandboxes.capabilities().memory_limit {
        // Said at the start; nothing stops it here.
        assert_eq!(inside.run(hold(200)).ok(), "200\n");
        return;
    }
    assert_eq!(inside.sandbox.oom_kills(), Some(0));
    assert_eq!(inside.run(hold(200 + room)).status, ExitStatus::Signal(9));
    assert_eq!(inside.sandbox.oom_kills(), Some(1));
    inside.bash("true").ok();
    // Control: the same without a limit.
    let free = world.create(Spec { memory_bytes: 0, ..spec() });
    assert_eq!(free.run(hold(200 + room)).ok(), format!("{}\n", 200 + room));
}

fn processes() {
    let world = World::new();
    // Forks until it is refused, and says how often it was not; the children wait to be killed.
    let forks = "$| = 1; my $n = 0; while ($n < 100) { my $p = fork; last unless defined $p; \
                 if (!$p) { sleep 1000; exit } $n++ } print qq($n\\n); kill 9, -$$;";
    let capped = world.create(Spec { processes: 20, ..spec() });
    let ran = capped.run(perl(forks));
    let count: u32 = ran.output.trim().parse().unwrap();
    assert!((15..20).contains(&count), "{count} forks with a limit of 20");
    let free = world.create(Spec { processes: 0, ..spec() });
    assert_eq!(free.run(perl(forks)).output.trim(), "100", "the control run is refused too");
    // A bomb that never waits: pid 1 and the host stay in command.
    let process =
        capped.start(bash("b() { b | b & }; echo up; b; while :; do b; done 2>/dev/null"));
    capped.output_until("up");
    capped.sandbox.kill_guests().unwrap();
    let mut killed = false;
    while !killed {
        match capped.event() {
            Event::GuestsKilled => killed = true,
            Event::Exited { process: p, .. } => assert_eq!(p, process),
            other => panic!("{other:?}"),
        }
    }
    capped.output();
    assert_eq!(capped.bash("echo alive").ok(), "alive\n");
}

fn open_files() {
    let world = World::new();
    let opens = "my @f; while (@f < 3000) { open(my $f, '<', '/dev/null') or last; push @f, $f } \
                 print scalar(@f), qq(\\n)";
    let count = |spec| -> u32 { world.create(spec).run(perl(opens)).ok().trim().parse().unwrap() };
    assert!((1015..1024).contains(&count(spec())));
    assert!((55..64).contains(&count(Spec { open_files: 64, ..spec() })));
    assert!(count(Spec { open_files: 2000, ..spec() }) > 1900, "the control run is capped too");
    // It cannot be raised from inside.
    let raised = world.sandbox().bash("ulimit -n 4096 && echo raised");
    assert!(!raised.output.contains("raised\n"), "{}", raised.output);
}

fn other_limits() {
    let world = World::new();
    let ran = world.sandbox().bash("ulimit -Hc; ulimit -c; ulimit -l; ulimit -u").ok();
    assert_eq!(ran, "0\n0\n64\n128\n");
}

/// Memory that is a file without a name, or a System V segment, is the guest's too.
fn memory_that_no_process_has() {
    let world = World::new();
    if !world.sandboxes.capabilities().memory_limit {
        // Said at the start; nothing stops it here.
        return;
    }
    let room = match world.sandboxes.capabilities().tmp {
        TmpMode::Image | TmpMode::Folder => 0,
        TmpMode::Tmpfs => spec().tmp_bytes / MIB,
    };
    let file = |mib: u64| {
        perl(&format!(
            "my $name = 'x'; my $fd = syscall({}, $name, 0); open(my $f, '>&=', $fd) or die; \
             syswrite($f, 'x' x (1 << 20)) or die for 1..{mib}; print qq(kept\\n)",
            libc::SYS_memfd_create
        ))
    };
    let segment = |mib: u64| {
        perl(&format!(
            "my $id = shmget(7, {mib} << 20, 01600) // die; \
             shmwrite($id, 'x' x (1 << 20), $_ << 20, 1 << 20) or die for 0..{mib}-1; \
             print qq(kept\\n); shmctl($id, 0, 0)"
        ))
    };
    for hog in [&file as &dyn Fn(u64) -> lambfold_sandbox::Command, &segment] {
        let inside = world.create(Spec { memory_bytes: 64 * MIB, ..spec() });
        assert_eq!(inside.run(hog(20)).ok(), "kept\n");
        assert_eq!(inside.run(hog(80 + room)).status, ExitStatus::Signal(9));
        assert_eq!(inside.sandbox.oom_kills(), Some(1));
    }
}

/// Files without a byte in them fill a disk as well.
fn a_bomb_of_empty_files() {
    let world = World::new();
    let fill = perl(
        "chdir '/tmp'; my $n = 0; while ($n < 20000) { open(my $f, '>', qq(f$n)) or last; $n++ } \
         print qq($n\n)",
    );
    let count = |tmp_bytes| -> u32 {
        let inside = world.create(Spec { tmp_bytes, ..spec() });
        let count = inside.run(fill.clone()).ok().trim().parse().unwrap();
        // The sandbox goes on, and so does another.
        assert_eq!(inside.bash("rm -r /tmp/f1; echo x > /tmp/g; cat /tmp/g").ok(), "x\n");
        count
    };
    let small = count(16 * MIB);
    assert!((100..19_000).contains(&small), "{small} files in 16 MiB");
    assert_eq!(count(1024 * MIB), 20_000, "the control run is refused too");
}

/// A guest that writes and writes waits while nobody reads, holds no more than a pipe does, and can
/// be ended.
fn a_bomb_of_output() {
    const PIPE_BYTES: usize = 1 << 20;
    let world = World::new();
    let inside = world.sandbox();
    let process = inside.start(bash("yes bomb"));
    crate::world::wait_for("a full pipe", || {
        rustix::io::ioctl_fionread(&inside.sandbox.output).unwrap() >= 60_000
    });
    inside.sandbox.kill_guests().unwrap();
    let mut killed = false;
    while !killed {
        match inside.event() {
            Event::GuestsKilled => killed = true,
            Event::Exited { process: p, .. } => assert_eq!(p, process),
            other => panic!("{other:?}"),
        }
    }
    let written = inside.output().len();
    assert!((60_000..=PIPE_BYTES).contains(&written), "{written}");
    assert_eq!(inside.bash("echo alive").ok(), "alive\n");
    // Control: while somebody reads it is not held up.
    let much = inside.bash("yes bomb | head -c 4194304").ok();
    assert_eq!(much.len(), 4 << 20);
}

/// A fifth of a second of work at a twentieth of a processor: four seconds.
fn processor_time() {
    use std::time::{Duration, Instant};
    let world = World::new();
    let work = perl("my $n = 0; until ((times)[0] > 0.2) { $n++ for 1..10000 } print qq(done\\n)");
    let took = |cpu_quota_us| {
        let inside = world.create(Spec { cpu_quota_us, ..spec() });
        let start = Instant::now();
        assert_eq!(inside.run(work.clone()).ok(), "done\n");
        start.elapsed()
    };
    let free = took(0);
    let held = took(5_000);
    if world.sandboxes.capabilities().cpu_quota {
        assert!(held > Duration::from_secs(3), "{held:?}");
        assert!(free < held, "the control run took {free:?}, the other {held:?}");
    }
}
