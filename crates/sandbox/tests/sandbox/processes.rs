//! Sandboxes that are none: what they do all the same, and that nothing is left of them. As root there
//! are none, which every one of these tests asserts then.

use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use lambfold_sandbox::{
    Capabilities, Command, Config, Event, ExitStatus, Isolation, Network, Sandboxes, Spec,
    StartError, Step, Stock, TmpMode, is_root, sweep,
};

use crate::Test;
use crate::death::running;
use crate::world::{Inside, World, bash, config, spec, wait_for};

pub const TESTS: &[Test] = &[
    ("processes::a_guest_has_what_it_is_given", a_guest_has_what_it_is_given),
    ("processes::what_cannot_be_executed_says_why", what_cannot_be_executed),
    ("processes::each_sandbox_has_addresses_and_a_folder", each_has_its_own),
    ("processes::a_reset_kills_all_and_keeps_files", a_reset_kills_all),
    ("processes::a_dropped_sandbox_is_gone", a_dropped_sandbox_is_gone),
    ("processes::the_end_leaves_nothing", the_end_leaves_nothing),
    ("processes::a_killed_keeper_leaves_nothing", a_killed_keeper),
    ("processes::a_killed_spawner_leaves_nothing_and_is_replaced", a_killed_spawner),
    ("processes::a_killed_host_leaves_nothing", a_killed_host),
    ("processes::a_sweep_finds_what_nobody_looked_after", a_sweep_finds),
    ("processes::the_idle_are_stopped_and_go_on", the_idle_are_stopped),
    ("processes::memory_of_the_living_and_the_dead_is_told", memory_is_told),
    ("processes::some_can_be_made_ahead", some_are_made_ahead),
    ("processes::no_program_gains_privileges", no_privileges),
];

/// Starts two processes that lose their parents and lead sessions of their own, and stays. The word
/// is the shell's own name, and with an ending that of the others.
const DAEMONS: &str = "stay='echo > /dev/null; while :; do sleep 1000; done'; \
    (setsid bash -c \"setsid bash -c '$stay' $0-daemon & $stay\" $0-other &); \
    echo up; eval \"$stay\"";

fn plain(config: Config) -> Config {
    Config { isolation: Isolation::Process, network: Network::Host, ..config }
}

/// None as root, which is refused.
fn world() -> Option<World> {
    let (config, dir) = config();
    let config = plain(config);
    if !is_root() {
        return Some(World::with(config, dir));
    }
    match Sandboxes::start(config) {
        Err(StartError::Invalid { field: "isolation", reason }) => {
            assert!(reason.contains("refused to root"), "{reason}");
        }
        other => panic!("root has guests without walls: {other:?}"),
    }
    assert!(!dir.path().join("work").exists());
    None
}

/// `script`, with a word as `$0` that its processes carry.
fn marked(script: &str, word: &str) -> Command {
    let mut command = bash(script);
    command.args.push(word.to_owned());
    command.cwd = "/".to_owned();
    command
}

fn here(script: &str) -> Command {
    marked(script, "guest")
}

/// Whether any process of [`DAEMONS`] is there.
fn any(word: &str) -> bool {
    !states(word).is_empty()
}

fn daemons(inside: &Inside, word: &str) {
    inside.start(marked(DAEMONS, word));
    inside.output_until("up");
    for end in ["", "-daemon", "-other"] {
        wait_for("a daemon", || running(&format!("{word}{end}")));
    }
}

fn leftovers(world: &World) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(world.dir.path().join("work")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn a_guest_has_what_it_is_given() {
    let Some(world) = world() else { return };
    let Capabilities { isolation, tmp, network, memory_limit, notes, .. } =
        world.sandboxes.capabilities();
    assert_eq!((*isolation, *tmp), (Isolation::Process, TmpMode::Folder));
    assert_eq!((*network, *memory_limit), (Network::Host, false));
    assert!(notes.iter().any(|note| note.what.contains("NO WALLS")), "{notes:?}");
    let inside = world.sandbox();
    let mut command =
        here("env | sort; pwd; ulimit -n; ulimit -c; umask; echo to-stderr >&2; exit 7");
    command.env.push(("GREETING".to_owned(), "hello".to_owned()));
    command.env.push(("TMPDIR".to_owned(), "/somewhere/else".to_owned()));
    command.cwd = "/usr".to_owned();
    let ran = inside.run(command);
    assert_eq!(ran.status, ExitStatus::Code(7));
    let tmp = world.dir.path().join("work/tmp-0");
    let expected = format!(
        "GREETING=hello\nPATH=/usr/local/bin:/usr/bin:/bin\nPWD=/usr\nSHLVL=1\nTMPDIR={}\n_=/usr/bin/env\n\
         /usr\n1024\n0\n0022\nto-stderr\n",
        tmp.display()
    );
    assert_eq!(ran.output, expected);
    // A session and a process group of its own, and nothing to read.
    let ids =
        inside.run(here("set -- $(cat /proc/$$/stat); echo $1 $5 $6; read -r line; echo $?")).ok();
    let ids: Vec<&str> = ids.split_whitespace().collect();
    assert_eq!(ids, [ids[0], ids[0], ids[0], "1"]);
    let ran = inside.run(here("kill -TERM $$"));
    assert_eq!(ran.status, ExitStatus::Signal(15));
}

fn what_cannot_be_executed() {
    let Some(world) = world() else { return };
    let folder = world.folder("code", &[("no-shebang", "exit 0\n"), ("lost", "#!/no/such\n")]);
    let inside = world.sandbox();
    let fails = |program: &Path| {
        let programs = vec![program.display().to_string()];
        let process = inside.sandbox.spawn(Command { programs, ..here("") }).unwrap();
        match inside.event() {
            Event::SpawnFailed { process: failed, program, step, errno } => {
                assert_eq!((failed, step), (process, Step::GuestExec));
                (program.is_some(), errno)
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(fails(&folder.join("missing")), (false, 2));
    assert_eq!(fails(&folder.join("lost")), (true, 2));
    // As the kernel has it: no shell takes over.
    assert_eq!(fails(&folder.join("no-shebang")), (true, 8));
    inside.run(here("true")).ok();
}

fn each_has_its_own() {
    let Some(world) = world() else { return };
    let listeners = ["127.0.0.1:9001", "169.254.100.1:9001"].map(|text| text.parse().unwrap());
    let spec = || Spec { listeners: listeners.to_vec(), ..spec() };
    let (one, other) = (world.create(spec()), world.create(spec()));
    let mut addresses = Vec::new();
    for inside in [&one, &other] {
        assert_eq!(inside.sandbox.listeners.len(), 2);
        for listener in &inside.sandbox.listeners {
            let address = listener.local_addr().unwrap();
            let std::net::IpAddr::V4(ip) = address.ip() else { panic!("{address}") };
            assert!(
                (Ipv4Addr::new(127, 64, 0, 0)..=Ipv4Addr::new(127, 127, 255, 255)).contains(&ip)
            );
            std::net::TcpStream::connect(address).unwrap();
            addresses.push(ip);
        }
    }
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 4, "{addresses:?}");
    one.run(here("echo of-one > $TMPDIR/file")).ok();
    assert_eq!(
        other.run(here("ls -A $TMPDIR; mktemp > /dev/null; ls $TMPDIR | wc -l")).ok(),
        "1\n"
    );
    assert_eq!(one.run(here("cat $TMPDIR/file; stat -c %a $TMPDIR")).ok(), "of-one\n700\n");
}

fn a_reset_kills_all() {
    let Some(world) = world() else { return };
    let inside = world.sandbox();
    let word = format!("{}-guest", world.owner);
    inside.run(here("echo kept > $TMPDIR/file")).ok();
    daemons(&inside, &word);
    inside.sandbox.kill_guests().unwrap();
    assert!(matches!(inside.event(), Event::Exited { status: ExitStatus::Signal(9), .. }));
    assert_eq!(inside.event(), Event::GuestsKilled);
    // Not in a moment: it was the answer.
    assert!(!any(&word));
    assert_eq!(inside.run(here("cat $TMPDIR/file")).ok(), "kept\n");
}

fn a_dropped_sandbox_is_gone() {
    let Some(world) = world() else { return };
    let inside = world.sandbox();
    let word = format!("{}-guest", world.owner);
    daemons(&inside, &word);
    inside.run(here("mkdir -p $TMPDIR/a/b; chmod 0 $TMPDIR/a")).ok();
    drop(inside);
    wait_for("the guests' death", || !any(&word));
    wait_for("an empty folder", || leftovers(&world).is_empty());
    world.sandbox().run(here("true")).ok();
}

fn the_end_leaves_nothing() {
    let Some(world) = world() else { return };
    let inside = world.sandbox();
    let word = format!("{}-guest", world.owner);
    daemons(&inside, &word);
    inside.sandbox.freeze().unwrap();
    world.sandboxes.end();
    assert!(!any(&word));
    assert_eq!(leftovers(&world), Vec::<PathBuf>::new());
    while inside.event() != Event::Gone {}
}

fn a_killed_keeper() {
    let Some(world) = world() else { return };
    let (inside, other) = (world.sandbox(), world.sandbox());
    let word = format!("{}-guest", world.owner);
    daemons(&inside, &word);
    inside.sandbox.spawn(here("kill -9 $PPID")).unwrap();
    while inside.event() != Event::Gone {}
    wait_for("the guests' death", || !any(&word));
    wait_for("the end of its folder", || leftovers(&world).len() == 1);
    other.run(here("true")).ok();
    world.sandbox().run(here("true")).ok();
}

fn a_killed_spawner() {
    let Some(world) = world() else { return };
    let inside = world.sandbox();
    let word = format!("{}-guest", world.owner);
    daemons(&inside, &word);
    let old = world.sandboxes.spawner_pid();
    signal(old, "KILL");
    while inside.event() != Event::Gone {}
    wait_for("the guests' death", || !any(&word));
    wait_for("another spawner", || ![0, old].contains(&world.sandboxes.spawner_pid()));
    world.sandbox().run(here("true")).ok();
}

fn signal(pid: u32, name: &str) {
    let pid = pid.to_string();
    let sent = std::process::Command::new("kill").args(["-s", name, &pid]).status().unwrap();
    assert!(sent.success());
}

/// The role of a host that is killed: tells its spawner and its keeper.
pub fn doomed() {
    let mut arguments = std::env::args().skip(2);
    let (owner, work_dir) = (arguments.next().unwrap(), arguments.next().unwrap());
    let config = plain(Config::new(owner.clone(), work_dir));
    let sandboxes = Sandboxes::start(config).unwrap();
    let (done, result) = std::sync::mpsc::channel();
    sandboxes.create(spec(), move |sandbox| done.send(sandbox).unwrap());
    let inside = Inside::new(result.recv().unwrap().unwrap());
    let keeper = inside.run(here("echo $PPID")).ok();
    daemons(&inside, &format!("{owner}-guest"));
    println!("{} {}", sandboxes.spawner_pid(), keeper.trim());
    // Nothing comes: it ends by a signal.
    let _ = std::io::stdin().read_line(&mut String::new());
}

struct Doomed {
    child: std::process::Child,
    /// Kept open: it writes to it.
    _stdout: BufReader<std::process::ChildStdout>,
    spawner: u32,
    keeper: u32,
    owner: String,
    dir: tempfile::TempDir,
}

impl Doomed {
    fn start() -> Doomed {
        let (config, dir) = config();
        let mut child = std::process::Command::new("/proc/self/exe")
            .arg("doomed-processes")
            .arg(&config.owner)
            .arg(&config.work_dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let ids: Vec<u32> = line.split_whitespace().map(|id| id.parse().unwrap()).collect();
        Doomed { child, _stdout: stdout, spawner: ids[0], keeper: ids[1], owner: config.owner, dir }
    }

    fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    fn word(&self) -> String {
        format!("{}-guest", self.owner)
    }
}

fn a_killed_host() {
    if world().is_none() {
        return;
    }
    let mut doomed = Doomed::start();
    assert!(any(&doomed.word()));
    assert!(doomed.child.try_wait().unwrap().is_none(), "it ended by itself");
    doomed.child.kill().unwrap();
    doomed.child.wait().unwrap();
    // The lock is the keepers', too: whoever sweeps does so after them.
    sweep(&doomed.owner, &doomed.work()).unwrap();
    assert!(!any(&doomed.word()));
    assert_eq!(std::fs::read_dir(doomed.work()).unwrap().count(), 0);
}

fn a_sweep_finds() {
    if world().is_none() {
        return;
    }
    let mut doomed = Doomed::start();
    // None of them has the time to see another one die.
    let all = [doomed.child.id(), doomed.spawner, doomed.keeper];
    all.into_iter().for_each(|pid| signal(pid, "STOP"));
    all.into_iter().for_each(|pid| signal(pid, "KILL"));
    doomed.child.wait().unwrap();
    assert!(any(&doomed.word()), "nobody was left to kill them");
    let other = tempfile::tempdir().unwrap();
    sweep(&doomed.owner, other.path()).unwrap();
    assert!(any(&doomed.word()), "those of another folder were killed");
    sweep(&doomed.owner, &doomed.work()).unwrap();
    assert!(!any(&doomed.word()));
    assert_eq!(std::fs::read_dir(doomed.work()).unwrap().count(), 0);
}

/// States of the processes whose command line has a word that begins with this one.
fn states(word: &str) -> String {
    let mut found = String::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if line.split(|byte| *byte == 0).any(|arg| arg.starts_with(word.as_bytes())) {
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let state = stat.rsplit_once(") ").map(|(_, rest)| rest.chars().next().unwrap());
            found.extend(state);
        }
    }
    found
}

fn the_idle_are_stopped() {
    let Some(world) = world() else { return };
    let inside = world.sandbox();
    let word = format!("{}-guest", world.owner);
    daemons(&inside, &word);
    let stopped = |all: &str| !all.is_empty() && all.chars().all(|state| state == 'T');
    assert!(!stopped(&states(&word)), "they run");
    inside.sandbox.freeze().unwrap();
    wait_for("a standstill", || stopped(&states(&word)));
    inside.sandbox.thaw().unwrap();
    wait_for("life", || !states(&word).contains('T'));
    // The stopped can be killed as well.
    inside.sandbox.freeze().unwrap();
    wait_for("a standstill", || stopped(&states(&word)));
    inside.sandbox.kill_guests().unwrap();
    assert!(matches!(inside.event(), Event::Exited { status: ExitStatus::Signal(9), .. }));
    assert_eq!(inside.event(), Event::GuestsKilled);
    assert!(!any(&word));
}

fn memory_is_told() {
    const MIB: u64 = 1 << 20;
    let Some(world) = world() else { return };
    let inside = world.sandbox();
    let hold = |mib: u64, then: &str| Command {
        programs: vec!["/usr/bin/perl".to_owned()],
        args: vec![
            "-e".to_owned(),
            format!("my $x = 'x' x ({mib} << 20); $| = 1; print 'up'; {then}"),
        ],
        ..here("")
    };
    let peak = || inside.sandbox.memory_peak_bytes().unwrap() / MIB;
    assert_eq!(peak(), 0);
    let process = inside.start(hold(60, "sleep 1000"));
    inside.output_until("up");
    let living = peak();
    assert!((60..150).contains(&living), "{living}");
    inside.sandbox.signal_group(process, 9).unwrap();
    assert!(matches!(inside.event(), Event::Exited { .. }));
    let dead = peak();
    assert!((60..150).contains(&dead), "{dead}");
    inside.run(hold(10, "")).ok();
    assert_eq!(peak(), dead, "the most counts");
    assert_eq!(inside.sandbox.oom_kills(), None);
}

fn some_are_made_ahead() {
    if world().is_none() {
        return;
    }
    let (config, dir) = config();
    let stock = Some(Stock { size: 1, first: spec() });
    let world = World::with(Config { stock, ..plain(config) }, dir);
    wait_for("a stock", || world.sandboxes.in_stock() == 1);
    let inside = world.sandbox();
    assert!(inside.sandbox.from_stock());
    inside.run(here("true")).ok();
}

fn no_privileges() {
    let Some(world) = world() else { return };
    let inside = world.sandbox();
    let ran = inside.run(here("grep NoNewPrivs /proc/self/status")).ok();
    assert_eq!(ran, "NoNewPrivs:\t1\n");
}
