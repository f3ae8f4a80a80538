//! Blobs: files named by the SHA-256 of their content.

use crate::error::StoreError;
use crate::fault::{CrashPoint, Hook};
use crate::folder::{TEMPORARY, sync_dir};
use lambfold_types::Digest;
use sha2::Digest as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes read at once.
const CHUNK: usize = 256 * 1024;

#[derive(Debug, Clone)]
pub(crate) struct Blobs {
    dir: PathBuf,
    sync: bool,
    hook: Hook,
}

/// Removes the temporary file unless it got its name.
struct Temporary(Option<PathBuf>);

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

fn io_error<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> StoreError + use<'a> {
    move |source| StoreError::Io { action, path: path.to_owned(), source: Arc::new(source) }
}

impl Blobs {
    pub(crate) fn new(dir: PathBuf, sync: bool, hook: Hook) -> Self {
        Self { dir, sync, hook }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.as_str())
    }

    pub(crate) fn put(&self, mut reader: impl Read) -> Result<(Digest, u64), StoreError> {
        let path = self.dir.join(format!("{TEMPORARY}{}", uuid::Uuid::new_v4().simple()));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(io_error("create", &path))?;
        let mut temporary = Temporary(Some(path.clone()));
        self.hook.pass(CrashPoint::BlobCreated);
        let mut hash = sha2::Sha256::new();
        let mut size = 0_u64;
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = match reader.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(io_error("read what is to become", &path)(error)),
            };
            hash.update(&chunk[..count]);
            file.write_all(&chunk[..count]).map_err(io_error("write", &path))?;
            size += count as u64;
            self.hook.pass(CrashPoint::BlobPartial);
        }
        self.hook.pass(CrashPoint::BlobFilled);
        if self.sync {
            file.sync_all().map_err(io_error("sync", &path))?;
        }
        self.hook.pass(CrashPoint::BlobSynced);
        let digest = Digest::from_bytes(&hash.finalize().into());
        // An existing file is replaced by the same content: that also mends a damaged one, and
        // its name is durable before this call returns, whoever made it first.
        let target = self.path(&digest);
        fs::rename(&path, &target).map_err(io_error("name", &target))?;
        temporary.0 = None;
        self.hook.pass(CrashPoint::BlobRenamed);
        if self.sync {
            sync_dir(&self.dir).map_err(io_error("sync", &self.dir))?;
        }
        self.hook.pass(CrashPoint::BlobDurable);
        Ok((digest, size))
    }

    pub(crate) fn open(&self, digest: &Digest) -> Result<Option<File>, StoreError> {
        let path = self.path(digest);
        match File::open(&path) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("open", &path)(error)),
        }
    }

    pub(crate) fn delete(&self, digest: &Digest) -> Result<(), StoreError> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io_error("remove", &path)(error)),
        }
        self.hook.pass(CrashPoint::BlobUnlinked);
        if self.sync {
            sync_dir(&self.dir).map_err(io_error("sync", &self.dir))?;
        }
        Ok(())
    }

    pub(crate) fn list(&self) -> Result<Vec<Digest>, StoreError> {
        let mut digests = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(io_error("read", &self.dir))? {
            let entry = entry.map_err(io_error("read", &self.dir))?;
            digests.extend(entry.file_name().to_str().and_then(Digest::parse));
        }
        Ok(digests)
    }
}
