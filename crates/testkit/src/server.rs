use crate::wait::wait_for;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What the server says when it answers requests, before its address.
const READY: &str = "lambfold is ready at ";
/// Until a server on a busy machine says that it is ready.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Where the server keeps its data.
#[derive(Debug, Clone)]
pub enum Data {
    /// Nowhere: gone with the server.
    Ephemeral,
    /// In this folder, which outlives it.
    Dir(PathBuf),
}

/// How to start a server.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// The built `lambfold`; in its own integration tests `env!("CARGO_BIN_EXE_lambfold")`.
    pub binary: PathBuf,
    /// Its data.
    pub data: Data,
    /// Arguments after those that this crate gives, for example `--region`.
    pub args: Vec<String>,
    /// Environment variables in addition to those of the test.
    pub env: Vec<(String, String)>,
}

impl ServerOptions {
    /// An ephemeral server with its defaults on a free port.
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        Self { binary: binary.into(), data: Data::Ephemeral, args: Vec::new(), env: Vec::new() }
    }

    /// With its data in `dir`.
    #[must_use]
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.data = Data::Dir(dir.into());
        self
    }

    /// With one more argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// With one more environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }
}

/// Why there is no server.
#[derive(Debug)]
pub enum StartError {
    /// The program was not executed.
    Execute {
        /// Which one.
        binary: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// It ended, or said nothing in time.
    NotReady {
        /// Its standard error until then.
        log: String,
    },
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Execute { binary, .. } => write!(f, "could not execute {}", binary.display()),
            Self::NotReady { log } => write!(f, "the server did not become ready; it said:\n{log}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Execute { source, .. } => Some(source),
            Self::NotReady { .. } => None,
        }
    }
}

/// A running `lambfold serve` on a free port of loopback. Dropping it stops it: first with
/// SIGTERM, so that it drains, then with SIGKILL.
#[derive(Debug)]
pub struct TempServer {
    child: Child,
    url: String,
    log: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl TempServer {
    /// Starts the server and returns when it has said that it is ready.
    ///
    /// # Errors
    /// When the program cannot be executed, ends, or is not ready within a minute.
    pub fn start(options: &ServerOptions) -> Result<Self, StartError> {
        let mut command = Command::new(&options.binary);
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        match &options.data {
            Data::Ephemeral => command.arg("--ephemeral"),
            Data::Dir(dir) => command.arg("--data-dir").arg(dir),
        };
        command
            .args(&options.args)
            .envs(options.env.iter().map(|(name, value)| (name, value)))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .map_err(|source| StartError::Execute { binary: options.binary.clone(), source })?;
        let log = Arc::new(Mutex::new(String::new()));
        let reader = child.stderr.take().map(|stderr| {
            let log = Arc::clone(&log);
            std::thread::spawn(move || collect(stderr, &log))
        });
        let mut server = Self { child, url: String::new(), log, reader };
        match server.wait_until_ready() {
            Some(url) => {
                server.url = url;
                Ok(server)
            }
            None => {
                server.kill();
                Err(StartError::NotReady { log: server.log() })
            }
        }
    }

    fn wait_until_ready(&mut self) -> Option<String> {
        let log = Arc::clone(&self.log);
        wait_for("the server's ready line", START_TIMEOUT, || {
            let ended = !matches!(self.child.try_wait(), Ok(None));
            match ready_url(&log.lock().unwrap_or_else(PoisonError::into_inner)) {
                Some(url) => Some(Some(url)),
                None if ended => Some(None),
                None => None,
            }
        })
        .ok()
        .flatten()
    }

    /// For example `http://127.0.0.1:41234`, without a closing slash.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Process id of the server.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to standard error until now.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A `Command` of a client that talks to this server and to nobody else: endpoint, region
    /// and any keys in its environment.
    pub fn client(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .env("AWS_ENDPOINT_URL", &self.url)
            .env("AWS_REGION", "us-east-1")
            .env("AWS_DEFAULT_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_PAGER", "")
            .env("NO_COLOR", "1");
        command
    }

    /// Ends it as a power cut would: SIGKILL, nothing is drained.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        self.reap();
    }

    /// Asks it to end (SIGTERM) and waits; after `timeout` it is killed. Returns its exit code
    /// when it ended by itself.
    pub fn stop(&mut self, timeout: Duration) -> Option<i32> {
        let asked = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .stderr(Stdio::null())
            .status();
        let ended = asked.ok().and_then(|_| {
            wait_for("the server's end", timeout, || self.child.try_wait().ok().flatten()).ok()
        });
        self.kill();
        ended.and_then(|status| status.code())
    }

    fn reap(&mut self) {
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            // The pipe may be held open by what the server left behind: a test must find that
            // in an assertion, not in a hang.
            let limit = Duration::from_secs(5);
            let closed = || reader.is_finished().then_some(());
            if wait_for("the end of the server's log", limit, closed).is_ok() {
                let _ = reader.join();
            }
        }
    }
}

impl Drop for TempServer {
    fn drop(&mut self) {
        if self.reader.is_some() {
            self.stop(Duration::from_secs(10));
        }
        if std::thread::panicking() {
            use std::io::Write as _;
            let _ = writeln!(std::io::stderr(), "--- log of the server ---\n{}", self.log());
        }
    }
}

fn collect(stderr: impl std::io::Read, log: &Mutex<String>) {
    for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push_str(&String::from_utf8_lossy(&line));
        log.push('\n');
    }
}

fn ready_url(log: &str) -> Option<String> {
    let line = log.lines().find_map(|line| Some(line.split_once(READY)?.1))?;
    let url = line.split_whitespace().next()?;
    Some(url.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_from_the_ready_line() {
        let log = "starting\nINFO lambfold is ready at http://127.0.0.1:41234/ (region x)\n";
        assert_eq!(ready_url(log).as_deref(), Some("http://127.0.0.1:41234"));
        assert_eq!(ready_url("starting\n"), None);
    }

    #[test]
    fn a_program_that_ends_is_an_error_with_what_it_said() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("lambfold");
        std::fs::write(&path, "#!/bin/sh\necho \"no room\" >&2\nexit 1\n").expect("write");
        set_executable(&path);
        match TempServer::start(&ServerOptions::new(&path)) {
            Err(StartError::NotReady { log }) => assert_eq!(log, "no room\n"),
            other => panic!("{other:?}"),
        }
        let missing = TempServer::start(&ServerOptions::new("/nonexistent/lambfold"));
        assert!(matches!(missing, Err(StartError::Execute { .. })));
    }

    #[test]
    fn a_server_is_found_stopped_and_killed() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("lambfold");
        let script = "#!/bin/sh\ntrap 'exit 7' TERM\necho \"lambfold is ready at http://127.0.0.1:1/\" >&2\nwhile :; do sleep 0.01; done\n";
        std::fs::write(&path, script).expect("write");
        set_executable(&path);
        let mut server = TempServer::start(&ServerOptions::new(&path)).expect("start");
        assert_eq!(server.url(), "http://127.0.0.1:1");
        assert_eq!(server.stop(Duration::from_secs(60)), Some(7));
        let mut server = TempServer::start(&ServerOptions::new(&path)).expect("start");
        server.kill();
    }

    fn set_executable(path: &Path) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("mode");
    }
}
