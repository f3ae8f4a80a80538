//! The data folder itself: its lock, its id, its format.

use crate::error::OpenError;
use crate::fault::{CrashPoint, Hook};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The format that this program writes.
pub(crate) const FORMAT: u64 = 1;
/// Temporary files begin with this, in the folder and in `blobs/`.
pub(crate) const TEMPORARY: &str = ".tmp-";

/// What a data folder may hold before it has a format: parts of itself, and what other parts
/// of the program may have made already.
const OURS: [&str; 9] =
    ["lambfold.lock", "id", "format", "blobs", "trees", "opt", "logs", "run", "lost+found"];

/// A locked data folder. The lock ends with this value, or with the process.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) dir: PathBuf,
    pub(crate) id: String,
    _lock: File,
}

fn io_error<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> OpenError + use<'a> {
    move |source| OpenError::Io { action, path: path.to_owned(), source }
}

impl Folder {
    pub(crate) fn open(dir: &Path, sync: bool, hook: &Hook) -> Result<Self, OpenError> {
        create(dir, sync).map_err(io_error("create the data folder", dir))?;
        let dir = fs::canonicalize(dir).map_err(io_error("find the data folder", dir))?;
        refuse_foreign(&dir)?;
        let lock = take_lock(&dir)?;
        hook.pass(CrashPoint::FolderLocked);
        remove_temporaries(&dir)?;
        let format = read_format(&dir)?;
        let id = match (read_id(&dir)?, format) {
            (Some(id), _) => id,
            (None, None) => {
                let id = new_id();
                write_small(&dir, "id", &id, sync)?;
                id
            }
            (None, Some(_)) => {
                return Err(OpenError::Damaged { path: dir.join("id"), why: "it is missing" });
            }
        };
        hook.pass(CrashPoint::FolderIdWritten);
        if format.is_none() {
            write_small(&dir, "format", &FORMAT.to_string(), sync)?;
        }
        hook.pass(CrashPoint::FolderFormatWritten);
        let blobs = dir.join("blobs");
        match fs::DirBuilder::new().mode(0o700).create(&blobs) {
            Ok(()) if sync => sync_dir(&dir).map_err(io_error("sync the data folder", &dir))?,
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io_error("create folder", &blobs)(error)),
        }
        remove_temporaries(&blobs)?;
        Ok(Self { dir, id, _lock: lock })
    }
}

/// Makes the folder and those above it that are missing, and their names durable.
fn create(dir: &Path, sync: bool) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = match dir.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Err(io::ErrorKind::NotFound.into()),
    };
    create(parent, sync)?;
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
        result => result?,
    }
    if sync { sync_dir(parent) } else { Ok(()) }
}

fn refuse_foreign(dir: &Path) -> Result<(), OpenError> {
    if dir.join("format").exists() {
        return Ok(());
    }
    for entry in fs::read_dir(dir).map_err(io_error("read the data folder", dir))? {
        let entry = entry.map_err(io_error("read the data folder", dir))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !OURS.contains(&name.as_str()) && !name.starts_with(TEMPORARY) {
            return Err(OpenError::Foreign { dir: dir.to_owned(), entry: name });
        }
    }
    Ok(())
}

fn take_lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lambfold.lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(io_error("open the lock file", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let _ = file.read_to_string(&mut text);
            return Err(OpenError::InUse { dir: dir.to_owned(), pid: text.trim().parse().ok() });
        }
        Err(TryLockError::Error(error)) => {
            return Err(io_error("lock the data folder with", &path)(error));
        }
    }
    file.set_len(0)
        .and_then(|()| file.seek(SeekFrom::Start(0)))
        .and_then(|_| file.write_all(std::process::id().to_string().as_bytes()))
        .map_err(io_error("write the process id to", &path))?;
    Ok(file)
}

fn read_small(path: &Path) -> Result<Option<String>, OpenError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", path)(error)),
    }
}

fn read_id(dir: &Path) -> Result<Option<String>, OpenError> {
    let path = dir.join("id");
    let Some(id) = read_small(&path)? else { return Ok(None) };
    let valid =
        id.len() == 16 && id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if valid {
        Ok(Some(id))
    } else {
        Err(OpenError::Damaged { path, why: "it is not 16 lower-case hexadecimal digits" })
    }
}

fn read_format(dir: &Path) -> Result<Option<u64>, OpenError> {
    let path = dir.join("format");
    let Some(text) = read_small(&path)? else { return Ok(None) };
    match text.parse::<u64>() {
        Ok(found) if found > FORMAT => {
            Err(OpenError::NewerFormat { dir: dir.to_owned(), found, known: FORMAT })
        }
        Ok(0) | Err(_) => Err(OpenError::Damaged { path, why: "it is not a number from 1" }),
        Ok(found) => Ok(Some(found)),
    }
}

fn new_id() -> String {
    let random = uuid::Uuid::new_v4().as_u128();
    // The version and variant bits of a UUID are fixed; take 64 of the others.
    let high = (random >> 80) as u64;
    let low = (random & 0xffff) as u64;
    format!("{:016x}", (high << 16) | low)
}

fn write_small(dir: &Path, name: &str, text: &str, sync: bool) -> Result<(), OpenError> {
    let path = dir.join(name);
    let temporary = dir.join(format!("{TEMPORARY}{name}"));
    let write = || -> io::Result<()> {
        let mut file = File::create(&temporary)?;
        writeln!(file, "{text}")?;
        if sync {
            file.sync_all()?;
        }
        fs::rename(&temporary, &path)?;
        if sync { sync_dir(dir) } else { Ok(()) }
    };
    write().map_err(io_error("write", &path))
}

fn remove_temporaries(dir: &Path) -> Result<(), OpenError> {
    for entry in fs::read_dir(dir).map_err(io_error("read folder", dir))? {
        let entry = entry.map_err(io_error("read folder", dir))?;
        if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            let path = entry.path();
            fs::remove_file(&path).map_err(io_error("remove the leftover", &path))?;
        }
    }
    Ok(())
}

/// Makes names in the folder durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn open(dir: &Path) -> Result<Folder, OpenError> {
        Folder::open(dir, true, &Hook::default())
    }

    #[test]
    fn id_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path()).unwrap();
        let id = first.id.clone();
        assert_eq!(id.len(), 16);
        drop(first);
        assert_eq!(open(dir.path()).unwrap().id, id);
    }

    #[test]
    fn ids_differ() {
        let ids: std::collections::HashSet<String> = (0..1000).map(|_| new_id()).collect();
        assert_eq!(ids.len(), 1000);
    }

    #[test]
    fn second_opener_is_refused_and_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let _first = open(dir.path()).unwrap();
        let error = open(dir.path()).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&dir.path().display().to_string()), "{text}");
        assert!(text.contains(&format!("process {}", std::process::id())), "{text}");
    }

    #[test]
    fn other_folder_is_not_locked() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = open(one.path()).unwrap();
        let second = open(two.path()).unwrap();
        assert_ne!(first.id, second.id);
    }

    #[test]
    fn formats_on_both_sides_of_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()).unwrap());
        fs::write(dir.path().join("format"), format!("{FORMAT}\n")).unwrap();
        drop(open(dir.path()).unwrap());
        fs::write(dir.path().join("format"), format!("{}\n", FORMAT + 1)).unwrap();
        assert!(matches!(open(dir.path()), Err(OpenError::NewerFormat { found: 2, known: 1, .. })));
        fs::write(dir.path().join("format"), "one").unwrap();
        assert!(matches!(open(dir.path()), Err(OpenError::Damaged { .. })));
    }

    #[test]
    fn damaged_or_lost_id_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()).unwrap());
        fs::write(dir.path().join("id"), "../../etc/passwd").unwrap();
        assert!(matches!(open(dir.path()), Err(OpenError::Damaged { .. })));
        fs::remove_file(dir.path().join("id")).unwrap();
        assert!(matches!(open(dir.path()), Err(OpenError::Damaged { .. })));
    }

    #[test]
    fn folder_of_something_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), "").unwrap();
        assert!(matches!(open(dir.path()), Err(OpenError::Foreign { .. })));
        assert!(!dir.path().join("lambfold.lock").exists());
    }

    #[test]
    fn leftovers_of_a_crash_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        drop(open(dir.path()).unwrap());
        fs::write(dir.path().join(".tmp-id"), "x").unwrap();
        fs::write(dir.path().join("blobs/.tmp-1"), "x").unwrap();
        drop(open(dir.path()).unwrap());
        assert!(!dir.path().join(".tmp-id").exists());
        assert!(!dir.path().join("blobs/.tmp-1").exists());
    }
}
