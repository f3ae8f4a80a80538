//! Runs the built-in runtimes and what they are compared with side by side, through the server,
//! interleaved, and prints medians and ratios.
//!
//! `bench-runtimes [--rounds 5] [--seconds 0.6] [--cold 6] [--bin-dir target/release]
//! [--bootstraps target/bootstraps] [--output target/bench]`
//!
//! All with one client over one kept connection. The floors are `bare-relay` with the echo runtime
//! as its worker, a bare FastCGI request to a `php-cgi`, the start of a `php-cgi` up to its first
//! answer; beside them the naive shell loop, a hello on the crate `lambda_runtime`, and PHP's
//! built-in web server behind a bootstrap that proxies to it.
#![allow(clippy::print_stdout, clippy::print_stderr)] // a command for people

use lambfold_benches::fastcgi::FastCgi;
use lambfold_benches::server::{Guard, Result, Server, relay};
use lambfold_benches::{Connection, each_option, header, median};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const HTTP_EVENT: &str = r#"{"httpMethod":"GET","path":"/hello","headers":{"Host":"example.org","Accept":"*/*","User-Agent":"bench"},"queryStringParameters":null,"requestContext":{"stage":"prod","identity":{"sourceIp":"127.0.0.1"}},"body":null,"isBase64Encoded":false}"#;
const PAGE: &str = "<?php echo 'Hello from ', $_SERVER['REQUEST_URI'];";
const PAGE_SAYS: &str = "Hello from /hello";
const SHELL: &str = "handler() { echo \"$1\"; }\n";
const KIB: usize = 1024;
const SIZES: [(usize, &str); 2] = [(64 * KIB, "64 KiB"), (KIB * KIB, "1 MiB")];
/// Programs in the folder of bootstraps: ours, and the one it is compared with.
const HELLOS: [&str; 2] = ["hello", "lambda-runtime-hello"];
/// Longer than the slowest of them takes.
const PATIENCE: Duration = Duration::from_secs(60);

struct Options {
    rounds: usize,
    seconds: f64,
    cold: usize,
    bin_dir: PathBuf,
    bootstraps: PathBuf,
    output: PathBuf,
}

/// A function of the server's.
struct Function {
    name: &'static str,
    folder: PathBuf,
    handler: &'static str,
    /// Further options of `deploy`.
    options: Vec<String>,
}

/// What one client sends over and over.
struct Load {
    name: String,
    address: String,
    request: Vec<u8>,
    /// What stands in each answer.
    says: &'static str,
}

impl Function {
    fn is_page(&self) -> bool {
        self.handler == "index.php"
    }

    /// What it is called on the server, with something behind it.
    fn id(&self, suffix: &str) -> String {
        let plain = self.name.chars().filter(char::is_ascii_alphanumeric);
        plain.chain(suffix.chars()).collect()
    }

    fn deploy(&self, server: &Server, suffix: &str) -> Result<()> {
        let mut options = vec!["--timeout", "60"];
        options.extend(self.options.iter().map(String::as_str));
        server.deploy(&self.folder, &self.id(suffix), self.handler, &options)
    }

    fn load(&self, server: &Server, suffix: &str) -> Load {
        let (event, says) =
            if self.is_page() { (HTTP_EVENT, PAGE_SAYS) } else { ("\"world\"", "world") };
        Load::new(self.name, &server.address(), &self.id(suffix), event, says)
    }
}

impl Load {
    fn new(name: &str, address: &str, id: &str, event: &str, says: &'static str) -> Load {
        let request = format!(
            "POST /2015-03-31/functions/{id}/invocations HTTP/1.1\r\nHost: localhost\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{event}",
            event.len()
        );
        Load { name: name.to_owned(), address: address.to_owned(), request: request.into(), says }
    }

    fn ask(&self, connection: &mut Connection) -> Result<f64> {
        let begin = Instant::now();
        let (head, body) =
            connection.call(&self.request).map_err(|error| format!("{}: {error}", self.name))?;
        let took = micros(begin);
        let is_error = header(head, "x-amz-function-error").is_some();
        if is_error || !body.windows(self.says.len()).any(|part| part == self.says.as_bytes()) {
            let shown = String::from_utf8_lossy(&body[..body.len().min(KIB)]).into_owned();
            return Err(format!("{}: {shown}", self.name).into());
        }
        Ok(took)
    }

    fn open(&self) -> Result<Connection> {
        Ok(Connection::open(&self.address)?.give_up_after(PATIENCE)?)
    }

    /// The median of as many requests as there is time for.
    fn run(&self, seconds: f64) -> Result<f64> {
        let mut connection = self.open()?;
        let (begin, mut times) = (Instant::now(), Vec::new());
        while times.len() < 3 || begin.elapsed().as_secs_f64() < seconds {
            times.push(self.ask(&mut connection)?);
        }
        Ok(median(&mut times))
    }
}

fn micros(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e6
}

type Times = BTreeMap<String, Vec<f64>>;

fn main() -> Result<()> {
    let options = options()?;
    let work = tempfile::tempdir()?;
    let server = Server::start(&options.bin_dir.join("lambfold"))?;
    let functions = functions(&options, &server, work.path())?;
    let warm = warm(&options, &server, &functions, work.path())?;
    let cold = cold(&options, &server, &functions, work.path())?;
    drop(server);
    let mut spawn = Times::new();
    for _ in 0..options.rounds * 20 {
        for name in HELLOS {
            let took = until_next(&options.bootstraps.join(name))?;
            spawn.entry(name.to_owned()).or_default().push(took);
        }
    }
    report(&options, warm, cold, spawn)
}

/// Programs, layers and folders of everything that is measured.
fn functions(options: &Options, server: &Server, work: &Path) -> Result<Vec<Function>> {
    let folder =
        |name: &str, bootstrap: Option<&Path>, file: &str, text: &str| -> Result<PathBuf> {
            let folder = work.join(name);
            fs::create_dir(&folder)?;
            if let Some(program) = bootstrap {
                fs::copy(program, folder.join("bootstrap"))
                    .map_err(|error| format!("{}: {error}", program.display()))?;
            }
            fs::write(folder.join(file), text)?;
            Ok(folder)
        };
    let layer = |runtime: &str| -> Result<Vec<String>> {
        let zip = work.join(format!("{runtime}.zip"));
        let zip = zip.to_str().ok_or("a folder's name is no text")?;
        let output = Command::new(options.bin_dir.join("lambfold"))
            .args(["layer", "build", runtime, "-o", zip])
            .env("LAMBFOLD_BOOTSTRAPS", &options.bootstraps)
            .output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        Ok(vec!["--layer".to_owned(), server.run(&["layer", "publish", zip, "--name", runtime])?])
    };
    let own = |name: &str| options.bootstraps.join(name);
    let built = |name: &str| options.bin_dir.join(name);
    let (bash, php) = (layer("bash")?, layer("php")?);
    let persistence = ["--env".to_owned(), "LAMBFOLD_BASH_PERSIST=1".to_owned()];
    let shell = folder("shell", None, "function.sh", SHELL)?;
    let naive = Path::new("runtimes/bash/benches/naive.sh");
    let naive = folder("naive", Some(naive), "function.sh", SHELL)?;
    fs::write(work.join("index.php"), PAGE)?;
    let pages = folder("pages", None, "index.php", PAGE)?;
    let proxied = folder("proxied", Some(&built("php-server-bootstrap")), "index.php", PAGE)?;
    let echo = folder("echo", Some(&built("echo-runtime-static")), "empty", "")?;
    let hello = folder("hello", Some(&own(HELLOS[0])), "empty", "")?;
    let other = folder("other", Some(&own(HELLOS[1])), "empty", "")?;
    let function = |name, folder, handler, options| Function { name, folder, handler, options };
    let functions = vec![
        function("echo", echo, "none", Vec::new()),
        function("hello", hello, "none", Vec::new()),
        function("lambda-runtime-hello", other, "none", Vec::new()),
        function("bash", shell.clone(), "function.handler", bash.clone()),
        function("bash, persistent", shell, "function.handler", [&bash[..], &persistence].concat()),
        function("naive loop", naive, "function.handler", Vec::new()),
        function("php", pages, "index.php", php.clone()),
        function("php -S, proxied", proxied, "index.php", php),
    ];
    for function in &functions {
        function.deploy(server, "")?;
    }
    Ok(functions)
}

fn warm(options: &Options, server: &Server, functions: &[Function], work: &Path) -> Result<Times> {
    let mut keep: Vec<Guard> = Vec::new();
    let echo = options.bin_dir.join("echo-runtime");
    let relay = relay(&options.bin_dir.join("bare-relay"), &echo, 1, &mut keep)?;
    let mut loads = vec![Load::new("relay", &relay, "any", "\"world\"", "world")];
    loads.push(Load::new("relay, event of a page", &relay, "any", HTTP_EVENT, "httpMethod"));
    for function in functions {
        loads.push(function.load(server, ""));
        if function.name.starts_with("bash") {
            for (size, label) in SIZES {
                let name = format!("{}, {label}", function.name);
                let event = format!("\"{}\"", "x".repeat(size - 2));
                loads.push(Load::new(&name, &server.address(), &function.id(""), &event, "xxxx"));
            }
        }
    }
    let mut php = FastCgi::start(work)?;
    // PHP closes a connection that says nothing at first, and keeps one that has had a request.
    php.ask()?;
    for load in &loads {
        load.run(0.2)?;
    }
    let mut times = Times::new();
    for round in 0..options.rounds {
        for at in 0..loads.len() {
            // a different order each round, so that no one always follows the same neighbour
            let load = &loads[(at + round) % loads.len()];
            times.entry(load.name.clone()).or_default().push(load.run(options.seconds)?);
        }
        let (begin, mut bare) = (Instant::now(), Vec::new());
        while begin.elapsed().as_secs_f64() < options.seconds {
            let one = Instant::now();
            php.ask()?;
            bare.push(micros(one));
        }
        times.entry("bare FastCGI".to_owned()).or_default().push(median(&mut bare));
        eprintln!("warm: round {} of {} done", round + 1, options.rounds);
    }
    Ok(times)
}

/// From a request for a function that has no environment yet to its answer, in microseconds.
fn cold(options: &Options, server: &Server, functions: &[Function], work: &Path) -> Result<Times> {
    let mut times = Times::new();
    for round in 0..options.rounds {
        for at in 0..options.cold {
            let suffix = format!("-{round}-{at}");
            for function in functions {
                function.deploy(server, &suffix)?;
                let load = function.load(server, &suffix);
                let mut connection = load.open()?;
                // what is made ahead is made between starts, as between a user's
                std::thread::sleep(Duration::from_millis(20));
                let took = load.ask(&mut connection)?;
                times.entry(load.name.clone()).or_default().push(took);
            }
            let begin = Instant::now();
            let mut php = FastCgi::start(work)?;
            let answer = String::from_utf8_lossy(php.ask()?).into_owned();
            let took = micros(begin);
            if !answer.contains(PAGE_SAYS) {
                return Err(format!("the bare PHP answers {answer}").into());
            }
            times.entry("bare PHP".to_owned()).or_default().push(took);
        }
        eprintln!("cold: round {} of {} done", round + 1, options.rounds);
    }
    Ok(times)
}

/// From the start of a program to its first request for an event.
fn until_next(program: &Path) -> Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut command = Command::new(program);
    command.env_clear().stdin(Stdio::null()).stderr(Stdio::null());
    for (name, value) in [
        ("AWS_LAMBDA_FUNCTION_NAME", "hello"),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "group"),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "stream"),
    ] {
        command.env(name, value);
    }
    command.env("AWS_LAMBDA_RUNTIME_API", listener.local_addr()?.to_string());
    let begin = Instant::now();
    let _running = Guard(command.spawn().map_err(|e| format!("{}: {e}", program.display()))?);
    let (mut stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    let mut part = [0; KIB];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut part)? {
            0 => return Err(format!("{} asked for nothing", program.display()).into()),
            size => request.extend_from_slice(&part[..size]),
        }
    }
    let took = micros(begin);
    match request.starts_with(b"GET /2018-06-01/runtime/invocation/next ") {
        true => Ok(took),
        false => Err(format!("{} asked for something else", program.display()).into()),
    }
}

fn report(options: &Options, warm: Times, cold: Times, spawn: Times) -> Result<()> {
    let middle = |times: Times| -> BTreeMap<String, f64> {
        times.into_iter().map(|(name, mut times)| (name, median(&mut times))).collect()
    };
    let (warm, cold, spawn) = (middle(warm), middle(cold), middle(spawn));
    let at =
        |times: &BTreeMap<String, f64>, name: &str| times.get(name).copied().unwrap_or(f64::NAN);
    let of = |name: &str| at(&warm, name);
    let mut table = String::new();
    writeln!(table, "{:<28} {:>12} {:>12}", "medians, µs", "warm", "cold")?;
    let shown = |value: Option<&f64>| value.map_or("-".to_owned(), |value| format!("{value:.1}"));
    let names: BTreeSet<&String> = warm.keys().chain(cold.keys()).collect();
    for name in names {
        writeln!(table, "{name:<28} {:>12} {:>12}", shown(warm.get(name)), shown(cold.get(name)))?;
    }
    let naive = of("naive loop");
    writeln!(
        table,
        "bash: {:.0} x as fast as the naive loop, {:.0} x with persistence (promise: 30 and 100)",
        naive / of("bash"),
        naive / of("bash, persistent")
    )?;
    for name in ["bash", "bash, persistent"] {
        let (small, large) = (of(&format!("{name}, 64 KiB")), of(&format!("{name}, 1 MiB")));
        let ratio = large / small;
        writeln!(table, "{name}: 1 MiB takes {ratio:.1} x 64 KiB (promise: at most 16)")?;
    }
    let floor = of("relay, event of a page") + 2.0 * of("bare FastCGI");
    let php = of("php");
    writeln!(
        table,
        "php: warm {php:.1} µs, the relay's and two FastCGI requests {floor:.1} µs: {:.2} (promise: \
         at most 1); {:.1} µs over an echo through the same server",
        php / floor,
        php - of("echo")
    )?;
    let (start, bare) = (at(&cold, "php"), at(&cold, "bare PHP"));
    writeln!(
        table,
        "php: cold {:.2} ms, a bare PHP's start {:.2} ms: {:.2} x (promise: at most 1.3); without \
         what an echo's start takes {:.2} x",
        start / 1e3,
        bare / 1e3,
        start / bare,
        (start - at(&cold, "echo")) / bare
    )?;
    let ratio = |times: &BTreeMap<String, f64>| at(times, HELLOS[0]) / at(times, HELLOS[1]);
    writeln!(table, "hello: warm {:.2} of lambda_runtime's (promise: at most 1)", ratio(&warm))?;
    writeln!(
        table,
        "hello: first `next` {:.0} µs after its start, lambda_runtime's {:.0} µs: {:.2} (promise: at most 0.8)",
        at(&spawn, HELLOS[0]),
        at(&spawn, HELLOS[1]),
        ratio(&spawn)
    )?;
    print!("{table}");
    fs::create_dir_all(&options.output)?;
    let json = serde_json::json!({
        "rounds": options.rounds, "warm_us": warm, "cold_us": cold, "until_next_us": spawn,
    });
    fs::write(options.output.join("runtimes.json"), serde_json::to_vec_pretty(&json)?)?;
    Ok(())
}

fn options() -> Result<Options> {
    let mut options = Options {
        rounds: 5,
        seconds: 0.6,
        cold: 4,
        bin_dir: "target/release".into(),
        bootstraps: "target/bootstraps".into(),
        output: "target/bench".into(),
    };
    each_option(|name, value| {
        match name {
            "--rounds" => options.rounds = value.parse()?,
            "--seconds" => options.seconds = value.parse()?,
            "--cold" => options.cold = value.parse()?,
            "--bin-dir" => options.bin_dir = value.into(),
            "--bootstraps" => options.bootstraps = value.into(),
            "--output" => options.output = value.into(),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(options)
}
