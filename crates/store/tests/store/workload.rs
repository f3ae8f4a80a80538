//! A server's life in small: what a child process does until it is stopped, what it says of
//! it, and what must then be found on disk.

use lambfold_store::{EventId, Expected, NewEvent, Options, Store, Write};
use lambfold_types::Digest;
use sha2::Digest as _;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the child works.
const DIR: &str = "LAMBFOLD_STORE_TEST_DIR";
/// `<crash point> <which time>`, or `none`.
const STOP: &str = "LAMBFOLD_STORE_TEST_STOP";
/// Bytes that each lane writes at each step, so that long runs pass checkpoints.
const FILL: &str = "LAMBFOLD_STORE_TEST_FILL";
/// Steps of each lane.
const STEPS: &str = "LAMBFOLD_STORE_TEST_STEPS";
/// Lanes that work at once.
const LANES: u64 = 3;

/// What a child is to do.
pub(crate) struct Plan<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) stop: String,
    pub(crate) steps: u64,
    pub(crate) fill_bytes: usize,
}

impl Plan<'_> {
    /// The child's program, arguments and environment.
    pub(crate) fn command(&self, prefix: &[&str]) -> Command {
        let me = std::env::current_exe().unwrap();
        let mut words: Vec<PathBuf> = prefix.iter().map(PathBuf::from).collect();
        words.push(me);
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .args(["--exact", "workload::child", "--nocapture", "--quiet", "--test-threads=1"])
            .env(DIR, self.dir)
            .env(STOP, &self.stop)
            .env(STEPS, self.steps.to_string())
            .env(FILL, self.fill_bytes.to_string());
        command
    }
}

/// Content of the blob of a lane's step: several chunks.
pub(crate) fn blob(lane: u64, step: u64) -> Vec<u8> {
    let mut bytes = format!("blob {lane} {step} ").into_bytes();
    bytes.resize(300_000, b'x');
    bytes
}

fn digest(bytes: &[u8]) -> Digest {
    Digest::from_bytes(&sha2::Sha256::digest(bytes).into())
}

/// One line on the child's standard output, in one write: what is said was done.
fn say(text: &str) {
    std::io::stdout().write_all(format!("\n@{text}\n").as_bytes()).unwrap();
    std::io::stdout().flush().unwrap();
}

/// Works when another test starts this binary with a plan in its environment, and is nothing
/// otherwise.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let number = |name: &str| std::env::var(name).unwrap().parse::<u64>().unwrap();
    let stop = std::env::var(STOP).unwrap();
    let hook = lambfold_store::Hook::new({
        let (point, times) = stop.split_once(' ').unwrap_or((&stop, "0"));
        let (point, times) = (point.to_owned(), times.parse::<u64>().unwrap());
        let passed = std::sync::atomic::AtomicU64::new(0);
        move |at| {
            if format!("{at:?}") == point
                && passed.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1 == times
            {
                std::process::abort();
            }
        }
    });
    let options = Options { hook, ..Options::default() };
    let store = Store::open_with(Path::new(&dir), options).unwrap();
    say("open");
    let (steps, fill) = (number(STEPS), usize::try_from(number(FILL)).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let lanes: Vec<_> =
            (0..LANES).map(|lane| tokio::spawn(work(store.clone(), lane, steps, fill))).collect();
        for lane in lanes {
            lane.await.unwrap();
        }
    });
    say("end");
}

async fn work(store: Store, lane: u64, steps: u64, fill: usize) {
    let mut events = Vec::new();
    for step in 1..=steps {
        let (bytes, content) = (digest(&blob(lane, step)), blob(lane, step));
        store.put_blob(std::io::Cursor::new(content)).await.unwrap();
        say(&format!("blob {lane} {step}"));
        let put = |key: String, expected| Write::Put {
            key,
            value: format!("{step} {}", "f".repeat(fill)).into_bytes(),
            expected,
        };
        let results = store
            .commit(vec![
                put(format!("left/{lane}"), Expected::Any),
                put(format!("right/{lane}"), Expected::Any),
                put(format!("item/{lane}/{step:06}"), Expected::Absent),
                Write::Enqueue(NewEvent {
                    scope: format!("{lane}"),
                    payload: step.to_string().into_bytes(),
                    enqueued_ms: 0,
                    not_before_ms: 0,
                }),
            ])
            .await
            .unwrap();
        say(&format!("commit {lane} {step}"));
        events.push(results[3]);
        if step % 2 == 0 {
            store.ack(EventId(events[events.len() - 2])).await.unwrap();
            say(&format!("ack {lane} {}", step - 1));
            store.retry(EventId(events[events.len() - 1]), 5).await.unwrap();
            say(&format!("retry {lane} {step}"));
        }
        if step % 3 == 0 {
            let write = Write::Delete {
                key: format!("item/{lane}/{:06}", step - 1),
                expected: Expected::Any,
            };
            store.commit(vec![write]).await.unwrap();
            say(&format!("delete {lane} {}", step - 1));
            say(&format!("dropping {lane} {step}"));
            store.delete_blob(&bytes).await.unwrap();
            say(&format!("dropped {lane} {step}"));
        }
    }
}

/// What the child said it had done.
#[derive(Debug, Default, Clone)]
pub(crate) struct Said {
    opened: bool,
    pub(crate) ended: bool,
    done: BTreeMap<String, BTreeSet<(u64, u64)>>,
}

impl Said {
    /// Adds what stands in a piece of the child's output.
    pub(crate) fn hear(&mut self, output: &str) {
        for line in output.lines().filter_map(|line| line.strip_prefix('@')) {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["open"] => self.opened = true,
                ["end"] => self.ended = true,
                [what, lane, step] => {
                    let at = (lane.parse().unwrap(), step.parse().unwrap());
                    self.done.entry(what.to_owned()).or_default().insert(at);
                }
                _ => panic!("{line}"),
            }
        }
    }

    fn has(&self, what: &str, lane: u64, step: u64) -> bool {
        self.done.get(what).is_some_and(|done| done.contains(&(lane, step)))
    }

    fn last(&self, what: &str, lane: u64) -> u64 {
        let done = self.done.get(what).into_iter().flatten();
        done.filter(|at| at.0 == lane).map(|at| at.1).max().unwrap_or(0)
    }

    pub(crate) fn count(&self) -> usize {
        self.done.values().map(BTreeSet::len).sum()
    }
}

fn step_of(value: &[u8]) -> u64 {
    std::str::from_utf8(value).unwrap().split(' ').next().unwrap().parse().unwrap()
}

/// Opens the folder and holds it against what was said: all of that is there, and of what
/// was under way either everything or nothing.
pub(crate) fn verify(dir: &Path, said: &Said) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let store = Store::open_with(dir, Options { sync: false, ..Options::default() })
        .unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)));
    runtime.block_on(async {
        let mut events: BTreeMap<(u64, u64), u32> = BTreeMap::new();
        for event in store.due(u64::MAX, usize::MAX).await.unwrap() {
            events.insert((event.scope.parse().unwrap(), step_of(&event.payload)), event.attempt);
        }
        for lane in 0..LANES {
            let left = store.get(&format!("left/{lane}")).await.unwrap();
            let right = store.get(&format!("right/{lane}")).await.unwrap();
            assert_eq!(left, right, "a commit is whole");
            let reached = left.map_or(0, |document| step_of(&document.value));
            let said_last = said.last("commit", lane);
            assert!(
                reached == said_last || reached == said_last + 1,
                "lane {lane}: {reached} on disk, {said_last} acknowledged"
            );
            for step in 1..=reached {
                let item = store.get(&format!("item/{lane}/{step:06}")).await.unwrap();
                let deleting = (step + 1) % 3 == 0 && reached > step;
                if said.has("delete", lane, step) {
                    assert_eq!(item, None, "what was deleted stays deleted");
                } else {
                    assert!(item.is_some() || deleting, "item {lane} {step} is lost");
                }
                let event = events.get(&(lane, step));
                if said.has("ack", lane, step) {
                    assert_eq!(event, None, "what was acknowledged stays so");
                } else {
                    let acking = step % 2 == 1 && reached > step;
                    assert!(event.is_some() || acking, "event {lane} {step} is lost");
                }
                if said.has("retry", lane, step) {
                    assert_eq!(event, Some(&1), "an attempt is lost");
                }
            }
            let later = format!("item/{lane}/{:06}", reached + 1);
            assert_eq!(store.get(&later).await.unwrap(), None, "half a commit");
            assert!(!events.contains_key(&(lane, reached + 1)), "half a commit");
            for step in 1..=said.last("blob", lane) {
                let found = store.open_blob(&digest(&blob(lane, step))).await.unwrap();
                if said.has("dropped", lane, step) {
                    assert!(found.is_none(), "a deleted blob is back");
                } else if !said.has("dropping", lane, step) && said.has("blob", lane, step) {
                    assert!(found.is_some(), "blob {lane} {step} is lost");
                }
            }
        }
        for name in store.list_blobs().await.unwrap() {
            let mut bytes = Vec::new();
            let mut file = store.open_blob(&name).await.unwrap().unwrap();
            file.read_to_end(&mut bytes).unwrap();
            assert_eq!(digest(&bytes), name, "half a blob has a name");
        }
        let entries = std::fs::read_dir(dir.join("blobs")).unwrap();
        for entry in entries {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(Digest::parse(&name).is_some(), "{name} was left behind");
        }
        let write = Write::Put { key: "after".into(), value: vec![], expected: Expected::Any };
        store.commit(vec![write]).await.unwrap();
    });
}
