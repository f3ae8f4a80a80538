//! What a page costs: the PHP runtime, beside what it stands on (the Runtime API with a handler
//! that does nothing, and a bare FastCGI request on a kept connection) and beside PHP's built-in web
//! server behind a bootstrap that proxies to it; in one run, in turns. Prints a table and writes
//! `target/bench/php.json`.
//!
//! The static bootstrap of `tools/bootstraps` is taken if it is there.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lambfold_runtime_client::Client;
use lambfold_runtime_client::scripted::{Call, Event, Server};

const LIMIT: Duration = Duration::from_secs(60);
const ROUNDS: usize = 5;
/// In a round.
const STARTS: usize = 6;
const EVENTS: usize = 600;
const PAGE: &str = "<?php echo 'Hello from ', $_SERVER['REQUEST_URI'];";
const EVENT: &str = r#"{"httpMethod":"GET","path":"/hello","headers":{"Host":"example.org","Accept":"*/*","User-Agent":"bench"},"queryStringParameters":null,"requestContext":{"stage":"prod","identity":{"sourceIp":"127.0.0.1"}},"body":null,"isBase64Encoded":false}"#;

/// Something that is killed when nobody needs it any more.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A PHP that is spoken to directly.
struct FastCgi {
    _php: Killed,
    stream: UnixStream,
    request: Vec<u8>,
}

fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[1, kind, 0, 1, high, low, 0, 0], content].concat()
}

impl FastCgi {
    fn start(folder: &Path) -> FastCgi {
        let path = folder.join("bare.sock");
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let stream = UnixStream::connect(&path).unwrap();
        let mut command = Command::new("php-cgi");
        command.stdin(Stdio::from(OwnedFd::from(listener))).env("PHP_FCGI_MAX_REQUESTS", "0");
        let php = Killed(command.spawn().unwrap());
        let file = folder.join("index.php").display().to_string();
        let mut params = Vec::new();
        for (name, value) in [
            ("SCRIPT_FILENAME", file.as_str()),
            ("SCRIPT_NAME", "/index.php"),
            ("REQUEST_URI", "/hello"),
            ("REQUEST_METHOD", "GET"),
            ("QUERY_STRING", ""),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("GATEWAY_INTERFACE", "CGI/1.1"),
            ("REDIRECT_STATUS", "200"),
        ] {
            params.extend([name.len() as u8, value.len() as u8]);
            params.extend_from_slice(name.as_bytes());
            params.extend_from_slice(value.as_bytes());
        }
        let parts = [
            record(1, &[0, 1, 1, 0, 0, 0, 0, 0]),
            record(4, &params),
            record(4, b""),
            record(5, b""),
        ];
        FastCgi { _php: php, stream, request: parts.concat() }
    }

    fn ask(&mut self) {
        self.stream.write_all(&self.request).unwrap();
        let mut answer = Vec::new();
        let mut part = [0; 4096];
        // The record of the end is 16 bytes, the last ones.
        while answer.len() < 16 || answer[answer.len() - 15] != 3 {
            let size = self.stream.read(&mut part).unwrap();
            assert!(size > 0, "PHP has closed the connection");
            answer.extend_from_slice(&part[..size]);
        }
        assert!(String::from_utf8_lossy(&answer).contains("Hello from /hello"));
    }
}

/// A runtime in a thread that answers each event as the function says.
fn in_a_thread(endpoint: String, mut answer: impl FnMut() -> Vec<u8> + Send + 'static) {
    std::thread::spawn(move || {
        let mut client = Client::new(endpoint).unwrap();
        while let Ok(event) = client.next() {
            let _ = client.respond(event.request_id(), "application/json", &answer());
        }
    });
}

/// PHP's own web server, and the least that a bootstrap in front of it has to do.
fn built_in_server(folder: &Path, endpoint: String) -> Killed {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = Command::new("php");
    command.args(["-S", &free.to_string(), "index.php"]).current_dir(folder);
    let php = Killed(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    in_a_thread(endpoint, move || {
        // It takes one request a connection, and a moment to be there.
        let mut stream = loop {
            match TcpStream::connect(free) {
                Ok(stream) => break stream,
                Err(_) => std::thread::sleep(Duration::from_micros(200)),
            }
        };
        stream.write_all(b"GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        format!("{{\"statusCode\":200,\"body\":\"{body}\"}}").into_bytes()
    });
    php
}

fn runtime(program: &Path, folder: &Path, endpoint: &str) -> Killed {
    let mut command = Command::new(program);
    command.env("AWS_LAMBDA_RUNTIME_API", endpoint).env("LAMBDA_TASK_ROOT", folder);
    command.env("_HANDLER", "index.php").current_dir(folder).stdin(Stdio::null());
    Killed(command.spawn().unwrap())
}

fn ask(server: &Server, expected: &str) {
    let post = server.invoke(Event::new("id", EVENT), LIMIT).unwrap();
    assert_eq!(post.call, Call::Response, "{}", post.text());
    assert!(post.text().contains(expected), "{}", post.text());
}

fn timed(times: &mut Vec<Duration>, act: impl FnOnce()) {
    let begin = Instant::now();
    act();
    times.push(begin.elapsed());
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e6
}

const NAMES: [&str; 4] =
    ["Runtime API alone", "bare FastCGI", "PHP runtime", "built-in server, proxied"];
const HELLO: &str = "Hello from /hello";

/// Starts one of the contenders and asks it once; the time is that until the first answer.
fn cold(which: usize, program: &Path, folder: &Path, times: &mut Vec<Duration>) {
    let server = Server::start().unwrap();
    let endpoint = server.endpoint().to_owned();
    match which {
        0 => {}
        1 => timed(times, || FastCgi::start(folder).ask()),
        2 => {
            let begin = Instant::now();
            let running = runtime(program, folder, &endpoint);
            ask(&server, HELLO);
            times.push(begin.elapsed());
            drop_family(running);
        }
        _ => {
            let begin = Instant::now();
            let _php = built_in_server(folder, endpoint);
            ask(&server, HELLO);
            times.push(begin.elapsed());
        }
    }
}

fn warm(which: usize, program: &Path, folder: &Path, times: &mut Vec<Duration>) {
    let server = Server::start().unwrap();
    let endpoint = server.endpoint().to_owned();
    let through = |expected: &str, times: &mut Vec<Duration>| {
        (0..50).for_each(|_| ask(&server, expected));
        (0..EVENTS).for_each(|_| timed(times, || ask(&server, expected)));
    };
    match which {
        0 => {
            in_a_thread(endpoint, || b"{\"statusCode\":200}".to_vec());
            through("200", times);
        }
        1 => {
            let mut php = FastCgi::start(folder);
            (0..50).for_each(|_| php.ask());
            (0..EVENTS).for_each(|_| timed(times, || php.ask()));
        }
        2 => {
            let running = runtime(program, folder, &endpoint);
            through(HELLO, times);
            drop_family(running);
        }
        _ => {
            let _php = built_in_server(folder, endpoint);
            through(HELLO, times);
        }
    }
}

/// The runtime's PHP is the platform's to end, which is not there.
fn drop_family(running: Killed) {
    let pid = running.0.id();
    let children = format!("/proc/{pid}/task/{pid}/children");
    let children = std::fs::read_to_string(children).unwrap_or_default();
    drop(running);
    for child in children.split_whitespace() {
        if let Some(child) = rustix::process::Pid::from_raw(child.parse().unwrap()) {
            let _ = rustix::process::kill_process(child, rustix::process::Signal::KILL);
        }
    }
    let _ = std::fs::remove_dir_all(std::env::temp_dir().join(format!(".lambfold-php-{pid}")));
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("index.php"), PAGE).unwrap();
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    let static_program = target.join("bootstraps/php-bootstrap");
    let program = match static_program.exists() {
        true => static_program,
        false => PathBuf::from(env!("CARGO_BIN_EXE_php-bootstrap")),
    };
    let (mut starts, mut events) = (vec![Vec::new(); 4], vec![Vec::new(); 4]);
    for _ in 0..ROUNDS {
        for _ in 0..STARTS {
            (0..4).for_each(|which| cold(which, &program, folder.path(), &mut starts[which]));
        }
        (0..4).for_each(|which| warm(which, &program, folder.path(), &mut events[which]));
    }
    println!("medians in microseconds, {ROUNDS} rounds in turns; start: until the first answer");
    println!("{:<26}{:>10}{:>10}", "", "start", "warm");
    let mut rows = Vec::new();
    for (which, name) in NAMES.iter().enumerate() {
        let start = (!starts[which].is_empty()).then(|| median(&mut starts[which]));
        let warm = median(&mut events[which]);
        let shown = start.map_or("-".to_owned(), |start| format!("{start:.0}"));
        println!("{name:<26}{shown:>10}{warm:>10.0}");
        rows.push((start, warm));
    }
    let floor = rows[0].1 + rows[1].1;
    println!(
        "PHP runtime: warm {:.2} of the Runtime API and one FastCGI request ({floor:.0}); start {:.2} of bare PHP's",
        rows[2].1 / floor,
        rows[2].0.unwrap() / rows[1].0.unwrap()
    );
    let json = serde_json::json!({
        "names": NAMES, "start_us": rows.iter().map(|row| row.0).collect::<Vec<_>>(),
        "warm_us": rows.iter().map(|row| row.1).collect::<Vec<_>>()});
    std::fs::create_dir_all(target.join("bench")).unwrap();
    std::fs::write(target.join("bench/php.json"), format!("{json:#}\n")).unwrap();
}
