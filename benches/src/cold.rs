//! Cold starts: one by one, of bash beside its own start, and many at once beside warm invokes.

use crate::server::{Guard, Result, Server};
use crate::{Connection, median};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const EVENT: &[u8] = b"{\"hello\":\"world\"}";
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two warm invokes beside a burst.
const PACE: Duration = Duration::from_millis(2);

/// A runtime in bash alone: one event with one connection for each request, as scripts do it.
pub const BASH: &str = r#"#!/bin/bash
api=${AWS_LAMBDA_RUNTIME_API%:*} port=${AWS_LAMBDA_RUNTIME_API##*:} path=/2018-06-01/runtime/invocation
while :; do
  exec 3<>"/dev/tcp/$api/$port" || exit
  printf 'GET %s/next HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n' "$path" "$api" >&3
  while IFS=: read -r -u 3 name value; do
    case ${name,,} in
      $'\r') break ;;
      lambda-runtime-aws-request-id) id=${value//[$' \r']/} ;;
      content-length) length=${value//[$' \r']/} ;;
    esac
  done
  IFS= read -r -u 3 -N "$length" event
  exec 3<>"/dev/tcp/$api/$port" || exit
  printf 'POST %s/%s/response HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Length: %s\r\n\r\n%s' \
    "$path" "$id" "$api" "$length" "$event" >&3
  while read -r -u 3 line; do [[ $line == $'\r' ]] && break; done
done
"#;

/// Of an event, up to its length.
const HEAD: &str = "HTTP/1.1 200 OK\r\n\
    Content-Type: application/json\r\n\
    Lambda-Runtime-Aws-Request-Id: 8476a536-e9f4-11e8-9739-2dfe598c3fcd\r\n\
    Lambda-Runtime-Deadline-Ms: 1542409706888\r\n\
    Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:000000000000:function:bash-0-0\r\n\
    Lambda-Runtime-Trace-Id: Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1\r\n\
    Date: Mon, 23 Nov 2026 00:00:00 GMT\r\n";

fn request(path: &str) -> Vec<u8> {
    let length = EVENT.len();
    let mut bytes = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    )
    .into_bytes();
    bytes.extend_from_slice(EVENT);
    bytes
}

/// The path of a function's invocations.
#[must_use]
pub fn path(function: &str) -> String {
    format!("/2015-03-31/functions/{function}/invocations")
}

/// Milliseconds of one request on an open connection; it must be answered with its own event.
///
/// # Errors
/// When it is not.
pub fn once(address: &str, function: &str) -> Result<f64> {
    let mut connection = Connection::open(address)?.give_up_after(PATIENCE)?;
    let request = request(&path(function));
    let start = Instant::now();
    let (_, body) = connection.call(&request)?;
    let elapsed = start.elapsed();
    if body == EVENT {
        return Ok(elapsed.as_secs_f64() * 1000.0);
    }
    Err(format!("{function} answered {}", String::from_utf8_lossy(body)).into())
}

/// Cold starts of so many new functions, one after the other, with time between them for what is
/// made ahead; milliseconds of each.
///
/// # Errors
/// When one is not answered.
pub fn starts(server: &Server, folder: &Path, prefix: &str, count: usize) -> Result<Vec<f64>> {
    for at in 0..count {
        server.deploy(folder, &format!("{prefix}-{at}"), "none", &[])?;
    }
    let mut times = Vec::new();
    for at in 0..count {
        std::thread::sleep(Duration::from_millis(30));
        times.push(once(&server.address(), &format!("{prefix}-{at}"))?);
    }
    Ok(times)
}

/// What a function has that makes the start of a dynamic program, and of bash, dearer.
const ENVIRONMENT: [(&str, &str); 4] = [
    ("LANG", "en_US.UTF-8"),
    (
        "LD_LIBRARY_PATH",
        "/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
    ),
    ("PATH", "/usr/local/bin:/usr/bin/:/bin:/opt/bin"),
    ("TZ", ":UTC"),
];

/// Milliseconds from the start of a bootstrap, with nothing around it but the environment of a
/// function, to its first response: a Runtime API of a few lines gives it one event, with the headers
/// that it has from AWS and from us, since a shell reads them byte by byte.
///
/// # Errors
/// When it does not speak.
pub fn own_start(bootstrap: &Path) -> Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut command = Command::new(bootstrap);
    command
        .env_clear()
        .envs(ENVIRONMENT)
        .env("AWS_LAMBDA_RUNTIME_API", listener.local_addr()?.to_string());
    command.stdout(Stdio::null());
    let start = Instant::now();
    let child = Guard(command.spawn()?);
    let mut next = listener.accept()?.0;
    head(&next)?;
    let length = EVENT.len();
    write!(next, "{HEAD}Content-Length: {length}\r\n\r\n")?;
    next.write_all(EVENT)?;
    let response = listener.accept()?.0;
    let mut reader = head(&response)?;
    let mut body = vec![0; EVENT.len()];
    reader.read_exact(&mut body)?;
    let took = start.elapsed();
    drop(child);
    if body == EVENT { Ok(took.as_secs_f64() * 1000.0) } else { Err("another response".into()) }
}

/// Reads a request's head.
fn head(stream: &TcpStream) -> Result<BufReader<&TcpStream>> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    Ok(reader)
}

/// What came of a burst.
#[derive(Debug, Clone, Copy)]
pub struct Burst {
    /// Cold starts a second, from the first request to the last answer.
    pub per_second: f64,
    /// p95 of another function's warm invokes before it, ms.
    pub idle_p95_ms: f64,
    /// The same while it goes on, ms.
    pub busy_p95_ms: f64,
}

/// So many functions, each asked for the first time and all at once, on a server of its own.
///
/// # Errors
/// When one is not answered.
pub fn burst(lambfold: &Path, folder: &Path, count: usize) -> Result<Burst> {
    let server = Server::start(lambfold)?;
    let address = server.address();
    server.deploy(folder, "warm", "none", &[])?;
    for at in 0..count {
        server.deploy(folder, &format!("cold-{at}"), "none", &[])?;
    }
    once(&address, "warm")?;
    let idle = warm(&address, |count| count < 1000)?;
    let mut connections = Vec::new();
    for _ in 0..count {
        let stream = TcpStream::connect(&address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        connections.push(stream);
    }
    let over = Arc::new(AtomicBool::new(false));
    let beside = {
        let (address, over) = (address.clone(), Arc::clone(&over));
        std::thread::spawn(move || {
            warm(&address, |_| !over.load(Ordering::Relaxed)).map_err(|error| error.to_string())
        })
    };
    let start = Instant::now();
    for (at, stream) in connections.iter_mut().enumerate() {
        stream.write_all(&request(&path(&format!("cold-{at}"))))?;
    }
    for (at, stream) in connections.iter().enumerate() {
        let mut reader = BufReader::new(stream);
        let mut status = String::new();
        reader.read_line(&mut status)?;
        if !status.contains(" 200 ") {
            return Err(format!("cold-{at} answered {status}").into());
        }
    }
    let took = start.elapsed().as_secs_f64();
    over.store(true, Ordering::Relaxed);
    let busy = beside.join().map_err(|_| "the warm client panicked")??;
    Ok(Burst { per_second: count as f64 / took, idle_p95_ms: p95(idle), busy_p95_ms: p95(busy) })
}

/// Warm invokes at a slow pace, for as long as `go_on` says so of their number; milliseconds.
fn warm(address: &str, go_on: impl Fn(usize) -> bool) -> Result<Vec<f64>> {
    let mut connection = Connection::open(address)?.give_up_after(PATIENCE)?;
    let request = request(&path("warm"));
    let mut times = Vec::new();
    while go_on(times.len()) {
        let start = Instant::now();
        connection.call(&request)?;
        times.push(start.elapsed().as_secs_f64() * 1000.0);
        std::thread::sleep(PACE);
    }
    Ok(times)
}

fn p95(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() * 95 / 100).copied().unwrap_or(0.0)
}

/// What the cold starts of all rounds came to.
#[derive(Debug, Default)]
pub struct Cold {
    /// Static runtime, sandboxes made ahead, ms.
    pub stocked: Vec<f64>,
    /// The same without.
    pub bare_handed: Vec<f64>,
    /// The kernel calls alone.
    pub steps: Vec<f64>,
    /// A function in bash, sandboxes made ahead.
    pub bash: Vec<f64>,
    /// Its bootstrap with nothing around it.
    pub bash_own: Vec<f64>,
    /// Bursts.
    pub bursts: Vec<Burst>,
}

impl Cold {
    /// Lines for people, each with its promise, and the numbers for machines.
    pub fn report(&mut self) -> (String, serde_json::Value) {
        let of_bursts = |value: fn(&Burst) -> f64| {
            median(&mut self.bursts.iter().map(value).collect::<Vec<_>>())
        };
        let rate = of_bursts(|burst| burst.per_second);
        let idle = of_bursts(|burst| burst.idle_p95_ms);
        let busy = of_bursts(|burst| burst.busy_p95_ms);
        let stocked = median(&mut self.stocked);
        let bare_handed = median(&mut self.bare_handed);
        let (bash, bash_own) = (median(&mut self.bash), median(&mut self.bash_own));
        let steps = median(&mut self.steps);
        let steps_rate = 1000.0 / steps;
        let text = format!(
            "bare steps of a cold start: {steps:.2} ms\n\
             cold start, sandboxes made ahead: {stocked:.2} ms, {:.2} x the bare steps (promise: at most 0.75)\n\
             cold start, without: {bare_handed:.2} ms, {:.2} x (promise: at most 1.6)\n\
             cold start of bash: {bash:.2} ms, by itself {bash_own:.2} ms: {:.2} ms over (promise: at most 1)\n\
             burst of cold starts: {rate:.0} a second, {:.2} x the bare steps' rate (promise: at least 0.5)\n\
             warm invokes of another function, p95: {idle:.2} ms idle, {busy:.2} ms beside the burst: {:.1} x (promise: at most 3)\n",
            stocked / steps,
            bare_handed / steps,
            bash - bash_own,
            rate / steps_rate,
            busy / idle,
        );
        let json = serde_json::json!({
            "bare_steps_ms": steps,
            "cold_start_ms": stocked,
            "cold_start_without_stock_ms": bare_handed,
            "bash_cold_start_ms": bash,
            "bash_own_start_ms": bash_own,
            "burst_per_second": rate,
            "warm_p95_idle_ms": idle,
            "warm_p95_beside_burst_ms": busy,
        });
        (text, json)
    }
}
