//! Deaths of every process at every step, and what is left: nothing.

use std::path::Path;
use std::time::{Duration, Instant};

use lambfold_sandbox::{
    Config, CreateError, Event, Fault, Program, Sandboxes, Spec, StartError, Step, Stock, Victim,
};

use crate::Test;
use crate::world::{Inside, PATIENCE, World, bash, chain, config, spawner, spec, wait_for};

pub const TESTS: &[Test] = &[
    ("death::a_dropped_sandbox_is_gone", a_dropped_sandbox_is_gone),
    ("death::dropping_all_leaves_nothing", dropping_all_leaves_nothing),
    ("death::a_killed_spawner_is_replaced", a_killed_spawner_is_replaced),
    ("death::requests_wait_for_another_spawner", requests_wait_for_another_spawner),
    ("death::nobody_waits_for_a_spawner_for_ever", nobody_waits_for_ever),
    ("death::who_waits_for_a_spawner_is_told_of_the_end", who_waits_is_told_of_the_end),
    ("death::a_killed_host_leaves_nothing", a_killed_host_leaves_nothing),
    ("death::a_death_at_each_step_leaves_nothing", a_death_at_each_step),
    ("death::a_hosts_death_at_each_step_leaves_nothing", a_hosts_death_at_each_step),
    ("death::a_sweep_spares_other_owners", a_sweep_spares_other_owners),
    ("death::a_program_without_dispatch_is_an_error", a_program_without_dispatch),
    ("death::a_program_of_other_sources_is_an_error", a_program_of_other_sources),
    (
        "death::a_program_that_cannot_be_executed_from_memory_is_told",
        a_program_that_cannot_be_executed_from_memory,
    ),
];

/// A process of the host's, by a word of its command line.
pub fn running(word: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).any(|entry| {
        entry.file_name().to_string_lossy().parse::<u32>().is_ok()
            && std::fs::read(entry.path().join("cmdline"))
                .is_ok_and(|line| line.split(|b| *b == 0).any(|arg| arg == word.as_bytes()))
    })
}

/// Every control group of an owner, in every hierarchy.
pub fn groups(owner: &str) -> Vec<String> {
    let name = format!("lambfold-{owner}");
    let mut found = Vec::new();
    let mut look = vec![Path::new("/sys/fs/cgroup").to_owned()];
    while let Some(folder) = look.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().filter_map(Result::ok) {
            if entry.file_type().is_ok_and(|t| t.is_dir()) {
                let found_name = entry.file_name().to_string_lossy().into_owned();
                let rest = found_name.strip_prefix(&name);
                if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.')) {
                    found.push(entry.path().display().to_string());
                }
                look.push(entry.path());
            }
        }
    }
    found
}

/// Loop devices over files of this folder.
pub fn loops(folder: &Path) -> usize {
    let text = folder.display().to_string();
    std::fs::read_dir("/sys/block")
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter(|e| {
            std::fs::read_to_string(e.path().join("loop/backing_file"))
                .is_ok_and(|file| file.contains(&text))
        })
        .count()
}

pub fn mounts(word: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    text.lines().filter(|line| line.contains(word)).count()
}

/// A guest whose command line has a word of its own.
fn marked(word: &str) -> lambfold_sandbox::Command {
    let mut command = bash("echo up; while :; do sleep 1000; done");
    command.args.push(word.to_owned());
    command
}

fn a_dropped_sandbox_is_gone() {
    let world = World::new();
    let inside = world.sandbox();
    let word = format!("{}-guest", world.owner);
    inside.start(marked(&word));
    inside.output_until("up");
    assert!(running(&word));
    drop(inside);
    wait_for("the guest's death", || !running(&word));
    world.sandbox().bash("true").ok();
}

fn dropping_all_leaves_nothing() {
    let world = World::new();
    let word = format!("{}-guest", world.owner);
    let inside = world.sandbox();
    inside.start(marked(&word));
    inside.output_until("up");
    let World { sandboxes, dir, owner } = world;
    drop(sandboxes);
    assert_eq!(inside.event(), Event::Gone);
    assert_eq!(inside.event(), Event::Gone);
    assert!(inside.sandbox.spawn(bash("true")).is_err());
    assert!(!running(&word));
    assert_eq!(groups(&owner), Vec::<String>::new());
    drop(inside);
    let path = dir.path().to_owned();
    wait_for("loop devices to be freed", || loops(&path) == 0);
    assert_eq!(mounts(&path.display().to_string()), 0);
}

fn a_killed_spawner_is_replaced() {
    let world = World::new();
    let inside = world.sandbox();
    let word = format!("{}-guest", world.owner);
    inside.start(marked(&word));
    inside.output_until("up");
    let old = world.sandboxes.spawner_pid();
    kill(old);
    assert_eq!(inside.event(), Event::Gone);
    wait_for("the guest's death", || !running(&word));
    wait_for("another spawner", || ![0, old].contains(&world.sandboxes.spawner_pid()));
    world.sandbox().bash("true").ok();
}

type Answers = std::sync::mpsc::Receiver<Result<lambfold_sandbox::Sandbox, CreateError>>;

/// Asks for a sandbox, and for no longer than this for a spawner.
fn ask(world: &World, patience: Duration) -> Answers {
    let (answer, answers) = std::sync::mpsc::channel();
    // Nobody looks at some of them any more.
    world.sandboxes.create_within(spec(), patience, move |made| drop(answer.send(made)));
    answers
}

fn requests_wait_for_another_spawner() {
    let world = World::new();
    // The second death follows the first one at once.
    for _ in 0..2 {
        let old = world.sandboxes.spawner_pid();
        // Some are made before their spawner dies, and others are made by the next one.
        let before: Vec<Answers> = (0..20).map(|_| ask(&world, PATIENCE)).collect();
        kill(old);
        // It does nothing any more: what is asked of it now can only be made by the next one.
        let after: Vec<Answers> = (0..5).map(|_| ask(&world, PATIENCE)).collect();
        for answers in before {
            let made = answers.recv_timeout(PATIENCE).unwrap();
            drop(made.unwrap_or_else(|e| panic!("{}", chain(&e))));
        }
        for answers in after {
            let made = answers.recv_timeout(PATIENCE).unwrap();
            Inside::new(made.unwrap_or_else(|e| panic!("{}", chain(&e)))).bash("true").ok();
        }
        assert_ne!(world.sandboxes.spawner_pid(), old);
    }
}

/// A world whose spawner is killed and not replaced until the returned link is changed back.
fn world_without_a_spawner() -> (World, impl Fn()) {
    let (mut config, dir) = config();
    let link = dir.path().join("program");
    let next = dir.path().join("next");
    let change = move |to: &Path| {
        std::os::unix::fs::symlink(to, &next).unwrap();
        std::fs::rename(&next, &link).unwrap();
    };
    let program = std::env::current_exe().unwrap();
    change(&program);
    config.program = Program::File(dir.path().join("program"));
    let world = World::with(config, dir);
    change(Path::new("/bin/false"));
    let old = world.sandboxes.spawner_pid();
    kill(old);
    wait_for("the spawner's death", || world.sandboxes.spawner_pid() == 0);
    (world, move || change(&program))
}

fn nobody_waits_for_ever() {
    let (world, mend) = world_without_a_spawner();
    let gone = |answers: &Answers| {
        let made = answers.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(made, Err(CreateError::SpawnerGone { .. })), "{made:?}");
    };
    let begin = Instant::now();
    let patient = ask(&world, PATIENCE);
    let impatient = ask(&world, Duration::from_millis(300));
    gone(&impatient);
    assert!(begin.elapsed() >= Duration::from_millis(300));
    gone(&patient);
    assert!(begin.elapsed() >= Duration::from_secs(9), "{:?}", begin.elapsed());
    // From now on nobody waits.
    let late = ask(&world, PATIENCE);
    let made = late.try_recv().unwrap();
    assert!(matches!(made, Err(CreateError::SpawnerGone { .. })), "{made:?}");
    mend();
    wait_for("another spawner", || world.sandboxes.spawner_pid() != 0);
    world.sandbox().bash("true").ok();
}

fn who_waits_is_told_of_the_end() {
    let (world, _) = world_without_a_spawner();
    let answers = ask(&world, PATIENCE);
    let World { sandboxes, dir, .. } = world;
    drop(sandboxes);
    let made = answers.try_recv().unwrap();
    assert!(matches!(made, Err(CreateError::SpawnerGone { .. })), "{made:?}");
    drop(dir);
}

pub fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// Played by a child of the test: makes sandboxes, says so, and waits to be killed.
pub fn doomed_host() {
    let mut arguments = std::env::args().skip(2);
    let (owner, work_dir) = (arguments.next().unwrap(), arguments.next().unwrap());
    let mut config = Config::new(owner.clone(), work_dir);
    if arguments.next().is_some_and(|how| how == "stock") {
        config.stock = Some(Stock { size: 4, first: spec() });
    }
    let stock = config.stock.as_ref().map_or(0, |stock| stock.size);
    let sandboxes = Sandboxes::start(config).unwrap();
    let mut made = Vec::new();
    for _ in 0..3 {
        let (done, result) = std::sync::mpsc::channel();
        sandboxes.create(spec(), move |sandbox| done.send(sandbox).unwrap());
        let Ok(inside) = result.recv_timeout(PATIENCE).unwrap().map(Inside::new) else { break };
        let process = inside.sandbox.spawn(marked(&format!("{owner}-guest"))).unwrap();
        if inside.event() != Event::Started(process) {
            break;
        }
        made.push(inside);
    }
    wait_for("a stock", || sandboxes.in_stock() == stock);
    println!("{}", sandboxes.spawner_pid());
    use std::io::Read;
    // Nothing comes: it ends by a signal.
    let _ = std::io::stdin().read(&mut [0u8]);
}

pub struct Doomed {
    owner: String,
    dir: tempfile::TempDir,
    pub child: std::process::Child,
}

impl Doomed {
    fn start(fault: Option<&str>) -> Doomed {
        Doomed::start_with(fault, "")
    }

    /// `stock`: with sandboxes that are made ahead.
    pub fn start_with(fault: Option<&str>, how: &str) -> Doomed {
        let (config, dir) = config();
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command
            .args(["doomed-host", &config.owner])
            .arg(&config.work_dir)
            .arg(how)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped());
        if let Some(fault) = fault {
            command.env("LAMBFOLD_SANDBOX_FAULT", fault);
        }
        let child = command.spawn().unwrap();
        Doomed { owner: config.owner, dir, child }
    }

    /// Its spawner, once its sandboxes are there.
    pub fn spawner(&mut self) -> u32 {
        use std::io::BufRead;
        let mut line = String::new();
        let stdout = self.child.stdout.as_mut().unwrap();
        std::io::BufReader::new(stdout).read_line(&mut line).unwrap();
        line.trim().parse().unwrap()
    }

    /// Waits until no process is left, starts again on the same folder, and looks around.
    pub fn check(self, spawner: Option<u32>) {
        let Doomed { owner, dir, mut child } = self;
        child.wait().unwrap();
        let word = format!("{owner}-guest");
        wait_for("guests' death", || !running(&word));
        if let Some(spawner) = spawner {
            wait_for("the spawner's death", || !Path::new(&format!("/proc/{spawner}")).exists());
        }
        let work_dir = dir.path().join("work");
        let world = World::with(Config::new(owner.clone(), &work_dir), dir);
        world.sandbox().bash("true").ok();
        let World { sandboxes, dir, .. } = world;
        drop(sandboxes);
        assert_eq!(groups(&owner), Vec::<String>::new());
        wait_for("loop devices to be freed", || loops(dir.path()) == 0);
        lambfold_sandbox::sweep(&owner, &work_dir).unwrap();
        let left: Vec<_> = std::fs::read_dir(&work_dir).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn a_killed_host_leaves_nothing() {
    let mut doomed = Doomed::start(None);
    let spawner = doomed.spawner();
    assert!(running(&format!("{}-guest", doomed.owner)));
    kill(doomed.child.id());
    doomed.check(Some(spawner));
    // Both at once: nobody is left to clean up but the next start.
    let mut doomed = Doomed::start(None);
    let spawner = doomed.spawner();
    kill(spawner);
    kill(doomed.child.id());
    doomed.check(Some(spawner));
}

/// Steps of one sandbox, where a fault can strike.
fn sandbox_steps() -> impl Iterator<Item = Step> {
    let first = Step::ALL.iter().position(|s| *s == Step::Cgroup).unwrap();
    Step::ALL[first..].iter().copied()
}

fn a_death_at_each_step() {
    for victim in [Victim::Init, Victim::Spawner] {
        for step in sandbox_steps() {
            let (mut config, dir) = config();
            config.fault = Some(Fault { step, victim });
            let world = World::with(config, dir);
            let outside_of_init = step < Step::Detach;
            let made = world.try_create(spec());
            match (victim, made) {
                // It is not pid 1 that does this step.
                (Victim::Init, Ok(sandbox)) if outside_of_init => {
                    Inside::new(sandbox).bash("true").ok();
                }
                (_, Ok(sandbox)) => {
                    assert!(step > Step::Ready, "{step} was passed");
                    let inside = Inside::new(sandbox);
                    // Its first guest may have been made, and the fault have struck, before.
                    let _ = inside.sandbox.spawn(bash("echo out"));
                    while !matches!(inside.event(), Event::Gone) {}
                }
                (Victim::Init, Err(CreateError::Died { .. })) => assert!(step <= Step::Ready),
                (Victim::Spawner, Err(CreateError::SpawnerGone { .. })) => {}
                // Pid 1 was the first to see it.
                (Victim::Spawner, Err(CreateError::Step { source, .. })) => {
                    assert_eq!(source.errno, libc::ESRCH);
                }
                (_, Err(other)) => panic!("{victim:?} at {step}: {}", chain(&other)),
            }
            let World { sandboxes, dir, owner } = world;
            drop(sandboxes);
            assert_eq!(groups(&owner), Vec::<String>::new(), "{victim:?} at {step}");
            wait_for("loop devices to be freed", || loops(dir.path()) == 0);
        }
    }
}

fn a_hosts_death_at_each_step() {
    for step in sandbox_steps() {
        Doomed::start(Some(&format!("host:{step}"))).check(None);
    }
}

fn a_sweep_spares_other_owners() {
    let (a, b) = (World::new(), World::new());
    let (in_a, in_b) = (a.sandbox(), b.sandbox());
    let word = format!("{}-guest", b.owner);
    in_b.start(marked(&word));
    in_b.output_until("up");
    in_a.bash("true").ok();
    let World { sandboxes, dir, owner } = a;
    // An owner that runs is not swept.
    let work_dir = dir.path().join("work");
    assert!(lambfold_sandbox::sweep(&owner, &work_dir).is_err());
    drop(sandboxes);
    lambfold_sandbox::sweep(&owner, &work_dir).unwrap();
    // A prefix of the other's name is another name.
    lambfold_sandbox::sweep("test", &work_dir).unwrap();
    assert!(running(&word));
    in_b.bash("true").ok();
    b.create(Spec { ..spec() }).bash("true").ok();
}

fn a_program_without_dispatch() {
    let (mut config, _dir) = config();
    config.program = Program::File("/bin/true".into());
    assert!(matches!(Sandboxes::start(config), Err(StartError::Died)));
    let (mut config, _dir) = crate::world::config();
    config.program = Program::File("/missing".into());
    assert!(matches!(Sandboxes::start(config), Err(StartError::Execute { .. })));
}

fn a_program_that_cannot_be_executed_from_memory() {
    let (mut config, _dir) = config();
    config.program = Program::Bytes(b"no program");
    let sandboxes = Sandboxes::start(config).unwrap();
    let notes = &sandboxes.capabilities().notes;
    assert!(notes.iter().any(|note| note.what.contains("executed from memory")), "{notes:?}");
}

/// This crate's spawner, as it would be if it had been built from other sources.
fn a_program_of_other_sources() {
    let sources = env!("LAMBFOLD_SANDBOX_SOURCES").as_bytes();
    let mut program = spawner().to_vec();
    let places: Vec<_> = (0..program.len() - sources.len())
        .filter(|&at| program[at..].starts_with(sources))
        .collect();
    assert!(!places.is_empty());
    for at in places {
        program[at] ^= 1;
    }
    let (mut config, _dir) = config();
    config.program = Program::Bytes(program.leak());
    assert!(matches!(Sandboxes::start(config), Err(StartError::OtherSources)));
}
