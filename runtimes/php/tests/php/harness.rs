use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lambfold_runtime_client::scripted::{Call, Event, Post, Server};
use serde_json::{Value, json};

pub(crate) const SOON: Duration = Duration::from_secs(30);

/// A function's folder, the runtime in it, and its Runtime API.
pub(crate) struct Runtime {
    pub(crate) server: Server,
    folder: tempfile::TempDir,
    child: Child,
    log: Arc<(Mutex<String>, Condvar)>,
    count: usize,
}

pub(crate) struct Setup {
    folder: tempfile::TempDir,
    handler: String,
    variables: Vec<(String, String)>,
}

/// A function `index.php`.
pub(crate) fn index(text: &str) -> Setup {
    setup("index.php").file("index.php", text)
}

pub(crate) fn setup(handler: &str) -> Setup {
    let folder = tempfile::tempdir().unwrap();
    Setup { folder, handler: handler.to_owned(), variables: Vec::new() }
}

impl Setup {
    pub(crate) fn file(self, name: &str, text: &str) -> Setup {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        self
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Setup {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn start(self) -> Runtime {
        let server = Server::start().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_php-bootstrap"));
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

/// A request of API Gateway's format 1.0; `more` overrides members.
pub(crate) fn request(method: &str, path: &str, more: Value) -> Value {
    let mut event = json!({
        "httpMethod": method, "path": path, "headers": {"Host": "example.org"},
        "multiValueHeaders": null, "queryStringParameters": null,
        "requestContext": {"stage": "prod", "identity": {"sourceIp": "203.0.113.9"}},
        "body": null, "isBase64Encoded": false});
    for (name, value) in more.as_object().into_iter().flatten() {
        event[name] = value.clone();
    }
    event
}

pub(crate) fn get(path: &str) -> Value {
    request("GET", path, json!({}))
}

/// What the sender of an HTTP event would show to the client.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) status: u64,
    pub(crate) headers: Value,
    pub(crate) body: Vec<u8>,
    pub(crate) answer: Value,
}

impl Shown {
    fn of(answer: Value) -> Shown {
        let text = answer["body"].as_str().unwrap();
        let body = match answer["isBase64Encoded"].as_bool().unwrap() {
            true => STANDARD.decode(text).unwrap(),
            false => text.as_bytes().to_vec(),
        };
        let status = answer["statusCode"].as_u64().unwrap();
        Shown { status, headers: answer["headers"].clone(), body, answer }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
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

    pub(crate) fn event(&mut self, body: &Value) -> Event {
        self.count += 1;
        Event::new(&format!("id-{}", self.count), body.to_string())
    }

    /// Hands out an event and expects a response.
    pub(crate) fn invoke(&mut self, body: &Value) -> Value {
        let event = self.event(body);
        let post = self.post(event);
        assert_eq!(post.call, Call::Response, "{}\n{}", post.text(), self.log_so_far());
        serde_json::from_slice(&post.body).unwrap()
    }

    /// Hands out an HTTP event and expects an answer.
    pub(crate) fn http(&mut self, event: &Value) -> Shown {
        Shown::of(self.invoke(event))
    }

    /// Hands out an event and expects an error document.
    pub(crate) fn fail(&mut self, body: &Value) -> Value {
        let event = self.event(body);
        self.fail_with(event)
    }

    pub(crate) fn fail_with(&mut self, event: Event) -> Value {
        let post = self.post(event);
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

    /// Waits until the runtime asks for the next event: whatever it does after one is done then.
    pub(crate) fn wait_idle(&self) {
        assert!(self.server.wait_waiting(1, SOON), "the log: {}", self.log_so_far());
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Where the runtime keeps its own files.
    pub(crate) fn home(&self) -> PathBuf {
        // It knows no TMPDIR.
        PathBuf::from(format!("/tmp/.lambfold-php-{}", self.child.id()))
    }

    /// The PHPs that run now.
    pub(crate) fn children(&self) -> Vec<i32> {
        let folder = format!("/proc/{}/task", self.child.id());
        let threads = fs::read_dir(folder).into_iter().flatten().flatten();
        threads
            .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
            .flat_map(|list| {
                list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<_>>()
            })
            .collect()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        let children = self.children();
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Nobody else ends them: that is the platform's, which is not there.
        for child in children {
            if let Some(child) = rustix::process::Pid::from_raw(child) {
                let _ = rustix::process::kill_process_group(child, rustix::process::Signal::KILL);
            }
        }
        let _ = fs::remove_dir_all(self.home());
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
