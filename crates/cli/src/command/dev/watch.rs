//! What changes in folders: inotify, with all folders below, until it is quiet again.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A change is over when nothing has happened for so long: editors write a file in several steps,
/// and a checkout writes many.
const QUIET: Duration = Duration::from_millis(12);
/// A change that goes on is looked at in between.
const LONGEST: Duration = Duration::from_millis(500);
/// Between two looks whether a folder that was removed is there again.
const RETURN: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
pub(super) enum WatchError {
    #[error("the system watches no more folders: fs.inotify.max_user_watches is used up at {path}")]
    TooMany { path: String },
    #[error("the system has no more watchers: fs.inotify.max_user_instances is used up")]
    NoInstance,
    #[error("cannot watch {path}")]
    System {
        path: String,
        #[source]
        source: std::io::Error,
    },
}

/// Something changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Changed {
    /// When it began.
    pub(super) since: Instant,
    /// Which of the watched paths, by their place.
    pub(super) which: BTreeSet<usize>,
}

/// Folders with all below them, and single files.
#[derive(Debug)]
pub(super) struct Watch {
    queue: OwnedFd,
    roots: Vec<PathBuf>,
    /// Watched folders: of which roots, and where. That of a single file is not the root itself.
    folders: HashMap<i32, Vec<(usize, PathBuf)>>,
    /// Roots that are not there at the moment.
    missing: BTreeSet<usize>,
    /// Files that somebody has written to and not closed: half of a file is no change yet.
    open: HashSet<(i32, OsString)>,
}

impl Watch {
    pub(super) fn new(roots: Vec<PathBuf>) -> Result<Self, WatchError> {
        let queue = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        let queue = queue.map_err(|errno| match errno {
            Errno::MFILE => WatchError::NoInstance,
            other => WatchError::System { path: "anything".into(), source: other.into() },
        })?;
        let mut watch = Self {
            queue,
            roots,
            folders: HashMap::new(),
            missing: BTreeSet::new(),
            open: HashSet::new(),
        };
        for root in 0..watch.roots.len() {
            watch.add_root(root)?;
        }
        Ok(watch)
    }

    fn add_root(&mut self, root: usize) -> Result<(), WatchError> {
        let path = self.roots[root].clone();
        // A file is watched by its folder: editors put another one in its place.
        let is_file = path.is_file();
        let folder = if is_file { path.parent().map(Path::to_owned) } else { Some(path) };
        let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
        self.add(root, &folder.unwrap_or_else(|| PathBuf::from(".")), !is_file)
    }

    /// Watches a folder and, if asked to, all below it. One that is gone meanwhile is none.
    fn add(&mut self, root: usize, folder: &Path, deep: bool) -> Result<(), WatchError> {
        let flags = WatchFlags::ONLYDIR
            | WatchFlags::ATTRIB
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MODIFY
            | WatchFlags::MOVE
            | WatchFlags::MOVE_SELF;
        // First the watch, then the look: what comes in between is then seen twice, not never.
        let shown = || folder.display().to_string();
        // The top one may be a link to a folder, those below are not followed.
        let flags =
            if folder == self.roots[root] { flags } else { flags | WatchFlags::DONT_FOLLOW };
        match inotify::add_watch(&self.queue, folder, flags) {
            Ok(id) => {
                let places = self.folders.entry(id).or_default();
                // One that was renamed keeps its id and has another path.
                match places.iter_mut().find(|(of, _)| *of == root) {
                    Some((_, path)) => folder.clone_into(path),
                    None => places.push((root, folder.to_owned())),
                }
            }
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                if folder == self.roots[root] {
                    self.missing.insert(root);
                }
                return Ok(());
            }
            Err(Errno::NOSPC) => return Err(WatchError::TooMany { path: shown() }),
            Err(errno) => {
                return Err(WatchError::System { path: shown(), source: errno.into() });
            }
        }
        self.missing.remove(&root);
        if deep {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    self.add(root, &entry.path(), true)?;
                }
            }
        }
        Ok(())
    }

    /// Waits until something has changed and it is quiet again, or until it has gone on for long.
    pub(super) fn next(&mut self) -> Result<Changed, WatchError> {
        let mut which = BTreeSet::new();
        let mut since = Instant::now();
        loop {
            let patience = match (which.is_empty(), self.missing.is_empty()) {
                (false, _) if since.elapsed() >= LONGEST => Duration::ZERO,
                (false, _) => QUIET,
                (true, false) => RETURN,
                (true, true) => Duration::from_secs(3_600),
            };
            let is_quiet = !self.wait(patience)?;
            for root in self.missing.clone() {
                self.add_root(root)?;
                if !self.missing.contains(&root) {
                    which.insert(root);
                }
            }
            let started = which.is_empty();
            if !is_quiet {
                self.read(&mut which)?;
            }
            if started && !which.is_empty() {
                since = Instant::now();
            }
            let is_over = is_quiet && self.open.is_empty();
            if !which.is_empty() && (is_over || since.elapsed() >= LONGEST) {
                // Who keeps a file open holds up one change and not every one.
                self.open.clear();
                return Ok(Changed { since, which });
            }
        }
    }

    /// Whether there is something to read.
    fn wait(&self, patience: Duration) -> Result<bool, WatchError> {
        let patience = Timespec {
            tv_sec: i64::try_from(patience.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: patience.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(&self.queue, PollFlags::IN)];
        match poll(&mut fds, Some(&patience)) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::INTR) => Ok(false),
            Err(errno) => Err(lost(errno)),
        }
    }

    fn read(&mut self, which: &mut BTreeSet<usize>) -> Result<(), WatchError> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut seen = Vec::new();
        {
            let mut reader = Reader::new(&self.queue, &mut buffer);
            loop {
                match reader.next() {
                    Ok(event) => {
                        let name = event.file_name();
                        let name = name.map(|name| OsStr::from_bytes(name.to_bytes()).to_owned());
                        seen.push((event.wd(), event.events(), name));
                    }
                    Err(Errno::AGAIN) => break,
                    Err(Errno::INTR) => {}
                    Err(errno) => return Err(lost(errno)),
                }
            }
        }
        for (id, flags, name) in seen {
            if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
                which.extend(0..self.roots.len());
                for root in 0..self.roots.len() {
                    self.add_root(root)?;
                }
                continue;
            }
            if let Some(name) = &name {
                let file = (id, name.clone());
                if flags.contains(ReadFlags::MODIFY) {
                    self.open.insert(file);
                } else {
                    self.open.remove(&file);
                }
            }
            let places = self.folders.get(&id).cloned().unwrap_or_default();
            for (root, folder) in places {
                let path = name.as_ref().map(|name| folder.join(name));
                // Of the folder of a single file, that file alone.
                let is_single = self.roots[root].parent() == Some(&folder)
                    || (self.roots[root].parent() == Some(Path::new(""))
                        && folder == Path::new("."));
                let is_other = path
                    .as_ref()
                    .is_none_or(|path| path.file_name() != self.roots[root].file_name());
                if folder != self.roots[root] && is_single && is_other {
                    continue;
                }
                which.insert(root);
                let arrived = ReadFlags::CREATE | ReadFlags::MOVED_TO;
                let is_folder = flags.contains(ReadFlags::ISDIR) && flags.intersects(arrived);
                if let Some(path) = path.filter(|_| is_folder && !is_single) {
                    self.add(root, &path, true)?;
                }
                let gone = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT;
                if flags.intersects(gone) && folder == self.roots[root] {
                    self.missing.insert(root);
                }
            }
            if flags.contains(ReadFlags::IGNORED) {
                self.open.retain(|(of, _)| *of != id);
                self.folders.remove(&id);
            }
        }
        Ok(())
    }
}

fn lost(errno: Errno) -> WatchError {
    WatchError::System { path: "the folders any longer".into(), source: errno.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, channel};

    /// Changes as they are seen.
    fn watched(roots: Vec<PathBuf>) -> Receiver<BTreeSet<usize>> {
        let mut watch = Watch::new(roots).expect("watch");
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            while let Ok(changed) = watch.next() {
                if sender.send(changed.which).is_err() {
                    break;
                }
            }
        });
        receiver
    }

    /// Waits until a change of this root was seen, whatever else comes before.
    fn see(receiver: &Receiver<BTreeSet<usize>>, root: usize) {
        loop {
            let which = receiver.recv_timeout(Duration::from_secs(60)).expect("a change");
            if which.contains(&root) {
                return;
            }
        }
    }

    fn write(path: &Path) {
        std::fs::write(path, "x").expect("write");
    }

    #[test]
    fn changes_are_seen_at_any_depth_and_in_new_folders() {
        let folder = tempfile::tempdir().expect("folder");
        let deep = folder.path().join("a/b");
        std::fs::create_dir_all(&deep).expect("folders");
        let seen = watched(vec![folder.path().to_owned()]);
        write(&deep.join("file"));
        see(&seen, 0);
        let new = folder.path().join("new/deeper");
        std::fs::create_dir_all(&new).expect("folders");
        see(&seen, 0);
        write(&new.join("file"));
        see(&seen, 0);
        std::fs::rename(new.join("file"), new.join("other")).expect("rename");
        see(&seen, 0);
        // A folder made in one that was renamed.
        std::fs::rename(&new, folder.path().join("renamed")).expect("rename");
        see(&seen, 0);
        let new = folder.path().join("renamed/more");
        std::fs::create_dir(&new).expect("folder");
        see(&seen, 0);
        write(&new.join("other"));
        see(&seen, 0);
        std::fs::remove_dir_all(folder.path().join("a")).expect("remove");
        see(&seen, 0);
        let mut mode = std::fs::metadata(new.join("other")).expect("mode").permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
        std::fs::set_permissions(new.join("other"), mode).expect("mode");
        see(&seen, 0);
    }

    #[test]
    fn a_folder_that_is_made_anew_is_seen_again() {
        let folder = tempfile::tempdir().expect("folder");
        let root = folder.path().join("dist");
        std::fs::create_dir(&root).expect("folder");
        let seen = watched(vec![root.clone()]);
        for _ in 0..3 {
            std::fs::remove_dir_all(&root).expect("remove");
            see(&seen, 0);
            std::fs::create_dir(&root).expect("folder");
            see(&seen, 0);
            write(&root.join("bootstrap"));
            see(&seen, 0);
        }
    }

    #[test]
    fn of_a_single_file_its_neighbours_do_not_count() {
        let folder = tempfile::tempdir().expect("folder");
        let (zip, other) = (folder.path().join("layer.zip"), folder.path().join("other"));
        write(&zip);
        let code = folder.path().join("code");
        std::fs::create_dir(&code).expect("folder");
        let seen = watched(vec![code.clone(), zip.clone()]);
        write(&other);
        std::fs::rename(&other, &zip).expect("rename");
        let first = seen.recv_timeout(Duration::from_secs(60)).expect("a change");
        assert_eq!(first, BTreeSet::from([1]));
        write(&folder.path().join("noise"));
        write(&code.join("file"));
        let next = loop {
            let which = seen.recv_timeout(Duration::from_secs(60)).expect("a change");
            if which != BTreeSet::from([1]) {
                break which;
            }
        };
        assert_eq!(next, BTreeSet::from([0]));
    }

    #[test]
    fn half_of_a_file_is_no_change_yet() {
        use std::io::Write as _;
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("file");
        write(&path);
        let mut watch = Watch::new(vec![folder.path().to_owned()]).expect("watch");
        let mut file = std::fs::File::create(&path).expect("truncate");
        file.write_all(b"half").expect("write");
        let mut which = BTreeSet::new();
        watch.read(&mut which).expect("read");
        assert_eq!((which.len(), watch.open.len()), (1, 1));
        drop(file);
        watch.read(&mut which).expect("read");
        assert!(watch.open.is_empty());
        // Who never closes a file is not waited for without end.
        let mut file = std::fs::File::create(&path).expect("truncate");
        file.write_all(b"half").expect("write");
        assert!(watch.next().expect("a change").since.elapsed() >= LONGEST);
    }

    #[test]
    fn many_files_at_once_are_few_changes() {
        let folder = tempfile::tempdir().expect("folder");
        let mut watch = Watch::new(vec![folder.path().to_owned()]).expect("watch");
        for number in 0..2_000 {
            write(&folder.path().join(number.to_string()));
        }
        let changed = watch.next().expect("a change");
        assert_eq!(changed.which, BTreeSet::from([0]));
        // All was there before the first look, so one look is enough.
        assert!(!watch.wait(Duration::ZERO).expect("wait"));
    }
}
