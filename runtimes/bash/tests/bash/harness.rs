use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use lambfold_runtime_client::scripted::{Call, Event, Post, Server};
use serde_json::Value;

pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A function's folder, the runtime in it, and its Runtime API.
pub(crate) struct Runtime {
    pub(crate) server: Server,
    pub(crate) folder: tempfile::TempDir,
    child: Child,
    log: Arc<(Mutex<String>, Condvar)>,
    count: usize,
}

pub(crate) struct Setup {
    folder: tempfile::TempDir,
    handler: String,
    variables: Vec<(String, String)>,
}

/// A function `function.handler` in `function.sh`.
pub(crate) fn function(text: &str) -> Setup {
    setup("function.handler").file("function.sh", text, 0o644)
}

pub(crate) fn setup(handler: &str) -> Setup {
    let folder = tempfile::tempdir().unwrap();
    Setup { folder, handler: handler.to_owned(), variables: Vec::new() }
}

impl Setup {
    pub(crate) fn file(self, name: &str, text: &str, mode: u32) -> Setup {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Setup {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn persist(self) -> Setup {
        self.variable("LAMBFOLD_BASH_PERSIST", "1")
    }

    pub(crate) fn start(self) -> Runtime {
        let server = Server::start().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bash-bootstrap"));
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("LANG", "C.UTF-8")
            .env("AWS_LAMBDA_RUNTIME_API", server.endpoint())
            .env("LAMBDA_TASK_ROOT", self.folder.path())
            .env("_HANDLER", &self.handler)
            .envs(self.variables)
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        let (mut reader, writer) = std::io::pipe().unwrap();
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        let child = command.spawn().unwrap();
        drop(command);
        let log = Arc::new((Mutex::new(String::new()), Condvar::new()));
        let of_thread = log.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(size @ 1..) = reader.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..size]).into_owned();
                of_thread.0.lock().unwrap().push_str(&text);
                of_thread.1.notify_all();
            }
        });
        Runtime { server, folder: self.folder, child, log, count: 0 }
    }
}

impl Runtime {
    pub(crate) fn post(&mut self, event: Event) -> Post {
        let id = event.request_id.clone();
        let Some(post) = self.server.invoke(event, SOON) else {
            panic!("no answer; the log: {}", self.log_so_far());
        };
        assert_eq!(post.request_id, id, "{}", post.text());
        post
    }

    /// Hands out an event and expects a response.
    pub(crate) fn invoke(&mut self, body: impl Into<Vec<u8>>) -> String {
        self.count += 1;
        let id = format!("id-{}", self.count);
        let post = self.post(Event::new(&id, body));
        assert_eq!(post.call, Call::Response, "{}", post.text());
        post.text()
    }

    /// Hands out an event and expects an error document.
    pub(crate) fn fail(&mut self, body: impl Into<Vec<u8>>) -> Value {
        self.count += 1;
        let id = format!("id-{}", self.count);
        let post = self.post(Event::new(&id, body));
        assert_eq!(post.call, Call::Error, "{}", post.text());
        serde_json::from_slice(&post.body).unwrap()
    }

    /// Expects an init error and a failing exit.
    pub(crate) fn init_error(&mut self) -> Value {
        let Some(post) = self.server.post(SOON) else {
            panic!("no init error; the log: {}", self.log_so_far());
        };
        assert_eq!(post.call, Call::InitError, "{}", post.text());
        assert!(!self.child.wait().unwrap().success());
        serde_json::from_slice(&post.body).unwrap()
    }

    pub(crate) fn log_so_far(&self) -> String {
        self.log.0.lock().unwrap().clone()
    }

    /// Waits until the log holds `text`.
    pub(crate) fn wait_log(&self, text: &str) -> String {
        let end = Instant::now() + SOON;
        let mut log = self.log.0.lock().unwrap();
        while !log.contains(text) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "`{text}` did not come; the log: {log}");
            log = self.log.1.wait_timeout(log, left).unwrap().0;
        }
        log.clone()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until a condition holds.
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < end, "{what} did not come true");
        thread::yield_now();
    }
}
