//! A server of the test's own, and a small client of the AWS API.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lambfold_testkit::{ServerOptions, TempServer};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

/// Where cargo put this suite's programs and the server.
pub(crate) fn bin(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let path = own.parent().unwrap().parent().unwrap().join(name);
    assert!(path.exists(), "{} is not built: run `cargo build --workspace`", path.display());
    path
}

/// The built `lambfold`.
pub(crate) fn lambfold() -> PathBuf {
    bin("lambfold")
}

/// A server on a free port with a temporary data folder.
pub(crate) fn server() -> TempServer {
    TempServer::start(&ServerOptions::new(lambfold())).unwrap()
}

/// What an invocation gave.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        let text = String::from_utf8_lossy(&self.body);
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("not JSON ({e}): {text}"))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The decoded `X-Amz-Log-Result`.
    pub(crate) fn log(&self) -> String {
        let encoded = self.header("x-amz-log-result").expect("X-Amz-Log-Result");
        String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap()
    }
}

/// A client of one endpoint.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) endpoint: String,
    agent: ureq::Agent,
}

impl Api {
    pub(crate) fn new(endpoint: &str) -> Self {
        let config = ureq::Agent::config_builder().http_status_as_error(false).build();
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        Self { endpoint, agent: config.into() }
    }

    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Reply, ureq::Error> {
        let mut request =
            ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.endpoint));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).map_err(ureq::Error::from)?;
        let mut response = self.agent.run(request)?;
        let headers = response.headers().iter().map(|(name, value)| {
            (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        });
        let headers = headers.collect();
        let status = response.status().as_u16();
        let body = response.body_mut().with_config().limit(64 << 20).read_to_vec()?;
        Ok(Reply { status, headers, body })
    }

    pub(crate) fn call(&self, method: &str, path: &str, body: &Value) -> Reply {
        let headers = [("content-type", "application/json")];
        self.send(method, path, &headers, body.to_string().as_bytes()).unwrap()
    }

    /// CreateFunction with the given bootstrap; `more` overrides members of the request.
    pub(crate) fn create(&self, name: &str, bootstrap: &Path, more: Value) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(bootstrap, folder.path().join("bootstrap")).unwrap();
        self.create_from(name, folder.path(), more);
    }

    /// CreateFunction with a folder as its code.
    pub(crate) fn create_from(&self, name: &str, folder: &Path, more: Value) {
        self.create_of(name, &STANDARD.encode(zip(folder)), more);
    }

    /// CreateFunction with a zip, in base64, as its code.
    fn create_of(&self, name: &str, zip: &str, more: Value) {
        let mut request = json!({
            "FunctionName": name,
            "Runtime": "provided.al2023",
            "Handler": "function.handler",
            "Role": "arn:aws:iam::000000000000:role/any",
            "Code": { "ZipFile": zip },
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            request[key] = value.clone();
        }
        let reply = self.call("POST", "/2015-03-31/functions", &request);
        assert_eq!(reply.status, 201, "{}", reply.text());
    }

    /// A function that does what its events say.
    pub(crate) fn create_puppet(&self, name: &str, more: Value) {
        // Made once, which takes longer than all else for a test with many of them.
        static ZIP: OnceLock<String> = OnceLock::new();
        let zip = ZIP.get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            std::fs::copy(bin("puppet"), folder.path().join("bootstrap")).unwrap();
            STANDARD.encode(zip(folder.path()))
        });
        self.create_of(name, zip, more);
    }

    pub(crate) fn invoke(&self, name: &str, event: &Value) -> Reply {
        self.invoke_with(name, event, &[])
    }

    pub(crate) fn invoke_tail(&self, name: &str, event: &Value) -> Reply {
        self.invoke_with(name, event, &[("x-amz-log-type", "Tail")])
    }

    pub(crate) fn invoke_with(&self, name: &str, event: &Value, more: &[(&str, &str)]) -> Reply {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend_from_slice(more);
        let path = format!("/2015-03-31/functions/{name}/invocations");
        self.send("POST", &path, &headers, event.to_string().as_bytes()).unwrap()
    }

    /// All messages of the function's log group so far.
    pub(crate) fn log_messages(&self, function: &str) -> Vec<String> {
        let request = json!({ "logGroupName": format!("/aws/lambda/{function}") });
        let headers = [
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-target", "Logs_20140328.FilterLogEvents"),
        ];
        let reply = self.send("POST", "/", &headers, request.to_string().as_bytes()).unwrap();
        if reply.status != 200 {
            return Vec::new();
        }
        let reply = reply.json();
        let events = reply["events"].as_array().cloned().unwrap_or_default();
        events.iter().map(|e| e["message"].as_str().unwrap_or("").to_owned()).collect()
    }
}

/// Zips a folder with the tool under test.
pub(crate) fn zip(folder: &Path) -> Vec<u8> {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("code.zip");
    let output =
        Command::new(lambfold()).arg("package").arg(folder).arg("-o").arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(file).unwrap()
}

/// The project's root folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A program of the virtual environment that `tools/setup test` makes.
pub(crate) fn venv(program: &str) -> PathBuf {
    let path = root().join("target/venv/bin").join(program);
    assert!(path.exists(), "{} is missing: run `tools/setup test`", path.display());
    path
}

/// Zips a folder of `examples/`.
pub(crate) fn example(name: &str, work: &Path) -> PathBuf {
    let file = work.join(format!("{}.zip", name.replace('/', "-")));
    std::fs::write(&file, zip(&root().join("examples").join(name))).unwrap();
    file
}

/// The functions of `examples/bash-layer`: every folder but the layer's own.
pub(crate) fn layer_functions() -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(root().join("examples/bash-layer"))
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .filter(|name| name != "layer")
        .collect();
    names.sort();
    names
}

/// Waits until `condition` holds; a minute is more than enough for anything here.
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let held =
        lambfold_testkit::wait_for(what, Duration::from_secs(60), || condition().then_some(()));
    held.unwrap_or_else(|error| panic!("{error}"));
}
