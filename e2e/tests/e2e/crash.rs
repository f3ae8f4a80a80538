//! What is left after the server was killed, at any moment: nothing of its sandboxes, and
//! everything that it acknowledged.

use super::harness::{Api, lambfold, server, wait_until};
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A server whose every process is told from all others by the path of its program.
pub(super) struct Server {
    child: Child,
    pub(super) endpoint: String,
    /// What it said before it was ready, a line each.
    pub(super) said: Vec<String>,
}

/// A folder for a copy of the program and its data.
pub(super) struct Place {
    folder: tempfile::TempDir,
    program: PathBuf,
    /// User and group that run it, when not those of the test.
    user: Option<(u32, u32)>,
    /// More arguments for `serve`.
    more: &'static [&'static str],
}

impl Place {
    fn new() -> Self {
        Self::of(None)
    }

    /// Where that user may read the program and owns the data.
    pub(super) fn of(user: Option<(u32, u32)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("lambfold");
        std::fs::copy(lambfold(), &program).unwrap();
        let place = Self { folder, program, user, more: &[] };
        if let Some((user, group)) = user {
            let open = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(place.folder.path(), open.clone()).unwrap();
            std::fs::set_permissions(&place.program, open).unwrap();
            std::fs::create_dir(place.data()).unwrap();
            std::os::unix::fs::chown(place.data(), Some(user), Some(group)).unwrap();
        }
        place
    }

    /// With these arguments for its servers.
    pub(super) fn with(self, more: &'static [&'static str]) -> Self {
        Self { more, ..self }
    }

    pub(super) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(self.data())
            .args(self.more);
        if let Some((user, group)) = self.user {
            // Nothing of root's environment; the supplementary groups go with the user.
            command.uid(user).gid(group).current_dir(self.data());
            command
                .env_clear()
                .env("PATH", "/usr/local/bin:/usr/bin:/bin")
                .env("HOME", self.data());
        }
        command
    }

    pub(super) fn start(&self) -> Server {
        Server::of(&mut self.command())
    }

    /// The id that names everything that the kernel holds for this data folder.
    fn id(&self) -> String {
        std::fs::read_to_string(self.data().join("id")).unwrap().trim().to_owned()
    }

    /// Processes that run this copy of the program: server, spawner, every pid 1.
    fn processes(&self) -> Vec<String> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let exe = std::fs::read_link(entry.path().join("exe"));
            if exe.is_ok_and(|exe| exe.starts_with(self.folder.path())) {
                found.push(entry.file_name().into_string().unwrap());
            }
        }
        found
    }

    /// Guests: their program is in a tree of this data folder, seen through their own root.
    fn guests(&self, marker: &str) -> Vec<String> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let environ = std::fs::read(entry.path().join("environ")).unwrap_or_default();
            if environ.windows(marker.len()).any(|w| w == marker.as_bytes()) {
                found.push(entry.file_name().into_string().unwrap());
            }
        }
        found
    }
}

impl Server {
    /// Starts one and waits until it is ready.
    pub(super) fn of(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        let endpoint = loop {
            let Some(Ok(line)) = lines.next() else { panic!("it did not start: {said:?}") };
            if let Some((_, address)) = line.split_once("ready at ") {
                break address.trim().to_owned();
            }
            said.push(line);
        };
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, endpoint, said }
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// As an operator does: SIGTERM, and it ends by itself.
    pub(super) fn stop(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }

    pub(super) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn control_groups(id: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, id: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().contains(id) {
                    found.push(entry.path());
                } else {
                    walk(&entry.path(), id, found);
                }
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), id, &mut found);
    found
}

fn images_in_use(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let file = std::fs::read_to_string(entry.path().join("loop/backing_file"));
        if file.is_ok_and(|file| file.starts_with(&*folder.to_string_lossy())) {
            found.push(entry.file_name().into_string().unwrap());
        }
    }
    found
}

/// Everything of a run that was killed is gone once its processes are; what needs a next start
/// to go is gone after that start.
fn assert_nothing_is_left(place: &Place, marker: &str) {
    wait_until("every process of the killed run ends", || {
        place.processes().is_empty() && place.guests(marker).is_empty()
    });
    let server = place.start();
    server.stop();
    let id = place.id();
    let left = control_groups(&id);
    assert!(left.is_empty(), "control groups are left: {left:?}");
    let run: Vec<_> =
        std::fs::read_dir(place.data().join("run/sandbox")).into_iter().flatten().collect();
    assert!(run.is_empty(), "files of sandboxes are left: {run:?}");
    wait_until("the last process of the second server ends", || place.processes().is_empty());
    wait_until("no image is in use", || images_in_use(place.folder.path()).is_empty());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&*place.folder.path().to_string_lossy()), "{mounts}");
}

/// A cheap random number: the moments of the kills need no better.
fn random(below: u64) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let state = std::collections::hash_map::RandomState::new();
    state.build_hasher().finish() % below
}

/// Two hundred kills at random moments under load; each next start works on what the last left.
#[test]
fn killed_at_random_moments_it_leaves_nothing_and_loses_nothing() {
    let place = Place::new();
    let marker = format!("MARKER={}", random(u64::MAX));
    let variables = json!({ "MARKER": marker.trim_start_matches("MARKER=") });
    let created = AtomicU64::new(0);
    for round in 0..200 {
        let server = place.start();
        let api = Api::new(&server.endpoint);
        // everything that was acknowledged before the kill is there
        for at in 0..created.load(Ordering::SeqCst) {
            let path = format!("/2015-03-31/functions/f{at}/configuration");
            let reply = api.call("GET", &path, &json!(null));
            assert_eq!(reply.status, 200, "after {round} kills f{at}: {}", reply.text());
        }
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !stop.load(Ordering::SeqCst) {
                        let at = random(created.load(Ordering::SeqCst).max(1));
                        let path = format!("/2015-03-31/functions/f{at}/invocations");
                        let _ = api.send("POST", &path, &[], br#"{"do":"count"}"#);
                    }
                });
            }
            if created.load(Ordering::SeqCst) < 5 {
                let name = format!("f{}", created.load(Ordering::SeqCst));
                let more = json!({ "Environment": { "Variables": variables.clone() } });
                api.create_puppet(&name, more);
                created.fetch_add(1, Ordering::SeqCst);
            }
            // the moment of the kill is what is tested: any is right
            std::thread::sleep(Duration::from_millis(random(120)));
            server.kill();
            stop.store(true, Ordering::SeqCst);
        });
        wait_until("the killed run's processes end", || {
            place.processes().is_empty() && place.guests(&marker).is_empty()
        });
    }
    assert_nothing_is_left(&place, &marker);
}

#[test]
fn an_accepted_event_runs_even_when_the_server_is_killed() {
    let place = Place::new();
    let server = place.start();
    let api = Api::new(&server.endpoint);
    api.create_puppet("f", json!({ "Timeout": 60 }));
    let later = [("x-amz-invocation-type", "Event")];
    let mut accepted = Vec::new();
    for _ in 0..5 {
        // long enough that none has run before the kill
        let event = json!({ "do": "run", "shell": "sleep 3" });
        let reply = api.invoke_with("f", &event, &later);
        assert_eq!(reply.status, 202, "{}", reply.text());
        accepted.push(reply.header("x-amzn-requestid").unwrap().to_owned());
    }
    server.kill();
    wait_until("the killed run's processes end", || place.processes().is_empty());
    let server = place.start();
    let api = Api::new(&server.endpoint);
    wait_until("every accepted event has run to its end", || {
        let log = api.log_messages("f").join("\n");
        accepted.iter().all(|id| log.contains(&format!("END RequestId: {id}")))
    });
    server.kill();
}

#[test]
fn a_second_server_on_the_same_folder_is_refused_and_one_on_another_is_left_alone() {
    let (one, two) = (Place::new(), Place::new());
    let first = one.start();
    let refused = one.command().output().unwrap();
    assert!(!refused.status.success());
    let talk = String::from_utf8_lossy(&refused.stderr);
    assert!(talk.contains(&*one.data().to_string_lossy()), "{talk}");

    let neighbour = two.start();
    let api = Api::new(&neighbour.endpoint);
    api.create_puppet("f", json!({}));
    let before = api.invoke("f", &json!({ "do": "count" })).json();
    assert_eq!(before["count"], 1);
    first.kill();
    wait_until("the first server ends", || one.processes().is_empty());
    let again = one.start(); // its start sweeps what is its own
    let after = api.invoke("f", &json!({ "do": "count" })).json();
    assert_eq!(after["count"], 2, "the neighbour's environment was touched");
    again.kill();
    neighbour.kill();
}

/// The helper process of a server that makes its sandboxes.
fn spawner(server: u32) -> u32 {
    let is_spawner = |id: &u32| {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{id}/{file}"));
        let parent = format!("\nPPid:\t{server}\n");
        read("status").is_ok_and(|status| status.contains(&parent))
            && read("cmdline").is_ok_and(|line| line.starts_with("lambfold-sandbox-spawner\0"))
    };
    let names = std::fs::read_dir("/proc").unwrap().flatten();
    let mut ids = names.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
    ids.find(is_spawner).expect("a spawner")
}

#[test]
fn invocations_wait_for_the_spawner_that_replaces_a_killed_one() {
    let server = server();
    let api = Api::new(server.url());
    // Nothing of what never ran dies with the spawner.
    for at in 0..6 {
        api.create_puppet(&format!("f{at}"), json!({ "Timeout": 60 }));
    }
    for round in 0..2 {
        let old = spawner(server.pid());
        assert!(Command::new("kill").args(["-KILL", &old.to_string()]).status().unwrap().success());
        std::thread::scope(|scope| {
            for at in round * 3..round * 3 + 3 {
                let api = &api;
                scope.spawn(move || {
                    let reply = api.invoke(&format!("f{at}"), &json!({ "do": "count" }));
                    assert_eq!(reply.status, 200, "{}", reply.text());
                    assert_eq!(reply.json()["count"], 1, "{}", reply.text());
                });
            }
        });
        assert_ne!(spawner(server.pid()), old);
    }
}
