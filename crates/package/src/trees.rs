mod protect;

use crate::archive::Archive;
use crate::error::PackageError;
use crate::fs::sync_folder;
use crate::merge;
use crate::unpack::unpack;
use base64::Engine as _;
use lambfold_types::{Digest, limits};
use rustix::fs::{CWD, RenameFlags};
use sha2::{Digest as _, Sha256};
use std::collections::{HashMap, HashSet};
use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a zip may hold.
#[derive(Debug, Clone)]
pub struct Limits {
    /// First size of the zip that is refused, bytes.
    pub zip_bytes: u64,
    /// First sum of unpacked sizes that is refused, bytes.
    pub unpacked_bytes: u64,
    /// Largest number of entries, and of files and folders that they make.
    pub entries: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            zip_bytes: limits::DIRECT_UPLOAD_BYTES,
            unpacked_bytes: limits::UNPACKED_BYTES,
            entries: limits::ZIP_ENTRIES,
        }
    }
}

/// How trees are kept.
#[derive(Debug, Clone)]
pub struct Options {
    /// Flush a tree to disk before it appears; off for a data folder that does not outlive the
    /// server.
    pub durable: bool,
    /// What a zip may hold.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self { durable: true, limits: Limits::default() }
    }
}

/// A tree and the zip that it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeInfo {
    /// SHA-256 of the zip; names the tree.
    pub digest: Digest,
    /// Size of the zip (CodeSize).
    pub zip_bytes: u64,
    /// Sum of the sizes of its files.
    pub unpacked_bytes: u64,
    /// Entries of the zip.
    pub entries: u64,
}

impl TreeInfo {
    /// The digest as AWS writes it (CodeSha256): base64.
    #[must_use]
    pub fn code_sha256(&self) -> String {
        base64::engine::general_purpose::STANDARD.encode(self.digest.to_bytes())
    }
}

/// What [`Trees::retain`] must keep.
#[derive(Debug, Clone, Default)]
pub struct Live {
    /// Code of functions, contents of layer versions.
    pub trees: HashSet<Digest>,
    /// Layer lists of functions, in their order.
    pub lists: HashSet<Vec<Digest>>,
}

/// The unpacked, immutable trees of a data folder: `trees/<sha256 of the zip>/` and
/// `opt/<sha256 of the list>/`. What exists there is complete.
#[derive(Debug)]
pub struct Trees {
    trees: PathBuf,
    opt: PathBuf,
    temporary: PathBuf,
    options: Options,
    uses: Arc<Mutex<HashMap<Digest, Use>>>,
}

#[derive(Debug)]
struct Use {
    holds: usize,
    last: Instant,
}

/// Keeps trees from being collected while it lives.
#[derive(Debug)]
pub struct Hold {
    names: Vec<Digest>,
    uses: Arc<Mutex<HashMap<Digest, Use>>>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        for name in &self.names {
            if let Some(usage) = uses.get_mut(name) {
                usage.holds -= 1;
                usage.last = Instant::now();
            }
        }
    }
}

impl Trees {
    /// Opens the folders below `root`, the data folder, making what is missing, and removes
    /// what an interrupted run left half unpacked. One process at a time: the data folder's
    /// lock is the caller's.
    ///
    /// # Errors
    /// When the folders cannot be made.
    pub fn open(root: &Path, options: Options) -> io::Result<Self> {
        let (trees, opt) = (root.join("trees"), root.join("opt"));
        let temporary = root.join("run/package");
        match std::fs::remove_dir_all(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        for folder in [&trees, &opt, &temporary] {
            std::fs::create_dir_all(folder)?;
        }
        if options.durable {
            sync_folder(root)?;
        }
        Ok(Self { trees, opt, temporary, options, uses: Arc::default() })
    }

    /// Checks and unpacks a zip; what is there already is only looked up. The file is read by
    /// position, from its start, whatever its offset.
    ///
    /// # Errors
    /// When the zip is refused, the disk is full or the system fails; then nothing is left
    /// behind.
    pub fn add(&self, zip: &File) -> Result<TreeInfo, PackageError> {
        let archive = Archive::open(zip, &self.options.limits)?;
        let (digest, zip_bytes) = hash(zip).map_err(PackageError::io("read the zip"))?;
        let info = TreeInfo {
            digest,
            zip_bytes,
            unpacked_bytes: archive.unpacked_bytes,
            entries: archive.entries,
        };
        self.touch(&info.digest);
        if self.contains(&info.digest) {
            return Ok(info);
        }
        let unpacked = self
            .temporary_folder()
            .and_then(|folder| {
                unpack(&archive, folder.path(), self.options.durable)?;
                self.publish(folder, &self.path(&info.digest))
            })
            .map_err(|error| full(error, info.unpacked_bytes));
        self.touch(&info.digest);
        unpacked.map(|()| info)
    }

    /// Where the tree of a zip is, whether it exists or not.
    #[must_use]
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.trees.join(digest.as_str())
    }

    /// True when the tree exists.
    #[must_use]
    pub fn contains(&self, digest: &Digest) -> bool {
        self.path(digest).is_dir()
    }

    /// The `/opt` of a list of layers: the tree itself for one; for more, a merged tree of hard
    /// links in which later layers win, made once. A file or link hides a folder of an earlier
    /// layer with all that is in it, and the other way round; folders are joined.
    ///
    /// # Errors
    /// When a layer's tree is missing, the disk is full or the system fails.
    pub fn merge(&self, layers: &[Digest]) -> Result<PathBuf, PackageError> {
        for layer in layers {
            self.touch(layer);
        }
        if let Some(missing) = layers.iter().find(|layer| !self.contains(layer)) {
            return Err(PackageError::TreeMissing { digest: missing.clone() });
        }
        if let [only] = layers {
            return Ok(self.path(only));
        }
        let name = list_name(layers);
        let path = self.opt.join(name.as_str());
        self.touch(&name);
        if path.is_dir() {
            return Ok(path);
        }
        let sources: Vec<PathBuf> = layers.iter().map(|layer| self.path(layer)).collect();
        self.temporary_folder()
            .and_then(|folder| {
                merge::merge(&sources, folder.path(), self.options.durable)?;
                self.publish(folder, &path)
            })
            .map_err(|error| full(error, 0))?;
        Ok(path)
    }

    /// Keeps the trees of these digests, and the merged tree of the list that they form, from
    /// [`Trees::retain`] for as long as the answer lives. For environments, whose function may
    /// be gone before them.
    #[must_use]
    pub fn hold(&self, list: &[Digest]) -> Hold {
        let mut names = list.to_vec();
        if list.len() > 1 {
            names.push(list_name(list));
        }
        let mut uses = self.uses();
        for name in &names {
            let usage = uses.entry(name.clone());
            usage.or_insert_with(|| Use { holds: 0, last: Instant::now() }).holds += 1;
        }
        Hold { names, uses: Arc::clone(&self.uses) }
    }

    /// Removes every tree that is neither live, nor held, nor was added or merged within
    /// `grace` (its function may be about to be stored). Returns how many were removed.
    ///
    /// # Errors
    /// When a folder cannot be read or removed; what was removed stays removed.
    pub fn retain(&self, live: &Live, grace: Duration) -> io::Result<usize> {
        let lists: HashSet<Digest> = live.lists.iter().map(|list| list_name(list)).collect();
        let layers: HashSet<&Digest> = live.lists.iter().flatten().collect();
        let mut removed = 0;
        for (folder, kept) in [(&self.opt, &lists), (&self.trees, &live.trees)] {
            for entry in std::fs::read_dir(folder)? {
                let entry = entry?;
                let digest = entry.file_name().to_str().and_then(Digest::parse);
                let Some(digest) = digest else { continue };
                if kept.contains(&digest) || layers.contains(&digest) {
                    continue;
                }
                let doomed = {
                    let mut uses = self.uses();
                    let used = uses
                        .get(&digest)
                        .is_some_and(|usage| usage.holds > 0 || usage.last.elapsed() < grace);
                    if used {
                        continue;
                    }
                    uses.remove(&digest);
                    // Moved away under the lock, so that whoever takes it up next makes it anew.
                    let doomed = tempfile::tempdir_in(&self.temporary)?;
                    protect::release(&entry.path())?;
                    std::fs::rename(entry.path(), doomed.path().join("tree"))?;
                    doomed
                };
                doomed.close()?;
                removed += 1;
            }
        }
        Ok(removed)
    }

    fn uses(&self) -> MutexGuard<'_, HashMap<Digest, Use>> {
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn touch(&self, name: &Digest) {
        let mut uses = self.uses();
        let last = Instant::now();
        uses.entry(name.clone()).or_insert(Use { holds: 0, last }).last = last;
    }

    fn temporary_folder(&self) -> Result<tempfile::TempDir, PackageError> {
        let folder = tempfile::tempdir_in(&self.temporary)
            .map_err(PackageError::io("create a temporary folder"))?;
        std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755))
            .map_err(PackageError::io("open the temporary folder to readers"))?;
        Ok(folder)
    }

    /// Gives a finished folder its name. When another finished the same one first, theirs
    /// stays.
    fn publish(&self, folder: tempfile::TempDir, path: &Path) -> Result<(), PackageError> {
        match rustix::fs::renameat_with(CWD, folder.path(), CWD, path, RenameFlags::NOREPLACE) {
            Ok(()) => {
                // Nothing is left under the temporary name.
                let _ = folder.keep();
                if self.options.durable
                    && let Some(parent) = path.parent()
                {
                    sync_folder(parent).map_err(PackageError::io("flush the folder of trees"))?;
                }
                Ok(())
            }
            Err(rustix::io::Errno::EXIST) => Ok(()),
            Err(error) => Err(PackageError::io("give the tree its name")(error.into())),
        }
    }
}

/// Names the merged tree of a list.
fn list_name(layers: &[Digest]) -> Digest {
    let mut hasher = Sha256::new();
    for layer in layers {
        hasher.update(layer.as_str());
        hasher.update("\n");
    }
    Digest::from_bytes(&hasher.finalize().into())
}

fn hash(file: &File) -> io::Result<(Digest, u64)> {
    struct At<'a>(&'a File, u64);
    impl Read for At<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.read_at(buffer, self.1)?;
            self.1 += count as u64;
            Ok(count)
        }
    }
    let mut hasher = Sha256::new();
    let bytes = io::copy(&mut At(file, 0), &mut hasher)?;
    Ok((Digest::from_bytes(&hasher.finalize().into()), bytes))
}

/// A full disk is said as such, whichever step met it.
fn full(error: PackageError, unpacked_bytes: u64) -> PackageError {
    match error {
        PackageError::Io { source, .. }
            if matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ) =>
        {
            PackageError::DiskFull { unpacked_bytes }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
