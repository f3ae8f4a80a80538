//! A bootstrap with one mistake at a time: CONFORM_FAULT names the case of `lambfold conform` that
//! it fails; without it, it makes none. Its function is the conform function of docs/conform.md.
//! std only, but for one signal handler.
#![allow(clippy::print_stderr)] // its output is what the log is tested with

mod client;
mod function;

use client::{Client, Posted};
use function::{Answer, Invocation};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// The fault of this process, empty for none.
pub(crate) fn fault() -> &'static str {
    static FAULT: OnceLock<String> = OnceLock::new();
    FAULT.get_or_init(|| std::env::var("CONFORM_FAULT").unwrap_or_default())
}

pub(crate) fn has(name: &str) -> bool {
    fault() == name
}

/// Whether a handler runs.
static BUSY: AtomicBool = AtomicBool::new(false);
/// The id of the latest event, for a worker that keeps it in the wrong place.
static LATEST: Mutex<String> = Mutex::new(String::new());
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn main() {
    if has("start") {
        std::thread::sleep(Duration::from_secs(3600));
    }
    if matches!(fault(), "sigterm-idle" | "sigterm-busy") {
        ignore_sigterm();
    }
    let mut client = Client::new();
    let missing =
        std::env::var("_HANDLER").is_ok_and(|h| h.starts_with("lambfold-conform-missing"));
    if missing || std::env::var("LAMBFOLD_CONFORM_INIT").as_deref() == Ok("error") {
        init_error(&mut client, missing);
    }
    if has("next-freeze") {
        // Its clock runs from here: the thread itself may run for the first time after a freeze.
        let started = Instant::now();
        std::thread::spawn(move || watchdog(started));
    }
    let limit = std::env::var("AWS_LAMBDA_MAX_CONCURRENCY").ok().and_then(|n| n.parse().ok());
    let Some(limit) = limit else { return work(client, false) };
    let count: usize = if has("concurrency-limit") { limit + 1 } else { limit };
    let workers: Vec<_> =
        (0..count).map(|_| std::thread::spawn(|| work(Client::new(), true))).collect();
    for worker in workers {
        let _ = worker.join();
    }
}

fn init_error(client: &mut Client, missing: bool) -> ! {
    if has("init-error") && !missing || has("init-handler-missing") && missing {
        std::process::exit(1);
    }
    let body = json!({ "errorMessage": "cannot be loaded", "errorType": "Puppet.Init" });
    let body = if has("init-error-shape") { "cannot".to_owned() } else { body.to_string() };
    loop {
        let posted = client.post("init/error", body.as_bytes(), true);
        if has("init-error-500") && posted.status != 202 {
            std::thread::sleep(Duration::from_millis(50));
            continue;
        }
        if has("init-error-alone") && posted.status == 202 {
            let _waiting = Client::new().ask();
            std::thread::sleep(Duration::from_millis(300));
        }
        std::process::exit(i32::from(!has("init-error-exit")));
    }
}

/// Ends the process when time has jumped since `last`.
fn watchdog(mut last: Instant) {
    loop {
        std::thread::sleep(Duration::from_millis(20));
        if last.elapsed() > Duration::from_millis(600) {
            std::process::exit(1);
        }
        last = Instant::now();
    }
}

fn ignore_sigterm() {
    let (installed, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let kind = tokio::signal::unix::SignalKind::terminate();
            let mut signals = tokio::signal::unix::signal(kind).expect("a handler");
            installed.send(()).expect("somebody waits");
            loop {
                signals.recv().await;
                if has("sigterm-busy") != BUSY.load(Ordering::SeqCst) {
                    std::process::exit(143);
                }
            }
        });
    });
    wait.recv().expect("a handler");
}

fn work(mut client: Client, concurrent: bool) {
    let mut events = 0;
    let mut leaked = Vec::new();
    let mut stale = function::Stale::default();
    loop {
        let invocation = client.next(concurrent);
        BUSY.store(true, Ordering::SeqCst);
        events += 1;
        LATEST.lock().expect("a lock").clone_from(&invocation.id);
        match fault() {
            "steady-memory" => leaked.push(vec![1_u8; 64 << 10]),
            "steady-descriptors" => {
                if let Ok(file) = std::fs::File::open("/dev/null") {
                    // Never closed.
                    let _: std::os::fd::RawFd = std::os::fd::IntoRawFd::into_raw_fd(file);
                }
            }
            "steady-processes" if events % 5 == 0 => {
                let _never_waited_for = std::process::Command::new("/bin/true").spawn();
            }
            _ => {}
        }
        let guard = has("concurrency-independent").then(|| ONE_AT_A_TIME.lock().expect("a lock"));
        let answer = function::call(&invocation, &mut stale);
        let mut id = invocation.id.clone();
        if has("concurrency-ids") && invocation.word().as_deref() == Some("sleep") {
            id.clone_from(&LATEST.lock().expect("a lock"));
        }
        if has("response-id") {
            id = id.to_ascii_lowercase();
        }
        answer_event(&mut client, &id, &invocation, &answer, concurrent);
        // Not before the answer is out: another one could pass it.
        drop(guard);
        BUSY.store(false, Ordering::SeqCst);
    }
}

fn answer_event(
    client: &mut Client,
    id: &str,
    invocation: &Invocation,
    answer: &Answer,
    concurrent: bool,
) {
    let slash = if has("response-request-line") { "/" } else { "" };
    let response = format!("invocation/{id}/response{slash}");
    match answer {
        Answer::Response(body) => {
            if has("response-before-next") && !concurrent && invocation.word().is_none() {
                Client::new().ask().first_byte();
            }
            heed(&client.post(&response, body, false));
            if has("response-once") && !concurrent {
                let _ = client.post(&response, body, false);
            }
        }
        Answer::Error(_) if has("error-posted") => {
            let _ = client.post(&response, b"null", false);
        }
        Answer::Error(body) => {
            let _ = client.post(&format!("invocation/{id}/error"), body.as_bytes(), true);
            if has("error-alone") {
                let _ = client.post(&response, b"null", false);
            }
            if has("error-next") {
                std::process::exit(1);
            }
        }
        Answer::Stream { parts, delay, error } => {
            client.stream(&response, parts, *delay, error.as_deref());
            if has("stream-next") {
                std::process::exit(1);
            }
        }
    }
}

/// What the status of a post makes of this process.
fn heed(posted: &Posted) {
    let ends = match posted.status {
        500.. => !has("response-500"),
        413 => has("response-413") && !posted.closed,
        410 => has("concurrency-410"),
        403 => has("response-403"),
        400 => has("response-400"),
        _ => posted.broken && has("response-413-early"),
    };
    if ends || posted.broken && has("response-413-early") {
        std::process::exit(1);
    }
}
