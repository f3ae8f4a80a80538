//! The endurance run: a server under mixed load for a long time, and nothing left behind.
//!
//! `soak [--warm 100000] [--cold 2000] [--functions 20] [--clients 8] [--bin-dir target/release]
//! [--output target/bench]`
//!
//! Many functions are invoked by clients over kept connections; some of the events make the runtime
//! exit, kill itself, run out of time or out of memory; configurations change under load, so that
//! environments start cold; twice the spawner is killed. Every answer is looked at. Once the load is
//! gone and the functions are deleted, what the kernel and the disk hold must be what they held
//! before ([`Held`]), and the server's memory must not have grown; after the server's end there must be
//! nothing. Exit status 1 if any of this does not hold.
//!
//! This program is also the bootstrap of the functions: `AWS_LAMBDA_RUNTIME_API` says so.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command for people

use lambfold_benches::guest;
use lambfold_benches::leaks::{Held, Owner, Place};
use lambfold_benches::server::{Guard, Result};
use lambfold_benches::{Connection, each_option, header};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long what is under way may take to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// What was sent so long after the spawner's death must be answered well.
const RECOVERY: Duration = Duration::from_millis(500);
/// A function's time limit, seconds.
const TIMEOUT: u32 = 2;
/// The load is divided into so many parts, after each of which the memory is looked at.
const ROUNDS: usize = 10;
/// The spawner is killed in the middle of these.
const KILLS: [usize; 2] = [3, 7];
/// What the server may have grown by since the end of the second round: KiB, and a part of it.
const GROWTH: (usize, usize) = (8 * 1024, 5);

struct Options {
    warm: usize,
    cold: usize,
    functions: usize,
    clients: usize,
    bin_dir: PathBuf,
    output: PathBuf,
}

fn main() -> ExitCode {
    let result = match std::env::var("AWS_LAMBDA_RUNTIME_API") {
        Ok(api) => guest::run(&api).map(|()| true),
        Err(_) => soak(),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What went wrong, and how often what happened.
#[derive(Default)]
struct Tally {
    counts: BTreeMap<&'static str, usize>,
    wrong: Vec<String>,
}

struct Load<'a> {
    address: &'a str,
    functions: usize,
    left: AtomicUsize,
    /// Nanoseconds from the beginning of the load to the spawner's death; 0 before.
    death: AtomicU64,
    begin: Instant,
    tally: &'a Mutex<Tally>,
}

impl Load<'_> {
    /// One client, until there is nothing left to send.
    fn client(&self, seed: u64) {
        let mut random = seed;
        let mut connection = None;
        while self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
            .is_ok()
        {
            // xorshift: any cheap sequence will do.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let word = match random % 5000 {
                0..10 => "exit",
                10..15 => "abort",
                15..17 => "hang",
                17..20 => "memory",
                20..30 => "children",
                _ => "echo",
            };
            let event = json!({ "do": word, "n": random >> 16 }).to_string();
            let name = format!("f{}", (random >> 40) as usize % self.functions);
            let sent = self.begin.elapsed();
            let answer = invoke(&mut connection, self.address, &name, &event);
            let (kind, problem) = judge(word, &event, answer);
            let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
            match problem {
                Some(_) if self.is_excused(sent) => {
                    *tally.counts.entry("lost with the spawner").or_default() += 1;
                }
                Some(problem) => tally.wrong.push(problem),
                None => *tally.counts.entry(kind).or_default() += 1,
            }
        }
    }
}

impl Load<'_> {
    /// Whether what was sent then may have met the spawner's death, or what came after it.
    fn is_excused(&self, sent: Duration) -> bool {
        let death = Duration::from_nanos(self.death.load(Ordering::Relaxed));
        !death.is_zero() && sent < death + RECOVERY
    }
}

struct Answer {
    status: String,
    function_error: Option<String>,
    body: String,
}

fn invoke(
    connection: &mut Option<Connection>,
    address: &str,
    function: &str,
    event: &str,
) -> Result<Answer> {
    let request = format!(
        "POST /2015-03-31/functions/{function}/invocations HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n{event}",
        event.len()
    );
    if connection.is_none() {
        *connection = Some(Connection::open(address)?.give_up_after(PATIENCE)?);
    }
    let result = match connection.as_mut().map(|open| open.call(request.as_bytes())) {
        Some(Ok((head, body))) => Ok(Answer {
            status: String::from_utf8_lossy(&head[..head.len().min(12)]).into_owned(),
            function_error: header(head, "x-amz-function-error").map(str::to_owned),
            body: String::from_utf8_lossy(body).into_owned(),
        }),
        Some(Err(error)) => Err(error.into()),
        None => Err("no connection".into()),
    };
    if result.is_err() {
        *connection = None;
    }
    result
}

/// What an answer counts as, or what is wrong with it.
fn judge(
    word: &'static str,
    event: &str,
    answer: Result<Answer>,
) -> (&'static str, Option<String>) {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return (word, Some(format!("{word}: {error}"))),
    };
    let has_error = answer.function_error.is_some();
    let fits = match word {
        "exit" => has_error && answer.body.contains("Runtime.ExitError"),
        "abort" => has_error && answer.body.contains("Runtime.ExitError"),
        "hang" => has_error && answer.body.contains("timed out after"),
        "memory" => has_error && answer.body.contains("Runtime.OutOfMemory"),
        _ => !has_error && same(event, &answer.body),
    };
    let fits = fits && answer.status.ends_with("200");
    let said = (!fits).then(|| format!("{word}: {} {}", answer.status, answer.body));
    (word, said)
}

fn same(event: &str, answer: &str) -> bool {
    serde_json::from_str::<Value>(answer).is_ok_and(|answer| answer == json_of(event))
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

fn soak() -> Result<bool> {
    let options = options()?;
    let mut place = Place::start(&options.bin_dir.join("lambfold"), &[])?;
    let (owner, id) = (place.owner.clone(), place.server.0.id());
    let site = Site(&place);

    // What is made once and kept is made before the first count: a short run of everything.
    let tally = Mutex::new(Tally::default());
    let address = place.address();
    let load = |count| Load {
        address: &address,
        functions: options.functions,
        left: AtomicUsize::new(count),
        death: AtomicU64::new(0),
        begin: Instant::now(),
        tally: &tally,
    };
    site.deploy_all(options.functions)?;
    run(&load(options.functions * 50), options.clients, &site, 20, None)?;
    site.delete_all(options.functions)?;
    let before = settle(&owner, id, None);
    eprintln!("before: {before:?}");

    let begin = Instant::now();
    let mut memory = Vec::new();
    site.deploy_all(options.functions)?;
    for round in 0..ROUNDS {
        let load = load(options.warm / ROUNDS);
        let kill = KILLS.contains(&round).then_some((&owner, id));
        run(&load, options.clients, &site, options.cold / ROUNDS, kill)?;
        memory.push(owner.held(id).resident_kib);
        eprintln!("round {}: {} KiB, {:.0?}", round + 1, memory[round], begin.elapsed());
    }
    let took = begin.elapsed();
    site.delete_all(options.functions)?;
    let after = settle(&owner, id, Some(&before));
    eprintln!("after: {after:?}");
    stop(&mut place.server)?;
    let ended = settle(&owner, 0, Some(&Held { folders: usize::MAX, ..Held::default() }));

    let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut wrong = tally.wrong;
    wrong.extend(after.more_than(&before).into_iter().map(|what| format!("leaked: {what}")));
    for (name, count) in ended.counts().into_iter().filter(|(name, _)| *name != "folders") {
        if count > 0 {
            wrong.push(format!("left by the server that ended: {name}: {count}"));
        }
    }
    let (early, late) = (memory[1], memory[ROUNDS - 1]);
    if late > early + GROWTH.0.max(early / GROWTH.1) {
        wrong.push(format!("memory grew from {early} to {late} KiB"));
    }
    println!("{:<24}{:>9}", "answers", "");
    for (name, count) in &tally.counts {
        println!("  {name:<22}{count:>9}");
    }
    println!("{:<24}{:>9.0}", "seconds", took.as_secs_f64());
    for ((name, before), (_, after)) in before.counts().into_iter().zip(after.counts()) {
        println!("{name:<24}{before:>9} before {after:>9} after");
    }
    println!("{:<24}{memory:>9?}", "KiB after each round");
    wrong.iter().take(50).for_each(|what| println!("WRONG {what}"));
    let report = json!({
        "answers": tally.counts, "seconds": took.as_secs_f64(), "residentKib": memory,
        "before": BTreeMap::from(before.counts()), "after": BTreeMap::from(after.counts()),
        "wrong": wrong,
    });
    std::fs::create_dir_all(&options.output)?;
    std::fs::write(options.output.join("soak.json"), report.to_string())?;
    Ok(wrong.is_empty())
}

/// Invocations from all clients, with cold starts in between and, if asked for, a spawner that dies.
fn run(
    load: &Load<'_>,
    clients: usize,
    site: &Site<'_>,
    cold: usize,
    kill: Option<(&Owner, u32)>,
) -> Result<()> {
    let total = load.left.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..clients)
            .map(|client| {
                let seed = 0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(client as u64 + 1 + total as u64);
                scope.spawn(move || load.client(seed | 1))
            })
            .collect();
        let mut changed = 0;
        let mut kill = kill;
        let mut killed: Option<Instant> = None;
        while !clients.iter().all(|client| client.is_finished()) || changed < cold || kill.is_some()
        {
            let sent = total - load.left.load(Ordering::Relaxed);
            if sent * 2 >= total
                && let Some((owner, server)) = kill.take()
            {
                let spawner = owner.spawner(server).ok_or("there is no spawner")?;
                let now = u64::try_from(load.begin.elapsed().as_nanos())?;
                load.death.store(now, Ordering::Relaxed);
                Command::new("kill").args(["-KILL", &spawner.to_string()]).status()?;
                killed = Some(Instant::now());
            }
            // As many changes as invocations, by share.
            if changed < cold && changed * total <= sent * cold {
                site.change(changed % load.functions, changed)?;
                changed += 1;
            } else {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        // What comes next has nothing to do with that death.
        if let Some(killed) = killed {
            std::thread::sleep(RECOVERY.saturating_sub(killed.elapsed()));
        }
        Ok(())
    })
}

/// Waits until there is no more than before; without a before, until nothing changes any more.
fn settle(owner: &Owner, server: u32, before: Option<&Held>) -> Held {
    let until = Instant::now() + PATIENCE;
    let mut last = owner.held(server);
    let mut quiet_since = Instant::now();
    loop {
        std::thread::sleep(Duration::from_millis(200));
        let now = owner.held(server);
        if now.counts() != last.counts() {
            quiet_since = Instant::now();
        }
        last = now;
        let is_done = match before {
            Some(before) => now.more_than(before).is_empty(),
            None => now.guests == 0 && quiet_since.elapsed() > Duration::from_secs(3),
        };
        if is_done || Instant::now() > until {
            return last;
        }
    }
}

/// As an operator does.
fn stop(server: &mut Guard) -> Result<()> {
    Command::new("kill").args(["-TERM", &server.0.id().to_string()]).status()?;
    let until = Instant::now() + PATIENCE;
    while server.0.try_wait()?.is_none() {
        if Instant::now() > until {
            return Err("the server does not end".into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The server as its users see it.
struct Site<'a>(&'a Place);

impl Site<'_> {
    fn deploy_all(&self, functions: usize) -> Result<()> {
        (0..functions).try_for_each(|function| self.0.deploy(&format!("f{function}"), TIMEOUT))
    }

    fn delete_all(&self, functions: usize) -> Result<()> {
        for function in 0..functions {
            self.call("DELETE", &format!("/2015-03-31/functions/f{function}"), "", "204")?;
        }
        Ok(())
    }

    /// A configuration that no environment has yet.
    fn change(&self, function: usize, count: usize) -> Result<()> {
        let (name, value) = self.0.owner.marker.split_once('=').unwrap_or_default();
        let body =
            json!({ "Environment": { "Variables": { name: value, "COUNT": count.to_string() } } });
        let path = format!("/2015-03-31/functions/f{function}/configuration");
        self.call("PUT", &path, &body.to_string(), "200")
    }

    fn call(&self, method: &str, path: &str, body: &str, status: &str) -> Result<()> {
        let address = self.0.address();
        let mut connection = Connection::open(&address)?.give_up_after(PATIENCE)?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let (head, answer) = connection.call(request.as_bytes())?;
        let line = String::from_utf8_lossy(&head[..head.len().min(12)]).into_owned();
        if line.ends_with(status) {
            return Ok(());
        }
        Err(format!("{method} {path}: {line} {}", String::from_utf8_lossy(answer)).into())
    }
}

fn options() -> Result<Options> {
    let mut options = Options {
        warm: 100_000,
        cold: 2000,
        functions: 20,
        clients: 8,
        bin_dir: "target/release".into(),
        output: "target/bench".into(),
    };
    each_option(|name, value| {
        match name {
            "--warm" => options.warm = value.parse()?,
            "--cold" => options.cold = value.parse()?,
            "--functions" => options.functions = value.parse()?,
            "--clients" => options.clients = value.parse()?,
            "--bin-dir" => options.bin_dir = value.into(),
            "--output" => options.output = value.into(),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if options.functions == 0 || options.clients == 0 {
        return Err("there must be a function and a client".into());
    }
    Ok(options)
}
