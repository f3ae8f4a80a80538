//! What warm idle environments cost a machine beside the memory of their guests.
//!
//! `idle [--environments 1000] [--bin-dir target/release] [--output target/bench]`
//!
//! So many invocations are held at once, so that each has an environment; when all are answered and
//! frozen, what the machine has less of available memory, without what the guests themselves hold
//! (proportional set size), is divided among them. Then one is invoked after a pause in which it was
//! frozen, and again at once; the bare relay, whose worker nobody freezes, has the same pauses.
//!
//! This program is also the bootstrap of the function: `AWS_LAMBDA_RUNTIME_API` says so.
#![allow(clippy::print_stdout)] // a command for people

use lambfold_benches::leaks::{Owner, Place};
use lambfold_benches::server::{Result, relay};
use lambfold_benches::{Connection, each_option, guest, median};
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long each of them is held: longer than all need to start.
const HOLD: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(180);
/// Idle for longer than it takes until an environment is frozen.
const PAUSE: Duration = Duration::from_millis(100);
const THAWS: usize = 200;

fn main() -> Result<()> {
    if let Ok(api) = std::env::var("AWS_LAMBDA_RUNTIME_API") {
        return guest::run(&api);
    }
    let options = options()?;
    let most = (options.environments + 8).to_string();
    let place = Place::start(&options.bin_dir.join("lambfold"), &["--max-environments", &most])?;
    let (address, owner) = (place.address(), &place.owner);
    place.deploy("idle", 120)?;
    let call = |event: &str| -> Result<Duration> {
        let mut connection = Connection::open(&address)?.give_up_after(PATIENCE)?;
        timed(&mut connection, &address, event)
    };
    let echo = json!({ "do": "echo" }).to_string();
    call(&echo)?;

    let (before, guests_before) = (available_kib()?, guests_kib(owner)?);
    let hold = json!({ "do": "hold", "ms": HOLD.as_millis() as u64 }).to_string();
    let begin = Instant::now();
    std::thread::scope(|scope| -> Result<()> {
        let all: Vec<_> = (0..options.environments)
            .map(|_| scope.spawn(|| call(&hold).map_err(|error| error.to_string())))
            .collect();
        for one in all {
            one.join().map_err(|_| "a client panicked")??;
        }
        Ok(())
    })?;
    let took = begin.elapsed();
    std::thread::sleep(Duration::from_secs(2));
    let guests = owner.guests().len();
    let (after, guests_after) = (available_kib()?, guests_kib(owner)?);
    let drop_kib = before.saturating_sub(after);
    let of_guests = guests_after.saturating_sub(guests_before);
    let each = drop_kib.saturating_sub(of_guests) as f64 / options.environments as f64;

    let mut keep = Vec::new();
    let worker = options.bin_dir.join("echo-runtime");
    let floor = relay(&options.bin_dir.join("bare-relay"), &worker, 1, &mut keep)?;
    let mut connections = Vec::new();
    for address in [&address, &floor] {
        connections.push((Connection::open(address)?.give_up_after(PATIENCE)?, address));
    }
    // First after a pause, and second, by connection.
    let mut times = [(); 4].map(|()| Vec::new());
    for _ in 0..THAWS {
        for (which, (connection, address)) in connections.iter_mut().enumerate() {
            timed(connection, address, &echo)?;
            std::thread::sleep(PAUSE);
            for column in [0, 1] {
                let took = timed(connection, address, &echo)?;
                times[2 * which + column].push(took.as_secs_f64() * 1e6);
            }
        }
    }
    let [first, second, floor_first, floor_second] = times.map(|mut times| median(&mut times));
    // Caches are cold and processors asleep after a pause, also for who was never frozen.
    let thaw = (first - second) - (floor_first - floor_second);
    println!("{guests} environments in {took:.1?}, holding included");
    println!("available memory fell by {drop_kib} KiB, guests hold {of_guests} KiB");
    println!("each environment costs {each:.0} KiB beside its guest (promise: 500)");
    println!("first invocation after a pause {first:.0} us, the next one {second:.0} us");
    println!("the same for the bare relay: {floor_first:.0} us, {floor_second:.0} us");
    println!("a thaw adds {thaw:.0} us (promise: 100)");
    std::fs::create_dir_all(&options.output)?;
    let report = json!({
        "environments": guests, "fellKib": drop_kib, "guestsKib": of_guests, "eachKib": each,
        "firstMicros": first, "secondMicros": second,
        "floorFirstMicros": floor_first, "floorSecondMicros": floor_second,
    });
    std::fs::write(options.output.join("idle.json"), report.to_string())?;
    Ok(())
}

fn timed(connection: &mut Connection, address: &str, event: &str) -> Result<Duration> {
    let request = format!(
        "POST /2015-03-31/functions/idle/invocations HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n{event}",
        event.len()
    );
    let begin = Instant::now();
    let (head, body) = connection.call(request.as_bytes())?;
    if head.starts_with(b"HTTP/1.1 200") && body.len() == event.len() {
        return Ok(begin.elapsed());
    }
    Err(format!("{}{}", String::from_utf8_lossy(head), String::from_utf8_lossy(body)).into())
}

fn available_kib() -> Result<usize> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let value = line.and_then(|line| line.split_whitespace().next()).ok_or("no MemAvailable")?;
    Ok(value.parse()?)
}

/// What the guests hold, each page divided among those that share it.
fn guests_kib(owner: &Owner) -> Result<usize> {
    let mut sum = 0;
    for id in owner.guests() {
        let text = std::fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
        sum += line.and_then(|l| l.split_whitespace().next()?.parse::<usize>().ok()).unwrap_or(0);
    }
    Ok(sum)
}

struct Options {
    environments: usize,
    bin_dir: PathBuf,
    output: PathBuf,
}

fn options() -> Result<Options> {
    let mut options = Options {
        environments: 1000,
        bin_dir: "target/release".into(),
        output: "target/bench".into(),
    };
    each_option(|name, value| {
        match name {
            "--environments" => options.environments = value.parse()?,
            "--bin-dir" => options.bin_dir = value.into(),
            "--output" => options.output = value.into(),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(options)
}
