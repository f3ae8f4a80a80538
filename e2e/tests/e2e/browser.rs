//! The browser is a stranger: a real one opens pages that try all that a page can to create,
//! change, invoke and read. The same page gets through where it counts as the server's own, or where
//! the marks of a foreign page are taken away.

mod front;

use super::harness::{Api, lambfold, root, zip};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use front::{Front, Request};
use lambfold_testkit::{ServerOptions, TempServer};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// What no page of others may learn.
const SECRET: &str = "a-secret-of-the-victim";
/// Attempts of `page.js` to create a function.
const CREATE: &[&str] = &[
    "fetch-opaque",
    "fetch-text",
    "fetch-json",
    "fetch-redirect",
    "xhr",
    "form",
    "beacon",
    "form-top",
];
/// Attempts that run, change or delete what is there.
const TOUCH: &[&str] = &["invoke", "policy", "change", "delete"];
/// Attempts to read.
const READ: &[&str] = &[
    "read",
    "read-opaque",
    "read-xhr",
    "img",
    "script",
    "link",
    "iframe",
    "refresh",
    "websocket",
    "eventsource",
];

/// A browser with a page open. Dropping it ends all its processes.
struct Browser {
    child: Child,
    folder: TempDir,
}

impl Browser {
    fn open(page: &str) -> Self {
        let program = Path::new("/usr/bin/chromium-headless-shell");
        assert!(program.exists(), "{} is missing: run `tools/setup test`", program.display());
        let folder = tempfile::tempdir().unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(program)
            // Its own sandbox does not start as root; the pages are ours.
            .args(["--no-sandbox", "--disable-gpu", "--no-proxy-server", "--disable-breakpad"])
            // Nothing leaves this machine, and a name of the attacker's leads to it.
            .arg("--host-resolver-rules=EXCLUDE 127.0.0.1, EXCLUDE localhost, MAP evil.example 127.0.0.1, MAP * ~NOTFOUND")
            // Recent browsers have a wall of their own before loopback. It is not what is tested.
            .arg("--disable-features=LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests")
            .arg(format!("--user-data-dir={}", folder.path().display()))
            .arg(page)
            .current_dir(root())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, folder }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("log"));
            eprintln!("--- log of the browser ---\n{}", log.unwrap_or_default());
        }
    }
}

/// A server with a function that has a secret, and one that pages try to delete.
struct Stage {
    server: TempServer,
    api: Api,
    zip: String,
    _data: TempDir,
}

impl Stage {
    fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let options = ServerOptions::new(lambfold()).data_dir(data.path());
        let server = TempServer::start(&options).unwrap();
        let api = Api::new(server.url());
        let folder = root().join("examples/bash-echo");
        for name in ["victim", "doomed"] {
            let secret = json!({"Variables": {"SECRET": SECRET}});
            api.create_from(name, &folder, json!({"Environment": secret, "Timeout": 30}));
        }
        Self { server, api, zip: STANDARD.encode(zip(&folder)), _data: data }
    }

    fn front(&self) -> Front {
        Front::start(self.server.url(), &self.zip)
    }

    fn functions(&self) -> BTreeSet<String> {
        let listed = self.api.call("GET", "/2015-03-31/functions", &Value::Null).json();
        let functions = listed["Functions"].as_array().unwrap();
        functions.iter().map(|f| f["FunctionName"].as_str().unwrap().to_owned()).collect()
    }

    fn versions(&self) -> usize {
        let path = "/2015-03-31/functions/victim/versions";
        self.api.call("GET", path, &Value::Null).json()["Versions"].as_array().unwrap().len()
    }

    fn description(&self) -> Value {
        let path = "/2015-03-31/functions/victim/configuration";
        self.api.call("GET", path, &Value::Null).json()["Description"].clone()
    }

    /// The sum of a counter over its labels.
    fn counter(&self, name: &str) -> usize {
        let page = self.api.call("GET", "/metrics", &Value::Null).text();
        let lines: Vec<_> = page.lines().filter(|line| line.starts_with(name)).collect();
        assert!(!lines.is_empty(), "no {name} in {page}");
        lines.iter().map(|line| line.rsplit(' ').next().unwrap().parse::<usize>().unwrap()).sum()
    }

    /// Nothing came of the requests: each was refused by the guard.
    fn assert_untouched(&self, requests: usize) {
        assert_eq!(self.functions(), ["doomed", "victim"].map(str::to_owned).into());
        assert_eq!(self.description(), "");
        assert_eq!(self.versions(), 1, "more than $LATEST");
        assert_eq!(self.counter("lambfold_invocations_total"), 0);
        assert_eq!(self.counter("lambfold_http_refused_total"), requests);
    }
}

/// How often a page is tried.
const VISITS: usize = 10;
/// What arrives at all arrives so long after the page's report, or so long after its opening.
const LATE: std::time::Duration = std::time::Duration::from_secs(5);

/// Does it once with nothing in the way. A browser gives up all that is under way whenever an
/// interface of the machine comes or goes, which servers of other tests have them do: then what it
/// would have sent is missing, and all is done anew.
fn undisturbed(visit: impl Fn() -> Result<(), String>) {
    let mut last = String::new();
    for _ in 0..VISITS {
        match visit() {
            Ok(()) => return,
            Err(missing) => last = missing,
        }
    }
    panic!("of {VISITS} visits none was complete; the last one: {last}");
}

/// The page's report and what the browser sent, when all attempts have been answered; or what is
/// missing.
fn wait_for_the_end(
    what: &str,
    page: &Front,
    target: &Front,
) -> Result<(Value, Vec<Request>), String> {
    let wait = |done: &mut dyn FnMut() -> bool| {
        lambfold_testkit::wait_for(what, LATE, || done().then_some(())).is_ok()
    };
    // A browser takes its time to start where many programs run.
    if !(0..6).any(|_| wait(&mut || page.report().is_some())) {
        return Err(format!("{what}: no report; {:#?}", target.requests()));
    }
    let all: BTreeSet<&str> = [CREATE, TOUCH, READ].concat().into_iter().collect();
    let missing = || {
        let requests = target.requests();
        let mut missing = all.clone();
        missing.retain(|via| !requests.iter().any(|request| request.via == **via));
        missing
    };
    if !wait(&mut || missing().is_empty()) {
        let (rest, requests) = (missing(), target.requests());
        return Err(format!("{what}: {rest:?} did not reach the server: {requests:#?}"));
    }
    let report = page.report().unwrap();
    assert_eq!(report.as_object().unwrap().len() + 1, all.len(), "{what}: {report:#}");
    Ok((report, target.requests()))
}

#[test]
fn pages_of_other_origins_can_neither_do_nor_read_anything() {
    undisturbed(|| {
        let stage = Stage::new();
        // Another site; another port of the same host, which browsers call the same site; a page
        // without an origin.
        let cases = [
            ("another site", "evil.example", "open", "cross-site"),
            ("another port", "127.0.0.1", "open", "same-site"),
            ("a sandbox", "localhost", "opaque", "cross-site"),
        ];
        let mut sent = 0;
        for (what, host, page, site) in cases {
            let (own, target) = (stage.front(), stage.front());
            let url = format!("{}/page/{page}?target={}", own.url(host), target.url("127.0.0.1"));
            let browser = Browser::open(&url);
            let (report, requests) = wait_for_the_end(what, &own, &target)?;
            drop(browser);
            sent += target.requests().len();
            let origin = if page == "opaque" { "null".to_owned() } else { own.url(host) };
            for request in &requests {
                assert_eq!(request.status, 403, "{what}: {request:?}");
                // Requests of elements carry only the site, those of sockets only the origin. A
                // redirect to another origin loses the name of the first.
                let expected = (request.via != "websocket").then_some(site);
                assert_eq!(request.site.as_deref(), expected, "{what}: {request:?}");
                let given = request.origin.as_deref();
                assert!(
                    given.is_none_or(|given| given == origin || given == "null"),
                    "{what}: {request:?}"
                );
                let needs = request.method != "GET" || request.via == "websocket";
                assert!(given.is_some() || !needs, "{what}: {request:?}");
            }
            for via in ["fetch-json", "change", "delete"] {
                let asked: Vec<_> = requests.iter().filter(|r| r.via == via).collect();
                assert!(asked.iter().all(|r| r.method == "OPTIONS"), "{what}: {asked:?}");
            }
            assert_nothing_was_read(what, &report);
        }
        stage.assert_untouched(sent);
        Ok(())
    });
}

fn assert_nothing_was_read(what: &str, report: &Value) {
    for (via, result) in report.as_object().unwrap() {
        let text = result["text"].as_str().unwrap_or_default();
        assert_eq!(text, "", "{what}: {via}: {result}");
        assert!(result["status"].as_u64().unwrap_or(0) == 0, "{what}: {via}: {result}");
    }
}

#[test]
fn without_their_marks_such_pages_create_and_invoke() {
    undisturbed(|| {
        let stage = Stage::new();
        let own = stage.front();
        let target = Front::without_wall(stage.server.url(), &stage.zip);
        let (url, at) = (own.url("evil.example"), target.url("127.0.0.1"));
        let browser = Browser::open(&format!("{url}/page/open?target={at}"));
        let (report, requests) = wait_for_the_end("another site", &own, &target)?;
        drop(browser);
        // What is left are the browser's own walls: it asks first, and shows no answer.
        let asked = ["fetch-json", "change", "delete"];
        for request in &requests {
            let is_asked = asked.contains(&request.via.as_str());
            assert_eq!((200..300).contains(&request.status), !is_asked, "{request:?}");
        }
        assert_nothing_was_read("another site", &report);
        let created =
            CREATE.iter().filter(|via| !asked.contains(via)).map(|via| format!("by-{via}"));
        let mut expected: BTreeSet<String> = created.collect();
        expected.extend(["victim", "doomed"].map(str::to_owned));
        assert_eq!(stage.functions(), expected);
        assert_eq!((stage.versions(), stage.counter("lambfold_invocations_total")), (2, 1));
        Ok(())
    });
}

#[test]
fn a_page_under_a_rebound_name_reads_nothing_but_the_refusal() {
    undisturbed(|| {
        let stage = Stage::new();
        let front = stage.front();
        let url = front.url("evil.example");
        let browser = Browser::open(&format!("{url}/page/open?target={url}"));
        let (report, requests) = wait_for_the_end("a rebound name", &front, &front)?;
        drop(browser);
        for request in &requests {
            assert_eq!(request.status, 403, "{request:?}");
            // The browser takes them for the page's own; only the name tells.
            assert!(request.site.is_none(), "{request:?}");
            assert_ne!(request.method, "OPTIONS", "{request:?}");
        }
        for via in ["fetch-text", "fetch-json", "xhr", "form", "change", "delete", "read", "iframe"]
        {
            let text = report[via]["text"].as_str().unwrap();
            assert!(text.contains("the Host header names"), "{via}: {report:#}");
        }
        assert!(!report.to_string().contains(SECRET), "{report:#}");
        stage.assert_untouched(front.requests().len());
        Ok(())
    });
}

#[test]
fn the_same_page_gets_through_where_it_is_the_servers_own() {
    undisturbed(|| {
        let stage = Stage::new();
        let front = stage.front();
        let url = front.url("localhost");
        let browser = Browser::open(&format!("{url}/page/open?target={url}"));
        let (report, requests) = wait_for_the_end("the server's own page", &front, &front)?;
        drop(browser);
        for request in requests.iter().filter(|request| !request.via.is_empty()) {
            assert!((200..300).contains(&request.status), "{request:?}");
        }
        for via in ["read", "read-opaque", "read-xhr", "iframe"] {
            assert!(report[via]["text"].as_str().unwrap().contains(SECRET), "{via}: {report:#}");
        }
        let mut expected: BTreeSet<String> = CREATE.iter().map(|via| format!("by-{via}")).collect();
        expected.insert("victim".to_owned());
        assert_eq!(stage.functions(), expected);
        assert_eq!(stage.description(), "changed");
        assert_eq!(stage.versions(), 2);
        assert_eq!(stage.counter("lambfold_invocations_total"), 1);
        assert_eq!(stage.counter("lambfold_http_refused_total"), 0);
        Ok(())
    });
}
