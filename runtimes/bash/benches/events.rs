//! What an event costs: the bash runtime with and without isolation, beside the naive shell loop,
//! in one run, in turns. Prints a table and writes `target/bench/bash.json`. The static bootstrap of
//! `tools/bootstraps` is taken if it is there.
//!
//! `LAMBFOLD_BENCH_PEERS=name=program,…` adds runtimes that echo their event.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lambfold_runtime_client::scripted::{Call, Event, Server};

/// Every platform sends one.
const TRACE: &str = "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1";
const LIMIT: Duration = Duration::from_secs(60);
const ROUNDS: usize = 5;
/// Starts in a round, before the events.
const STARTS: usize = 20;
const KIB: usize = 1024;
const SIZES: [usize; 5] = [16, KIB, 64 * KIB, 1024 * KIB, 6 * 1024 * KIB];
/// The larger the events, the fewer.
const PARTS: [usize; 5] = [1, 1, 5, 100, 1000];

struct Contender {
    name: String,
    program: PathBuf,
    persist: bool,
    /// Events in a round.
    events: usize,
    /// Bytes up to which it answers.
    largest: usize,
}

struct Running {
    child: Child,
    server: Server,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(contender: &Contender, folder: &Path) -> (Running, Duration) {
    let server = Server::start().unwrap();
    let begin = Instant::now();
    let child = Command::new(&contender.program)
        .env("AWS_LAMBDA_RUNTIME_API", server.endpoint())
        .env("LAMBDA_TASK_ROOT", folder)
        .env("_HANDLER", "function.handler")
        // Some runtimes insist on these.
        .env("AWS_LAMBDA_FUNCTION_NAME", "function")
        .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
        .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
        .env("AWS_LAMBDA_LOG_GROUP_NAME", "group")
        .env("AWS_LAMBDA_LOG_STREAM_NAME", "stream")
        .env("LAMBFOLD_BASH_PERSIST", if contender.persist { "1" } else { "0" })
        .current_dir(folder)
        .stdin(Stdio::null())
        // A curl that loses its server says so.
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let running = Running { child, server };
    assert!(running.server.wait_waiting(1, LIMIT), "{} did not ask for an event", contender.name);
    (running, begin.elapsed())
}

/// Times of single events of one size, from handing out to the complete answer.
fn measure(running: &Running, size: usize, events: usize, times: &mut Vec<Duration>) {
    let body = format!("\"{}\"", "x".repeat(size.saturating_sub(2)));
    for _ in 0..events {
        let event = Event::new("8476a536-e9f4-11e8-9739-2dfe598c3fcd", body.clone())
            .with_field("Lambda-Runtime-Trace-Id", TRACE);
        let begin = Instant::now();
        let post = running.server.invoke(event, LIMIT).unwrap();
        times.push(begin.elapsed());
        assert_eq!(post.call, Call::Response, "{}", post.text());
        assert!(post.body.len() >= size, "{} of {size} bytes", post.body.len());
    }
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("function.sh"), "handler() { echo \"$1\"; }\n").unwrap();
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    let static_program = target.join("bootstraps/bash-bootstrap");
    let own = match static_program.exists() {
        true => static_program,
        false => PathBuf::from(env!("CARGO_BIN_EXE_bash-bootstrap")),
    };
    let contender = |name: &str, program: PathBuf, persist, events, largest| Contender {
        name: name.to_owned(),
        program,
        persist,
        events,
        largest,
    };
    let naive = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/naive.sh");
    let mut contenders = vec![
        contender("bash, isolated", own.clone(), false, 400, usize::MAX),
        contender("bash, persistent", own, true, 1000, usize::MAX),
        // Its answer is an argument of curl.
        contender("naive loop", naive, false, 30, 64 * KIB),
    ];
    let peers = std::env::var("LAMBFOLD_BENCH_PEERS").unwrap_or_default();
    for (name, program) in peers.split(',').filter_map(|peer| peer.split_once('=')) {
        contenders.push(contender(name, PathBuf::from(program), false, 2000, usize::MAX));
    }

    let mut times = vec![vec![Vec::new(); SIZES.len()]; contenders.len()];
    let mut starts = vec![Vec::new(); contenders.len()];
    for _ in 0..ROUNDS {
        for _ in 0..STARTS {
            for (which, contender) in contenders.iter().enumerate() {
                starts[which].push(start(contender, folder.path()).1);
            }
        }
        for (which, contender) in contenders.iter().enumerate() {
            let (running, took) = start(contender, folder.path());
            starts[which].push(took);
            measure(&running, 16, contender.events / 10 + 1, &mut Vec::new());
            for (index, size) in SIZES.into_iter().enumerate() {
                if size <= contender.largest {
                    let events = contender.events / PARTS[index] + 4;
                    measure(&running, size, events, &mut times[which][index]);
                }
            }
        }
    }

    println!("medians in microseconds, {ROUNDS} rounds in turns; start: until the first `next`");
    println!(
        "{:<18}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
        "", "start", "16 B", "1 KiB", "64 KiB", "1 MiB", "6 MiB"
    );
    let mut json = String::from("{");
    for (which, contender) in contenders.iter().enumerate() {
        let mut cells = vec![format!("{:.0}", median(&mut starts[which]))];
        for of_size in &mut times[which] {
            let is_empty = of_size.is_empty();
            cells.push(if is_empty { "-".into() } else { format!("{:.0}", median(of_size)) });
        }
        print!("{:<18}", contender.name);
        cells.iter().for_each(|cell| print!("{cell:>10}"));
        println!();
        let cells: Vec<_> = cells.iter().map(|c| if c == "-" { "null" } else { c }).collect();
        json.push_str(if which > 0 { "," } else { "" });
        json.push_str(&format!("\"{}\":[{}]", contender.name, cells.join(",")));
    }
    json.push('}');
    let (isolated, persistent) = (median(&mut times[0][0]), median(&mut times[1][0]));
    let naive = median(&mut times[2][0]);
    println!(
        "a small event: isolated {:.0} x, persistent {:.0} x as fast as the naive loop",
        naive / isolated,
        naive / persistent
    );
    let target = target.join("bench");
    std::fs::create_dir_all(&target).unwrap();
    std::fs::write(target.join("bash.json"), json).unwrap();
}
