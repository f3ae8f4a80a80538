//! `lambfold dev`: pages in a browser, changes that are served at once, ends that leave nothing.

use super::harness::{Api, lambfold, root, server, wait_until};
use super::terminal::Terminal;
use lambfold_testkit::{TempServer, wait_for};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);

/// Layers of the built-in runtimes are made once for the whole suite.
pub(super) fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache")
}

/// A running `lambfold dev --output json`. Dropping it ends it as Ctrl-C does.
struct Dev {
    child: Child,
    lines: Arc<Mutex<Vec<Value>>>,
    reader: Option<JoinHandle<()>>,
}

impl Dev {
    /// With a server of its own, unless one is given.
    fn start(dir: &Path, server: Option<&TempServer>, args: &[&str]) -> Self {
        let mut command = match server {
            Some(server) => server.client(lambfold()),
            None => Command::new(lambfold()),
        };
        command.arg("dev").arg(dir).args(["--port", "0", "--output", "json"]);
        // Patient, since a machine that is busy with other tests may stand still for a while.
        command.args(["--timeout", "60"]).args(args);
        if server.is_none() {
            command.arg("--ephemeral").env_remove("AWS_ENDPOINT_URL");
        }
        command.env("XDG_CACHE_HOME", cache()).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (out, into) = (child.stdout.take().unwrap(), lines.clone());
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                into.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        let mut dev = Self { child, lines, reader: Some(reader) };
        wait_until("the address", || {
            assert!(dev.child.try_wait().unwrap().is_none(), "dev ended");
            dev.first("ready").is_some()
        });
        dev
    }

    fn lines(&self) -> Vec<Value> {
        self.lines.lock().unwrap().clone()
    }

    fn of(&self, kind: &str) -> Vec<Value> {
        self.lines().into_iter().filter(|line| line["Type"] == kind).collect()
    }

    fn first(&self, kind: &str) -> Option<Value> {
        self.of(kind).into_iter().next()
    }

    fn url(&self) -> String {
        self.first("ready").unwrap()["Url"].as_str().unwrap().to_owned()
    }

    fn api(&self) -> Api {
        Api::new(&self.url())
    }

    fn wait(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let found = || self.lines().into_iter().find(|line| condition(line));
        wait_for(what, MINUTE, found).unwrap_or_else(|e| panic!("{e}: {:#?}", self.lines()))
    }

    /// Ctrl-C; its exit code.
    fn stop(&mut self) -> Option<i32> {
        interrupt(&self.child.id().to_string());
        let ended = wait_for("the end", MINUTE, || self.child.try_wait().unwrap());
        if ended.is_err() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
        self.reader.take().map(JoinHandle::join);
        ended.unwrap().code()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if self.reader.is_some() {
            self.stop();
        }
        if std::thread::panicking() {
            eprintln!("--- lines of dev ---\n{:#?}", self.lines());
        }
    }
}

/// A process, or with a dash a group of them.
fn interrupt(id: &str) {
    let sent = Command::new("kill").args(["-INT", "--", id]).status().unwrap();
    assert!(sent.success());
}

fn starter(kind: &str, dir: &Path) {
    let output = Command::new(lambfold()).args(["init", kind]).arg(dir).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn get(api: &Api, path: &str) -> (u16, String) {
    let reply = api.send("GET", path, &[], b"").unwrap();
    (reply.status, reply.text())
}

/// As editors do: written beside and moved over.
fn save(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::rename(beside, path).unwrap();
}

fn says(word: &str) -> String {
    format!(
        "handler() {{ [[ $1 == *'\"rawPath\":\"/slow\"'* ]] && sleep 1; echo '\"{word}\"'; }}\n"
    )
}

/// The promise is 200 ms from a save to the first answer of the new code, in the median of five
/// saves. On a machine that is busy with other things it is tried again for a minute: one median
/// has to keep it.
#[test]
fn a_save_is_answered_within_200_ms_and_the_next_request_is_warm() {
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("function.sh");
    std::fs::write(&file, says("old")).unwrap();
    let dev = Dev::start(work.path(), None, &[]);
    let api = dev.api();
    assert_eq!(get(&api, "/"), (200, "old".to_owned()));
    let mut medians = Vec::new();
    let mut number = 0;
    let tried = Instant::now();
    while medians.is_empty() || tried.elapsed() < MINUTE {
        let mut times = Vec::new();
        for _ in 0..5 {
            number += 1;
            let word = format!("new-{number}");
            let text = says(&word);
            let start = Instant::now();
            save(&file, &text);
            let answered = wait_for("the new answer", MINUTE, || {
                let (status, text) = get(&api, "/");
                assert_eq!(status, 200, "{text}");
                (text == word).then_some(())
            });
            answered.unwrap();
            times.push(start.elapsed());
        }
        times.sort();
        medians.push(times[2]);
        eprintln!("saves answered after {times:?}");
        if times[2] <= Duration::from_millis(200) {
            break;
        }
    }
    let best = medians.iter().min().unwrap();
    assert!(*best <= Duration::from_millis(200), "medians {medians:?}");
    // The first request of each version found an environment that was ready.
    let last = dev.of("reload").pop().unwrap()["Version"].clone();
    wait_until("all lines", || dev.of("request").iter().any(|line| line["Version"] == last));
    let mut first = BTreeMap::new();
    for line in dev.of("request") {
        first.entry(line["Version"].as_str().unwrap().to_owned()).or_insert(line);
    }
    assert!(first.len() >= 6, "{first:?}");
    assert!(first.values().all(|line| line["Cold"] == false), "{first:#?}");
    assert!(dev.of("reload").iter().all(|line| line["Warm"] == true));
}

#[test]
fn no_request_is_lost_while_versions_come_and_go() {
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("function.sh");
    std::fs::write(&file, says("0")).unwrap();
    let dev = Dev::start(work.path(), None, &[]);
    let (api, over) = (dev.api(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let hammer = |path: &'static str| {
            let (api, over) = (&api, &over);
            move || {
                let (mut last, mut count) = (0, 0);
                while !over.load(Ordering::Relaxed) {
                    let (status, text) = get(api, path);
                    assert_eq!(status, 200, "{path}: {text}");
                    let seen: u32 = text.parse().unwrap();
                    // One after the other, they never go back to older code.
                    assert!(seen >= last, "{path}: {seen} after {last}");
                    (last, count) = (seen, count + 1);
                }
                (last, count)
            }
        };
        let clients: Vec<_> = ["/", "/", "/slow", "/slow"]
            .map(|path| scope.spawn(hammer(path)))
            .into_iter()
            .collect();
        for number in 1..=5 {
            save(&file, &says(&number.to_string()));
            let served = || (get(&api, "/").1 == number.to_string()).then_some(());
            wait_for("the new code", MINUTE, served).unwrap();
        }
        over.store(true, Ordering::Relaxed);
        for client in clients {
            let (_, count) = client.join().unwrap();
            assert!(count > 0);
        }
    });
    // A request of the first version was answered when another one had long been serving.
    let lines = || dev.lines();
    let slow = |l: &Value| l["Target"] == "/slow" && l["Version"] == "1";
    wait_until("the line of a slow request", || lines().iter().any(slow));
    let place = |found: &dyn Fn(&Value) -> bool| lines().iter().position(found).unwrap();
    assert!(place(&slow) > place(&|line| line["Type"] == "reload"));
    assert!(dev.of("request").iter().all(|line| line["Status"] == 200));
}

/// Saves that come faster than versions can be made: none of them waits for another, and it is the
/// last one that stays.
#[test]
fn of_many_saves_the_last_one_stays() {
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("function.sh");
    std::fs::write(&file, says("0")).unwrap();
    let dev = Dev::start(work.path(), None, &[]);
    let api = dev.api();
    for round in 1..=3 {
        for number in 0..40 {
            save(&file, &says(&format!("{round}-{number}")));
            // Something else at the same time, and gone again.
            std::fs::write(work.path().join("noise"), format!("{number}")).unwrap();
            assert_eq!(get(&api, "/").0, 200);
        }
        std::fs::remove_file(work.path().join("noise")).unwrap();
        let last = format!("{round}-39");
        wait_until("the last save", || get(&api, "/").1 == last);
    }
    let errors = dev.of("error");
    assert!(errors.is_empty(), "{errors:#?}");
    // What was there before is content again, though its version may be on its way out.
    for word in ["a", "b", "a", "b"] {
        save(&file, &says(word));
        wait_until(word, || get(&api, "/") == (200, word.to_owned()));
    }
}

#[test]
fn what_is_broken_is_shown_at_once_and_mended() {
    let work = tempfile::tempdir().unwrap();
    let file = work.path().join("function.sh");
    std::fs::write(&file, says("fine")).unwrap();
    let dev = Dev::start(work.path(), None, &[]);
    let api = dev.api();
    let fine = |word: &str| {
        let served = || (get(&api, "/") == (200, word.to_owned())).then_some(());
        wait_for(word, MINUTE, served).unwrap();
    };
    let broken = |what: &str| {
        let shown = || {
            let (status, text) = get(&api, "/");
            (status == 502 && text.contains(what)).then_some(())
        };
        wait_for(what, MINUTE, shown).unwrap();
    };
    fine("fine");
    // An init that fails.
    save(&file, "handler( {\n");
    broken("syntax error");
    let said = |text: &str| dev.wait(text, |line| line.to_string().contains(text));
    said("the function's init phase failed");
    dev.wait("the log of the init", |line| {
        line["Type"] == "log" && line["Message"].as_str().unwrap().contains("syntax error")
    });
    save(&file, &says("mended"));
    fine("mended");
    // A bootstrap that no machine can start is refused before anything is sent.
    let bootstrap = work.path().join("bootstrap");
    std::fs::write(&bootstrap, "#!/bin/sh\r\n").unwrap();
    broken("carriage return");
    std::fs::remove_file(&bootstrap).unwrap();
    fine("mended");
    // Nothing that could run.
    std::fs::rename(&file, work.path().join("other.txt")).unwrap();
    broken("there is no bootstrap");
    std::fs::rename(work.path().join("other.txt"), &file).unwrap();
    fine("mended");
    // An error of the function, with its log, as HTML for browsers.
    save(&file, "handler() { echo 'what I <did>' >&2; lambda_error My.Type 'my message'; }\n");
    broken("My.Type: my message");
    let page = api.send("GET", "/", &[("accept", "text/html")], b"").unwrap();
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(page.text().contains("what I &lt;did&gt;"), "{}", page.text());
    // An answer that is none.
    save(&file, "handler() { echo '{\"statusCode\": \"x\"}'; }\n");
    broken("statusCode \"x\" is no number from 200 to 599");
}

#[test]
fn the_folder_of_a_layer_is_reloaded_too() {
    let work = tempfile::tempdir().unwrap();
    let (code, layer) = (work.path().join("code"), work.path().join("layer"));
    std::fs::create_dir_all(&code).unwrap();
    std::fs::create_dir_all(&layer).unwrap();
    std::fs::write(
        code.join("function.sh"),
        "handler() { word=$(< /opt/word); echo \"\\\"$word\\\"\"; }\n",
    )
    .unwrap();
    std::fs::write(layer.join("word"), "first").unwrap();
    let dev = Dev::start(&code, None, &["--layer", layer.to_str().unwrap()]);
    let api = dev.api();
    assert_eq!(get(&api, "/"), (200, "first".to_owned()));
    save(&layer.join("word"), "second");
    wait_until("the new layer", || get(&api, "/").1 == "second");
}

#[test]
fn requests_become_events_and_answers_responses() {
    let work = tempfile::tempdir().unwrap();
    let php = "<?php setcookie('a', '1'); setcookie('b', '2'); header('X-Method: ' . $_SERVER['REQUEST_METHOD']);
        http_response_code(201); echo $_SERVER['REQUEST_URI'], '|', file_get_contents('php://input');";
    std::fs::write(work.path().join("index.php"), php).unwrap();
    for format in ["apigateway-v2", "apigateway-proxy"] {
        let dev = Dev::start(work.path(), None, &["--format", format]);
        let body: Vec<u8> = (0..=255).collect();
        let headers = [("content-type", "application/octet-stream")];
        let reply = dev.api().send("PUT", "/a%20b?c=d&c=e", &headers, &body).unwrap();
        assert_eq!(
            (reply.status, reply.header("x-method")),
            (201, Some("PUT")),
            "{}",
            reply.text()
        );
        let expected = [b"/a%20b?c=d&c=e|".as_slice(), &body].concat();
        assert_eq!(reply.body, expected, "{format}");
        let cookies = reply.headers.iter().filter(|(name, _)| name == "set-cookie").count();
        assert_eq!(cookies, 2, "{format}");
        // A page could have rebound the name.
        let refused = dev.api().send("GET", "/", &[("host", "evil.example")], b"").unwrap();
        assert_eq!(refused.status, 403, "{}", refused.text());
    }
}

/// What a browser makes of a page.
fn dom(url: &str) -> String {
    let program = Path::new("/usr/bin/chromium-headless-shell");
    assert!(program.exists(), "{} is missing: run `tools/setup test`", program.display());
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(program)
        // Its own sandbox does not start as root; the page is ours.
        .args(["--no-sandbox", "--disable-gpu", "--no-proxy-server", "--disable-breakpad"])
        .arg(format!("--user-data-dir={}", folder.path().display()))
        .args(["--dump-dom", url])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_php_page_opens_in_a_browser_and_so_does_its_error() {
    let work = tempfile::tempdir().unwrap();
    let site = work.path().join("site");
    starter("php", &site);
    let dev = Dev::start(&site, None, &[]);
    let page = dom(&format!("{}?name=Ada", dev.url()));
    assert!(page.contains("<h1>Hello, Ada!</h1>"), "{page}");
    save(&site.join("index.php"), "<?php echo '<!doctype html><p>Changed';");
    wait_until("the change", || get(&dev.api(), "/").1.contains("Changed"));
    assert!(dom(&dev.url()).contains("<p>Changed</p>"));
    save(&site.join("index.php"), "<?php posix_kill(getmypid(), SIGKILL);");
    wait_until("the error", || get(&dev.api(), "/").0 == 502);
    let page = dom(&dev.url());
    assert!(page.contains("<h1>Function.WorkerDied: "), "{page}");
}

#[test]
fn on_a_terminal_events_are_sent_again_and_ctrl_c_leaves_nothing() {
    let server = server();
    let terminal = Terminal::of(&server);
    assert_eq!(terminal.run("clear; lambfold init bash hello"), 0);
    let cache = cache();
    terminal.line(&format!(
        "clear; XDG_CACHE_HOME={} lambfold dev hello --port 0 --event '{{\"name\":\"Ada\"}}'; echo \"ended:$?\"",
        cache.display()
    ));
    let answers = |screen: &str, word: &str| {
        screen.lines().filter(|l| l.starts_with("event ") && l.contains(word)).count()
    };
    let screen = terminal.wait("the first answer", |screen| answers(screen, "Hello, Ada!") == 1);
    assert!(screen.contains("http://127.0.0.1:"), "{screen}");
    assert!(screen.contains("Enter sends the event again, q ends"), "{screen}");
    terminal.keys(&["Enter"]);
    let screen = terminal.wait("the second answer", |screen| answers(screen, "Hello, Ada!") == 2);
    assert!(screen.contains("ms warm"), "{screen}");
    assert!(screen.contains("an event of 14 characters"), "{screen}");
    let file = terminal.folder().join("hello/function.sh");
    let text = std::fs::read_to_string(&file).unwrap();
    save(&file, &text.replace("'Hello'", "'Goodbye'"));
    let screen = terminal.wait("the new answer", |screen| answers(screen, "Goodbye, Ada!") == 1);
    assert!(screen.contains("reloaded in "), "{screen}");
    terminal.keys(&["C-c"]);
    assert_eq!(terminal.ended(), 0);
    let api = Api::new(server.url());
    let functions = api.send("GET", "/2015-03-31/functions", &[], b"").unwrap().json();
    assert_eq!(functions["Functions"], serde_json::json!([]));
    let layers = api.send("GET", "/2018-10-31/layers", &[], b"").unwrap();
    assert!(layers.status == 501 || layers.json()["Layers"] == serde_json::json!([]));
    // And by a typed letter.
    terminal.line(&format!(
        "clear; XDG_CACHE_HOME={} lambfold dev hello --port 0; echo \"ended:$?\"",
        cache.display()
    ));
    terminal.wait_for_text("function dev-hello on the server");
    terminal.line("q");
    assert_eq!(terminal.ended(), 0);
}

/// Processes whose command line or environment names the folder.
fn left(mark: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| std::fs::read(entry.path().join("environ")).ok())
        .map(|environment| String::from_utf8_lossy(&environment).into_owned())
        .filter(|environment| environment.contains(mark))
        .collect()
}

#[test]
fn it_ends_with_all_its_processes_and_says_so_in_its_exit_code() {
    let work = tempfile::tempdir().unwrap();
    std::fs::write(work.path().join("function.sh"), says("x")).unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let mark = temporary.path().display().to_string();
    let start = || {
        let mut command = Command::new(lambfold());
        command.arg("dev").arg(work.path()).args([
            "--port",
            "0",
            "--output",
            "json",
            "--ephemeral",
        ]);
        command.env("XDG_CACHE_HOME", cache()).env("TMPDIR", temporary.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.contains("\"ready\""), "{line}");
        child
    };
    let mut child = start();
    interrupt(&child.id().to_string());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(left(&mark), [""; 0]);
    let find = Command::new("find").arg(temporary.path()).args(["-mindepth", "1"]).output();
    assert_eq!(String::from_utf8_lossy(&find.unwrap().stdout), "");
    // Nor is any process left when it is killed.
    let mut child = start();
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the end of all processes", || left(&mark).is_empty());
}

#[test]
fn wrong_usage_is_2_and_names_what_is_wrong() {
    let server = server();
    let work = tempfile::tempdir().unwrap();
    std::fs::write(work.path().join("function.sh"), says("x")).unwrap();
    let run = |args: &[&str]| {
        let mut command = server.client(lambfold());
        command.arg("dev").args(args).current_dir(work.path()).stdin(Stdio::null());
        let output = command.output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (args, what) in [
        (&["nowhere"][..], "nowhere is not a folder"),
        (&[".", "--event", "no-such-event"], "there is no sample event"),
        (&[".", "--layer", "nowhere.zip"], "there is no zip or folder nowhere.zip"),
        (&[".", "--env", "x"], "is not of the form KEY=VALUE"),
        (&[".", "--runtime", "python3.12"], "is not a custom runtime"),
        (&[".", "--ephemeral", "--endpoint-url", "http://127.0.0.1:1"], "cannot be used with"),
    ] {
        let (code, text) = run(args);
        assert!(code == 2 && text.contains(what), "{args:?}: {code} {text}");
    }
    let (code, text) = run(&[".", "--endpoint-url", "http://127.0.0.1:1"]);
    assert!(code == 1 && text.contains("a server of its own: --ephemeral"), "{text}");
    // A function of somebody else's is not taken.
    let api = Api::new(server.url());
    api.create_puppet("mine", serde_json::json!({}));
    let dev = Dev::start(work.path(), Some(&server), &["--name", "mine"]);
    dev.wait("the refusal", |line| line.to_string().contains("did not make"));
    drop(dev);
    let path = "/2015-03-31/functions/mine/configuration";
    assert_eq!(api.send("GET", path, &[], b"").unwrap().status, 200);
}

/// Types what `lambfold init` prints, line by line, and returns what the last line prints.
fn follow(kind: &str, page: &str) -> String {
    let server = server();
    let work = tempfile::tempdir().unwrap();
    let path = format!(
        "{}:{}",
        lambfold().parent().unwrap().display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let shell = |line: &str| {
        let mut command = server.client("/bin/sh");
        command.args(["-c", line]).current_dir(work.path()).env("PATH", &path);
        command.env("XDG_CACHE_HOME", cache()).stdin(Stdio::null());
        // What the starter asks the registry for is there already, in the versions of our own.
        command.env("CARGO_NET_OFFLINE", "true");
        command.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("starter"));
        command
    };
    let output = shell(&format!("lambfold init {kind} hello")).output().unwrap();
    if kind == "rust" {
        std::fs::copy(root().join("Cargo.lock"), work.path().join("hello/Cargo.lock")).unwrap();
    }
    let steps = String::from_utf8(output.stdout).unwrap();
    let mut last = String::new();
    for step in steps.lines() {
        if !step.starts_with("lambfold dev ") {
            let output = shell(step).output().unwrap();
            let talk = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{step}: {talk}");
            last = String::from_utf8(output.stdout).unwrap();
            continue;
        }
        let mut child = shell(step).process_group(0).stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let (status, text) = get(&Api::new(url.trim()), "/?name=Ada");
        assert!(status == 200 && text.contains(page), "{status} {text}");
        interrupt(&format!("-{}", child.id()));
        child.wait().unwrap();
    }
    last
}

#[test]
fn what_init_prints_for_bash_works_as_it_stands() {
    assert_eq!(follow("bash", "Hello, Ada!"), "{\"message\": \"Hello, Ada!\"}\n");
}

#[test]
fn what_init_prints_for_php_works_as_it_stands() {
    let answer = follow("php", "<h1>Hello, Ada!</h1>");
    assert!(answer.contains("<h1>Hello, world!</h1>"), "{answer}");
}

#[test]
fn what_init_prints_for_rust_works_as_it_stands() {
    let answer = follow("rust", "Hello, Ada!");
    assert_eq!(answer, "{\"message\":\"Hello, Ada!\"}");
}
