//! Time from the request for a sandbox to a program that runs in it, and of each step.
//!
//! `cargo bench -p lambfold-sandbox -- [ROUNDS] [nat] [stock] [at-once]`
//!
//! `stock`: sandboxes are made ahead, and each round takes one of them.
//!
//! `at-once`: so many requests at one time, how many are done in a second, and what each sandbox
//! takes of the machine's memory.

#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use lambfold_sandbox::{Bind, Command, Config, Event, Network, Sandbox, Sandboxes, Spec, Stock};
use rustix::event::{PollFd, PollFlags};

const STOCK: usize = 4;

fn main() {
    lambfold_sandbox::dispatch();
    let rounds = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(200);
    let dir = tempfile::tempdir().unwrap();
    let task = dir.path().join("task");
    std::fs::create_dir(&task).unwrap();
    let tmp_bytes = 512 << 20;
    let mut config = Config::new(format!("bench-{}", std::process::id()), dir.path().join("work"));
    config.tmp_ready_bytes = vec![tmp_bytes];
    if std::env::args().any(|a| a == "nat") {
        config.network = Network::Nat;
    }
    let spec = |n: usize| Spec {
        id: format!("bench-{n}"),
        binds: vec![
            Bind { source: task.clone(), target: "/var/task".to_owned() },
            Bind { source: task.clone(), target: "/opt".to_owned() },
        ],
        tmp_bytes,
        memory_bytes: 128 << 20,
        processes: 1024,
        cpu_weight: 7,
        listeners: vec!["127.0.0.1:9001".parse().unwrap(), "169.254.100.1:9001".parse().unwrap()],
        hostname: "bench".to_owned(),
        ..Spec::default()
    };
    if std::env::args().any(|a| a == "stock") {
        config.stock = Some(Stock { size: STOCK, first: spec(0) });
    }
    let size = config.stock.as_ref().map_or(0, |stock| stock.size);
    let sandboxes = Sandboxes::start(config).unwrap();
    // Statically linked on every Debian.
    let command = Command {
        programs: vec!["/usr/sbin/ldconfig".to_owned(), "/usr/bin/true".to_owned()],
        args: vec!["--version".to_owned()],
        env: Vec::new(),
        cwd: "/var/task".to_owned(),
    };
    let spec = |n: usize| Spec { first: Some(command.clone()), ..spec(n) };
    if std::env::args().any(|a| a == "at-once") {
        return at_once(&sandboxes, (0..rounds).map(spec));
    }
    let (mut created, mut ended) = (Vec::new(), Vec::new());
    let mut steps: BTreeMap<_, Vec<Duration>> = BTreeMap::new();
    for n in 0..rounds {
        while sandboxes.in_stock() < size {
            std::thread::sleep(Duration::from_millis(1));
        }
        let start = Instant::now();
        let (done, made) = mpsc::channel();
        sandboxes.create(spec(n), move |sandbox| done.send(sandbox).unwrap());
        let sandbox = made.recv().unwrap().unwrap();
        created.push(start.elapsed());
        wait(&sandbox, |event| matches!(event, Event::Exited { .. }));
        ended.push(start.elapsed());
        for timing in sandbox.timings() {
            steps.entry(timing.step).or_default().push(timing.took);
        }
        drop(sandbox);
        // Cleaning up and making ready go on in the background: let them.
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("{:24} {:>8.3} ms", "created", median(&mut created));
    println!("{:24} {:>8.3} ms", "exited", median(&mut ended));
    for (step, mut times) in steps {
        println!("  {:22} {:>8.3} ms", step.name(), median(&mut times));
    }
}

fn at_once(sandboxes: &Sandboxes, specs: impl Iterator<Item = Spec>) {
    let before = available_kib();
    let start = Instant::now();
    let (done, made) = mpsc::channel();
    for spec in specs {
        let done = done.clone();
        sandboxes.create(spec, move |sandbox| done.send(sandbox).unwrap());
    }
    drop(done);
    let all: Vec<Sandbox> = made.iter().map(Result::unwrap).collect();
    let (count, took) = (all.len() as f64, start.elapsed());
    println!("{:24} {:>8.0} a second", "at once", count / took.as_secs_f64());
    println!("{:24} {:>8.0} KiB", "memory of each", (before - available_kib()) / count);
}

fn available_kib() -> f64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find(|line| line.starts_with("MemAvailable:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn wait(sandbox: &Sandbox, wanted: impl Fn(&Event) -> bool) {
    loop {
        match sandbox.try_event().unwrap() {
            Some(event) if wanted(&event) => return,
            Some(event) => panic!("{event:?}"),
            None => {
                let fd = sandbox.event_fd();
                rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::IN)], None).unwrap();
            }
        }
    }
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}
