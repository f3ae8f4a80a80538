//! The power is cut: the system calls of a real run are recorded by strace, and from them the
//! disk is rebuilt as it may look after a cut at any moment, when only what was synced is
//! sure to be there. A store that forgets one fsync fails here, although it survives every
//! crash of its process.

use crate::workload::{Plan, Said, verify};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

/// One recorded call that matters.
#[derive(Debug, Clone)]
enum Call {
    Create(PathBuf),
    MakeFolder(PathBuf),
    Write { path: PathBuf, offset: Option<u64>, bytes: Vec<u8> },
    Truncate { path: PathBuf, length: u64 },
    Rename { from: PathBuf, to: PathBuf },
    Unlink(PathBuf),
    Sync(PathBuf),
    Say(String),
}

/// Runs the workload under strace.
fn record(dir: &Path, trace: &Path, steps: u64, fill_bytes: usize) -> Vec<Call> {
    let trace_text = trace.to_str().unwrap();
    let calls = "trace=openat,mkdir,mkdirat,write,pwrite64,pwritev,writev,ftruncate,fallocate,copy_file_range,rename,renameat,renameat2,unlink,unlinkat,link,linkat,fsync,fdatasync,sync_file_range";
    let strace = ["strace", "-f", "-y", "-xx", "-s", "20000000", "-e", calls, "-o", trace_text];
    let plan = Plan { dir, stop: "none".to_owned(), steps, fill_bytes };
    let output = plan.command(&strace).output().unwrap_or_else(|error| {
        panic!("this test needs strace ({error}); install it with: apt-get install strace")
    });
    assert!(
        output.status.success(),
        "the traced run failed; may this process be traced (ptrace)?\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // The folder's own name is on the disk too: look at what holds it.
    parse(&std::fs::read_to_string(trace).unwrap(), dir.parent().unwrap())
}

/// `\x61\x62` → `ab`
fn unescape(text: &str) -> Vec<u8> {
    text.split("\\x").skip(1).map(|hex| u8::from_str_radix(&hex[..2], 16).unwrap()).collect()
}

/// The path in `3<\x2f…>`.
fn path_of(argument: &str) -> Option<PathBuf> {
    let text = argument.split_once('<')?.1.strip_suffix('>')?;
    Some(PathBuf::from(String::from_utf8(unescape(text)).ok()?))
}

/// The path in `"\x2f…"`.
fn quoted(argument: &str) -> PathBuf {
    PathBuf::from(String::from_utf8(unescape(argument.trim_matches('"'))).unwrap())
}

fn parse(trace: &str, dir: &Path) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut unfinished: HashMap<&str, String> = HashMap::new();
    for line in trace.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim_start();
        let joined;
        let whole = if let Some(start) = rest.strip_suffix(" <unfinished ...>") {
            unfinished.insert(thread, start.to_owned());
            continue;
        } else if rest.starts_with("<... ") {
            let (_, end) = rest.split_once(" resumed>").unwrap();
            joined = unfinished.remove(thread).unwrap() + end;
            joined.as_str()
        } else {
            rest
        };
        let Some((name, rest)) = whole.split_once('(') else { continue };
        let Some((arguments, result)) = rest.rsplit_once(") ") else { continue };
        let result = result.trim_start().trim_start_matches("= ");
        if result.starts_with('-') || result.starts_with('?') {
            continue;
        }
        let arguments: Vec<&str> = arguments.split(", ").collect();
        calls.extend(understand(name, &arguments, result, dir));
    }
    calls
}

fn understand(name: &str, arguments: &[&str], result: &str, dir: &Path) -> Option<Call> {
    let ours = |path: PathBuf| path.starts_with(dir).then_some(path);
    match name {
        "openat" => {
            if arguments[2].contains("O_TRUNC") {
                let path = ours(path_of(result)?)?;
                // Making and emptying are one thing to a disk that forgets.
                return Some(Call::Create(path));
            }
            arguments[2]
                .contains("O_CREAT")
                .then(|| path_of(result))
                .flatten()
                .and_then(ours)
                .map(Call::Create)
        }
        "mkdir" => ours(quoted(arguments[0])).map(Call::MakeFolder),
        "write" => {
            let bytes = unescape(arguments[1].trim_matches('"'));
            if arguments[0].starts_with("1<") {
                return Some(Call::Say(String::from_utf8_lossy(&bytes).into_owned()));
            }
            Some(Call::Write { path: ours(path_of(arguments[0])?)?, offset: None, bytes })
        }
        "pwrite64" => {
            let path = ours(path_of(arguments[0])?)?;
            let bytes = unescape(arguments[1].trim_matches('"'));
            Some(Call::Write { path, offset: Some(arguments[3].parse().unwrap()), bytes })
        }
        "ftruncate" => {
            let path = ours(path_of(arguments[0])?)?;
            Some(Call::Truncate { path, length: arguments[1].parse().unwrap() })
        }
        "rename" => {
            Some(Call::Rename { from: ours(quoted(arguments[0]))?, to: quoted(arguments[1]) })
        }
        "unlink" => ours(quoted(arguments[0])).map(Call::Unlink),
        "fsync" | "fdatasync" => ours(path_of(arguments[0])?).map(Call::Sync),
        other => {
            let touches = arguments.iter().any(|argument| {
                path_of(argument).is_some_and(|path| path.starts_with(dir))
                    || (argument.starts_with('"') && quoted(argument).starts_with(dir))
            });
            assert!(!touches, "the simulated disk does not know {other}({arguments:?})");
            None
        }
    }
}

/// A file: what is sure to be there, and what was done to it since.
#[derive(Debug, Clone, Default)]
struct File {
    synced: Vec<u8>,
    now: Vec<u8>,
    since: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write(offset, bytes) => {
                if content.len() < offset + bytes.len() {
                    content.resize(offset + bytes.len(), 0);
                }
                content[*offset..offset + bytes.len()].copy_from_slice(bytes);
            }
            Self::Truncate(length) => content.resize(*length, 0),
        }
    }
}

/// What of the changes that were not synced reached the disk.
#[derive(Debug, Clone, Copy)]
enum Luck {
    /// Nothing at all.
    None,
    /// Everything.
    All,
    /// Some of the writes, in any order, by a seed; names as they are.
    Some(u64),
}

/// A disk that forgets what was not synced. Names point to files, as inodes.
#[derive(Debug, Default)]
struct Disk {
    files: Vec<File>,
    names: BTreeMap<PathBuf, usize>,
    synced_names: BTreeMap<PathBuf, usize>,
    /// With their names, and whether those are synced.
    folders: Vec<(PathBuf, bool)>,
}

impl Disk {
    fn change(&mut self, path: &Path, change: Change) {
        // A file that was unlinked while open is nobody's concern.
        let Some(inode) = self.names.get(path) else { return };
        let file = &mut self.files[*inode];
        change.apply(&mut file.now);
        file.since.push(change);
    }

    fn run(&mut self, call: &Call) {
        match call {
            Call::Create(path) => {
                if !self.names.contains_key(path) {
                    self.names.insert(path.clone(), self.files.len());
                    self.files.push(File::default());
                }
            }
            Call::MakeFolder(path) => self.folders.push((path.clone(), false)),
            Call::Write { path, offset, bytes } => {
                let end = self.names.get(path).map_or(0, |inode| self.files[*inode].now.len());
                let offset = offset.map_or(end, |offset| usize::try_from(offset).unwrap());
                self.change(path, Change::Write(offset, bytes.clone()));
            }
            Call::Truncate { path, length } => {
                self.change(path, Change::Truncate(usize::try_from(*length).unwrap()));
            }
            Call::Rename { from, to } => {
                let inode = self.names.remove(from).unwrap();
                self.names.insert(to.clone(), inode);
            }
            Call::Unlink(path) => {
                self.names.remove(path);
            }
            Call::Sync(path) => {
                if let Some(inode) = self.names.get(path) {
                    let file = &mut self.files[*inode];
                    file.synced.clone_from(&file.now);
                    file.since.clear();
                } else {
                    let folders = self.folders.iter_mut();
                    for (_, synced) in folders.filter(|(name, _)| name.parent() == Some(path)) {
                        *synced = true;
                    }
                    let inside = |name: &Path| name.parent() == Some(path.as_path());
                    self.synced_names.retain(|name, _| !inside(name));
                    let names = self.names.iter().filter(|(name, _)| inside(name));
                    self.synced_names.extend(names.map(|(name, inode)| (name.clone(), *inode)));
                }
            }
            Call::Say(_) => {}
        }
    }

    /// Writes down what a cut leaves.
    fn cut(&self, from: &Path, to: &Path, luck: Luck) {
        let kept = |synced: bool| synced || !matches!(luck, Luck::None);
        for (folder, _) in self.folders.iter().filter(|(_, synced)| kept(*synced)) {
            std::fs::create_dir_all(to.join(folder.strip_prefix(from).unwrap())).unwrap();
        }
        let names = match luck {
            Luck::None => &self.synced_names,
            Luck::All | Luck::Some(_) => &self.names,
        };
        for (name, inode) in names {
            let lost = |folder: &(PathBuf, bool)| !kept(folder.1) && name.starts_with(&folder.0);
            if self.folders.iter().any(lost) {
                continue;
            }
            // The index of the log lives in memory, and the lock file says nothing.
            if name.extension().is_some_and(|e| e == "db-shm" || e == "lock") {
                continue;
            }
            let file = &self.files[*inode];
            let content = match luck {
                Luck::None => file.synced.clone(),
                Luck::All => file.now.clone(),
                Luck::Some(seed) => {
                    let mut content = file.synced.clone();
                    for (i, change) in file.since.iter().enumerate() {
                        let mixed = (seed ^ i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                        if mixed >> 63 == 1 {
                            change.apply(&mut content);
                        }
                    }
                    content
                }
            };
            std::fs::write(to.join(name.strip_prefix(from).unwrap()), content).unwrap();
        }
    }
}

/// Cuts the power at every call that `at` picks and verifies what is left.
fn cut_everywhere(dir: &Path, calls: &[Call], at: impl Fn(usize, &Call) -> bool) -> (usize, Said) {
    let mut disk = Disk::default();
    let mut said = Said::default();
    let mut cuts = 0;
    for (i, call) in calls.iter().enumerate() {
        disk.run(call);
        if let Call::Say(text) = call {
            said.hear(text);
        }
        if !at(i, call) {
            continue;
        }
        let seed = i as u64;
        for luck in [Luck::None, Luck::Some(seed), Luck::All] {
            // That everything reached the disk is what the crashes show already.
            if matches!(luck, Luck::All) && i % 8 != 0 {
                continue;
            }
            let after = tempfile::tempdir().unwrap();
            disk.cut(dir, after.path(), luck);
            let result = std::panic::catch_unwind(|| verify(after.path(), &said));
            assert!(result.is_ok(), "after call {i} ({}), {luck:?}", short(call));
            cuts += 1;
        }
    }
    (cuts, said)
}

fn short(call: &Call) -> String {
    format!("{call:?}").chars().take(200).collect()
}

fn data_dir() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().canonicalize().unwrap().join("data");
    let trace = temporary.path().join("trace");
    (temporary, dir, trace)
}

#[test]
fn power_may_fail_at_any_call() {
    let (_temporary, dir, trace) = data_dir();
    let calls = record(&dir, &trace, 3, 100);
    let (cuts, said) = cut_everywhere(&dir, &calls, |_, call| !matches!(call, Call::Say(_)));
    assert!(said.ended && said.count() > 20, "{said:?}");
    assert!(cuts > 200, "{cuts} cuts");
}

#[test]
fn power_may_fail_around_checkpoints() {
    let (_temporary, dir, trace) = data_dir();
    let calls = record(&dir, &trace, 16, 60_000);
    let checkpoint = |call: &Call| matches!(call, Call::Sync(path) if path.ends_with("store.db"));
    let last_open = calls.iter().position(|call| matches!(call, Call::Say(_))).unwrap();
    let checkpoints = calls[last_open..].iter().filter(|call| checkpoint(call)).count();
    assert!(checkpoints > 0, "the log was never written back: the run is too short");
    cut_everywhere(&dir, &calls, |i, call| {
        checkpoint(call) || (matches!(call, Call::Sync(_)) && i % 11 == 0)
    });
}

#[test]
fn disk_without_syncs_loses_what_was_acknowledged() {
    let (_temporary, dir, trace) = data_dir();
    let mut calls = record(&dir, &trace, 2, 100);
    calls.retain(|call| !matches!(call, Call::Sync(path) if path.ends_with("store.db-wal")));
    let result = std::panic::catch_unwind(|| {
        cut_everywhere(
            &dir,
            &calls,
            |_, call| matches!(call, Call::Say(text) if text.contains("end")),
        )
    });
    assert!(result.is_err(), "the simulated disk forgets nothing: this proves nothing");
}

#[test]
fn every_acknowledgement_follows_a_sync() {
    let (_temporary, dir, trace) = data_dir();
    let calls = record(&dir, &trace, 3, 100);
    let mut since: HashMap<String, usize> = HashMap::new();
    let mut acknowledged = 0;
    for call in &calls {
        match call {
            Call::Sync(path) if path.ends_with("store.db-wal") => {
                since.values_mut().for_each(|syncs| *syncs += 1);
            }
            Call::Say(text) => {
                for line in text.lines().filter_map(|line| line.strip_prefix('@')) {
                    let words: Vec<&str> = line.split(' ').collect();
                    let [what, lane, _] = words[..] else { continue };
                    // What a lane says next is of a transaction that began after this.
                    let syncs = since.insert(lane.to_owned(), 0);
                    if matches!(what, "commit" | "ack" | "retry" | "delete") {
                        acknowledged += 1;
                        assert!(syncs.is_none_or(|syncs| syncs > 0), "{line} without a sync");
                    }
                }
            }
            _ => {}
        }
    }
    assert_eq!(acknowledged, 3 * (3 + 1 + 1 + 1));
}
