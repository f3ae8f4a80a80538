//! Runs the server and its floors side by side, interleaved, and prints medians and ratios.
//!
//! `bench [--rounds 5] [--seconds 2] [--cold 20] [--burst 500] [--bin-dir target/release]
//! [--output target/bench]`
//!
//! Absolute times drift on shared machines: only the ratios of one run mean something. What is
//! measured: a warm invoke with one client, the throughput of eight clients over eight
//! environments, cold starts with and without sandboxes that were made ahead, one by one and many
//! at once, the server's resident memory at rest. The floors are `bare-relay` (one thread, and two
//! side by side with half of the clients each) and, for the cold start, the sandbox crate's
//! `bare-steps` example and the start of bash by itself. Peers are measured when installed:
//! the Runtime Interface Emulator (`LAMBFOLD_BENCH_RIE=PATH`; one client only, it crashes on
//! two) and `cargo lambda watch` (`LAMBFOLD_BENCH_CARGO_LAMBDA=PATH`).
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command for people

use lambfold_benches::cold::{BASH, Cold, burst, own_start, starts};
use lambfold_benches::server::{self, Guard, Result, Server, free_port, wait_for_port};
use lambfold_benches::{Connection, each_option, median};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

struct Options {
    rounds: usize,
    seconds: f64,
    cold: usize,
    burst: usize,
    bin_dir: PathBuf,
    output: PathBuf,
}

/// One thing under load: where it listens and what a request looks like.
struct Target {
    name: String,
    /// One address a group of clients; two for the pair of relays.
    addresses: Vec<String>,
    path: String,
    clients: usize,
    /// Somebody else's: the benchmark goes on without it.
    peer: bool,
}

/// How long an answer may take: `cargo lambda watch` compiles the function first.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() -> Result<()> {
    let options = options()?;
    let work = tempfile::tempdir()?;
    let lambfold = options.bin_dir.join("lambfold");
    let echo = options.bin_dir.join("echo-runtime");
    let relay = options.bin_dir.join("bare-relay");
    let function = work.path().join("function");
    std::fs::create_dir(&function)?;
    // the same program, statically linked: what a cold start is measured with
    let fixed = options.bin_dir.join("echo-runtime-static");
    std::fs::copy(&fixed, function.join("bootstrap"))?;

    let mut keep: Vec<Guard> = Vec::new();
    let mut targets = Vec::new();
    let mut relay_on = |workers| server::relay(&relay, &echo, workers, &mut keep);
    let path = "/2015-03-31/functions/echo/invocations".to_owned();
    let one = relay_on(1)?;
    let eight = relay_on(8)?;
    let pair = vec![relay_on(4)?, relay_on(4)?];
    targets.push(Target {
        name: "relay, 1 client".into(),
        addresses: vec![one],
        path: path.clone(),
        clients: 1,
        peer: false,
    });
    targets.push(Target {
        name: "relay, 1 thread, 8 clients".into(),
        addresses: vec![eight],
        path: path.clone(),
        clients: 8,
        peer: false,
    });
    targets.push(Target {
        name: "relay, 2 threads, 8 clients".into(),
        addresses: pair,
        path: path.clone(),
        clients: 8,
        peer: false,
    });

    let server = Server::start(&lambfold)?;
    let address = server.address();
    // What is made ahead of need is there by then.
    std::thread::sleep(Duration::from_secs(1));
    let idle_kib = resident_kib(server.id());
    server.deploy(&function, "echo", "none", &[])?;
    targets.push(Target {
        name: "lambfold, 1 client".into(),
        addresses: vec![address.clone()],
        path: path.clone(),
        clients: 1,
        peer: false,
    });
    targets.push(Target {
        name: "lambfold, 8 clients".into(),
        addresses: vec![address.clone()],
        path: path.clone(),
        clients: 8,
        peer: false,
    });

    if let Some(rie) = std::env::var_os("LAMBFOLD_BENCH_RIE") {
        let (front, api) = (free_port()?, free_port()?);
        let front = format!("127.0.0.1:{front}");
        let child = Command::new(rie)
            .args(["--runtime-interface-emulator-address", &front, "--runtime-api-address"])
            .arg(format!("127.0.0.1:{api}"))
            .arg(&echo)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        keep.push(Guard(child));
        wait_for_port(&front)?;
        let path = "/2015-03-31/functions/function/invocations".to_owned();
        targets.push(Target {
            name: "emulator, 1 client".into(),
            addresses: vec![front],
            path,
            clients: 1,
            peer: true,
        });
    }
    if let Some(cargo_lambda) = std::env::var_os("LAMBFOLD_BENCH_CARGO_LAMBDA") {
        let port = free_port()?;
        let child = Command::new(cargo_lambda)
            .args(["lambda", "watch", "--release", "--ignore-changes", "--invoke-port"])
            .arg(port.to_string())
            .current_dir("benches")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        keep.push(Guard(child));
        let address = format!("127.0.0.1:{port}");
        wait_for_port(&address)?;
        let path = "/2015-03-31/functions/echo-runtime/invocations".to_owned();
        for clients in [1, 8] {
            let name = format!(
                "cargo lambda watch, {clients} client{}",
                if clients == 1 { "" } else { "s" }
            );
            targets.push(Target {
                name,
                addresses: vec![address.clone()],
                path: path.clone(),
                clients,
                peer: true,
            });
        }
    }

    let mut latency: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut throughput: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    // everything is warm before anything counts; a peer that does not answer is left out
    let mut warm = Vec::new();
    for target in targets {
        match load(&target, 0.3) {
            Ok(_) => warm.push(target),
            Err(error) if target.peer => eprintln!("{} is left out: {error}", target.name),
            Err(error) => return Err(error),
        }
    }
    let targets = warm;
    for round in 0..options.rounds {
        for at in 0..targets.len() {
            // a different order each round, so that no one always follows the same neighbour
            let target = &targets[(at + round) % targets.len()];
            let (median_us, per_second) = load(target, options.seconds)?;
            latency.entry(target.name.clone()).or_default().push(median_us);
            throughput.entry(target.name.clone()).or_default().push(per_second);
        }
        eprintln!("round {} of {} done", round + 1, options.rounds);
    }

    let mut cold = Cold::default();
    let without = Server::start_with(&lambfold, &["--sandbox-stock", "0"])?;
    let script = work.path().join("script");
    std::fs::create_dir(&script)?;
    std::fs::write(script.join("bootstrap"), BASH)?;
    std::fs::set_permissions(script.join("bootstrap"), std::fs::Permissions::from_mode(0o755))?;
    let bare_steps = options.bin_dir.join("examples/bare-steps");
    for round in 0..options.rounds {
        let count = options.cold;
        cold.stocked.extend(starts(&server, &function, &format!("cold-{round}"), count)?);
        cold.bare_handed.extend(starts(&without, &function, &format!("cold-{round}"), count)?);
        let output = Command::new(&bare_steps).arg(count.to_string()).arg(&fixed).output()?;
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            cold.steps.push(line.trim().parse::<f64>()?);
        }
        cold.bash.extend(starts(&server, &script, &format!("bash-{round}"), count)?);
        for _ in 0..count {
            cold.bash_own.push(own_start(&script.join("bootstrap"))?);
        }
        eprintln!("cold starts: round {} of {} done", round + 1, options.rounds);
    }
    drop((without, keep));
    for _ in 0..if options.burst > 0 { options.rounds.min(3) } else { 0 } {
        cold.bursts.push(burst(&lambfold, &function, options.burst)?);
    }

    report(&options, latency, throughput, &mut cold, idle_kib)
}

fn report(
    options: &Options,
    latency: BTreeMap<String, Vec<f64>>,
    throughput: BTreeMap<String, Vec<f64>>,
    cold: &mut Cold,
    idle_kib: u64,
) -> Result<()> {
    let mut table = String::new();
    writeln!(table, "{:<34} {:>12} {:>14}", "", "median µs", "invokes/s")?;
    let mut of = BTreeMap::new();
    for (name, mut values) in latency {
        let mut rates = throughput.get(&name).cloned().unwrap_or_default();
        let pair = (median(&mut values), median(&mut rates));
        writeln!(table, "{name:<34} {:>12.1} {:>14.0}", pair.0, pair.1)?;
        of.insert(name, pair);
    }
    let at = |name: &str| of.get(name).copied().unwrap_or_default();
    let relay_eight = at("relay, 1 thread, 8 clients").1.max(at("relay, 2 threads, 8 clients").1);
    let warm = at("lambfold, 1 client").0 / at("relay, 1 client").0;
    let rate = at("lambfold, 8 clients").1 / relay_eight;
    let (cold, cold_json) = cold.report();
    writeln!(
        table,
        "warm invoke, 1 client: {warm:.2} x the relay's median (promise: at most 1.5)"
    )?;
    writeln!(table, "throughput, 8 clients: {rate:.2} x the relay's (promise: at least 0.7)")?;
    table.push_str(&cold);
    let idle_mib = idle_kib as f64 / 1024.0;
    writeln!(
        table,
        "server at rest, all its processes: {idle_mib:.1} MiB resident (promise: at most 30)"
    )?;
    print!("{table}");
    std::fs::create_dir_all(&options.output)?;
    let json = serde_json::json!({
        "rounds": options.rounds,
        "targets": of.iter().map(|(name, (us, rate))| serde_json::json!({
            "name": name, "median_us": us, "invokes_per_second": rate,
        })).collect::<Vec<_>>(),
        "warm_ratio": warm,
        "throughput_ratio": rate,
        "cold": cold_json,
        "idle_resident_kib": idle_kib,
    });
    std::fs::write(options.output.join("invoke.json"), serde_json::to_vec_pretty(&json)?)?;
    Ok(())
}

fn options() -> Result<Options> {
    let mut options = Options {
        rounds: 5,
        seconds: 2.0,
        cold: 20,
        burst: 500,
        bin_dir: "target/release".into(),
        output: "target/bench".into(),
    };
    each_option(|name, value| {
        match name {
            "--rounds" => options.rounds = value.parse()?,
            "--seconds" => options.seconds = value.parse()?,
            "--cold" => options.cold = value.parse()?,
            "--burst" => options.burst = value.parse()?,
            "--bin-dir" => options.bin_dir = value.into(),
            "--output" => options.output = value.into(),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(options)
}

fn request(path: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n{{\"hello\":\"world\"}}").into_bytes()
}

/// Median latency in µs, and answers a second, of clients that each keep one request in flight.
fn load(target: &Target, seconds: f64) -> Result<(f64, f64)> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = Vec::new();
    for client in 0..target.clients {
        let address = target.addresses[client % target.addresses.len()].clone();
        let (request, stop) = (request(&target.path), Arc::clone(&stop));
        clients.push(std::thread::spawn(move || -> std::io::Result<Vec<f64>> {
            let mut connection = Connection::open(&address)?.give_up_after(PATIENCE)?;
            let mut times = Vec::with_capacity(100_000);
            while !stop.load(Ordering::Relaxed) {
                let start = Instant::now();
                let (_, body) = connection.call(&request)?;
                times.push(start.elapsed().as_secs_f64() * 1e6);
                if body != b"{\"hello\":\"world\"}" {
                    let text = String::from_utf8_lossy(body).into_owned();
                    return Err(std::io::Error::other(text));
                }
            }
            Ok(times)
        }));
    }
    let start = Instant::now();
    std::thread::sleep(Duration::from_secs_f64(seconds));
    stop.store(true, Ordering::Relaxed);
    let mut all = Vec::new();
    for client in clients {
        let times = client.join().map_err(|_| "a client panicked")?;
        all.extend(times.map_err(|error| format!("{}: {error}", target.name))?);
    }
    let elapsed = start.elapsed().as_secs_f64();
    Ok((median(&mut all), all.len() as f64 / elapsed))
}

/// Resident memory of a process and its children, KiB.
fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let own: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0);
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    own + children.split_whitespace().filter_map(|p| p.parse().ok()).map(resident_kib).sum::<u64>()
}
