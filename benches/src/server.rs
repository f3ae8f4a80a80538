//! A server under measurement, the programs beside it, and what is deployed to it.

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A file system in memory, for the servers' folders.
const MEMORY: &str = "/dev/shm";

/// How a step of a benchmark ends.
pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A child that never outlives the benchmark.
#[derive(Debug)]
pub struct Guard(pub Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port on loopback that nobody listens at now.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Waits until somebody listens at `address`, for two minutes at most.
///
/// # Errors
/// When nobody does.
pub fn wait_for_port(address: &str) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(120);
    while std::net::TcpStream::connect(address).is_err() {
        if Instant::now() > until {
            return Err(format!("nothing listens at {address}").into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// A bare relay with so many workers of one program; its address. What has to live as long as it
/// is pushed to `keep`.
///
/// # Errors
/// When a program cannot be started, or the relay does not listen.
pub fn relay(relay: &Path, worker: &Path, workers: usize, keep: &mut Vec<Guard>) -> Result<String> {
    let port = free_port()?;
    let address = format!("127.0.0.1:{port}");
    keep.push(Guard(Command::new(relay).arg(port.to_string()).spawn()?));
    wait_for_port(&address)?;
    for _ in 0..workers {
        keep.push(Guard(Command::new(worker).env("AWS_LAMBDA_RUNTIME_API", &address).spawn()?));
    }
    Ok(address)
}

/// A `lambfold serve` with a data folder that goes with it.
#[derive(Debug)]
pub struct Server {
    process: Guard,
    lambfold: PathBuf,
    endpoint: String,
}

impl Server {
    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// When it ends before that.
    pub fn start(lambfold: &Path) -> Result<Server> {
        Server::start_with(lambfold, &[])
    }

    /// [`Server::start`] with further options of `serve`.
    ///
    /// # Errors
    /// As there.
    pub fn start_with(lambfold: &Path, more: &[&str]) -> Result<Server> {
        let mut command = Command::new(lambfold);
        command.args(["serve", "--ephemeral", "--listen", "127.0.0.1:0"]).args(more);
        // An ext4 without a journal passes over inodes that were deleted in the last minutes, one by one:
        // what an earlier round deleted makes each new file dearer, by a millisecond where it was much.
        if Path::new(MEMORY).is_dir() {
            command.env("TMPDIR", MEMORY);
        }
        command.stderr(Stdio::piped());
        let mut process = Guard(command.spawn()?);
        let endpoint = ready(&mut process.0)?;
        Ok(Server { process, lambfold: lambfold.to_owned(), endpoint })
    }

    /// host:port of its API.
    #[must_use]
    pub fn address(&self) -> String {
        self.endpoint.trim_start_matches("http://").trim_end_matches('/').to_owned()
    }

    /// The server's process; its children are the spawner and what that starts.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.process.0.id()
    }

    /// Runs a client command against it; what it prints.
    ///
    /// # Errors
    /// When the command fails.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        let output = Command::new(&self.lambfold)
            .args(args)
            .args(["--endpoint-url", &self.endpoint])
            .output()?;
        if output.status.success() {
            return Ok(String::from_utf8(output.stdout)?.trim().to_owned());
        }
        Err(format!("{args:?}: {}", String::from_utf8_lossy(&output.stderr)).into())
    }

    /// Deploys a folder as a function; `more` are further options.
    ///
    /// # Errors
    /// When it is refused.
    pub fn deploy(&self, folder: &Path, name: &str, handler: &str, more: &[&str]) -> Result<()> {
        let folder = folder.to_str().ok_or("a folder's name is no text")?;
        let args = [&["deploy", folder, "--name", name, "--handler", handler], more].concat();
        self.run(&args).map(drop)
    }
}

/// The address in the server's ready line; its later output is thrown away.
///
/// # Errors
/// When the server ends before it is ready.
pub fn ready(server: &mut Child) -> Result<String> {
    let mut lines = BufReader::new(server.stderr.take().ok_or("no stderr")?).lines();
    let endpoint = loop {
        let line = lines.next().ok_or("the server ended before it was ready")??;
        if let Some((_, address)) = line.split_once("ready at ") {
            break address.trim().to_owned();
        }
    };
    std::thread::spawn(move || lines.for_each(drop));
    Ok(endpoint)
}
